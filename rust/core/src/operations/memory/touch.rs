//! What the storm writes into what it was given: nothing, one word a page, or all of it.

use std::path::Path;
#[cfg(target_arch = "x86_64")]
use std::slice::ChunksExactMut;

use serde::Deserialize;

use crate::calibrate::topology;
use crate::operations::Pause;
use crate::operations::scratch::PAGE_BYTES;

const PAGE_WORDS: usize = PAGE_BYTES / 8;
const LINE_WORDS: usize = 64 / 8;
/// Pages touched, and bytes filled, between two pauses: both take about 50 µs.
const PAGES_PER_PAUSE: usize = 4096;
const WORDS_PER_PAUSE: usize = (1 << 20) / 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    None,
    /// One word of every page.
    Page,
    /// Every word.
    Fill,
}

impl Touch {
    /// Writes `stamp` (for pages: with their numbers) where this touches `words`; fills go past the
    /// caches where `past_cache` says so.
    pub fn write(self, words: &mut [u64], stamp: u64, past_cache: bool, pause: &mut dyn Pause) {
        match self {
            Self::None => {}
            Self::Page => {
                for (part, pages) in words.chunks_mut(PAGES_PER_PAUSE * PAGE_WORDS).enumerate() {
                    if part > 0 {
                        pause.point();
                    }
                    touch_pages(pages, stamp ^ (part * PAGES_PER_PAUSE) as u64);
                }
            }
            Self::Fill => {
                for (part, piece) in words.chunks_mut(WORDS_PER_PAUSE).enumerate() {
                    if part > 0 {
                        pause.point();
                    }
                    if past_cache { stream(piece, stamp) } else { piece.fill(stamp) }
                }
            }
        }
    }

    /// Whether all that `write` has written is still there.
    pub fn holds(self, words: &[u64], stamp: u64) -> bool {
        match self {
            Self::None => true,
            Self::Page => words
                .chunks(PAGE_WORDS)
                .enumerate()
                .all(|(page, words)| words[place(page, words.len())] == page_stamp(stamp, page)),
            Self::Fill => words.iter().fold(0, |wrong, word| wrong | (word ^ stamp)) == 0,
        }
    }
}

/// One core's share of the last-level caches. What is filled and is longer is not there any more
/// when it is used: it goes past them, which leaves them what is shorter, and lines that are not
/// read first cost half the traffic.
pub fn past_cache_bytes() -> u64 {
    let cores = topology::allowed();
    let caches = topology::caches(Path::new("/"), &cores);
    (caches.last_level_bytes / cores.len().max(1)) as u64
}

fn page_stamp(stamp: u64, page: usize) -> u64 {
    let part = page / PAGES_PER_PAUSE * PAGES_PER_PAUSE;
    (stamp ^ part as u64).wrapping_add((page % PAGES_PER_PAUSE) as u64)
}

/// The word touched of a page of `words`: a line further in each page than in the one before. At
/// one place of every page they would all lie in the same set of a cache, and each store would wait
/// until another was written back.
#[inline(always)]
fn place(page: usize, words: usize) -> usize {
    (page * LINE_WORDS % PAGE_WORDS).min(words - 1)
}

fn touch_pages(words: &mut [u64], stamp: u64) {
    for (page, words) in words.chunks_mut(PAGE_WORDS).enumerate() {
        words[place(page, words.len())] = stamp.wrapping_add(page as u64);
    }
}

#[cfg(target_arch = "x86_64")]
fn stream(words: &mut [u64], stamp: u64) {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { stream_avx2(words, stamp) };
    }
    words.fill(stamp);
}

#[cfg(not(target_arch = "x86_64"))]
fn stream(words: &mut [u64], stamp: u64) {
    words.fill(stamp);
}

/// Words before the first whole line, and lines of 64 bytes.
#[cfg(target_arch = "x86_64")]
fn lines(words: &mut [u64]) -> (&mut [u64], ChunksExactMut<'_, u64>, &mut [u64]) {
    let head = words.as_ptr().align_offset(64).min(words.len());
    let (head, rest) = words.split_at_mut(head);
    let (lines, tail) = rest.split_at_mut(rest.len() / 8 * 8);
    (head, lines.chunks_exact_mut(8), tail)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn stream_avx2(words: &mut [u64], stamp: u64) {
    use std::arch::x86_64::{_mm_sfence, _mm256_set1_epi64x, _mm256_stream_si256};
    let (head, lines, tail) = lines(words);
    head.fill(stamp);
    tail.fill(stamp);
    let value = _mm256_set1_epi64x(stamp as i64);
    for line in lines {
        let (low, high) = line.split_at_mut(4);
        // SAFETY: two halves of a whole line, aligned to 32 bytes.
        unsafe {
            _mm256_stream_si256(low.as_mut_ptr().cast(), value);
            _mm256_stream_si256(high.as_mut_ptr().cast(), value);
        }
    }
    _mm_sfence();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::NoPause;

    #[test]
    fn what_is_written_holds_until_one_bit_of_it_changes() {
        for (touch, past_cache) in [(Touch::Page, false), (Touch::Fill, false), (Touch::Fill, true)]
        {
            for words in [1, 511, 512, 513, 200_001, PAGES_PER_PAUSE * PAGE_WORDS + 1] {
                let mut memory = vec![0u64; words];
                touch.write(&mut memory, 0xDEAD_BEEF, past_cache, &mut NoPause);
                assert!(touch.holds(&memory, 0xDEAD_BEEF), "{touch:?} {words}");
                let page = (words - 1) / PAGE_WORDS;
                let last = match touch {
                    Touch::Page => page * PAGE_WORDS + place(page, words - page * PAGE_WORDS),
                    _ => words - 1,
                };
                memory[last] ^= 1;
                assert!(!touch.holds(&memory, 0xDEAD_BEEF), "{touch:?} {words}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_path_that_this_processor_has_fills_whatever_the_alignment() {
        for start in 0..9 {
            for end in 0..9 {
                let mut memory = vec![0u64; 100];
                let piece = start..100 - end;
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was just asked.
                    unsafe { stream_avx2(&mut memory[piece.clone()], 5) };
                    assert_eq!(memory.iter().sum::<u64>(), 5 * piece.len() as u64);
                }
            }
        }
    }
}
