//! One-against-all linear classifiers over hashed features, in integers.
//!
//! Trained by stochastic gradient steps of the hinge loss (Shalev-Shwartz et al., "Pegasos", ICML
//! 2007, here without its regulariser). Integers add up to the same weights on every machine, and
//! the 32 weights of a feature are one cache line, so scoring costs one line per feature.

use super::command::Command;
use super::grammar::{Grammar, Part};
use super::tokens::{BUCKETS, Features, read};
use super::utterances::{Author, Split};
use crate::operations::{Build, BuildError};

/// Unknown, the intents, and lanes that are never used.
pub const LANES: usize = 32;
/// `FEATURES_MAX` weights of at most so much add up within 16 bits.
pub const WEIGHT_MAX: i16 = 160;
pub const MARGIN: i16 = 128;
/// Utterances that training sees, and the step of each pass over them.
pub const EXAMPLES: usize = 1 << 14;
const STEPS: [i16; 2] = [2, 1];
/// The step of `learn`.
pub const FEEDBACK_STEP: i16 = 1;
/// Passes over the commands, at most, until each is parsed with the full margin.
const COMMAND_PASSES: usize = 64;

/// The weights of one bucket, or the scores of one text: a lane for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Row(pub [i16; LANES]);

const ZERO: Row = Row([0; LANES]);

/// The weights of all buckets.
#[derive(Clone)]
pub struct Weights {
    pub rows: Vec<Row>,
    classes: usize,
}

impl Weights {
    pub fn new(classes: usize) -> Self {
        Self { rows: vec![ZERO; BUCKETS], classes }
    }

    pub const fn bytes() -> usize {
        BUCKETS * size_of::<Row>()
    }

    /// The score of every class.
    #[inline]
    pub fn scores(&self, features: &[u16]) -> Row {
        let mut sum = ZERO;
        for bucket in features {
            let row = &self.rows[usize::from(*bucket) % BUCKETS].0;
            for (sum, weight) in sum.0.iter_mut().zip(row) {
                *sum = sum.wrapping_add(*weight);
            }
        }
        sum
    }

    /// The class of the largest score, the first of equals.
    #[inline]
    pub fn decided(&self, scores: &Row) -> u8 {
        let mut best = 0;
        for lane in 1..self.classes {
            if scores.0[lane] > scores.0[best] {
                best = lane;
            }
        }
        best as u8
    }

    /// What one gradient step adds to every feature's weights: for the label's class upwards, for
    /// others downwards, where the score is on the wrong side of the margin.
    #[inline]
    pub fn gradient(&self, scores: &Row, label: u8, size: i16) -> Row {
        let mut moved = ZERO;
        for (lane, moved) in moved.0[..self.classes].iter_mut().enumerate() {
            let sign = if lane == usize::from(label) { 1 } else { -1 };
            // A score is within ±32 000: its negative is too.
            *moved = if sign * scores.0[lane] < MARGIN { sign * size } else { 0 };
        }
        moved
    }

    /// Adds `moved` to the weights of every feature, held to `WEIGHT_MAX`.
    #[inline]
    pub fn step(&mut self, features: &[u16], moved: &Row) {
        for bucket in features {
            let row = &mut self.rows[usize::from(*bucket) % BUCKETS].0;
            for (weight, moved) in row.iter_mut().zip(moved.0) {
                *weight = (*weight + moved).clamp(-WEIGHT_MAX, WEIGHT_MAX);
            }
        }
    }

    /// One gradient step towards `label`; returns the scores before it.
    #[inline]
    pub fn learn(&mut self, features: &[u16], label: u8, size: i16) -> Row {
        let scores = self.scores(features);
        let moved = self.gradient(&scores, label, size);
        if moved != ZERO {
            self.step(features, &moved);
        }
        scores
    }
}

