//! The lanes as AVX-512 registers, one each.

use std::arch::x86_64::*;

use super::lanes::{BLOCKS, LANES, Lanes, Line, Wide};

/// One register; used only inside functions compiled for AVX-512 F, which are called only where it
/// was detected.
#[derive(Clone, Copy)]
pub struct Avx512(__m512i);

/// As `Avx512`, for 64-bit lanes.
#[derive(Clone, Copy)]
pub struct Avx512Wide(__m512i);

macro_rules! detected {
    ($call:expr) => {
        // SAFETY: see `Avx512`: the CPU has the instruction; pointers are to whole vectors.
        unsafe { $call }
    };
}

impl Avx512 {
    #[inline(always)]
    fn float(self) -> __m512 {
        detected!(_mm512_castsi512_ps(self.0))
    }

    #[inline(always)]
    fn from_float(lanes: __m512) -> Self {
        Self(detected!(_mm512_castps_si512(lanes)))
    }
}

impl Lanes for Avx512 {
    type Wide = Avx512Wide;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self::splat_bits(value.to_bits())
    }

    #[inline(always)]
    fn splat_bits(bits: u32) -> Self {
        Self(detected!(_mm512_set1_epi32(bits as i32)))
    }

    #[inline(always)]
    fn load(line: &Line) -> Self {
        Self(detected!(_mm512_load_si512(line.0.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, line: &mut Line) {
        detected!(_mm512_store_si512(line.0.as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::from_float(detected!(_mm512_add_ps(self.float(), other.float())))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::from_float(detected!(_mm512_sub_ps(self.float(), other.float())))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::from_float(detected!(_mm512_mul_ps(self.float(), other.float())))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::from_float(detected!(_mm512_sqrt_ps(self.float())))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::from_float(detected!(_mm512_min_ps(self.float(), other.float())))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::from_float(detected!(_mm512_max_ps(self.float(), other.float())))
    }

    #[inline(always)]
    fn signed_to_float(self) -> Self {
        Self::from_float(detected!(_mm512_cvtepi32_ps(self.0)))
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
    fn add_bits(self, other: Self) -> Self {
        Self(detected!(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn sub_bits(self, other: Self) -> Self {
        Self(detected!(_mm512_sub_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_bits(self, other: Self) -> Self {
        Self(detected!(_mm512_mullo_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        Self(detected!(_mm512_srli_epi32::<BITS>(self.0)))
    }

    #[inline(always)]
    fn shift_right_signed<const BITS: u32>(self) -> Self {
        Self(detected!(_mm512_srai_epi32::<BITS>(self.0)))
    }

    #[inline(always)]
    fn select(mask: u16, yes: Self, no: Self) -> Self {
        Self(detected!(_mm512_mask_blend_epi32(mask, no.0, yes.0)))
    }
}

impl Wide for Avx512Wide {
    type Lanes = Avx512;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self(detected!(_mm512_set1_epi64(value as i64)))
    }

    #[inline(always)]
    fn load(lanes: &[u64; BLOCKS]) -> Self {
        Self(detected!(_mm512_loadu_si512(lanes.as_ptr().cast())))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(detected!(_mm512_mul_epu32(self.0, other.0)))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(detected!(_mm512_add_epi64(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(detected!(_mm512_xor_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn upper_half(self) -> Self {
        Self(detected!(_mm512_srli_epi64::<32>(self.0)))
    }

    #[inline(always)]
    fn pair(even: Self, odd: Self) -> Avx512 {
        let odd = detected!(_mm512_slli_epi64::<32>(odd.0));
        Avx512(detected!(_mm512_mask_blend_epi32(0xAAAA, even.0, odd)))
    }

    #[inline(always)]
    fn interleave(even: Avx512, odd: Avx512, words: &mut [u32; 2 * LANES]) {
        let front = detected!(_mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11));
        let back = detected!(_mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15));
        let first = detected!(_mm512_permutex2var_epi64(even.0, front, odd.0));
        let last = detected!(_mm512_permutex2var_epi64(even.0, back, odd.0));
        let target: *mut __m512i = words.as_mut_ptr().cast();
        detected!(_mm512_storeu_si512(target, first));
        detected!(_mm512_storeu_si512(target.add(1), last));
    }
}
