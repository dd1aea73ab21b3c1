//! The vectors of a search in inverted lists: rows, codes, lengths and ids, list after list.

use std::ops::Range;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

use super::cluster::{Centroids, code_row, train};
use super::codes::{EMPTY, LINE_DIMS, Line, OFFSET, TILE, code, get, put, residuals};
use super::embeddings::{Source, cosine, dot, norm};
use super::kernels::Kernels;
use super::parallel::{Stop, shares};
use super::{Parameters, Storage};
use crate::operations::pages::{filled, zeroed};

/// The id of a place that holds no vector.
pub const NOBODY: u32 = u32::MAX;

/// Vectors between two questions whether the build is still wanted.
const PROGRESS_VECTORS: usize = 16384;

/// One inverted list: its tiles and how its codes stand to its vectors.
#[derive(Clone, Default)]
pub struct List {
    pub tiles: Range<usize>,
    /// Vectors in it.
    pub count: usize,
    /// A unit vector is about `scale` times its codes.
    pub scale: f64,
    /// The longest residual of a vector in the list, by the high halves and by both.
    pub high_residual: f64,
    pub full_residual: f64,
}

/// Everything that searching reads.
pub struct Index {
    pub dims: usize,
    pub kernels: Kernels,
    pub centroids: Centroids,
    pub lists: Vec<List>,
    /// High and low halves of the codes; a tile is `dims / 8` lines.
    pub high: Vec<Line>,
    pub low: Vec<Line>,
    /// By place (tile · 16 + lane): id, length, and in fp32 or fp16 storage the vector itself.
    pub ids: Vec<u32>,
    pub norms: Vec<f64>,
    pub rows: Vec<f32>,
    pub half_rows: Vec<u16>,
}

/// What assigning found: the list of each vector, and per list how many, how long, how peaked.
struct Assigned {
    lists: Vec<u32>,
    extents: Vec<Extent>,
}

#[derive(Clone, Copy)]
struct Extent {
    count: usize,
    /// Largest component of a unit vector.
    peak: f64,
    shortest: f64,
    longest: f64,
}

const NO_EXTENT: Extent = Extent { count: 0, peak: 0.0, shortest: f64::INFINITY, longest: 0.0 };

impl Extent {
    fn add(&mut self, row: &[f32], length: f64) {
        self.count += 1;
        if length > 0.0 {
            let peak = row.iter().fold(0.0f32, |peak, value| peak.max(value.abs()));
            self.peak = self.peak.max(f64::from(peak) / length);
            self.shortest = self.shortest.min(length);
            self.longest = self.longest.max(length);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.peak = self.peak.max(other.peak);
        self.shortest = self.shortest.min(other.shortest);
        self.longest = self.longest.max(other.longest);
    }

    /// The list's scale: codes of int8 vectors are the vectors themselves.
    fn scale(&self, storage: Storage) -> f64 {
        if self.longest == 0.0 {
            return 1.0;
        }
        match storage {
            Storage::Fp32 | Storage::Fp16 => self.peak / 127.0,
            Storage::Int8 => 0.5 / self.shortest + 0.5 / self.longest,
        }
    }
}

impl Index {
    /// Clusters and lays out all vectors of `source`; `None` where `stop` asked to give up.
    pub fn new(
        source: &Source,
        parameters: &Parameters,
        kernels: Kernels,
        threads: usize,
        stop: &Stop<'_>,
    ) -> Option<Self> {
        let dims = parameters.dims as usize;
        let centroids = train(source, parameters, kernels, threads, stop)?;
        let assigned = assign(source, parameters, &centroids, kernels, threads, stop)?;
        let mut lists = Vec::with_capacity(assigned.extents.len());
        let mut tiles = 0;
        for extent in &assigned.extents {
            let end = tiles + extent.count.div_ceil(TILE);
            let scale = extent.scale(parameters.storage);
            let count = extent.count;
            lists.push(List { tiles: tiles..end, count, scale, ..List::default() });
            tiles = end;
        }
        let mut ids = vec![NOBODY; tiles * TILE];
        let mut next: Vec<usize> = lists.iter().map(|list| list.tiles.start * TILE).collect();
        for (id, list) in assigned.lists.iter().enumerate() {
            let place = &mut next[*list as usize];
            ids[*place] = id as u32;
            *place += 1;
        }
        let rows_of = |kept| if parameters.storage == kept { tiles * TILE * dims } else { 0 };
        let mut index = Self {
            dims,
            kernels,
            centroids,
            lists,
            high: filled(tiles * dims / LINE_DIMS),
            low: filled(tiles * dims / LINE_DIMS),
            ids,
            norms: zeroed(tiles * TILE),
            rows: zeroed(rows_of(Storage::Fp32)),
            half_rows: zeroed(rows_of(Storage::Fp16)),
        };
        index.place(source, parameters, threads, stop).then_some(index)
    }

