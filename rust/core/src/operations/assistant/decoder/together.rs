//! A few sequences decoded in step, so that each weight is read and widened once for all of them.
//!
//! A product of every sequence is the same chain of fused multiply-adds as alone, so the bits of
//! all logits are those that `Decoding` gives.

use std::sync::Arc;

use super::run::{attend_all, highest, touched};
use super::{Decoder, LANES, Matrix, POSITIONS, Shape};
use crate::operations::Pause;

/// Weights between two pauses: about 50 µs for as many sequences as there may be.
const PIECE_BYTES: usize = 128 << 10;

/// What one worker decodes several sequences with; allocated once.
pub struct Together {
    decoder: Arc<Decoder>,
    /// By sequence, then as those of `Decoding`.
    keys: Vec<f32>,
    values: Vec<f32>,
    stream: Vec<f32>,
    normal: Vec<f32>,
    projected: Vec<f32>,
    attended: Vec<f32>,
    hidden: Vec<f32>,
    logits: Vec<f32>,
    /// Inputs of a matrix, by input, then by sequence.
    inputs: Vec<f32>,
}

impl Together {
    /// Sequences in step at most: their sums fill the registers.
    pub const MOST: usize = 8;

    pub fn new(decoder: Arc<Decoder>, sequences: usize) -> Self {
        let (shape, count) = (decoder.shape, sequences.min(Self::MOST));
        let each = |length: usize| touched(count * length);
        let cached = shape.layers * POSITIONS * shape.width;
        Self {
            keys: each(cached),
            values: each(cached),
            stream: each(shape.width),
            normal: each(shape.width),
            projected: each(3 * shape.width),
            attended: each(shape.width),
            hidden: each(shape.hidden()),
            logits: each(shape.vocabulary),
            inputs: each(shape.hidden()),
            decoder,
        }
    }

    /// Bytes of one for so many sequences.
    pub fn bytes(shape: Shape, sequences: usize) -> usize {
        let activations = 6 * shape.width + 2 * shape.hidden() + shape.vocabulary;
        sequences.min(Self::MOST) * (shape.cache_bytes() + activations * size_of::<f32>())
    }

    pub fn vocabulary(&self) -> usize {
        self.decoder.shape.vocabulary
    }

    /// Takes in a token of each sequence at `position`.
    pub fn take(&mut self, tokens: &[u32], position: usize, pause: &mut dyn Pause) {
        let decoder = Arc::clone(&self.decoder);
        let (shape, count) = (decoder.shape, tokens.len());
        let width = shape.width;
        for (stream, token) in self.stream.chunks_exact_mut(width).zip(tokens) {
            decoder.embedding.row(decoder.row_of(*token), stream);
        }
        for (layer, weights) in decoder.layers.iter().enumerate() {
            self.normalise(count);
            interleave(&self.normal, width, count, &mut self.inputs);
            self.multiply(&weights.attend, Output::Projected, count, pause);
            self.attend(layer, position, count, pause);
            interleave(&self.attended, width, count, &mut self.inputs);
            self.multiply(&weights.merge, Output::Normal, count, pause);
            self.add(count);
            self.normalise(count);
            interleave(&self.normal, width, count, &mut self.inputs);
            self.multiply(&weights.widen, Output::Hidden, count, pause);
            for value in &mut self.hidden[..count * shape.hidden()] {
                *value = value.max(0.0);
            }
            interleave(&self.hidden, shape.hidden(), count, &mut self.inputs);
            self.multiply(&weights.narrow, Output::Normal, count, pause);
            self.add(count);
        }
    }

    /// Computes the logits of `count` sequences after what was taken in last.
    pub fn weigh(&mut self, count: usize, pause: &mut dyn Pause) {
        let decoder = Arc::clone(&self.decoder);
        self.normalise(count);
        interleave(&self.normal, decoder.shape.width, count, &mut self.inputs);
        self.multiply(&decoder.embedding, Output::Logits, count, pause);
    }

    /// The logits of a sequence, and the token of the largest, the first of equals.
    pub fn choice(&self, sequence: usize) -> (&[f32], u32) {
        let vocabulary = self.vocabulary();
        let logits = &self.logits[sequence * vocabulary..][..vocabulary];
        (logits, highest(logits))
    }

    fn normalise(&mut self, count: usize) {
        let width = self.decoder.shape.width;
        let vectors = self.stream.chunks_exact(width).zip(self.normal.chunks_exact_mut(width));
        for (stream, normal) in vectors.take(count) {
            self.decoder.kernels.normalise(stream, normal);
        }
    }

    fn attend(&mut self, layer: usize, position: usize, count: usize, pause: &mut dyn Pause) {
        let (shape, decoder) = (self.decoder.shape, &self.decoder);
        let (each, all) = (shape.width * POSITIONS, shape.layers * shape.width * POSITIONS);
        for sequence in 0..count {
            let kept = sequence * all + layer * each..sequence * all + (layer + 1) * each;
            attend_all(
                decoder,
                position,
                &mut self.projected[sequence * 3 * shape.width..][..3 * shape.width],
                (&mut self.keys[kept.clone()], &mut self.values[kept]),
                &mut self.attended[sequence * shape.width..][..shape.width],
            );
            pause.point();
        }
    }

    /// Adds what a part of a layer gave to the streams.
    fn add(&mut self, count: usize) {
        let end = count * self.decoder.shape.width;
        for (value, part) in self.stream[..end].iter_mut().zip(&self.normal) {
            *value += part;
        }
    }

    /// A product of every sequence, in pieces of whole blocks.
    fn multiply(&mut self, matrix: &Matrix, to: Output, count: usize, pause: &mut dyn Pause) {
        let outputs = matrix.lines.len() / matrix.inputs * LANES;
        let (target, scale) = match to {
            Output::Projected => (&mut self.projected, matrix.scale),
            Output::Normal => (&mut self.normal, matrix.scale),
            Output::Hidden => (&mut self.hidden, matrix.scale),
            Output::Logits => (&mut self.logits, self.decoder.logit_scale),
        };
        let inputs = &self.inputs[..count * matrix.inputs];
        let stretch = (PIECE_BYTES / matrix.inputs / LANES).max(1) * LANES;
        for first in (0..outputs).step_by(stretch) {
            let end = outputs.min(first + stretch);
            let kernels = self.decoder.kernels;
            kernels.multiply_together(
                matrix,
                first..end,
                inputs,
                scale,
                &mut target[..count * outputs],
            );
            pause.point();
        }
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
enum Output {
    Projected,
    Normal,
    Hidden,
    Logits,
}

/// Vectors of `length` one after the other into theirs by place.
fn interleave(vectors: &[f32], length: usize, count: usize, inputs: &mut [f32]) {
    for (sequence, vector) in vectors.chunks_exact(length).take(count).enumerate() {
        for (place, value) in inputs[sequence..].iter_mut().step_by(count).zip(vector) {
            *place = *value;
        }
    }
}
