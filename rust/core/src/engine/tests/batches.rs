//! Operations that a component takes several at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::operations::{Completion, Operation, Pause, Request, Status, Verdict};

use super::doubles::{Busy, made, made_twofold};
use super::{Engine, conserved, milliseconds, settings, workload};

const DONE: Completion = Completion { status: Status::Ok, units: 3 };

/// Notes which operations come at once, and does them in `busy_ns` together.
#[derive(Clone)]
struct Batcher {
    came: Arc<Mutex<Vec<Vec<Request>>>>,
    busy_ns: u64,
    checked: u32,
}

impl Batcher {
    fn new(busy_ns: u64) -> Self {
        Self { came: Arc::default(), busy_ns, checked: 0 }
    }
}

impl Operation for Batcher {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        let mut ended = Vec::new();
        self.run_batch(&[request], pause, &mut ended);
        ended[0]
    }

    fn run_batch(
        &mut self,
        requests: &[Request],
        pause: &mut dyn Pause,
        ended: &mut Vec<Completion>,
    ) {
        self.came.lock().unwrap().push(requests.to_vec());
        Busy::of(self.busy_ns).run(requests[0], pause);
        self.checked = requests.len() as u32;
        ended.extend(requests.iter().map(|_| DONE));
    }

    fn verify(&mut self, _: &mut dyn Pause) -> Verdict {
        Verdict { checked: self.checked, violations: 0 }
    }
}

#[test]
fn a_closed_loop_of_batches_counts_every_operation_once() {
    for workers in [1, 2] {
        let batcher = Batcher::new(2_000);
        let loads = vec![workload(made(16, batcher.clone()), 0.0)];
        let engine = Engine::start(&settings(workers), loads).unwrap();
        let (phase, began) = engine.begin_closed(&[100]).unwrap();
        std::thread::sleep(milliseconds(50));
        engine.change_closed(&[30]);
        std::thread::sleep(milliseconds(50));
        engine.cease();
        assert!(engine.settle(1_000_000_000));
        let reading = engine.reading(phase).unwrap()[0][0].clone();
        let counters = reading.counters;
        let sizes: Vec<usize> = batcher.came.lock().unwrap().iter().map(Vec::len).collect();
        assert!(conserved(&counters) && counters.rejected == 0, "{counters:?}");
        assert_eq!(sizes.iter().sum::<usize>() as u64, counters.ok);
        assert_eq!(sizes.iter().max(), Some(&16));
        assert_eq!((counters.units, counters.verified), (3 * counters.ok, counters.ok));
        assert_eq!(reading.response.count(), counters.ok);
        assert!(engine.system().occupancy(0).in_flight_max <= 100);
        // The time of a batch is shared by its operations: no worker is busy twice.
        let elapsed_ns = engine.system().now() - began;
        assert!(
            (sizes.len() as u64 * 2_000..workers as u64 * elapsed_ns).contains(&counters.busy_ns)
        );
    }
}

#[test]
fn every_operation_of_a_batch_keeps_its_own_intended_start() {
    // While one batch is under way the next one's operations come due: each waits for what is
    // left of it, evenly spread, and then as long as a batch takes. A machine that is busy
    // elsewhere for a moment gets another chance.
    let spread: Vec<[f64; 3]> = (0..3).map(|_| responses_in_batches()).collect();
    let is_right =
        |&[low, middle, high]: &[f64; 3]| (1.25..1.9).contains(&middle) && high - low > 0.5;
    assert!(spread.iter().any(is_right), "{spread:?}");
}

/// Percentiles 10, 50 and 90 of the responses of operations in batches, in the time of a batch.
fn responses_in_batches() -> [f64; 3] {
    let loads = vec![workload(made(64, Batcher::new(20_000_000)), 400.0)];
    let engine = Engine::start(&settings(1), loads).unwrap();
    let (phase, _) = engine.begin_open(&[(0, 1.0)]).unwrap();
    std::thread::sleep(milliseconds(400));
    engine.cease();
    assert!(engine.settle(1_000_000_000));
    let reading = engine.reading(phase).unwrap()[0][0].clone();
    assert!(conserved(&reading.counters));
    let batch_ns = reading.service.percentile(50.0) as f64;
    [10.0, 50.0, 90.0].map(|percent| reading.response.percentile(percent) as f64 / batch_ns)
}

