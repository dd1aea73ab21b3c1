//! Byte patterns with wildcards against a text: every position at which a pattern occurs.
//!
//! Each pattern is found by one window of four bytes, the rarest of those in which it demands three
//! or four (if need be fewer). A text position costs one look into a table by the hash of the
//! window's first three bytes, a bit for each of eight classes of the fourth; what passes is looked
//! up among the patterns and compared under their masks.

use crate::operations::Pause;
use crate::random::{philox, stream_key};

use super::forest::{below, skewed};
use super::patterns::pair;

/// Bytes of a pattern at most.
pub const LENGTH_MAX: usize = 32;
/// Room behind a text, so that windows and patterns can be read at its end.
pub const MARGIN: usize = LENGTH_MAX + 8;
const WORDS: usize = LENGTH_MAX / 8;
/// Positions between two pauses, and of one round of candidates: about 20 µs.
pub const ROUND: usize = 16 << 10;
const ALPHABET: &[u8; 64] = b" etaoinsrhldcumfpgwybvk,.xjqz-(){}=;:0123456789_ETAOINSRHLDCUMFP";

pub const DOMAIN_TEXT: u64 = 0x7379_0009;
pub const DOMAIN_BYTE_PATTERNS: u64 = 0x7379_000A;
pub const DOMAIN_WILDCARDS: u64 = 0x7379_000B;

/// A pattern's bytes and masks (0xFF: demanded) as words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masked {
    bytes: [u64; WORDS],
    masks: [u64; WORDS],
    length: u32,
}

/// A pattern and the window that it is found by.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Bytes under the family's mask.
    window: u32,
    /// Classes of the fourth byte that the pattern admits.
    classes: u8,
    pattern: u32,
    offset: u32,
}

/// Patterns whose windows demand the same of their four bytes.
#[derive(Clone, Debug)]
struct Family {
    /// Which of the four bytes are demanded.
    mask: u32,
    shift: u32,
    /// Of the first three bytes, a bit for each class of the fourth.
    passes: Vec<u8>,
    /// By the hash of the whole window: entries from one number to the next.
    slots: Vec<u32>,
    slot_shift: u32,
    entries: Vec<Entry>,
}

/// Patterns, ordered for search.
#[derive(Clone, Debug, Default)]
pub struct BytePatterns {
    masked: Vec<Masked>,
    families: Vec<Family>,
}

const SPREAD: u32 = 0x9E37_79B1;

#[inline(always)]
fn pass_of(window: u32, shift: u32) -> usize {
    ((window & 0x00FF_FFFF).wrapping_mul(SPREAD) >> shift) as usize
}

#[inline(always)]
fn class_of(window: u32) -> u32 {
    (window >> 24) & 7
}

fn slot_of(window: u32, shift: u32) -> usize {
    (window.wrapping_mul(0x85EB_CA77) >> shift) as usize
}

impl BytePatterns {
    /// Patterns one after the other in `bytes` and `flags` (not zero: demanded), each from its
    /// entry of `first` to the next one; windows are chosen by how rare bytes are in `text`.
    ///
    /// # Errors
    /// A pattern that is empty or longer than 32 bytes.
    pub fn new(first: &[u32], bytes: &[u8], flags: &[u8], text: &[u8]) -> Result<Self, String> {
        let mut common = [1u64; 256];
        text.iter().for_each(|&byte| common[usize::from(byte)] += 1);
        let rarity = common.map(|count| (count as f64 / (text.len() as f64 + 256.0)).log2());
        let mut made = Self::default();
        let mut by_mask: Vec<(u32, Entry)> = Vec::new();
        for (number, ends) in first.windows(2).enumerate() {
            let range = ends[0] as usize..ends[1] as usize;
            let (Some(own), Some(own_flags)) = (bytes.get(range.clone()), flags.get(range)) else {
                return Err(format!("pattern {number} lies outside the bytes"));
            };
            if own.is_empty() || own.len() > LENGTH_MAX {
                return Err(format!("pattern {number} has {} bytes, not 1 to 32", own.len()));
            }
            made.masked.push(Masked::new(own, own_flags));
            let (mask, offset) = window(own, own_flags, &rarity);
            let mut four = [0; 4];
            for (byte, &given) in four.iter_mut().zip(&own[offset..]) {
                *byte = given;
            }
            let (window, family) = (u32::from_le_bytes(four), family_mask(mask));
            let classes = if mask >> 24 == 0 { u8::MAX } else { 1 << class_of(window) };
            let (window, offset) = (window & family, offset as u32);
            by_mask.push((family, Entry { window, classes, pattern: number as u32, offset }));
        }
        by_mask.sort_by_key(|(mask, entry)| (*mask, entry.pattern));
        for family in by_mask.chunk_by(|left, right| left.0 == right.0) {
            made.families.push(Family::new(family[0].0, family.iter().map(|each| each.1)));
        }
        Ok(made)
    }

