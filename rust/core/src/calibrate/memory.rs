//! Memory and arithmetic ceilings: copy, read, write, random lines, first touch, cache and FMA.

use std::hint::black_box;
use std::io;

use super::crew::{self, Stretch};
use super::figures::best;
use super::kernels::{self, LANES};
use super::region::{PAGE_BYTES, Region};

/// Words moved by one step of a streaming probe: 512 KiB, under a millisecond on any machine.
const BLOCK_WORDS: usize = 64 << 10;
/// Random lines loaded by one step.
const RANDOM_LINES: usize = 8_192;
/// Multiply-adds per register and step, about 10 µs.
const FUSED_STEPS: usize = 8_192;
/// Bytes first touched by each thread in one repeat.
const TOUCH_BYTES: usize = 32 << 20;
/// Bytes first touched by one step.
const TOUCH_STEP_BYTES: usize = 512 << 10;

/// One thread's part of the working set and where its probe stands in it.
struct Share<'a> {
    words: &'a mut [u64],
    at: usize,
    state: [u64; 4],
}

/// The working set of the streaming and random probes, resident, one part per thread.
pub struct WorkingSet {
    region: Region,
    pub bytes: usize,
}

impl WorkingSet {
    /// Maps and fills at least `bytes`, each part by its own thread so that it lies near it.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn build(cpus: &[usize], threads: usize, bytes: usize) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(4 * 8 * BLOCK_WORDS * threads);
        let mut set = Self { region: Region::map(bytes, true)?, bytes };
        crew::each(cpus, &mut set.shares(threads), |share| share.words.fill(0x5DEE_CE66_D1CE_4E5B));
        Ok(set)
    }

    /// All of it in `threads` equal parts; one thread alone walks the parts of the others too, so
    /// that it meets no cache that they would have filled.
    fn shares(&mut self, threads: usize) -> Vec<Share<'_>> {
        let words = self.region.words();
        let part = words.len() / threads;
        let states = (0..).map(|thread: u64| [0, 1, 2, 3].map(|lane| 4 * thread + lane));
        let parts = words.chunks_exact_mut(part).take(threads);
        parts.zip(states).map(|(words, state)| Share { words, at: 0, state }).collect()
    }

    /// Bytes per second read in order.
    pub fn read(&mut self, cpus: &[usize], threads: usize, stretch: Stretch) -> Vec<f64> {
        self.stream(cpus, threads, stretch, |words, at| {
            black_box(kernels::read(&words[at..at + BLOCK_WORDS]));
            BLOCK_WORDS * 8
        })
    }

    /// Bytes per second written in order; the better way, through the caches or past them.
    pub fn write(&mut self, cpus: &[usize], threads: usize, stretch: Stretch) -> Vec<f64> {
        let cached = self.stream(cpus, threads, stretch, |words, at| {
            words[at..at + BLOCK_WORDS].fill(black_box(at as u64));
            BLOCK_WORDS * 8
        });
        let past = self.stream(cpus, threads, stretch, |words, at| {
            kernels::fill_streaming(&mut words[at..at + BLOCK_WORDS], at as u64);
            BLOCK_WORDS * 8
        });
        better(cached, past)
    }

    /// Bytes per second read and written by copying, both counted; the better way.
    pub fn copy(&mut self, cpus: &[usize], threads: usize, stretch: Stretch) -> Vec<f64> {
        let through = self.stream(cpus, threads, stretch, |words, at| {
            let (target, source) = halves(words, at);
            target.copy_from_slice(source);
            BLOCK_WORDS * 8
        });
        let past = self.stream(cpus, threads, stretch, |words, at| {
            let (target, source) = halves(words, at);
            kernels::copy_streaming(target, source);
            BLOCK_WORDS * 8
        });
        better(through, past)
    }

    /// 64-byte lines per second loaded from random places.
    pub fn random(&mut self, cpus: &[usize], threads: usize, stretch: Stretch) -> Vec<f64> {
        let mut shares = self.shares(threads);
        crew::rates(
            cpus,
            &mut shares,
            stretch,
            |_| (),
            |share| {
                let (sum, state) = kernels::read_random(share.words, share.state, RANDOM_LINES);
                black_box(sum);
                share.state = state;
                RANDOM_LINES as u64
            },
        )
    }

    fn stream(
        &mut self,
        cpus: &[usize],
        threads: usize,
        stretch: Stretch,
        step: impl Fn(&mut [u64], usize) -> usize + Sync,
    ) -> Vec<f64> {
        let mut shares = self.shares(threads);
        crew::rates(
            cpus,
            &mut shares,
            stretch,
            |_| (),
            |share| {
                let words = &mut *share.words;
                let at = share.at;
                share.at = if at + 2 * BLOCK_WORDS > words.len() { 0 } else { at + BLOCK_WORDS };
                step(words, at) as u64
            },
        )
    }
}

