//! Lanes of several workloads merged into one stream of arrivals in order of time.

use crate::random::stream_key;

use super::lane::Lane;
use super::tournament::Tournament;
use super::{FOREVER, Mix, Process, RateFunction, Segment, domain};

/// One operation asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Intended start.
    pub due: u64,
    /// Lane in the upper 16 bits, ordinal in the lower 48.
    pub key: u64,
    pub phase: u32,
    pub epoch: u32,
    pub workload: u16,
    pub op: u8,
}

/// What the arrivals of one workload are made from.
#[derive(Clone, Debug)]
pub struct Workload {
    pub process: Process,
    pub weights: Vec<f64>,
}

/// One workload's lanes in order of time.
struct Course {
    process: Process,
    mix: Mix,
    rate: RateFunction,
    lanes: Vec<Lane>,
    order: Tournament,
}

impl Course {
    fn new(seed: u64, index: u16, workload: &Workload) -> Self {
        let key = stream_key(seed, domain::ARRIVALS + u64::from(index));
        let process = workload.process.clone();
        let lanes: Vec<Lane> =
            (0..process.lanes()).map(|lane| Lane::new(key, lane, &process)).collect();
        Self {
            process,
            mix: Mix::new(seed, index, &workload.weights),
            rate: RateFunction::default(),
            order: Tournament::new(lanes.len()),
            lanes,
        }
    }
}

/// All lanes of all workloads: hands out arrivals in order of (time, workload, lane).
pub struct Timetable {
    courses: Vec<Course>,
    /// The workload whose arrival is next, and when it is due.
    first: (usize, u64),
    hash: u64,
}

impl Timetable {
    #[must_use]
    pub fn new(seed: u64, workloads: &[Workload]) -> Self {
        let courses = workloads
            .iter()
            .enumerate()
            .map(|(index, workload)| Course::new(seed, index as u16, workload))
            .collect();
        Self { courses, first: (0, FOREVER), hash: 0 }
    }

    /// Appends a segment to the rate function of `workload` and plans anew the arrivals that were
    /// due at its start or later; their draws stay.
    pub fn append(&mut self, workload: u16, segment: Segment) {
        let course = &mut self.courses[usize::from(workload)];
        course.rate.append(segment);
        for lane in &mut course.lanes {
            lane.replan(segment.start_ns, &course.rate);
        }
        course.order.rebuild(|lane| course.lanes[lane].due());
        self.first = self.earliest();
    }

    /// Intended start of the next arrival, `FOREVER` where none is planned.
    #[inline]
    #[must_use]
    pub fn next_due(&self) -> u64 {
        self.first.1
    }

    /// Takes the next arrival.
    #[inline]
    pub fn take(&mut self) -> Option<Arrival> {
        let (workload, due) = self.first;
        if due == FOREVER {
            return None;
        }
        let course = &mut self.courses[workload];
        let lane = &mut course.lanes[course.order.winner().0];
        let segment = course.rate.segment(lane.segment());
        let key = lane.key();
        let arrival = Arrival {
            due,
            key,
            phase: segment.phase,
            epoch: segment.epoch,
            workload: workload as u16,
            op: course.mix.op(key),
        };
        lane.advance(&course.process, &course.rate);
        course.order.replay(lane.due());
        self.first = self.earliest();
        self.hash = fold(self.hash, &arrival);
        Some(arrival)
    }

    /// A digest of every arrival taken so far: workload, key, op type and intended start.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn earliest(&self) -> (usize, u64) {
        let dues = self.courses.iter().map(|course| course.order.winner().1).enumerate();
        dues.reduce(|best, next| if next.1 < best.1 { next } else { best }).unwrap_or((0, FOREVER))
    }
}

