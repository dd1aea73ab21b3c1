//! Totals of all workers: an operation of tens of microseconds adds to them once or twice.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What is counted.
#[derive(Debug, Default)]
pub struct Totals {
    /// (node, pattern) pairs found.
    pub matches: AtomicU64,
    /// Bytes written by expansions.
    pub expanded_bytes: AtomicU64,
    pub rewrites: AtomicU64,
}

impl Totals {
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("matches", self.matches.load(Relaxed)),
            ("expanded_bytes", self.expanded_bytes.load(Relaxed)),
            ("rewrites", self.rewrites.load(Relaxed)),
        ]
    }
}
