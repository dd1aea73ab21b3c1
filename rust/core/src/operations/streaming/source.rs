//! The chunks that the streaming component compresses: six kinds of content, each of a stated
//! entropy, as a pure function of (seed, chunk index).
//!
//! Every kind is defined on 32-bit or 8-bit pieces of Philox draws with integer arithmetic only, so
//! that plain NumPy (`components/streaming.py`) produces the same bytes.

use crate::random::{Stream, stream_key};

use super::Kind;

/// First domain of this component's streams; kind `k` draws from `DOMAIN + k`.
const DOMAIN: u64 = 0x5354_5200;
const DOMAIN_VOCABULARY: u64 = DOMAIN + 0xFF;

/// Ranks of the vocabulary are drawn log-uniformly (Zipf's law, exponent 1) over 2^12 - 1 words.
const RANK_BITS: u64 = 12;
const ONSETS: [&str; 16] =
    ["b", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "w", "th", "st", "pr", "tr"];
const VOWELS: [&str; 4] = ["a", "e", "i", "o"];
const ENDINGS: [&str; 4] = ["", "s", "n", "ed"];

const RECORD: &[u8] =
    br#"{"ts":1700000000000,"node":"n000","sensor":"temp","value":20.000,"status":"ok"}
"#;
const RECORD_TIME: usize = 6;
const RECORD_NODE: usize = 29;
const RECORD_SENSOR: usize = 44;
const RECORD_VALUE: usize = 59;
const RECORD_STATUS: usize = 75;
const SENSORS: [&[u8; 4]; 8] =
    [b"temp", b"load", b"fans", b"volt", b"amps", b"freq", b"disk", b"link"];
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Exponent field of float32 values in [1024, 2048).
const FLOAT_EXPONENT: u32 = 137 << 23;
const MANTISSA_MASK: u32 = (1 << 23) - 1;

/// Generates chunks of one seed; holds the vocabulary of the text kind.
pub struct Source {
    seed: u64,
    words: Vec<Vec<u8>>,
}

impl Source {
    pub fn new(seed: u64) -> Self {
        let mut draws = Stream::new(stream_key(seed, DOMAIN_VOCABULARY), 0);
        let words = (1..1u32 << RANK_BITS).map(|rank| word(rank, draws.next_u64())).collect();
        Self { seed, words }
    }

    /// Fills `chunk` with content of `kind` for the chunk number `index`.
    pub fn fill(&self, kind: Kind, index: u64, chunk: &mut [u8]) {
        let key = stream_key(self.seed, DOMAIN + kind as u64);
        let mut halves = Halves { draws: Stream::new(key, index), upper: None };
        match kind {
            Kind::Text => self.fill_text(&mut halves, chunk),
            Kind::Json => fill_json(&mut halves, index, chunk),
            Kind::Int32 => fill_int32(&mut halves, chunk),
            Kind::Float32 => fill_float32(&mut halves, chunk),
            Kind::Random => fill_random(&mut halves, chunk),
            Kind::Zeros => chunk.fill(0),
        }
    }

    /// 10.5 bits per word (3.6 for the magnitude of its rank, 5.5 inside it, 0.9 + for the
    /// separator), at about 7 bytes a word.
    fn fill_text(&self, halves: &mut Halves, chunk: &mut [u8]) {
        let mut filled = 0;
        while filled < chunk.len() {
            let draw = halves.next();
            let magnitude = ((draw & 0xFF) * RANK_BITS as u32) >> 8;
            let rank = (1 << magnitude) - 1 + ((draw >> 8) & ((1 << magnitude) - 1));
            let separator: &[u8] = match draw >> 28 {
                0..=12 => b" ",
                13 | 14 => b", ",
                _ => b". ",
            };
            for piece in [&self.words[rank as usize], separator] {
                let length = piece.len().min(chunk.len() - filled);
                chunk[filled..filled + length].copy_from_slice(&piece[..length]);
                filled += length;
            }
        }
    }
}

