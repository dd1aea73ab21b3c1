//! The pacer: hands over every arrival at its intended start, to whatever executes it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::arrivals::{Arrival, FOREVER, Segment, Timetable};
use crate::clock::{Clock, Signal, Waited};

/// What takes arrivals: the shared pool, the pacer's own thread, a ring, a simulated system.
pub trait Executor {
    /// Takes an arrival; `handed` is the moment of the hand-over, `late_ns` how long after the
    /// intended start (or after the executor was free for it) that was.
    fn hand_over(&mut self, arrival: &Arrival, handed: u64, late_ns: u64);

    /// Moment until which the executor itself kept the pacer busy; that time is queueing, not
    /// lateness. 0 where it never does.
    fn busy_until(&self) -> u64 {
        0
    }
}

/// Commands to a pacer and its off switch.
#[derive(Default)]
pub struct Control {
    pub signal: Signal,
    stopped: AtomicBool,
    commands: Mutex<Vec<(u16, Segment)>>,
}

impl Control {
    /// Appends segments (workload, segment); they take effect at their own start.
    pub fn command(&self, segments: &[(u16, Segment)]) {
        self.lock().extend_from_slice(segments);
        self.signal.raise();
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
        for (workload, segment) in self.lock().drain(..) {
            table.append(workload, segment);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u16, Segment)>> {
        self.commands.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Serves `table` until `until`, or until `control` says stop: wait, take, hand over.
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
        let waited = if control.signal.value() == seen {
            clock.wait_until(due.min(until), &control.signal, seen)
        } else {
            Waited::Interrupted
        };
        if waited == Waited::Interrupted {
            seen = control.signal.value();
            control.apply(table);
            continue;
        }
        if due >= until || due == FOREVER {
            return;
        }
        if let Some(arrival) = table.take() {
            let handed = clock.now();
            let ready = arrival.due.max(executor.busy_until());
            executor.hand_over(&arrival, handed, handed.saturating_sub(ready));
        }
    }
}
