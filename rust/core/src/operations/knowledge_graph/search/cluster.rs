//! Inverted lists by spherical k-means in integers: the same on every machine and thread count.
//!
//! Training looks at an evenly spaced sample; distances are byte dot products of 4-bit vectors with
//! 7-bit centroids, sums of codes are integers, so nothing depends on the order of additions.

use super::Parameters;
use super::codes::{Coded, EMPTY, LINE_DIMS, Line, OFFSET, TILE, code, put};
use super::embeddings::{Source, norm};
use super::kernels::Kernels;
use super::parallel::{Stop, shares};
use crate::operations::Pause;

/// Sample vectors for each list.
const SAMPLE_PER_LIST: usize = 64;
const ROUNDS: usize = 8;

/// The centroids as queries (to assign vectors) and as a plane of tiles (to rank lists).
pub struct Centroids {
    words: Vec<i32>,
    biases: Vec<i32>,
    high: Vec<Line>,
    low: Vec<Line>,
}

impl Centroids {
    fn new(rows: &[f32], dims: usize) -> Self {
        let lists = rows.len() / dims;
        let peak = rows.iter().fold(0.0f32, |peak, value| peak.max(value.abs()));
        let scale = f64::from(peak) / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let tile_lines = dims / LINE_DIMS;
        let lines = vec![EMPTY; lists.div_ceil(TILE) * tile_lines];
        let (mut high, mut low) = (lines.clone(), lines);
        let (mut words, mut biases) = (Vec::new(), Vec::new());
        let mut coded = Coded::new(dims);
        for (list, row) in rows.chunks_exact(dims).enumerate() {
            coded.set_scaled(row, 1.0, scale);
            words.extend_from_slice(&coded.words);
            biases.push(-241 * coded.sum);
            let tile = list / TILE * tile_lines..(list / TILE + 1) * tile_lines;
            let codes = || row.iter().map(|value| code(f64::from(*value), inverse));
            put(&mut high[tile.clone()], list % TILE, codes().map(|code| code >> 4));
            put(&mut low[tile], list % TILE, codes().map(|code| code & 15));
        }
        Self { words, biases, high, low }
    }

    pub fn lists(&self) -> usize {
        self.biases.len()
    }

    /// The centroids, row after row, four signed bytes a word.
    pub fn words(&self) -> &[i32] {
        &self.words
    }

    /// Scores every list by its centroid's dot product with the query, into `scores` (whole tiles),
    /// but for a sum that all of them share.
    pub fn rank(&self, kernels: Kernels, query: &Coded, scores: &mut [i32], pause: &mut dyn Pause) {
        let tiles = kernels.chunk_tiles();
        let step = tiles * query.words.len() / 2;
        let planes = self.high.chunks(step).zip(self.low.chunks(step));
        for (turn, ((high, low), scores)) in planes.zip(scores.chunks_mut(tiles * TILE)).enumerate()
        {
            if turn > 0 {
                pause.point();
            }
            kernels.whole_dots([high, low], &query.words, scores);
        }
    }

    /// The list of each vector of a tile.
    pub fn nearest(&self, kernels: Kernels, tile: &[Line]) -> [u32; TILE] {
        kernels.nearest(tile, &self.words, &self.biases)
    }

    pub fn bytes(lists: u64, dims: u64) -> u64 {
        lists * (dims + 4) + lists.div_ceil(TILE as u64) * TILE as u64 * dims
    }
}

/// Steps of a unit component in an 8-bit code of which the scale is the same for all vectors.
pub fn common_inverse_scale(dims: usize) -> f64 {
    127.0 / 4.0 * (dims as f64).sqrt()
}

/// Codes `row` by the common scale into `codes`.
pub fn code_row(row: &[f32], codes: &mut [u8]) {
    let length = norm(row);
    let factor = if length > 0.0 { common_inverse_scale(row.len()) / length } else { 0.0 };
    for (code_byte, value) in codes.iter_mut().zip(row) {
        *code_byte = code(f64::from(*value), factor);
    }
}

/// Sample vectors as codes and as tiles.
struct Sample {
    codes: Vec<u8>,
    tiles: Vec<Line>,
    count: usize,
}

