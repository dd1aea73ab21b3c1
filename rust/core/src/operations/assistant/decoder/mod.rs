//! A small decoder with seeded weights: what it says means nothing, what it costs is real.
//!
//! Pre-norm transformer (Vaswani et al., NeurIPS 2017) with RMS norms (Zhang and Sennrich, NeurIPS
//! 2019), rotary positions (Su et al., 2021), ReLU, tied embeddings and no biases. A weight is an
//! integer of 8 bits times the scale of its matrix, by definition: they are kept as bytes without
//! loss, and one token at batch 1 reads each of them once.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use serde::Deserialize;

use crate::operations::pages::filled;
use crate::operations::{Build, BuildError};
use crate::random::{Stream, stream_key};

mod attention;
mod kernels;
#[cfg(target_arch = "x86_64")]
mod kernels_avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "build.rs leaves it out before Rust 1.89")]
mod kernels_avx512;
mod run;
#[cfg(test)]
mod tests;
mod together;

pub use kernels::Kernels;
pub use run::Decoding;
pub use together::Together;

/// Tokens of a prompt and an answer together, at most.
pub const POSITIONS: usize = 96;
pub const PROMPT_MAX: usize = 32;
/// The token that every prompt begins with.
pub const BEGIN: u32 = 0;
const DOMAIN_WEIGHTS: u64 = 0xA551_0100;
/// Outputs whose weights stand side by side: a cache line of bytes.
pub const LANES: usize = 64;
/// Standard deviation of a byte uniform in -128..=127 whose -128 counts as -127.
const BYTE_DEVIATION: f64 = 73.6;
/// How large embeddings are beside what the layers add.
const EMBEDDING_GAIN: f64 = 0.4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    Small,
    Base,
}

/// Sizes of a model; `LANES` divides all but layers and heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub vocabulary: usize,
}

impl Model {
    pub fn shape(self) -> Shape {
        match self {
            Self::Small => Shape { layers: 3, width: 192, heads: 6, vocabulary: 896 },
            Self::Base => Shape { layers: 4, width: 512, heads: 8, vocabulary: 24_576 },
        }
    }
}

impl Shape {
    pub fn hidden(self) -> usize {
        4 * self.width
    }

    pub fn head_width(self) -> usize {
        self.width / self.heads
    }

    pub fn parameters(self) -> usize {
        12 * self.layers * self.width * self.width + self.vocabulary * self.width
    }

    /// Bytes of the keys and values of all positions.
    pub fn cache_bytes(self) -> usize {
        2 * self.layers * POSITIONS * self.width * size_of::<f32>()
    }

    /// Bytes that one copy keeps to decode with.
    pub fn copy_bytes(self) -> usize {
        let activations = 6 * self.width + 3 * self.hidden() + self.vocabulary;
        self.cache_bytes() + activations * size_of::<f32>()
    }
}

/// 64 weights of one input: those of 64 outputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [i8; LANES]);

impl Default for Line {
    fn default() -> Self {
        Self([0; LANES])
    }
}

/// A matrix of `outputs` times `inputs` weights, in blocks of `LANES` outputs.
pub struct Matrix {
    /// Block after block; in a block one line per input.
    pub lines: Vec<Line>,
    pub inputs: usize,
    pub scale: f32,
}

impl Matrix {
    /// Draws the weights of matrix number `number`, row after row of its outputs.
    fn draw(seed: u64, number: u64, outputs: usize, inputs: usize, gain: f64) -> Self {
        let mut lines: Vec<Line> = filled(outputs / LANES * inputs);
        let mut stream = Stream::new(stream_key(seed, DOMAIN_WEIGHTS + number), 0);
        for output in 0..outputs {
            let block = &mut lines[output / LANES * inputs..][..inputs];
            for lines in block.chunks_mut(8) {
                let bytes = stream.next_u64().to_le_bytes();
                for (line, byte) in lines.iter_mut().zip(bytes) {
                    line.0[output % LANES] = (byte as i8).max(-127);
                }
            }
        }
        Self { lines, inputs, scale: (gain / BYTE_DEVIATION) as f32 }
    }

