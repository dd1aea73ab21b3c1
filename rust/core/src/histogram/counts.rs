//! The live form of a histogram: one writer records, any reader takes snapshots, nobody waits.
//!
//! Counts only grow and are never reset. A reader that wants an interval subtracts its previous
//! snapshot. The usual recorder has two banks that reader and writer swap; there an idle writer
//! holds its bank back (or must be woken, or waited for) and a sample can fall between the banks.
//! Here a snapshot never depends on the writer's progress, each sample is in exactly one
//! difference, and so differences and merges are exact.

use crate::sync::{AtomicU64, Ordering::Relaxed, zeroed};

use super::layout::{BLOCK, BLOCK_BITS, BUCKETS, HIGHEST_NS, index_of};
use super::{GROUP, Histogram};

/// Latencies being recorded by one thread, in nanoseconds from 0 to [`HIGHEST_NS`].
///
/// One thread records at a time (handing over needs the usual synchronisation): `record` is a
/// relaxed load and store, so a second concurrent writer would lose samples. Readers are free. The
/// 264 KiB are zeroed lazily by the system: only pages that samples fall into become resident.
pub struct Counts {
    buckets: Box<[AtomicU64]>,
    /// Bit b is set before anything of block b can be seen missing by a later snapshot.
    occupied: AtomicU64,
    saturated: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

impl Counts {
    #[must_use]
    pub fn new() -> Self {
        Self { buckets: zeroed(BUCKETS), occupied: AtomicU64::new(0), saturated: AtomicU64::new(0) }
    }

    /// Records one latency; values beyond [`HIGHEST_NS`] count as it, and as saturated.
    #[inline]
    pub fn record(&self, value_ns: u64) {
        self.record_n(value_ns, 1);
    }

    /// Records `count` equal latencies.
    #[inline]
    pub fn record_n(&self, value_ns: u64, count: u64) {
        let mut value_ns = value_ns;
        if value_ns > HIGHEST_NS {
            value_ns = HIGHEST_NS;
            self.saturated.store(self.saturated.load(Relaxed) + count, Relaxed);
        }
        let index = index_of(value_ns);
        let bucket = &self.buckets[index];
        bucket.store(bucket.load(Relaxed) + count, Relaxed);
        let bit = 1 << (index >> BLOCK_BITS);
        let occupied = self.occupied.load(Relaxed);
        if occupied & bit == 0 {
            self.occupied.store(occupied | bit, Relaxed);
        }
    }

    /// What has been recorded so far; wait-free, and never less than an earlier snapshot.
    ///
    /// While the writer goes on, the latest samples may or may not be in it.
    #[must_use]
    pub fn snapshot(&self) -> Histogram {
        let mut snapshot = Histogram::default();
        self.snapshot_into(&mut snapshot);
        snapshot
    }

    /// [`snapshot`](Self::snapshot) into memory that is reused.
    pub fn snapshot_into(&self, snapshot: &mut Histogram) {
        snapshot.clear();
        snapshot.saturated = self.saturated.load(Relaxed);
        let mut blocks = self.occupied.load(Relaxed);
        while blocks != 0 {
            let block = blocks.trailing_zeros() as usize;
            blocks &= blocks - 1;
            let buckets = &self.buckets[block * BLOCK..(block + 1) * BLOCK];
            for (group, cells) in buckets.chunks_exact(GROUP).enumerate() {
                let counts = std::array::from_fn(|cell| cells[cell].load(Relaxed));
                snapshot.push_group(block, group, counts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn snapshots_taken_while_a_thread_records_only_grow_and_end_complete() {
        const SAMPLES: u64 = 400_000;
        let counts = Counts::new();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for sample in 0..SAMPLES {
                    counts.record((sample * sample % 7_000_003) << (sample % 20));
                }
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            let mut previous = counts.snapshot();
            let mut summed = previous.clone();
            loop {
                let last = done.load(std::sync::atomic::Ordering::Acquire);
                let current = counts.snapshot();
                let interval = current.subtract(&previous).expect("a snapshot shrank");
                summed.merge(&interval);
                assert_eq!(summed, current);
                previous = current;
                if last {
                    break;
                }
            }
            assert_eq!(previous.count(), SAMPLES);
        });
    }

    #[test]
    fn values_beyond_an_hour_are_kept_as_an_hour_and_counted() {
        let counts = Counts::new();
        counts.record(HIGHEST_NS);
        counts.record_n(u64::MAX, 3);
        let snapshot = counts.snapshot();
        assert_eq!((snapshot.count(), snapshot.saturated()), (4, 3));
        assert_eq!(index_of(snapshot.max()), index_of(HIGHEST_NS));
    }

    #[test]
    fn a_reused_snapshot_equals_a_fresh_one() {
        let counts = Counts::new();
        let mut reused = Histogram::default();
        for value_ns in [1, 70_000, 3, 1_000_000_000] {
            counts.record(value_ns);
            counts.snapshot_into(&mut reused);
            assert_eq!(reused, counts.snapshot());
        }
    }
}
