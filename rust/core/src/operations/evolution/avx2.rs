//! The lanes as AVX2 registers, two each.

use std::arch::x86_64::*;

use super::lanes::{BLOCKS, LANES, Lanes, Line, Wide};

/// Two registers; used only inside functions compiled for AVX2, which are called only where it was
/// detected.
#[derive(Clone, Copy)]
pub struct Avx2([__m256i; 2]);

/// As `Avx2`, for 64-bit lanes.
#[derive(Clone, Copy)]
pub struct Avx2Wide([__m256i; 2]);

macro_rules! detected {
    ($call:expr) => {
        // SAFETY: see `Avx2`: the CPU has the instruction; pointers are to whole vectors.
        unsafe { $call }
    };
}

#[inline(always)]
fn float(lanes: __m256i) -> __m256 {
    detected!(_mm256_castsi256_ps(lanes))
}

#[inline(always)]
fn bits(lanes: __m256) -> __m256i {
    detected!(_mm256_castps_si256(lanes))
}

#[inline(always)]
fn both(
    left: [__m256i; 2],
    right: [__m256i; 2],
    operation: impl Fn(__m256i, __m256i) -> __m256i,
) -> [__m256i; 2] {
    [operation(left[0], right[0]), operation(left[1], right[1])]
}

impl Avx2 {
    #[inline(always)]
    fn floats(self, other: Self, operation: impl Fn(__m256, __m256) -> __m256) -> Self {
        Self(both(self.0, other.0, |left, right| bits(operation(float(left), float(right)))))
    }
}

impl Lanes for Avx2 {
    type Wide = Avx2Wide;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self::splat_bits(value.to_bits())
    }

    #[inline(always)]
    fn splat_bits(bits: u32) -> Self {
        Self([detected!(_mm256_set1_epi32(bits as i32)); 2])
    }

    #[inline(always)]
    fn load(line: &Line) -> Self {
        let source: *const __m256i = line.0.as_ptr().cast();
        let first = detected!(_mm256_load_si256(source));
        Self([first, detected!(_mm256_load_si256(source.add(1)))])
    }

    #[inline(always)]
    fn store(self, line: &mut Line) {
        let target: *mut __m256i = line.0.as_mut_ptr().cast();
        detected!(_mm256_store_si256(target, self.0[0]));
        detected!(_mm256_store_si256(target.add(1), self.0[1]));
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.floats(other, |left, right| detected!(_mm256_add_ps(left, right)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.floats(other, |left, right| detected!(_mm256_sub_ps(left, right)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.floats(other, |left, right| detected!(_mm256_mul_ps(left, right)))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(|half| bits(detected!(_mm256_sqrt_ps(float(half))))))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.floats(other, |left, right| detected!(_mm256_min_ps(left, right)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.floats(other, |left, right| detected!(_mm256_max_ps(left, right)))
    }

    #[inline(always)]
    fn signed_to_float(self) -> Self {
        Self(self.0.map(|half| bits(detected!(_mm256_cvtepi32_ps(half)))))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_and_si256(left, right))))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_xor_si256(left, right))))
    }

    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_add_epi32(left, right))))
    }

    #[inline(always)]
    fn sub_bits(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_sub_epi32(left, right))))
    }

    #[inline(always)]
    fn mul_bits(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_mullo_epi32(left, right))))
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        let count = detected!(_mm_cvtsi32_si128(BITS as i32));
        Self(self.0.map(|half| detected!(_mm256_srl_epi32(half, count))))
    }

    #[inline(always)]
    fn shift_right_signed<const BITS: u32>(self) -> Self {
        let count = detected!(_mm_cvtsi32_si128(BITS as i32));
        Self(self.0.map(|half| detected!(_mm256_sra_epi32(half, count))))
    }

    #[inline(always)]
    fn select(mask: u16, yes: Self, no: Self) -> Self {
        let lanes = detected!(_mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128));
        let blend = |mask: u8, yes: __m256i, no: __m256i| {
            let chosen = detected!(_mm256_and_si256(_mm256_set1_epi32(i32::from(mask)), lanes));
            let chosen = detected!(_mm256_cmpeq_epi32(chosen, lanes));
            detected!(_mm256_blendv_epi8(no, yes, chosen))
        };
        let [low, high] = mask.to_le_bytes();
        Self([blend(low, yes.0[0], no.0[0]), blend(high, yes.0[1], no.0[1])])
    }
}

impl Wide for Avx2Wide {
    type Lanes = Avx2;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([detected!(_mm256_set1_epi64x(value as i64)); 2])
    }

    #[inline(always)]
    fn load(lanes: &[u64; BLOCKS]) -> Self {
        let source: *const __m256i = lanes.as_ptr().cast();
        let first = detected!(_mm256_loadu_si256(source));
        Self([first, detected!(_mm256_loadu_si256(source.add(1)))])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_mul_epu32(left, right))))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_add_epi64(left, right))))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(both(self.0, other.0, |left, right| detected!(_mm256_xor_si256(left, right))))
    }

    #[inline(always)]
    fn upper_half(self) -> Self {
        Self(self.0.map(|half| detected!(_mm256_srli_epi64::<32>(half))))
    }

    #[inline(always)]
    fn pair(even: Self, odd: Self) -> Avx2 {
        Avx2(both(even.0, odd.0, |even, odd| {
            detected!(_mm256_blend_epi32::<0xAA>(even, _mm256_slli_epi64::<32>(odd)))
        }))
    }

    #[inline(always)]
    fn interleave(even: Avx2, odd: Avx2, words: &mut [u32; 2 * LANES]) {
        let target: *mut __m256i = words.as_mut_ptr().cast();
        for half in 0..2 {
            let low = detected!(_mm256_unpacklo_epi64(even.0[half], odd.0[half]));
            let high = detected!(_mm256_unpackhi_epi64(even.0[half], odd.0[half]));
            let first = detected!(_mm256_permute2x128_si256::<0x20>(low, high));
            let last = detected!(_mm256_permute2x128_si256::<0x31>(low, high));
            detected!(_mm256_storeu_si256(target.add(2 * half), first));
            detected!(_mm256_storeu_si256(target.add(2 * half + 1), last));
        }
    }
}
