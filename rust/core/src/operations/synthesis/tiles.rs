//! Masked templates against linearised trees: which templates agree with which trees wherever they
//! demand a token.
//!
//! 64 trees are turned into a tile with a row per position, so that one comparison decides a token
//! for all of them. Each template's tokens are compared in order of how rare they are: two decide
//! nearly every tile, and where many templates share the rarest they fall with it.

use crate::operations::Pause;
use crate::operations::instructions::InstructionSet;
use crate::random::{philox, stream_key};

use super::forest::{below, skewed};
use super::patterns::pair;
#[cfg(target_arch = "x86_64")]
use super::tile::x86;
use super::tile::{Portable, Rows, TOKENS, Tile};

/// Different tokens of generated trees.
const VOCABULARY: u32 = 64;
/// Templates compared between two pauses: about 20 µs.
const PAUSE_TEMPLATES: usize = 16_384;

pub const DOMAIN_TREES: u64 = 0x7379_0007;
pub const DOMAIN_MASKS: u64 = 0x7379_0008;

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

/// What a template demands beyond its two rarest tokens.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rest: u32,
    start: u32,
    template: u32,
}

/// Templates, ordered for comparison.
#[derive(Clone, Debug, Default)]
pub struct TreeTemplates {
    /// Groups of many entries, which share their rarest token.
    groups: Vec<Group>,
    /// Each entry's two rarest tokens; the entries of groups come first.
    rarest: Vec<[Wanted; 2]>,
    entries: Vec<Entry>,
    wanted: Vec<Wanted>,
    /// Templates that demand nothing: they agree with every tree.
    open: Vec<u32>,
    count: usize,
}

/// Turns up to 64 trees into the tile and compares it; appends pairs.
pub type Compare = fn(&TreeTemplates, trees: &[u8], &mut Tile, first: u32, &mut Vec<u64>);

impl InstructionSet {
    /// The comparison by these instructions.
    pub fn compare(self) -> Compare {
        match self {
            Self::Portable => portable,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2,
            #[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
            Self::Avx512 | Self::Avx512Vnni => avx512,
        }
    }
}

fn portable(
    templates: &TreeTemplates,
    trees: &[u8],
    tile: &mut Tile,
    first: u32,
    pairs: &mut Vec<u64>,
) {
    templates.compare::<Portable>(trees, tile, first, pairs);
}

