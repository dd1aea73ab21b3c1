//! Patterns, rules and their index as one array of words, for kernels that read them on a card.
//!
//! `kernels/synthesis_patterns.cuh` and `kernels/synthesis_rules.cuh` say what each part holds.

use super::arrays::{patterns_from, rules_from, wrong};
use super::filter::CLASSES;
use super::index::{Index, KINDS_MAX, Span};
use super::patterns::{Patterns, Place, Step};
use super::rules::{Item, Kind, Rules};
use crate::operations::{Array, Arrays, BuildError};

/// Words of the header: where each part starts, in the order of `Part`, and the kinds of roots.
const HEADER: usize = 16;
/// Parts start at multiples of so many words: a record is read at once.
const ALIGNMENT: usize = 4;

/// The parts, by their place in the header.
#[derive(Clone, Copy)]
enum Part {
    First,
    Rows,
    Listed,
    Places,
    Cells,
    /// By type, then by mark of the value, a byte for each kind of roots.
    Looks,
    Slots = 7,
    Probes,
    Kinds,
    Replacements,
    Items,
}

/// The words of a program while it is put together.
struct Program(Vec<u32>);

impl Program {
    fn new() -> Self {
        Self(vec![0; HEADER])
    }

    fn push(&mut self, part: Part, words: impl IntoIterator<Item = u32>) {
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self.0[part as usize] = self.0.len() as u32;
        self.0.extend(words);
    }

    fn push_patterns(&mut self, patterns: &Patterns, index: &Index) {
        self.push(Part::First, patterns.first.iter().copied());
        self.push(Part::Places, patterns.places.iter().flat_map(place_words));
        let kinds = || index.kinds.iter();
        let mut rows_before = 0;
        let rows = kinds().flat_map(|kind| {
            let before = rows_before;
            rows_before += (kind.cells.len() / CLASSES) as u32;
            kind.rows.iter().map(move |&row| before + u32::from(row))
        });
        self.push(Part::Rows, rows.collect::<Vec<_>>());
        let cells = kinds().flat_map(|kind| &kind.cells).flat_map(|cell| {
            let [certain, linear, probes] = [cell.certain, cell.linear, cell.probes].map(ends);
            certain.into_iter().chain(linear).chain(probes).chain([0, 0])
        });
        self.push(Part::Cells, cells);
        self.push(Part::Listed, index.listed.iter().copied());
        self.push(Part::Slots, index.slots.iter().copied().flat_map(ends));
        let probes = index.probes.iter();
        self.push(
            Part::Probes,
            probes.flat_map(|probe| [probe.fields.into(), probe.shift.into(), probe.slots, 0]),
        );
        let look = |classes: fn(&super::index::Kind, usize) -> u8| {
            (0..256).map(move |at| {
                let bytes = kinds().zip((0..8 * KINDS_MAX).step_by(8));
                bytes.fold(0, |word, (kind, shift)| word | u32::from(classes(kind, at)) << shift)
            })
        };
        let shapes = look(|kind, at| kind.shapes.classes[at]);
        let looks = shapes.chain(look(|kind, at| kind.values.classes[at]));
        self.push(Part::Looks, looks.collect::<Vec<_>>());
        self.0[Part::Looks as usize + 1] = self.0[Part::Looks as usize] + 256;
        self.0[Part::Kinds as usize] = index.kinds.len() as u32;
    }

    fn push_rules(&mut self, rules: &Rules) {
        let numbers = 0..rules.len() as u32;
        self.push(Part::Replacements, numbers.flat_map(|rule| replacement_words(rules, rule)));
        let mut words = Vec::new();
        for rule in 0..rules.len() as u32 {
            let items = rules.items(rule);
            words.extend(items.iter().zip(followed(items)).flat_map(item_words));
        }
        self.push(Part::Items, words);
    }
}

fn ends(span: Span) -> [u32; 2] {
    [span.start, span.end]
}

fn place_words(place: &Place) -> [u32; 4] {
    let step = match place.step {
        Step::Root => 0,
        Step::First => 1,
        Step::Next => 2,
    };
    [
        place.value,
        place.value_mask,
        u32::from(place.token) | u32::from(place.token_mask) << 16,
        step | u32::from(place.level) << 8 | u32::from(place.flags) << 16,
    ]
}

fn replacement_words(rules: &Rules, rule: u32) -> [u32; 8] {
    let items = rules.items(rule);
    let nodes = items.iter().filter(|item| item.kind != Kind::Capture).count() as u32;
    let used = items
        .iter()
        .filter(|item| item.kind == Kind::Capture)
        .fold(0u64, |used, item| used | 1 << item.count);
    let adopting = items.iter().position(|item| item.kind == Kind::Adopt);
    let adopting = adopting.map_or(0, |at| {
        1 + items[..at].iter().filter(|item| item.kind != Kind::Capture).count() as u32
    });
    let first = rules.first[rule as usize];
    let captures = rules.captures(rule) as u32;
    let (lower, upper) = (used as u32, (used >> 32) as u32);
    [first, first + items.len() as u32, nodes | captures << 16, adopting, lower, upper, 0, 0]
}

/// Of each item whether it has a next sibling.
fn followed(items: &[Item]) -> Vec<bool> {
    let mut followed = vec![false; items.len()];
    for (at, item) in items.iter().enumerate() {
        let children = if item.kind == Kind::New { item.count } else { 0 };
        let mut child = at + 1;
        for _ in 1..children {
            followed[child] = true;
            child += usize::from(items[child].span);
        }
    }
    followed
}

fn item_words((item, followed): (&Item, bool)) -> [u32; 4] {
    let flags = u32::from(item.keeps_value) | u32::from(followed) << 1;
    let kind = item.kind as u32 | flags << 8;
    [
        kind | u32::from(item.node_type) << 16 | u32::from(item.count) << 24,
        item.value,
        u32::from(item.span),
        0,
    ]
}

/// The program of an op's patterns or rules, as `program`.
///
/// # Errors
/// No such op, or patterns or rules that are missing, malformed or refused.
pub fn tables(op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
    let mut program = Program::new();
    match op {
        "match" => {
            let patterns = patterns_from(inputs)?;
            program.push_patterns(&patterns, &Index::new(&patterns));
        }
        "transform" => {
            let rules = rules_from(inputs)?;
            program.push_patterns(&rules.patterns, &Index::new(&rules.patterns));
            program.push_rules(&rules);
        }
        _ => return Err(wrong("op", format!("there are no tables of `{op}`"))),
    }
    Ok(Arrays::from([("program".to_owned(), Array::U32(program.0))]))
}
