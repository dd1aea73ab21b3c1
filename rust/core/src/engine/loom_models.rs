//! Every interleaving of who queues, commands or stops with who goes to sleep, takes the seat or
//! serves at a desk, and of a thread that records with one that reads.
//!
//! No time passes here: whoever sleeps is woken by somebody, or for ever asleep.

use std::sync::Arc;

use loom::thread;

use super::desk::{Desk, Open};
use super::hosted::Drain;
use super::pacer::{Control, Executor, serve};
use super::pool::Pool;
use super::recorder::{Counters, Recorder};
use super::seat::Seat;
use super::station::{Overload, StationSettings, Ticket};
use crate::arrivals::{Arrival, FOREVER, Mix, Process, Segment, Timetable, Workload};
use crate::clock::{Clock, Pacing, RealClock, Signal, Waited};
use crate::operations::{Build, Completion, Status, Verdict, build};
use crate::sync::{Mutex, check, check_both, retry};

const HOUR_NS: u64 = 3_600_000_000_000;
/// How often a worker looks around; an only worker always has enough of it.
const ROUNDS_MAX: usize = 6;
const ARRIVAL: Arrival = Arrival { due: 0, key: 0, phase: 0, epoch: 0, workload: 0, op: 0 };

fn timetable() -> Timetable {
    Timetable::new(1, &[Workload { process: Process::Constant, weights: vec![1.0] }])
}

fn steady(start_ns: u64, end_ns: u64, rate: f64, phase: u32) -> Segment {
    Segment { start_ns, end_ns, rate_start: rate, rate_end: rate, phase, epoch: phase }
}

/// A pool of one workload, hosted or not, paced by a thread of its own or by the workers in turns.
fn pool(hosted: bool, shared_seat: bool) -> Pool {
    let context = Build { seed: 1, threads: 1, progress: &|_, _| true };
    let component = build("null", "{}", &context);
    let station = StationSettings {
        component: component.expect("the null component is built"),
        mix: Mix::new(1, 0, &[1.0]),
        max_in_flight: 2,
        queue: 0,
        overload: Overload::Drop,
        planted_delay: 0.0,
        hosted,
    };
    let seat = Seat::new(timetable(), Arc::new(Recorder::new(&[])), shared_seat);
    let pool = Pool::new(vec![station], Arc::new(RealClock::new(Pacing::Park)), seat);
    if shared_seat {
        pool.control.command(0, &mut [(0, steady(0, FOREVER, 1.0 / 3600.0, 0))]);
    }
    pool
}

/// Looks out for an operation as an idle worker does, and says whether it had one before it was
/// told to stop.
///
/// `None`: it looked around too often. The model checker lets two threads that spin take turns for
/// ever, while the third one, for whose step both wait, stands; then all are told to stop.
fn look_out(pool: &Pool) -> Option<bool> {
    let mut own = Vec::new();
    for _ in 0..ROUNDS_MAX {
        if pool.control.stopped() {
            return Some(false);
        }
        pool.take_some(0, &mut own);
        if !own.is_empty() {
            return Some(true);
        }
        let wanted = || pool.anything_waiting() || pool.seat_vacant() || pool.control.stopped();
        if !wanted() {
            pool.park(wanted, HOUR_NS);
        }
        if pool.seat_vacant() {
            pool.lead(&mut own);
        }
        retry();
    }
    pool.stop();
    None
}

/// Queues an operation as a worker does whose closed loop goes on.
fn ask(pool: &Pool) {
    assert_eq!(pool.admit(&mut [Ticket::one(ARRIVAL)]), 1);
    pool.wake_one();
}

/// What two workers found, who looked out while `act` was done to their pool; `None` where one of
/// them looked around too often.
fn two_workers(pool: Pool, act: impl Fn(&Pool)) -> Option<[bool; 2]> {
    let pool = Arc::new(pool);
    let workers = [(); 2].map(|()| {
        let pool = Arc::clone(&pool);
        thread::spawn(move || look_out(&pool))
    });
    act(&pool);
    let [first, second] = workers.map(|one| one.join().expect("a worker failed"));
    Some([first?, second?])
}

#[test]
fn a_worker_that_parks_is_woken_by_what_is_queued() {
    let working = |pool: &Pool| assert_eq!(look_out(pool), Some(true));
    check_both(3, || pool(false, false), ask, working, |_| ());
}

