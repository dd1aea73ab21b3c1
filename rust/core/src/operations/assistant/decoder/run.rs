//! One copy that decodes: its keys and values, and the steps from a token to the next.

use std::sync::Arc;

use super::attention::{Head, rotate};
use super::kernels::Input;
use super::{Decoder, LANES, Matrix, POSITIONS};
use crate::operations::Pause;

/// Weights between two pauses: about 100 µs from the cache, 200 µs where they come from memory.
const PAUSE_BYTES: usize = 2 << 20;

/// What one worker decodes with; allocated once.
pub struct Decoding {
    decoder: Arc<Decoder>,
    /// By layer, head, dimension, position.
    keys: Vec<f32>,
    /// By layer, head, position, dimension.
    values: Vec<f32>,
    stream: Vec<f32>,
    normal: Vec<f32>,
    projected: Vec<f32>,
    attended: Vec<f32>,
    hidden: Vec<f32>,
    inputs: Inputs,
    pub logits: Vec<f32>,
    since_pause_bytes: usize,
}

/// Inputs of a matrix that are not zero; behind a ReLU that is half of them.
struct Inputs {
    listed: Vec<Input>,
    count: usize,
}

impl Inputs {
    fn with_room(width: usize) -> Self {
        Self { listed: vec![(u32::MAX, 0.0); width], count: 0 }
    }

    /// Without a branch on the value, which a processor would guess wrong half of the time.
    fn list(&mut self, values: &[f32]) {
        let listed = &mut self.listed[..values.len()];
        let mut count = 0;
        for (number, value) in values.iter().enumerate() {
            listed[count] = (number as u32, *value);
            count += usize::from(*value != 0.0);
        }
        self.count = count;
    }

    fn as_slice(&self) -> &[Input] {
        &self.listed[..self.count]
    }
}

impl Decoding {
    pub fn new(decoder: Arc<Decoder>) -> Self {
        let shape = decoder.shape;
        let cached = shape.layers * POSITIONS * shape.width;
        Self {
            keys: touched(cached),
            values: touched(cached),
            stream: touched(shape.width),
            normal: touched(shape.width),
            projected: touched(3 * shape.width),
            attended: touched(shape.width),
            hidden: touched(shape.hidden()),
            inputs: Inputs::with_room(shape.hidden()),
            logits: touched(shape.vocabulary),
            since_pause_bytes: 0,
            decoder,
        }
    }

    /// Takes in `token` at `position`: its keys and values are kept, its stream is ready.
    pub fn take(&mut self, token: u32, position: usize, pause: &mut dyn Pause) {
        let decoder = Arc::clone(&self.decoder);
        decoder.embedding.row(decoder.row_of(token), &mut self.stream);
        for layer in 0..decoder.shape.layers {
            self.attention(&decoder, layer, position, pause);
            self.network(&decoder, layer, pause);
        }
    }

    fn attention(
        &mut self,
        decoder: &Decoder,
        layer: usize,
        position: usize,
        pause: &mut dyn Pause,
    ) {
        let shape = decoder.shape;
        let kernels = decoder.kernels;
        let weights = &decoder.layers[layer];
        kernels.normalise(&self.stream, &mut self.normal);
        self.inputs.list(&self.normal);
        let scale = weights.attend.scale;
        kernels.multiply(&weights.attend, 0, self.inputs.as_slice(), scale, &mut self.projected);
        self.used(&weights.attend, pause);
        let kept = layer * shape.width * POSITIONS..(layer + 1) * shape.width * POSITIONS;
        let kept = (&mut self.keys[kept.clone()], &mut self.values[kept]);
        attend_all(decoder, position, &mut self.projected, kept, &mut self.attended);
        self.inputs.list(&self.attended);
        let scale = weights.merge.scale;
        kernels.multiply(&weights.merge, 0, self.inputs.as_slice(), scale, &mut self.normal);
        self.add();
        self.used(&weights.merge, pause);
    }

