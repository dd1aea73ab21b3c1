//! Matrix times vector with AVX-512: bytes widened to floats on the way from the cache.

use std::arch::x86_64::*;

use super::kernels::{Input, Parts};
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

/// Two or four registers of lanes of every sequence at a time: sixteen sums at most.
///
/// # Safety
/// Needs AVX-512F; `lines` are whole blocks of `parts.inputs.len() / count`, and `outputs` has
/// `parts.stride` for each of `count` sequences, those of the lines from `parts.first` on.
#[target_feature(enable = "avx512f")]
pub unsafe fn multiply_together(
    lines: &[Line],
    parts: &Parts<'_>,
    count: usize,
    outputs: &mut [f32],
) {
    // SAFETY: the caller's promises, with the count in the type.
    unsafe {
        match count {
            1 => sequences::<1, 4>(lines, parts, outputs),
            2 => sequences::<2, 4>(lines, parts, outputs),
            3 => sequences::<3, 4>(lines, parts, outputs),
            4 => sequences::<4, 4>(lines, parts, outputs),
            5 => sequences::<5, 2>(lines, parts, outputs),
            6 => sequences::<6, 2>(lines, parts, outputs),
            7 => sequences::<7, 2>(lines, parts, outputs),
            _ => sequences::<8, 2>(lines, parts, outputs),
        }
    }
}

/// # Safety
/// As `multiply_together`; `WIDE` divides four.
#[target_feature(enable = "avx512f")]
unsafe fn sequences<const COUNT: usize, const WIDE: usize>(
    lines: &[Line],
    parts: &Parts<'_>,
    outputs: &mut [f32],
) {
    let scale = _mm512_set1_ps(parts.scale);
    for (number, block) in lines.chunks_exact(parts.inputs.len() / COUNT).enumerate() {
        for lane in (0..LANES).step_by(16 * WIDE) {
            // SAFETY: a line holds 64 bytes, read sixteen at a time; 64 outputs of each sequence
            // are written for a block, which the caller vouches for.
            unsafe {
                let mut sums = [[_mm512_setzero_ps(); WIDE]; COUNT];
                for (line, inputs) in block.iter().zip(parts.inputs.chunks_exact(COUNT)) {
                    let bytes = line.0.as_ptr().add(lane);
                    let mut weights = [_mm512_setzero_ps(); WIDE];
                    for (part, weights) in weights.iter_mut().enumerate() {
                        let part = _mm_loadu_si128(bytes.add(16 * part).cast());
                        *weights = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(part));
                    }
                    for (sums, input) in sums.iter_mut().zip(inputs) {
                        let input = _mm512_set1_ps(*input);
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = _mm512_fmadd_ps(input, weights, *sum);
                        }
                    }
                }
                for (sequence, sums) in sums.into_iter().enumerate() {
                    let place = sequence * parts.stride + parts.first + number * LANES + lane;
                    for (part, sum) in sums.into_iter().enumerate() {
                        let target = outputs.as_mut_ptr().add(place + 16 * part);
                        _mm512_storeu_ps(target, _mm512_mul_ps(scale, sum));
                    }
                }
            }
        }
    }
}
