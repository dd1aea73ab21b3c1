//! One lane of a workload: its next arrivals, drawn a few ahead.

use super::process::Draws;
use super::{FOREVER, Operational, Process, RateFunction};

/// Arrivals drawn at once; a Philox block makes two, and so many keep the processor busy.
pub const AHEAD: usize = 8;

/// A stream of arrivals. Those drawn ahead keep their operational times, so that a change of the
/// rate plans them anew and draws none again.
pub struct Lane {
    number: u16,
    draws: Draws,
    /// Ordinal of the first arrival that is drawn ahead.
    base: u64,
    /// Position of the next one among those drawn ahead, and how many of them there are.
    next: usize,
    drawn: usize,
    targets: [Operational; AHEAD],
    dues: [u64; AHEAD],
    /// Index of the segment that each falls into.
    segments: [u32; AHEAD],
}

impl Lane {
    pub fn new(key: [u32; 2], number: u16, process: &Process) -> Self {
        let mut lane = Self {
            number,
            draws: Draws::new(key, number),
            base: 0,
            next: 0,
            drawn: 0,
            targets: [0; AHEAD],
            dues: [FOREVER; AHEAD],
            segments: [0; AHEAD],
        };
        lane.draw(process);
        lane
    }

    /// Intended start of the next arrival; `FOREVER` where the planned rates never reach it.
    #[inline]
    pub fn due(&self) -> u64 {
        self.dues[self.next % AHEAD]
    }

    /// Index of the segment that the next arrival falls into.
    #[inline]
    pub fn segment(&self) -> usize {
        self.segments[self.next % AHEAD] as usize
    }

    /// Lane in the upper 16 bits, ordinal of the next arrival in the lower 48.
    #[inline]
    pub fn key(&self) -> u64 {
        u64::from(self.number) << 48 | (self.base + self.next as u64)
    }

    /// Goes on to the arrival after the next.
    #[inline]
    pub fn advance(&mut self, process: &Process, rate: &RateFunction) {
        self.next += 1;
        if self.next == AHEAD {
            let segment = self.segment();
            self.base += AHEAD as u64;
            self.next = 0;
            self.draw(process);
            self.plan(0, segment, rate);
        }
    }

    /// Plans anew whatever was due at `start_ns` or later.
    pub fn replan(&mut self, start_ns: u64, rate: &RateFunction) {
        let kept = self.dues[self.next..].iter().take_while(|due| **due < start_ns).count();
        let first = self.next + kept;
        if first < AHEAD {
            let segment = rate.index_at(start_ns).min(self.segments[first] as usize);
            self.plan(first, segment, rate);
        }
    }

    fn draw(&mut self, process: &Process) {
        let previous = self.targets[AHEAD - 1];
        self.drawn = self.draws.fill(process, previous, self.number, self.base, &mut self.targets);
    }

    /// Due moments of those drawn ahead, from position `first` on, which fall into `segment` or
    /// later.
    fn plan(&mut self, first: usize, mut segment: usize, rate: &RateFunction) {
        let steady = rate.steady(segment);
        for position in first..self.drawn {
            let target = self.targets[position];
            (self.dues[position], segment) = match steady.and_then(|steady| steady.moment(target)) {
                Some(due) => (due, segment),
                None => rate.moment(target, segment).unwrap_or((FOREVER, segment)),
            };
            self.segments[position] = segment as u32;
        }
        for position in self.drawn.max(first)..AHEAD {
            (self.dues[position], self.segments[position]) = (FOREVER, segment as u32);
        }
    }
}
