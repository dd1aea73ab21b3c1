//! One agent: its fields, its states, and what a step makes of it. Integers only.
//!
//! A place is in 4096ths of a cell, and sight reaches as far as a cell is wide. Sums of integers do
//! not depend on the order of the neighbours, so every width of vector, every order of a cell and
//! every backend gives the same bits. The rule is that of boids (Reynolds, SIGGRAPH 1987) with
//! separation and alignment: cohesion would gather the agents in a few cells.

use super::solitary::next_word;

/// States, in the order of `LEGAL`. A vacant slot is in `STOPPED`.
pub const CREATED: u32 = 0;
pub const RUNNING: u32 = 1;
pub const PAUSED: u32 = 2;
pub const STOPPED: u32 = 3;

/// Bit `to` of row `from`: whether that transition, or staying, is legal within one step. Only a
/// slot's next agent is `CREATED` again.
pub const LEGAL: [u32; 4] = [
    1 << RUNNING | 1 << PAUSED,
    1 << RUNNING | 1 << PAUSED,
    1 << RUNNING | 1 << PAUSED,
    1 << STOPPED,
];

/// Bits of a coordinate below the number of its cell.
pub const CELL_BITS: u32 = 12;
/// How far an agent sees, squared.
pub const SIGHT_SQUARED: i32 = 1 << (2 * CELL_BITS);
/// Fastest along an axis, per step.
pub const SPEED_MAX: i32 = 511;
/// An agent pauses below the first, and goes on from the second.
pub const ENERGY_LOW: i32 = 1024;
pub const ENERGY_HIGH: i32 = 8192;
pub const ENERGY_MAX: i32 = 1 << 20;
const STEP_COST: i32 = 16;
const CROWD_COST_MAX: i32 = 15;
const REST_GAIN: i32 = 64;

/// What a step reads and writes of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// In 0 .. 4096 × columns, as `y` is.
    pub x: u32,
    pub y: u32,
    pub velocity_x: i32,
    pub velocity_y: i32,
    pub energy: i32,
    pub state: u32,
    /// Steps since it was spawned.
    pub ticks: u32,
    pub rng: [u32; 4],
}

/// Sums over all agents within sight, itself included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Of their places relative to its own, and of their velocities.
    pub offset_x: i32,
    pub offset_y: i32,
    pub flow_x: i32,
    pub flow_y: i32,
    pub count: i32,
}

impl Sums {
    /// Adds what is seen of an agent at `offset`, if it is within sight.
    #[inline(always)]
    pub fn see(&mut self, offset: [i32; 2], velocity: [i32; 2]) {
        let within = offset[0] * offset[0] + offset[1] * offset[1] < SIGHT_SQUARED;
        let mask = -i32::from(within);
        self.offset_x += offset[0] & mask;
        self.offset_y += offset[1] & mask;
        self.flow_x += velocity[0] & mask;
        self.flow_y += velocity[1] & mask;
        self.count -= mask;
    }
}

impl Agent {
    /// The agent after one step among those it sees; `wrap` is the bit mask of a coordinate.
    ///
    /// A paused agent rests where it is; a stopped one is no more and stays as it is.
    #[inline(always)]
    pub fn stepped(self, sums: Sums, wrap: u32) -> Self {
        let (word, rng) = next_word(self.rng);
        let bits = |shift: u32| (word >> shift & 63) as i32;
        let noise = [bits(0) - bits(6), bits(12) - bits(18)];
        let faster = |velocity: i32, offset: i32, flow: i32, noise: i32| {
            let aligning = (flow - sums.count * velocity) >> 4;
            let change = noise - (offset >> 6) + aligning - (velocity >> 4);
            (velocity + change).clamp(-SPEED_MAX, SPEED_MAX)
        };
        let velocity_x = faster(self.velocity_x, sums.offset_x, sums.flow_x, noise[0]);
        let velocity_y = faster(self.velocity_y, sums.offset_y, sums.flow_y, noise[1]);
        // Masks instead of branches, so that a loop over agents becomes vectors.
        let lives = mask(self.state != STOPPED);
        let moves = mask(self.state < PAUSED);
        let tired = self.energy - STEP_COST - (sums.count - 1).min(CROWD_COST_MAX);
        let energy = chosen(moves, tired, self.energy + REST_GAIN);
        let awake = chosen(moves, ENERGY_LOW, ENERGY_HIGH);
        let state = chosen(mask(energy < awake), PAUSED as i32, RUNNING as i32) as u32;
        Self {
            x: self.x.wrapping_add((velocity_x & moves) as u32) & wrap,
            y: self.y.wrapping_add((velocity_y & moves) as u32) & wrap,
            velocity_x: chosen(moves, velocity_x, self.velocity_x),
            velocity_y: chosen(moves, velocity_y, self.velocity_y),
            energy: chosen(lives, energy, self.energy),
            state: chosen(lives, state as i32, self.state as i32) as u32,
            ticks: self.ticks.wrapping_sub(lives as u32),
            rng: [
                chosen(lives, rng[0] as i32, self.rng[0] as i32) as u32,
                chosen(lives, rng[1] as i32, self.rng[1] as i32) as u32,
                chosen(lives, rng[2] as i32, self.rng[2] as i32) as u32,
                chosen(lives, rng[3] as i32, self.rng[3] as i32) as u32,
            ],
        }
    }
}

/// All bits where it holds, else none.
#[inline(always)]
fn mask(holds: bool) -> i32 {
    -i32::from(holds)
}

/// `yes` where the mask's bits are set, else `no`.
#[inline(always)]
fn chosen(mask: i32, yes: i32, no: i32) -> i32 {
    yes & mask | no & !mask
}
