//! Draws with mean 1: the gaps of an arrival process in operational time.
//!
//! Only +, -, *, / and sqrt are used, which IEEE 754 defines to the bit, and a logarithm of our
//! own made of them; so a seed gives the same schedule on every machine.

use crate::random::Stream;

use super::exponentials::{exponential, exponentials, logarithm};
use super::lane::AHEAD;
use super::{OPERATIONAL_BITS, Operational};

/// How arrivals are spread at a given rate.
#[derive(Clone, Debug, PartialEq)]
pub enum Process {
    /// Evenly spaced.
    Constant,
    /// Independent arrivals.
    Poisson,
    /// Independent Gamma gaps; `shape` < 1 is burstier than Poisson, > 1 more regular.
    Gamma { shape: f64 },
    /// Bursts of Poisson arrivals, `burst_ops` long on average, at 1/`duty` times the mean rate,
    /// with silence between them.
    OnOff { burst_ops: f64, duty: f64 },
    /// Recorded instants in seconds of operational time, ascending; a rate of 1/s replays them at
    /// their own speed. After the last one there are no more.
    Trace { instants_s: std::sync::Arc<[f64]> },
}

/// Lanes that a workload is spread over unless it says otherwise.
pub const LANES: u16 = 64;

impl Process {
    /// Independent streams that make up the process. Poisson superposes exactly; constant and
    /// trace schedules are striped; the two renewal processes are not closed under
    /// superposition and stay one stream.
    #[must_use]
    pub fn lanes(&self) -> u16 {
        match self {
            Self::Constant | Self::Poisson | Self::Trace { .. } => LANES,
            Self::Gamma { .. } | Self::OnOff { .. } => 1,
        }
    }
}

/// One lane's position in its process.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    stream: Stream,
    /// Operations left in the current burst, in operational time (on-off only).
    burst_left: f64,
}

impl Draws {
    pub fn new(key: [u32; 2], lane: u16) -> Self {
        Self { stream: Stream::new(key, u64::from(lane)), burst_left: 0.0 }
    }

    /// Operational times of the arrivals of `lane` from ordinal `first` on, given that of the one
    /// before, into `targets`; returns how many there are, fewer where the process ends.
    pub fn fill(
        &mut self,
        process: &Process,
        previous: Operational,
        lane: u16,
        first: u64,
        targets: &mut [Operational; AHEAD],
    ) -> usize {
        let lanes = u64::from(process.lanes());
        let index = |position: usize| (first + position as u64) * lanes + u64::from(lane);
        match process {
            Process::Constant => {
                for (position, target) in targets.iter_mut().enumerate() {
                    *target = Operational::from(index(position) + 1) << OPERATIONAL_BITS;
                }
            }
            Process::Poisson => {
                // A gap is below 2^52 of 37 means, so that even their sum is far from 2^64.
                let gaps = exponentials(&mut self.stream, (lanes << OPERATIONAL_BITS) as f64);
                let mut since = 0;
                for (target, gap) in targets.iter_mut().zip(gaps) {
                    since += gap;
                    *target = previous + Operational::from(since);
                }
            }
            Process::Gamma { shape } => {
                let gaps =
                    std::array::from_fn(|_| operational(gamma(&mut self.stream, *shape) / shape));
                accumulate(previous, gaps, targets);
            }
            Process::OnOff { burst_ops, duty } => {
                let gaps = std::array::from_fn(|_| operational(self.on_off(*burst_ops, *duty)));
                accumulate(previous, gaps, targets);
            }
            Process::Trace { instants_s } => {
                let mut last = previous;
                for (position, target) in targets.iter_mut().enumerate() {
                    let instant = usize::try_from(index(position)).ok();
                    let Some(instant) = instant.and_then(|at| instants_s.get(at)) else {
                        return position;
                    };
                    last = operational(*instant).max(last);
                    *target = last;
                }
            }
        }
        AHEAD
    }

    /// A gap of the on-off process: time advances at 1/`duty` arrivals per unit inside a burst,
    /// and jumps over the silences.
    fn on_off(&mut self, burst_ops: f64, duty: f64) -> f64 {
        let mut wanted = exponential(&mut self.stream);
        let mut gap = 0.0;
        while wanted > self.burst_left {
            wanted -= self.burst_left;
            gap += self.burst_left * duty;
            gap += exponential(&mut self.stream) * burst_ops * (1.0 - duty);
            self.burst_left = exponential(&mut self.stream) * burst_ops;
        }
        self.burst_left -= wanted;
        gap + wanted * duty
    }
}

