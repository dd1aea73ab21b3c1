//! Totals over all workers: each adds to them once an operation.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::population::{fitness_of, ranked};

/// What is counted, with the names that are shown.
#[derive(Default)]
pub struct Counters {
    pub generations: AtomicU64,
    pub individuals: AtomicU64,
    pub genes: AtomicU64,
    pub genes_mutated: AtomicU64,
    /// Islands whose best reached the target, and what that took, summed over them.
    pub targets_reached: AtomicU64,
    pub generations_to_target: AtomicU64,
    pub ns_to_target: AtomicU64,
    pub children_recomputed: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        [
            ("generations", &self.generations),
            ("individuals", &self.individuals),
            ("genes", &self.genes),
            ("genes_mutated", &self.genes_mutated),
            ("targets_reached", &self.targets_reached),
            ("generations_to_target", &self.generations_to_target),
            ("ns_to_target", &self.ns_to_target),
            ("children_recomputed", &self.children_recomputed),
        ]
        .map(|(name, counter)| (name, counter.load(Relaxed)))
        .to_vec()
    }
}

/// The best fitness that any island has had.
pub struct Best(AtomicU32);

impl Default for Best {
    fn default() -> Self {
        Self(AtomicU32::new(u32::MAX))
    }
}

impl Best {
    /// Writes only what is better, so that it is seldom written.
    pub fn offer(&self, fitness: f32) {
        let ordered = (ranked(fitness, 0) >> 32) as u32;
        if ordered < self.0.load(Relaxed) {
            self.0.fetch_min(ordered, Relaxed);
        }
    }

    /// None before any island was made.
    pub fn read(&self) -> Option<f32> {
        let ordered = self.0.load(Relaxed);
        (ordered != u32::MAX).then(|| fitness_of(u64::from(ordered) << 32))
    }
}
