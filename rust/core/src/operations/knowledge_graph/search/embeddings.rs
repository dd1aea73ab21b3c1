//! Embedding vectors by seed: clustered with noise, the same bits here and in NumPy.
//!
//! A component is an integer times 2^-16: the centre's plus the vector's own noise, each the sum
//! of two 16-bit draws minus 65535 (a triangular distribution). Sums of products of two vectors are
//! below 2^53 in units of 2^-32, so float64 dot products are exact in any order.

use half::f16;

use crate::random::{philox, stream_key};

use super::Storage;

const CENTRES: u64 = 0x6b67_0101;
const VECTORS: u64 = 0x6b67_0102;
const QUERIES: u64 = 0x6b67_0103;

const LANES: usize = 8;
const SCALE: f32 = 1.0 / 65536.0;

/// Where the vectors of a search come from.
pub enum Source {
    Seeded(Generator),
    /// Row-major, as handed over by a caller.
    Given(Vec<f32>),
}

impl Source {
    /// Vector `index` as it is searched, into `out` (`dims` components).
    pub fn vector(&self, index: u32, storage: Storage, out: &mut [f32]) {
        match self {
            Self::Seeded(generator) => generator.vector(index, out),
            Self::Given(rows) => {
                let start = index as usize * out.len();
                out.copy_from_slice(&rows[start..start + out.len()]);
            }
        }
        match storage {
            Storage::Fp32 => {}
            Storage::Fp16 => out.iter_mut().for_each(|value| *value = to_half(*value).to_f32()),
            Storage::Int8 => to_int8(out),
        }
    }
}

/// Vectors and held-out queries of one seed.
pub struct Generator {
    vectors: [u32; 2],
    queries: [u32; 2],
    dims: usize,
    clusters: u32,
    /// `clusters` × `dims`, in units of 2^-16.
    centres: Vec<i32>,
}

impl Generator {
    pub fn new(seed: u64, dims: usize, clusters: u32) -> Self {
        let key = stream_key(seed, CENTRES);
        let mut centres = vec![0; clusters as usize * dims];
        for (cluster, centre) in centres.chunks_exact_mut(dims).enumerate() {
            noise(key, [cluster as u32, 0, 0], centre);
        }
        Self {
            vectors: stream_key(seed, VECTORS),
            queries: stream_key(seed, QUERIES),
            dims,
            clusters,
            centres,
        }
    }

    fn vector(&self, index: u32, out: &mut [f32]) {
        self.fill(self.vectors, [index, 0, 0], out);
    }

    /// Query `member` of request `key`: of the vectors' distribution, but none of them.
    pub fn query(&self, key: u64, member: u32, out: &mut [f32]) {
        self.fill(self.queries, [key as u32, (key >> 32) as u32, 2 * member], out);
    }

    fn fill(&self, key: [u32; 2], item: [u32; 3], out: &mut [f32]) {
        let draw = philox([0, item[0], item[1], item[2] + 1], key)[0];
        let cluster = ((u64::from(draw) * u64::from(self.clusters)) >> 32) as usize;
        let centre = &self.centres[cluster * self.dims..(cluster + 1) * self.dims];
        let mut own = [0; 4 * LANES];
        for (start, (out, centre)) in
            out.chunks_mut(own.len()).zip(centre.chunks(own.len())).enumerate()
        {
            noise_from((start * LANES) as u32, key, item, &mut own);
            for ((value, own), centre) in out.iter_mut().zip(&own).zip(centre) {
                *value = (own + centre) as f32 * SCALE;
            }
        }
    }

    pub fn bytes(vectors: u64, dims: u64) -> u64 {
        vectors * dims * 4
    }
}

fn noise(key: [u32; 2], item: [u32; 3], out: &mut [i32]) {
    let mut own = [0; 4 * LANES];
    for (start, out) in out.chunks_mut(own.len()).enumerate() {
        noise_from((start * LANES) as u32, key, item, &mut own);
        out.copy_from_slice(&own[..out.len()]);
    }
}

/// Blocks `first..first + LANES` of an item, side by side so that the compiler can use its lanes.
#[inline]
fn noise_from(first: u32, key: [u32; 2], item: [u32; 3], out: &mut [i32; 4 * LANES]) {
    let mut blocks = [[0u32; 4]; LANES];
    for (lane, block) in blocks.iter_mut().enumerate() {
        *block = philox([first + lane as u32, item[0], item[1], item[2]], key);
    }
    for (value, word) in out.iter_mut().zip(blocks.as_flattened()) {
        *value = (word & 0xffff) as i32 + (word >> 16) as i32 - 65535;
    }
}

/// Rounds to the nearest integer, halves to even, for magnitudes below 2^51 (without a call to
/// libm where the target has no instruction for it).
#[inline]
pub fn nearest(value: f64) -> f64 {
    const ANCHOR: f64 = 6_755_399_441_055_744.0;
    (value + ANCHOR) - ANCHOR
}

/// A component in half precision, rounded to nearest even; the largest number where it is above.
#[inline]
pub fn to_half(value: f32) -> f16 {
    f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// The int8 form of a vector: direction kept to 7 bits, length made 32·√dims before rounding.
fn to_int8(row: &mut [f32]) {
    let norm = norm(row);
    if norm == 0.0 {
        return;
    }
    let factor = 32.0 * (row.len() as f64).sqrt() / norm;
    for value in row {
        *value = nearest(f64::from(*value) * factor).clamp(-127.0, 127.0) as f32;
    }
}

/// Dot product in float64 over eight running sums, the same on every machine.
#[inline]
pub fn dot(left: &[f32], right: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    for (left, right) in left.chunks_exact(8).zip(right.chunks_exact(8)) {
        for lane in 0..8 {
            sums[lane] += f64::from(left[lane]) * f64::from(right[lane]);
        }
    }
    sums.iter().sum()
}

/// Euclidean length in float64.
#[inline]
pub fn norm(row: &[f32]) -> f64 {
    dot(row, row).sqrt()
}

/// Cosine of two vectors of the given dot product and lengths; 0 where one has no length.
#[inline]
pub fn cosine(dot: f64, left_norm: f64, right_norm: f64) -> f64 {
    let product = left_norm * right_norm;
    if product > 0.0 { dot / product } else { 0.0 }
}