    /// Writes every vector to its place, lists shared between the threads.
    fn place(
        &mut self,
        source: &Source,
        parameters: &Parameters,
        threads: usize,
        stop: &Stop<'_>,
    ) -> bool {
        let (dims, tile_lines) = (self.dims, self.dims / LINE_DIMS);
        let mut rest = Portion {
            lists: &mut self.lists,
            ids: &self.ids,
            high: &mut self.high,
            low: &mut self.low,
            norms: &mut self.norms,
            rows: &mut self.rows,
            half_rows: &mut self.half_rows,
        };
        std::thread::scope(|scope| {
            for share in shares(rest.lists.len(), threads) {
                let (portion, others) = rest.split(share.len(), tile_lines, dims);
                rest = others;
                scope.spawn(move || portion.fill(source, parameters, stop));
            }
        });
        !stop.cancelled()
    }

    /// The vector at `place`: its row, or in `scratch` what its half row or (in int8 storage) its
    /// codes say.
    #[inline]
    pub fn vector<'a>(&'a self, place: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        if !self.rows.is_empty() {
            return &self.rows[place * self.dims..(place + 1) * self.dims];
        }
        if !self.half_rows.is_empty() {
            let row = &self.half_rows[place * self.dims..(place + 1) * self.dims];
            row.reinterpret_cast::<f16>().convert_to_f32_slice(scratch);
            return scratch;
        }
        let lines = self.tile(place / TILE);
        for (dim, value) in scratch.iter_mut().enumerate() {
            let high = i32::from(get(&self.high[lines.clone()], place % TILE, dim));
            let low = i32::from(get(&self.low[lines.clone()], place % TILE, dim));
            *value = (16 * high + low - OFFSET) as f32;
        }
        scratch
    }

    /// Lines of a tile in either plane.
    #[inline]
    pub fn tile(&self, tile: usize) -> Range<usize> {
        let lines = self.dims / LINE_DIMS;
        tile * lines..(tile + 1) * lines
    }

    /// Cosine of the vector at `place` with a query of length `norm`, in float64.
    #[inline]
    pub fn score(&self, place: usize, query: &[f32], norm: f64, scratch: &mut [f32]) -> f64 {
        let vector = self.vector(place, scratch);
        cosine(dot(vector, query), self.norms[place], norm)
    }
}

