//! Whoever is in the seat and kept from its core keeps nobody waiting.

use super::*;
use crate::arrivals::{Mix, Process, Segment, Workload};
use crate::clock::{Pacing, RealClock};
use crate::operations::{Build, build};

use super::super::station::{Overload, StationSettings};
use super::super::worker::Worker;

/// A pool of the null component whose seat is taken by nobody who is there.
fn pool(rate: f64) -> Pool {
    let context = Build { seed: 1, threads: 1, progress: &|_, _| true };
    let station = StationSettings {
        component: build("null", "{}", &context).unwrap(),
        mix: Mix::new(1, 0, &[1.0]),
        max_in_flight: 16,
        queue: 16,
        overload: Overload::Queue,
        planted_delay: 0.0,
        hosted: false,
    };
    let planned = Workload { process: Process::Constant, weights: vec![1.0] };
    let seat = Seat::new(Timetable::new(1, &[planned]), Arc::new(Recorder::new(&[1])), true);
    let pool = Pool::new(vec![station], Arc::new(RealClock::new(Pacing::Hybrid)), seat);
    let (start_ns, end_ns, phase, epoch) = (0, FOREVER, 0, 0);
    let segment = Segment { start_ns, end_ns, rate_start: rate, rate_end: rate, phase, epoch };
    pool.control.command(0, &mut [(0, segment)]);
    pool.seat.taken.store(true, Ordering::SeqCst);
    pool
}

#[test]
fn a_deputy_hands_over_what_the_one_in_the_seat_is_kept_from() {
    let pool = pool(1e4);
    let recorder = Recorder::new(&[1]);
    std::thread::scope(|scope| {
        scope.spawn(|| Worker::new(&pool, &recorder).work());
        std::thread::sleep(std::time::Duration::from_millis(100));
        pool.stop();
    });
    let done = recorder.series(0, 0, 0).read().counters.ok;
    assert!(done > 0, "nobody handed anything over");
}

#[test]
fn what_is_due_is_overdue_a_little_later_and_only_while_somebody_waits_in_the_seat() {
    let pool = pool(1.0);
    let mut own = Vec::with_capacity(OWN_MAX);
    pool.relieve(&mut own);
    let due = pool.control.horizon();
    assert!(due > 0 && own.is_empty());
    assert!(!pool.overdue(due) && !pool.overdue(due + OVERDUE_NS - 1));
    assert!(pool.overdue(due + OVERDUE_NS));
    pool.seat.taken.store(false, Ordering::SeqCst);
    assert!(!pool.overdue(due + OVERDUE_NS));
}
