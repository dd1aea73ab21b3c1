//! The pacer's seat: who paces, for how long, and who takes over.
//!
//! Where no core can be kept for the pacer, pacing is a seat that the workers take in turns (the
//! leader/followers pattern): an idle worker waits for the next intended start, hands over, leaves
//! the seat and runs what it handed over, and its deputy, which was awake by then, sits down; while
//! all are busy, each hands over what has come due whenever an operation pauses or ends. So the
//! generator never competes with what it measures, and no arrival waits for a thread to wake that
//! another could have taken. Nor for one whose core the kernel has taken: the schedule is locked
//! for a hand-over only, never for the wait before it, and a deputy sees what is overdue.

use std::sync::{Arc, TryLockError};

use crate::arrivals::{Arrival, FOREVER, Timetable};
use crate::clock::Clock;
use crate::queue::Padded;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, fence};

use super::lock;
use super::pacer::{AT_ONCE, Executor, lateness_ns, serve};
use super::pool::Pool;
use super::recorder::Recorder;
use super::station::{Station, Ticket};

/// A worker that leaves the seat for less than this needs no deputy: waking costs more.
pub(super) const SHORT_NS: u64 = 2_000;
/// What waking may take: a deputy is awake this long before an arrival is due.
pub(super) const WAKING_NS: u64 = 100_000;
/// A deputy hands over what has been due for this long: whoever waits in the seat would have begun.
const OVERDUE_NS: u64 = 1_000;

/// Operations that a worker that paces keeps for itself at most, without a queue in between.
pub(super) const OWN_MAX: usize = 64;
/// A worker that catches up between operations and cannot do so returns no sooner, and hands over
/// for as long as it was away: a schedule beyond the machine's means takes half of it, no more.
const CATCH_UP_NS: u64 = 500;

/// What only the one in the seat touches: the schedule, and where hand-overs are written down.
struct Desk {
    table: Timetable,
    recorder: Arc<Recorder>,
    /// Scratch of a hand-over.
    arrived: Vec<Ticket>,
}

/// The pacer's place.
pub struct Seat {
    /// Apart from what a deputy reads while another waits to hand over.
    desk: Padded<Mutex<Desk>>,
    /// The workers pace in turns; else a thread of its own keeps the seat.
    shared: bool,
    /// A worker waits in the seat.
    taken: AtomicBool,
    /// When the seat was left last, and whether something had come due and was not handed over.
    left_at: AtomicU64,
    behind: AtomicBool,
    /// An idle worker is the deputy of the one in the seat.
    deputy: AtomicBool,
}

impl Seat {
    #[must_use]
    pub fn new(table: Timetable, recorder: Arc<Recorder>, shared: bool) -> Self {
        let desk = Desk { table, recorder, arrived: Vec::with_capacity(AT_ONCE) };
        Self {
            desk: Padded(Mutex::new(desk)),
            shared,
            taken: AtomicBool::new(false),
            left_at: AtomicU64::new(0),
            behind: AtomicBool::new(false),
            deputy: AtomicBool::new(false),
        }
    }

    /// Digest of the schedule that was issued; waits for whoever paces.
    #[must_use]
    pub fn hash(&self) -> u64 {
        lock(&self.desk.0).table.hash()
    }

    /// Whether the workers pace in turns.
    pub(super) fn shared(&self) -> bool {
        self.shared
    }

    /// Whether a worker waits there.
    pub(super) fn taken(&self) -> bool {
        self.taken.load(Ordering::SeqCst)
    }

