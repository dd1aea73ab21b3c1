//! Simulated systems against their closed forms, and the coordinated-omission case.

use super::*;
use crate::arrivals::Process;
use crate::clock::{Pacing, RealClock};
use crate::engine::Reading;

const SECOND: u64 = 1_000_000_000;

fn workload(process: Process, rate: f64, service: Service) -> SimulatedWorkload {
    let source = Workload { process, weights: vec![1.0] };
    SimulatedWorkload { source, rate, service, in_flight_bound: 1 << 20 }
}

fn simulated(seed: u64, servers: usize, workloads: Vec<SimulatedWorkload>) -> Simulated {
    Simulated { seed, servers, workloads, freezes: Vec::new(), drift_per_hour: 0.0 }
}

fn hold(engine: &Engine, multiplier: f64, seconds: u64) -> Vec<Reading> {
    let (phase, _) = engine.begin_open(&[(0, multiplier)]).unwrap();
    engine.system().wait(seconds * SECOND);
    engine.cease();
    assert!(engine.settle(600 * SECOND));
    engine.reading(phase).unwrap().into_iter().map(|mut ops| ops.remove(0)).collect()
}

#[test]
fn an_mm1_queue_has_the_response_times_of_the_textbook() {
    let service = Service::Exponential { mean_ns: 1e6 };
    let system = simulated(4, 1, vec![workload(Process::Poisson, 100.0, service)]);
    let engine = system.engine();
    for utilisation in [1.0, 5.0, 8.0] {
        let reading = hold(&engine, utilisation, 2000).remove(0);
        let mean = reading.response.mean();
        let expected = 1e6 / (1.0 - 0.1 * utilisation);
        assert!((mean / expected - 1.0).abs() < 0.06, "at {utilisation}: {mean} for {expected}");
        let p99 = reading.response.percentile(99.0) as f64;
        assert!((p99 / (expected * 100f64.ln()) - 1.0).abs() < 0.12, "at {utilisation}: {p99}");
    }
}

#[test]
fn the_same_seed_simulates_the_same_run() {
    let run = || {
        let service = Service::Exponential { mean_ns: 2e6 };
        let engine = simulated(9, 2, vec![workload(Process::Poisson, 300.0, service)]).engine();
        let reading = hold(&engine, 2.0, 20).remove(0);
        (reading.response, reading.counters, engine.system().stop())
    };
    let (first, second) = (run(), run());
    assert!(first.0 == second.0 && first.1 == second.1 && first.2 == second.2);
}

#[test]
fn the_component_that_asks_for_most_queues_first() {
    let light = workload(Process::Poisson, 200.0, Service::Constant { ns: 1e6 });
    let heavy = workload(Process::Poisson, 200.0, Service::Constant { ns: 10e6 });
    let engine = simulated(2, 2, vec![light, heavy]).engine();
    let readings = hold(&engine, 1.2, 20);
    let p99 = |index: usize| readings[index].response.percentile(99.0);
    assert!(p99(1) > 500_000_000, "its demand is 1.2 times the machine: {}", p99(1));
    assert!(p99(0) < 40_000_000, "the other keeps its share: {}", p99(0));
}

#[test]
fn a_closed_loop_of_n_on_one_server_responds_in_n_service_times() {
    let service = Service::Constant { ns: 1e6 };
    let engine = simulated(2, 1, vec![workload(Process::Poisson, 1.0, service)]).engine();
    let (phase, _) = engine.begin_closed(&[8]).unwrap();
    engine.system().wait(SECOND);
    engine.cease();
    assert!(engine.settle(SECOND));
    let reading = engine.reading(phase).unwrap().remove(0).remove(0);
    assert!(reading.counters.ok.abs_diff(1000) <= 9, "{:?}", reading.counters);
    assert!(reading.response.percentile(50.0).abs_diff(8_000_000) < 10_000);
}