#[test]
fn whoever_waits_in_the_seat_leaves_it_for_an_operation() {
    let working = |pool: &Pool| assert_eq!(look_out(pool), Some(true));
    check_both(3, || pool(false, true), ask, working, |_| ());
}

#[test]
fn two_workers_share_two_operations_however_they_park() {
    check(2, || {
        let found = two_workers(pool(false, false), |pool| (0..2).for_each(|_| ask(pool)));
        assert!(matches!(found, None | Some([true, true])), "{found:?}");
    });
}

#[test]
fn two_workers_who_take_turns_in_the_seat_share_two_operations() {
    check(2, || {
        let found = two_workers(pool(false, true), |pool| (0..2).for_each(|_| ask(pool)));
        assert!(matches!(found, None | Some([true, true])), "{found:?}");
    });
}

#[test]
fn stop_ends_all_who_park() {
    check(2, || {
        let found = two_workers(pool(false, false), Pool::stop);
        assert!(matches!(found, None | Some([false, false])), "{found:?}");
    });
}

#[test]
fn stop_ends_who_waits_in_the_seat_and_who_parks() {
    check(2, || {
        let found = two_workers(pool(false, true), Pool::stop);
        assert!(matches!(found, None | Some([false, false])), "{found:?}");
    });
}

#[test]
fn a_drain_that_listens_hears_of_what_is_queued() {
    check_both(
        3,
        || pool(true, false),
        |pool| {
            assert_eq!(pool.admit(&mut [Ticket::one(ARRIVAL)]), 1);
            pool.stations[0].announce();
        },
        |pool| {
            let station = &pool.stations[0];
            while station.pop().is_none() {
                retry();
                station.listen(|| false, HOUR_NS);
            }
        },
        |pool| assert!(!pool.stations[0].waits()),
    );
}

/// A hosted workload, the desk where it is served, and what is written down there.
struct Office {
    pool: Arc<Pool>,
    desk: Desk,
    recorder: Arc<Recorder>,
}

impl Office {
    fn new() -> Self {
        let (pool, recorder) = (Arc::new(pool(true, false)), Arc::new(Recorder::new(&[1])));
        let desk = Drain::new(Arc::clone(&pool), Arc::clone(&recorder), 0).into_desk();
        Self { pool, desk, recorder }
    }

    /// Queues an operation as the pacer does.
    fn ask(&self, key: u64) {
        assert_eq!(self.pool.admit(&mut [Ticket::one(Arrival { key, ..ARRIVAL })]), 1);
        self.pool.stations[0].announce();
    }

    /// Gives an operation back, as failed, and says which it was.
    fn close(&self, open: Open) -> u64 {
        let key = open.arrival().key;
        let verdict = Verdict { checked: 1, violations: 1 };
        self.desk.close(open, Completion { status: Status::Error, units: 0 }, verdict);
        key
    }

    /// Serves the next operation, however long it takes to come, or hears that none will.
    fn serve(&self) -> Option<u64> {
        self.desk.open(HOUR_NS).map(|open| self.close(open))
    }

    /// What was written down, once nothing is under way.
    fn written(&self) -> Counters {
        assert_eq!(self.pool.stations[0].in_flight(), 0);
        self.recorder.series(0, 0, 0).read_counters()
    }
}

#[test]
fn two_clients_of_a_desk_serve_each_operation_once_and_write_down_both() {
    check(2, || {
        let office = Arc::new(Office::new());
        let clients = [(); 2].map(|()| {
            let office = Arc::clone(&office);
            thread::spawn(move || office.serve())
        });
        (1..=2).for_each(|key| office.ask(key));
        let mut served = clients.map(|one| one.join().expect("a client failed"));
        served.sort_unstable();
        assert_eq!(served, [Some(1), Some(2)]);
        let written = office.written();
        assert_eq!((written.errors, written.verified, written.violations), (2, 2, 2));
    });
}

#[test]
fn stop_ends_all_who_wait_at_a_desk() {
    check(2, || {
        let office = Arc::new(Office::new());
        let clients = [(); 2].map(|()| {
            let office = Arc::clone(&office);
            thread::spawn(move || office.serve())
        });
        office.pool.stop();
        let served = clients.map(|one| one.join().expect("a client failed"));
        assert_eq!(served, [None, None]);
    });
}

