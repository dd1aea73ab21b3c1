//! A rate that is linear between change points, its integral and the inverse of that integral.

use super::{OPERATIONAL_BITS, Operational};

/// A segment's end where nothing says otherwise.
pub const FOREVER: u64 = u64::MAX;

/// A stretch of a workload's rate function, as a command asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    pub start_ns: u64,
    /// Moment at which `rate_end` is reached; the rate is 0 from there on until the next segment.
    pub end_ns: u64,
    /// Arrivals per second at the start.
    pub rate_start: f64,
    /// Arrivals per second at the end; equal to `rate_start` in a segment without end.
    pub rate_end: f64,
    /// Phase that arrivals due in it belong to.
    pub phase: u32,
    /// Load epoch that they carry.
    pub epoch: u32,
}

impl Segment {
    /// Expected arrivals between the start and `at`.
    fn area_until(&self, at: u64) -> f64 {
        let seconds = (at.clamp(self.start_ns, self.end_ns) - self.start_ns) as f64 * 1e-9;
        self.rate_start * seconds + 0.5 * self.slope() * seconds * seconds
    }

    /// Change of the rate, arrivals per second per second.
    fn slope(&self) -> f64 {
        if self.end_ns == FOREVER || self.end_ns == self.start_ns {
            return 0.0;
        }
        (self.rate_end - self.rate_start) / ((self.end_ns - self.start_ns) as f64 * 1e-9)
    }

    /// Moment at which `area` arrivals are expected since the start, in closed form:
    /// t = 2a / (r + sqrt(r^2 + 2 s a)), which loses no digits where the slope s is small.
    fn moment(&self, area: f64) -> u64 {
        let discriminant = self.rate_start * self.rate_start + 2.0 * self.slope() * area;
        let seconds = if area <= 0.0 {
            0.0
        } else {
            2.0 * area / (self.rate_start + discriminant.max(0.0).sqrt())
        };
        // The cast saturates: a rate of 0 gives infinity, hence FOREVER.
        let offset = (seconds * 1e9) as u64;
        self.start_ns.saturating_add(offset)
    }
}

/// Nanoseconds between arrivals of a steady rate, as a multiple of a power of two that, times an
/// `Operational`, has `fraction` bits left below a nanosecond once the lowest 64 are dropped.
#[derive(Clone, Copy, Debug)]
struct Period {
    multiple: u64,
    fraction: u32,
}

impl Period {
    /// `None` where the rate is not steady, or below one arrival in about 4 minutes.
    fn of(segment: &Segment) -> Option<Self> {
        if segment.rate_start != segment.rate_end {
            return None;
        }
        let nanoseconds = 1e9 / segment.rate_start;
        let bits = nanoseconds.to_bits();
        let exponent = (bits >> 52) as i32 - 1023;
        let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
        let fraction = 62 - exponent + OPERATIONAL_BITS as i32 - 64;
        let fits = (1..64).contains(&fraction);
        fits.then_some(Self { multiple: mantissa << 10, fraction: fraction as u32 })
    }

    /// The time of so much operational time, to the nearest nanosecond; saturates.
    #[inline]
    fn times(self, operational: Operational) -> u64 {
        let multiple = u128::from(self.multiple);
        let (high, low) = ((operational >> 64) as u64, operational as u64);
        let product = u128::from(high) * multiple + ((u128::from(low) * multiple) >> 64);
        let rounded = product + u128::from(1u64 << (self.fraction - 1));
        let (high, low) = ((rounded >> 64) as u64, rounded as u64);
        if high >> self.fraction == 0 {
            high << (64 - self.fraction) | low >> self.fraction
        } else {
            u64::MAX
        }
    }
}

/// A segment at a steady rate, for planning many arrivals at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    period: Period,
    start_ns: u64,
    end_ns: u64,
    /// Integral of the rate up to its start, and up to the next segment's.
    area: Operational,
    next: Operational,
}

impl Steady {
    /// The moment at which the integral reaches `target`, where it does so in this segment.
    #[inline]
    pub(crate) fn moment(&self, target: Operational) -> Option<u64> {
        let wanted = target.saturating_sub(self.area);
        let moment = self.start_ns.saturating_add(self.period.times(wanted));
        (target < self.next && moment < self.end_ns).then_some(moment)
    }
}

/// A segment with what planning needs of it.
#[derive(Clone, Copy, Debug)]
struct Planned {
    segment: Segment,
    /// Integral of the rate up to its start.
    area: Operational,
    period: Option<Period>,
}

impl Planned {
    /// The moment at which the integral reaches `target`, where it does so in this segment.
    #[inline]
    fn moment(&self, target: Operational) -> u64 {
        let wanted = target.saturating_sub(self.area);
        match self.period {
            Some(period) => self.segment.start_ns.saturating_add(period.times(wanted)),
            None => self.segment.moment(arrivals(wanted)),
        }
    }
}

fn arrivals(operational: Operational) -> f64 {
    operational as f64 / (1u64 << OPERATIONAL_BITS) as f64
}

/// A rate function: segments in order of time, appended to and never altered before the last.
#[derive(Clone, Debug, Default)]
pub struct RateFunction {
    segments: Vec<Planned>,
}