#[test]
fn ten_thousand_random_changes_lose_and_double_nothing_and_replay() {
    let source = || Workload { process: Process::Poisson, weights: vec![1.0] };
    let service = Service::Constant { ns: 20_000.0 };
    let workloads = vec![
        workload(Process::Poisson, 2000.0, service),
        workload(Process::Poisson, 500.0, service),
    ];
    let engine = simulated(11, 4, workloads).engine();
    let mut draws = crate::random::Stream::new(crate::random::stream_key(11, 77), 0);
    let (phase, _) = engine.begin_open(&[(0, 1.0)]).unwrap();
    for _ in 0..10_000 {
        engine.system().wait((draws.next_unit() * 2e6) as u64);
        let factor = draws.next_unit();
        engine.change(if factor < 0.1 { 0.0 } else { 4.0 * factor });
    }
    engine.cease();
    assert!(engine.settle(SECOND));
    let scheduled: Vec<u64> = engine
        .reading(phase)
        .unwrap()
        .iter()
        .map(|ops| {
            let one = ops[0].counters;
            assert_eq!(one.scheduled, one.ok + one.errors + one.rejected + one.abandoned);
            one.scheduled
        })
        .collect();

    let log = engine.control_log();
    assert_eq!(log.len(), 2 * 10_002);
    let mut replayed = Timetable::new(11, &[source(), source()]);
    log.iter().for_each(|(workload, segment)| replayed.append(*workload, *segment));
    let mut ordinals = std::collections::BTreeMap::<(u16, u64), u64>::new();
    let mut counts = [0, 0];
    while let Some(arrival) = replayed.take() {
        let next = ordinals.entry((arrival.workload, arrival.key >> 48)).or_default();
        assert_eq!(arrival.key & ((1 << 48) - 1), *next, "a lane's operations come one by one");
        *next += 1;
        counts[usize::from(arrival.workload)] += 1;
    }
    assert_eq!(scheduled, counts);
    assert_eq!(replayed.hash(), engine.system().stop());
}

/// 10 000 operations a second for 10 s on one server that stands still from 5 s to 6 s.
fn one_freeze<C: Clock>(clock: &C, mut work: impl FnMut()) -> Reading {
    let recorder = Recorder::new(&[1]);
    let source = Workload { process: Process::Constant, weights: vec![1.0] };
    let mut timetable = Timetable::new(1, &[source]);
    let start = clock.now();
    let segment = Segment {
        start_ns: start,
        end_ns: start + 10 * SECOND,
        rate_start: 10_000.0,
        rate_end: 10_000.0,
        phase: 0,
        epoch: 0,
    };
    timetable.append(0, segment);
    let run = |_| work();
    let mut inline = Inline { clock, run, recorder: &recorder, free_at: start };
    serve(clock, &mut timetable, &Control::default(), &mut inline, segment.end_ns);
    recorder.series(0, 0, 0).read()
}

fn assert_freeze_is_charged(reading: &Reading, tolerance: f64) {
    // 10 % of the arrivals fall into the freeze and wait from 1 s down to nothing, so exactly 1 %
    // of all waits longer than 0.9 s; each operation by itself takes next to nothing.
    let p99 = reading.response.percentile(99.0) as f64;
    assert!((p99 / 0.9e9 - 1.0).abs() < tolerance, "response p99 {p99}");
    let service = reading.service.percentile(99.0);
    assert!(service < 1_000_000, "service p99 {service}");
    assert_eq!(reading.counters.ok, 100_000);
}

#[test]
fn a_freeze_is_charged_to_every_arrival_it_delays_exactly_in_virtual_time() {
    let clock = VirtualClock::default();
    let mut frozen = false;
    let reading = one_freeze(&clock, || {
        let freeze = !frozen && clock.now() >= 5 * SECOND;
        frozen |= freeze;
        clock.advance_to(clock.now() + if freeze { SECOND } else { 100 });
    });
    assert_freeze_is_charged(&reading, 0.002);
}

#[test]
fn a_freeze_is_charged_to_every_arrival_it_delays_within_three_percent_in_real_time() {
    let clock = RealClock::new(Pacing::Hybrid);
    let began = clock.now();
    let mut frozen = false;
    let reading = one_freeze(&clock, || {
        if !frozen && clock.now() >= began + 5 * SECOND {
            frozen = true;
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    });
    assert_freeze_is_charged(&reading, 0.03);
}

#[test]
fn a_freeze_of_simulated_servers_delays_what_they_were_doing() {
    assert_eq!(servers::thaw(&[(100, 200)], 50, 60), 210);
    assert_eq!(servers::thaw(&[(100, 200)], 150, 10), 210);
    assert_eq!(servers::thaw(&[(100, 200)], 200, 10), 210);
    assert_eq!(servers::thaw(&[(100, 200)], 10, 20), 30);
}
