//! Exact and approximate search of inverted lists: a bound on every vector, the score of the few.
//!
//! With a unit query q = s·d + r and a unit vector x = t·c + u (d, c integer codes), the cosine is
//! s·t·(d·c) + r·(t·c) + q·u, so it differs from s·t·(d·c) by at most |r|(1 + |u|) + |u|
//! (Cauchy–Schwarz). A vector whose bound is below the tenth best score so far is none of the best;
//! every other one is scored from its row in float64. First by the high halves of all codes of a
//! list, then by both halves where that did not rule a tile's lane out. The lists nearest to the
//! query are searched otherwise (see `near`).

use super::codes::{Coded, HIGH_OFFSET, OFFSET, TILE};
use super::embeddings::norm;
use super::index::{Index, List, NOBODY};
use super::kernels::{Asked, Hit, QUERIES};
use super::near::Near;
use super::top::{Found, Top};
use crate::operations::Pause;

/// Room for the rounding of a bound in float64: scores are at most 1, so 1e-9 is ample.
const SLACK: f64 = 1e-9;

/// Lists up to which the best are kept by insertion while their scores go by.
const FEW: usize = 64;

/// A list is looked into where its centroid's dot product with the query is at least this share of
/// the nearest one's.
const NEARNESS_SHARE: f64 = 0.5;

/// Hits of a chunk looked into between two pauses, up to sixteen scores each: about 100 µs where
/// the rows are not in a cache.
const PAUSE_HITS: usize = 64;

/// Components scored in float64 between two pauses: about 100 µs where the rows are not in a cache.
const PAUSE_COMPONENTS: usize = 16 << 10;

/// Vectors scored in float64 between two pauses.
pub fn pause_vectors(dims: usize) -> usize {
    (PAUSE_COMPONENTS / dims).max(1)
}

/// One query on its way through the lists.
#[derive(Clone)]
pub struct Slot {
    pub row: Vec<f32>,
    pub norm: f64,
    pub top: Top,
    pub coded: Coded,
    /// Vectors of the lists that an approximate search looked into.
    pub scanned: usize,
    /// The list that was searched first, not to be searched again.
    first_list: usize,
}

impl Slot {
    pub fn new(dims: usize, limit: usize) -> Self {
        Self {
            row: vec![0.0; dims],
            norm: 0.0,
            top: Top::new(limit),
            coded: Coded::new(dims),
            scanned: 0,
            first_list: usize::MAX,
        }
    }

    /// Makes ready for the query that was written to `row`.
    fn start(&mut self) {
        self.norm = norm(&self.row);
        self.coded.set(&self.row, self.norm);
        self.top.clear();
        self.scanned = 0;
        self.first_list = usize::MAX;
    }

    /// How far a bound by codes can be off in a list of this residual.
    pub fn error(&self, residual: f64) -> f64 {
        residual + self.coded.residual * (1.0 + residual) + SLACK
    }

    /// The least dot product with high halves that a vector among the best can have.
    fn threshold(&self, list: &List) -> i32 {
        let floor = self.top.floor() - self.error(list.high_residual);
        let dot = floor / (list.scale * self.coded.scale) + HIGH_OFFSET * f64::from(self.coded.sum);
        // The cast saturates, and rounding down only lets more through.
        (dot / 16.0).floor() as i32
    }
}

/// What a worker needs beside the index, allocated once.
pub struct Scratch {
    hits: Vec<Hit>,
    scores: Vec<i32>,
    pub order: Vec<u32>,
    pub row: Vec<f32>,
    pub near: Near,
}

impl Scratch {
    pub fn new(index: &Index) -> Self {
        Self {
            hits: Vec::with_capacity(index.kernels.chunk_tiles() * QUERIES),
            scores: vec![0; index.lists.len().next_multiple_of(TILE)],
            order: vec![0; index.lists.len()],
            row: vec![0.0; index.dims],
            near: Near::new(index.kernels.chunk_tiles()),
        }
    }

    pub fn bytes(chunk_tiles: u64, lists: u64, dims: u64) -> u64 {
        let hits = chunk_tiles * (QUERIES * size_of::<Hit>()) as u64;
        let ranked = 4 * (lists.next_multiple_of(TILE as u64) + lists + dims);
        hits + ranked + Near::bytes(chunk_tiles)
    }
}

/// A worker's view of an index.
pub struct Scan<'a> {
    pub index: &'a Index,
    pub scratch: &'a mut Scratch,
}