/// One round of the FNV-1a idea over whole words.
#[inline]
fn fold(hash: u64, arrival: &Arrival) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01B3;
    [arrival.due, arrival.key, u64::from(arrival.workload) << 8 | u64::from(arrival.op)]
        .into_iter()
        .fold(hash, |hash, word| (hash ^ word).wrapping_mul(PRIME).rotate_left(23))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(start_ns: u64, rate: f64, epoch: u32) -> Segment {
        Segment { start_ns, end_ns: FOREVER, rate_start: rate, rate_end: rate, phase: 0, epoch }
    }

    fn poisson(count: usize) -> Vec<Workload> {
        (0..count)
            .map(|_| Workload { process: Process::Poisson, weights: vec![1.0, 3.0] })
            .collect()
    }

    fn drain(table: &mut Timetable, until: u64) -> Vec<Arrival> {
        std::iter::from_fn(|| if table.next_due() < until { table.take() } else { None }).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
        let run = |seed| {
            let mut table = Timetable::new(seed, &poisson(3));
            (0..3).for_each(|workload| table.append(workload, constant(0, 5000.0, 0)));
            (drain(&mut table, 1_000_000_000), table.hash())
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7).1, run(8).1);
    }

    #[test]
    fn arrivals_come_in_order_of_time_at_the_rate_asked_for() {
        let mut table = Timetable::new(1, &poisson(2));
        table.append(0, constant(0, 10_000.0, 0));
        table.append(1, constant(0, 30_000.0, 0));
        let arrivals = drain(&mut table, 10_000_000_000);
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.due));
        let first = arrivals.iter().filter(|arrival| arrival.workload == 0).count() as f64;
        let second = arrivals.len() as f64 - first;
        // Five standard deviations of a Poisson count.
        assert!((first - 1e5).abs() < 5.0 * 1e5_f64.sqrt(), "{first}");
        assert!((second - 3e5).abs() < 5.0 * 3e5_f64.sqrt(), "{second}");
        let heavy = arrivals.iter().filter(|arrival| arrival.op == 1).count() as f64;
        assert!((heavy / arrivals.len() as f64 - 0.75).abs() < 0.005);
    }

    #[test]
    fn a_live_change_leaves_what_was_due_before_it_and_loses_no_draw() {
        let changes = [(300_000_000, 900.0), (310_000_000, 0.0), (500_000_000, 8000.0)];
        let mut plain = Timetable::new(5, &poisson(1));
        plain.append(0, constant(0, 2000.0, 0));
        let mut changed = Timetable::new(5, &poisson(1));
        changed.append(0, constant(0, 2000.0, 0));
        let before = drain(&mut changed, 250_000_000);
        assert_eq!(before, drain(&mut plain, 250_000_000));
        for (epoch, (at, rate)) in changes.into_iter().enumerate() {
            changed.append(0, constant(at, rate, epoch as u32 + 1));
        }
        let still = drain(&mut changed, 300_000_000);
        assert_eq!(still, drain(&mut plain, 300_000_000));
        let after = drain(&mut changed, 1_000_000_000);
        assert!(after.iter().all(|arrival| !(310_000_000..500_000_000).contains(&arrival.due)));
        let mut keys: Vec<u64> =
            before.iter().chain(&still).chain(&after).map(|arrival| arrival.key).collect();
        let issued = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), issued, "no operation twice");
        for lane in 0..u64::from(Process::Poisson.lanes()) {
            let ordinals: Vec<u64> = keys
                .iter()
                .filter(|key| *key >> 48 == lane)
                .map(|key| key & ((1 << 48) - 1))
                .collect();
            assert!(ordinals.iter().copied().eq(0..ordinals.len() as u64), "lane {lane} has a gap");
        }
    }

    #[test]
    fn commands_in_one_go_or_one_by_one_give_the_same_schedule() {
        let segments = [constant(0, 3000.0, 0), constant(400_000_000, 9000.0, 1)];
        let mut at_once = Timetable::new(3, &poisson(1));
        segments.iter().for_each(|segment| at_once.append(0, *segment));
        let whole = drain(&mut at_once, 800_000_000);
        let mut live = Timetable::new(3, &poisson(1));
        live.append(0, segments[0]);
        let mut parts = drain(&mut live, 399_000_000);
        live.append(0, segments[1]);
        parts.extend(drain(&mut live, 800_000_000));
        assert_eq!(whole, parts);
        assert_eq!(at_once.hash(), live.hash());
    }

    #[test]
    fn constant_schedules_are_evenly_striped_and_traces_replayed_at_their_own_speed() {
        let constant_rate = [Workload { process: Process::Constant, weights: vec![1.0] }];
        let mut table = Timetable::new(1, &constant_rate);
        table.append(0, constant(0, 1000.0, 0));
        let dues: Vec<u64> = drain(&mut table, 100_500_000).iter().map(|one| one.due).collect();
        assert_eq!(dues, (1..=100).map(|k| k * 1_000_000).collect::<Vec<u64>>());

        let instants_s: Vec<f64> = (0..500).map(|k| f64::from(k * k) * 1e-4).collect();
        let trace = Process::Trace { instants_s: instants_s.clone().into() };
        let mut table = Timetable::new(1, &[Workload { process: trace, weights: vec![1.0] }]);
        table.append(0, constant(0, 2.0, 0));
        let replayed = drain(&mut table, FOREVER);
        assert_eq!(replayed.len(), 500);
        for (arrival, instant) in replayed.iter().zip(instants_s) {
            assert!((arrival.due as f64 - instant * 0.5e9).abs() < 2.0);
        }
    }
}
