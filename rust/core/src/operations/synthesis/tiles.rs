//! Masked templates against linearised trees: which templates agree with which trees wherever they
//! demand a token.
//!
//! 64 trees are turned into a tile with a row per position, so that one comparison decides a token
//! for all of them. Templates are put in order of their rarest tokens: all that share the rarest
//! pair of position and token fall with one comparison where no tree of the tile has it there.

use crate::operations::Pause;
use crate::random::{philox, stream_key};

use super::forest::{below, skewed};
use super::patterns::pair;

/// Tokens of a tree, and trees of a tile.
pub const TOKENS: usize = 64;
/// Different tokens of generated trees.
const VOCABULARY: u32 = 64;
/// Groups of templates compared between two pauses: about 20 µs.
const PAUSE_GROUPS: usize = 8192;

pub const DOMAIN_TREES: u64 = 0x7379_0007;
pub const DOMAIN_MASKS: u64 = 0x7379_0008;

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
    #[inline]
    pub fn fill(&mut self, trees: &[u8]) -> u64 {
        let count = trees.len() / TOKENS;
        for strip in 0..TOKENS / 8 {
            for group in 0..TOKENS / 8 {
                let words = std::array::from_fn(|lane| {
                    let start = (group * 8 + lane) * TOKENS + strip * 8;
                    trees.get(start..start + 8).map_or(0, |bytes| {
                        u64::from_le_bytes(std::array::from_fn(|place| bytes[place]))
                    })
                });
                for (position, word) in transposed(words).into_iter().enumerate() {
                    let row = &mut self.rows[strip * 8 + position];
                    row[group * 8..group * 8 + 8].copy_from_slice(&word.to_le_bytes());
                }
            }
        }
        if count == TOKENS { u64::MAX } else { (1 << count) - 1 }
    }
}

/// Eight words of eight bytes turned (Warren, "Hacker's Delight", 7-3).
#[inline(always)]
fn transposed(mut words: [u64; 8]) -> [u64; 8] {
    const STEPS: [(usize, u32, u64); 3] = [
        (4, 32, 0x0000_0000_FFFF_FFFF),
        (2, 16, 0x0000_FFFF_0000_FFFF),
        (1, 8, 0x00FF_00FF_00FF_00FF),
    ];
    for (distance, shift, mask) in STEPS {
        for low in 0..8 {
            if low & distance == 0 {
                let high = low + distance;
                let swapped = (words[low] >> shift ^ words[high]) & mask;
                words[low] ^= swapped << shift;
                words[high] ^= swapped;
            }
        }
    }
    words
}

/// A token that a template demands at a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wanted {
    pub position: u8,
    pub token: u8,
}

/// Templates that share their rarest token.
#[derive(Clone, Copy, Debug)]
struct Group {
    wanted: Wanted,
    start: u32,
    end: u32,
}

/// A template: its second rarest token, and where the others are.
#[derive(Clone, Copy, Debug)]
struct Entry {
    second: Wanted,
    /// Number of tokens demanded beyond the first two.
    rest: u16,
    start: u32,
    template: u32,
}

