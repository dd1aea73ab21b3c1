//! Cost of recording and reading latencies beside the crate `hdrhistogram`, in nanoseconds a call.
//!
//! Usage: `histogram ours|peer record|percentiles|merge|encode|decode` prints one number. Budgets:
//! 1.6 ns a record (a million operations a second in three histograms then cost half a percent of
//! a core), 8 µs for 5 percentiles, 4 µs for a merge and 300 µs for an encoding, so that reading
//! 100 histograms ten times a second costs about 1 % of a core.

use std::hint::black_box;
use std::time::Instant;

use hdrhistogram::Histogram as Peer;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use swarmbench_core::histogram::{Counts, HIGHEST_NS, Histogram};
use swarmbench_core::hlog;
use swarmbench_core::random::{Stream, stream_key};

const SAMPLES: usize = 1 << 16;
const PERCENTS: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

/// Latencies of 1 µs to 4 s, evenly over the magnitudes but denser towards the low end.
fn latencies(seed: u64) -> Vec<u64> {
    let mut stream = Stream::new(stream_key(seed, 0), 0);
    let magnitude = |unit: f64| (1e3 * (4e6f64).powf(unit * unit)) as u64;
    (0..SAMPLES).map(|_| magnitude(stream.next_unit())).collect()
}

fn peer_of(values: &[u64]) -> Peer<u64> {
    let mut peer = Peer::new_with_bounds(1, HIGHEST_NS, 3).expect("the bounds are right");
    values.iter().for_each(|value_ns| peer.saturating_record(*value_ns));
    peer
}

/// Nanoseconds a call: the fastest of some stretches of `calls` calls each.
fn cost_ns(calls: usize, mut stretch: impl FnMut(usize)) -> f64 {
    (0..40)
        .map(|_| {
            let began = Instant::now();
            stretch(calls);
            began.elapsed().as_nanos() as f64 / calls as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn ours(case: &str) -> f64 {
    let values = latencies(1);
    let histogram = Histogram::from_values(values.iter().copied());
    match case {
        "record" => {
            let counts = Counts::new();
            let record = |_| values.iter().for_each(|value_ns| counts.record(black_box(*value_ns)));
            cost_ns(SAMPLES, record)
        }
        "percentiles" => cost_ns(50, |calls| {
            (0..calls).for_each(|_| drop(black_box(histogram.percentiles(black_box(&PERCENTS)))));
        }),
        "merge" => {
            let mut sum = Histogram::from_values(latencies(2));
            cost_ns(50, |calls| (0..calls).for_each(|_| sum.merge(black_box(&histogram))))
        }
        "encode" => cost_ns(5, |calls| {
            (0..calls).for_each(|_| drop(black_box(hlog::encode(black_box(&histogram)))));
        }),
        "decode" => {
            let text = hlog::encode(&histogram);
            cost_ns(5, |calls| (0..calls).for_each(|_| drop(black_box(hlog::decode(&text)))))
        }
        other => panic!("there is no case `{other}`"),
    }
}

fn peer(case: &str) -> f64 {
    let values = latencies(1);
    let mut histogram = peer_of(&values);
    let mut serializer = V2DeflateSerializer::new();
    let mut bytes = Vec::new();
    match case {
        "record" => cost_ns(SAMPLES, |_| {
            values.iter().for_each(|value_ns| histogram.saturating_record(black_box(*value_ns)));
        }),
        "percentiles" => cost_ns(50, |calls| {
            for _ in 0..calls {
                black_box(PERCENTS.map(|percent| histogram.value_at_percentile(percent)));
            }
        }),
        "merge" => {
            let mut sum = peer_of(&latencies(2));
            cost_ns(50, |calls| {
                (0..calls).for_each(|_| sum.add(black_box(&histogram)).expect("the same bounds"));
            })
        }
        "encode" => cost_ns(5, |calls| {
            for _ in 0..calls {
                bytes.clear();
                serializer.serialize(&histogram, &mut bytes).expect("memory takes every byte");
            }
        }),
        "decode" => {
            serializer.serialize(&histogram, &mut bytes).expect("memory takes every byte");
            let mut deserializer = Deserializer::new();
            cost_ns(5, |calls| {
                for _ in 0..calls {
                    let read: Result<Peer<u64>, _> = deserializer.deserialize(&mut &bytes[..]);
                    assert!(read.is_ok());
                }
            })
        }
        other => panic!("there is no case `{other}`"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ours", case] => println!("{}", ours(case)),
        ["peer", case] => println!("{}", peer(case)),
        _ => panic!("usage: histogram ours|peer record|percentiles|merge|encode|decode"),
    }
}