fn operational(arrivals: f64) -> Operational {
    (arrivals * (1u64 << OPERATIONAL_BITS) as f64) as Operational
}

/// Sums of `gaps` from `previous` on.
#[inline]
fn accumulate(
    mut previous: Operational,
    gaps: [Operational; AHEAD],
    targets: &mut [Operational; AHEAD],
) {
    for (target, gap) in targets.iter_mut().zip(gaps) {
        previous += gap;
        *target = previous;
    }
}

/// A standard normal by Marsaglia's polar method (SIAM Review 6, 1964).
fn normal(stream: &mut Stream) -> f64 {
    loop {
        let x = 2.0 * stream.next_unit() - 1.0;
        let y = 2.0 * stream.next_unit() - 1.0;
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * logarithm(square) / square).sqrt();
        }
    }
}

/// A Gamma variate of `shape` and scale 1 (Marsaglia and Tsang, ACM TOMS 26, 2000).
///
/// A shape below 1 is the boosted variate of `shape` + 1 times u^(1/shape), taken as
/// exp(-E/shape) with our own exponential function.
fn gamma(stream: &mut Stream, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = exponentiate(-exponential(stream) / shape);
        return gamma(stream, shape + 1.0) * boost;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(stream);
        let v = 1.0 + c * x;
        if v <= 0.0 {
            continue;
        }
        let v = v * v * v;
        let uniform = 1.0 - stream.next_unit();
        if logarithm(uniform) < 0.5 * x * x + d * (1.0 - v + ln_any(v)) {
            return d * v;
        }
    }
}

fn ln_any(value: f64) -> f64 {
    if value > 1.0 { -logarithm(1.0 / value) } else { logarithm(value) }
}

/// e^x for x <= 0: halved until it is small, a Taylor sum, then squared back.
fn exponentiate(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let mut halvings = 0;
    let mut reduced = x;
    while reduced < -0.125 {
        reduced *= 0.5;
        halvings += 1;
    }
    let mut sum = 1.0;
    for n in (1..=12).rev() {
        sum = 1.0 + sum * reduced / f64::from(n);
    }
    for _ in 0..halvings {
        sum *= sum;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream_key;

    #[test]
    fn the_exponential_function_agrees_with_the_library() {
        for step in 0..2000 {
            let x = -f64::from(step) * 0.013;
            assert!((exponentiate(x) / x.exp() - 1.0).abs() < 1e-12, "{x}");
        }
    }

    fn gaps(process: &Process, count: u64) -> Vec<f64> {
        let mut draws = Draws::new(stream_key(11, 1), 0);
        let (mut previous, mut targets) = (0, [0; AHEAD]);
        let mut gaps = Vec::new();
        for first in (0..count).step_by(AHEAD) {
            assert_eq!(draws.fill(process, previous, 0, first, &mut targets), AHEAD);
            for target in targets {
                let gap = (target - previous) as f64 / (1u64 << OPERATIONAL_BITS) as f64;
                previous = target;
                gaps.push(gap / f64::from(process.lanes()));
            }
        }
        gaps
    }

    fn moments(gaps: &[f64]) -> (f64, f64) {
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (mean, variance)
    }

    #[test]
    fn every_process_has_mean_one_and_its_own_variance() {
        let cases = [
            (Process::Poisson, 1.0),
            (Process::Gamma { shape: 0.5 }, 2.0),
            (Process::Gamma { shape: 4.0 }, 0.25),
        ];
        for (process, variance) in cases {
            let (mean, found) = moments(&gaps(&process, 400_000));
            assert!((mean - 1.0).abs() < 0.01, "{process:?}: mean {mean}");
            assert!((found / variance - 1.0).abs() < 0.03, "{process:?}: variance {found}");
        }
    }

    #[test]
    fn on_off_bursts_keep_the_mean_rate_and_are_silent_between() {
        let process = Process::OnOff { burst_ops: 20.0, duty: 0.25 };
        let gaps = gaps(&process, 400_000);
        let (mean, variance) = moments(&gaps);
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert!(variance > 5.0, "bursts vary more than Poisson, got {variance}");
        let inside = gaps.iter().filter(|gap| **gap < 1.0).count() as f64 / gaps.len() as f64;
        assert!(inside > 0.9, "most gaps are inside bursts, got {inside}");
    }
}