    fn try_sit(&self) -> Option<MutexGuard<'_, Desk>> {
        match self.desk.0.try_lock() {
            Ok(desk) => Some(desk),
            Err(TryLockError::Poisoned(desk)) => Some(desk.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Pool {
    /// Whether the workers share the seat, something is planned and nobody waits there.
    pub(super) fn seat_vacant(&self) -> bool {
        self.seat.shared && !self.seat.taken() && self.control.horizon() != FOREVER
    }

    /// Makes the caller the deputy, where one is wanted and there is none.
    pub(super) fn deputise(&self) -> bool {
        self.wants_deputy() && !self.seat.deputy.swap(true, Ordering::Relaxed)
    }

    /// The deputy is one no longer.
    pub(super) fn dismiss_deputy(&self) {
        self.seat.deputy.store(false, Ordering::Relaxed);
    }

    /// The workers share the seat, something is planned, and leaving for an operation takes long.
    fn wants_deputy(&self) -> bool {
        self.seat.shared && self.control.horizon() != FOREVER && self.longest_ns() >= SHORT_NS
    }

    fn longest_ns(&self) -> u64 {
        let longest = self.stations.iter().map(|each| each.longest_ns.load(Ordering::Relaxed));
        longest.max().unwrap_or(0)
    }

    /// Paces with a thread that does nothing else, until the control says stop.
    pub(super) fn pace(&self) {
        self.serve_from(&mut lock(&self.seat.desk.0), Stay::Always, &mut Vec::new());
    }

    /// Takes the seat if it is vacant, and paces until there is an operation to run. What the
    /// caller may run at once goes into `own`, which is empty and has room for `OWN_MAX`.
    pub(super) fn lead(&self, own: &mut Vec<Ticket>) {
        if self.seat.taken.swap(true, Ordering::SeqCst) {
            return;
        }
        self.call_deputy();
        while !self.control.stopped() {
            // Before the queues are looked at: whoever fills one raises the signal afterwards.
            let seen = self.control.signal.value();
            // Also where nothing is: the schedule is in this core's caches when something is due.
            self.hand_over_due(own);
            let due = self.control.horizon();
            if due == FOREVER || !own.is_empty() || self.anything_waiting() {
                break;
            }
            self.clock.wait_until(due, &self.control.signal, seen);
        }
        self.seat.taken.store(false, Ordering::SeqCst);
        self.call_deputy();
    }

    /// Whether something has been due for so long that the one in the seat must have been kept
    /// from handing it over.
    pub(super) fn overdue(&self, now: u64) -> bool {
        self.seat.taken() && self.control.horizon().saturating_add(OVERDUE_NS) <= now
    }

    /// Hands over, in place of the one in the seat, what is overdue; as `lead` otherwise.
    pub(super) fn relieve(&self, own: &mut Vec<Ticket>) {
        self.hand_over_due(own);
        self.call_deputy();
    }

    /// Hands over what has come due, unless another thread is at it.
    fn hand_over_due(&self, own: &mut Vec<Ticket>) {
        if let Some(mut desk) = self.seat.try_sit() {
            self.serve_from(&mut desk, Stay::UntilWork, own);
        }
    }

    /// Hands over what has come due by `now`, from inside an operation; whether that took time.
    #[inline]
    pub(super) fn catch_up(&self, now: u64) -> bool {
        if !self.seat.shared || self.control.horizon() > now {
            return false;
        }
        let away_ns = now.saturating_sub(self.seat.left_at.load(Ordering::Relaxed));
        if away_ns < CATCH_UP_NS && self.seat.behind.load(Ordering::Relaxed) {
            return false;
        }
        if let Some(mut desk) = self.seat.try_sit() {
            let stay = Stay::Until(now + away_ns);
            self.serve_from(&mut desk, stay, &mut Vec::new());
            drop(desk);
            self.call_deputy();
        }
        true
    }

    fn serve_from(&self, desk: &mut Desk, stay: Stay, own: &mut Vec<Ticket>) {
        let Desk { table, recorder, arrived } = desk;
        let queued = stay != Stay::UntilWork || self.anything_waiting();
        let behind = self.seat.behind.load(Ordering::Relaxed);
        let (handed, excused) = (Handed::default(), stay != Stay::Always && !behind);
        let mut executor =
            PoolExecutor { pool: self, recorder, stay, own, arrived, queued, handed, excused };
        serve(&*self.clock, table, &self.control, &mut executor, FOREVER);
        let handed_at = executor.handed.at;
        self.seat.behind.store(table.next_due() <= handed_at, Ordering::Relaxed);
        self.seat.left_at.store(self.clock.now(), Ordering::Relaxed);
    }

    /// Wakes a parked worker to be the deputy, or to take the seat, where there is none.
    fn call_deputy(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) > 0
            && !self.seat.deputy.load(Ordering::Relaxed)
            && self.wants_deputy()
        {
            self.work.raise_one();
        }
    }

    /// Wakes a parked worker, if there is one, after the pacer queued work.
    fn wake_parked(&self) {
        // As `wake_one`.
        if self.parked.load(Ordering::SeqCst) > 0 {
            self.work.raise_one();
        }
    }
}

/// For how long a thread that paces keeps the seat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    Always,
    /// Until there is an operation to run, or nothing due.
    UntilWork,
    /// Only to hand over what has come due, and only until this moment.
    Until(u64),
}

/// What has been handed over in one sitting.
#[derive(Default)]
struct Handed {
    /// When the last ones were.
    at: u64,
    count: usize,
    /// The executor was not ready before.
    ready: u64,
    /// Worker time that they may take.
    left_ns: u64,
    /// How many of the pacer's own are counted as in flight.
    counted: usize,
}

/// The pool as the executor of whoever paces.
struct PoolExecutor<'a> {
    pool: &'a Pool,
    recorder: &'a Recorder,
    stay: Stay,
    /// What the one that paces will run itself.
    own: &'a mut Vec<Ticket>,
    /// Handed over for others to run, and not queued yet.
    arrived: &'a mut Vec<Ticket>,
    /// Something waits in a queue, and its turn comes first.
    queued: bool,
    handed: Handed,
    /// Time in which every worker was inside an operation is queueing. A thread that only paces
    /// has no excuse, nor has what was left behind by the last sitting.
    excused: bool,
}

