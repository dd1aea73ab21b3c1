//! Matrix times vector with AVX2: bytes widened to floats on the way from the cache.

use std::arch::x86_64::*;

use super::kernels::Input;
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
