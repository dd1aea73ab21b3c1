//! Two 4-bit planes of a vector's 8-bit code, in tiles that a byte dot product reads in order.

use super::embeddings::nearest;

/// Vectors of a tile: one per 32-bit lane of a 512-bit register.
pub const TILE: usize = 16;
/// Dimensions of a line: four in the low halves of a lane's bytes, four in the high halves.
pub const LINE_DIMS: usize = 8;
/// What a code byte holds for the value 0.
pub const OFFSET: i32 = 128;
/// A code of which only the high half is known, as a multiple of the scale: 16·high − 120.5.
pub const HIGH_OFFSET: f64 = OFFSET as f64 - 7.5;

/// Eight dimensions of the sixteen vectors of a tile, one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

pub const EMPTY: Line = Line([0; 64]);

impl Default for Line {
    fn default() -> Self {
        EMPTY
    }
}

/// Writes half bytes `halves` (one per dimension) of the vector in `lane` of a tile.
pub fn put(tile: &mut [Line], lane: usize, halves: impl Iterator<Item = u8>) {
    for (dim, half) in halves.enumerate() {
        let byte = &mut tile[dim / LINE_DIMS].0[4 * lane + dim % 4];
        *byte |= if dim % LINE_DIMS < 4 { half } else { half << 4 };
    }
}

/// The half byte of one dimension of one lane.
#[inline]
pub fn get(tile: &[Line], lane: usize, dim: usize) -> u8 {
    let byte = tile[dim / LINE_DIMS].0[4 * lane + dim % 4];
    if dim % LINE_DIMS < 4 { byte & 15 } else { byte >> 4 }
}

/// The code byte of a value: `value / scale` rounded, within ±127, plus the offset.
#[inline]
pub fn code(value: f64, inverse_scale: f64) -> u8 {
    (nearest(value * inverse_scale).clamp(-127.0, 127.0) + f64::from(OFFSET)) as u8
}

/// A query as the byte dot products take it, with how far that is from the query itself.
#[derive(Clone, Default)]
pub struct Coded {
    /// Signed bytes, four dimensions a word, first dimension lowest.
    pub words: Vec<i32>,
    /// The unit query is about `scale` times the bytes.
    pub scale: f64,
    /// Length of the difference between the two, rounded up.
    pub residual: f64,
    /// Sum of the bytes.
    pub sum: i32,
}

impl Coded {
    pub fn new(dims: usize) -> Self {
        Self { words: vec![0; dims / 4], scale: 1.0, residual: 0.0, sum: 0 }
    }

    /// Codes `row` of length `norm` (0 gives all zeros), in place.
    pub fn set(&mut self, row: &[f32], norm: f64) {
        let peak = row.iter().fold(0.0f32, |peak, value| peak.max(value.abs()));
        let step = if norm > 0.0 { f64::from(peak) / norm / 127.0 } else { 0.0 };
        self.set_scaled(row, norm, step);
    }

    /// The same with a given scale (0: all zeros).
    pub fn set_scaled(&mut self, row: &[f32], norm: f64, scale: f64) {
        let (inverse_norm, inverse) =
            if scale > 0.0 { (1.0 / norm, 1.0 / scale) } else { (0.0, 0.0) };
        self.scale = if scale > 0.0 { scale } else { 1.0 };
        self.sum = 0;
        let mut squares = 0.0;
        for (word, values) in self.words.iter_mut().zip(row.chunks_exact(4)) {
            let mut bytes = [0u8; 4];
            for (byte, value) in bytes.iter_mut().zip(values) {
                let unit = f64::from(*value) * inverse_norm;
                let step = nearest(unit * inverse).clamp(-127.0, 127.0);
                let difference = unit - self.scale * step;
                squares += difference * difference;
                *byte = step as i8 as u8;
                self.sum += step as i32;
            }
            *word = i32::from_le_bytes(bytes);
        }
        self.residual = round_up(squares.sqrt());
    }
}

/// Room for the rounding of a length computed in float64 (relative 2^-40, absolute 1e-12).
#[inline]
pub fn round_up(length: f64) -> f64 {
    length * (1.0 + 1.0 / (1u64 << 40) as f64) + 1e-12
}

/// Lengths of what a vector's unit form (`row` times `inverse_norm`) loses in its codes, rounded
/// up: with the high halves only, and with both.
pub fn residuals(row: &[f32], inverse_norm: f64, codes: &[u8], scale: f64) -> (f64, f64) {
    let (mut high, mut full) = ([0.0f64; 4], [0.0f64; 4]);
    for (values, codes) in row.chunks_exact(4).zip(codes.chunks_exact(4)) {
        for lane in 0..4 {
            let value = f64::from(values[lane]) * inverse_norm;
            let known = value - scale * (f64::from(codes[lane] & 0xf0) - HIGH_OFFSET);
            let all = value - scale * (f64::from(codes[lane]) - f64::from(OFFSET));
            high[lane] += known * known;
            full[lane] += all * all;
        }
    }
    (round_up(high.iter().sum::<f64>().sqrt()), round_up(full.iter().sum::<f64>().sqrt()))
}