impl PoolExecutor<'_> {
    /// Whether the pacer may run the next operation of `station` itself: it is the first, or all of
    /// them together take less time than another worker to wake.
    #[inline]
    fn keeps(&self, station: &Station, longest_ns: u64) -> bool {
        let kept = self.own.len();
        !self.queued
            && !station.hosted
            && (kept == 0 || kept < OWN_MAX && self.handed.left_ns + longest_ns <= SHORT_NS)
            && station.has_room_beside(kept - self.handed.counted)
    }

    fn count_own(&mut self) {
        self.pool.count_own(&self.own[self.handed.counted..]);
        self.handed.counted = self.own.len();
    }

    /// Queues what was handed over for others to run.
    fn queue_arrived(&mut self) {
        let Handed { at, ready, .. } = self.handed;
        for group in self.arrived.chunk_by_mut(Ticket::of_one_workload) {
            let workload = group[0].arrival.workload;
            let queued = self.pool.admit(group);
            for Ticket { arrival, .. } in &group[queued..] {
                let late_ns = lateness_ns(arrival.due, at, ready);
                let series = self.recorder.series(arrival.phase, workload, arrival.op);
                series.refused(arrival.due + late_ns, 1);
            }
            let station = &self.pool.stations[usize::from(workload)];
            if station.hosted {
                station.announce();
                continue;
            }
            let longest_ns = station.longest_ns.load(Ordering::Relaxed);
            for _ in 0..queued {
                // A worker that paces runs short ones itself before another is awake.
                if self.stay == Stay::Always || self.handed.left_ns >= SHORT_NS {
                    self.pool.wake_parked();
                }
                self.handed.left_ns += longest_ns;
            }
        }
        self.arrived.clear();
    }
}

impl Executor for PoolExecutor<'_> {
    #[inline]
    fn hand_over(&mut self, arrival: &Arrival, handed: u64, late_ns: u64) {
        self.handed.at = handed;
        self.handed.count += 1;
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.handed_over(arrival.due, late_ns);
        let station = &self.pool.stations[usize::from(arrival.workload)];
        let longest_ns = station.longest_ns.load(Ordering::Relaxed);
        if self.keeps(station, longest_ns) {
            let unqueued = self.own.is_empty() && self.pool.busy_until() <= arrival.due;
            self.own.push(Ticket { arrival: *arrival, count: 1, unqueued });
            self.handed.left_ns += longest_ns;
            return;
        }
        self.queued |= !station.hosted;
        self.arrived.push(Ticket::one(*arrival));
    }

    fn busy_until(&mut self) -> u64 {
        self.handed.ready = if self.excused { self.pool.busy_until() } else { 0 };
        self.handed.ready
    }

    fn leaves(&mut self) -> bool {
        self.stay != Stay::Always
    }

    fn interrupts(&mut self, handed: u64) -> bool {
        // Before the horizon moves on: whoever sees nothing more due sees them in flight.
        self.count_own();
        self.queue_arrived();
        match self.stay {
            Stay::Always => false,
            Stay::UntilWork => self.handed.count >= OWN_MAX,
            Stay::Until(moment) => handed >= moment,
        }
    }
}

#[cfg(test)]
mod tests;
