//! What is done to one swarm, compiled for each kind of vector from one body.

use std::ops::Range;

use super::agent::{ENERGY_MAX, STOPPED};
use super::grid::{Grid, Plain, Sight};
use super::solitary::next_word;
use super::swarm::Swarm;
use super::tile::{LANES, MESSAGE, Tile, place};
use super::turnover::{self, Ids};

/// What the messages of one tick came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub sent: u64,
    pub sent_sum: u64,
    pub read: u64,
    pub read_sum: u64,
}

/// The bodies for one kind of vector.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub name: &'static str,
    /// Steps all agents, of whom there are so many; returns how many it stepped.
    pub step: fn(&mut [Tile], &mut Grid, usize) -> u64,
    /// Births, the choice of whom to end, and ends; see `turnover`.
    pub bear: fn(&mut Swarm, u64, Range<u32>, Ids<'_>) -> bool,
    pub choose: fn(&mut Swarm, u64, u32, u32),
    pub end: fn(&mut Swarm),
    /// Lets every agent read its inbox of the given parity, and send to one of the listed slots.
    pub tick: fn(&mut [Tile], &[u32], usize) -> Traffic,
}

const PLAIN: Kernels = Kernels {
    name: "portable",
    step: |tiles, grid, live| step::<Plain>(tiles, grid, live),
    bear: |swarm, key, ordinals, ids| turnover::bear::<turnover::Plain>(swarm, key, ordinals, ids),
    choose: |swarm, key, purpose, count| {
        turnover::choose::<turnover::Plain>(swarm, key, purpose, count)
    },
    end: |swarm| turnover::end(swarm),
    tick: |tiles, listed, parity| tick(tiles, listed, parity),
};

/// Compiles one body with the features enabled; for use where they were detected.
#[cfg(target_arch = "x86_64")]
macro_rules! enabled {
    ($features:literal, $name:ident($($given:ident: $kind:ty),*) -> $answer:ty, $body:expr) => {
        pub fn $name($($given: $kind),*) -> $answer {
            #[target_feature(enable = $features)]
            unsafe fn body($($given: $kind),*) -> $answer {
                $body($($given),*)
            }
            // SAFETY: `all` hands this function out only where the features were detected.
            unsafe { body($($given),*) }
        }
    };
}

/// Compiles all of them.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($kernels:ident, $module:ident, $sight:ty, $name:literal, $features:literal) => {
        mod $module {
            use super::*;

            enabled!(
                $features,
                step(tiles: &mut [Tile], grid: &mut Grid, live: usize) -> u64,
                super::step::<$sight>
            );
            enabled!(
                $features,
                tick(tiles: &mut [Tile], listed: &[u32], parity: usize) -> Traffic,
                super::tick
            );
            enabled!(
                $features,
                bear(swarm: &mut Swarm, key: u64, ordinals: Range<u32>, ids: Ids<'_>) -> bool,
                turnover::bear::<turnover::Bmi2>
            );
            enabled!(
                $features,
                choose(swarm: &mut Swarm, key: u64, purpose: u32, count: u32) -> (),
                turnover::choose::<turnover::Bmi2>
            );
            enabled!($features, end(swarm: &mut Swarm) -> (), turnover::end);
        }
        const $kernels: Kernels = Kernels {
            name: $name,
            step: $module::step,
            bear: $module::bear,
            choose: $module::choose,
            end: $module::end,
            tick: $module::tick,
        };
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(AVX2, avx2, crate::operations::agents::sight_avx2::Avx2, "avx2", "avx2,popcnt,bmi2");
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
compiled!(
    AVX512,
    avx512,
    crate::operations::agents::sight_avx512::Avx512,
    "avx512",
    "avx512f,avx512bw,avx512vl,avx512dq,avx2,popcnt,bmi2"
);

/// Every kind of vector that this CPU has, the widest first; the last runs anywhere.
pub fn all() -> Vec<Kernels> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("popcnt") && has!("bmi2");
        #[cfg(avx512_intrinsics)]
        if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") {
            found.push(AVX512);
        }
        if avx2 {
            found.push(AVX2);
        }
    }
    found.push(PLAIN);
    found
}

