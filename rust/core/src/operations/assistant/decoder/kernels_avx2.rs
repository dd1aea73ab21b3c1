//! Matrix times vector with AVX2: bytes widened to floats on the way from the cache.

use std::arch::x86_64::*;

use super::kernels::{Input, Parts};
use super::{LANES, Line};

/// Eight sums of eight lanes: enough to hide the latency of a fused multiply-add.
///
/// # Safety
/// Needs AVX2 and FMA; `lines` are `outputs.len() / 64` blocks of `count`, every input's number is
/// below `count`.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn multiply(
    lines: &[Line],
    count: usize,
    inputs: &[Input],
    scale: f32,
    outputs: &mut [f32],
) {
    for (block, outputs) in lines.chunks_exact(count).zip(outputs.chunks_exact_mut(LANES)) {
        // SAFETY: a line holds 64 bytes, read eight at a time; outputs are 64 floats, written
        // eight at a time; the caller vouches for the numbers.
        unsafe {
            let mut sums = [_mm256_setzero_ps(); 8];
            for (input, value) in inputs {
                let line = block.get_unchecked(*input as usize).0.as_ptr();
                let value = _mm256_set1_ps(*value);
                for (part, sum) in sums.iter_mut().enumerate() {
                    let bytes = _mm_loadl_epi64(line.add(8 * part).cast());
                    let weights = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
                    *sum = _mm256_fmadd_ps(value, weights, *sum);
                }
            }
            let scale = _mm256_set1_ps(scale);
            for (part, sum) in sums.into_iter().enumerate() {
                let scaled = _mm256_mul_ps(scale, sum);
                _mm256_storeu_ps(outputs.as_mut_ptr().add(8 * part), scaled);
            }
        }
    }
}

/// One to eight registers of lanes of every sequence at a time: eight sums at most.
///
/// # Safety
/// Needs AVX2 and FMA; `lines` are whole blocks of `parts.inputs.len() / count`, and `outputs` has
/// `parts.stride` for each of `count` sequences, those of the lines from `parts.first` on.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn multiply_together(
    lines: &[Line],
    parts: &Parts<'_>,
    count: usize,
    outputs: &mut [f32],
) {
    // SAFETY: the caller's promises, with the count in the type.
    unsafe {
        match count {
            1 => sequences::<1, 8>(lines, parts, outputs),
            2 => sequences::<2, 4>(lines, parts, outputs),
            3 => sequences::<3, 2>(lines, parts, outputs),
            4 => sequences::<4, 2>(lines, parts, outputs),
            5 => sequences::<5, 1>(lines, parts, outputs),
            6 => sequences::<6, 1>(lines, parts, outputs),
            7 => sequences::<7, 1>(lines, parts, outputs),
            _ => sequences::<8, 1>(lines, parts, outputs),
        }
    }
}

/// # Safety
/// As `multiply_together`; `WIDE` divides eight.
#[target_feature(enable = "avx2,fma")]
unsafe fn sequences<const COUNT: usize, const WIDE: usize>(
    lines: &[Line],
    parts: &Parts<'_>,
    outputs: &mut [f32],
) {
    let scale = _mm256_set1_ps(parts.scale);
    for (number, block) in lines.chunks_exact(parts.inputs.len() / COUNT).enumerate() {
        for lane in (0..LANES).step_by(8 * WIDE) {
            // SAFETY: a line holds 64 bytes, read eight at a time; 64 outputs of each sequence are
            // written for a block, which the caller vouches for.
            unsafe {
                let mut sums = [[_mm256_setzero_ps(); WIDE]; COUNT];
                for (line, inputs) in block.iter().zip(parts.inputs.chunks_exact(COUNT)) {
                    let bytes = line.0.as_ptr().add(lane);
                    let mut weights = [_mm256_setzero_ps(); WIDE];
                    for (part, weights) in weights.iter_mut().enumerate() {
                        let part = _mm_loadl_epi64(bytes.add(8 * part).cast());
                        *weights = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(part));
                    }
                    for (sums, input) in sums.iter_mut().zip(inputs) {
                        let input = _mm256_set1_ps(*input);
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = _mm256_fmadd_ps(input, weights, *sum);
                        }
                    }
                }
                for (sequence, sums) in sums.into_iter().enumerate() {
                    let place = sequence * parts.stride + parts.first + number * LANES + lane;
                    for (part, sum) in sums.into_iter().enumerate() {
                        let target = outputs.as_mut_ptr().add(place + 8 * part);
                        _mm256_storeu_ps(target, _mm256_mul_ps(scale, sum));
                    }
                }
            }
        }
    }
}
