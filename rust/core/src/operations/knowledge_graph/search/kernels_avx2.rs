//! Byte dot products with AVX2: 16-bit pair sums, widened before they can overflow.

use std::arch::x86_64::*;

use super::codes::{Line, TILE};

/// Lines between two widenings: each adds at most 4 · 15 · 127 = 7620 to a 16-bit sum.
const WIDEN_LINES: usize = 4;

/// Dot products of one tile with one query.
///
/// # Safety
/// Needs AVX2 and `query.len() == 2 * tile.len()`.
#[target_feature(enable = "avx2")]
pub unsafe fn dots(tile: &[Line], query: &[i32]) -> [i32; TILE] {
    let mut sums = [0; TILE];
    // SAFETY: the caller vouches for AVX2; a line is 64 bytes aligned to 64, read in halves from 0
    // and 32; sums holds sixteen words, written in halves of eight.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let ones = _mm256_set1_epi16(1);
        let mut wide = [_mm256_setzero_si256(); 2];
        for (lines, words) in tile.chunks(WIDEN_LINES).zip(query.chunks(2 * WIDEN_LINES)) {
            let mut pairs = [_mm256_setzero_si256(); 2];
            for (line, words) in lines.iter().zip(words.chunks_exact(2)) {
                let (first, second) = (_mm256_set1_epi32(words[0]), _mm256_set1_epi32(words[1]));
                for (half, pairs) in pairs.iter_mut().enumerate() {
                    let bytes = _mm256_load_si256(line.0.as_ptr().add(32 * half).cast());
                    let low = _mm256_and_si256(bytes, mask);
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                    let low = _mm256_maddubs_epi16(low, first);
                    let high = _mm256_maddubs_epi16(high, second);
                    *pairs = _mm256_add_epi16(*pairs, _mm256_add_epi16(low, high));
                }
            }
            for (wide, pairs) in wide.iter_mut().zip(pairs) {
                *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(pairs, ones));
            }
        }
        for (half, wide) in wide.into_iter().enumerate() {
            _mm256_storeu_si256(sums.as_mut_ptr().add(8 * half).cast(), wide);
        }
    }
    sums
}
