//! The lists nearest to a query, whose vectors the high halves of codes hardly tell apart.
//!
//! Whole codes give every vector a least and a most score, a few thousandths apart. The least
//! scores alone say what the last of the best has at least, so the few vectors whose most is above
//! that are known before any row is read: their rows, each a miss of all caches, are asked for
//! together and scored once the codes of all lists went by.

use std::ops::Range;

use super::codes::{OFFSET, TILE};
use super::index::{Index, List, NOBODY};
use super::scan::{Scan, Slot, pause_vectors};
use super::top::Found;
use crate::operations::Pause;
use crate::operations::pages::prefetch;

/// Results up to which the least scores of the best are kept; above, every vector is a candidate.
const FEW: usize = 64;

/// Candidates kept before their rows are read.
const CANDIDATES: usize = 1024;

/// Components of a row asked for ahead (eight cache lines); the rest follows in order.
const AHEAD_DIMS: usize = 128;
const LINE_FLOATS: usize = 16;

/// A vector that may be among the best.
#[derive(Clone, Copy, Default)]
struct Candidate {
    place: u32,
    /// Its score is at most this.
    most: f64,
}

/// Memory for searching near lists, allocated once.
pub struct Near {
    /// Dot products of a chunk of tiles.
    dots: Vec<i32>,
    /// The highest least scores so far, highest first.
    least: [f64; FEW],
    candidates: Vec<Candidate>,
}

impl Near {
    pub fn new(chunk_tiles: usize) -> Self {
        Self {
            dots: vec![0; chunk_tiles * TILE],
            least: [f64::NEG_INFINITY; FEW],
            candidates: Vec::with_capacity(CANDIDATES),
        }
    }

    pub fn bytes(chunk_tiles: u64) -> u64 {
        chunk_tiles * 4 * TILE as u64 + (CANDIDATES * size_of::<Candidate>()) as u64
    }
}

/// How the dot products of a list's whole codes with a query stand to scores.
struct Ruler {
    scale: f64,
    offset: f64,
    error: f64,
}

impl Ruler {
    fn new(list: &List, slot: &Slot) -> Self {
        Self {
            scale: list.scale * slot.coded.scale,
            offset: f64::from(OFFSET * slot.coded.sum),
            error: slot.error(list.full_residual),
        }
    }

    fn known(&self, dot: i32) -> f64 {
        self.scale * (f64::from(dot) - self.offset)
    }

    /// A dot product below which no vector can score `floor`; the cast saturates, and rounding down
    /// only lets more through.
    fn lowest(&self, floor: f64) -> i32 {
        ((floor - self.error) / self.scale + self.offset).floor() as i32
    }
}