impl Scan<'_> {
    /// The best of all vectors, proved; the most promising list first, then the others in order.
    pub fn exact(&mut self, slots: &mut [Slot], pause: &mut dyn Pause) {
        for slot in slots.iter_mut() {
            slot.start();
            let count = self.rank(&slot.coded, 1, pause).len();
            self.near_lists(count, slot, pause);
            slot.first_list = self.scratch.order[0] as usize;
        }
        for list in 0..self.index.lists.len() {
            for group in slots.chunks_mut(QUERIES) {
                self.list(list, group, pause);
            }
        }
    }

    /// The best of the vectors in the most promising lists: at most `probes`, and none whose
    /// centroid is far less near than the first one's, unless all lists are wanted.
    ///
    /// Chen et al., "SPANN", NeurIPS 2021, prune lists by query likewise.
    pub fn approximate(&mut self, slot: &mut Slot, probes: usize, pause: &mut dyn Pause) {
        slot.start();
        let found = self.rank(&slot.coded, probes, pause).len();
        let Scratch { scores, order, .. } = &*self.scratch;
        let nearness = |list: &u32| scores[*list as usize] - OFFSET * slot.coded.sum;
        let least = f64::from(nearness(&order[0])) * NEARNESS_SHARE;
        let is_near = |list: &&u32| f64::from(nearness(list)) >= least;
        let near = order[..found].iter().take_while(is_near).count();
        let count = if probes < self.index.lists.len() { near.max(1) } else { found };
        self.near_lists(count, slot, pause);
    }

    /// The `count` lists whose centroids are nearest to the query, nearest first.
    fn rank(&mut self, query: &Coded, count: usize, pause: &mut dyn Pause) -> &[u32] {
        let Scratch { scores, order, .. } = &mut *self.scratch;
        self.index.centroids.rank(self.index.kernels, query, scores, pause);
        let scores = &scores[..self.index.lists.len()];
        let count = count.min(order.len());
        if count <= FEW {
            return few_best(scores, &mut order[..count]);
        }
        for (list, slot) in order.iter_mut().enumerate() {
            *slot = list as u32;
        }
        let key = |list: &u32| (std::cmp::Reverse(scores[*list as usize]), *list);
        if count < order.len() {
            order.select_nth_unstable_by_key(count, key);
        }
        order[..count].sort_unstable_by_key(key);
        &order[..count]
    }

    /// Searches one list for up to `QUERIES` queries.
    fn list(&mut self, list: usize, slots: &mut [Slot], pause: &mut dyn Pause) {
        let about = &self.index.lists[list];
        let tiles = about.tiles.clone();
        let step = self.index.kernels.chunk_tiles();
        for start in tiles.clone().step_by(step) {
            let end = (start + step).min(tiles.end);
            let lines = self.index.tile(start).start..self.index.tile(end).start;
            let mut asked = Asked {
                queries: [&slots[0].coded.words; QUERIES],
                thresholds: [i32::MAX; QUERIES],
                count: slots.len(),
            };
            for (query, slot) in slots.iter().enumerate() {
                asked.queries[query] = &slot.coded.words;
                if slot.first_list != list {
                    asked.thresholds[query] = slot.threshold(about);
                }
            }
            self.scratch.hits.clear();
            self.index.kernels.filter(&self.index.high[lines], &asked, &mut self.scratch.hits);
            for hit in 0..self.scratch.hits.len() {
                let Hit { tile, query, lanes } = self.scratch.hits[hit];
                refine(
                    self.index,
                    about,
                    start + tile as usize,
                    lanes,
                    &mut slots[usize::from(query)],
                    &mut self.scratch.row,
                );
                if hit % PAUSE_HITS == PAUSE_HITS - 1 {
                    pause.point();
                }
            }
            pause.point();
        }
    }
}

/// Fills `best` with the places of the highest `scores`, highest first, of equals the first.
fn few_best<'a>(scores: &[i32], best: &'a mut [u32]) -> &'a [u32] {
    let mut found = 0;
    for (place, score) in scores.iter().enumerate() {
        let is_full = found == best.len();
        if is_full && *score <= scores[best[found - 1] as usize] {
            continue;
        }
        found += usize::from(!is_full);
        let mut slot = found - 1;
        while slot > 0 && scores[best[slot - 1] as usize] < *score {
            best[slot] = best[slot - 1];
            slot -= 1;
        }
        best[slot] = place as u32;
    }
    best
}

/// Bounds the lanes of a tile by both halves and scores those that may be among the best.
fn refine(
    index: &Index,
    list: &List,
    tile: usize,
    lanes: u16,
    slot: &mut Slot,
    scratch: &mut [f32],
) {
    let lines = index.tile(tile);
    let coarse = index.kernels.dots(&index.high[lines.clone()], &slot.coded.words);
    let fine = index.kernels.dots(&index.low[lines], &slot.coded.words);
    let scale = list.scale * slot.coded.scale;
    let error = slot.error(list.full_residual);
    for lane in (0..TILE).filter(|lane| lanes >> lane & 1 == 1) {
        let place = tile * TILE + lane;
        let dot = 16 * coarse[lane] + fine[lane] - OFFSET * slot.coded.sum;
        if scale * f64::from(dot) + error < slot.top.floor() || index.ids[place] == NOBODY {
            continue;
        }
        let score = index.score(place, &slot.row, slot.norm, scratch);
        slot.top.offer(Found { id: index.ids[place], score });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_few_best_are_those_of_a_whole_sort() {
        let scores: Vec<i32> =
            (0..1000u64).map(|place| (place.wrapping_mul(0x9E37_79B9) >> 7) as i32 % 97).collect();
        let mut sorted: Vec<u32> = (0..1000).collect();
        sorted.sort_by_key(|place| (std::cmp::Reverse(scores[*place as usize]), *place));
        for count in [1, 2, 7, FEW] {
            let mut best = vec![0; count];
            assert_eq!(few_best(&scores, &mut best), &sorted[..count]);
        }
    }
}
