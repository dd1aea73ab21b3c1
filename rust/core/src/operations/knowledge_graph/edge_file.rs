//! Graphs from files: lists of edges as text, and coordinates in MatrixMarket's format.
//!
//! A list has two node numbers from 0 on a line; lines that begin with `#` or `%` are comments, as
//! in the collections of SNAP and KONECT. MatrixMarket: Boisvert, Pozo and Remington, "The Matrix
//! Market Exchange Formats", NISTIR 5935, 1996; entries of a square matrix are edges, their values
//! are read over. Edges can be walked both ways, whichever way round a file gives them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::super::BuildError;
use super::generate::{Edge, NODES_MAX};

/// Nodes of the smallest graph; a file of fewer is given nodes without edges.
pub const NODES_MIN: u32 = 64;

/// Most edges of a file: arcs, two an edge, are numbered in 32 bits.
const EDGES_MAX: u64 = 1 << 30;

/// Bytes of the longest line that can be an edge or a comment.
const LINE_BYTES_MAX: u64 = 4096;

/// Lines between two reports of progress.
const LINES_PER_REPORT: u64 = 1 << 16;

/// Characters of a wrong line that are shown.
const SHOWN_CHARACTERS: usize = 40;

/// What a file holds: as many nodes as its highest number asks for (or as it says).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub nodes: u32,
    /// Lines with an edge, self-loops and repeats included.
    pub edges: u64,
}

/// Nodes and edges of a graph in a file.
///
/// # Errors
/// It cannot be read or is no graph: file, line and what would be right.
pub fn size(path: &str) -> Result<Size, BuildError> {
    read(path, &|_| true, &mut |_| {})
}

/// Calls `each` with every edge of the file; `progress` is asked now and then, with the share read,
/// whether to go on.
///
/// # Errors
/// As `size`, or cancelled.
pub fn read(
    path: &str,
    progress: &dyn Fn(f64) -> bool,
    each: &mut dyn FnMut(Edge),
) -> Result<Size, BuildError> {
    let mut lines = Lines::open(path, progress)?;
    let mut proper = false;
    let mut forward = |edge: Edge| {
        proper |= edge[0] != edge[1];
        each(edge);
    };
    let size = if lines.next()? && lines.is_matrix_market() {
        read_matrix(&mut lines, &mut forward)?
    } else {
        read_list(&mut lines, &mut forward)?
    };
    if !proper {
        return Err(refused(format!(
            "{path}: there is no edge between two nodes; give two node numbers on a line"
        )));
    }
    Ok(Size { nodes: size.nodes.max(NODES_MIN), ..size })
}

fn refused(problem: String) -> BuildError {
    BuildError::Value { key: "file", problem }
}

/// The lines of a file, one at a time in one buffer.
struct Lines<'a> {
    path: &'a str,
    reader: BufReader<File>,
    progress: &'a dyn Fn(f64) -> bool,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
    bytes_all: u64,
}

impl<'a> Lines<'a> {
    fn open(path: &'a str, progress: &'a dyn Fn(f64) -> bool) -> Result<Self, BuildError> {
        let unreadable = |error: std::io::Error| refused(format!("{path}: {error}"));
        let file = File::open(Path::new(path)).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(refused(format!("{path}: is no file; give one with a graph")));
        }
        let reader = BufReader::with_capacity(1 << 20, file);
        let bytes_all = about.len();
        Ok(Self { path, reader, progress, line: Vec::new(), number: 0, bytes: 0, bytes_all })
    }

    /// Reads the next line; false at the end.
    fn next(&mut self) -> Result<bool, BuildError> {
        self.line.clear();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| refused(format!("{}: {error}", self.path)))? as u64;
        self.number += 1;
        self.bytes += read;
        if read == LINE_BYTES_MAX {
            return Err(self.wrong("is longer than an edge can be"));
        }
        if self.number % LINES_PER_REPORT == 0
            && !(self.progress)(self.bytes as f64 / self.bytes_all.max(1) as f64)
        {
            return Err(BuildError::Cancelled);
        }
        Ok(read > 0)
    }

    fn is_matrix_market(&self) -> bool {
        const BANNER: &[u8] = b"%%MatrixMarket";
        self.line.len() >= BANNER.len() && self.line[..BANNER.len()].eq_ignore_ascii_case(BANNER)
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())
    }

    /// Whether there is nothing to read on this line.
    fn is_silent(&self) -> bool {
        self.fields().next().is_none_or(|field| field[0] == b'#' || field[0] == b'%')
    }

    /// The first `COUNT` fields where there are `total` of them and those are whole numbers.
    fn numbers<const COUNT: usize>(&self, total: usize) -> Option<[u64; COUNT]> {
        let mut found = [0; COUNT];
        let mut count = 0;
        for field in self.fields() {
            if count < COUNT {
                found[count] = whole(field)?;
            }
            count += 1;
        }
        (count == total).then_some(found)
    }

    /// This line is wrong: `problem` and what would be right.
    fn wrong(&self, problem: &str) -> BuildError {
        let text: String = String::from_utf8_lossy(&self.line)
            .trim_end()
            .chars()
            .take(SHOWN_CHARACTERS)
            .flat_map(char::escape_debug)
            .collect();
        refused(format!("{}, line {}: `{text}` {problem}", self.path, self.number))
    }
}

