//! The first look at a text: at which positions a window could be that of some byte pattern.
//!
//! A position costs one look into a table by the hash of the window's first three bytes, a bit for
//! each of eight classes of the fourth; only every second or fourth position where patterns have a
//! window for each remainder. (Sixteen gathered looks at a time were no faster.)
//!
//! Where the pairs of bytes that windows admit tell enough, 64 positions are first held against
//! these at a time (see `pairs`).

use super::pairs::Pairs;
use crate::operations::instructions::InstructionSet;

/// Bytes of a window.
pub const WINDOW: usize = 4;

/// A window that a pattern is found by: its bytes, and which of them it demands.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub bytes: u32,
    pub demanded: u32,
}

/// Positions looked at together.
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
const BLOCK: usize = 64;
/// Hashes of windows go up to this.
const PASSES: usize = 1 << 17;

/// The tables of the windows of one family; see the module.
#[derive(Clone, Debug)]
pub struct Sieve {
    /// Which of the first three bytes are hashed.
    hashed: u32,
    shift: u32,
    /// By the hash, a bit for each class of the fourth byte.
    passes: Box<[u8]>,
    /// Where they tell enough.
    pairs: Option<Box<Pairs>>,
}

#[inline(always)]
fn class_of(window: u32) -> u32 {
    (window >> 24) & 7
}

impl Sieve {
    /// The sieve of windows all of which demand the bytes `hashed`; `pairs` are theirs.
    pub fn new(hashed: u32, windows: &[Window], pairs: Pairs) -> Self {
        let bits_max = PASSES.trailing_zeros();
        let bits = (16 * windows.len()).next_power_of_two().trailing_zeros().clamp(10, bits_max);
        let pairs = (pairs.links > 0).then(|| Box::new(pairs));
        let passes = vec![0; 1 << bits].into_boxed_slice();
        let mut sieve = Self { hashed, shift: 32 - bits, passes, pairs };
        for window in windows {
            let classes =
                if window.demanded >> 24 == 0 { u8::MAX } else { 1 << class_of(window.bytes) };
            let pass = sieve.pass_of(window.bytes);
            sieve.passes[pass] |= classes;
        }
        sieve
    }

    pub fn held_bytes(&self) -> usize {
        self.passes.len() + self.pairs.as_ref().map_or(0, |pairs| size_of_val(&**pairs))
    }

    #[inline(always)]
    fn pass_of(&self, window: u32) -> usize {
        ((window & self.hashed).wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    /// 1 where the window's hash is that of a pattern.
    #[inline(always)]
    fn passes(&self, window: u32) -> usize {
        usize::from(self.passes[self.pass_of(window)] >> class_of(window) & 1)
    }

    /// Writes those positions of `from..to`, `stride` (1, 2 or 4) apart, whose windows may be those
    /// of a pattern, to `candidates` and returns how many they are. The text goes on for at least
    /// `MARGIN` bytes behind `to`.
    pub fn sift(
        &self,
        instructions: InstructionSet,
        text: &[u8],
        (from, to, stride): (usize, usize, usize),
        candidates: &mut [u32],
    ) -> usize {
        assert!(candidates.len() >= to - from && text.len() >= to + MARGIN, "room for all");
        assert!(stride == 1 || stride == 2 || stride == 4, "a part of a window");
        match (instructions, &self.pairs) {
            // SAFETY: the set is only made where it was detected; lengths checked.
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            (InstructionSet::Avx512Vnni, Some(pairs)) => unsafe {
                self.sift_avx512(pairs, text, (from, to, stride), candidates)
            },
            _ => self.sift_portable(text, (from, to, stride), candidates),
        }
    }

    /// Every position is written, and the next one over it unless it passed: a branch would be
    /// mispredicted at every candidate.
    fn sift_portable(
        &self,
        text: &[u8],
        (from, to, stride): (usize, usize, usize),
        candidates: &mut [u32],
    ) -> usize {
        let mut passed = 0;
        let windows = text[from..to + WINDOW - 1].windows(WINDOW).step_by(stride);
        for (place, bytes) in windows.enumerate() {
            let window = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            candidates[passed] = (from + place * stride) as u32;
            passed += self.passes(window);
        }
        passed
    }
}

/// Room behind a text.
pub const MARGIN: usize = 72;

#[inline(always)]
pub fn window_at(text: &[u8], position: usize) -> u32 {
    let bytes = &text[position..position + WINDOW];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "build.rs leaves it out before Rust 1.89")]
mod x86 {
    use super::{BLOCK, Pairs, Sieve, window_at};

