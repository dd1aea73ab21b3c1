//! What chance decides of an agent's birth and end: pure functions of seed, key and ordinal.

use crate::random::{MULTIPLIERS, WEYL, philox, stream_key};

use super::agent::ENERGY_HIGH;
use super::tile::LANES;

pub const DOMAIN_BIRTHS: u64 = 0x6167_656E_0000_0001;

/// What a block of the stream is drawn for.
const PLACE: u32 = 0;
const STATE: u32 = 1;
/// Victims of `destroy`, and of the controller.
pub const CHOSEN: u32 = 2;
pub const EXPIRED: u32 = 3;

const LOW: u64 = u32::MAX as u64;
/// Words of chance drawn at a time.
pub const WORDS: usize = 4 * LANES;
/// So many blocks and fewer are drawn one by one, which is faster than all lanes of a vector.
pub const FEW: usize = 2;

/// What agents are born with, each field an array.
#[derive(Clone, Copy, Default)]
pub struct Litter {
    pub x: [u32; LANES],
    pub y: [u32; LANES],
    pub velocity_x: [i32; LANES],
    pub velocity_y: [i32; LANES],
    pub energy: [i32; LANES],
    pub rng: [[u32; LANES]; 4],
}

/// The randomness of one seed, on a torus with so many bits in a coordinate.
#[derive(Clone, Copy)]
pub struct Births {
    stream: [u32; 2],
    coordinate_bits: u32,
}

impl Births {
    /// `wrap` is the bit mask of a coordinate.
    pub fn new(seed: u64, wrap: u32) -> Self {
        Self { stream: stream_key(seed, DOMAIN_BIRTHS), coordinate_bits: wrap.count_ones() }
    }

    fn block(&self, key: u64, ordinal: u32, purpose: u32) -> [u32; 4] {
        philox([ordinal, purpose, key as u32, (key >> 32) as u32], self.stream)
    }

    /// The four words of blocks `first` and following, one block in each lane; `philox` by loops,
    /// which become vectors however often they are compiled.
    #[inline(always)]
    fn blocks(&self, key: u64, first: u32, purpose: u32) -> [[u32; LANES]; 4] {
        let (mut first_words, mut third_words) = ([0; LANES], [key & LOW; LANES]);
        let (mut second_words, mut fourth_words) =
            ([u64::from(purpose); LANES], [key >> 32; LANES]);
        for (lane, word) in first_words.iter_mut().enumerate() {
            *word = u64::from(first.wrapping_add(lane as u32));
        }
        let factors = MULTIPLIERS.map(u64::from);
        let mut round = self.stream;
        for _ in 0..10 {
            let keys = round.map(u64::from);
            for lane in 0..LANES {
                let low = factors[0] * (first_words[lane] & LOW);
                let high = factors[1] * (third_words[lane] & LOW);
                first_words[lane] = high >> 32 ^ second_words[lane] & LOW ^ keys[0];
                third_words[lane] = low >> 32 ^ fourth_words[lane] & LOW ^ keys[1];
                (second_words[lane], fourth_words[lane]) = (high, low);
            }
            round = [round[0].wrapping_add(WEYL[0]), round[1].wrapping_add(WEYL[1])];
        }
        let mut drawn = [[0; LANES]; 4];
        let words = [&first_words, &second_words, &third_words, &fourth_words];
        for (drawn, words) in drawn.iter_mut().zip(words) {
            for (drawn, &word) in drawn.iter_mut().zip(words) {
                *drawn = word as u32;
            }
        }
        drawn
    }

    /// Draws the `count` agents from number `first` on that the operation `key` spawns, no more
    /// than there are lanes; one by one, without what a vector has to be prepared, unless `MANY`.
    #[inline(always)]
    pub fn draw<const MANY: bool>(&self, key: u64, first: u32, count: usize, litter: &mut Litter) {
        if !MANY || count <= FEW {
            for lane in 0..count {
                let ordinal = first + lane as u32;
                let blocks = [PLACE, STATE].map(|purpose| self.block(key, ordinal, purpose));
                self.put(litter, lane, blocks);
            }
            return;
        }
        let (places, states) = (self.blocks(key, first, PLACE), self.blocks(key, first, STATE));
        for lane in 0..LANES {
            let word =
                |of: &[[u32; LANES]; 4]| [of[0][lane], of[1][lane], of[2][lane], of[3][lane]];
            self.put(litter, lane, [word(&places), word(&states)]);
        }
    }

    /// Makes an agent of two blocks.
    #[inline(always)]
    fn put(&self, litter: &mut Litter, lane: usize, [place, rng]: [[u32; 4]; 2]) {
        let shift = 32 - self.coordinate_bits;
        (litter.x[lane], litter.y[lane]) = (place[0] >> shift, place[1] >> shift);
        litter.velocity_x[lane] = (place[2] & 0xFF) as i32 - 128;
        litter.velocity_y[lane] = (place[2] >> 8 & 0xFF) as i32 - 128;
        litter.energy[lane] = ENERGY_HIGH + (place[2] >> 19) as i32;
        for (words, word) in litter.rng.iter_mut().zip(rng) {
            words[lane] = word;
        }
        // The generator must not begin with zeros alone.
        litter.rng[3][lane] |= 1;
    }

    /// Draws words of chance from block `first` on, no more than `WORDS`.
    #[inline(always)]
    pub fn words<const MANY: bool>(&self, key: u64, first: u32, purpose: u32, words: &mut [u32]) {
        if !MANY || words.len() <= 4 * FEW {
            for (into, ordinal) in words.chunks_mut(4).zip(first..) {
                into.copy_from_slice(&self.block(key, ordinal, purpose)[..into.len()]);
            }
            return;
        }
        let blocks = self.blocks(key, first, purpose);
        for (at, word) in words.iter_mut().enumerate() {
            *word = blocks[at % 4][at / 4];
        }
    }
}