/// The word of a rank (from 1): the rarer, the longer; one draw spells it.
fn word(rank: u32, mut draw: u64) -> Vec<u8> {
    let syllables = 1 + rank.ilog2() / 4 + (draw & 1) as u32;
    let ending = ENDINGS[(draw >> 1 & 3) as usize];
    draw >>= 3;
    let mut spelled = Vec::new();
    for _ in 0..syllables {
        spelled.extend_from_slice(ONSETS[(draw & 15) as usize].as_bytes());
        spelled.extend_from_slice(VOWELS[(draw >> 4 & 3) as usize].as_bytes());
        draw >>= 6;
    }
    spelled.extend_from_slice(ending.as_bytes());
    spelled
}

/// The stream's draws as 32-bit halves, the lower one first.
struct Halves {
    draws: Stream,
    upper: Option<u32>,
}

impl Halves {
    fn next(&mut self) -> u32 {
        if let Some(upper) = self.upper.take() {
            return upper;
        }
        let draw = self.draws.next_u64();
        self.upper = Some((draw >> 32) as u32);
        draw as u32
    }
}

fn write_digits(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// 25.2 bits per record of 80 bytes: time step 4, node 8, sensor 3, value 10, status 0.2.
fn fill_json(halves: &mut Halves, index: u64, chunk: &mut [u8]) {
    let mut time = EPOCH_MS + index * 1_000_000;
    let mut record = [0u8; RECORD.len()];
    record.copy_from_slice(RECORD);
    for line in chunk.chunks_mut(RECORD.len()) {
        let draw = halves.next();
        time += 1 + u64::from(draw & 15);
        write_digits(&mut record[RECORD_TIME..RECORD_TIME + 13], time);
        write_digits(&mut record[RECORD_NODE..RECORD_NODE + 3], u64::from(draw >> 4 & 0xFF));
        record[RECORD_SENSOR..RECORD_SENSOR + 4]
            .copy_from_slice(SENSORS[(draw >> 12 & 7) as usize]);
        let value = u64::from(draw >> 15 & 0x3FF);
        write_digits(&mut record[RECORD_VALUE..RECORD_VALUE + 1], value / 1000);
        write_digits(&mut record[RECORD_VALUE + 2..RECORD_VALUE + 5], value % 1000);
        let status = if draw >> 27 == 0 { b"er" } else { b"ok" };
        record[RECORD_STATUS..RECORD_STATUS + 2].copy_from_slice(status);
        line.copy_from_slice(&record[..line.len()]);
    }
}

/// A walk of uniform steps in [-128, 128): 8 bits per value of 32.
fn fill_int32(halves: &mut Halves, chunk: &mut [u8]) {
    let mut value = 0u32;
    for group in chunk.chunks_mut(16) {
        let steps = halves.next().to_le_bytes();
        for (place, step) in group.chunks_mut(4).zip(steps) {
            value = value.wrapping_add(u32::from(step)).wrapping_sub(128);
            place.copy_from_slice(&value.to_le_bytes()[..place.len()]);
        }
    }
}

/// A sensor's walk in [1024, 2048), steps of 12 bits of its 23-bit mantissa: 12 bits per value.
fn fill_float32(halves: &mut Halves, chunk: &mut [u8]) {
    let mut walk = 1u32 << 22;
    for pair in chunk.chunks_mut(8) {
        let draw = halves.next();
        for (place, step) in pair.chunks_mut(4).zip([draw & 0xFFF, draw >> 16 & 0xFFF]) {
            walk = walk.wrapping_add(step).wrapping_sub(2048);
            let bits = FLOAT_EXPONENT | (walk & MANTISSA_MASK);
            place.copy_from_slice(&bits.to_le_bytes()[..place.len()]);
        }
    }
}

/// 8 bits per byte.
fn fill_random(halves: &mut Halves, chunk: &mut [u8]) {
    for place in chunk.chunks_mut(4) {
        place.copy_from_slice(&halves.next().to_le_bytes()[..place.len()]);
    }
}
