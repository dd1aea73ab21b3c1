//! Matrix times vector with AVX-512: bytes widened to floats on the way from the cache.

use std::arch::x86_64::*;

use super::kernels::Input;
use super::{LANES, Line};

/// Two blocks at a time where there are two: eight sums of sixteen lanes.
///
/// # Safety
/// Needs AVX-512F; `lines` are `outputs.len() / 64` blocks of `count`, every input's number is
/// below `count`.
#[target_feature(enable = "avx512f")]
pub unsafe fn multiply(
    lines: &[Line],
    count: usize,
    inputs: &[Input],
    scale: f32,
    outputs: &mut [f32],
) {
    let mut pairs = lines.chunks(2 * count);
    for outputs in outputs.chunks_mut(2 * LANES) {
        let Some(block) = pairs.next() else { return };
        // SAFETY: the caller's promises, for one block or for two.
        unsafe {
            if outputs.len() == 2 * LANES {
                blocks::<2>(block, count, inputs, scale, outputs);
            } else {
                blocks::<1>(block, count, inputs, scale, outputs);
            }
        }
    }
}

/// # Safety
/// Needs AVX-512F; `block` has `BLOCKS * count` lines, `outputs` `64 * BLOCKS` floats.
#[target_feature(enable = "avx512f")]
unsafe fn blocks<const BLOCKS: usize>(
    block: &[Line],
    count: usize,
    inputs: &[Input],
    scale: f32,
    outputs: &mut [f32],
) {
    // SAFETY: a line holds 64 bytes, read sixteen at a time; 64 outputs belong to each block.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 4]; BLOCKS];
        for (input, value) in inputs {
            let value = _mm512_set1_ps(*value);
            for (number, sums) in sums.iter_mut().enumerate() {
                let line = block.get_unchecked(number * count + *input as usize).0.as_ptr();
                for (part, sum) in sums.iter_mut().enumerate() {
                    let bytes = _mm_loadu_si128(line.add(16 * part).cast());
                    let weights = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
                    *sum = _mm512_fmadd_ps(value, weights, *sum);
                }
            }
        }
        let scale = _mm512_set1_ps(scale);
        for (number, sums) in sums.into_iter().enumerate() {
            for (part, sum) in sums.into_iter().enumerate() {
                let place = outputs.as_mut_ptr().add(LANES * number + 16 * part);
                _mm512_storeu_ps(place, _mm512_mul_ps(scale, sum));
            }
        }
    }
}
