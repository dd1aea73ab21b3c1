//! Whole schedules against what they promise, at sizes at which a promise broken would show.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn segment(start_ns: u64, end_ns: u64, rate_start: f64, rate_end: f64) -> Segment {
    Segment { start_ns, end_ns, rate_start, rate_end, phase: 0, epoch: 0 }
}

fn table(seed: u64, process: Process, segments: &[Segment]) -> Timetable {
    let mut table = Timetable::new(seed, &[Workload { process, weights: vec![1.0] }]);
    segments.iter().for_each(|segment| table.append(0, *segment));
    table
}

fn dues(table: &mut Timetable, count: usize) -> Vec<u64> {
    (0..count).map_while(|_| table.take()).map(|arrival| arrival.due).collect()
}

fn steady(rate: f64) -> [Segment; 1] {
    [segment(0, FOREVER, rate, rate)]
}

#[test]
fn a_million_gaps_of_a_poisson_schedule_are_exponential() {
    const COUNT: usize = 1_000_000;
    let rate = 2000.0;
    let dues = dues(&mut table(5, Process::Poisson, &steady(rate)), COUNT + 1);
    let mut gaps: Vec<f64> =
        dues.windows(2).map(|pair| (pair[1] - pair[0]) as f64 * 1e-9 * rate).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    // Kolmogorov and Smirnov: the largest distance between both distribution functions.
    let distance = gaps
        .iter()
        .enumerate()
        .map(|(rank, gap)| {
            let expected = 1.0 - (-gap).exp();
            let (below, above) = (rank as f64 / COUNT as f64, (rank + 1) as f64 / COUNT as f64);
            (expected - below).abs().max((expected - above).abs())
        })
        .fold(0.0, f64::max);
    // At 1.628 the probability of a distance this large is 0.01.
    assert!(distance * (COUNT as f64).sqrt() < 1.628, "{distance}");
}

#[test]
fn counts_of_a_poisson_schedule_vary_as_much_as_their_mean() {
    const WINDOWS: usize = 80_000;
    let (rate, window_ns) = (10_000.0, 5_000_000);
    let mut table = table(9, Process::Poisson, &steady(rate));
    let mut counts = vec![0.0f64; WINDOWS];
    while table.next_due() < WINDOWS as u64 * window_ns {
        let arrival = table.take().unwrap();
        counts[(arrival.due / window_ns) as usize] += 1.0;
    }
    let mean = counts.iter().sum::<f64>() / WINDOWS as f64;
    let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / WINDOWS as f64;
    // The standard error of this index of dispersion is 0.005.
    assert!((variance / mean - 1.0).abs() < 0.01, "{}", variance / mean);
}

#[test]
fn the_rate_asked_for_is_the_rate_drawn_from_one_to_five_million_a_second() {
    for rate in [1.0, 300.0, 48_000.0, 1e6, 5e6] {
        let count = 400_000;
        let last = dues(&mut table(3, Process::Constant, &steady(rate)), count)[count - 1];
        let expected = count as f64 / rate * 1e9;
        assert!((last as f64 / expected - 1.0).abs() < 50e-6, "{rate}: {last} for {expected}");
        // A sum of exponential draws: within four standard deviations of its own.
        let last = dues(&mut table(3, Process::Poisson, &steady(rate)), count)[count - 1];
        let allowed = 4.0 / (count as f64).sqrt();
        assert!((last as f64 / expected - 1.0).abs() < allowed, "{rate}: {last} for {expected}");
    }
}

#[test]
fn arrivals_of_a_linear_ramp_follow_its_integral() {
    let (seconds, top) = (100u64, 2000.0);
    let ramp =
        [segment(0, seconds * SECOND, 0.0, top), segment(seconds * SECOND, FOREVER, 0.0, 0.0)];
    let dues = dues(&mut table(1, Process::Constant, &ramp), usize::MAX);
    // The integral up to the end is seconds * top / 2; what falls on the very end is not before it.
    assert!(dues.len().abs_diff(100_000) <= 1, "{}", dues.len());
    for (place, due) in dues.iter().enumerate() {
        let expected = ((place + 1) as f64 * 2.0 / top * seconds as f64).sqrt();
        assert!(
            (*due as f64 * 1e-9 - expected).abs() < 2e-9 * 1e3,
            "{place}: {due} for {expected}"
        );
    }
}

#[test]
fn a_trace_is_replayed_at_its_instants_and_at_twice_the_rate_in_half_the_time() {
    let instants_s: Vec<f64> = (0..1000).map(|k| f64::from(k * k) * 1e-5 + 0.001).collect();
    let trace = || Process::Trace { instants_s: instants_s.clone().into() };
    let plain = dues(&mut table(1, trace(), &steady(1.0)), 1000);
    let twice = dues(&mut table(1, trace(), &steady(2.0)), 1000);
    for ((plain, twice), instant) in plain.iter().zip(&twice).zip(&instants_s) {
        assert!((*plain as f64 * 1e-9 - instant).abs() < 2e-9, "{plain} for {instant}");
        assert!(plain.abs_diff(2 * twice) <= 2, "{plain} and {twice}");
    }
}

#[test]
fn schedules_are_the_same_on_every_machine() {
    let ramp = [
        segment(0, 2_000_000_000, 100.0, 9000.0),
        segment(2_000_000_000, 5_000_000_000, 9000.0, 3.0),
        segment(5_000_000_000, FOREVER, 40_000.0, 40_000.0),
    ];
    let trace = Process::Trace { instants_s: (0..1000).map(|k| f64::from(k).sqrt()).collect() };
    let digests = [
        Process::Constant,
        Process::Poisson,
        Process::Gamma { shape: 0.4 },
        Process::OnOff { burst_ops: 30.0, duty: 0.2 },
        trace,
    ]
    .map(|process| {
        let mut table = table(5, process, &ramp);
        let taken = (0..50_000).map_while(|_| table.take()).count();
        assert!(taken >= 1000);
        format!("{:016x}", table.hash())
    });
    // Seen on x86-64; a machine that gets others has another schedule for the same seed.
    let seen = [
        "1ced48a8a2c55639",
        "ada072af98360e51",
        "bf9942a9fdbcb8a2",
        "4851873e40aec937",
        "61a4af18e5d97f36",
    ];
    assert_eq!(digests, seen);
}
