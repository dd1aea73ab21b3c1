//! Unit exponentials, eight at once: the randomness and the logarithm of most schedules.
//!
//! The same arithmetic is compiled for what the processor has; no step is fused or reordered, so
//! every machine gives the same bits.

use crate::random::{Stream, philox_blocks};

use super::lane::AHEAD;

/// A Philox block makes two.
const BLOCKS: usize = AHEAD / 2;

/// sqrt(1/2) as an integer: that far below 1 a mantissa may lie.
const SQRT_HALF_BITS: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();

/// Several exponentials of mean `scale`, rounded down, all at once: no step of one waits for
/// another's.
#[inline]
pub(super) fn exponentials(stream: &mut Stream, scale: f64) -> [u64; AHEAD] {
    let (key, first, high) = stream.skip_blocks(BLOCKS as u64);
    #[cfg(target_arch = "x86_64")]
    {
        #[cfg(avx512_intrinsics)]
        if is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { x86::with_avx512(key, first, high, scale) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::with_avx2(key, first, high, scale) };
        }
    }
    drawn(key, first, high, scale)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_mul_epu32, _mm256_or_si256, _mm256_set1_epi64x,
        _mm256_setr_epi64x, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256,
        _mm256_xor_si256,
    };

    use super::{AHEAD, BLOCKS, Words, from_words};
    use crate::random::{MULTIPLIERS, WEYL};

    #[cfg(avx512_intrinsics)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    pub(super) unsafe fn with_avx512(
        key: [u32; 2],
        first: u64,
        high: u64,
        scale: f64,
    ) -> [u64; AHEAD] {
        // SAFETY: a processor with AVX-512 has AVX2.
        from_words(unsafe { words(key, first, high) }, scale)
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn with_avx2(
        key: [u32; 2],
        first: u64,
        high: u64,
        scale: f64,
    ) -> [u64; AHEAD] {
        // SAFETY: AVX2 by this function's contract.
        from_words(unsafe { words(key, first, high) }, scale)
    }

    /// `philox_blocks` with a 64-bit lane for each 32-bit word of each block.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn words(key: [u32; 2], first: u64, high: u64) -> Words {
        const { assert!(BLOCKS == 4) };
        let mut words = [[0; BLOCKS]; 2];
        let [low_draws, high_draws] = &mut words;
        // SAFETY: AVX2 by this function's contract; each store fills one array of four words.
        unsafe {
            let splat = |word: u64| _mm256_set1_epi64x(word as i64);
            let multipliers = MULTIPLIERS.map(|word| splat(u64::from(word)));
            let ahead = _mm256_setr_epi64x(0, 1, 2, 3);
            let counter = _mm256_add_epi64(splat(first), ahead);
            // A multiplication takes lower halves alone: what stands above them does no harm until
            // it meets the key.
            let upper = |word: __m256i| _mm256_srli_epi64::<32>(word);
            let mut block = [counter, upper(counter), splat(high), splat(high >> 32)];
            let mut key = key;
            for _ in 0..10 {
                let low = _mm256_mul_epu32(multipliers[0], block[0]);
                let high = _mm256_mul_epu32(multipliers[1], block[2]);
                let keys = key.map(|word| splat(u64::from(word)));
                block = [
                    _mm256_xor_si256(upper(high), _mm256_xor_si256(block[1], keys[0])),
                    high,
                    _mm256_xor_si256(upper(low), _mm256_xor_si256(block[3], keys[1])),
                    low,
                ];
                key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
            }
            let draw = |low, high| {
                let lower = upper(_mm256_slli_epi64::<32>(low));
                _mm256_or_si256(lower, _mm256_slli_epi64::<32>(high))
            };
            _mm256_storeu_si256(low_draws.as_mut_ptr().cast(), draw(block[0], block[1]));
            _mm256_storeu_si256(high_draws.as_mut_ptr().cast(), draw(block[2], block[3]));
        }
        words
    }
}

/// The first draws of some blocks, and their second ones.
type Words = [[u64; BLOCKS]; 2];

fn drawn(key: [u32; 2], first: u64, high: u64, scale: f64) -> [u64; AHEAD] {
    from_words(philox_blocks(key, first, high), scale)
}

