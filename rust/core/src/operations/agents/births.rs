//! What chance decides of an agent's birth and end: pure functions of seed, key and ordinal.

use crate::random::{philox, stream_key};

use super::agent::{Agent, CREATED, ENERGY_HIGH};

pub const DOMAIN_BIRTHS: u64 = 0x6167_656E_0000_0001;

/// What a block of the stream is drawn for.
const PLACE: u32 = 0;
const STATE: u32 = 1;
/// Victims of `destroy`, and of the controller.
pub const CHOSEN: u32 = 2;
pub const EXPIRED: u32 = 3;

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

    /// The agent number `ordinal` that the operation `key` spawns.
    pub fn agent(&self, key: u64, ordinal: u32) -> Agent {
        let place = self.block(key, ordinal, PLACE);
        let mut rng = self.block(key, ordinal, STATE);
        // The generator must not begin with zeros alone.
        rng[3] |= 1;
        let shift = 32 - self.coordinate_bits;
        Agent {
            x: place[0] >> shift,
            y: place[1] >> shift,
            velocity_x: (place[2] & 0xFF) as i32 - 128,
            velocity_y: (place[2] >> 8 & 0xFF) as i32 - 128,
            energy: ENERGY_HIGH + (place[2] >> 19) as i32,
            state: CREATED,
            ticks: 0,
            rng,
        }
    }

    /// Whom of `live` agents, in the order of their slots, the operation `key` ends.
    pub fn victim(&self, key: u64, ordinal: u32, purpose: u32, live: u32) -> u32 {
        let word = self.block(key, ordinal, purpose)[0];
        ((u64::from(word) * u64::from(live)) >> 32) as u32
    }
}
