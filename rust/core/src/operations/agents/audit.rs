//! The checks: a swarm against its ledger, and steps and ticks against their plain definitions.

use super::agent::{Agent, CREATED, ENERGY_MAX, LEGAL, STOPPED, Sums};
use super::solitary::{mixed, next_word};
use super::swarm::Swarm;
use super::tile::{LANES, MESSAGE, Tile, place};
use crate::operations::Pause;

/// Whether every live agent has been stepped once per step since it was spawned, every vacant slot
/// is stopped, and slots, list of births, ids and messages add up to what the ledger says.
pub fn adds_up(swarm: &Swarm) -> bool {
    let ledger = &swarm.ledger;
    let (mut live, mut ids, mut unread, mut unread_sum) = (0u64, 0u64, 0u64, 0u64);
    for slot in 0..swarm.slots() as u32 {
        let (index, lane) = place(slot);
        let tile = &swarm.tiles[index];
        for inbox in &tile.inbox {
            unread += inbox[lane] / MESSAGE;
            unread_sum += inbox[lane] % MESSAGE;
        }
        if !swarm.is_live(slot) {
            if tile.state[lane] != STOPPED {
                return false;
            }
            continue;
        }
        let steps = (ledger.steps as u32).wrapping_sub(tile.since[lane]);
        let created = steps == 0;
        if tile.ticks[lane] != steps
            || (tile.state[lane] == CREATED) != created
            || is_stopped(tile, lane)
        {
            return false;
        }
        live += 1;
        ids = ids.wrapping_add(mixed(swarm.id(slot)));
    }
    let traffic = &ledger.traffic;
    live == ledger.live
        && ledger.spawned - ledger.destroyed == live
        && swarm.slots() as u64 == live + vacant(swarm) + ledger.retired
        && ids == ledger.births.wrapping_sub(ledger.deaths)
        && listed(swarm) == live
        && traffic.sent == traffic.read + unread + ledger.dead
        && traffic.sent_sum == traffic.read_sum + unread_sum + ledger.dead_sum
}

fn is_stopped(tile: &Tile, lane: usize) -> bool {
    tile.state[lane] == STOPPED
}

/// How many slots are said to be vacant.
fn vacant(swarm: &Swarm) -> u64 {
    swarm.vacant.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// How many agents are in the list of births, 0 where one was not born after the last.
fn listed(swarm: &Swarm) -> u64 {
    let (mut length, mut last) = (0, None);
    for slot in swarm.by_age() {
        let (index, lane) = place(slot);
        let since = swarm.tiles[index].since[lane];
        if last.is_some_and(|last: u32| since.wrapping_sub(last) >= 1 << 31) {
            return 0;
        }
        last = Some(since);
        length += 1;
    }
    length
}

/// Whether up to `samples` agents of `after`, evenly spread, are what one step makes of `before`,
/// each seen by looking at all others; and whether all states changed legally.
pub fn stepped(
    before: &[Tile],
    after: &[Tile],
    wrap: u32,
    samples: usize,
    pause: &mut dyn Pause,
) -> bool {
    let slots = before.len() * LANES;
    let legal = before.iter().zip(after).all(|(before, after)| {
        (0..LANES).all(|lane| LEGAL[before.state[lane] as usize] >> after.state[lane] & 1 == 1)
    });
    legal
        && sampled(slots, samples).all(|slot| {
            pause.point();
            let (tile, lane) = place(slot);
            let agent = before[tile].agent(lane);
            let sums = seen(before, agent, wrap);
            after[tile].agent(lane) == agent.stepped(sums, wrap)
        })
}

/// Up to `samples` of so many slots, evenly spread.
pub fn sampled(slots: usize, samples: usize) -> impl Iterator<Item = u32> {
    (0..slots as u32).step_by(slots.div_ceil(samples))
}

/// What an agent sees, by looking at everybody.
fn seen(tiles: &[Tile], own: Agent, wrap: u32) -> Sums {
    let mut sums = Sums::default();
    let nearest = |other: u32, own: u32| {
        let ahead = other.wrapping_sub(own) & wrap;
        if ahead > wrap / 2 { ahead as i32 - wrap as i32 - 1 } else { ahead as i32 }
    };
    for tile in tiles {
        for lane in 0..LANES {
            let other = tile.agent(lane);
            let offset = [nearest(other.x, own.x), nearest(other.y, own.y)];
            // Far ones would overflow the square.
            let near = offset.iter().all(|distance| distance.abs() < 1 << 14);
            if other.state != STOPPED && near {
                sums.see(offset, [other.velocity_x, other.velocity_y]);
            }
        }
    }
    sums
}

/// Makes of `tiles` what one tick of that parity makes of them.
pub fn tick_plainly(tiles: &mut [Tile], parity: usize) {
    let slots = (tiles.len() * LANES) as u32;
    let lives = |tiles: &[Tile], slot: u32| {
        let (tile, lane) = place(slot);
        !is_stopped(&tiles[tile], lane)
    };
    let live = (0..slots).filter(|&slot| lives(tiles, slot)).count() as u64;
    let mut sent = Vec::with_capacity(live as usize);
    for slot in 0..slots {
        if !lives(tiles, slot) {
            continue;
        }
        let (index, lane) = place(slot);
        let tile = &mut tiles[index];
        let inbox = std::mem::take(&mut tile.inbox[parity][lane]);
        tile.heard[lane] = tile.heard[lane].wrapping_add((inbox / MESSAGE) as u32);
        let gain = ((inbox % MESSAGE) >> 12) as i32;
        tile.energy[lane] = (tile.energy[lane] + gain).min(ENERGY_MAX);
        let mut agent = tile.agent(lane);
        let word;
        (word, agent.rng) = next_word(agent.rng);
        tile.set_agent(lane, agent);
        sent.push(((u64::from(word) * live) >> 32, u64::from(word & 0xFFFF)));
    }
    let readers: Vec<u32> = (0..slots).filter(|&slot| lives(tiles, slot)).collect();
    for (rank, payload) in sent {
        let (index, lane) = place(readers[rank as usize]);
        tiles[index].inbox[parity ^ 1][lane] += MESSAGE + payload;
    }
}
