//! The pacer: hands over every arrival at its intended start, to whatever executes it.

use std::sync::Arc;

use crate::arrivals::{Arrival, FOREVER, Segment, Timetable};
use crate::clock::{Clock, Signal, Waited};
use crate::queue::Padded;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

/// What takes arrivals: the shared pool, the pacer's own thread, a simulated system.
pub trait Executor {
    /// Takes an arrival; `handed` is the moment of the hand-over, `late_ns` how long after the
    /// intended start (or after the executor was free for it) that was.
    fn hand_over(&mut self, arrival: &Arrival, handed: u64, late_ns: u64);

    /// Moment until which the executor itself kept the pacer busy; that time is queueing, not
    /// lateness. 0 where it never does.
    fn busy_until(&mut self) -> u64 {
        0
    }

    /// Whether the thread that paces has something better to do than to wait for what is due next.
    fn leaves(&mut self) -> bool {
        false
    }

    /// Called after a few arrivals were handed over at `handed`: whether the thread that paces has
    /// something better to do than to hand over what else has come due.
    fn interrupts(&mut self, _handed: u64) -> bool {
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
    /// Moment up to which arrivals may be taken, or have been; apart from what others read while
    /// they wait.
    claimed: Padded<AtomicU64>,
    /// Intended start of the first arrival not handed over; 0 while that is not known.
    horizon: AtomicU64,
}

impl Control {
    /// Appends segments (workload, segment), whose times count from the moment at which they take
    /// effect: `at`, or just after what a pacer has claimed beyond it. Returns that moment and
    /// leaves the segments with their own times.
    pub fn command(&self, at: u64, segments: &mut [(u16, Segment)]) -> u64 {
        let mut commands = self.lock();
        // Before `claimed` is read: the pacer stores that first and looks here next, so that its
        // claim is known here, or it sees that a command is coming.
        self.pending.store(true, Ordering::SeqCst);
        let start = at.max(self.claimed.0.load(Ordering::SeqCst) + 1);
        for (_, segment) in segments.iter_mut() {
            segment.start_ns += start;
            segment.end_ns = segment.end_ns.saturating_add(start);
        }
        commands.extend_from_slice(segments);
        drop(commands);
        self.signal.raise();
        start
    }

    /// Claims all arrivals due at `moment` or before; false where a command has to be taken in
    /// first.
    #[inline]
    fn claim(&self, moment: u64) -> bool {
        self.claimed.0.swap(moment, Ordering::SeqCst);
        !self.pending.load(Ordering::SeqCst)
    }

    /// Intended start of the first arrival not handed over: 0 while a command has not been taken
    /// in, `FOREVER` where none is planned.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        // In this order: `apply` clears the flag after it has forgotten the horizon.
        if self.pending.load(Ordering::Acquire) { 0 } else { self.horizon.load(Ordering::Acquire) }
    }

    /// Sets the horizon, which others read all the time, where it has moved.
    #[inline]
    fn look_forward_to(&self, due: u64) {
        if self.horizon.load(Ordering::Relaxed) != due {
            self.horizon.store(due, Ordering::Release);
        }
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

    fn lock(&self) -> MutexGuard<'_, Vec<(u16, Segment)>> {
        self.commands.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How long after its intended start, or after the moment from which the executor was ready for
/// it, an arrival was handed over.
#[inline]
pub(super) fn lateness_ns(due: u64, handed: u64, ready: u64) -> u64 {
    handed.saturating_sub(due.max(ready))
}

/// Arrivals handed over at most under one reading of the clock: what is late then is late by far
/// more than these take.
pub(super) const AT_ONCE: usize = 32;

/// Serves `table` until `until`, until the executor leaves, or until `control` says stop: wait,
/// hand over, go on to the next.
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
        control.look_forward_to(due);
        if control.signal.value() != seen {
            seen = control.signal.value();
            control.apply(table);
            continue;
        }
        let mut now = clock.now();
        if due > now {
            if executor.leaves() {
                return;
            }
            if clock.wait_until(due.min(until), &control.signal, seen) == Waited::Interrupted {
                continue;
            }
            now = due;
        }
        if due >= until || due == FOREVER {
            return;
        }
        if !control.claim(now.min(until - 1)) {
            control.apply(table);
            continue;
        }
        let handed = clock.now();
        let ready = executor.busy_until();
        for _ in 0..AT_ONCE {
            let due = table.next_due();
            if due > now || due >= until {
                break;
            }
            if let Some(arrival) = table.take() {
                let late_ns = lateness_ns(due, handed, ready);
                executor.hand_over(&arrival, handed, late_ns);
            }
        }
        if executor.interrupts(handed) {
            return;
        }
    }
}
