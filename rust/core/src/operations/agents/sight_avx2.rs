//! What an agent sees, summed up by eight lanes: the same sums as `grid::Plain`.
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
pub unsafe fn folded(parts: [__m128i; 4]) -> __m128i {
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
pub unsafe fn sums_of(lanes: __m128i, count: u32) -> Sums {
    let mut sums = [0i32; 4];
    // SAFETY: `sums` has the sixteen bytes.
    unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), lanes) };
    let [offset_x, offset_y, flow_x, flow_y] = sums;
    Sums { offset_x, offset_y, flow_x, flow_y, count: count as i32 }
}

/// Eight candidates at a time; for use where AVX2 was detected.
pub struct Avx2;

const EIGHT: usize = 8;
/// Eight lanes loaded from the place `8 - count` on: the first `count` of them are all ones.
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
            for (first, end) in stretches.bounds() {
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
                    parts[0] = _mm256_add_epi32(parts[0], halves[0]);
                    parts[1] = _mm256_add_epi32(parts[1], halves[1]);
                    parts[2] = _mm256_add_epi32(parts[2], halves[2]);
                    parts[3] = _mm256_add_epi32(parts[3], halves[3]);
                }
            }
            let narrow = |part: __m256i| {
                _mm_add_epi32(_mm256_castsi256_si128(part), _mm256_extracti128_si256::<1>(part))
            };
            let parts = [narrow(parts[0]), narrow(parts[1]), narrow(parts[2]), narrow(parts[3])];
            sums_of(folded(parts), count)
        }
    }
}
