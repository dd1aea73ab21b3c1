//! A workload as the pool sees it: its queue, its bounds, its share of worker time.

use std::sync::Arc;

use crate::arrivals::{Arrival, Mix};
use crate::clock::Signal;
use crate::operations::Component;
use crate::queue::Queue;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// What happens to an arrival beyond `max_in_flight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// It is rejected.
    Drop,
    /// It waits in the queue, and is rejected when that is full.
    Queue,
    /// It is rejected and the run is told to end.
    Abort,
}

/// Worker time assumed of a workload's first operation.
pub(super) const UNKNOWN_NS: u64 = 10_000_000;

#[derive(Clone, Copy)]
pub(super) struct Ticket {
    pub arrival: Arrival,
    /// A worker was free and nothing of its workload was waiting when it was admitted.
    pub unqueued: bool,
}

/// A workload as the pool sees it.
pub struct Station {
    pub(super) component: Arc<dyn Component>,
    pub(super) queue: Queue<Ticket>,
    pub(super) in_flight_bound: u64,
    pub(super) overload: Overload,
    pub(super) mix: Mix,
    /// Operations that the component does in one go.
    pub(super) batch_max: usize,
    /// Busy-waits after each operation for this many times its own duration: a planted fault.
    pub(super) planted_delay: f64,
    /// Its operations are run outside the pool, by the owner of its `Drain`.
    pub(super) hosted: bool,
    /// Raised for a drain that is `listening`.
    pub(super) arrived: Signal,
    pub(super) listening: AtomicBool,
    pub(super) in_flight: AtomicU64,
    /// Worker time consumed, in nanoseconds of virtual time.
    pub(super) virtual_ns: AtomicU64,
    /// Running mean of an operation's worker time, charged in advance.
    pub(super) estimate_ns: AtomicU64,
    /// The longest that an operation has taken a worker, forgotten slowly.
    pub(super) longest_ns: AtomicU64,
    /// Phase + 1 while the loop is closed, else 0.
    pub(super) closed_phase: AtomicU32,
    /// Operations that the closed loop keeps in flight.
    pub(super) closed_target: AtomicU64,
    pub(super) closed_ordinal: AtomicU64,
    pub queue_max: AtomicU64,
    pub in_flight_max: AtomicU64,
}

/// What a `Station` is made from.
pub struct StationSettings {
    pub component: Arc<dyn Component>,
    pub mix: Mix,
    pub max_in_flight: usize,
    pub queue: usize,
    pub overload: Overload,
    pub planted_delay: f64,
    pub hosted: bool,
}

impl Station {
    pub(super) fn new(settings: StationSettings) -> Self {
        let waiting = if settings.overload == Overload::Queue { settings.queue } else { 0 };
        let bound = (settings.max_in_flight + waiting).max(1);
        Self {
            batch_max: settings.component.batch_max(),
            component: settings.component,
            queue: Queue::new(bound),
            in_flight_bound: bound as u64,
            overload: settings.overload,
            mix: settings.mix,
            planted_delay: settings.planted_delay,
            hosted: settings.hosted,
            arrived: Signal::default(),
            listening: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            virtual_ns: AtomicU64::new(0),
            estimate_ns: AtomicU64::new(0),
            longest_ns: AtomicU64::new(if settings.hosted { 0 } else { UNKNOWN_NS }),
            closed_phase: AtomicU32::new(0),
            closed_target: AtomicU64::new(0),
            closed_ordinal: AtomicU64::new(0),
            queue_max: AtomicU64::new(0),
            in_flight_max: AtomicU64::new(0),
        }
    }

    /// Operations admitted and not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Whether another operation may be in flight beside those that are and `uncounted` more.
    pub(super) fn has_room_beside(&self, uncounted: usize) -> bool {
        self.in_flight.load(Ordering::Relaxed) + (uncounted as u64) < self.in_flight_bound
    }

    /// Whether something waits that a worker of the pool may take.
    pub(super) fn waits_for_worker(&self) -> bool {
        !self.hosted && !self.queue.is_empty()
    }

    /// Wakes the drain, if it sleeps, after an operation was queued.
    pub(super) fn announce(&self) {
        fence(Ordering::SeqCst);
        if self.listening.load(Ordering::Relaxed) {
            self.arrived.raise_one();
        }
    }

    /// Sleeps until an operation is announced, for at most `park_ns`, unless one is queued or
    /// `ended` says that none will be.
    pub(super) fn listen(&self, ended: impl Fn() -> bool, park_ns: u64) {
        let seen = self.arrived.value();
        self.listening.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() && !ended() {
            self.arrived.sleep(seen, park_ns);
        }
        self.listening.store(false, Ordering::Relaxed);
    }

    /// Operations waiting for a worker.
    #[must_use]
    pub fn queue_depth(&self) -> u64 {
        self.queue.len() as u64
    }
}