impl RateFunction {
    /// Appends a segment; whatever was planned from its start on is replaced.
    pub fn append(&mut self, mut segment: Segment) {
        assert!(segment.end_ns >= segment.start_ns && segment.rate_start >= 0.0);
        while self.segments.last().is_some_and(|last| last.segment.start_ns >= segment.start_ns) {
            self.segments.pop();
        }
        let area = match self.segments.last_mut() {
            None => 0,
            Some(Planned { segment: last, area, .. }) => {
                assert!(
                    segment.start_ns >= last.start_ns,
                    "segments are appended in order of time"
                );
                let expected = last.area_until(segment.start_ns);
                if segment.start_ns < last.end_ns {
                    last.rate_end = last.rate_start
                        + last.slope() * ((segment.start_ns - last.start_ns) as f64 * 1e-9);
                    last.end_ns = segment.start_ns;
                }
                *area + (expected * (1u64 << OPERATIONAL_BITS) as f64) as Operational
            }
        };
        if segment.end_ns == FOREVER {
            segment.rate_end = segment.rate_start;
        }
        self.segments.push(Planned { segment, area, period: Period::of(&segment) });
    }

    /// Segment `index`, where its rate is steady: most often.
    #[inline]
    pub(crate) fn steady(&self, index: usize) -> Option<Steady> {
        let Planned { segment, area, period } = *self.segments.get(index)?;
        let next = self.segments.get(index + 1).map_or(Operational::MAX, |next| next.area);
        let Segment { start_ns, end_ns, .. } = segment;
        period.map(|period| Steady { period, start_ns, end_ns, area, next })
    }

    /// The moment at which the integral reaches `target`, and the index of the segment it falls
    /// into; searches from segment `from` on. `None` where the planned rates never reach it.
    pub(crate) fn moment(&self, target: Operational, from: usize) -> Option<(u64, usize)> {
        let mut index = from;
        while let Some(planned) = self.segments.get(index) {
            let next = self.segments.get(index + 1);
            if next.is_none_or(|next| target < next.area) {
                let moment = planned.moment(target);
                let segment = &planned.segment;
                if moment < segment.end_ns {
                    return Some((moment, index));
                }
                // Rounding may place the last arrival on the boundary; it stays in its segment.
                let wanted = arrivals(target.saturating_sub(planned.area));
                let reachable = next.is_some() || wanted <= segment.area_until(segment.end_ns);
                return (reachable
                    && segment.end_ns > segment.start_ns
                    && segment.end_ns != FOREVER)
                    .then(|| (segment.end_ns - 1, index));
            }
            index += 1;
        }
        None
    }

    pub(crate) fn segment(&self, index: usize) -> &Segment {
        &self.segments[index].segment
    }

    /// Index of the first segment that could hold an arrival due at or after `at`.
    pub(crate) fn index_at(&self, at: u64) -> usize {
        self.segments.partition_point(|planned| planned.segment.start_ns <= at).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(start_ns: u64, rate: f64) -> Segment {
        Segment { start_ns, end_ns: FOREVER, rate_start: rate, rate_end: rate, phase: 0, epoch: 0 }
    }

    fn at(arrivals: f64) -> Operational {
        (arrivals * (1u64 << OPERATIONAL_BITS) as f64) as Operational
    }

    #[test]
    fn a_constant_rate_is_inverted_exactly() {
        let mut rate = RateFunction::default();
        rate.append(constant(1_000, 1000.0));
        assert_eq!(rate.moment(at(5.0), 0), Some((5_001_000, 0)));
    }

    #[test]
    fn a_steady_rate_is_inverted_from_one_in_hours_to_billions_a_second() {
        for nanoseconds in [1e-3, 0.7, 1e3, 1e9, 2.7e11, 2.8e11, 5.4e11, 6e11, 1.1e12, 1e13] {
            let mut rate = RateFunction::default();
            rate.append(constant(5, 1e9 / nanoseconds));
            let (found, _) = rate.moment(at(3.0), 0).expect("it is reached");
            let right = 5.0 + 3.0 * nanoseconds;
            assert!((found as f64 - right).abs() <= 0.5 + right * 1e-12, "{found} for {right}");
        }
    }

    #[test]
    fn a_ramp_reaches_its_integral_in_closed_form() {
        let mut rate = RateFunction::default();
        let second = 1_000_000_000;
        rate.append(Segment {
            start_ns: 0,
            end_ns: 10 * second,
            rate_start: 0.0,
            rate_end: 100.0,
            phase: 0,
            epoch: 0,
        });
        // The integral of 10 t is 5 t^2: 125 arrivals by 5 s, 500 by 10 s, and then no more.
        let (moment, _) = rate.moment(at(125.0), 0).unwrap();
        assert!(moment.abs_diff(5 * second) < 2, "{moment}");
        assert_eq!(rate.moment(at(501.0), 0), None);
    }

    #[test]
    fn an_appended_segment_leaves_everything_before_it_as_it_was() {
        let mut before = RateFunction::default();
        before.append(constant(0, 50.0));
        let mut after = before.clone();
        after.append(constant(2_000_000_000, 500.0));
        for arrivals in 0..100 {
            assert_eq!(
                before.moment(at(f64::from(arrivals)), 0),
                after.moment(at(f64::from(arrivals)), 0)
            );
        }
        let (moment, index) = after.moment(at(600.0), 0).unwrap();
        assert_eq!((moment, index), (3_000_000_000, 1));
    }

    #[test]
    fn a_change_replaces_what_was_planned_after_it() {
        let mut rate = RateFunction::default();
        rate.append(constant(0, 10.0));
        rate.append(constant(5_000_000_000, 1000.0));
        rate.append(constant(2_000_000_000, 1.0));
        assert_eq!(rate.moment(at(25.0), 0), Some((7_000_000_000, 1)));
    }

    #[test]
    fn a_rate_of_zero_waits_for_the_next_segment() {
        let mut rate = RateFunction::default();
        rate.append(constant(0, 0.0));
        assert_eq!(rate.moment(at(1.0), 0), None);
        rate.append(constant(7_000_000_000, 1.0));
        assert_eq!(rate.moment(at(1.0), 0), Some((8_000_000_000, 1)));
    }
}
