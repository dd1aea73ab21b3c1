//! Totals over all workers: each writes only its own, so that counting contends for nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is counted, in the order of `Total`.
const NAMES: [&str; 9] = [
    "parses",
    "commands",
    "tokens",
    "feedback_received",
    "feedback_stored",
    "feedback_forgotten",
    "feedback_corrections",
    "checked_parses",
    "checked_parses_right",
];

#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Total {
    Parses,
    Commands,
    Tokens,
    Received,
    Stored,
    Forgotten,
    /// Feedback that the classifier would have decided otherwise.
    Corrections,
    CheckedParses,
    /// Of those the ones with the right intent, or unknown as it is.
    CheckedRight,
}

/// One worker's totals, on cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
pub struct Own([AtomicU64; NAMES.len()]);

impl Own {
    /// A load and a store suffice: there is one writer.
    #[inline]
    pub fn add(&self, total: Total, amount: u64) {
        let total = &self.0[total as usize];
        total.store(total.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// `count` of what was stored is forgotten.
    pub fn forget(&self, count: u64) {
        self.add(Total::Stored, count.wrapping_neg());
        self.add(Total::Forgotten, count);
    }

    fn add_to(&self, sums: &mut [u64; NAMES.len()]) {
        for (sum, total) in sums.iter_mut().zip(&self.0) {
            *sum = sum.wrapping_add(total.load(Ordering::Relaxed));
        }
    }
}

#[derive(Default)]
struct Ledger {
    living: Vec<Arc<Own>>,
    retired: [u64; NAMES.len()],
}

/// The totals of all workers, those that ended included.
#[derive(Default)]
pub struct Counters(Mutex<Ledger>);

impl Counters {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn enrol(&self) -> Arc<Own> {
        let own = Arc::new(Own::default());
        self.ledger().living.push(Arc::clone(&own));
        own
    }

    pub fn retire(&self, own: &Arc<Own>) {
        let mut ledger = self.ledger();
        own.add_to(&mut ledger.retired);
        ledger.living.retain(|other| !Arc::ptr_eq(other, own));
    }

    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let ledger = self.ledger();
        let mut sums = ledger.retired;
        ledger.living.iter().for_each(|own| own.add_to(&mut sums));
        NAMES.into_iter().zip(sums).collect()
    }
}
