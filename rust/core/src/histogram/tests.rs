//! The owned histogram against exact, sorted samples.

use proptest::prelude::*;

use super::*;

/// Latencies of every magnitude, some of them beyond an hour.
fn latencies() -> impl Strategy<Value = Vec<u64>> {
    let latency = (0u32..44, any::<u64>()).prop_map(|(bits, value)| value >> (63 - bits));
    prop::collection::vec(latency, 1..600)
}

fn exact_percentile(sorted: &[u64], percent: f64) -> u64 {
    let rank = (percent * sorted.len() as f64 / 100.0 + 0.5) as usize;
    sorted[rank.clamp(1, sorted.len()) - 1].min(HIGHEST_NS)
}

proptest! {
    #[test]
    fn percentiles_are_the_exact_ones_up_to_a_thousandth(
        values in latencies(),
        percents in prop::collection::vec(0.0..=100.0f64, 1..8),
    ) {
        let histogram = Histogram::from_values(values.iter().copied());
        let mut sorted = values;
        sorted.sort_unstable();
        let found = histogram.percentiles(&percents);
        for (percent, value_ns) in percents.iter().zip(found) {
            let exact = exact_percentile(&sorted, *percent);
            prop_assert_eq!(index_of(value_ns), index_of(exact));
            prop_assert!(value_ns.abs_diff(exact) * 1000 <= exact);
            prop_assert_eq!(histogram.percentile(*percent), value_ns);
        }
        let last = sorted[sorted.len() - 1].min(HIGHEST_NS);
        prop_assert_eq!(histogram.max(), highest_of(index_of(last)));
        prop_assert_eq!(histogram.min(), lowest_of(index_of(sorted[0].min(HIGHEST_NS))));
        let beyond = sorted.iter().filter(|value| **value > HIGHEST_NS).count();
        prop_assert_eq!(histogram.saturated(), beyond as u64);
    }

    #[test]
    fn the_mean_is_the_exact_one_up_to_a_thousandth(values in latencies()) {
        let histogram = Histogram::from_values(values.iter().copied());
        let sum: f64 = values.iter().map(|value| (*value).min(HIGHEST_NS) as f64).sum();
        let exact = sum / values.len() as f64;
        prop_assert!((histogram.mean() - exact).abs() <= exact / 1000.0);
    }

    #[test]
    fn merging_equals_recording_all_together(left in latencies(), right in latencies()) {
        let mut merged = Histogram::from_values(left.iter().copied());
        merged.merge(&Histogram::from_values(right.iter().copied()));
        let together = Histogram::from_values(left.iter().chain(&right).copied());
        prop_assert_eq!(merged, together);
    }

    #[test]
    fn subtracting_what_was_merged_gives_the_rest_back(left in latencies(), right in latencies()) {
        let earlier = Histogram::from_values(left.iter().copied());
        let rest = Histogram::from_values(right.iter().copied());
        let mut later = earlier.clone();
        later.merge(&rest);
        prop_assert_eq!(later.subtract(&earlier), Ok(rest));
        prop_assert_eq!(earlier.subtract(&later), Err(NotEarlier));
    }

    #[test]
    fn counts_between_two_values_are_those_of_their_buckets(
        values in latencies(), low in 0..1u64 << 42, width in 0..1u64 << 42,
    ) {
        let histogram = Histogram::from_values(values.iter().copied());
        let bucket = |value: u64| index_of(value.min(HIGHEST_NS));
        let range = bucket(low)..=bucket(low + width);
        let exact = values.iter().filter(|value| range.contains(&bucket(**value))).count();
        prop_assert_eq!(histogram.count_between(low, low + width), exact as u64);
    }

    #[test]
    fn buckets_rise_and_sum_to_the_count(values in latencies()) {
        let histogram = Histogram::from_values(values.iter().copied());
        let buckets: Vec<(usize, u64)> = histogram.buckets().collect();
        prop_assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0));
        prop_assert!(buckets.iter().all(|(_, count)| *count > 0));
        prop_assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), values.len() as u64);
    }
}

#[test]
fn an_empty_histogram_answers_zero() {
    let empty = Histogram::default();
    assert_eq!((empty.count(), empty.min(), empty.max(), empty.percentile(99.0)), (0, 0, 0, 0));
    assert_eq!(empty.mean().to_bits(), 0.0f64.to_bits());
    assert_eq!(empty.count_between(0, HIGHEST_NS), 0);
}

#[test]
fn a_wrong_value_is_noticed() {
    let mut values: Vec<u64> = (1..=1000).map(|value| value * 1000).collect();
    let right = Histogram::from_values(values.iter().copied());
    values[999] += 5_000_000;
    assert_ne!(Histogram::from_values(values).percentile(99.99), right.percentile(99.99));
}

#[test]
fn a_duration_of_zero_is_a_sample() {
    let histogram = Histogram::from_values([0, 0, 5]);
    assert_eq!((histogram.min(), histogram.percentile(50.0), histogram.max()), (0, 0, 5));
}
