//! Words and entities of an utterance, and the hashed features of its text, in one pass.
//!
//! A feature is the bucket of a hash (Weinberger et al., "Feature Hashing for Large Scale Multitask
//! Learning", ICML 2009): of every word, of every pair of neighbours, of three letters in a row.

use super::grammar::{Grammar, KINDS};

/// Bytes that an utterance has at most.
pub const LENGTH_MAX: usize = 120;
/// Bytes of a text that are parsed; what is longer is cut off. A command can be longer than an
/// utterance.
pub const TEXT_MAX: usize = 255;
pub const BUCKET_BITS: u32 = 14;
pub const BUCKETS: usize = 1 << BUCKET_BITS;
/// Features that are counted at most: so many weights add up within 16 bits.
pub const FEATURES_MAX: usize = 200;

/// What a word hashes to that is an entity, less its kind.
const ENTITY: u32 = 0xE000_0000;
const LETTERS: u32 = 0x5BD1_E995;
const FNV_BASIS: u32 = 0x811C_9DC5;
const FNV_PRIME: u32 = 0x0100_0193;

/// Entities that are recognised by their form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pattern {
    Number,
    Percent,
    Version,
    Duration,
    Time,
    Node,
    Agent,
    Ticket,
}

impl Pattern {
    pub const ALL: [(&'static str, Self); 8] = [
        ("number", Self::Number),
        ("percent", Self::Percent),
        ("version", Self::Version),
        ("duration", Self::Duration),
        ("time", Self::Time),
        ("node", Self::Node),
        ("agent", Self::Agent),
        ("ticket", Self::Ticket),
    ];

    /// Some value of this form.
    pub fn example(self) -> &'static [u8] {
        match self {
            Self::Number => b"7",
            Self::Percent => b"25%",
            Self::Version => b"v1.2.3",
            Self::Duration => b"5 minutes",
            Self::Time => b"10:20",
            Self::Node => b"node-1",
            Self::Agent => b"agent-1",
            Self::Ticket => b"INC-1000",
        }
    }
}

/// Where the first value of each kind stands: start and length in bytes, length 0 for none.
pub type Slots = [[u8; 2]; KINDS];

/// Buckets of the features of one text.
#[derive(Clone)]
pub struct Features {
    buckets: [u16; FEATURES_MAX],
    count: usize,
}

impl Default for Features {
    fn default() -> Self {
        Self { buckets: [0; FEATURES_MAX], count: 0 }
    }
}

impl Features {
    #[inline]
    fn push(&mut self, hash: u32) {
        if let Some(place) = self.buckets.get_mut(self.count) {
            *place = (hash.wrapping_mul(0x9E37_79B1) >> (32 - BUCKET_BITS)) as u16;
            self.count += 1;
        }
    }

    #[inline]
    pub fn as_slice(&self) -> &[u16] {
        &self.buckets[..self.count]
    }
}

/// 32-bit FNV-1a (Fowler, Noll and Vo).
#[inline]
pub fn fnv1a(text: &[u8]) -> u32 {
    text.iter().fold(FNV_BASIS, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Lower case of every byte, 0 where it separates words, as a zero byte does.
const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).to_ascii_lowercase();
        byte += 1;
    }
    let separators = b" ,!?;()\"'";
    let mut at = 0;
    while at < separators.len() {
        table[separators[at] as usize] = 0;
        at += 1;
    }
    table
};

/// A word: where it is, and its hash.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
    hash: u32,
}

/// The words of a text, in lower case.
struct Words<'a> {
    text: &'a [u8],
    lower: [u8; TEXT_MAX + 1],
    at: usize,
}

