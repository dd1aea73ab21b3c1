//! One pool of workers shared by every workload: bounded queues, fair shares, no pre-emption.
//!
//! Worker time is shared by start-time fair queueing (Goyal et al., SIGCOMM 1996): each workload
//! carries the virtual time it has consumed and the one that has had least goes first, so a
//! workload that asks for more than its share queues up itself before it delays the others.
//! Workers spin for a few microseconds and then park; nothing waits for a barrier, so a core taken
//! by a neighbour costs that core and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use crate::arrivals::{Arrival, Mix};
use crate::clock::{Clock, RealClock, Signal};
use crate::operations::Component;
use crate::ring::Queue;

use super::pacer::Executor;
use super::recorder::Recorder;

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

/// Op ordinals of closed loops live in lanes from here on, apart from those of schedules.
const CLOSED_LANE: u64 = 0x8000 << 48;

#[derive(Clone, Copy)]
pub(super) struct Ticket {
    pub arrival: Arrival,
    /// A worker was free and nothing of its workload was waiting when it was admitted.
    pub unqueued: bool,
}

/// A workload as the pool sees it.
pub struct Station {
    pub(super) component: Arc<dyn Component>,
    queue: Queue<Ticket>,
    in_flight_bound: u64,
    overload: Overload,
    mix: Mix,
    /// Busy-waits after each operation for this many times its own duration: a planted fault.
    pub(super) planted_delay: f64,
    pub(super) in_flight: AtomicU64,
    /// Worker time consumed, in nanoseconds of virtual time.
    virtual_ns: AtomicU64,
    /// Running mean of an operation's worker time, charged in advance.
    estimate_ns: AtomicU64,
    /// Phase + 1 while the loop is closed, else 0.
    pub(super) closed_phase: AtomicU32,
    /// Operations that the closed loop keeps in flight.
    pub(super) closed_target: AtomicU64,
    closed_ordinal: AtomicU64,
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
}

impl Station {
    fn new(settings: StationSettings) -> Self {
        let waiting = if settings.overload == Overload::Queue { settings.queue } else { 0 };
        let bound = (settings.max_in_flight + waiting).max(1);
        Self {
            component: settings.component,
            queue: Queue::new(bound),
            in_flight_bound: bound as u64,
            overload: settings.overload,
            mix: settings.mix,
            planted_delay: settings.planted_delay,
            in_flight: AtomicU64::new(0),
            virtual_ns: AtomicU64::new(0),
            estimate_ns: AtomicU64::new(0),
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

    /// Operations waiting for a worker.
    #[must_use]
    pub fn queue_depth(&self) -> u64 {
        self.queue.len() as u64
    }
}

/// What workers, pacer and control share.
pub struct Pool {
    pub stations: Vec<Station>,
    pub clock: Arc<RealClock>,
    pub(super) work: Signal,
    pub(super) parked: AtomicU32,
    /// Workers that are not inside an operation.
    pub(super) free: AtomicU32,
    /// Start tag of the operation picked last.
    virtual_ns: AtomicU64,
    pub(super) stopped: AtomicBool,
    /// Queued operations of phases below this are given up.
    pub(super) abandon_below: AtomicU32,
    /// A workload whose overload policy ended the run: its index + 1.
    aborted: AtomicU32,
}

impl Pool {
    #[must_use]
    pub fn new(stations: Vec<StationSettings>, clock: Arc<RealClock>) -> Self {
        Self {
            stations: stations.into_iter().map(Station::new).collect(),
            clock,
            work: Signal::default(),
            parked: AtomicU32::new(0),
            free: AtomicU32::new(0),
            virtual_ns: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            abandon_below: AtomicU32::new(0),
            aborted: AtomicU32::new(0),
        }
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.work.raise();
    }

    /// Gives up what is still queued of phases below `phase`.
    pub fn abandon_below(&self, phase: u32) {
        self.abandon_below.fetch_max(phase, Ordering::AcqRel);
        self.work.raise();
    }

    /// The workload whose overload policy asked for the end of the run.
    #[must_use]
    pub fn aborted(&self) -> Option<usize> {
        (self.aborted.load(Ordering::Acquire) as usize).checked_sub(1)
    }

    /// Operations admitted and not ended, over all workloads.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.stations.iter().map(Station::in_flight).sum()
    }

    /// Keeps `count` operations of `phase` in flight from now on; more than that run out.
    pub fn close_loop(
        &self,
        workload: u16,
        count: usize,
        phase: u32,
        epoch: u32,
        writer: &Recorder,
    ) {
        let station = &self.stations[usize::from(workload)];
        let target = (count as u64).min(station.in_flight_bound);
        station.closed_target.store(target, Ordering::Release);
        station.closed_phase.store(phase + 1, Ordering::Release);
        let template = Arrival { due: 0, key: 0, phase, epoch, workload, op: 0 };
        for _ in station.in_flight()..target {
            self.ask_again(&template, writer);
        }
    }

    /// Lets a closed loop run dry.
    pub fn open_loop(&self, workload: u16) {
        self.stations[usize::from(workload)].closed_phase.store(0, Ordering::Release);
    }

    /// Admits the next operation of a closed loop after `previous`.
    pub(super) fn ask_again(&self, previous: &Arrival, writer: &Recorder) {
        let station = &self.stations[usize::from(previous.workload)];
        let key = CLOSED_LANE | station.closed_ordinal.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival { due: self.clock.now(), key, op: station.mix.op(key), ..*previous };
        writer.series(arrival.phase, arrival.workload, arrival.op).asked(arrival.due);
        if !self.admit(&arrival) {
            writer.series(arrival.phase, arrival.workload, arrival.op).refused(arrival.due);
        }
    }

    /// Queues an arrival and wakes a worker for it; false where there is no room.
    fn admit(&self, arrival: &Arrival) -> bool {
        let station = &self.stations[usize::from(arrival.workload)];
        let in_flight = station.in_flight.fetch_add(1, Ordering::AcqRel) + 1;
        let waiting = station.queue.len();
        let unqueued = waiting == 0 && self.free.load(Ordering::Relaxed) > 0;
        if in_flight == 1 {
            // A workload that was idle starts level with the others: idling earns no credit.
            let level = self.virtual_ns.load(Ordering::Relaxed);
            station.virtual_ns.fetch_max(level, Ordering::Relaxed);
        }
        let ticket = Ticket { arrival: *arrival, unqueued };
        if in_flight > station.in_flight_bound || station.queue.push(ticket).is_err() {
            station.in_flight.fetch_sub(1, Ordering::AcqRel);
            if station.overload == Overload::Abort {
                self.aborted.store(u32::from(arrival.workload) + 1, Ordering::Release);
            }
            return false;
        }
        station.queue_max.fetch_max(waiting as u64 + 1, Ordering::Relaxed);
        station.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) > 0 {
            self.work.raise_one();
        }
        true
    }

