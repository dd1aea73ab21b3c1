//! The pacer's seat: who paces, for how long, and who takes over.
//!
//! Where no core can be kept for the pacer, pacing is a seat that the workers take in turns (the
//! leader/followers pattern): an idle worker waits for the next intended start, hands over, leaves
//! the seat and runs what it handed over, and its deputy, which was awake by then, sits down; while
//! all are busy, each hands over what has come due whenever an operation pauses or ends. So the
//! generator never competes with what it measures, and no arrival waits for a thread to wake that
//! another could have taken.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use crate::arrivals::{Arrival, FOREVER, Timetable};

use super::lock;
use super::pacer::{Executor, serve};
use super::pool::Pool;
use super::recorder::Recorder;

/// A worker that leaves the seat for less than this needs no deputy: waking costs more.
const SHORT_NS: u64 = 2_000;
/// What waking may take: a deputy is awake this long before an arrival is due.
pub(super) const WAKING_NS: u64 = 100_000;

/// What only the one in the seat touches: the schedule, and where hand-overs are written down.
struct Desk {
    table: Timetable,
    recorder: Arc<Recorder>,
}

/// The pacer's place.
pub struct Seat {
    desk: Mutex<Desk>,
    /// The workers pace in turns; else a thread of its own keeps the seat.
    shared: bool,
    /// A worker waits in the seat.
    taken: AtomicBool,
    /// An idle worker is the deputy of the one in the seat.
    deputy: AtomicBool,
}

impl Seat {
    #[must_use]
    pub fn new(table: Timetable, recorder: Arc<Recorder>, shared: bool) -> Self {
        Self {
            desk: Mutex::new(Desk { table, recorder }),
            shared,
            taken: AtomicBool::new(false),
            deputy: AtomicBool::new(false),
        }
    }

    /// Digest of the schedule that was issued; waits for whoever paces.
    #[must_use]
    pub fn hash(&self) -> u64 {
        lock(&self.desk).table.hash()
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
        match self.desk.try_lock() {
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
        self.serve_from(&mut lock(&self.seat.desk), Stay::Always);
    }

    /// Takes the seat if it is vacant, and paces until there is an operation to run.
    pub(super) fn lead(&self) {
        let Some(mut desk) = self.seat.try_sit() else { return };
        self.seat.taken.store(true, Ordering::SeqCst);
        self.call_deputy();
        self.serve_from(&mut desk, Stay::UntilWork);
        self.seat.taken.store(false, Ordering::SeqCst);
        drop(desk);
        self.call_deputy();
    }

    /// Hands over what has come due by `now`, from inside an operation; whether that took time.
    #[inline]
    pub(super) fn catch_up(&self, now: u64) -> bool {
        if !self.seat.shared || self.control.horizon() > now {
            return false;
        }
        if let Some(mut desk) = self.seat.try_sit() {
            self.serve_from(&mut desk, Stay::Never);
            drop(desk);
            self.call_deputy();
        }
        true
    }

    fn serve_from(&self, desk: &mut Desk, stay: Stay) {
        let Desk { table, recorder } = desk;
        let mut executor = PoolExecutor { pool: self, recorder, stay, left_ns: 0 };
        serve(&*self.clock, table, &self.control, &mut executor, FOREVER);
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
    /// Until an operation is waiting, or nothing is planned.
    UntilWork,
    /// Only to hand over what has come due.
    Never,
}

/// The pool as the executor of whoever paces.
struct PoolExecutor<'a> {
    pool: &'a Pool,
    recorder: &'a Recorder,
    stay: Stay,
    /// Worker time that what was handed over may take.
    left_ns: u64,
}

impl Executor for PoolExecutor<'_> {
    fn hand_over(&mut self, arrival: &Arrival, _: u64, late_ns: u64) {
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.handed_over(arrival.due, late_ns);
        if !self.pool.admit(arrival) {
            series.refused(arrival.due + late_ns);
            return;
        }
        let station = &self.pool.stations[usize::from(arrival.workload)];
        if station.hosted {
            station.announce();
            return;
        }
        // A worker that paces runs the first one itself, and short ones before another is awake.
        if self.stay == Stay::Always || self.left_ns >= SHORT_NS {
            self.pool.wake_parked();
        }
        self.left_ns += station.longest_ns.load(Ordering::Relaxed);
    }

    fn busy_until(&self) -> u64 {
        // A thread that only paces has no excuse.
        if self.stay == Stay::Always { 0 } else { self.pool.busy_until() }
    }

    fn leaves(&self, due: u64) -> bool {
        match self.stay {
            Stay::Always => false,
            Stay::UntilWork => due == FOREVER || self.pool.anything_waiting(),
            Stay::Never => true,
        }
    }
}
