//! Births and ends, a tile at a time, without a branch per slot: one body for each kind of vector.

use std::ops::Range;

use super::agent::{CREATED, STOPPED};
use super::births::{FEW, Litter, WORDS};
use super::solitary::mixed;
use super::swarm::{Ledger, Swarm};
use super::tile::{GENERATION_MAX, LANES, MESSAGE, SLOT_BITS, Tile, place};

/// Where ids are appended, if anywhere.
pub type Ids<'a> = Option<&'a mut Vec<u64>>;

/// Tiles whose bits are in one word.
const TILES: usize = 64 / LANES;
/// So many lanes of a tile and fewer are seen to one by one, which is faster than all of them.
const SPARSE: u32 = 3;

/// A machine's way of placing bits.
pub trait Deposit {
    /// The lowest of `bits`, one at each set bit of `places`.
    fn deposited(bits: u64, places: u64) -> u64;
}

/// One bit after the other, on any machine.
pub struct Plain;

impl Deposit for Plain {
    #[inline(always)]
    fn deposited(bits: u64, places: u64) -> u64 {
        let (mut bits, mut left, mut found) = (bits, places, 0);
        while bits != 0 && left != 0 {
            let place = left & left.wrapping_neg();
            found |= place & 0u64.wrapping_sub(bits & 1);
            bits >>= 1;
            left ^= place;
        }
        found
    }
}

/// By the instruction for it; only for use where BMI2 was detected.
#[cfg(target_arch = "x86_64")]
pub struct Bmi2;

#[cfg(target_arch = "x86_64")]
impl Deposit for Bmi2 {
    #[inline(always)]
    fn deposited(bits: u64, places: u64) -> u64 {
        // SAFETY: the kernels that name this type are handed out only where BMI2 was detected.
        unsafe { std::arch::x86_64::_pdep_u64(bits, places) }
    }
}

/// Spawns the agents number `ordinals` of the operation `key` in the lowest vacant slots, and
/// appends their ids; false where no slot was left.
#[inline(always)]
pub fn bear<D: Deposit>(swarm: &mut Swarm, key: u64, ordinals: Range<u32>, ids: Ids<'_>) -> bool {
    if swarm.listed.end + ordinals.len() > swarm.list.len() {
        forget(swarm);
    }
    if ordinals.len() <= FEW {
        return fill::<D, false>(swarm, key, ordinals, ids, &mut [Litter::default()]);
    }
    fill::<D, true>(swarm, key, ordinals, ids, &mut [Litter::default(); TILES])
}

/// `bear`, with room for as many litters as a word of slots may take.
#[inline(always)]
fn fill<D: Deposit, const MANY: bool>(
    swarm: &mut Swarm,
    key: u64,
    ordinals: Range<u32>,
    mut ids: Ids<'_>,
    litters: &mut [Litter],
) -> bool {
    let mut next = ordinals.start;
    for index in 0..swarm.vacant.len() {
        if next == ordinals.end {
            break;
        }
        let taken = lowest::<D>(swarm.vacant[index], ordinals.end - next);
        if taken == 0 {
            continue;
        }
        swarm.vacant[index] &= !taken;
        swarm.occupied[index] |= taken;
        settle::<MANY>(swarm, (index, taken), (key, next), litters);
        let born = taken.count_ones();
        if let Some(ids) = &mut ids {
            let slots = swarm.list[swarm.listed.end..][..born as usize].iter();
            ids.extend(slots.map(|&slot| swarm.id(slot)));
        }
        swarm.listed.end += born as usize;
        swarm.ledger.live += u64::from(born);
        swarm.ledger.spawned += u64::from(born);
        next += born;
    }
    next == ordinals.end
}

/// The lowest `count` of the set bits, or all of them.
#[inline(always)]
fn lowest<D: Deposit>(word: u64, count: u32) -> u64 {
    if count >= word.count_ones() { word } else { D::deposited((1 << count) - 1, word) }
}