fn assign(
    source: &Source,
    parameters: &Parameters,
    centroids: &Centroids,
    kernels: Kernels,
    threads: usize,
    stop: &Stop<'_>,
) -> Option<Assigned> {
    let mut lists = vec![0; parameters.vectors as usize];
    let share = shares(lists.len().div_ceil(TILE), threads)[0].len().max(1) * TILE;
    let work = |first: usize, lists: &mut [u32]| {
        let dims = parameters.dims as usize;
        let mut extents = vec![NO_EXTENT; centroids.lists()];
        let (mut rows, mut codes) = (vec![0.0; TILE * dims], vec![0; dims]);
        let mut tile = vec![EMPTY; dims / LINE_DIMS];
        for (step, lists) in lists.chunks_mut(TILE).enumerate() {
            tile.fill(EMPTY);
            let start = first + step * TILE;
            if start % PROGRESS_VECTORS == 0
                && !stop.go_on("assigning embeddings", start as f64 / f64::from(parameters.vectors))
            {
                break;
            }
            for (lane, row) in rows.chunks_exact_mut(dims).take(lists.len()).enumerate() {
                source.vector((start + lane) as u32, parameters.storage, row);
                code_row(row, &mut codes);
                put(&mut tile, lane, codes.iter().map(|code| code >> 4));
            }
            let nearest = centroids.nearest(kernels, &tile);
            for ((list, nearest), row) in lists.iter_mut().zip(nearest).zip(rows.chunks_exact(dims))
            {
                *list = nearest;
                extents[nearest as usize].add(row, norm(row));
            }
        }
        extents
    };
    let parts: Vec<Vec<Extent>> = std::thread::scope(|scope| {
        let work = &work;
        let handles: Vec<_> = lists
            .chunks_mut(share)
            .enumerate()
            .map(|(part, lists)| scope.spawn(move || work(part * share, lists)))
            .collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let mut extents = vec![NO_EXTENT; centroids.lists()];
    for part in &parts {
        extents.iter_mut().zip(part).for_each(|(sum, one)| sum.merge(one));
    }
    (!stop.cancelled()).then_some(Assigned { lists, extents })
}

/// The arrays of a run of lists, owned by one thread while it fills them.
struct Portion<'a> {
    lists: &'a mut [List],
    ids: &'a [u32],
    high: &'a mut [Line],
    low: &'a mut [Line],
    norms: &'a mut [f64],
    rows: &'a mut [f32],
    half_rows: &'a mut [u16],
}

impl<'a> Portion<'a> {
    /// Splits off the first `count` lists.
    fn split(self, count: usize, tile_lines: usize, dims: usize) -> (Self, Self) {
        let tiles: usize = self.lists[..count].iter().map(|list| list.tiles.len()).sum();
        let (lists, more_lists) = self.lists.split_at_mut(count);
        let (ids, more_ids) = self.ids.split_at(tiles * TILE);
        let (high, more_high) = self.high.split_at_mut(tiles * tile_lines);
        let (low, more_low) = self.low.split_at_mut(tiles * tile_lines);
        let (norms, more_norms) = self.norms.split_at_mut(tiles * TILE);
        let components = tiles * TILE * dims;
        let (rows, more_rows) = self.rows.split_at_mut(components.min(self.rows.len()));
        let halves = components.min(self.half_rows.len());
        let (half_rows, more_half_rows) = self.half_rows.split_at_mut(halves);
        (
            Self { lists, ids, high, low, norms, rows, half_rows },
            Self {
                lists: more_lists,
                ids: more_ids,
                high: more_high,
                low: more_low,
                norms: more_norms,
                rows: more_rows,
                half_rows: more_half_rows,
            },
        )
    }

    fn fill(self, source: &Source, parameters: &Parameters, stop: &Stop<'_>) {
        let dims = parameters.dims as usize;
        let tile_lines = dims / LINE_DIMS;
        let (mut row, mut codes) = (vec![0.0; dims], vec![0; dims]);
        let (mut place, count) = (0, self.lists.len());
        for (number, list) in self.lists.iter_mut().enumerate() {
            if !stop.go_on("laying out embeddings", number as f64 / count as f64) {
                return;
            }
            for _ in 0..list.tiles.len() * TILE {
                let here = place;
                place += 1;
                if self.ids[here] == NOBODY {
                    continue;
                }
                source.vector(self.ids[here], parameters.storage, &mut row);
                let length = norm(&row);
                let inverse = if length > 0.0 { 1.0 / length } else { 0.0 };
                let step = match parameters.storage {
                    Storage::Fp32 | Storage::Fp16 => inverse / list.scale,
                    Storage::Int8 => 1.0,
                };
                for (byte, value) in codes.iter_mut().zip(&row) {
                    *byte = code(f64::from(*value), step);
                }
                let lost = residuals(&row, inverse, &codes, list.scale);
                list.high_residual = list.high_residual.max(lost.0);
                list.full_residual = list.full_residual.max(lost.1);
                let lines = here / TILE * tile_lines..(here / TILE + 1) * tile_lines;
                let (high, low) = (&mut self.high[lines.clone()], &mut self.low[lines]);
                put(high, here % TILE, codes.iter().map(|code| code >> 4));
                put(low, here % TILE, codes.iter().map(|code| code & 15));
                self.norms[here] = length;
                let place = here * dims..(here + 1) * dims;
                if !self.rows.is_empty() {
                    self.rows[place].copy_from_slice(&row);
                } else if !self.half_rows.is_empty() {
                    let halves = self.half_rows[place].reinterpret_cast_mut::<f16>();
                    halves.convert_from_f32_slice(&row);
                }
            }
        }
    }
}
