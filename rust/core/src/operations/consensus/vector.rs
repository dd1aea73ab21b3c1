//! Vectors of 64-bit lanes that hold 32-bit words: plain arrays, AVX2, AVX-512.
//!
//! A word in 64 bits leaves room for its product, so that a round of Philox needs no shuffle:
//! eight instructions per vector.

use super::votes::Vote;

/// Lanes of 64 bits. `mul` ignores upper halves; the operations without a word on it are 64-bit.
pub trait Vector: Copy {
    const LANES: usize;

    fn splat(value: u64) -> Self;
    /// `lanes` has LANES.
    fn load(lanes: &[u64]) -> Self;
    /// `lanes` has LANES.
    fn unload(self, lanes: &mut [u64]);
    /// Products of the low words.
    fn mul(self, other: Self) -> Self;
    /// Low words of the products of lanes whose upper halves are zero, as the answer's are.
    fn mul_low(self, other: Self) -> Self;
    fn add(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn shift_right<const BITS: u32>(self) -> Self;
    fn shift_left<const BITS: u32>(self) -> Self;
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

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    fn load(lanes: &[u64]) -> Self {
        Self::each(|i| lanes[i])
    }

    #[inline(always)]
    fn unload(self, lanes: &mut [u64]) {
        lanes.copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::each(|i| u64::from(self.0[i] as u32) * u64::from(other.0[i] as u32))
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        Self::each(|i| u64::from((self.0[i] as u32).wrapping_mul(other.0[i] as u32)))
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
    fn shift_right<const BITS: u32>(self) -> Self {
        Self::each(|i| self.0[i] >> BITS)
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> Self {
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

/// Two vectors at a time: the steps of one fill the waits of the other, whose rounds each depend
/// on the one before.
#[derive(Clone, Copy)]
pub struct Two<V>(pub V, pub V);

impl<V: Vector> Two<V> {
    #[inline(always)]
    fn both(self, change: impl Fn(V) -> V) -> Self {
        Self(change(self.0), change(self.1))
    }
}

impl<V: Vector> Vector for Two<V> {
    const LANES: usize = 2 * V::LANES;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self(V::splat(value), V::splat(value))
    }

    #[inline(always)]
    fn load(lanes: &[u64]) -> Self {
        Self(V::load(&lanes[..V::LANES]), V::load(&lanes[V::LANES..]))
    }

    #[inline(always)]
    fn unload(self, lanes: &mut [u64]) {
        self.0.unload(&mut lanes[..V::LANES]);
        self.1.unload(&mut lanes[V::LANES..]);
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.0.mul(other.0), self.1.mul(other.1))
    }

    #[inline(always)]
    fn mul_low(self, other: Self) -> Self {
        Self(self.0.mul_low(other.0), self.1.mul_low(other.1))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0.add(other.0), self.1.add(other.1))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(self.0.and(other.0), self.1.and(other.1))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(self.0.xor(other.0), self.1.xor(other.1))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        self.both(V::shift_right::<BITS>)
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self) -> Self {
        self.both(V::shift_left::<BITS>)
    }

    #[inline(always)]
    fn below(self, bound: Self, yes: Self, no: Self) -> Self {
        Self(self.0.below(bound.0, yes.0, no.0), self.1.below(bound.1, yes.1, no.1))
    }

    #[inline(always)]
    fn store(lower: Self, upper: Self, votes: &mut [Vote]) {
        let (front, back) = votes.split_at_mut(V::LANES);
        V::store(lower.0, upper.0, front);
        V::store(lower.1, upper.1, back);
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

        #[inline(always)]
        fn splat(value: u64) -> Self {
            Self(detected!(_mm256_set1_epi64x(value as i64)))
        }

        #[inline(always)]
        fn load(lanes: &[u64]) -> Self {
            assert_eq!(lanes.len(), Self::LANES);
            Self(detected!(_mm256_loadu_si256(lanes.as_ptr().cast())))
        }

        #[inline(always)]
        fn unload(self, lanes: &mut [u64]) {
            assert_eq!(lanes.len(), Self::LANES);
            detected!(_mm256_storeu_si256(lanes.as_mut_ptr().cast(), self.0));
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(detected!(_mm256_mul_epu32(self.0, other.0)))
        }

        #[inline(always)]
        fn mul_low(self, other: Self) -> Self {
            Self(detected!(_mm256_mullo_epi32(self.0, other.0)))
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
        fn shift_right<const BITS: u32>(self) -> Self {
            Self(detected!(_mm256_srl_epi64(self.0, _mm_cvtsi32_si128(BITS as i32))))
        }

        #[inline(always)]
        fn shift_left<const BITS: u32>(self) -> Self {
            Self(detected!(_mm256_sll_epi64(self.0, _mm_cvtsi32_si128(BITS as i32))))
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

#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
pub use avx512::Avx512;

#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "compiled only where build.rs found them stable")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{Vector, Vote};

    /// Eight lanes of an AVX-512 register; used only inside functions compiled for AVX-512 F,
    /// which are called only where it was detected.
    #[derive(Clone, Copy)]
    pub struct Avx512(pub __m512i);

    macro_rules! detected {
        ($call:expr) => {
            // SAFETY: see `Avx512`: the CPU has the instruction; pointers are to whole vectors.
            unsafe { $call }
        };
    }

    impl Vector for Avx512 {
        const LANES: usize = 8;

        #[inline(always)]
        fn splat(value: u64) -> Self {
            Self(detected!(_mm512_set1_epi64(value as i64)))
        }

        #[inline(always)]
        fn load(lanes: &[u64]) -> Self {
            assert_eq!(lanes.len(), Self::LANES);
            Self(detected!(_mm512_loadu_si512(lanes.as_ptr().cast())))
        }

        #[inline(always)]
        fn unload(self, lanes: &mut [u64]) {
            assert_eq!(lanes.len(), Self::LANES);
            detected!(_mm512_storeu_si512(lanes.as_mut_ptr().cast(), self.0));
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(detected!(_mm512_mul_epu32(self.0, other.0)))
        }

        #[inline(always)]
        fn mul_low(self, other: Self) -> Self {
            Self(detected!(_mm512_mullo_epi32(self.0, other.0)))
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(detected!(_mm512_add_epi64(self.0, other.0)))
        }

        #[inline(always)]
        fn and(self, other: Self) -> Self {
            Self(detected!(_mm512_and_si512(self.0, other.0)))
        }

        #[inline(always)]
        fn xor(self, other: Self) -> Self {
            Self(detected!(_mm512_xor_si512(self.0, other.0)))
        }

        #[inline(always)]
        fn shift_right<const BITS: u32>(self) -> Self {
            Self(detected!(_mm512_srli_epi64::<BITS>(self.0)))
        }

        #[inline(always)]
        fn shift_left<const BITS: u32>(self) -> Self {
            Self(detected!(_mm512_slli_epi64::<BITS>(self.0)))
        }

        #[inline(always)]
        fn below(self, bound: Self, yes: Self, no: Self) -> Self {
            let mask = detected!(_mm512_cmplt_epu64_mask(self.0, bound.0));
            Self(detected!(_mm512_mask_blend_epi64(mask, no.0, yes.0)))
        }

        #[inline(always)]
        fn store(lower: Self, upper: Self, votes: &mut [Vote]) {
            assert_eq!(votes.len(), Self::LANES);
            let front = detected!(_mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11));
            let back = detected!(_mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15));
            let first = detected!(_mm512_permutex2var_epi64(lower.0, front, upper.0));
            let last = detected!(_mm512_permutex2var_epi64(lower.0, back, upper.0));
            let target: *mut __m512i = votes.as_mut_ptr().cast();
            detected!(_mm512_storeu_si512(target, first));
            detected!(_mm512_storeu_si512(target.add(1), last));
        }
    }
}