/// Puts the agents from number `first` of the operation `key` on in the slots that are `taken` of
/// word `index`, and behind the last in the list of births.
#[inline(always)]
fn settle<const MANY: bool>(
    swarm: &mut Swarm,
    (index, taken): (usize, u64),
    (key, first): (u64, u32),
    litters: &mut [Litter],
) {
    let since = swarm.ledger.steps as u32;
    let (mut next, end) = (0, taken.count_ones() as usize);
    for (litter, from) in litters.iter_mut().zip((0..end).step_by(LANES)) {
        let count = (end - from).min(LANES);
        swarm.births.draw::<MANY>(key, first + from as u32, count, litter);
    }
    for part in 0..TILES {
        let fresh = (taken >> (part * LANES)) as u16;
        if fresh == 0 {
            continue;
        }
        let first_slot = (index * TILES + part) * LANES;
        let tile = &mut swarm.tiles[index * TILES + part];
        let mut left = fresh;
        while left != 0 {
            let lane = left.trailing_zeros() as usize % LANES;
            let (litter, from) = (&litters[next / LANES], next % LANES);
            (tile.x[lane], tile.y[lane]) = (litter.x[from], litter.y[from]);
            tile.velocity_x[lane] = litter.velocity_x[from];
            tile.velocity_y[lane] = litter.velocity_y[from];
            tile.energy[lane] = litter.energy[from];
            for (words, drawn) in tile.rng.iter_mut().zip(&litter.rng) {
                words[lane] = drawn[from];
            }
            tile.turn[lane] = (swarm.listed.end + next) as u32;
            swarm.list[swarm.listed.end + next] = (first_slot + lane) as u32;
            next += 1;
            left &= left - 1;
        }
        begin(tile, fresh, key, since);
        let births = digest(tile, fresh, swarm.first_slot + first_slot as u64);
        swarm.ledger.births = swarm.ledger.births.wrapping_add(births);
    }
}

/// Calls `act` for lanes of a tile with all bits set where `mask` names the lane, and maybe with
/// none for others.
#[inline(always)]
fn for_lanes(mask: u16, mut act: impl FnMut(usize, u64)) {
    if mask.count_ones() > SPARSE {
        for lane in 0..LANES {
            act(lane, 0u64.wrapping_sub(u64::from(mask) >> lane & 1));
        }
        return;
    }
    let mut left = mask;
    while left != 0 {
        act(left.trailing_zeros() as usize % LANES, u64::MAX);
        left &= left - 1;
    }
}

/// What all `fresh` agents of a tile begin with.
#[inline(always)]
fn begin(tile: &mut Tile, fresh: u16, key: u64, since: u32) {
    for_lanes(fresh, |lane, all| {
        let all = all as u32;
        tile.state[lane] = CREATED & all | tile.state[lane] & !all;
        tile.ticks[lane] &= !all;
        tile.heard[lane] &= !all;
        tile.since[lane] = since & all | tile.since[lane] & !all;
    });
    for_lanes(fresh, |lane, all| {
        tile.generation[lane] += all & 1;
        tile.born[lane] = key & all | tile.born[lane] & !all;
    });
}

/// The sum of the mixed ids of some agents of a tile.
#[inline(always)]
fn digest(tile: &Tile, whose: u16, first_slot: u64) -> u64 {
    let mut sum = 0u64;
    for_lanes(whose, |lane, all| {
        let id = tile.generation[lane] << SLOT_BITS | (first_slot + lane as u64);
        sum = sum.wrapping_add(mixed(id) & all);
    });
    sum
}

/// Takes the entries of those who have ended out of the list of births.
#[inline(always)]
fn forget(swarm: &mut Swarm) {
    let mut kept = 0;
    for at in swarm.listed.clone() {
        let (slot, listed) = (swarm.list[at], swarm.is_listed(at));
        let (tile, lane) = place(slot);
        let turn = &mut swarm.tiles[tile].turn[lane];
        // Nobody foresees who has ended: a choice of values, not a branch.
        *turn = if listed { kept as u32 } else { *turn };
        swarm.list[kept] = slot;
        kept += usize::from(listed);
    }
    swarm.listed = 0..kept;
}

