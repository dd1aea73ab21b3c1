//! Shares of a build between threads, and the wish to give it up.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::operations::Progress;

/// `count` items in `threads` (at least one) contiguous shares, the first ones never smaller.
pub fn shares(count: usize, threads: usize) -> Vec<Range<usize>> {
    let share = count.div_ceil(threads.max(1));
    (0..threads.max(1))
        .map(|part| (part * share).min(count)..((part + 1) * share).min(count))
        .collect()
}

/// Whether a build is still wanted, asked by any of its threads.
pub struct Stop<'a> {
    progress: Progress<'a>,
    cancelled: AtomicBool,
}

impl<'a> Stop<'a> {
    pub fn new(progress: Progress<'a>) -> Self {
        Self { progress, cancelled: AtomicBool::new(false) }
    }

    /// Reports progress; false once anyone wished to stop.
    pub fn go_on(&self, stage: &str, done: f64) -> bool {
        if !self.cancelled() && !(self.progress)(stage, done) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        !self.cancelled()
    }

    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
