//! The engine alone, for `benchmarks/engine.py` and for a profiler: rate, lateness, instructions.

use std::sync::Arc;
use std::time::Duration;

use swarmbench_core::arrivals::{FOREVER, Process, Segment, Timetable, Workload};
use swarmbench_core::clock::Pacing;
use swarmbench_core::engine::{Engine, EngineSettings, Overload, WorkloadSettings};
use swarmbench_core::operations::{Build, build};

fn engine(rate: f64, parameters: &str) -> Engine {
    let context = Build { seed: 1, threads: 1, progress: &|_, _| true };
    let component = build("null", parameters, &context).unwrap_or_else(|error| panic!("{error}"));
    let workload = WorkloadSettings {
        component: Arc::clone(&component),
        process: Process::Poisson,
        weights: vec![1.0],
        rate,
        max_in_flight: 1024,
        queue: 1 << 20,
        overload: Overload::Queue,
        planted_delay: 0.0,
        hosted: false,
    };
    let settings = EngineSettings {
        seed: 1,
        workers: 1,
        worker_cpus: Vec::new(),
        pacer_cpu: None,
        pacing: Pacing::Hybrid,
    };
    Engine::start(&settings, vec![workload]).unwrap_or_else(|error| panic!("{error}"))
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| words[index].parse::<f64>().unwrap_or_else(|_| panic!("{words:?}"));
    match words[0].as_str() {
        "take" => {
            let sources = [Workload { process: Process::Poisson, weights: vec![1.0] }];
            let mut table = Timetable::new(1, &sources);
            let (rate_start, rate_end) = (1e6, 1e6);
            let segment =
                Segment { start_ns: 0, end_ns: FOREVER, rate_start, rate_end, phase: 1, epoch: 1 };
            table.append(0, segment);
            let count = number(1) as u64;
            let began = std::time::Instant::now();
            for _ in 0..count {
                std::hint::black_box(table.take());
            }
            println!("{}", began.elapsed().as_nanos() as f64 / count as f64);
        }
        "open" | "closed" => {
            let open = words[0] == "open";
            let parameters = words.get(3).map_or("{}", String::as_str);
            let engine = engine(number(1), parameters);
            let (phase, began) = if open {
                engine.begin_open(&[(0, 1.0)])
            } else {
                engine.begin_closed(&[number(1) as usize])
            }
            .unwrap_or_else(|error| panic!("{error}"));
            std::thread::sleep(Duration::from_secs_f64(number(2)));
            engine.cease();
            let ended = engine.system().now();
            let reading = &engine.reading(phase).unwrap_or_else(|error| panic!("{error}"))[0][0];
            let late = &reading.lateness;
            println!(
                "{} M/s ok, scheduled {}, rejected {}, late p50 {} p90 {} p99 {}, response p50 {} p99 {}",
                reading.counters.ok as f64 * 1e3 / (ended - began) as f64,
                reading.counters.scheduled,
                reading.counters.rejected,
                late.percentile(50.0),
                late.percentile(90.0),
                late.percentile(99.0),
                reading.response.percentile(50.0),
                reading.response.percentile(99.0),
            );
        }
        _ => panic!("{words:?}"),
    }
}