#[inline(always)]
fn step<S: Sight>(tiles: &mut [Tile], grid: &mut Grid, live: usize) -> u64 {
    grid.sort(tiles);
    grid.look::<S>(tiles, live);
    let wrap = grid.wrap();
    tiles.iter_mut().map(|tile| travel(tile, wrap)).sum()
}

/// Moves the agents of a tile, who have looked around; returns how many there were.
#[inline(always)]
fn travel(tile: &mut Tile, wrap: u32) -> u64 {
    // Written beside what is read, so that nothing overlaps.
    let mut x = [0; LANES];
    let mut y = [0; LANES];
    let mut velocity_x = [0; LANES];
    let mut velocity_y = [0; LANES];
    let mut energy = [0; LANES];
    let mut state = [0; LANES];
    let mut ticks = [0; LANES];
    let mut rng = [[0; LANES]; 4];
    let mut stepped = 0;
    for lane in 0..LANES {
        let agent = tile.agent(lane).stepped(tile.sums(lane), wrap);
        stepped += agent.ticks.wrapping_sub(tile.ticks[lane]);
        x[lane] = agent.x;
        y[lane] = agent.y;
        velocity_x[lane] = agent.velocity_x;
        velocity_y[lane] = agent.velocity_y;
        energy[lane] = agent.energy;
        state[lane] = agent.state;
        ticks[lane] = agent.ticks;
        rng[0][lane] = agent.rng[0];
        rng[1][lane] = agent.rng[1];
        rng[2][lane] = agent.rng[2];
        rng[3][lane] = agent.rng[3];
    }
    (tile.x, tile.y, tile.velocity_x, tile.velocity_y) = (x, y, velocity_x, velocity_y);
    (tile.energy, tile.state, tile.ticks, tile.rng) = (energy, state, ticks, rng);
    u64::from(stepped)
}

#[inline(always)]
fn tick(tiles: &mut [Tile], listed: &[u32], parity: usize) -> Traffic {
    let mut traffic = Traffic { sent: listed.len() as u64, ..Traffic::default() };
    for index in 0..tiles.len() {
        let words = read(&mut tiles[index], parity, &mut traffic);
        for (lane, word) in words.into_iter().enumerate() {
            if tiles[index].state[lane] != STOPPED {
                let rank = (u64::from(word) * listed.len() as u64) >> 32;
                let (target, seat) = place(listed[rank as usize]);
                let payload = u64::from(word & 0xFFFF);
                tiles[target].inbox[parity ^ 1][seat] += MESSAGE + payload;
                traffic.sent_sum += payload;
            }
        }
    }
    traffic
}

/// Lets the agents of a tile read their inboxes; returns a word of chance for each.
#[inline(always)]
fn read(tile: &mut Tile, parity: usize, traffic: &mut Traffic) -> [u32; LANES] {
    let mut words = [0; LANES];
    let mut energy = [0; LANES];
    let mut heard = [0; LANES];
    let mut rng = [[0; LANES]; 4];
    for lane in 0..LANES {
        let inbox = tile.inbox[parity][lane];
        let (count, sum) = (inbox / MESSAGE, inbox % MESSAGE);
        traffic.read += count;
        traffic.read_sum += sum;
        heard[lane] = tile.heard[lane].wrapping_add(count as u32);
        energy[lane] = (tile.energy[lane] + (sum >> 12) as i32).min(ENERGY_MAX);
        let before = tile.agent(lane).rng;
        let (word, after) = next_word(before);
        let lives = tile.state[lane] != STOPPED;
        words[lane] = word;
        rng[0][lane] = if lives { after[0] } else { before[0] };
        rng[1][lane] = if lives { after[1] } else { before[1] };
        rng[2][lane] = if lives { after[2] } else { before[2] };
        rng[3][lane] = if lives { after[3] } else { before[3] };
    }
    (tile.heard, tile.energy, tile.rng) = (heard, energy, rng);
    tile.inbox[parity] = [0; LANES];
    words
}