    pub fn held_bytes(&self) -> usize {
        let families = self.families.iter().map(|family| {
            family.passes.len()
                + size_of_val(family.slots.as_slice())
                + size_of_val(family.entries.as_slice())
        });
        size_of_val(self.masked.as_slice()) + families.sum::<usize>()
    }

    /// Appends (position, pattern) pairs, by position and then by pattern. `text` has `MARGIN`
    /// bytes more than `length`; `candidates` has room for a `ROUND`.
    pub fn run(
        &self,
        text: &[u8],
        length: usize,
        candidates: &mut [u32],
        pairs: &mut Vec<u64>,
        pause: &mut dyn Pause,
    ) {
        assert!(text.len() >= length + MARGIN, "room behind the text");
        let start = pairs.len();
        for first in (0..length).step_by(ROUND) {
            let last = (first + ROUND).min(length);
            for family in &self.families {
                let passed = family.sift(text, first, last, candidates);
                for &position in &candidates[..passed] {
                    self.confirm(family, text, length, position as usize, pairs);
                }
            }
            pause.point();
        }
        pairs[start..].sort_unstable();
    }

    #[inline]
    fn confirm(
        &self,
        family: &Family,
        text: &[u8],
        length: usize,
        position: usize,
        pairs: &mut Vec<u64>,
    ) {
        let window = word_at(text, position) & family.mask;
        let slot = slot_of(window, family.slot_shift);
        let ends = family.slots[slot] as usize..family.slots[slot + 1] as usize;
        for entry in &family.entries[ends] {
            if entry.window != window || (entry.offset as usize) > position {
                continue;
            }
            let start = position - entry.offset as usize;
            let masked = &self.masked[entry.pattern as usize];
            if start + masked.length as usize <= length && masked.is_at(text, start) {
                pairs.push(pair(start as u32, entry.pattern));
            }
        }
    }
}

