//! Vectors of sixteen 32-bit lanes and of eight 64-bit ones: what a machine must offer, and arrays.
//!
//! Every float operation is one that IEEE 754 rounds exactly, and no product is fused with a sum,
//! so all implementations, and NumPy, give the same bits.

/// Floats in one vector, whatever the machine's registers hold.
pub const LANES: usize = 16;
/// 64-bit lanes of one `Wide`, and so the Philox blocks that are drawn together.
pub const BLOCKS: usize = 8;

/// Sixteen genes, on a cache line of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub struct Line(pub [f32; LANES]);

/// Sixteen lanes of 32 bits, floats or words as the operation takes them.
pub trait Lanes: Copy {
    type Wide: Wide<Lanes = Self>;

    fn splat(value: f32) -> Self;
    fn splat_bits(bits: u32) -> Self;
    fn load(line: &Line) -> Self;
    fn store(self, line: &mut Line);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    /// The smaller of the two, `other` where either is no number.
    fn min(self, other: Self) -> Self;
    /// The larger of the two, `other` where either is no number.
    fn max(self, other: Self) -> Self;
    /// Signed words as the nearest floats.
    fn signed_to_float(self) -> Self;
    fn and(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn add_bits(self, other: Self) -> Self;
    fn sub_bits(self, other: Self) -> Self;
    /// Low words of the products.
    fn mul_bits(self, other: Self) -> Self;
    fn shift_right<const BITS: u32>(self) -> Self;
    /// Shifts copies of the sign in.
    fn shift_right_signed<const BITS: u32>(self) -> Self;
    /// `yes` in the lanes whose bit of `mask` is set, `no` in the others.
    fn select(mask: u16, yes: Self, no: Self) -> Self;
}

/// Eight lanes of 64 bits that hold 32-bit words: room for a product, so that a round of Philox
/// needs no shuffle.
pub trait Wide: Copy {
    type Lanes;

    fn splat(value: u64) -> Self;
    fn load(lanes: &[u64; BLOCKS]) -> Self;
    /// Products of the low words.
    fn mul(self, other: Self) -> Self;
    fn add(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn upper_half(self) -> Self;
    /// The low words of both, taking turns.
    fn pair(even: Self, odd: Self) -> Self::Lanes;
    /// Writes the 64-bit lanes of both, taking turns.
    fn interleave(even: Self::Lanes, odd: Self::Lanes, words: &mut [u32; 2 * LANES]);
}

/// Sixteen lanes on any machine.
#[derive(Clone, Copy)]
pub struct Plain([u32; LANES]);

impl Plain {
    #[inline(always)]
    fn floats(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| {
            operation(f32::from_bits(self.0[lane]), f32::from_bits(other.0[lane])).to_bits()
        }))
    }

    #[inline(always)]
    fn words(self, other: Self, operation: impl Fn(u32, u32) -> u32) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Plain {
    type Wide = PlainWide;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value.to_bits(); LANES])
    }

    #[inline(always)]
    fn splat_bits(bits: u32) -> Self {
        Self([bits; LANES])
    }

    #[inline(always)]
    fn load(line: &Line) -> Self {
        Self(line.0.map(f32::to_bits))
    }

    #[inline(always)]
    fn store(self, line: &mut Line) {
        line.0 = self.0.map(f32::from_bits);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.floats(other, |left, right| left + right)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.floats(other, |left, right| left - right)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.floats(other, |left, right| left * right)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(|bits| f32::from_bits(bits).sqrt().to_bits()))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.floats(other, |left, right| if left < right { left } else { right })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.floats(other, |left, right| if left > right { left } else { right })
    }

    #[inline(always)]
    fn signed_to_float(self) -> Self {
        Self(self.0.map(|bits| (bits as i32 as f32).to_bits()))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self.words(other, |left, right| left & right)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.words(other, |left, right| left ^ right)
    }

    #[inline(always)]
    fn add_bits(self, other: Self) -> Self {
        self.words(other, u32::wrapping_add)
    }

    #[inline(always)]
    fn sub_bits(self, other: Self) -> Self {
        self.words(other, u32::wrapping_sub)
    }

    #[inline(always)]
    fn mul_bits(self, other: Self) -> Self {
        self.words(other, u32::wrapping_mul)
    }

    #[inline(always)]
    fn shift_right<const BITS: u32>(self) -> Self {
        Self(self.0.map(|bits| bits >> BITS))
    }

    #[inline(always)]
    fn shift_right_signed<const BITS: u32>(self) -> Self {
        Self(self.0.map(|bits| (bits as i32 >> BITS) as u32))
    }

    #[inline(always)]
    fn select(mask: u16, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            let all = 0u32.wrapping_sub(u32::from(mask >> lane & 1));
            yes.0[lane] & all | no.0[lane] & !all
        }))
    }
}

/// Eight wide lanes on any machine.
#[derive(Clone, Copy)]
pub struct PlainWide([u64; BLOCKS]);

impl PlainWide {
    #[inline(always)]
    fn each(make: impl FnMut(usize) -> u64) -> Self {
        Self(std::array::from_fn(make))
    }
}

impl Wide for PlainWide {
    type Lanes = Plain;

    #[inline(always)]
    fn splat(value: u64) -> Self {
        Self([value; BLOCKS])
    }

    #[inline(always)]
    fn load(lanes: &[u64; BLOCKS]) -> Self {
        Self(*lanes)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::each(|lane| u64::from(self.0[lane] as u32) * u64::from(other.0[lane] as u32))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::each(|lane| self.0[lane].wrapping_add(other.0[lane]))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self::each(|lane| self.0[lane] ^ other.0[lane])
    }

    #[inline(always)]
    fn upper_half(self) -> Self {
        Self::each(|lane| self.0[lane] >> 32)
    }

    #[inline(always)]
    fn pair(even: Self, odd: Self) -> Plain {
        Plain(std::array::from_fn(|lane| {
            let from = if lane % 2 == 0 { even } else { odd };
            from.0[lane / 2] as u32
        }))
    }

    #[inline(always)]
    fn interleave(even: Plain, odd: Plain, words: &mut [u32; 2 * LANES]) {
        for (lane, four) in words.chunks_exact_mut(4).enumerate() {
            four[..2].copy_from_slice(&even.0[2 * lane..2 * lane + 2]);
            four[2..].copy_from_slice(&odd.0[2 * lane..2 * lane + 2]);
        }
    }
}