/// -ln u times `scale` of the uniforms that the draws of some blocks make.
#[inline(always)]
fn from_words(words: Words, scale: f64) -> [u64; AHEAD] {
    let uniforms = std::array::from_fn(|at| unit_above_zero(words[at / BLOCKS][at % BLOCKS]));
    let drawn = logarithms::<AHEAD>(uniforms).map(|logarithm| whole(-logarithm * scale));
    std::array::from_fn(|at| drawn[at % 2 * BLOCKS + at / 2])
}

/// Natural logarithms of `values` in (0, 1], by arithmetic that every machine rounds alike.
///
/// value = m 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh s, s = (m - 1)/(m + 1), |s| <
/// 0.172, as the series to s^19: error below 2e-16 relative to |ln value| + 1. Each step is taken
/// for all values before the next, so that none waits for another's.
#[inline(always)]
fn logarithms<const N: usize>(values: [f64; N]) -> [f64; N] {
    let bits = values.map(f64::to_bits);
    let exponents = bits.map(|bits| bits.wrapping_sub(SQRT_HALF_BITS) as i64 >> 52);
    let mantissas: [f64; N] = std::array::from_fn(|at| {
        f64::from_bits(bits[at].wrapping_sub((exponents[at] << 52) as u64))
    });
    let s = mantissas.map(|mantissa| (mantissa - 1.0) / (mantissa + 1.0));
    let squares = s.map(|s| s * s);
    let mut series = [1.0 / 19.0; N];
    for odd in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        for at in 0..N {
            series[at] = series[at] * squares[at] + 1.0 / odd;
        }
    }
    std::array::from_fn(|at| {
        2.0 * s[at] * series[at] + exponents[at] as f64 * std::f64::consts::LN_2
    })
}

/// One natural logarithm, as `logarithms`.
#[inline]
pub(crate) fn logarithm(value: f64) -> f64 {
    logarithms([value])[0]
}

/// A unit exponential: -ln u, u uniform in (0, 1] with 53 bits.
#[inline]
pub(crate) fn exponential(stream: &mut Stream) -> f64 {
    -logarithm(unit_above_zero(stream.next_u64()))
}

/// The uniform in (0, 1] that 53 of `word`'s bits make.
#[inline(always)]
fn unit_above_zero(word: u64) -> f64 {
    ((word >> 11) as i64 + 1) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// `value` rounded down, where it is not negative and below 2^53. As a cast, but for many at once:
/// casts saturate, for which vectors have no instruction.
#[inline(always)]
fn whole(value: f64) -> u64 {
    let bits = value.to_bits();
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    mantissa.checked_shr(1075_u32.wrapping_sub((bits >> 52) as u32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream_key;

    #[test]
    fn the_logarithm_agrees_with_the_library_to_two_units_in_the_last_place() {
        let mut stream = Stream::new(stream_key(3, 9), 0);
        for _ in 0..100_000 {
            let value = 1.0 - stream.next_unit();
            let difference = (logarithm(value) - value.ln()).abs();
            assert!(difference <= 4.5e-16 * (value.ln().abs() + 1.0), "{value}: {difference}");
        }
    }

    #[test]
    fn a_whole_number_is_what_a_cast_makes() {
        let largest = (1u64 << 53) as f64 - 1.0;
        for value in [0.0, 1e-300, 0.5, 1.0, 1.999, 2.0, 3.7e9, largest / 3.0, largest] {
            assert_eq!(whole(value), value as u64, "{value}");
        }
    }

    #[test]
    fn several_at_once_are_those_drawn_one_by_one_on_every_kind_of_processor() {
        const SCALE: f64 = (64u64 << 40) as f64;
        let key = stream_key(5, 2);
        let (mut at_once, mut single) = (Stream::new(key, 7), Stream::new(key, 7));
        for round in 0..1000 {
            let expected = [(); AHEAD].map(|()| (exponential(&mut single) * SCALE) as u64);
            assert_eq!(exponentials(&mut at_once, SCALE), expected);
            let first = round * BLOCKS as u64;
            assert_eq!(drawn(key, first, 7, SCALE), expected);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has it.
                assert_eq!(unsafe { x86::with_avx2(key, first, 7, SCALE) }, expected);
            }
        }
    }
}
