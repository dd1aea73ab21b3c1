//! What a token costs beside its matrices: norms, rotations, attention to the positions so far.
//!
//! Plain loops over fixed lanes, compiled once for each set of instructions: the order of every sum
//! is written down here, so the bits do not depend on the width of a register.

use super::POSITIONS;
use super::kernels::Kernels;

/// Sums that are kept apart where a sum runs along a vector.
const PARTS: usize = 16;
const EPSILON: f32 = 1e-6;

/// Keys and values of one head at all positions.
pub struct Head<'a> {
    /// By dimension, then by position.
    pub keys: &'a [f32],
    /// By position, then by dimension.
    pub values: &'a [f32],
}

#[inline(always)]
fn total(parts: &[f32; PARTS]) -> f32 {
    let mut sums = *parts;
    let mut half = PARTS / 2;
    while half > 0 {
        for at in 0..half {
            sums[at] += sums[at + half];
        }
        half /= 2;
    }
    sums[0]
}

/// 1 / root of the mean square of a vector; its length is a multiple of `PARTS`.
#[inline(always)]
fn inverse_root(vector: &[f32]) -> f32 {
    let mut parts = [0f32; PARTS];
    for chunk in vector.chunks_exact(PARTS) {
        for (part, value) in parts.iter_mut().zip(chunk) {
            *part = value.mul_add(*value, *part);
        }
    }
    1.0 / (total(&parts) / vector.len() as f32 + EPSILON).sqrt()
}

/// e^x for x <= 0, to 2 units in the last place: Cody and Waite's reduction and a polynomial.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let whole = x.mul_add(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let rest = whole.mul_add(-0.693_145_75, x);
    let rest = whole.mul_add(-1.428_606_8e-6, rest);
    let mut power = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        power = rest.mul_add(power, coefficient);
    }
    power * f32::from_bits(((whole as i32 + 127) as u32) << 23)
}

#[inline(always)]
fn attend_body(query: &[f32], head: &Head<'_>, position: usize, output: &mut [f32]) {
    let mut scores = [0f32; POSITIONS];
    let used = (position + 1).next_multiple_of(PARTS);
    let scores = &mut scores[..used];
    for (value, keys) in query.iter().zip(head.keys.chunks_exact(POSITIONS)) {
        for (score, key) in scores.iter_mut().zip(&keys[..used]) {
            *score = value.mul_add(*key, *score);
        }
    }
    let scale = 1.0 / (query.len() as f32).sqrt();
    let mut highest = f32::NEG_INFINITY;
    for score in &mut scores[..=position] {
        *score *= scale;
        highest = highest.max(*score);
    }
    scores[position + 1..].fill(f32::NEG_INFINITY);
    let mut parts = [0f32; PARTS];
    for chunk in scores.chunks_exact_mut(PARTS) {
        for (part, score) in parts.iter_mut().zip(chunk) {
            let weight = exponential(*score - highest);
            *score = if *score == f32::NEG_INFINITY { 0.0 } else { weight };
            *part += *score;
        }
    }
    output.fill(0.0);
    for (weight, values) in scores.iter().zip(head.values.chunks_exact(output.len())) {
        for (sum, value) in output.iter_mut().zip(values) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
    let inverse = 1.0 / total(&parts);
    for sum in output {
        *sum *= inverse;
    }
}

/// # Safety
/// Needs AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn attend_avx2(query: &[f32], head: &Head<'_>, position: usize, output: &mut [f32]) {
    attend_body(query, head, position, output);
}

/// # Safety
/// Needs AVX-512F and FMA.
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[target_feature(enable = "avx512f,fma")]
unsafe fn attend_avx512(query: &[f32], head: &Head<'_>, position: usize, output: &mut [f32]) {
    attend_body(query, head, position, output);
}

/// # Safety
/// Needs AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn inverse_root_fused(vector: &[f32]) -> f32 {
    inverse_root(vector)
}

impl Kernels {
    /// Softmax-weighted mean of the values at positions up to `position`.
    #[inline]
    pub fn attend(self, query: &[f32], head: &Head<'_>, position: usize, output: &mut [f32]) {
        match self {
            Self::Portable => attend_body(query, head, position, output),
            // SAFETY: the set is only made where it was detected.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { attend_avx2(query, head, position, output) },
            // SAFETY: as above; a set has all of those before it.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 | Self::Avx512Vnni => unsafe {
                attend_avx512(query, head, position, output)
            },
        }
    }

    /// `vector` over the root of its mean square.
    #[inline]
    pub fn normalise(self, vector: &[f32], normal: &mut [f32]) {
        let factor = match self {
            Self::Portable => inverse_root(vector),
            // SAFETY: every other set has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            _ => unsafe { inverse_root_fused(vector) },
        };
        for (normal, value) in normal.iter_mut().zip(vector) {
            *normal = factor * value;
        }
    }
}

/// Turns each pair (i, i + half) of a head's dimensions by its angle at this position.
#[inline]
pub fn rotate(head: &mut [f32], angles: &[[f32; 2]]) {
    let (first, second) = head.split_at_mut(angles.len());
    for ((first, second), [cosine, sine]) in first.iter_mut().zip(second).zip(angles) {
        let turned = *first * cosine - *second * sine;
        *second = *first * sine + *second * cosine;
        *first = turned;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        for step in 0..87_000 {
            let x = -(step as f32) / 1000.0;
            let right = f64::from(x).exp();
            assert!((f64::from(exponential(x)) / right - 1.0).abs() < 2.4e-7, "{x}");
        }
    }
}
