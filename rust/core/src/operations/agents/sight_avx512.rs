//! What an agent sees, summed up by sixteen lanes: the same sums as `grid::Plain`.

#![allow(clippy::incompatible_msrv, reason = "compiled only by a compiler that knows them")]

use std::arch::x86_64::*;

use super::agent::{SIGHT_SQUARED, Sums};
use super::grid::{Grid, Sight, Stretches};
use super::sight_avx2::{folded, sums_of};

/// Sixteen candidates at a time, gathered from all stretches into one vector where they fit; for
/// use where AVX-512F and AVX-512BW were detected.
pub struct Avx512;

const SIXTEEN: u32 = 16;

/// Candidates in lanes, and what those within sight add up to.
struct Candidates {
    own: __m512i,
    near: __m512i,
    flow: __m512i,
    filled: u32,
    sums: __m128i,
    count: u32,
}

impl Candidates {
    /// Loads the candidates `first..first + length` into the next lanes, of which there are enough.
    ///
    /// # Safety
    /// Needs AVX-512; the candidates are in the list.
    #[inline(always)]
    unsafe fn load(&mut self, grid: &Grid, first: u32, length: u32) {
        let mask = ((((1u32 << length) - 1) << self.filled) & 0xFFFF) as __mmask16;
        let from = (first as usize).wrapping_sub(self.filled as usize);
        // SAFETY: only the lanes of the mask are read: lane `filled + i` is candidate `first + i`.
        unsafe {
            let near = grid.near.as_ptr().wrapping_add(from).cast();
            let flow = grid.flow.as_ptr().wrapping_add(from).cast();
            self.near = _mm512_mask_loadu_epi32(self.near, mask, near);
            self.flow = _mm512_mask_loadu_epi32(self.flow, mask, flow);
        }
        self.filled += length;
    }

    /// Loads all candidates, and adds lanes up whenever they are full.
    ///
    /// # Safety
    /// Needs AVX-512; the candidates are in the list.
    #[inline(always)]
    unsafe fn load_many(&mut self, grid: &Grid, stretches: &Stretches) {
        for (mut at, end) in stretches.bounds() {
            while at < end {
                let length = (end - at).min(SIXTEEN - self.filled);
                // SAFETY: as the caller promises; there are so many lanes left.
                unsafe { self.load(grid, at, length) };
                at += length;
                if self.filled == SIXTEEN {
                    // SAFETY: the caller has AVX-512.
                    unsafe { self.add_up() };
                }
            }
        }
    }

    /// Adds up the lanes that are filled, and empties them.
    ///
    /// # Safety
    /// Needs AVX-512.
    #[inline(always)]
    unsafe fn add_up(&mut self) {
        // SAFETY: as above; no memory is touched. Four lanes of one half add up to less than 2^15
        // in magnitude: within sight an offset is below 4096.
        unsafe {
            let offset = _mm512_sub_epi16(self.near, self.own);
            let squared = _mm512_madd_epi16(offset, offset);
            let reach = _mm512_set1_epi32(SIGHT_SQUARED);
            let filled = ((1u32 << self.filled) - 1) as __mmask16;
            let within = _mm512_mask_cmplt_epi32_mask(filled, squared, reach);
            self.count += u32::from(within).count_ones();
            let narrow = |lanes: __m512i| {
                let lanes = _mm512_maskz_mov_epi32(within, lanes);
                let upper = _mm512_extracti64x4_epi64::<1>(lanes);
                let half = _mm256_add_epi16(_mm512_castsi512_si256(lanes), upper);
                let upper = _mm256_extracti128_si256::<1>(half);
                _mm_add_epi16(_mm256_castsi256_si128(half), upper)
            };
            let (offset, flow) = (narrow(offset), narrow(self.flow));
            let parts = [
                _mm_srai_epi32::<16>(_mm_slli_epi32::<16>(offset)),
                _mm_srai_epi32::<16>(offset),
                _mm_srai_epi32::<16>(_mm_slli_epi32::<16>(flow)),
                _mm_srai_epi32::<16>(flow),
            ];
            self.sums = _mm_add_epi32(self.sums, folded(parts));
        }
        self.filled = 0;
    }
}

impl Sight for Avx512 {
    #[inline(always)]
    fn sum(grid: &Grid, near: u32, stretches: &Stretches) -> Sums {
        // SAFETY: AVX-512 was detected, and stretches lie in the list.
        unsafe {
            let mut seen = Candidates {
                own: _mm512_set1_epi32(near as i32),
                near: _mm512_setzero_si512(),
                flow: _mm512_setzero_si512(),
                filled: 0,
                sums: _mm_setzero_si128(),
                count: 0,
            };
            let [above, own, below] = stretches.rows;
            let lengths = [above.1 - above.0, own.1 - own.0, below.1 - below.0];
            let few = lengths[0] + lengths[1] + lengths[2] <= SIXTEEN;
            if few && stretches.beyond_seam.is_none() {
                seen.load(grid, above.0, lengths[0]);
                seen.load(grid, own.0, lengths[1]);
                seen.load(grid, below.0, lengths[2]);
            } else {
                seen.load_many(grid, stretches);
            }
            seen.add_up();
            sums_of(seen.sums, seen.count)
        }
    }
}
