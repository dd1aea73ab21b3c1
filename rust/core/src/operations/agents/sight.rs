//! What an agent sees, summed up by vectors: the same sums as `grid::Plain`.
//!
//! A candidate is one 32-bit lane with two signed halves. Wrapping subtraction of halves is the
//! distance on the torus, and the sum of their squares is one multiply-add.

use std::arch::x86_64::*;

use super::agent::{SIGHT_SQUARED, Sums};
use super::grid::{Grid, Sight, Stretches};

/// `[offset_x, offset_y, flow_x, flow_y]` of four lanes each, added up.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn folded(parts: [__m128i; 4]) -> __m128i {
    // SAFETY: the caller has AVX2, which contains these.
    unsafe {
        let offsets = _mm_hadd_epi32(parts[0], parts[1]);
        let flows = _mm_hadd_epi32(parts[2], parts[3]);
        _mm_hadd_epi32(offsets, flows)
    }
}

/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn sums_of(lanes: __m128i, count: u32) -> Sums {
    let mut sums = [0i32; 4];
    // SAFETY: `sums` has the sixteen bytes.
    unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), lanes) };
    let [offset_x, offset_y, flow_x, flow_y] = sums;
    Sums { offset_x, offset_y, flow_x, flow_y, count: count as i32 }
}

/// Eight candidates at a time; for use where AVX2 was detected.
pub struct Avx2;

const EIGHT: usize = 8;
/// The last `count` of the first eight are all ones, from the lane `8 - count` on.
const FIRST: [i32; 2 * EIGHT] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Sight for Avx2 {
    #[inline(always)]
    fn sum(grid: &Grid, near: u32, stretches: &Stretches) -> Sums {
        // SAFETY: AVX2 was detected; masked lanes alone are read, and those lie in the stretches.
        unsafe {
            let own = _mm256_set1_epi32(near as i32);
            let reach = _mm256_set1_epi32(SIGHT_SQUARED);
            let mut parts = [_mm256_setzero_si256(); 4];
            let mut count = 0;
            for &(first, end) in stretches.bounds() {
                for at in (first..end).step_by(EIGHT) {
                    let lanes = ((end - at) as usize).min(EIGHT);
                    let mask = _mm256_loadu_si256(FIRST.as_ptr().add(EIGHT - lanes).cast());
                    let places = grid.near.as_ptr().add(at as usize).cast();
                    let flows = grid.flow.as_ptr().add(at as usize).cast();
                    let offset = _mm256_sub_epi16(_mm256_maskload_epi32(places, mask), own);
                    let squared = _mm256_madd_epi16(offset, offset);
                    let within = _mm256_and_si256(mask, _mm256_cmpgt_epi32(reach, squared));
                    let offset = _mm256_and_si256(offset, within);
                    let flow = _mm256_and_si256(_mm256_maskload_epi32(flows, mask), within);
                    count += (_mm256_movemask_ps(_mm256_castsi256_ps(within))).count_ones();
                    let halves = [
                        _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(offset)),
                        _mm256_srai_epi32::<16>(offset),
                        _mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(flow)),
                        _mm256_srai_epi32::<16>(flow),
                    ];
                    for (part, half) in parts.iter_mut().zip(halves) {
                        *part = _mm256_add_epi32(*part, half);
                    }
                }
            }
            let narrow = |part: __m256i| {
                _mm_add_epi32(_mm256_castsi256_si128(part), _mm256_extracti128_si256::<1>(part))
            };
            sums_of(folded(parts.map(narrow)), count)
        }
    }
}

/// Sixteen candidates at a time, gathered from all stretches into one vector where they fit; for
/// use where AVX-512F and AVX-512BW were detected.
#[cfg(avx512_intrinsics)]
pub struct Avx512;

#[cfg(avx512_intrinsics)]
const SIXTEEN: u32 = 16;

/// Candidates in lanes, and what those within sight add up to.
#[cfg(avx512_intrinsics)]
struct Candidates {
    own: __m512i,
    near: __m512i,
    flow: __m512i,
    filled: u32,
    sums: __m128i,
    count: u32,
}

#[cfg(avx512_intrinsics)]
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

#[cfg(avx512_intrinsics)]
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
            let bounds = stretches.bounds();
            let total: u32 = bounds.iter().map(|(first, end)| end - first).sum();
            if total <= SIXTEEN {
                for &(first, end) in bounds {
                    seen.load(grid, first, end - first);
                }
            } else {
                for &(first, end) in bounds {
                    let mut at = first;
                    while at < end {
                        let length = (end - at).min(SIXTEEN - seen.filled);
                        seen.load(grid, at, length);
                        at += length;
                        if seen.filled == SIXTEEN {
                            seen.add_up();
                        }
                    }
                }
            }
            seen.add_up();
            sums_of(seen.sums, seen.count)
        }
    }
}