    fn network(&mut self, decoder: &Decoder, layer: usize, pause: &mut dyn Pause) {
        let kernels = decoder.kernels;
        let weights = &decoder.layers[layer];
        kernels.normalise(&self.stream, &mut self.normal);
        self.inputs.list(&self.normal);
        let scale = weights.widen.scale;
        kernels.multiply(&weights.widen, 0, self.inputs.as_slice(), scale, &mut self.hidden);
        self.used(&weights.widen, pause);
        for value in &mut self.hidden {
            *value = value.max(0.0);
        }
        self.inputs.list(&self.hidden);
        let scale = weights.narrow.scale;
        kernels.multiply(&weights.narrow, 0, self.inputs.as_slice(), scale, &mut self.normal);
        self.add();
        self.used(&weights.narrow, pause);
    }

    /// Adds what a part of a layer gave to the stream.
    fn add(&mut self) {
        for (value, part) in self.stream.iter_mut().zip(&self.normal) {
            *value += part;
        }
    }

    fn used(&mut self, matrix: &Matrix, pause: &mut dyn Pause) {
        self.read(matrix.lines.len() * LANES, pause);
    }

    fn read(&mut self, bytes: usize, pause: &mut dyn Pause) {
        self.since_pause_bytes += bytes;
        if self.since_pause_bytes >= PAUSE_BYTES {
            self.since_pause_bytes = 0;
            pause.point();
        }
    }

    /// The logits after the last token taken in, and the token of the largest, the first of equals.
    pub fn next(&mut self, pause: &mut dyn Pause) -> u32 {
        let decoder = Arc::clone(&self.decoder);
        decoder.kernels.normalise(&self.stream, &mut self.normal);
        self.inputs.list(&self.normal);
        let mut logits = std::mem::take(&mut self.logits);
        let stretch = PAUSE_BYTES / decoder.shape.width / LANES * LANES;
        for (turn, part) in logits.chunks_mut(stretch).enumerate() {
            let scale = decoder.logit_scale;
            let first = turn * stretch;
            decoder.kernels.multiply(
                &decoder.embedding,
                first,
                self.inputs.as_slice(),
                scale,
                part,
            );
            self.read(part.len() * decoder.shape.width, pause);
        }
        let best = highest(&logits);
        self.logits = logits;
        best
    }
}

/// Attention of one sequence at one position in one layer: queries and keys are turned, keys and
/// values kept among those of the layer, and every head sees the positions so far.
pub fn attend_all(
    decoder: &Decoder,
    position: usize,
    projected: &mut [f32],
    (all_keys, all_values): (&mut [f32], &mut [f32]),
    attended: &mut [f32],
) {
    let shape = decoder.shape;
    let (width, head_width) = (shape.width, shape.head_width());
    let pairs = head_width / 2;
    let angles = &decoder.rotations[position * pairs..][..pairs];
    for head in projected[..2 * width].chunks_exact_mut(head_width) {
        rotate(head, angles);
    }
    let (queries, rest) = projected.split_at(width);
    let (keys, values) = rest.split_at(width);
    for head in 0..shape.heads {
        let place = head * head_width * POSITIONS;
        let kept_keys = &mut all_keys[place..][..head_width * POSITIONS];
        let kept_values = &mut all_values[place..][..head_width * POSITIONS];
        let own = head * head_width..(head + 1) * head_width;
        for (dimension, key) in keys[own.clone()].iter().enumerate() {
            kept_keys[dimension * POSITIONS + position] = *key;
        }
        kept_values[position * head_width..][..head_width].copy_from_slice(&values[own.clone()]);
        let kept = Head { keys: kept_keys, values: kept_values };
        decoder.kernels.attend(&queries[own.clone()], &kept, position, &mut attended[own]);
    }
}

/// `length` floats, written, so that every page is there before the first token.
pub fn touched(length: usize) -> Vec<f32> {
    let mut values = vec![0f32; length];
    values.iter_mut().for_each(|value| *value = f32::MIN_POSITIVE);
    values
}

/// The place of the largest value, the first of equals.
pub fn highest(values: &[f32]) -> u32 {
    let top = values.iter().fold(f32::NEG_INFINITY, |top, value| top.max(*value));
    values.iter().position(|value| *value == top).unwrap_or(0) as u32
}
