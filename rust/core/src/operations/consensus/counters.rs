//! Totals over all workers: each worker writes only its own, so that counting contends for nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is counted, in the order of `Total`.
pub const NAMES: [&str; TOTALS] = [
    "decisions",
    "undecided",
    "tallied",
    "duplicates",
    "unauthorised",
    "unknown_proposal",
    "unknown_value",
    "wrong_round",
    "malformed",
    "equivocations",
    "elections",
    "oracle_checks",
    "verify_ns",
];
const TOTALS: usize = 13;

#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Total {
    Decisions,
    Undecided,
    /// The first of the seven classes of votes.
    Classes,
    Equivocations = 9,
    Elections,
    OracleChecks,
    VerifyNs,
}

/// One worker's totals, on cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
pub struct Own {
    totals: [AtomicU64; TOTALS],
}

impl Own {
    pub fn add(&self, total: Total, amount: u64) {
        self.add_at(total as usize, amount);
    }

    pub fn add_classes(&self, classes: [u64; 7]) {
        for (offset, count) in classes.into_iter().enumerate() {
            self.add_at(Total::Classes as usize + offset, count);
        }
    }

    /// A load and a store suffice: there is one writer.
    fn add_at(&self, index: usize, amount: u64) {
        let total = &self.totals[index];
        total.store(total.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    fn read(&self) -> [u64; TOTALS] {
        std::array::from_fn(|index| self.totals[index].load(Ordering::Relaxed))
    }
}

#[derive(Default)]
struct Ledger {
    living: Vec<Arc<Own>>,
    retired: [u64; TOTALS],
}

/// The totals of all workers of a component, those that ended included.
#[derive(Default)]
pub struct Counters {
    ledger: Mutex<Ledger>,
}

impl Counters {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enrol(&self) -> Arc<Own> {
        let own = Arc::new(Own::default());
        self.ledger().living.push(Arc::clone(&own));
        own
    }

    pub fn retire(&self, own: &Arc<Own>) {
        let mut ledger = self.ledger();
        for (sum, value) in ledger.retired.iter_mut().zip(own.read()) {
            *sum = sum.wrapping_add(value);
        }
        ledger.living.retain(|other| !Arc::ptr_eq(other, own));
    }

    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let ledger = self.ledger();
        let mut sums = ledger.retired;
        for own in &ledger.living {
            for (sum, value) in sums.iter_mut().zip(own.read()) {
                *sum = sum.wrapping_add(value);
            }
        }
        NAMES.into_iter().zip(sums).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_workers_that_ended_are_kept() {
        let counters = Counters::default();
        let (first, second) = (counters.enrol(), counters.enrol());
        first.add(Total::Decisions, 3);
        second.add(Total::Decisions, 4);
        second.add_classes([1, 2, 3, 4, 5, 6, 7]);
        second.add(Total::VerifyNs, 9);
        counters.retire(&first);
        let read = counters.read();
        assert_eq!(read[0], ("decisions", 7));
        assert_eq!(read[2], ("tallied", 1));
        assert_eq!(read[8], ("malformed", 7));
        assert_eq!(read[12], ("verify_ns", 9));
    }
}