    /// The waiting workload that has had least, by start tag, among those `allowed` lets through.
    pub(super) fn least_served(&self, allowed: impl Fn(usize, u64) -> bool) -> Option<usize> {
        let mut best = None;
        for (index, station) in self.stations.iter().enumerate() {
            if station.queue.is_empty() {
                continue;
            }
            let tag = station.virtual_ns.load(Ordering::Relaxed);
            if allowed(index, tag) && best.is_none_or(|(_, least)| tag < least) {
                best = Some((index, tag));
            }
        }
        best.map(|(index, _)| index)
    }

    /// Takes the next operation of station `index` and charges its expected time in advance.
    pub(super) fn take(&self, index: usize) -> Option<(Ticket, u64, u64)> {
        let station = &self.stations[index];
        let ticket = station.queue.pop()?;
        let estimate = station.estimate_ns.load(Ordering::Relaxed);
        let tag = station.virtual_ns.fetch_add(estimate, Ordering::Relaxed);
        self.virtual_ns.fetch_max(tag, Ordering::Relaxed);
        Some((ticket, tag, estimate))
    }

    /// Takes back the advance charge of an operation that did not run.
    pub(super) fn refund(&self, index: usize, estimate: u64) {
        self.stations[index].virtual_ns.fetch_sub(estimate, Ordering::Relaxed);
    }

    pub(super) fn settle_charge(&self, index: usize, estimate: u64, spent: u64) {
        let station = &self.stations[index];
        station.virtual_ns.fetch_add(spent.wrapping_sub(estimate), Ordering::Relaxed);
        let smoothed = estimate - estimate / 8 + spent / 8;
        station.estimate_ns.store(smoothed, Ordering::Relaxed);
    }

    pub(super) fn anything_waiting(&self) -> bool {
        self.stations.iter().any(|station| !station.queue.is_empty())
    }
}

/// The pool as the pacer's executor.
pub struct PoolExecutor {
    pub pool: Arc<Pool>,
    pub recorder: Arc<Recorder>,
}

impl Executor for PoolExecutor {
    fn hand_over(&mut self, arrival: &Arrival, handed: u64, late_ns: u64) {
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.handed_over(arrival.due, handed, late_ns);
        if !self.pool.admit(arrival) {
            series.refused(handed);
        }
    }
}