    /// One of the rows, as floats times the scale.
    pub fn row(&self, output: usize, row: &mut [f32]) {
        let block = &self.lines[output / LANES * self.inputs..][..self.inputs];
        for (value, line) in row.iter_mut().zip(block) {
            *value = f32::from(line.0[output % LANES]) * self.scale;
        }
    }
}

/// The matrices of one layer, none of them transposed.
pub struct Layer {
    /// Queries, keys and values, one below the other.
    pub attend: Matrix,
    pub merge: Matrix,
    pub widen: Matrix,
    pub narrow: Matrix,
}

/// A model with its weights.
pub struct Decoder {
    pub shape: Shape,
    pub layers: Vec<Layer>,
    pub embedding: Matrix,
    /// The scale of the embedding where it gives the logits.
    pub logit_scale: f32,
    /// Cosine and sine by position, then by pair of a head's dimensions.
    pub rotations: Vec<[f32; 2]>,
    pub kernels: Kernels,
}

impl Decoder {
    /// Draws all weights.
    ///
    /// # Errors
    /// Cancelled.
    pub fn build(model: Model, context: &Build<'_>) -> Result<Self, BuildError> {
        let shape = model.shape();
        let (width, hidden) = (shape.width, shape.hidden());
        let sizes = [(3 * width, width), (width, width), (hidden, width), (width, hidden)];
        let count = 1 + sizes.len() * shape.layers;
        let cancelled = AtomicBool::new(false);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let draw = |number: usize| {
            if number == 0 {
                return Matrix::draw(context.seed, 0, shape.vocabulary, width, EMBEDDING_GAIN);
            }
            let (outputs, inputs) = sizes[(number - 1) % sizes.len()];
            let gain = (inputs as f64).sqrt().recip();
            Matrix::draw(context.seed, number as u64, outputs, inputs, gain)
        };
        let mut drawn: Vec<(usize, Matrix)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..context.threads.clamp(1, count))
                .map(|_| {
                    scope.spawn(|| {
                        let mut own = Vec::new();
                        loop {
                            let number = next.fetch_add(1, Relaxed);
                            if number >= count || cancelled.load(Relaxed) {
                                return own;
                            }
                            own.push((number, draw(number)));
                            let done = (number + 1) as f64 / count as f64;
                            if !(context.progress)("assistant: weights", done) {
                                cancelled.store(true, Relaxed);
                            }
                        }
                    })
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
        });
        if cancelled.into_inner() || drawn.len() != count {
            return Err(BuildError::Cancelled);
        }
        drawn.sort_by_key(|(number, _)| *number);
        let mut matrices = drawn.into_iter().map(|(_, matrix)| matrix);
        let mut next = || matrices.next().ok_or(BuildError::Cancelled);
        let embedding = next()?;
        let mut layers = Vec::with_capacity(shape.layers);
        for _ in 0..shape.layers {
            layers.push(Layer { attend: next()?, merge: next()?, widen: next()?, narrow: next()? });
        }
        let logit_scale = (1.0 / (BYTE_DEVIATION * (width as f64).sqrt())) as f32;
        let rotations = rotations(shape.head_width());
        Ok(Self { shape, layers, embedding, logit_scale, rotations, kernels: Kernels::best() })
    }

    /// The row of the embedding that a token is looked up in: another one than that which gives
    /// its logit, or each token would be followed by itself. 5 divides no vocabulary.
    pub fn row_of(&self, token: u32) -> usize {
        (5 * token as usize + 17) % self.shape.vocabulary
    }

    /// Bytes of the weights and of the table of rotations.
    pub fn bytes(shape: Shape) -> usize {
        shape.parameters() + POSITIONS * shape.head_width() / 2 * size_of::<[f32; 2]>()
    }
}

/// Angles position / 10000^(2 i / width), i up to half the width.
fn rotations(head_width: usize) -> Vec<[f32; 2]> {
    let pairs = head_width / 2;
    (0..POSITIONS * pairs)
        .map(|at| {
            let (position, pair) = ((at / pairs) as f64, (at % pairs) as f64);
            let angle = position / 10_000f64.powf(pair / pairs as f64);
            [angle.cos() as f32, angle.sin() as f32]
        })
        .collect()
}
