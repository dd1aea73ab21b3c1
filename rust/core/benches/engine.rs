//! The engine and its null component alone, for `benchmarks/engine.py` and for a profiler.
//!
//! Usage: `engine closed IN_FLIGHT SECONDS [BATCH [WORKERS]]`, `engine open RATE SECONDS [BATCH]`,
//! `engine growth OPERATIONS`, `engine snapshots READINGS_PER_S SECONDS`, `engine draw ARRIVALS`.
//! Each prints one JSON object.

use std::hint::black_box;
use std::time::{Duration, Instant};

use swarmbench_core::arrivals::{FOREVER, Process, Segment, Timetable, Workload};
use swarmbench_core::clock::Pacing;
use swarmbench_core::engine::{Engine, EngineSettings, Overload, Reading, WorkloadSettings};
use swarmbench_core::operations::{Build, build};

const PATIENCE_NS: u64 = 60_000_000_000;

/// An engine with `streams` null components, each at `rate` and taken `batch` at a time.
fn engine(streams: usize, rate: f64, batch: usize, workers: usize) -> Engine {
    let context = Build { seed: 1, threads: 1, progress: &|_, _| true };
    let parameters = format!("{{\"batch\": {batch}}}");
    let workloads = (0..streams)
        .map(|_| WorkloadSettings {
            component: build("null", &parameters, &context).expect("the parameters are right"),
            process: Process::Poisson,
            weights: vec![1.0],
            rate,
            max_in_flight: 1024,
            queue: 1 << 20,
            overload: Overload::Queue,
            planted_delay: 0.0,
            hosted: false,
        })
        .collect();
    let settings = EngineSettings {
        seed: 1,
        workers,
        worker_cpus: Vec::new(),
        pacer_cpu: None,
        pacing: Pacing::Hybrid,
    };
    Engine::start(&settings, workloads).expect("threads can be started")
}

fn sum(engine: &Engine, phase: u32) -> Reading {
    let mut total = Reading::default();
    for reading in engine.reading(phase).expect("the phase is live").iter().flatten() {
        total.merge(reading);
    }
    total
}

/// Processor time of this process so far, in nanoseconds.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory of this process in bytes.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    4096 * pages.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok()).expect("a number")
}

fn seconds(duration_s: f64) {
    std::thread::sleep(Duration::from_secs_f64(duration_s));
}

fn closed(in_flight: usize, duration_s: f64, batch: usize, workers: usize) -> String {
    let engine = engine(1, 1.0, batch, workers);
    let (phase, began) = engine.begin_closed(&[in_flight]).expect("nothing is under way");
    seconds(duration_s);
    let ended = engine.cease();
    engine.settle(PATIENCE_NS);
    let ok = sum(&engine, phase).counters.ok;
    format!("{{\"ops\": {ok}, \"ops_s\": {}}}", ok as f64 * 1e9 / (ended - began) as f64)
}

/// Operations per second until all that was scheduled had ended, and how late they were.
fn open(rate: f64, duration_s: f64, batch: usize) -> String {
    let engine = engine(1, rate, batch, 1);
    let used = cpu_ns();
    let (phase, began) = engine.begin_open(&[(0, 1.0)]).expect("nothing is under way");
    seconds(duration_s);
    let cpu = (cpu_ns() - used) as f64 / duration_s / 1e9;
    let ceased = engine.cease();
    engine.settle(PATIENCE_NS);
    let ended = engine.system().now();
    let reading = sum(&engine, phase);
    let drawn = drawn(&engine, ceased);
    let mut fields = format!(
        "\"ops_s\": {}, \"cpu\": {cpu}, \"drawn\": {drawn}, \"issued\": {}",
        reading.counters.ok as f64 * 1e9 / (ended - began) as f64,
        reading.counters.scheduled,
    );
    for (name, histogram) in [("late", &reading.lateness), ("response", &reading.response)] {
        for percent in [50.0, 90.0, 99.0] {
            let value_ns = histogram.percentile(percent);
            fields += &format!(", \"{name}_p{percent:.0}_ns\": {value_ns}");
        }
    }
    format!("{{{fields}}}")
}

