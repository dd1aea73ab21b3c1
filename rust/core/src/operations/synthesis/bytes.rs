//! Byte patterns with wildcards against a text: every position at which a pattern occurs.
//!
//! Each pattern is found by one window of four bytes, the rarest of those in which it demands the
//! first three (if need be fewer), or by one for each remainder of its offset by a stride. A sieve
//! finds the few positions where such a window may be; there the patterns are looked up by its hash
//! and compared under their masks.

use crate::operations::Pause;
use crate::operations::instructions::InstructionSet;
use crate::random::{philox, stream_key};

use super::forest::{below, skewed};
use super::pairs::{Alphabet, Pairs};
use super::patterns::pair;
use super::sieve::{MARGIN, Sieve, WINDOW, Window, window_at};

/// Bytes of a pattern at most.
pub const LENGTH_MAX: usize = 32;
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
    window: Window,
    pattern: u32,
    /// Of the window in the pattern.
    offset: u32,
    /// Eight bytes of the pattern about the window, and their mask: they decide nearly always.
    near: [u64; 2],
    /// Where these are in the pattern.
    near_offset: u32,
}

impl Entry {
    fn new(window: Window, pattern: u32, offset: usize, bytes: &[u8], flags: &[u8]) -> Self {
        let near_offset = offset.min(bytes.len().saturating_sub(8));
        let masked = Masked::new(
            &bytes[near_offset..bytes.len().min(near_offset + 8)],
            &flags[near_offset..bytes.len().min(near_offset + 8)],
        );
        let near = [masked.bytes[0], masked.masks[0]];
        let (offset, near_offset) = (offset as u32, near_offset as u32);
        Self { window, pattern, offset, near, near_offset }
    }
}

/// Patterns whose windows demand the same of their first three bytes.
#[derive(Clone, Debug)]
struct Family {
    /// Which of the bytes these are.
    mask: u32,
    sieve: Sieve,
    /// By the hash of these bytes: entries from one number to the next.
    slots: Vec<u32>,
    slot_shift: u32,
    entries: Vec<Entry>,
}

/// Patterns, ordered for search.
#[derive(Clone, Debug, Default)]
pub struct BytePatterns {
    masked: Vec<Masked>,
    /// Positions looked at are so far apart.
    stride: usize,
    families: Vec<Family>,
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
        let shares = common.map(|count| count as f64 / (text.len() as f64 + 256.0));
        let rarity = shares.map(f64::log2);
        let mut made = Self::default();
        let mut given = Vec::new();
        for (number, ends) in first.windows(2).enumerate() {
            let range = ends[0] as usize..ends[1] as usize;
            let (Some(own), Some(own_flags)) = (bytes.get(range.clone()), flags.get(range)) else {
                return Err(format!("pattern {number} lies outside the bytes"));
            };
            if own.is_empty() || own.len() > LENGTH_MAX {
                return Err(format!("pattern {number} has {} bytes, not 1 to 32", own.len()));
            }
            made.masked.push(Masked::new(own, own_flags));
            given.push((own, own_flags));
        }
        let shortest = given.iter().map(|(own, _)| own.len()).min().unwrap_or(1);
        let strides = [1, 2, 4].into_iter().filter(|&stride| stride <= shortest);
        let alphabet = Alphabet::new(&shares);
        let plans = strides.map(|stride| Plan::new(&given, stride, &rarity, &alphabet));
        let Some(mut plan) = plans.min_by(|left, right| left.cost.total_cmp(&right.cost)) else {
            return Ok(made);
        };
        plan.found.sort_by_key(|found| (found.family, found.entry.pattern));
        for same in plan.found.chunk_by(|left, right| left.family == right.family) {
            let entries = same.iter().map(|found| found.entry).collect();
            made.families.push(Family::new(
                FAMILIES[same[0].family],
                entries,
                &alphabet,
                plan.stride,
            ));
        }
        made.stride = plan.stride;
        Ok(made)
    }

    /// How far apart positions are looked at.
    #[cfg(test)]
    pub fn stride(&self) -> usize {
        self.stride
    }

    pub fn held_bytes(&self) -> usize {
        let families = self.families.iter().map(|family| {
            family.sieve.held_bytes()
                + size_of_val(family.slots.as_slice())
                + size_of_val(family.entries.as_slice())
        });
        size_of_val(self.masked.as_slice()) + families.sum::<usize>()
    }

    /// Appends (position, pattern) pairs, by position and then by pattern. `text` has `MARGIN`
    /// bytes more than `length`; `candidates` has room for a `ROUND`.
    pub fn run(
        &self,
        instructions: InstructionSet,
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
                let passed =
                    family.sieve.sift(instructions, text, (first, last, self.stride), candidates);
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
        let window = window_at(text, position);
        let slot = slot_of(window & family.mask, family.slot_shift);
        let ends = family.slots[slot] as usize..family.slots[slot + 1] as usize;
        for entry in &family.entries[ends] {
            let Some(start) = position.checked_sub(entry.offset as usize) else { continue };
            let near = start + entry.near_offset as usize;
            let here = &text[near..near + 8];
            let here = u64::from_le_bytes(std::array::from_fn(|place| here[place]));
            if here & entry.near[1] != entry.near[0] {
                continue;
            }
            let masked = &self.masked[entry.pattern as usize];
            if start + masked.length as usize <= length && masked.is_at(text, start) {
                pairs.push(pair(start as u32, entry.pattern));
            }
        }
    }
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

