//! Totals over all workers of a component: each worker writes only its own, so that counting
//! contends for nothing.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most things that a component counts: what fits into two cache lines.
const MOST: usize = 16;

/// What a component counts.
pub trait Total: Copy {
    /// By index, no more than `MOST`.
    const NAMES: &'static [&'static str];

    fn index(self) -> usize;
}

/// One worker's totals, on cache lines of their own.
#[repr(align(128))]
pub struct Own<T> {
    totals: [AtomicU64; MOST],
    of: PhantomData<fn(T)>,
}

impl<T: Total> Own<T> {
    fn new() -> Self {
        const { assert!(T::NAMES.len() <= MOST) };
        Self { totals: [const { AtomicU64::new(0) }; MOST], of: PhantomData }
    }

    #[inline]
    pub fn add(&self, total: T, amount: u64) {
        self.add_at(total.index(), amount);
    }

    /// A load and a store suffice: there is one writer.
    #[inline]
    pub fn add_at(&self, index: usize, amount: u64) {
        let total = &self.totals[index];
        total.store(total.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    fn add_to(&self, sums: &mut [u64; MOST]) {
        for (sum, total) in sums.iter_mut().zip(&self.totals) {
            *sum = sum.wrapping_add(total.load(Ordering::Relaxed));
        }
    }
}

struct Ledger<T> {
    living: Vec<Arc<Own<T>>>,
    retired: [u64; MOST],
}

/// The totals of all workers of a component, those that ended included.
pub struct Counters<T>(Mutex<Ledger<T>>);

impl<T> Default for Counters<T> {
    fn default() -> Self {
        Self(Mutex::new(Ledger { living: Vec::new(), retired: [0; MOST] }))
    }
}

impl<T: Total> Counters<T> {
    fn ledger(&self) -> MutexGuard<'_, Ledger<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Totals for one more worker.
    pub fn enrol(&self) -> Arc<Own<T>> {
        let own = Arc::new(Own::new());
        self.ledger().living.push(Arc::clone(&own));
        own
    }

    /// Keeps the totals of a worker that ends.
    pub fn retire(&self, own: &Arc<Own<T>>) {
        let mut ledger = self.ledger();
        own.add_to(&mut ledger.retired);
        ledger.living.retain(|other| !Arc::ptr_eq(other, own));
    }

    /// All sums by name, in the order of their indices.
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let ledger = self.ledger();
        let mut sums = ledger.retired;
        ledger.living.iter().for_each(|own| own.add_to(&mut sums));
        T::NAMES.iter().copied().zip(sums).collect()
    }
}