/// Texts as their features, one behind the other, with their labels.
#[derive(Default)]
struct Examples {
    buckets: Vec<u16>,
    /// Where the features of each end.
    ends: Vec<(usize, u8)>,
}

impl Examples {
    fn push(&mut self, grammar: &Grammar, text: &[u8], label: u8) {
        let mut features = Features::default();
        read(grammar, text, &mut features);
        self.buckets.extend_from_slice(features.as_slice());
        self.ends.push((self.buckets.len(), label));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u16], u8)> {
        let mut start = 0;
        self.ends.iter().map(move |(end, label)| {
            let features = &self.buckets[start..*end];
            start = *end;
            (features, *label)
        })
    }
}

/// Trains on the templates for training, and on the commands of every one of them.
///
/// # Errors
/// Cancelled.
pub fn train(grammar: &Grammar, context: &Build<'_>) -> Result<Weights, BuildError> {
    const CHUNK: usize = 1 << 10;
    let author = Author::new(grammar, context.seed, Split::Train);
    let mut weights = Weights::new(grammar.classes());
    let mut examples = Examples::default();
    for number in 0..EXAMPLES {
        let utterance = author.write(number as u64);
        examples.push(grammar, utterance.text(), utterance.label);
        let done = number as f64 / (2 * EXAMPLES) as f64;
        if number % CHUNK == 0 && !(context.progress)("assistant: training", done) {
            return Err(BuildError::Cancelled);
        }
    }
    for size in STEPS {
        for (features, label) in examples.iter() {
            weights.learn(features, label, size);
        }
    }
    let commands = commands(grammar);
    for pass in 0..COMMAND_PASSES {
        let mut changed = false;
        for (features, label) in commands.iter() {
            let scores = weights.scores(features);
            let moved = weights.gradient(&scores, label, 1);
            if moved != ZERO {
                weights.step(features, &moved);
                changed = true;
            }
        }
        let done = 0.5 + (pass + 1) as f64 / (2 * COMMAND_PASSES) as f64;
        if !(context.progress)("assistant: training", if changed { done } else { 1.0 }) {
            return Err(BuildError::Cancelled);
        }
        if !changed {
            break;
        }
    }
    Ok(weights)
}

/// The features of the command of every tail, which values do not change, and its label.
fn commands(grammar: &Grammar) -> Examples {
    let mut found = Examples::default();
    for (intent, frame) in grammar.intents.iter().enumerate() {
        for tail in &frame.tails {
            let kinds = tail.iter().filter_map(|part| match part {
                Part::Value(kind) => Some(*kind),
                Part::Words(_) => None,
            });
            let named = kinds.fold(0u16, |set, kind| set | 1 << kind);
            let label = intent as u8 + 1;
            let command = Command::example(grammar, label, named);
            found.push(grammar, command.text(), label);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tokens::FEATURES_MAX;
    use super::*;

    #[test]
    fn no_score_leaves_sixteen_bits() {
        assert!(FEATURES_MAX as i32 * i32::from(WEIGHT_MAX) <= i32::from(i16::MAX));
        let grammar = Grammar::read().expect("a sound grammar");
        assert!(grammar.classes() <= LANES);
    }

    #[test]
    fn a_step_moves_only_the_classes_on_the_wrong_side_of_the_margin() {
        let grammar = Grammar::read().expect("a sound grammar");
        let mut features = Features::default();
        read(&grammar, b"restart the ledger pods", &mut features);
        let mut weights = Weights::new(grammar.classes());
        for _ in 0..1000 {
            weights.learn(features.as_slice(), 3, 8);
        }
        let scores = weights.scores(features.as_slice());
        assert_eq!(weights.decided(&scores), 3);
        assert_eq!(weights.gradient(&scores, 3, 8), ZERO);
        assert!(weights.rows.iter().all(|row| row.0.iter().all(|w| w.abs() <= WEIGHT_MAX)));
        assert!(scores.0[grammar.classes()..].iter().all(|score| *score == 0));
    }
}
