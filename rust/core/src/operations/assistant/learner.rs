//! Learning from feedback: a worker's own copy of the classifier, and the feedback it remembers.
//!
//! The copy starts as the served weights and is never served itself, so what is parsed does not
//! depend on who learned what before. The store is a ring of fixed size: the oldest is forgotten.

use super::classifier::{FEEDBACK_STEP, LANES, Row, WEIGHT_MAX, Weights};
use super::tokens::FEATURES_MAX;

/// One piece of feedback: of which operation, what it should have been, what was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Feedback {
    pub key: u64,
    pub label: u8,
    pub decided: u8,
}

pub struct Learner {
    pub weights: Weights,
    store: Vec<Feedback>,
    /// Feedback taken in so far; the last of it stands at `(received - 1) % store.len()`.
    pub received: u64,
    /// The weights of every feature as they were before the last step, and what it added to them.
    before: Vec<Row>,
    moved: Row,
}

impl Learner {
    pub fn new(served: &Weights, feedback_max: usize) -> Self {
        let mut store = vec![Feedback::default(); feedback_max];
        store.iter_mut().for_each(|each| each.label = u8::MAX);
        Self {
            weights: served.clone(),
            store,
            received: 0,
            before: vec![Row([1; LANES]); FEATURES_MAX],
            moved: Row([0; LANES]),
        }
    }

    /// Bytes that a copy keeps.
    pub fn bytes(feedback_max: usize) -> usize {
        Weights::bytes() + feedback_max * size_of::<Feedback>() + FEATURES_MAX * size_of::<Row>()
    }

    /// One step towards `label` and the feedback remembered; returns what would have been decided.
    pub fn learn(&mut self, key: u64, features: &[u16], label: u8) -> u8 {
        for (kept, bucket) in self.before.iter_mut().zip(features) {
            *kept = self.weights.rows[usize::from(*bucket)];
        }
        let scores = self.weights.scores(features);
        let decided = self.weights.decided(&scores);
        self.moved = self.weights.gradient(&scores, label, FEEDBACK_STEP);
        self.weights.step(features, &self.moved);
        self.remember(Feedback { key, label, decided });
        decided
    }

    pub fn remember(&mut self, feedback: Feedback) {
        let place = self.received % self.store.len() as u64;
        self.store[place as usize] = feedback;
        self.received += 1;
    }

    /// What is remembered of the feedback taken in last.
    pub fn last(&self) -> Option<Feedback> {
        let place = self.received.checked_sub(1)? % self.store.len() as u64;
        Some(self.store[place as usize])
    }

    /// Pieces of feedback in the store.
    pub fn stored(&self) -> u64 {
        self.received.min(self.store.len() as u64)
    }

    /// Whether the last step changed what it had to and by how much, and feedback is conserved:
    /// `taken` in, the last one remembered.
    pub fn is_sound(&self, features: &[u16], key: u64, taken: u64) -> bool {
        let buckets = features;
        let rows = buckets.iter().zip(&self.before).all(|(bucket, before)| {
            let times = buckets.iter().filter(|other| *other == bucket).count() as i32;
            let now = &self.weights.rows[usize::from(*bucket)].0;
            (0..LANES).all(|lane| {
                let moved = i32::from(before.0[lane]) + times * i32::from(self.moved.0[lane]);
                let bound = i32::from(WEIGHT_MAX);
                i32::from(now[lane]) == moved.clamp(-bound, bound)
            })
        });
        rows && self.received == taken && self.last().is_some_and(|last| last.key == key)
    }

    /// Takes `taken` as what was received from here on.
    pub fn recount(&mut self, taken: u64) {
        self.received = taken;
    }

    /// Planted damage: one bit of a weight that the last step touched.
    pub fn flip(&mut self, features: &[u16]) -> bool {
        let Some(bucket) = features.first() else { return false };
        self.weights.rows[usize::from(*bucket)].0[0] ^= 1;
        true
    }
}