impl Scan<'_> {
    /// Searches the first `count` lists of `scratch.order` for one query.
    pub fn near_lists(&mut self, count: usize, slot: &mut Slot, pause: &mut dyn Pause) {
        self.scratch.near.least.fill(f64::NEG_INFINITY);
        for probe in 0..count {
            let list = &self.index.lists[self.scratch.order[probe] as usize];
            slot.scanned += list.count;
            if probe + 1 < count {
                let next = self.scratch.order[probe + 1] as usize;
                ask_for_codes(self.index, &self.index.lists[next]);
            }
            let step = self.index.kernels.chunk_tiles();
            for start in list.tiles.clone().step_by(step) {
                self.near_tiles(list, start..(start + step).min(list.tiles.end), slot, pause);
                pause.point();
            }
        }
        self.score_candidates(slot, pause);
    }

    /// Gathers the candidates of a chunk of a list's tiles.
    fn near_tiles(
        &mut self,
        list: &List,
        tiles: Range<usize>,
        slot: &mut Slot,
        pause: &mut dyn Pause,
    ) {
        let (index, Range { start, end }) = (self.index, tiles);
        let lines = index.tile(start).start..index.tile(end).start;
        let planes = [&index.high[lines.clone()], &index.low[lines]];
        let Near { dots, least, .. } = &mut self.scratch.near;
        let dots = &mut dots[..(end - start) * TILE];
        index.kernels.whole_dots(planes, &slot.coded.words, dots);
        let ids = &index.ids[start * TILE..end * TILE];
        let ruler = Ruler::new(list, slot);
        let limit = slot.top.limit();
        let mut floor = slot.top.floor();
        if limit <= FEW {
            floor = floor.max(raise(&mut least[..limit], &ruler, index, dots, ids));
        }
        let lowest = ruler.lowest(floor);
        for tile in 0..end - start {
            let mut lanes = index.kernels.at_least(&self.scratch.near.dots[tile * TILE..], lowest);
            while lanes != 0 {
                let lane = tile * TILE + lanes.trailing_zeros() as usize;
                lanes &= lanes - 1;
                if ids[lane] == NOBODY {
                    continue;
                }
                if self.scratch.near.candidates.len() == CANDIDATES {
                    self.score_candidates(slot, pause);
                }
                let most = ruler.known(self.scratch.near.dots[lane]) + ruler.error;
                let place = start * TILE + lane;
                ask_for_row(index, place);
                self.scratch.near.candidates.push(Candidate { place: place as u32, most });
            }
        }
    }

    /// Scores the candidates that may still be among the best, and forgets them.
    fn score_candidates(&mut self, slot: &mut Slot, pause: &mut dyn Pause) {
        let sure = match slot.top.limit() {
            limit if limit <= FEW => self.scratch.near.least[limit - 1],
            _ => f64::NEG_INFINITY,
        };
        let (mut scored, most_scored) = (0, pause_vectors(self.index.dims));
        for candidate in 0..self.scratch.near.candidates.len() {
            let Candidate { place, most } = self.scratch.near.candidates[candidate];
            if most >= slot.top.floor().max(sure) {
                let place = place as usize;
                let score = self.index.score(place, &slot.row, slot.norm, &mut self.scratch.row);
                slot.top.offer(Found { id: self.index.ids[place], score });
                scored += 1;
                if scored % most_scored == 0 {
                    pause.point();
                }
            }
        }
        self.scratch.near.candidates.clear();
    }
}

/// Enters the least scores of a chunk's vectors; returns the last of the best ones now.
fn raise(least: &mut [f64], ruler: &Ruler, index: &Index, dots: &[i32], ids: &[u32]) -> f64 {
    let last = least.len() - 1;
    // A vector's least score is twice the error below its most.
    let mut lowest = ruler.lowest(least[last] + 2.0 * ruler.error);
    let mut best = [i32::MIN; FEW];
    let best = &mut best[..=last];
    for (dots, ids) in dots.chunks_exact(TILE).zip(ids.chunks_exact(TILE)) {
        let mut lanes = index.kernels.at_least(dots, lowest);
        while lanes != 0 {
            let lane = lanes.trailing_zeros() as usize;
            lanes &= lanes - 1;
            let dot = dots[lane];
            if ids[lane] == NOBODY || dot <= best[last] {
                continue;
            }
            let mut place = last;
            while place > 0 && best[place - 1] < dot {
                best[place] = best[place - 1];
                place -= 1;
            }
            best[place] = dot;
            lowest = lowest.max(best[last]);
        }
    }
    for &dot in best.iter().take_while(|&&dot| dot != i32::MIN) {
        let score = ruler.known(dot) - ruler.error;
        if score <= least[last] {
            break;
        }
        let place = least.partition_point(|&other| other >= score);
        least.copy_within(place..last, place + 1);
        least[place] = score;
    }
    least[last]
}

/// Prefetches the codes of a list.
fn ask_for_codes(index: &Index, list: &List) {
    for line in index.tile(list.tiles.start).start..index.tile(list.tiles.end).start {
        prefetch(&index.high, line);
        prefetch(&index.low, line);
    }
}

/// Prefetches the row of a vector.
fn ask_for_row(index: &Index, place: usize) {
    let first = place * index.dims;
    for float in (first..first + index.dims.min(AHEAD_DIMS)).step_by(LINE_FLOATS) {
        prefetch(&index.rows, float);
        prefetch(&index.half_rows, float);
    }
    prefetch(&index.norms, place);
}