#[inline(always)]
fn word_at(text: &[u8], position: usize) -> u32 {
    let bytes = &text[position..position + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

impl Masked {
    fn new(bytes: &[u8], flags: &[u8]) -> Self {
        let mut made = Self { length: bytes.len() as u32, ..Self::default() };
        for (place, (&byte, &flag)) in bytes.iter().zip(flags).enumerate() {
            if flag != 0 {
                made.bytes[place / 8] |= u64::from(byte) << (8 * (place % 8));
                made.masks[place / 8] |= 0xFF << (8 * (place % 8));
            }
        }
        made
    }

    #[inline(always)]
    fn is_at(&self, text: &[u8], start: usize) -> bool {
        let words = (self.length as usize).div_ceil(8);
        let here = text[start..start + LENGTH_MAX].chunks_exact(8);
        let demands = self.bytes.iter().zip(&self.masks);
        here.zip(demands).take(words).all(|(bytes, (&demanded, &mask))| {
            let word = u64::from_le_bytes(std::array::from_fn(|place| bytes[place]));
            word & mask == demanded
        })
    }
}

/// The mask and offset of the window that a pattern is found by: three demanded bytes in a row if
/// it has them (with the fourth where that is demanded too), else as many of four as there are, of
/// those the rarest.
fn window(bytes: &[u8], flags: &[u8], rarity: &[f64; 256]) -> (u32, usize) {
    let mut best = (f64::INFINITY, 0, 0);
    for offset in 0..bytes.len() {
        let (mut mask, mut score) = (0u32, 0.0);
        for place in 0..4.min(bytes.len() - offset) {
            if flags[offset + place] != 0 {
                mask |= 0xFF << (8 * place);
                score += rarity[usize::from(bytes[offset + place])];
            }
        }
        let is_triple = mask & 0x00FF_FFFF == 0x00FF_FFFF;
        // A family of its own costs a pass over the text: worse than any rarity gains.
        let penalty =
            if is_triple { 0.0 } else { 1000.0 - 100.0 * f64::from(mask.count_ones() / 8) };
        if score + penalty < best.0 {
            best = (score + penalty, mask, offset);
        }
    }
    (family_mask(best.1), best.2)
}

/// Windows of three and of four demanded bytes are looked for together, by three of them.
fn family_mask(mask: u32) -> u32 {
    if mask == u32::MAX { 0x00FF_FFFF } else { mask }
}

impl Family {
    fn new(mask: u32, members: impl Iterator<Item = Entry>) -> Self {
        let mut entries: Vec<Entry> = members.collect();
        let bits = (16 * entries.len()).next_power_of_two().trailing_zeros().clamp(10, 17);
        let slot_bits = (2 * entries.len()).next_power_of_two().trailing_zeros().max(1);
        let (shift, slot_shift) = (32 - bits, 32 - slot_bits);
        let mut passes = vec![0u8; 1 << bits];
        let mut slots = vec![0u32; (1 << slot_bits) + 1];
        entries.sort_by_key(|entry| (slot_of(entry.window, slot_shift), entry.pattern));
        for entry in &entries {
            passes[pass_of(entry.window, shift)] |= entry.classes;
            slots[slot_of(entry.window, slot_shift) + 1] += 1;
        }
        for slot in 1..slots.len() {
            slots[slot] += slots[slot - 1];
        }
        Self { mask, shift, passes, slots, slot_shift, entries }
    }

    /// Writes the positions of `from..to` whose windows may be those of a pattern to `candidates`
    /// and returns how many they are.
    ///
    /// Every position is written, and the next one over it unless it passed: a branch would be
    /// mispredicted at every candidate.
    #[inline]
    fn sift(&self, text: &[u8], from: usize, to: usize, candidates: &mut [u32]) -> usize {
        let mut passed = 0;
        for (place, bytes) in text[from..to + 3].windows(4).enumerate() {
            let window = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let classes = self.passes[pass_of(window & self.mask, self.shift)];
            candidates[passed] = (from + place) as u32;
            passed += usize::from(classes >> class_of(window) & 1);
        }
        passed
    }
}

/// A text of `length` bytes, some letters more often than others, and its margin.
pub fn generate_text(seed: u64, length: u32) -> Vec<u8> {
    let key = stream_key(seed, DOMAIN_TEXT);
    let mut text = Vec::with_capacity(length as usize + MARGIN);
    for block in 0..length.div_ceil(4) {
        text.extend(philox([block, 0, 0, 0], key).map(letter));
    }
    text.truncate(length as usize);
    text.resize(length as usize + MARGIN, 0);
    text
}

fn letter(word: u32) -> u8 {
    ALPHABET[skewed(word, ALPHABET.len() as u32) as usize]
}

/// Starts, bytes and flags of `count` patterns of 8 to 16 bytes: one in sixteen occurs in the text,
/// the others are drawn like it. All but the two bytes at either end may be wildcards.
pub fn generate_patterns(
    seed: u64,
    text: &[u8],
    count: u32,
    wildcards: f64,
) -> (Vec<u32>, Vec<u8>, Vec<u8>) {
    let key = stream_key(seed, DOMAIN_BYTE_PATTERNS);
    let wild_key = stream_key(seed, DOMAIN_WILDCARDS);
    let wild_below = (wildcards * 4_294_967_296.0) as u64;
    let (mut first, mut bytes, mut flags) = (vec![0], Vec::new(), Vec::new());
    for pattern in 0..count {
        let words = philox([pattern, 0, 0, 0], key);
        let length = 8 + below(words[0], 9);
        let start = below(words[1], text.len() as u32) as usize;
        for place in 0..length {
            let (block, lane) = (1 + place / 4, (place % 4) as usize);
            bytes.push(if pattern % 16 == 0 {
                text[(start + place as usize) % text.len()]
            } else {
                letter(philox([pattern, block, 0, 0], key)[lane])
            });
            let is_end = place < 2 || place + 2 >= length;
            let draw = u64::from(philox([pattern, block, 0, 0], wild_key)[lane]);
            flags.push(u8::from(is_end || draw >= wild_below));
        }
        first.push(bytes.len() as u32);
    }
    (first, bytes, flags)
}