/// Templates, ordered for comparison.
#[derive(Clone, Debug, Default)]
pub struct TreeTemplates {
    groups: Vec<Group>,
    entries: Vec<Entry>,
    wanted: Vec<Wanted>,
    /// Templates that demand nothing: they agree with every tree.
    open: Vec<u32>,
    count: usize,
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

/// Compares one tile; appends pairs.
pub type Compare = fn(&TreeTemplates, &Tile, u64, u32, &mut Vec<u64>);

/// The fastest comparison that this machine can run.
pub fn best() -> (Compare, &'static str) {
    available().pop().unwrap_or((portable, "portable"))
}

/// All comparisons that this machine can run, slowest first.
pub fn available() -> Vec<(Compare, &'static str)> {
    #[allow(unused_mut, reason = "more on some targets")]
    let mut kinds: Vec<(Compare, &'static str)> = vec![(portable, "portable")];
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        kinds.push((x86::avx2, "avx2"));
    }
    #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
    if std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
    {
        kinds.push((x86::avx512, "avx512bw"));
    }
    kinds
}

fn portable(templates: &TreeTemplates, tile: &Tile, some: u64, first: u32, pairs: &mut Vec<u64>) {
    templates.compare::<Portable>(tile, some, first, pairs);
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::incompatible_msrv, reason = "build.rs leaves AVX-512 out before Rust 1.89")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Rows, TOKENS, Tile, TreeTemplates};

    struct Avx2;

    impl Rows for Avx2 {
        #[inline(always)]
        fn equal(row: &[u8; TOKENS], token: u8) -> u64 {
            // SAFETY: used only in `avx2` below; two loads of 32 bytes from a row of 64.
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

    #[cfg(avx512_intrinsics)]
    struct Avx512;

    #[cfg(avx512_intrinsics)]
    impl Rows for Avx512 {
        #[inline(always)]
        fn equal(row: &[u8; TOKENS], token: u8) -> u64 {
            // SAFETY: used only in `avx512` below; one load of 64 bytes from a row of 64.
            unsafe {
                let bytes = _mm512_loadu_si512(row.as_ptr().cast());
                _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(token as i8))
            }
        }
    }

    macro_rules! compiled {
        ($name:ident, $rows:ident, $feature:literal) => {
            pub fn $name(
                templates: &TreeTemplates,
                tile: &Tile,
                some: u64,
                first: u32,
                pairs: &mut Vec<u64>,
            ) {
                #[target_feature(enable = $feature)]
                unsafe fn body(
                    templates: &TreeTemplates,
                    tile: &Tile,
                    some: u64,
                    first: u32,
                    pairs: &mut Vec<u64>,
                ) {
                    templates.compare::<$rows>(tile, some, first, pairs);
                }
                // SAFETY: `available` hands this function out only where the feature was detected.
                unsafe { body(templates, tile, some, first, pairs) }
            }
        };
    }

    compiled!(avx2, Avx2, "avx2");
    #[cfg(avx512_intrinsics)]
    compiled!(avx512, Avx512, "avx512f,avx512bw");
}

impl TreeTemplates {
    /// Templates of 64 tokens and 64 flags each (not zero: demanded), ordered by how rare their
    /// tokens are among `trees`.
    pub fn new(tokens: &[u8], flags: &[u8], trees: &[u8]) -> Self {
        let mut common = vec![[0u32; 256]; TOKENS];
        for tree in trees.chunks_exact(TOKENS) {
            for (counts, &token) in common.iter_mut().zip(tree) {
                counts[usize::from(token)] += 1;
            }
        }
        let mut made = Self { count: tokens.len() / TOKENS, ..Self::default() };
        let mut ordered: Vec<(Vec<Wanted>, u32)> = Vec::with_capacity(made.count);
        let rows = tokens.chunks_exact(TOKENS).zip(flags.chunks_exact(TOKENS));
        for (template, (tokens, flags)) in rows.enumerate() {
            let mut wanted: Vec<Wanted> = (0..TOKENS)
                .filter(|&position| flags[position] != 0)
                .map(|position| Wanted { position: position as u8, token: tokens[position] })
                .collect();
            wanted.sort_by_key(|each| {
                (common[usize::from(each.position)][usize::from(each.token)], *each)
            });
            if wanted.is_empty() {
                made.open.push(template as u32);
            } else {
                ordered.push((wanted, template as u32));
            }
        }
        ordered.sort_by_key(|(wanted, template)| (wanted[0], *template));
        for same in ordered.chunk_by(|left, right| left.0[0] == right.0[0]) {
            made.add_group(same);
        }
        made
    }