/// Which of the first three bytes of a window are demanded, the more telling ones first.
const FAMILIES: [u32; 5] = [0x00FF_FFFF, 0x0000_FFFF, 0x00FF_00FF, 0x0000_00FF, 0];
/// Time of a look at one position, and of a candidate, in about nanoseconds.
const LOOK_COST: f64 = 0.9;
const CANDIDATE_COST: f64 = 15.0;

/// A window, its family and how often it is to be expected at a position, as a logarithm.
#[derive(Clone, Copy, Debug)]
struct Found {
    family: usize,
    rarity: f64,
    entry: Entry,
}

/// Windows of all patterns, one for every remainder of their offsets by the stride.
struct Plan {
    stride: usize,
    found: Vec<Found>,
    /// Expected time of a text position.
    cost: f64,
}

impl Plan {
    fn new(
        given: &[(&[u8], &[u8])],
        stride: usize,
        rarity: &[f64; 256],
        alphabet: &Alphabet,
    ) -> Self {
        let mut found = Vec::with_capacity(given.len() * stride);
        for (number, (bytes, flags)) in given.iter().enumerate() {
            for remainder in 0..stride {
                found.extend(best_window(number as u32, bytes, flags, (remainder, stride), rarity));
            }
        }
        let looks = (0..FAMILIES.len()).map(|family| {
            let own = found.iter().filter(|each| each.family == family);
            let windows: Vec<Window> = own.map(|each| each.entry.window).collect();
            let passed_cost = LOOK_COST / stride as f64;
            match windows.len() {
                0 => 0.0,
                _ => Pairs::new(&windows, alphabet, passed_cost).cost(passed_cost),
            }
        });
        let expected: f64 = found.iter().map(|each| each.rarity.exp2()).sum();
        let cost = looks.sum::<f64>() + expected * CANDIDATE_COST / stride as f64;
        Self { stride, found, cost }
    }
}

/// Of a pattern's windows at offsets of one remainder, in the best family that it has one for, the
/// rarest. A family costs a look at every position, so there are few.
fn best_window(
    pattern: u32,
    bytes: &[u8],
    flags: &[u8],
    (remainder, stride): (usize, usize),
    rarity: &[f64; 256],
) -> Option<Found> {
    let mut best: Option<Found> = None;
    for offset in (remainder..bytes.len()).step_by(stride) {
        let places = 0..WINDOW.min(bytes.len() - offset);
        let demanded = places.filter(|place| flags[offset + place] != 0);
        let mask = demanded.fold(0u32, |mask, place| mask | 0xFF << (8 * place));
        let Some(family) = FAMILIES.iter().position(|family| mask & family == *family) else {
            continue;
        };
        let read = FAMILIES[family] | mask & 0xFF00_0000;
        let (mut four, mut score) = ([0; WINDOW], 0.0);
        for place in (0..WINDOW).filter(|place| read >> (8 * place) & 0xFF != 0) {
            let byte = bytes[offset + place];
            four[place] = byte;
            // Of the last byte only three bits are looked at.
            let bits_max = if place + 1 == WINDOW { -3.0 } else { f64::NEG_INFINITY };
            score += rarity[usize::from(byte)].max(bits_max);
        }
        let window = Window { bytes: u32::from_le_bytes(four), demanded: read };
        let entry = Entry::new(window, pattern, offset, bytes, flags);
        let is_better = best.is_none_or(|best| (family, score) < (best.family, best.rarity));
        if is_better {
            best = Some(Found { family, rarity: score, entry });
        }
    }
    best
}

impl Family {
    fn new(mask: u32, mut entries: Vec<Entry>, alphabet: &Alphabet, stride: usize) -> Self {
        let windows: Vec<Window> = entries.iter().map(|entry| entry.window).collect();
        let slot_bits = (2 * entries.len()).next_power_of_two().trailing_zeros().max(1);
        let slot_shift = 32 - slot_bits;
        let slot = |entry: &Entry| slot_of(entry.window.bytes & mask, slot_shift);
        let mut slots = vec![0u32; (1 << slot_bits) + 1];
        entries.sort_by_key(|entry| (slot(entry), entry.pattern));
        for entry in &entries {
            slots[slot(entry) + 1] += 1;
        }
        for slot in 1..slots.len() {
            slots[slot] += slots[slot - 1];
        }
        let sieve =
            Sieve::new(mask, &windows, Pairs::new(&windows, alphabet, LOOK_COST / stride as f64));
        Self { mask, sieve, slots, slot_shift, entries }
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