/// A whole number of up to 18 digits.
fn whole(field: &[u8]) -> Option<u64> {
    if field.len() > 18 || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(field.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Reads a list of edges whose first line was read.
fn read_list(lines: &mut Lines<'_>, each: &mut dyn FnMut(Edge)) -> Result<Size, BuildError> {
    let mut size = Size { nodes: 0, edges: 0 };
    while !lines.line.is_empty() {
        if !lines.is_silent() {
            let ends = lines.numbers(2).filter(|ends: &[u64; 2]| in_range(ends, 0, NODES_MAX));
            let Some([one, other]) = ends else {
                let right = format!("is no edge; give two node numbers, 0 to {}", NODES_MAX - 1);
                return Err(lines.wrong(&right));
            };
            let edge = [one as u32, other as u32];
            size.nodes = size.nodes.max(edge[0].max(edge[1]) + 1);
            size.edges += 1;
            if size.edges > EDGES_MAX {
                return Err(lines.wrong(&format!("is one edge more than {EDGES_MAX}")));
            }
            each(edge);
        }
        lines.next()?;
    }
    Ok(size)
}

/// Whether all numbers are in `least..least + count`.
fn in_range(numbers: &[u64], least: u64, count: u32) -> bool {
    numbers.iter().all(|number| (least..least + u64::from(count)).contains(number))
}

/// Reads MatrixMarket coordinates whose first line was read.
fn read_matrix(lines: &mut Lines<'_>, each: &mut dyn FnMut(Edge)) -> Result<Size, BuildError> {
    let values = values_of(lines)?;
    while lines.next()? && lines.is_silent() {}
    let [rows, columns, entries] = lines
        .numbers(3)
        .ok_or_else(|| lines.wrong("is no size; give rows, columns and entries"))?;
    if rows != columns || !in_range(&[rows], 1, NODES_MAX) {
        return Err(lines.wrong(&format!("is no graph; give a square matrix up to {NODES_MAX}")));
    }
    if entries > EDGES_MAX {
        return Err(lines.wrong(&format!("has too many entries; give up to {EDGES_MAX}")));
    }
    let mut edges = 0;
    while lines.next()? {
        if lines.is_silent() {
            continue;
        }
        let ends = lines.numbers(2 + values);
        let Some([one, other]) = ends.filter(|ends| in_range(ends, 1, rows as u32)) else {
            let right = format!("is no entry; give a row and a column, 1 to {rows}");
            return Err(lines.wrong(&format!("{right}, and {values} values")));
        };
        edges += 1;
        if edges > entries {
            return Err(lines.wrong(&format!("is one entry more than the {entries} announced")));
        }
        each([one as u32 - 1, other as u32 - 1]);
    }
    if edges < entries {
        return Err(lines.wrong(&format!("ends it after {edges} of {entries} entries")));
    }
    Ok(Size { nodes: rows as u32, edges })
}

/// How many values an entry has beside its row and column, as the banner says.
fn values_of(lines: &Lines<'_>) -> Result<usize, BuildError> {
    let text = String::from_utf8_lossy(&lines.line).to_ascii_lowercase();
    let words: Vec<&str> = text.split_ascii_whitespace().skip(1).collect();
    let known = match words[..] {
        ["matrix", "coordinate", field, symmetry] => {
            let values = [("pattern", 0), ("real", 1), ("integer", 1), ("complex", 2)];
            let symmetries = ["general", "symmetric", "skew-symmetric", "hermitian"];
            let found = values.iter().find(|(name, _)| *name == field);
            found.filter(|_| symmetries.contains(&symmetry)).map(|(_, count)| *count)
        }
        _ => None,
    };
    known.ok_or_else(|| {
        lines.wrong(
            "is no matrix of coordinates; give `matrix coordinate`, pattern, real, integer or \
             complex, and general or symmetric",
        )
    })
}
