//! All swarms of a component, each behind a lock of its own that workers rarely meet at.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::kernels::Kernels;
use super::parameters::Parameters;
use super::swarm::{Ledger, Swarm};

/// Keys from here on are the first agents', apart from those of operations.
const FIRST_KEYS: u64 = u64::MAX - (1 << 16);

/// On cache lines of its own, the next one's included, which the hardware fetches with it.
#[repr(align(128))]
struct Berth(Mutex<Swarm>);

pub struct Population(Vec<Berth>);

impl Population {
    /// Every swarm filled to its target.
    pub fn new(
        parameters: &Parameters,
        seed: u64,
        kernels: Kernels,
        progress: impl Fn(f64) -> bool,
    ) -> Option<Self> {
        let (slots, swarms) = (parameters.slots(), parameters.swarms);
        let mut berths = Vec::with_capacity(swarms as usize);
        for index in 0..swarms {
            let first_slot = u64::from(index) * slots as u64;
            let mut swarm = Swarm::new(slots, parameters.band(), seed, first_slot, kernels);
            swarm.populate(FIRST_KEYS + u64::from(index));
            berths.push(Berth(Mutex::new(swarm)));
            if !progress(f64::from(index + 1) / f64::from(swarms)) {
                return None;
            }
        }
        Some(Self(berths))
    }

    pub fn swarms(&self) -> usize {
        self.0.len()
    }

    /// Waits for a swarm's lock: as long as a step of it, at most.
    pub fn lock(&self, index: usize) -> MutexGuard<'_, Swarm> {
        self.0[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn try_lock(&self, index: usize) -> Option<MutexGuard<'_, Swarm>> {
        match self.0[index].0.try_lock() {
            Ok(swarm) => Some(swarm),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The swarm `first`, or the next one that nobody else is at.
    pub fn claim(&self, first: usize) -> (usize, MutexGuard<'_, Swarm>) {
        let swarms = self.swarms();
        for index in (first..swarms).chain(0..first) {
            if let Some(swarm) = self.try_lock(index) {
                return (index, swarm);
            }
        }
        (first, self.lock(first))
    }

    /// The sums of all ledgers; swarms change while others are read.
    pub fn ledger(&self) -> Ledger {
        let mut sum = Ledger::default();
        for index in 0..self.swarms() {
            let one = self.lock(index).ledger;
            sum.spawned += one.spawned;
            sum.destroyed += one.destroyed;
            sum.replaced += one.replaced;
            sum.expired += one.expired;
            sum.live += one.live;
            sum.retired += one.retired;
            sum.steps += one.steps;
            sum.stepped += one.stepped;
            sum.ticks += one.ticks;
            sum.traffic.sent += one.traffic.sent;
            sum.traffic.read += one.traffic.read;
            sum.dead += one.dead;
        }
        sum
    }
}