#[test]
fn a_batch_that_panics_or_loses_count_has_failed_in_all_its_operations() {
    #[derive(Clone)]
    struct Faulty(Arc<AtomicU64>);
    impl Operation for Faulty {
        fn run(&mut self, _: Request, _: &mut dyn Pause) -> Completion {
            DONE
        }
        fn run_batch(
            &mut self,
            requests: &[Request],
            _: &mut dyn Pause,
            ended: &mut Vec<Completion>,
        ) {
            let turn = self.0.fetch_add(1, Ordering::Relaxed);
            assert!(turn % 3 != 0, "planted");
            let kept = if turn % 3 == 1 { requests.len() - 1 } else { requests.len() };
            ended.extend(requests[..kept].iter().map(|_| DONE));
        }
        fn verify(&mut self, _: &mut dyn Pause) -> Verdict {
            Verdict::default()
        }
    }
    let loads = vec![workload(made(8, Faulty(Arc::default())), 0.0)];
    let engine = Engine::start(&settings(1), loads).unwrap();
    let (phase, _) = engine.begin_closed(&[8]).unwrap();
    let counters = || engine.reading(phase).unwrap()[0][0].counters;
    // A panic that is printed may take a tenth of a second.
    let began = std::time::Instant::now();
    while counters().ok == 0 && began.elapsed() < milliseconds(10_000) {
        std::thread::sleep(milliseconds(5));
    }
    engine.cease();
    assert!(engine.settle(1_000_000_000));
    let counters = counters();
    assert!(conserved(&counters) && counters.ok > 0 && counters.errors > 0, "{counters:?}");
    assert_eq!(counters.units, 3 * counters.ok);
}

#[test]
fn a_closed_loop_asks_for_runs_of_its_mix_in_which_no_operation_is_lost_or_doubled() {
    for (twofold, stopped) in [(false, false), (true, false), (false, true)] {
        let batcher = Batcher::new(1_000_000);
        let component = if twofold { made_twofold } else { made }(16, batcher.clone());
        let mut load = workload(component, 0.0);
        load.weights = if twofold { vec![1.0, 3.0] } else { vec![1.0] };
        let engine = Engine::start(&settings(1), vec![load]).unwrap();
        let (phase, _) = engine.begin_closed(&[100]).unwrap();
        std::thread::sleep(milliseconds(100));
        // All but the batch under way are waiting, each of them counted.
        let depth = engine.system().occupancy(0).queue_depth;
        assert!((68..=100).contains(&depth), "{depth}");
        engine.cease();
        // With no patience, what is queued is given up, run by run.
        assert!(engine.settle(if stopped { 1 } else { 1_000_000_000 }) || stopped);
        while engine.in_flight() > 0 {
            std::thread::sleep(milliseconds(1));
        }
        assert_eq!(engine.system().occupancy(0).queue_depth, 0);
        let readings = engine.reading(phase).unwrap()[0].clone();
        let noted = batcher.came.lock().unwrap().concat();
        let mut keys: Vec<u64> = noted.iter().map(|request| request.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), noted.len(), "an operation came twice");
        for (op, reading) in readings.iter().enumerate() {
            let came = noted.iter().filter(|request| usize::from(request.op) == op).count() as u64;
            assert!(conserved(&reading.counters), "{:?}", reading.counters);
            assert_eq!(reading.counters.ok, came);
            assert_eq!(reading.counters.abandoned > 0, stopped, "{:?}", reading.counters);
        }
        let second = noted.iter().filter(|request| request.op == 1).count();
        assert_eq!(second * 2 > noted.len(), twofold, "{second} of {}", noted.len());
    }
}

/// Takes 0.1 ms once in 2048 times and no time else; counts its runs.
#[derive(Clone)]
struct Stumbling(Arc<AtomicU64>);

impl Operation for Stumbling {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        self.0.fetch_add(1, Ordering::Relaxed);
        if request.key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53 == 0 {
            Busy::of(100_000).run(request, pause);
        }
        DONE
    }
    fn verify(&mut self, _: &mut dyn Pause) -> Verdict {
        Verdict::default()
    }
}

#[test]
fn what_a_worker_hands_on_after_a_long_operation_runs_once_and_is_counted_once() {
    let runs: [Arc<AtomicU64>; 3] = Default::default();
    let loads = runs.iter().map(|count| {
        let stumbling = made(1, Stumbling(Arc::clone(count)));
        let mut load = workload(stumbling, 1_000_000.0);
        (load.max_in_flight, load.queue) = (1_000_000, 1_000_000);
        load
    });
    let engine = Engine::start(&settings(3), loads.collect()).unwrap();
    let (phase, _) = engine.begin_open(&[(0, 1.0)]).unwrap();
    std::thread::sleep(milliseconds(300));
    engine.cease();
    assert!(engine.settle(5_000_000_000));
    for (reading, count) in engine.reading(phase).unwrap().iter().zip(runs) {
        let counters = reading[0].counters;
        assert!(conserved(&counters) && counters.ok > 10_000, "{counters:?}");
        assert_eq!(counters.ok, count.load(Ordering::Relaxed));
    }
}