    /// Bits of the positions that are so far apart, by the stride.
    const APART: [u64; 5] = [0, u64::MAX, 0x5555_5555_5555_5555, 0, 0x1111_1111_1111_1111];

    impl Sieve {
        /// # Safety
        /// Needs AVX-512 F, BW and VBMI, and 67 bytes of text behind `to`.
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
        pub unsafe fn sift_avx512(
            &self,
            pairs: &Pairs,
            text: &[u8],
            (from, to, stride): (usize, usize, usize),
            candidates: &mut [u32],
        ) -> usize {
            let mut passed = 0;
            for first in (from..to).step_by(BLOCK) {
                // SAFETY: the features are there, and first + 67 is at most to + 67.
                let mut left = unsafe { pairs.look(text.as_ptr().add(first)) } & APART[stride];
                if to - first < BLOCK {
                    left &= (1 << (to - first)) - 1;
                }
                while left != 0 {
                    let position = first + left.trailing_zeros() as usize;
                    left &= left - 1;
                    candidates[passed] = position as u32;
                    passed += self.passes(window_at(text, position));
                }
            }
            passed
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pairs::Alphabet;
    use super::*;

    proptest! {
        #[test]
        fn every_set_of_instructions_sifts_out_what_no_window_is_at_any_stride(
            drawn in prop::collection::vec((prop::array::uniform4(0u8..20), any::<bool>()), 1..40),
            mut text in prop::collection::vec(0u8..20, 1..300),
            hashed in prop::sample::select(vec![0x00FF_FFFFu32, 0x0000_FFFF, 0x00FF_00FF]),
            from in 0usize..20,
        ) {
            let windows: Vec<Window> = drawn
                .into_iter()
                .map(|(bytes, is_fourth)| {
                    let demanded = hashed | if is_fourth { 0xFF00_0000 } else { 0 };
                    Window { bytes: u32::from_le_bytes(bytes) & demanded, demanded }
                })
                .collect();
            let (length, from) = (text.len(), from.min(text.len()));
            text.resize(length + MARGIN, 7);
            let alphabet = Alphabet::new(&[1.0 / 256.0; 256]);
            let sieve = Sieve::new(hashed, &windows, Pairs::new(&windows, &alphabet, 100.0));
            prop_assert!(sieve.pairs.is_some());
            for stride in [1, 2, 4] {
                let is_window = |&position: &u32| {
                    let here = window_at(&text, position as usize);
                    windows.iter().any(|window| here & window.demanded == window.bytes)
                };
                let looked_at: Vec<u32> = (from as u32..length as u32).step_by(stride).collect();
                let mut expected = looked_at.clone();
                expected.retain(is_window);
                for set in InstructionSet::available() {
                    let mut candidates = vec![0; length];
                    let ends = (from, length, stride);
                    let passed = sieve.sift(set, &text, ends, &mut candidates);
                    let mut found = candidates[..passed].to_vec();
                    prop_assert!(found.iter().all(|position| looked_at.contains(position)));
                    prop_assert!(found.is_sorted());
                    found.retain(is_window);
                    prop_assert_eq!(&found, &expected, "{:?} {}", set, stride);
                }
            }
        }
    }
}