/// Arrivals that the engine's control log holds before `end`, drawn once more.
fn drawn(engine: &Engine, end: u64) -> u64 {
    let mut table =
        Timetable::new(1, &[Workload { process: Process::Poisson, weights: vec![1.0] }]);
    engine
        .control_log()
        .into_iter()
        .for_each(|(workload, segment)| table.append(workload, segment));
    let mut count = 0;
    while table.next_due() < end {
        count += u64::from(table.take().is_some());
    }
    count
}

/// Bytes that the process grows by while it schedules so many operations.
fn growth(operations: u64) -> String {
    let engine = engine(1, 1.0, 64, 1);
    let (phase, _) = engine.begin_closed(&[1024]).expect("nothing is under way");
    seconds(0.5);
    let (before, first) = (resident_bytes(), sum(&engine, phase).counters.scheduled);
    while sum(&engine, phase).counters.scheduled - first < operations {
        seconds(0.1);
    }
    let grown = resident_bytes().saturating_sub(before);
    let scheduled = sum(&engine, phase).counters.scheduled - first;
    format!("{{\"bytes\": {grown}, \"ops\": {scheduled}}}")
}

/// Throughput of 16 streams, most of them idle, while they are read so many times a second.
fn snapshots(readings_s: f64, duration_s: f64) -> String {
    let engine = engine(16, 1.0, 1, 1);
    let mut in_flight = [0; 16];
    in_flight[0] = 1024;
    let (phase, _) = engine.begin_closed(&in_flight).expect("nothing is under way");
    seconds(0.1);
    let count = || sum(&engine, phase).counters.ok;
    let (began, first, mut spent) = (Instant::now(), count(), Duration::ZERO);
    let mut readings = 0_u32;
    while began.elapsed().as_secs_f64() < duration_s {
        if readings_s == 0.0 {
            seconds(duration_s);
            break;
        }
        let next = Duration::from_secs_f64(f64::from(readings) / readings_s);
        std::thread::sleep(next.saturating_sub(began.elapsed()));
        let reading = Instant::now();
        black_box(engine.interval().is_ok());
        spent += reading.elapsed();
        readings += 1;
    }
    let ops_s = (count() - first) as f64 / began.elapsed().as_secs_f64();
    let reading_us = spent.as_secs_f64() * 1e6 / f64::from(readings.max(1));
    format!("{{\"ops_s\": {ops_s}, \"reading_us\": {reading_us}}}")
}

/// Nanoseconds that drawing one arrival takes.
fn draw(arrivals: u64) -> String {
    let mut table =
        Timetable::new(1, &[Workload { process: Process::Poisson, weights: vec![1.0] }]);
    let (start_ns, end_ns, rate_start, rate_end) = (0, FOREVER, 1e6, 1e6);
    table.append(0, Segment { start_ns, end_ns, rate_start, rate_end, phase: 1, epoch: 1 });
    let began = Instant::now();
    for _ in 0..arrivals {
        black_box(table.take());
    }
    format!("{{\"draw_ns\": {}}}", began.elapsed().as_nanos() as f64 / arrivals as f64)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |place: usize, otherwise: f64| {
        words.get(place).map_or(otherwise, |word| word.parse().expect("a number"))
    };
    let count = |place: usize| number(place, 1.0) as usize;
    let line = match words.first().map_or("", String::as_str) {
        "closed" => closed(count(1), number(2, 1.0), count(3), count(4)),
        "open" => open(number(1, 1e6), number(2, 1.0), count(3)),
        "growth" => growth(number(1, 1e9) as u64),
        "snapshots" => snapshots(number(1, 1.0), number(2, 1.0)),
        "draw" => draw(number(1, 1e7) as u64),
        other => panic!("`{other}` is not closed, open, growth, snapshots or draw"),
    };
    println!("{line}");
}
