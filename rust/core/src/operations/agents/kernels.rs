//! A step and a tick of one swarm, compiled for each kind of vector from one body.

use super::agent::{ENERGY_MAX, STOPPED};
use super::grid::{Grid, Plain, Sight};
use super::solitary::next_word;
use super::tile::{LANES, MESSAGE, Tile, place};

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
    /// Lets every agent read its inbox of the given parity, and send to one of the listed slots.
    pub tick: fn(&mut [Tile], &[u32], usize) -> Traffic,
}

const PLAIN: Kernels = Kernels {
    name: "portable",
    step: |tiles, grid, live| step::<Plain>(tiles, grid, live),
    tick: |tiles, listed, parity| tick(tiles, listed, parity),
};

/// Compiles the bodies with the features enabled; for use where they were detected.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($kernels:ident, $module:ident, $sight:ty, $name:literal, $features:literal) => {
        mod $module {
            use super::*;

            pub fn step(tiles: &mut [Tile], grid: &mut Grid, live: usize) -> u64 {
                #[target_feature(enable = $features)]
                unsafe fn body(tiles: &mut [Tile], grid: &mut Grid, live: usize) -> u64 {
                    super::step::<$sight>(tiles, grid, live)
                }
                // SAFETY: `all` hands this function out only where the features were detected.
                unsafe { body(tiles, grid, live) }
            }

            pub fn tick(tiles: &mut [Tile], listed: &[u32], parity: usize) -> Traffic {
                #[target_feature(enable = $features)]
                unsafe fn body(tiles: &mut [Tile], listed: &[u32], parity: usize) -> Traffic {
                    super::tick(tiles, listed, parity)
                }
                // SAFETY: as above.
                unsafe { body(tiles, listed, parity) }
            }
        }
        const $kernels: Kernels = Kernels { name: $name, step: $module::step, tick: $module::tick };
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(AVX2, avx2, crate::operations::agents::sight_avx2::Avx2, "avx2", "avx2,popcnt");
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
compiled!(
    AVX512,
    avx512,
    crate::operations::agents::sight_avx512::Avx512,
    "avx512",
    "avx512f,avx512bw,avx512vl,avx512dq,avx2,popcnt"
);

/// Every kind of vector that this CPU has, the widest first; the last runs anywhere.
pub fn all() -> Vec<Kernels> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("popcnt");
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
    let mut stepped = 0;
    for tile in tiles {
        // A copy in registers: what is written cannot overlap what is read.
        let before = *tile;
        let mut after = before;
        for lane in 0..LANES {
            after.set_agent(lane, before.agent(lane).stepped(before.sums(lane), wrap));
        }
        tile.x = after.x;
        tile.y = after.y;
        tile.velocity_x = after.velocity_x;
        tile.velocity_y = after.velocity_y;
        tile.energy = after.energy;
        tile.state = after.state;
        tile.ticks = after.ticks;
        tile.rng = after.rng;
        for lane in 0..LANES {
            stepped += u64::from(before.ticks[lane] != after.ticks[lane]);
        }
    }
    stepped
}

#[inline(always)]
fn tick(tiles: &mut [Tile], listed: &[u32], parity: usize) -> Traffic {
    let mut traffic = Traffic { sent: listed.len() as u64, ..Traffic::default() };
    for index in 0..tiles.len() {
        let tile = &mut tiles[index];
        let before = *tile;
        let (mut words, mut rng, mut energy, mut heard) =
            ([0; LANES], before.rng, before.energy, before.heard);
        for lane in 0..LANES {
            let inbox = before.inbox[parity][lane];
            let (read, sum) = (inbox / MESSAGE, inbox % MESSAGE);
            traffic.read += read;
            traffic.read_sum += sum;
            let (word, state) = next_word(before.rng.map(|words| words[lane]));
            let lives = before.state[lane] != STOPPED;
            words[lane] = word;
            for (words, word) in rng.iter_mut().zip(state) {
                words[lane] = if lives { word } else { words[lane] };
            }
            heard[lane] = before.heard[lane].wrapping_add(read as u32);
            energy[lane] = (before.energy[lane] + (sum >> 12) as i32).min(ENERGY_MAX);
        }
        (tile.rng, tile.energy, tile.heard) = (rng, energy, heard);
        tile.inbox[parity] = [0; LANES];
        for (lane, word) in words.into_iter().enumerate() {
            if before.state[lane] != STOPPED {
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