    fn add_group(&mut self, same: &[(Vec<Wanted>, u32)]) {
        let start = self.entries.len() as u32;
        for (wanted, template) in same {
            self.entries.push(Entry {
                // A template of one token is compared with it twice.
                second: wanted.get(1).copied().unwrap_or(wanted[0]),
                rest: wanted.len().saturating_sub(2) as u16,
                start: self.wanted.len() as u32,
                template: *template,
            });
            self.wanted.extend(wanted.iter().skip(2));
        }
        self.groups.push(Group { wanted: same[0].0[0], start, end: self.entries.len() as u32 });
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn held_bytes(&self) -> usize {
        size_of_val(self.groups.as_slice())
            + size_of_val(self.entries.as_slice())
            + size_of_val(self.wanted.as_slice())
    }

    /// Appends the pairs of trees, 64 bytes each, by tree and then by template.
    pub fn run(
        &self,
        compare: Compare,
        trees: &[u8],
        tile: &mut Tile,
        pairs: &mut Vec<u64>,
        pause: &mut dyn Pause,
    ) {
        let tiles_a_turn = (PAUSE_GROUPS / self.groups.len().max(1)).max(1);
        for (number, trees) in trees.chunks(TOKENS * TOKENS).enumerate() {
            let some = tile.fill(trees);
            let (first, start) = ((number * TOKENS) as u32, pairs.len());
            compare(self, tile, some, first, pairs);
            for &template in &self.open {
                pairs.extend((0..some.count_ones()).map(|tree| pair(first + tree, template)));
            }
            pairs[start..].sort_unstable();
            if number % tiles_a_turn == tiles_a_turn - 1 {
                pause.point();
            }
        }
    }

    #[inline(always)]
    fn compare<R: Rows>(&self, tile: &Tile, some: u64, first: u32, pairs: &mut Vec<u64>) {
        let equal = |wanted: Wanted| {
            R::equal(&tile.rows[usize::from(wanted.position) % TOKENS], wanted.token)
        };
        for group in &self.groups {
            let bits = equal(group.wanted) & some;
            if bits == 0 {
                continue;
            }
            for entry in &self.entries[group.start as usize..group.end as usize] {
                let mut agreeing = bits & equal(entry.second);
                if agreeing == 0 {
                    continue;
                }
                let rest = &self.wanted[entry.start as usize..][..usize::from(entry.rest)];
                for wanted in rest {
                    agreeing &= equal(*wanted);
                    if agreeing == 0 {
                        break;
                    }
                }
                while agreeing != 0 {
                    pairs.push(pair(first + agreeing.trailing_zeros(), entry.template));
                    agreeing &= agreeing - 1;
                }
            }
        }
    }
}

/// `count` trees, one after the other: tokens below 64, small ones more often.
pub fn generate_trees(seed: u64, count: u32) -> Vec<u8> {
    let key = stream_key(seed, DOMAIN_TREES);
    let blocks = (0..count).flat_map(|tree| (0..16).map(move |block| (tree, block)));
    let words = blocks.flat_map(|(tree, block)| philox([tree, block, 0, 0], key));
    words.map(|word| skewed(word, VOCABULARY) as u8).collect()
}

/// Tokens and flags of `count` templates: each a tree of which a token in four is demanded; every
/// other template has one demanded token altered, so that few trees agree with it.
pub fn generate_templates(seed: u64, trees: &[u8], count: u32) -> (Vec<u8>, Vec<u8>) {
    let key = stream_key(seed, DOMAIN_MASKS);
    let (mut tokens, mut flags) = (Vec::new(), Vec::new());
    for template in 0..count {
        let words = philox([template, 0, 0, 0], key);
        let tree = below(words[0], (trees.len() / TOKENS) as u32) as usize;
        let masks = philox([template, 1, 0, 0], key);
        let mask = (u64::from(masks[0]) | u64::from(masks[1]) << 32)
            & (u64::from(masks[2]) | u64::from(masks[3]) << 32)
            | 1 << (words[1] & 63);
        let start = tokens.len();
        tokens.extend_from_slice(&trees[tree * TOKENS..(tree + 1) * TOKENS]);
        if template % 2 == 1 {
            tokens[start + (words[1] & 63) as usize] ^= 1 + (words[2] & 31) as u8;
        }
        flags.extend((0..TOKENS).map(|position| (mask >> position & 1) as u8));
    }
    (tokens, flags)
}