impl<'a> Words<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text: &text[..text.len().min(TEXT_MAX)], lower: [0; TEXT_MAX + 1], at: 0 }
    }

    /// The next word, without the full stops and colons that end it.
    #[inline]
    fn next(&mut self) -> Option<Word> {
        while self.at < self.text.len() {
            let start = self.at;
            let mut hash = FNV_BASIS;
            while let Some(byte) = self.text.get(self.at) {
                let lower = LOWER[usize::from(*byte)];
                if lower == 0 {
                    break;
                }
                self.lower[self.at] = lower;
                hash = (hash ^ u32::from(lower)).wrapping_mul(FNV_PRIME);
                self.at += 1;
            }
            let mut end = self.at;
            self.at += 1;
            while end > start && matches!(self.lower[end - 1], b'.' | b':') {
                end -= 1;
            }
            if end + 1 < self.at {
                hash = fnv1a(&self.lower[start..end]);
            }
            if end > start {
                return Some(Word { start, end, hash });
            }
        }
        None
    }

    #[inline]
    fn of(&self, word: Word) -> &[u8] {
        &self.lower[word.start..word.end]
    }
}

/// The hashes of the words of a text.
pub fn word_hashes(text: &[u8]) -> impl Iterator<Item = u32> {
    let mut words = Words::new(text);
    std::iter::from_fn(move || words.next().map(|word| word.hash))
}

fn all_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// The form of a lower-case word; durations are two words and found by `read`.
#[inline]
fn pattern(word: &[u8]) -> Option<Pattern> {
    let numbered = |prefix: &[u8]| word.strip_prefix(prefix).is_some_and(all_digits);
    match word[0] {
        b'n' if numbered(b"node-") => Some(Pattern::Node),
        b'a' if numbered(b"agent-") => Some(Pattern::Agent),
        b'i' if numbered(b"inc-") => Some(Pattern::Ticket),
        b'v' if word.len() > 1
            && word[1].is_ascii_digit()
            && word[1..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') =>
        {
            Some(Pattern::Version)
        }
        b'0'..=b'9' => numeric(word),
        _ => None,
    }
}

fn numeric(word: &[u8]) -> Option<Pattern> {
    if all_digits(word) {
        return Some(Pattern::Number);
    }
    if word.strip_suffix(b"%").is_some_and(all_digits) {
        return Some(Pattern::Percent);
    }
    let colon = word.iter().position(|byte| *byte == b':')?;
    let (hours, minutes) = (&word[..colon], &word[colon + 1..]);
    let is_time = hours.len() <= 2 && minutes.len() == 2 && all_digits(hours);
    (is_time && all_digits(minutes)).then_some(Pattern::Time)
}

/// Reads a text once: its features, and the first value of every kind.
pub fn read(grammar: &Grammar, text: &[u8], features: &mut Features) -> Slots {
    features.count = 0;
    let mut slots = [[0; 2]; KINDS];
    let mut words = Words::new(text);
    let mut before = 0u32;
    let mut ahead = words.next();
    while let Some(word) = ahead {
        ahead = words.next();
        let text = words.of(word);
        let mut kind = grammar
            .known(text, word.hash)
            .or_else(|| pattern(text).map(|pattern| grammar.kind_of(pattern)));
        let mut end = word.end;
        if kind == Some(grammar.kind_of(Pattern::Number)) {
            if let Some(unit) = ahead.filter(|next| grammar.is_unit(words.of(*next))) {
                kind = Some(grammar.kind_of(Pattern::Duration));
                end = unit.end;
                ahead = words.next();
            }
        }
        let hash = kind.map_or(word.hash, |kind| ENTITY + u32::from(kind));
        features.push(hash);
        features.push(before.rotate_left(5) ^ hash);
        before = hash;
        if let Some(kind) = kind {
            let slot = &mut slots[usize::from(kind)];
            if slot[1] == 0 {
                *slot = [word.start as u8, (end - word.start) as u8];
            }
        } else {
            let text = words.of(word);
            let mut letters = u32::from(b'^') << 8 | u32::from(text[0]);
            for byte in text[1..].iter().chain(b"$") {
                letters = (letters << 8 | u32::from(*byte)) & 0x00FF_FFFF;
                features.push(letters ^ LETTERS);
            }
        }
    }
    slots
}
