//! Latency histograms of 3 significant digits from 1 ns to an hour: [`Counts`] while they are
//! recorded, [`Histogram`] once they are read.

mod counts;
mod layout;

pub use counts::Counts;
use layout::{BLOCK, BLOCKS, highest_of, index_of, lowest_of, median_of};
pub use layout::{BUCKETS, HIGHEST_NS, SIGNIFICANT_DIGITS};

/// Buckets that are stored or left out together; a block has 64 groups, one mask word.
const GROUP: usize = if cfg!(loom) { 4 } else { 16 };
const GROUPS: usize = BLOCK / GROUP;

/// A distribution of latencies in nanoseconds, without a writer.
///
/// Only groups of 16 buckets (1.6 % of a value) that hold samples are stored, so an interval of a
/// second costs kilobytes and merging adds contiguous runs. Every figure is one of the recorded
/// values up to the width of its bucket, at most 0.1 % of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Bit g of word b: group g of block b is stored. Invariant: exactly the non-zero groups are.
    stored: [u64; BLOCKS],
    groups: Vec<[u64; GROUP]>,
    count: u64,
    saturated: u64,
}

/// The histogram subtracted is not an earlier state of the one subtracted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a histogram can only be subtracted from a later snapshot of the same counts")]
pub struct NotEarlier;

impl Default for Histogram {
    fn default() -> Self {
        Self { stored: [0; BLOCKS], groups: Vec::new(), count: 0, saturated: 0 }
    }
}

impl Histogram {
    /// The distribution of `values_ns`; values beyond [`HIGHEST_NS`] saturate and are counted.
    #[must_use]
    pub fn from_values(values_ns: impl IntoIterator<Item = u64>) -> Self {
        let counts = Counts::new();
        for value_ns in values_ns {
            counts.record(value_ns);
        }
        counts.snapshot()
    }

