//! The pacer: hands over every arrival at its intended start, to whatever executes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::arrivals::{Arrival, FOREVER, Segment, Timetable};
use crate::clock::{Clock, Signal, Waited};

/// What takes arrivals: the shared pool, the pacer's own thread, a simulated system.
pub trait Executor {
    /// Takes an arrival; `handed` is the moment of the hand-over, `late_ns` how long after the
    /// intended start (or after the executor was free for it) that was.
    fn hand_over(&mut self, arrival: &Arrival, handed: u64, late_ns: u64);

    /// Moment until which the executor itself kept the pacer busy; that time is queueing, not
    /// lateness. 0 where it never does.
    fn busy_until(&self) -> u64 {
        0
    }

    /// Whether the thread that paces has something better to do than to wait until `due`.
    fn leaves(&self, _due: u64) -> bool {
        false
    }
}

/// Commands to a pacer, its off switch, and how far it has come.
#[derive(Default)]
pub struct Control {
    /// Raised by every command; where workers pace in turns, by whoever has work for them, too.
    pub signal: Arc<Signal>,
    stopped: AtomicBool,
    commands: Mutex<Vec<(u16, Segment)>>,
    pending: AtomicBool,
    /// Intended start of the arrival that is being taken, or was last.
    taken: AtomicU64,
    /// Intended start of the first arrival not handed over; 0 while that is not known.
    horizon: AtomicU64,
}

impl Control {
    /// Appends segments (workload, segment), whose times count from the moment at which they take
    /// effect: `at`, or just after an arrival that a pacer has taken beyond it. Returns that moment
    /// and leaves the segments with their own times.
    pub fn command(&self, at: u64, segments: &mut [(u16, Segment)]) -> u64 {
        let mut commands = self.lock();
        // Before `taken` is read: the pacer stores that first and looks here next, so that it
        // either takes an arrival of which is known here, or sees that a command is coming.
        self.pending.store(true, Ordering::SeqCst);
        let start = at.max(self.taken.load(Ordering::SeqCst) + 1);
        for (_, segment) in segments.iter_mut() {
            segment.start_ns += start;
            segment.end_ns = segment.end_ns.saturating_add(start);
        }
        commands.extend_from_slice(segments);
        drop(commands);
        self.signal.raise();
        start
    }

    /// Claims the arrival at `due`; false where a command has to be taken in first.
    #[inline]
    fn claim(&self, due: u64) -> bool {
        self.taken.swap(due, Ordering::SeqCst);
        !self.pending.load(Ordering::SeqCst)
    }

    /// Intended start of the first arrival not handed over: 0 while a command has not been taken
    /// in, `FOREVER` where none is planned.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        // In this order: `apply` clears the flag after it has forgotten the horizon.
        if self.pending.load(Ordering::Acquire) { 0 } else { self.horizon.load(Ordering::Acquire) }
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.signal.raise();
    }

    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Moves the commands given so far into `table`.
    pub fn apply(&self, table: &mut Timetable) {
        if !self.pending.load(Ordering::Acquire) {
            return;
        }
        let mut commands = self.lock();
        for (workload, segment) in commands.drain(..) {
            table.append(workload, segment);
        }
        self.horizon.store(0, Ordering::Release);
        self.pending.store(false, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u16, Segment)>> {
        self.commands.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Serves `table` until `until`, until the executor leaves, or until `control` says stop: wait,
/// take, hand over.
///
/// This is the main loop of swarmbench, the same for a machine and for a simulated system; only
/// the clock and the executor differ. Every arrival is handed over, in order, however late the
/// loop is: the schedule is never moved, so a stall is charged to each arrival it delays.
pub fn serve<C: Clock, X: Executor>(
    clock: &C,
    table: &mut Timetable,
    control: &Control,
    executor: &mut X,
    until: u64,
) {
    let mut seen = control.signal.value();
    control.apply(table);
    while !control.stopped() {
        let due = table.next_due();
        control.horizon.store(due, Ordering::Release);
        if control.signal.value() != seen {
            seen = control.signal.value();
            control.apply(table);
            continue;
        }
        if due > clock.now() {
            if executor.leaves(due) {
                return;
            }
            if clock.wait_until(due.min(until), &control.signal, seen) == Waited::Interrupted {
                continue;
            }
        }
        if due >= until || due == FOREVER {
            return;
        }
        if !control.claim(due) {
            control.apply(table);
            continue;
        }
        if let Some(arrival) = table.take() {
            let handed = clock.now();
            let ready = arrival.due.max(executor.busy_until());
            executor.hand_over(&arrival, handed, handed.saturating_sub(ready));
        }
    }
}