impl Sample {
    fn new(source: &Source, parameters: &Parameters, threads: usize) -> Self {
        let dims = parameters.dims as usize;
        let all = parameters.vectors as usize;
        let count = all.min(SAMPLE_PER_LIST * parameters.lists as usize);
        let tile_lines = dims / LINE_DIMS;
        let mut codes = vec![0; count.div_ceil(TILE) * TILE * dims];
        let mut tiles = vec![EMPTY; count.div_ceil(TILE) * tile_lines];
        let share = shares(count.div_ceil(TILE), threads)[0].len().max(1);
        std::thread::scope(|scope| {
            let chunks = codes.chunks_mut(share * TILE * dims);
            for (part, (codes, tiles)) in
                chunks.zip(tiles.chunks_mut(share * tile_lines)).enumerate()
            {
                scope.spawn(move || {
                    let mut row = vec![0.0; dims];
                    for (index, codes) in codes.chunks_exact_mut(dims).enumerate() {
                        let number = (part * share * TILE + index).min(count - 1);
                        let vector = (number as u64 * all as u64 / count as u64) as u32;
                        source.vector(vector, parameters.storage, &mut row);
                        code_row(&row, codes);
                        let tile = &mut tiles[index / TILE * tile_lines..][..tile_lines];
                        put(tile, index % TILE, codes.iter().map(|code| code >> 4));
                    }
                });
            }
        });
        Self { codes, tiles, count }
    }

    fn row(&self, index: usize, dims: usize) -> &[u8] {
        &self.codes[index * dims..(index + 1) * dims]
    }

    /// The list of every sample vector.
    fn assigned(
        &self,
        centroids: &Centroids,
        kernels: Kernels,
        tile_lines: usize,
        threads: usize,
    ) -> Vec<u32> {
        let mut lists = vec![0; self.tiles.len() / tile_lines * TILE];
        let share = shares(self.tiles.len() / tile_lines, threads)[0].len().max(1);
        std::thread::scope(|scope| {
            let tiles = self.tiles.chunks(share * tile_lines);
            for (lists, tiles) in lists.chunks_mut(share * TILE).zip(tiles) {
                scope.spawn(move || {
                    let tiles = tiles.chunks_exact(tile_lines);
                    for (lists, tile) in lists.chunks_exact_mut(TILE).zip(tiles) {
                        lists.copy_from_slice(&centroids.nearest(kernels, tile));
                    }
                });
            }
        });
        lists.truncate(self.count);
        lists
    }
}

/// Trains the centroids of `parameters.lists` lists; `None` where `stop` asked to give up.
pub fn train(
    source: &Source,
    parameters: &Parameters,
    kernels: Kernels,
    threads: usize,
    stop: &Stop<'_>,
) -> Option<Centroids> {
    let dims = parameters.dims as usize;
    let lists = parameters.lists as usize;
    let sample = Sample::new(source, parameters, threads);
    let spread = |list: usize| sample.row(list * sample.count / lists, dims);
    let mut rows = Vec::with_capacity(lists * dims);
    for list in 0..lists {
        rows.extend(spread(list).iter().map(|code| f32::from(*code) - OFFSET as f32));
    }
    normalise(&mut rows, dims);
    let mut centroids = Centroids::new(&rows, dims);
    for round in 0..ROUNDS {
        if !stop.go_on("training the search index", round as f64 / ROUNDS as f64) {
            return None;
        }
        let assigned = sample.assigned(&centroids, kernels, dims / LINE_DIMS, threads);
        let mut sums = vec![0i32; lists * dims];
        for (index, list) in assigned.iter().enumerate() {
            let sum = &mut sums[*list as usize * dims..(*list as usize + 1) * dims];
            for (sum, code) in sum.iter_mut().zip(sample.row(index, dims)) {
                *sum += i32::from(*code) - OFFSET;
            }
        }
        let mut rows: Vec<f32> = sums.iter().map(|sum| *sum as f32).collect();
        for (list, row) in rows.chunks_exact_mut(dims).enumerate() {
            if row.iter().all(|value| *value == 0.0) {
                let other = spread((list + round + 1) % lists);
                for (value, code) in row.iter_mut().zip(other) {
                    *value = f32::from(*code) - OFFSET as f32;
                }
            }
        }
        normalise(&mut rows, dims);
        centroids = Centroids::new(&rows, dims);
    }
    Some(centroids)
}

fn normalise(rows: &mut [f32], dims: usize) {
    for row in rows.chunks_exact_mut(dims) {
        let length = norm(row);
        if length > 0.0 {
            for value in row {
                *value = (f64::from(*value) / length) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::NoPause;

    #[test]
    fn lists_ranked_by_chunks_have_the_scores_of_one_go() {
        const DIMS: usize = 16;
        let rows: Vec<f32> =
            (0..5000 * DIMS as u32).map(|at| (at * 7919 % 1009) as f32 - 504.0).collect();
        let centroids = Centroids::new(&rows, DIMS);
        let mut query = Coded::new(DIMS);
        query.set(&rows[..DIMS], norm(&rows[..DIMS]));
        let lanes = centroids.lists().next_multiple_of(TILE);
        for kernels in Kernels::available() {
            let (mut ranked, mut whole) = (vec![0; lanes], vec![0; lanes]);
            centroids.rank(kernels, &query, &mut ranked, &mut NoPause);
            kernels.whole_dots([&centroids.high, &centroids.low], &query.words, &mut whole);
            assert_eq!(ranked, whole, "{}", kernels.name());
        }
    }
}