/// Chooses `count` of the live agents, any of them as likely as any other.
#[inline(always)]
pub fn choose<D: Deposit>(swarm: &mut Swarm, key: u64, purpose: u32, count: u32) {
    if count as usize <= 4 * FEW {
        sample::<false>(swarm, key, purpose, count, &mut [0; 4 * FEW]);
    } else {
        sample::<true>(swarm, key, purpose, count, &mut [0; WORDS]);
    }
    let mut rank = 0;
    for (chosen, &occupied) in swarm.chosen.iter_mut().zip(&swarm.occupied) {
        *chosen = D::deposited(bits_from(&swarm.ranks, rank), occupied);
        rank += occupied.count_ones() as usize;
    }
    swarm.ranks.fill(0);
}

/// The sample of Floyd (Bentley and Floyd, "A sample of brilliance", CACM 1987), of ranks in the
/// order of slots; `words` is scratch.
#[inline(always)]
fn sample<const MANY: bool>(
    swarm: &mut Swarm,
    key: u64,
    purpose: u32,
    count: u32,
    words: &mut [u32],
) {
    let least = swarm.ledger.live as u32 - count;
    for first in (0..count).step_by(words.len()) {
        let some = (count - first).min(words.len() as u32);
        let drawn = &mut words[..some as usize];
        swarm.births.words::<MANY>(key, first / 4, purpose, drawn);
        for (&mut word, top) in drawn.iter_mut().zip(least + first..) {
            let rank = ((u64::from(word) * u64::from(top + 1)) >> 32) as usize;
            let taken = swarm.ranks[rank / 64] >> (rank % 64) & 1 == 1;
            let rank = if taken { top as usize } else { rank };
            swarm.ranks[rank / 64] |= 1 << (rank % 64);
        }
    }
}

/// The 64 bits from bit `first` on; those beyond the last word are 0.
#[inline(always)]
fn bits_from(words: &[u64], first: usize) -> u64 {
    let word = |index: usize| words.get(index).copied().unwrap_or(0);
    let shift = first % 64;
    word(first / 64) >> shift | word(first / 64 + 1) << 1 << (63 - shift)
}

/// Stops the chosen agents and vacates their slots.
#[inline(always)]
pub fn end(swarm: &mut Swarm) {
    for index in 0..swarm.chosen.len() {
        let gone = std::mem::take(&mut swarm.chosen[index]);
        if gone == 0 {
            continue;
        }
        let mut exhausted = 0;
        for part in 0..TILES {
            let ended = (gone >> (part * LANES)) as u16;
            if ended == 0 {
                continue;
            }
            let tile = &mut swarm.tiles[index * TILES + part];
            let first_slot = swarm.first_slot + ((index * TILES + part) * LANES) as u64;
            let deaths = digest(tile, ended, first_slot);
            swarm.ledger.deaths = swarm.ledger.deaths.wrapping_add(deaths);
            exhausted |= u64::from(stop(tile, ended, &mut swarm.ledger)) << (part * LANES);
        }
        swarm.occupied[index] &= !gone;
        swarm.vacant[index] |= gone & !exhausted;
        let count = u64::from(gone.count_ones());
        swarm.ledger.live -= count;
        swarm.ledger.destroyed += count;
        swarm.ledger.retired += u64::from(exhausted.count_ones());
    }
}

/// Stops agents of a tile, whose messages nobody will read; returns whose slots have used up their
/// ids.
#[inline(always)]
fn stop(tile: &mut Tile, ended: u16, ledger: &mut Ledger) -> u16 {
    for_lanes(ended, |lane, all| {
        let all = all as u32;
        tile.state[lane] = STOPPED & all | tile.state[lane] & !all;
    });
    let (mut dead, mut dead_sum) = (0, 0);
    for inbox in &mut tile.inbox {
        for_lanes(ended, |lane, all| {
            let unread = inbox[lane] & all;
            dead += unread / MESSAGE;
            dead_sum += unread % MESSAGE;
            inbox[lane] &= !all;
        });
    }
    ledger.dead += dead;
    ledger.dead_sum += dead_sum;
    let mut exhausted = 0;
    for_lanes(ended, |lane, all| {
        let is_last = tile.generation[lane] >= GENERATION_MAX;
        exhausted |= (u16::from(is_last) & all as u16) << lane;
    });
    exhausted
}
