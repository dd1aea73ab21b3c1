//! A workload as the pool sees it: its queue, its bounds, its share of worker time.

use std::sync::Arc;

use crate::arrivals::{Arrival, Mix};
use crate::clock::Signal;
use crate::operations::{Component, Request};
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

/// An operation admitted; or a run of them that a closed loop asked for at once, alike but for
/// their keys, which follow each other.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    /// The first of them.
    pub arrival: Arrival,
    /// How many there are; more than one only where the component takes batches.
    pub count: u32,
    /// A worker was free and nothing of its workload was waiting when it was admitted.
    pub unqueued: bool,
}

impl Ticket {
    pub(super) fn one(arrival: Arrival) -> Self {
        Self { arrival, count: 1, unqueued: false }
    }

    pub(super) fn of_one_workload(left: &Self, right: &Self) -> bool {
        left.arrival.workload == right.arrival.workload
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = Request> {
        let Arrival { op, key, .. } = self.arrival;
        (key..key + u64::from(self.count)).map(move |key| Request { op, key })
    }
}

/// A workload as the pool sees it.
pub struct Station {
    pub(super) component: Arc<dyn Component>,
    queue: Queue<Ticket>,
    /// Queued operations beyond one a ticket.
    in_runs: AtomicU64,
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
            in_runs: AtomicU64::new(0),
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

    /// Counts up to `count` operations more as in flight; returns how many were so before, and how
    /// many of these may be.
    pub(super) fn reserve(&self, count: usize) -> (u64, usize) {
        let mut before = self.in_flight.load(Ordering::Relaxed);
        loop {
            let room = (count as u64).min(self.in_flight_bound.saturating_sub(before));
            let after = before + room;
            match self.in_flight.compare_exchange_weak(
                before,
                after,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return (before, room as usize),
                Err(current) => before = current,
            }
        }
    }

    /// Whether another operation may be in flight beside those that are and `uncounted` more.
    pub(super) fn has_room_beside(&self, uncounted: usize) -> bool {
        self.in_flight.load(Ordering::Relaxed) + (uncounted as u64) < self.in_flight_bound
    }

    /// Whether something waits that a worker of the pool may take.
    pub(super) fn waits_for_worker(&self) -> bool {
        !self.hosted && self.waits()
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
        if !self.waits() && !ended() {
            self.arrived.sleep(seen, park_ns);
        }
        self.listening.store(false, Ordering::Relaxed);
    }

    /// Whether an operation waits.
    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Operations waiting for a worker.
    #[must_use]
    pub fn queue_depth(&self) -> u64 {
        self.queue.len() as u64 + self.in_runs.load(Ordering::Relaxed)
    }

    /// Operations that some of its tickets stand for.
    #[inline]
    pub(super) fn operations(&self, tickets: &[Ticket]) -> usize {
        match self.batch_max {
            1 => tickets.len(),
            _ => tickets.iter().map(|ticket| ticket.count as usize).sum(),
        }
    }

    /// How many of `tickets` make a batch; one at the least.
    #[inline]
    pub(super) fn batch_length(&self, tickets: &[Ticket]) -> usize {
        if self.batch_max == 1 {
            return 1;
        }
        let mut total = 0;
        let fits = |ticket: &&Ticket| {
            total += ticket.count as usize;
            total <= self.batch_max
        };
        tickets.iter().take_while(fits).count().max(1)
    }

    /// Queues as many of `tickets` as there is room for; returns how many.
    pub(super) fn push(&self, tickets: &[Ticket]) -> usize {
        let beyond = self.operations(tickets) - tickets.len();
        if beyond > 0 {
            self.in_runs.fetch_add(beyond as u64, Ordering::Relaxed);
        }
        let queued = self.queue.push_many(tickets);
        self.left_runs(&tickets[queued..]);
        queued
    }

    /// Takes the oldest ticket.
    pub(super) fn pop(&self) -> Option<Ticket> {
        let ticket = self.queue.pop()?;
        self.left_runs(&[ticket]);
        Some(ticket)
    }

    /// Takes the oldest tickets, for as many as `most` operations or a few more.
    pub(super) fn pop_many(&self, into: &mut Vec<Ticket>, most: usize) {
        let first = into.len();
        if self.in_runs.load(Ordering::Relaxed) == 0 {
            self.queue.pop_many(into, most);
            self.left_runs(&into[first..]);
            return;
        }
        let mut left = most as u64;
        while left > 0 {
            let Some(ticket) = self.pop() else { break };
            left = left.saturating_sub(u64::from(ticket.count));
            into.push(ticket);
        }
    }

    fn left_runs(&self, tickets: &[Ticket]) {
        let beyond = self.operations(tickets) - tickets.len();
        if beyond > 0 {
            self.in_runs.fetch_sub(beyond as u64, Ordering::Relaxed);
        }
    }
}