    /// Samples in all, saturated ones included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Samples that were beyond [`HIGHEST_NS`].
    #[must_use]
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    /// The smallest value (lowest of its bucket), in nanoseconds; 0 where there is no sample.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.buckets().next().map_or(0, |(index, _)| lowest_of(index))
    }

    /// The largest value (highest of its bucket), in nanoseconds; 0 where there is no sample.
    #[must_use]
    pub fn max(&self) -> u64 {
        let Some((block, word)) = self.stored.iter().enumerate().rfind(|(_, word)| **word != 0)
        else {
            return 0;
        };
        let group = 63 - word.leading_zeros() as usize;
        let counts = &self.groups[self.groups.len() - 1];
        let cell = counts.iter().rposition(|count| *count != 0).unwrap_or(0);
        highest_of(block * BLOCK + group * GROUP + cell)
    }

    /// The mean of the buckets' middles, in nanoseconds; 0 where there is no sample.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let sum: f64 =
            self.buckets().map(|(index, count)| median_of(index) as f64 * count as f64).sum();
        sum / self.count as f64
    }

    /// The value in nanoseconds at or below which `percent` (0 to 100) of the samples lie.
    ///
    /// The highest value equivalent to the sample of rank `percent` / 100 · count, rounded to the
    /// nearest rank as HdrHistogram's C and Python versions do (percentile 0: the lowest one); 0
    /// where there is no sample.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        self.percentiles(&[percent])[0]
    }

    /// [`percentile`](Self::percentile) of each of `percents` (in any order) in one pass.
    #[must_use]
    pub fn percentiles(&self, percents: &[f64]) -> Vec<u64> {
        let rank = |percent: f64| {
            let rank = (percent.clamp(0.0, 100.0) * self.count as f64 / 100.0 + 0.5) as u64;
            rank.clamp(1, self.count.max(1))
        };
        let mut wanted: Vec<(u64, usize)> =
            percents.iter().enumerate().map(|(place, percent)| (rank(*percent), place)).collect();
        wanted.sort_unstable();
        let mut values = vec![0; percents.len()];
        let mut passed = 0;
        let mut groups = self.positioned();
        let mut group = groups.next();
        for (rank, place) in wanted {
            while let Some((_, counts)) = group {
                let total: u64 = counts.iter().sum();
                if passed + total >= rank {
                    break;
                }
                passed += total;
                group = groups.next();
            }
            let Some((first, counts)) = group else { break };
            let mut below = passed;
            let cell = counts.iter().position(|count| {
                below += count;
                below >= rank
            });
            let index = first + cell.unwrap_or(GROUP - 1);
            values[place] =
                if percents[place] > 0.0 { highest_of(index) } else { lowest_of(index) };
        }
        values
    }

    /// Samples in the buckets of `low_ns` to `high_ns`, both included.
    #[must_use]
    pub fn count_between(&self, low_ns: u64, high_ns: u64) -> u64 {
        let low = index_of(low_ns.min(HIGHEST_NS));
        let high = index_of(high_ns.min(HIGHEST_NS));
        let within = self.buckets().filter(|(index, _)| (low..=high).contains(index));
        within.map(|(_, count)| count).sum()
    }

    /// Adds all samples of `other`; exact.
    pub fn merge(&mut self, other: &Self) {
        let subset = |(own, others): (&u64, &u64)| own & others == *others;
        if self.stored.iter().zip(&other.stored).all(subset) {
            self.add_stored(other);
        } else {
            self.add_union(other);
        }
        self.count += other.count;
        self.saturated += other.saturated;
    }

    /// The samples recorded since `previous`, an earlier snapshot of the same counts (or a merge
    /// of earlier ones of what this merges).
    ///
    /// # Errors
    /// `previous` holds a sample that this does not.
    pub fn subtract(&self, previous: &Self) -> Result<Self, NotEarlier> {
        let mut difference = Self {
            saturated: self.saturated.checked_sub(previous.saturated).ok_or(NotEarlier)?,
            ..Self::default()
        };
        let mut own = self.groups.iter();
        let mut others = previous.groups.iter();
        for block in 0..BLOCKS {
            if previous.stored[block] & !self.stored[block] != 0 {
                return Err(NotEarlier);
            }
            for group in bits(self.stored[block]) {
                let mut counts = *own.next().ok_or(NotEarlier)?;
                if previous.stored[block] >> group & 1 == 1 {
                    let earlier = others.next().ok_or(NotEarlier)?;
                    for (count, earlier) in counts.iter_mut().zip(earlier) {
                        *count = count.checked_sub(*earlier).ok_or(NotEarlier)?;
                    }
                }
                difference.push_group(block, group, counts);
            }
        }
        Ok(difference)
    }

    /// The non-empty buckets in rising order: index in HdrHistogram's counts array, and count.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.positioned().flat_map(|(first, counts)| {
            let numbered = counts.iter().enumerate().filter(|(_, count)| **count != 0);
            numbered.map(move |(cell, count)| (first + cell, *count))
        })
    }

    /// The histogram of `samples` (nanoseconds and count), whose values rise; those beyond
    /// [`HIGHEST_NS`] saturate.
    pub fn from_rising(samples: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut histogram = Self::default();
        let mut pending = (0, [0; GROUP]);
        let highest = index_of(HIGHEST_NS);
        for (value_ns, count) in samples {
            let index = index_of(value_ns);
            if index > highest {
                histogram.saturated += count;
            }
            let index = index.min(highest);
            let place = index / GROUP;
            if place != pending.0 {
                histogram.push_group(pending.0 / GROUPS, pending.0 % GROUPS, pending.1);
                pending = (place, [0; GROUP]);
            }
            pending.1[index % GROUP] += count;
        }
        histogram.push_group(pending.0 / GROUPS, pending.0 % GROUPS, pending.1);
        histogram
    }

    fn clear(&mut self) {
        self.stored = [0; BLOCKS];
        self.groups.clear();
        self.count = 0;
        self.saturated = 0;
    }

    /// Appends a group beyond all stored ones; one without samples is left out.
    #[inline]
    fn push_group(&mut self, block: usize, group: usize, counts: [u64; GROUP]) {
        let total: u64 = counts.iter().sum();
        if total != 0 {
            self.stored[block] |= 1 << group;
            self.groups.push(counts);
            self.count += total;
        }
    }

    /// The stored groups, each with the index of its first bucket.
    fn positioned(&self) -> impl Iterator<Item = (usize, &[u64; GROUP])> {
        let places =
            self.stored.iter().enumerate().flat_map(|(block, word)| {
                bits(*word).map(move |group| block * BLOCK + group * GROUP)
            });
        places.zip(&self.groups)
    }

    /// Adds `other`, whose groups are all stored here too.
    fn add_stored(&mut self, other: &Self) {
        let (mut own_at, mut other_at) = (0, 0);
        for (own, others) in self.stored.iter().zip(&other.stored) {
            let own_end = own_at + own.count_ones() as usize;
            let other_end = other_at + others.count_ones() as usize;
            let groups = &mut self.groups[own_at..own_end];
            let added = &other.groups[other_at..other_end];
            if own == others {
                groups.iter_mut().zip(added).for_each(|(group, added)| add_group(group, added));
            } else {
                for (group, added) in bits(*others).zip(added) {
                    let before = own & ((1 << group) - 1);
                    add_group(&mut groups[before.count_ones() as usize], added);
                }
            }
            (own_at, other_at) = (own_end, other_end);
        }
    }

    /// Adds `other` where it has groups that are not stored here yet.
    fn add_union(&mut self, other: &Self) {
        let mut united = Vec::with_capacity(self.groups.len().max(other.groups.len()) + GROUPS);
        let (mut own, mut others) = (self.groups.iter(), other.groups.iter());
        for (mine, theirs) in self.stored.iter_mut().zip(&other.stored) {
            for group in bits(*mine | theirs) {
                let mut counts = [0; GROUP];
                let holders = [(*mine, &mut own), (*theirs, &mut others)]
                    .into_iter()
                    .filter(|(word, _)| word >> group & 1 == 1);
                for added in holders.filter_map(|(_, groups)| groups.next()) {
                    add_group(&mut counts, added);
                }
                united.push(counts);
            }
            *mine |= theirs;
        }
        self.groups = united;
    }
}

#[inline]
fn add_group(counts: &mut [u64; GROUP], added: &[u64; GROUP]) {
    for (count, added) in counts.iter_mut().zip(added) {
        *count += added;
    }
}

/// The positions of the set bits of `word`, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            bit
        })
    })
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(test)]
mod tests;