#[test]
fn what_is_given_up_and_what_is_closed_meanwhile_are_both_written_down() {
    check(3, || {
        let office = Arc::new(Office::new());
        (1..=2).for_each(|key| office.ask(key));
        let held = office.desk.open(HOUR_NS).expect("two are queued");
        office.pool.abandon_below(1);
        let other = {
            let office = Arc::clone(&office);
            thread::spawn(move || office.desk.open(0).is_none())
        };
        office.close(held);
        assert!(other.join().expect("a client failed"), "what was given up was handed out");
        let written = office.written();
        assert_eq!((written.errors, written.abandoned), (1, 1));
        assert_eq!(written.ended_sum_ns, 2 * office.pool.clock.now());
    });
}

/// A clock on which whatever is planned has come as soon as it is waited for.
struct Hasty;

impl Clock for Hasty {
    fn now(&self) -> u64 {
        2_000
    }

    fn wait_until(&self, due: u64, signal: &Signal, seen: u32) -> Waited {
        if due != FOREVER {
            return Waited::Reached;
        }
        while signal.value() == seen {
            signal.sleep(seen, HOUR_NS);
        }
        Waited::Interrupted
    }
}

/// Keeps what is handed over, and ends the pacer at the second arrival of phase 1.
struct Kept<'a> {
    control: &'a Control,
    arrivals: Vec<Arrival>,
}

impl Executor for Kept<'_> {
    fn hand_over(&mut self, arrival: &Arrival, _: u64, _: u64) {
        self.arrivals.push(*arrival);
        if self.arrivals.iter().filter(|one| one.phase == 1).count() == 2 {
            self.control.stop();
        }
    }
}

fn paced(control: &Control, planned: &[Segment]) -> Vec<Arrival> {
    let mut table = timetable();
    planned.iter().for_each(|segment| table.append(0, *segment));
    let mut kept = Kept { control, arrivals: Vec::new() };
    serve(&Hasty, &mut table, control, &mut kept, FOREVER);
    kept.arrivals
}

/// A control, the moment its command was given and what was handed over.
type Commanded = (Control, Mutex<(u64, Vec<Arrival>)>);

#[test]
fn a_command_is_never_lost_nor_overtaken_by_an_arrival_after_its_start() {
    check_both::<Commanded>(
        3,
        Commanded::default,
        |(control, found)| {
            let start = control.command(0, &mut [(0, steady(0, 3_500, 1e6, 1))]);
            found.lock().expect("nobody failed").0 = start;
        },
        |(control, found)| {
            let arrivals = paced(control, &[steady(0, 3_500, 1e6, 0)]);
            let mut found = found.lock().expect("nobody failed");
            found.1 = arrivals;
        },
        |(_, found)| {
            let (start, arrivals) = &*found.lock().expect("nobody failed");
            assert!(arrivals.is_sorted_by(|left, right| left.due < right.due), "{arrivals:?}");
            assert!(arrivals.iter().all(|one| (one.phase == 1) == (one.due >= *start)));
        },
    );
}

#[test]
fn the_pacer_ends_whenever_stop_is_said() {
    let pacing = |control: &Control| assert_eq!(paced(control, &[]), []);
    check_both(3, Control::default, Control::stop, pacing, |control| assert!(control.stopped()));
}

#[test]
fn readings_only_grow_and_the_last_one_is_complete() {
    check(3, || {
        let recorder = Arc::new(Recorder::new(&[1]));
        let reader = {
            let recorder = Arc::clone(&recorder);
            thread::spawn(move || [(); 2].map(|()| recorder.series(0, 0, 0).read()))
        };
        let series = recorder.series(0, 0, 0);
        series.handed_over(40, 2);
        series.refused(42, 1);
        let [first, second] = reader.join().expect("the reader failed");
        let last = series.read();
        let mut summed = first.clone();
        for (earlier, later) in [(&first, &second), (&second, &last)] {
            let between = later.since(earlier).expect("a reading shrank");
            assert!(between.counters.scheduled <= 1 && between.counters.rejected <= 1);
            summed.merge(&between);
        }
        assert_eq!((summed.counters, summed.lateness), (last.counters, last.lateness.clone()));
        assert_eq!((last.counters.scheduled, last.counters.rejected), (1, 1));
        assert_eq!(last.lateness.count(), 1);
    });
}
