//! Slots of 128 bytes, sixteen to a tile: each field of a tile is an array that vectors load whole.
//!
//! 112 bytes of a slot lie in its tile, 12 in the arrays of the cell list (`grid.rs`), and 4 in the
//! list of births (`swarm.rs`).

use super::agent::{Agent, STOPPED, Sums};

pub const LANES: usize = 16;
/// Bytes of a slot, those in the cell list and in the list of births included.
pub const SLOT_BYTES: usize =
    size_of::<Tile>() / LANES + super::grid::SLOT_BYTES + size_of::<u32>();
/// Bits of an id that are the slot; the upper 40 are its generation.
pub const SLOT_BITS: u32 = 24;
/// A slot that has had so many agents is never used again, so that no id is given twice.
pub const GENERATION_MAX: u64 = (1 << (64 - SLOT_BITS)) - 1;
/// An inbox is the number of its messages in the upper 24 bits, and their sum below.
pub const MESSAGE: u64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Tile {
    pub x: [u32; LANES],
    pub y: [u32; LANES],
    pub velocity_x: [i32; LANES],
    pub velocity_y: [i32; LANES],
    pub energy: [i32; LANES],
    pub state: [u32; LANES],
    pub ticks: [u32; LANES],
    pub rng: [[u32; LANES]; 4],
    /// Messages read.
    pub heard: [u32; LANES],
    /// Agents that the slot has had, its present one included.
    pub generation: [u64; LANES],
    /// Key of the operation that spawned the agent.
    pub born: [u64; LANES],
    /// Steps that its swarm had taken when the agent was spawned.
    pub since: [u32; LANES],
    /// Where the agent is in the list of births.
    pub turn: [u32; LANES],
    /// The inboxes that even ticks read, and those that odd ticks read.
    pub inbox: [[u64; LANES]; 2],
    /// What a step found: the agent's cell, and what it saw there and around.
    pub cell: [u32; LANES],
    /// `offset_x`, `offset_y`, `flow_x`, `flow_y`.
    pub sums: [[i32; 4]; LANES],
    pub count: [i32; LANES],
}

impl Tile {
    pub const VACANT: Self = Self {
        x: [0; LANES],
        y: [0; LANES],
        velocity_x: [0; LANES],
        velocity_y: [0; LANES],
        energy: [0; LANES],
        state: [STOPPED; LANES],
        ticks: [0; LANES],
        rng: [[0; LANES]; 4],
        heard: [0; LANES],
        generation: [0; LANES],
        born: [0; LANES],
        since: [0; LANES],
        turn: [0; LANES],
        inbox: [[0; LANES]; 2],
        cell: [0; LANES],
        sums: [[0; 4]; LANES],
        count: [0; LANES],
    };

    #[inline(always)]
    pub fn agent(&self, lane: usize) -> Agent {
        Agent {
            x: self.x[lane],
            y: self.y[lane],
            velocity_x: self.velocity_x[lane],
            velocity_y: self.velocity_y[lane],
            energy: self.energy[lane],
            state: self.state[lane],
            ticks: self.ticks[lane],
            rng: [self.rng[0][lane], self.rng[1][lane], self.rng[2][lane], self.rng[3][lane]],
        }
    }

    #[inline(always)]
    pub fn set_agent(&mut self, lane: usize, agent: Agent) {
        self.x[lane] = agent.x;
        self.y[lane] = agent.y;
        self.velocity_x[lane] = agent.velocity_x;
        self.velocity_y[lane] = agent.velocity_y;
        self.energy[lane] = agent.energy;
        self.state[lane] = agent.state;
        self.ticks[lane] = agent.ticks;
        for (words, word) in self.rng.iter_mut().zip(agent.rng) {
            words[lane] = word;
        }
    }

    #[inline(always)]
    pub fn sums(&self, lane: usize) -> Sums {
        let [offset_x, offset_y, flow_x, flow_y] = self.sums[lane];
        Sums { offset_x, offset_y, flow_x, flow_y, count: self.count[lane] }
    }
}

/// The tile of a slot and its lane there.
#[inline(always)]
pub fn place(slot: u32) -> (usize, usize) {
    (slot as usize / LANES, slot as usize % LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_hundred_and_twenty_eight_bytes() {
        assert_eq!(SLOT_BYTES, 128);
    }
}