/// The block to copy to and the one to copy from, half a block each and half the region apart.
fn halves(words: &mut [u64], at: usize) -> (&mut [u64], &[u64]) {
    let block = BLOCK_WORDS / 2;
    let middle = words.len() / 2;
    let (low, high) = words.split_at_mut(middle);
    let from = at / 2;
    (&mut high[from..from + block], &low[from..from + block])
}

/// The repeats of whichever way did best.
fn better(first: Vec<f64>, second: Vec<f64>) -> Vec<f64> {
    if best(&first) >= best(&second) { first } else { second }
}

/// Bytes per second made resident by the first store to each page, in pages as the kernel hands
/// them out without advice.
///
/// # Errors
/// The system refuses the memory.
pub fn page_touch(
    cpus: &[usize],
    threads: usize,
    bytes_max: usize,
    stretch: Stretch,
) -> io::Result<Vec<f64>> {
    let bytes = TOUCH_BYTES.min(bytes_max / threads).max(TOUCH_STEP_BYTES);
    let mut shares = (0..threads)
        .map(|_| Ok((Region::map(bytes, false)?, 0)))
        .collect::<io::Result<Vec<(Region, usize)>>>()?;
    let prepare = |(region, at): &mut (Region, usize)| {
        // Where pages cannot be given back the next repeat is exhausted at once and not counted.
        *at = if region.release_pages().is_ok() { 0 } else { usize::MAX };
    };
    let rates = crew::rates(cpus, &mut shares, stretch, prepare, |(region, at)| {
        let words = region.words();
        let end = at.saturating_add(TOUCH_STEP_BYTES / 8).min(words.len());
        let from = (*at).min(end);
        for word in (from..end).step_by(PAGE_BYTES / 8) {
            words[word] = 1;
        }
        *at = end;
        ((end - from) * 8) as u64
    });
    Ok(rates.into_iter().filter(|rate| *rate > 0.0).collect())
}

/// Bytes per second read by every thread from half its own second-level cache.
pub fn cache_read(
    cpus: &[usize],
    threads: usize,
    second_level_bytes: usize,
    stretch: Stretch,
) -> Vec<f64> {
    let words = (second_level_bytes / 2 / 8).max(32);
    let mut shares: Vec<Vec<u64>> = vec![Vec::new(); threads];
    crew::each(cpus, &mut shares, |share| *share = vec![1; words]);
    crew::rates(
        cpus,
        &mut shares,
        stretch,
        |_| (),
        |share| {
            black_box(kernels::read(black_box(share)));
            (words * 8) as u64
        },
    )
}

/// Single-precision operations per second, a fused multiply-add counted as two.
pub fn fma(cpus: &[usize], threads: usize, stretch: Stretch) -> Vec<f64> {
    let mut shares = vec![[0.5_f32; LANES]; threads];
    crew::rates(
        cpus,
        &mut shares,
        stretch,
        |_| (),
        |lanes| {
            kernels::fused(black_box(lanes), FUSED_STEPS);
            (2 * LANES * FUSED_STEPS) as u64
        },
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const STRETCH: Stretch = Stretch { duration: Duration::from_millis(5), repeats: 2 };

    #[test]
    fn every_streaming_probe_walks_the_whole_set_and_stays_inside() {
        let mut set = WorkingSet::build(&[], 2, 4 << 20).unwrap();
        assert!(set.bytes >= 4 << 20);
        for rates in [
            set.read(&[], 2, STRETCH),
            set.write(&[], 2, STRETCH),
            set.copy(&[], 2, STRETCH),
            set.random(&[], 1, STRETCH),
        ] {
            assert!(!rates.is_empty() && rates.iter().all(|rate| *rate > 0.0), "{rates:?}");
        }
    }

    #[test]
    fn copying_moves_the_lower_half_up() {
        let mut words: Vec<u64> = (0..4 * BLOCK_WORDS as u64).collect();
        for at in (0..words.len()).step_by(BLOCK_WORDS) {
            let (target, source) = halves(&mut words, at);
            target.copy_from_slice(source);
        }
        let (low, high) = words.split_at(2 * BLOCK_WORDS);
        assert_eq!(low, high);
    }

    #[test]
    fn a_touched_region_is_counted_to_the_page() {
        let rates = page_touch(&[], 1, 2 << 20, STRETCH).unwrap();
        assert_eq!(rates.len(), 2);
        assert!(rates.iter().all(|rate| *rate > 1e6), "{rates:?}");
    }

    #[test]
    fn the_better_way_wins_by_its_best_repeat() {
        assert_eq!(better(vec![1.0, 5.0], vec![4.0, 4.0]), [1.0, 5.0]);
        assert_eq!(better(vec![], vec![4.0]), [4.0]);
    }
}
