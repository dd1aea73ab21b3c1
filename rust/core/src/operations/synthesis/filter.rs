//! The first look at 64 nodes: whether some pattern's root could match, by type and child count.
//!
//! A type has one byte, a bit for each class of child counts (0 to 6, and 7 or more). One table
//! look-up and one test decide 64 nodes at a time, whatever the number of patterns is. Roots
//! without a type are looked for in the same way by eleven bits of their values.

use crate::operations::instructions::InstructionSet;

/// Nodes looked at together.
pub const BLOCK: usize = 64;
/// Classes of child counts.
pub const CLASSES: usize = 8;

pub fn class_of(count: u8) -> usize {
    usize::from(count).min(CLASSES - 1)
}

/// For each type (or mark) the classes of child counts (or submarks) that a root may have.
#[derive(Clone, Debug)]
pub struct Filter {
    pub classes: [u8; 256],
}

/// Bits of the nodes of a block that a filter lets through; both slices have 64.
pub type Look = fn(&Filter, kinds: &[u8], counts: &[u8]) -> u64;

impl InstructionSet {
    /// The look by these instructions.
    pub fn look(self) -> Look {
        match self {
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512Vnni => x86::look,
            _ => portable,
        }
    }
}

fn portable(filter: &Filter, kinds: &[u8], counts: &[u8]) -> u64 {
    let mut bits = 0;
    for (place, (&kind, &count)) in kinds.iter().zip(counts).enumerate() {
        let is_let_through = filter.classes[usize::from(kind)] >> class_of(count) & 1;
        bits |= u64::from(is_let_through) << place;
    }
    bits
}

#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "build.rs leaves it out before Rust 1.89")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, CLASSES, Filter};

    pub fn look(filter: &Filter, kinds: &[u8], counts: &[u8]) -> u64 {
        assert!(kinds.len() == BLOCK && counts.len() == BLOCK, "a whole block");
        // SAFETY: `InstructionSet::look` hands this function out only where the set was detected.
        unsafe { look_avx512(filter, kinds, counts) }
    }

    /// # Safety
    /// Needs AVX-512 F, BW and VBMI, and 64 bytes in both slices.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    unsafe fn look_avx512(filter: &Filter, kinds: &[u8], counts: &[u8]) -> u64 {
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: four loads of 64 bytes from a table of 256, two from slices of 64, one of 16.
        let ([first, second, third, fourth], kinds, counts, bits) = unsafe {
            let table = filter.classes.as_ptr();
            let quarter = |at: usize| _mm512_loadu_si512(table.add(at).cast());
            (
                [quarter(0), quarter(64), quarter(128), quarter(192)],
                _mm512_loadu_si512(kinds.as_ptr().cast()),
                _mm512_loadu_si512(counts.as_ptr().cast()),
                _mm512_broadcast_i32x4(_mm_loadu_si128(BITS.as_ptr().cast())),
            )
        };
        // A permutation of two registers reads the lower seven bits; the eighth picks the pair.
        let lower = _mm512_permutex2var_epi8(first, kinds, second);
        let upper = _mm512_permutex2var_epi8(third, kinds, fourth);
        let classes = _mm512_mask_blend_epi8(_mm512_movepi8_mask(kinds), lower, upper);
        let class = _mm512_min_epu8(counts, _mm512_set1_epi8(CLASSES as i8 - 1));
        _mm512_test_epi8_mask(classes, _mm512_shuffle_epi8(bits, class))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_look_lets_the_same_nodes_through(
            classes in prop::collection::vec(any::<u8>(), 256),
            kinds in prop::collection::vec(any::<u8>(), BLOCK),
            counts in prop::collection::vec(0u8..12, BLOCK),
        ) {
            let filter = Filter { classes: classes.try_into().unwrap() };
            let expected = (0..BLOCK).fold(0u64, |bits, place| {
                let row = filter.classes[usize::from(kinds[place])];
                bits | u64::from(row >> counts[place].min(7) & 1) << place
            });
            for set in InstructionSet::available() {
                prop_assert_eq!(set.look()(&filter, &kinds, &counts), expected, "{:?}", set);
            }
        }
    }
}
