//! 64 linearised trees turned, so that one comparison decides a position of all of them.

/// Tokens of a tree, and trees of a tile.
pub const TOKENS: usize = 64;

/// 64 positions of 64 trees: `rows[position][tree]`.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Tile {
    pub rows: [[u8; TOKENS]; TOKENS],
}

impl Default for Tile {
    fn default() -> Self {
        Self { rows: [[0; TOKENS]; TOKENS] }
    }
}

impl Tile {
    /// Fills the tile with up to 64 trees, 64 bytes each; returns the bits of those there are.
    #[inline(always)]
    pub fn fill(&mut self, trees: &[u8]) -> u64 {
        let count = trees.len() / TOKENS;
        if count < TOKENS {
            let mut padded = [0; TOKENS * TOKENS];
            padded[..trees.len()].copy_from_slice(trees);
            self.turn(&padded);
            return (1 << count) - 1;
        }
        if let Ok(whole) = trees.try_into() {
            self.turn(whole);
        }
        u64::MAX
    }

    /// Eight positions of all trees at a time: word `lane` of group `g` is of the tree 8 g + lane.
    #[inline(always)]
    fn turn(&mut self, trees: &[u8; TOKENS * TOKENS]) {
        for (strip, rows) in self.rows.chunks_exact_mut(8).enumerate() {
            let mut words = [[0u64; 8]; 8];
            for (lane, groups) in words.iter_mut().enumerate() {
                for (group, word) in groups.iter_mut().enumerate() {
                    let start = (group * 8 + lane) * TOKENS + strip * 8;
                    *word = u64::from_le_bytes(std::array::from_fn(|byte| trees[start + byte]));
                }
            }
            transpose(&mut words);
            for (row, groups) in rows.iter_mut().zip(&words) {
                for (bytes, word) in row.chunks_exact_mut(8).zip(groups) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
}

/// In each of eight groups, eight words of eight bytes turned (Warren, "Hacker's Delight", 7-3).
#[inline(always)]
fn transpose(words: &mut [[u64; 8]; 8]) {
    const STEPS: [(usize, u32, u64); 3] = [
        (4, 32, 0x0000_0000_FFFF_FFFF),
        (2, 16, 0x0000_FFFF_0000_FFFF),
        (1, 8, 0x00FF_00FF_00FF_00FF),
    ];
    for (distance, shift, mask) in STEPS {
        for low in 0..8 {
            if low & distance == 0 {
                let (front, back) = words.split_at_mut(low + distance);
                for (first, second) in front[low].iter_mut().zip(&mut back[0]) {
                    let swapped = (*first >> shift ^ *second) & mask;
                    *first ^= swapped << shift;
                    *second ^= swapped;
                }
            }
        }
    }
}

/// Bits of the trees of a row whose token is the wanted one.
pub trait Rows {
    fn equal(row: &[u8; TOKENS], token: u8) -> u64;
}

/// Eight bytes at a time in ordinary words.
pub struct Portable;

impl Rows for Portable {
    #[inline(always)]
    fn equal(row: &[u8; TOKENS], token: u8) -> u64 {
        const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
        let wanted = u64::from_le_bytes([token; 8]);
        let mut bits = 0;
        for (place, bytes) in row.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(std::array::from_fn(|byte| bytes[byte])) ^ wanted;
            // 0x80 in every byte that is zero, exactly (Hacker's Delight, 6-1), then gathered.
            let zero = !(((word & LOW) + LOW) | word | LOW);
            bits |= ((zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * place);
        }
        bits
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::incompatible_msrv, reason = "build.rs leaves AVX-512 out before Rust 1.89")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{Rows, TOKENS};

    /// For use where AVX2 was detected, inside a function compiled for it.
    pub struct Avx2;

    impl Rows for Avx2 {
        #[inline(always)]
        fn equal(row: &[u8; TOKENS], token: u8) -> u64 {
            // SAFETY: used only where AVX2 was detected; two loads of 32 bytes from a row of 64.
            unsafe {
                let wanted = _mm256_set1_epi8(token as i8);
                let half = |at: usize| {
                    let bytes = _mm256_loadu_si256(row.as_ptr().add(at).cast());
                    _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, wanted)) as u32
                };
                u64::from(half(0)) | u64::from(half(32)) << 32
            }
        }
    }

    /// For use where AVX-512 BW was detected, inside a function compiled for it.
    #[cfg(avx512_intrinsics)]
    pub struct Avx512;

    #[cfg(avx512_intrinsics)]
    impl Rows for Avx512 {
        #[inline(always)]
        fn equal(row: &[u8; TOKENS], token: u8) -> u64 {
            // SAFETY: used only where AVX-512 BW was detected; 64 bytes from a row of 64.
            unsafe {
                let bytes = _mm512_loadu_si512(row.as_ptr().cast());
                _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(token as i8))
            }
        }
    }
}
