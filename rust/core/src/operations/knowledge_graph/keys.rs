//! Node keys, the pool of keys looked up, and which nodes an operation asks for.

use crate::random::{philox, stream_key};

/// Keys in the pool of queries: half uniform, half Zipf.
pub const POOL_KEYS: usize = 1 << 20;

const DOMAIN_KEYS: u64 = 0x6B67_0002;
const DOMAIN_POOL: u64 = 0x6B67_0003;
const DOMAIN_REQUESTS: u64 = 0x6B67_0004;

/// One query in this many asks for a key that no node has.
const MISS_ONE_IN: u32 = 8;

/// Draws made for an end that has an edge before the biggest hub is taken instead.
const ATTEMPTS_MAX: u32 = 64;

/// A bijection between 64-bit numbers and keys (MurmurHash3's finaliser between two additions).
///
/// Node i has the key of number i, so keys of larger numbers are sure to be missing, and the right
/// answer to a lookup follows from the key alone.
#[derive(Clone, Copy)]
pub struct Keys {
    offset: u64,
}

impl Keys {
    pub fn new(seed: u64) -> Self {
        let [low, high] = stream_key(seed, DOMAIN_KEYS);
        Self { offset: u64::from(high) << 32 | u64::from(low) }
    }

    #[inline]
    pub fn key(self, number: u64) -> u64 {
        mix(number.wrapping_add(self.offset))
    }

    /// The inverse of `key`.
    #[inline]
    pub fn number(self, key: u64) -> u64 {
        unmix(key).wrapping_sub(self.offset)
    }
}

const FORTH: [u64; 2] = [0xFF51_AFD7_ED55_8CCD, 0xC4CE_B9FE_1A85_EC53];
/// Inverses of `FORTH` modulo 2^64.
const BACK: [u64; 2] = [0x4F74_430C_22A5_4005, 0x9CB4_B2F8_1293_37DB];

#[inline]
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(FORTH[0]);
    word = (word ^ (word >> 33)).wrapping_mul(FORTH[1]);
    word ^ (word >> 33)
}

fn unmix(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(BACK[1]);
    word = (word ^ (word >> 33)).wrapping_mul(BACK[0]);
    word ^ (word >> 33)
}

/// The pool: first half uniform over the nodes, second half Zipf of exponent 1 (constant within an
/// octave of ranks); one key in eight is missing.
pub fn pool(keys: Keys, nodes: u32, seed: u64) -> Vec<u64> {
    let stream = stream_key(seed, DOMAIN_POOL);
    let octaves = nodes.ilog2().max(1);
    (0..POOL_KEYS as u32)
        .map(|place| {
            let words = philox([place, 0, 0, 0], stream);
            let number = if (place as usize) < POOL_KEYS / 2 {
                below(words[0], nodes)
            } else {
                let base = (1 << below(words[3], octaves)) - 1;
                base + (words[0] & base)
            };
            let miss = below(words[2], MISS_ONE_IN) == 0;
            keys.key(u64::from(number) + if miss { u64::from(nodes) } else { 0 })
        })
        .collect()
}

#[inline]
fn below(word: u32, bound: u32) -> u32 {
    ((u64::from(word) * u64::from(bound)) >> 32) as u32
}

/// What the operation of one key draws.
#[derive(Clone, Copy)]
pub struct Draws {
    stream: [u32; 2],
    key: u64,
}

impl Draws {
    pub fn new(stream: [u32; 2], key: u64) -> Self {
        Self { stream, key }
    }

    /// The stream of all requests under one seed.
    pub fn stream(seed: u64) -> [u32; 2] {
        stream_key(seed, DOMAIN_REQUESTS)
    }

    fn words(self, purpose: u32, attempt: u32) -> [u32; 4] {
        philox([self.key as u32, (self.key >> 32) as u32, purpose, attempt], self.stream)
    }

    /// Where in the pool a batch of lookups begins; every other batch, by chance, is a Zipf one.
    #[inline]
    pub fn window(self, batch: usize) -> usize {
        let words = self.words(u32::MAX, 0);
        let half = POOL_KEYS / 2;
        let place = below(words[0], (half - batch + 1) as u32) as usize;
        if words[1] & 1 == 1 { half + place } else { place }
    }

    /// Two nodes with edges: uniform draws until `is_connected`, `otherwise` after 64 of them.
    pub fn pair(
        self,
        lane: u32,
        nodes: u32,
        is_connected: impl Fn(u32) -> bool,
        otherwise: u32,
    ) -> (u32, u32) {
        let (mut from, mut to) = (None, None);
        for attempt in 0..ATTEMPTS_MAX {
            let words = self.words(lane, attempt);
            from = from.or_else(|| Some(below(words[0], nodes)).filter(|&node| is_connected(node)));
            to = to.or_else(|| Some(below(words[1], nodes)).filter(|&node| is_connected(node)));
            if from.is_some() && to.is_some() {
                break;
            }
        }
        (from.unwrap_or(otherwise), to.unwrap_or(otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_its_number_back() {
        let keys = Keys::new(7);
        for number in (0..1000).chain(u64::MAX - 1000..=u64::MAX) {
            assert_eq!(keys.number(keys.key(number)), number);
        }
    }
}
