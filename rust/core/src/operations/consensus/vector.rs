//! Vectors of 64-bit lanes that hold 32-bit words: plain arrays, AVX2.
//!
//! A word in 64 bits leaves room for its product, so that a round of Philox needs no shuffle:
//! eight instructions per vector.

use super::votes::Vote;

/// Lanes of 64 bits. Only `mul` ignores upper halves; all other operations are plain 64-bit ones.
pub trait Vector: Copy {
    const LANES: usize;
    type Array: AsRef<[u64]> + AsMut<[u64]> + Default;

    fn splat(value: u64) -> Self;
    fn load(lanes: &Self::Array) -> Self;
    fn lanes(self) -> Self::Array;
    /// Products of the low words.
    fn mul(self, other: Self) -> Self;
    fn add(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn shift_right<const BITS: i32>(self) -> Self;
    fn shift_left<const BITS: i32>(self) -> Self;
    /// `yes` where this is below `bound` (both below 2^63), else `no`.
    fn below(self, bound: Self, yes: Self, no: Self) -> Self;
    /// Writes one vote per lane, given as its two halves; `votes` has LANES.
    fn store(lower: Self, upper: Self, votes: &mut [Vote]);
}

/// Four lanes on any machine.
#[derive(Clone, Copy)]
pub struct Plain([u64; 4]);

impl Plain {
    #[inline(always)]
    fn each(make: impl FnMut(usize) -> u64) -> Self {
        Self(std::array::from_fn(make))
    }
}

impl Vector for Plain {
    const LANES: usize = 4;
    type Array = [u64; 4];

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    fn load(lanes: &Self::Array) -> Self {
        Self(*lanes)
    }

    #[inline(always)]
    fn lanes(self) -> Self::Array {
        self.0
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::each(|i| u64::from(self.0[i] as u32) * u64::from(other.0[i] as u32))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::each(|i| self.0[i].wrapping_add(other.0[i]))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self::each(|i| self.0[i] & other.0[i])
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self::each(|i| self.0[i] ^ other.0[i])
    }

    #[inline(always)]
    fn shift_right<const BITS: i32>(self) -> Self {
        Self::each(|i| self.0[i] >> BITS)
    }

    #[inline(always)]
    fn shift_left<const BITS: i32>(self) -> Self {
        Self::each(|i| self.0[i] << BITS)
    }

    #[inline(always)]
    fn below(self, bound: Self, yes: Self, no: Self) -> Self {
        Self::each(|i| if self.0[i] < bound.0[i] { yes.0[i] } else { no.0[i] })
    }

    #[inline(always)]
    fn store(lower: Self, upper: Self, votes: &mut [Vote]) {
        for (vote, halves) in votes.iter_mut().zip(lower.0.into_iter().zip(upper.0)) {
            *vote = Vote::from_halves(halves.0, halves.1);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{Vector, Vote};

    /// Four lanes of an AVX2 register; used only inside functions compiled for AVX2, which are
    /// called only where it was detected.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256i);

    macro_rules! detected {
        ($call:expr) => {
            // SAFETY: see `Avx2`: the CPU has the instruction; pointers are to whole vectors.
            unsafe { $call }
        };
    }

    impl Vector for Avx2 {
        const LANES: usize = 4;
        type Array = [u64; 4];

        #[inline(always)]
        fn splat(value: u64) -> Self {
            Self(detected!(_mm256_set1_epi64x(value as i64)))
        }

        #[inline(always)]
        fn load(lanes: &Self::Array) -> Self {
            Self(detected!(_mm256_loadu_si256(lanes.as_ptr().cast())))
        }

        #[inline(always)]
        fn lanes(self) -> Self::Array {
            let mut lanes = [0; 4];
            detected!(_mm256_storeu_si256(lanes.as_mut_ptr().cast(), self.0));
            lanes
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(detected!(_mm256_mul_epu32(self.0, other.0)))
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(detected!(_mm256_add_epi64(self.0, other.0)))
        }

        #[inline(always)]
        fn and(self, other: Self) -> Self {
            Self(detected!(_mm256_and_si256(self.0, other.0)))
        }

        #[inline(always)]
        fn xor(self, other: Self) -> Self {
            Self(detected!(_mm256_xor_si256(self.0, other.0)))
        }

        #[inline(always)]
        fn shift_right<const BITS: i32>(self) -> Self {
            Self(detected!(_mm256_srli_epi64::<BITS>(self.0)))
        }

        #[inline(always)]
        fn shift_left<const BITS: i32>(self) -> Self {
            Self(detected!(_mm256_slli_epi64::<BITS>(self.0)))
        }

        #[inline(always)]
        fn below(self, bound: Self, yes: Self, no: Self) -> Self {
            Self(detected!(_mm256_blendv_epi8(no.0, yes.0, _mm256_cmpgt_epi64(bound.0, self.0))))
        }

        #[inline(always)]
        fn store(lower: Self, upper: Self, votes: &mut [Vote]) {
            assert_eq!(votes.len(), Self::LANES);
            let even = detected!(_mm256_unpacklo_epi64(lower.0, upper.0));
            let odd = detected!(_mm256_unpackhi_epi64(lower.0, upper.0));
            let first = detected!(_mm256_permute2x128_si256::<0x20>(even, odd));
            let last = detected!(_mm256_permute2x128_si256::<0x31>(even, odd));
            let target: *mut __m256i = votes.as_mut_ptr().cast();
            detected!(_mm256_storeu_si256(target, first));
            detected!(_mm256_storeu_si256(target.add(1), last));
        }
    }
}