/// Compiles the comparison for a kind of row; for use where its feature was detected.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($name:ident, $rows:ident, $feature:literal) => {
        fn $name(
            templates: &TreeTemplates,
            trees: &[u8],
            tile: &mut Tile,
            first: u32,
            pairs: &mut Vec<u64>,
        ) {
            #[target_feature(enable = $feature)]
            unsafe fn body(
                templates: &TreeTemplates,
                trees: &[u8],
                tile: &mut Tile,
                first: u32,
                pairs: &mut Vec<u64>,
            ) {
                templates.compare::<x86::$rows>(trees, tile, first, pairs);
            }
            // SAFETY: `InstructionSet::compare` hands this out only where the set was detected.
            unsafe { body(templates, trees, tile, first, pairs) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, Avx2, "avx2");
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
compiled!(avx512, Avx512, "avx512f,avx512bw");

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
        let (many, few): (Vec<_>, Vec<_>) = ordered
            .chunk_by(|left, right| left.0[0] == right.0[0])
            .partition(|same| same.len() >= GROUPED_MIN);
        for same in many {
            let start = made.entries.len() as u32;
            made.add(same);
            let wanted = same[0].0[0];
            made.groups.push(Group { wanted, start, end: made.entries.len() as u32 });
        }
        few.into_iter().for_each(|same| made.add(same));
        made
    }

    fn add(&mut self, same: &[(Vec<Wanted>, u32)]) {
        for (wanted, template) in same {
            // A template of one token is compared with it twice.
            self.rarest.push([wanted[0], wanted.get(1).copied().unwrap_or(wanted[0])]);
            self.entries.push(Entry {
                rest: wanted.len().saturating_sub(2) as u32,
                start: self.wanted.len() as u32,
                template: *template,
            });
            self.wanted.extend(wanted.iter().skip(2));
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn held_bytes(&self) -> usize {
        size_of_val(self.groups.as_slice())
            + size_of_val(self.entries.as_slice())
            + size_of_val(self.rarest.as_slice())
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
        let tiles_a_turn = (PAUSE_TEMPLATES / self.entries.len().max(1)).max(1);
        for (number, trees) in trees.chunks(TOKENS * TOKENS).enumerate() {
            let (first, start) = ((number * TOKENS) as u32, pairs.len());
            compare(self, trees, tile, first, pairs);
            for &template in &self.open {
                let count = (trees.len() / TOKENS) as u32;
                pairs.extend((0..count).map(|tree| pair(first + tree, template)));
            }
            pairs[start..].sort_unstable();
            if number % tiles_a_turn == tiles_a_turn - 1 {
                pause.point();
            }
        }
    }

    /// Whether a tree has a template's rarest token cannot be foretold, nor is it rare; that it has
    /// the two rarest ones is, and so is the branch taken then. Only where many templates share
    /// their rarest token is it looked at by itself.
    #[inline(always)]
    fn compare<R: Rows>(&self, trees: &[u8], tile: &mut Tile, first: u32, pairs: &mut Vec<u64>) {
        let some = tile.fill(trees);
        let mut grouped = 0;
        for group in &self.groups {
            grouped = group.end as usize;
            let bits = equal::<R>(tile, group.wanted) & some;
            if bits == 0 {
                continue;
            }
            for entry in group.start as usize..grouped {
                let agreeing = bits & equal::<R>(tile, self.rarest[entry][1]);
                if agreeing != 0 {
                    self.finish::<R>(tile, agreeing, entry, first, pairs);
                }
            }
        }
        let mut bundles = self.rarest[grouped..].chunks_exact(BUNDLE);
        let mut entry = grouped;
        for bundle in bundles.by_ref() {
            let mut agreeing = [0; BUNDLE];
            for (bits, rarest) in agreeing.iter_mut().zip(bundle) {
                *bits = equal::<R>(tile, rarest[0]) & equal::<R>(tile, rarest[1]);
            }
            if agreeing.iter().fold(0, |all, bits| all | bits) != 0 {
                for (place, bits) in agreeing.into_iter().enumerate() {
                    self.finish::<R>(tile, bits & some, entry + place, first, pairs);
                }
            }
            entry += BUNDLE;
        }
        for (place, rarest) in bundles.remainder().iter().enumerate() {
            let agreeing = equal::<R>(tile, rarest[0]) & equal::<R>(tile, rarest[1]) & some;
            self.finish::<R>(tile, agreeing, entry + place, first, pairs);
        }
    }

    /// The other tokens of a template, for those trees that have the first two.
    #[inline(always)]
    fn finish<R: Rows>(
        &self,
        tile: &Tile,
        mut agreeing: u64,
        entry: usize,
        first: u32,
        pairs: &mut Vec<u64>,
    ) {
        if agreeing == 0 {
            return;
        }
        let entry = &self.entries[entry];
        for &wanted in &self.wanted[entry.start as usize..][..entry.rest as usize] {
            agreeing &= equal::<R>(tile, wanted);
            if agreeing == 0 {
                return;
            }
        }
        while agreeing != 0 {
            pairs.push(pair(first + agreeing.trailing_zeros(), entry.template));
            agreeing &= agreeing - 1;
        }
    }
}

/// Templates that share a token and are worth a group: dearer than a branch foretold wrong.
const GROUPED_MIN: usize = 32;
/// Templates compared between two branches.
const BUNDLE: usize = 4;

#[inline(always)]
fn equal<R: Rows>(tile: &Tile, wanted: Wanted) -> u64 {
    R::equal(&tile.rows[usize::from(wanted.position) % TOKENS], wanted.token)
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
