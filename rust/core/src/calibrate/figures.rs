//! What was measured, as figures: the best of repeats, percentiles of delays, their spread.

use serde::Serialize;

/// One measured ceiling.
#[derive(Clone, Debug, Serialize)]
pub struct Ceiling {
    pub key: &'static str,
    /// The best repeat of a rate, the median of a delay.
    pub value: f64,
    pub unit: &'static str,
    /// Half of what lies between the repeats' quartiles, over their median (a delay's repeats are
    /// five stretches of its samples).
    pub spread: f64,
    pub threads: usize,
    pub samples: usize,
}

/// All that was measured, what could not be, and what it took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Calibration {
    pub ceilings: Vec<Ceiling>,
    /// (key, reason) of each ceiling that this machine does not have.
    pub absent: Vec<(&'static str, String)>,
    pub notes: Vec<String>,
    pub memory_bytes: usize,
    pub disk_written_bytes: u64,
    pub duration_s: f64,
}

/// Repeats of a rate, and stretches that the spread of a delay is taken over.
pub const REPEATS: usize = 5;
/// A percentile with fewer samples beyond it is an anecdote.
const BEYOND_MIN: f64 = 10.0;

impl Calibration {
    /// Files what all threads did and what one did; where one did better, that is the ceiling of
    /// both, since all threads together can at least do what one of them does.
    pub fn pair(
        &mut self,
        (key, alone): (&'static str, &'static str),
        unit: &'static str,
        threads: usize,
        together: Vec<f64>,
        single: Vec<f64>,
    ) {
        if best(&single) > best(&together) {
            self.rate(key, unit, 1, single.clone());
        } else {
            self.rate(key, unit, threads, together);
        }
        self.rate(alone, unit, 1, single);
    }

    /// Files the best of `rates`.
    pub fn rate(&mut self, key: &'static str, unit: &'static str, threads: usize, rates: Vec<f64>) {
        let samples = rates.len();
        let sorted = sorted(rates);
        match sorted.last() {
            Some(best) => {
                let spread = spread(&sorted);
                self.ceilings.push(Ceiling { key, value: *best, unit, spread, threads, samples });
            }
            None => self.absent.push((key, "no repeat came to an end".to_owned())),
        }
    }

    /// Files `percentile` of `delays`; its spread is that over five stretches of them.
    pub fn delay(&mut self, key: &'static str, delays: &[f64], percentile: f64, threads: usize) {
        let samples = delays.len();
        let beyond = samples as f64 * (100.0 - percentile) / 100.0;
        if samples < REPEATS || (percentile > 50.0 && beyond < BEYOND_MIN) {
            self.absent.push((key, format!("only {samples} samples in its time")));
            return;
        }
        let at = |part: &[f64]| quantile(&sorted(part.to_vec()), percentile / 100.0);
        let parts = sorted(delays.chunks(samples.div_ceil(REPEATS)).map(at).collect());
        let (value, spread) = (at(delays), spread(&parts));
        self.ceilings.push(Ceiling { key, value, unit: "ns", spread, threads, samples });
    }
}

/// The largest; 0 of none.
pub fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Linear between the order statistics; `sorted` holds at least one.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

fn spread(sorted: &[f64]) -> f64 {
    let median = quantile(sorted, 0.5);
    if median <= 0.0 {
        return 0.0;
    }
    (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2.0 / median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_and_quantiles_are_those_of_the_order_statistics() {
        let values = sorted(vec![4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 0.9), 4.6);
        assert_eq!(spread(&values), 1.0 / 3.0);
        assert_eq!(spread(&[0.0]), 0.0);
        assert_eq!(best(&values), 5.0);
    }
}
