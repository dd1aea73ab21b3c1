//! One swarm: a slab of slots, which are vacant, the order of births, a controller of its size.
//!
//! Whatever changes it holds its lock, and no longer than for one batch, one step or one tick.

use std::ops::Range;

use crate::operations::pages::filled;

use super::births::{Births, CHOSEN, EXPIRED};
use super::grid::Grid;
use super::kernels::{Kernels, Traffic};
use super::parameters::Band;
use super::tile::{LANES, SLOT_BITS, SLOT_BYTES, Tile, place};

/// What a swarm takes beside its arrays.
const OWN_BYTES: u64 = 512;
const _: () = assert!(size_of::<Swarm>() as u64 <= OWN_BYTES);

/// What has happened to a swarm since it was made; every line under "Holds" is a sum of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub spawned: u64,
    pub destroyed: u64,
    /// Of those spawned and destroyed, the ones that the controller saw to.
    pub replaced: u64,
    pub expired: u64,
    pub live: u64,
    /// Slots that have used up their ids.
    pub retired: u64,
    pub steps: u64,
    pub stepped: u64,
    pub ticks: u64,
    pub traffic: Traffic,
    /// Messages whose reader had ended.
    pub dead: u64,
    pub dead_sum: u64,
    /// Sums of the mixed ids of all that were spawned, and of all that were destroyed.
    pub births: u64,
    pub deaths: u64,
}

pub struct Swarm {
    pub tiles: Vec<Tile>,
    pub grid: Grid,
    /// One bit per slot; a slot that has used up its ids is neither occupied nor vacant.
    pub occupied: Vec<u64>,
    pub vacant: Vec<u64>,
    /// Whom the next ends are of, by slot and by rank among the live; else no bit is set.
    pub chosen: Vec<u64>,
    pub ranks: Vec<u64>,
    /// Slots in the order of births, of which `listed` count; an entry whose agent has ended stays
    /// until there is no room for another.
    pub list: Vec<u32>,
    pub listed: Range<usize>,
    pub ledger: Ledger,
    /// Ends that the agents' lifetimes ask for, in units of one `band.target()`th.
    pub owed: i64,
    band: Band,
    pub births: Births,
    /// Slots of the swarms before it.
    pub first_slot: u64,
    kernels: Kernels,
}

impl Swarm {
    /// An empty swarm of `slots` slots, a multiple of `LANES`; every page is touched.
    pub fn new(slots: usize, band: Band, seed: u64, first_slot: u64, kernels: Kernels) -> Self {
        let grid = Grid::new(slots);
        let births = Births::new(seed, grid.wrap());
        let words = slots.div_ceil(64);
        let mut vacant = filled(words);
        (0..slots).for_each(|slot| vacant[slot / 64] |= 1 << (slot % 64));
        Self {
            tiles: vec![Tile::VACANT; slots / LANES],
            grid,
            occupied: filled(words),
            vacant,
            chosen: filled(words),
            ranks: filled(words),
            list: filled(2 * slots),
            listed: 0..0,
            ledger: Ledger::default(),
            owed: 0,
            band,
            births,
            first_slot,
            kernels,
        }
    }

    /// Bytes of a swarm of so many slots: the slab, the bits, the entries of the list of births
    /// beyond one a slot, the cells' table.
    pub fn bytes(slots: usize) -> u64 {
        let slab = slots * SLOT_BYTES + 4 * 8 * slots.div_ceil(64) + 4 * slots;
        slab as u64 + Grid::table_bytes(slots) + OWN_BYTES
    }

    pub fn slots(&self) -> usize {
        self.tiles.len() * LANES
    }

    pub fn id(&self, slot: u32) -> u64 {
        let (tile, lane) = place(slot);
        self.tiles[tile].generation[lane] << SLOT_BITS | (self.first_slot + u64::from(slot))
    }

    /// The slot of an id, where it is one of this swarm's.
    pub fn slot(&self, id: u64) -> Option<u32> {
        let slot = (id & ((1 << SLOT_BITS) - 1)).checked_sub(self.first_slot)?;
        (slot < self.slots() as u64).then_some(slot as u32)
    }

    #[inline(always)]
    pub fn is_live(&self, slot: u32) -> bool {
        self.occupied[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// Spawns a batch, and lets the controller end whoever is due; false where no slot was left.
    pub fn spawn(&mut self, key: u64, batch: u32, ids: &mut Vec<u64>) -> bool {
        self.owed += self.ledger.live as i64 * i64::from(batch);
        let complete = (self.kernels.bear)(self, key, 0..batch, Some(ids));
        if complete {
            self.expire(key);
        }
        complete
    }

    /// Destroys up to `batch` agents, the oldest or any; the controller replaces what the band is
    /// short of then.
    pub fn destroy(&mut self, key: u64, batch: u32, oldest: bool, ids: &mut Vec<u64>) {
        let count = batch.min(self.ledger.live as u32);
        if oldest {
            self.choose_oldest(count, ids);
        } else {
            (self.kernels.choose)(self, key, CHOSEN, count);
            let slots = set_bits(&self.chosen);
            ids.extend(slots.map(|slot| self.id(slot)));
        }
        (self.kernels.end)(self);
        let target = self.band.target();
        let credit = target * (i64::from(self.band.most) - target);
        self.owed = (self.owed - target * i64::from(count)).max(-credit);
        let missing = u64::from(self.band.least).saturating_sub(self.ledger.live) as u32;
        let spawned = self.ledger.spawned;
        // Where so many slots are retired that none is left, the swarm stays below its band.
        (self.kernels.bear)(self, key, batch..batch + missing, None);
        self.ledger.replaced += self.ledger.spawned - spawned;
    }

    /// Ends every agent, without the controller.
    pub fn drain(&mut self) {
        self.chosen.copy_from_slice(&self.occupied);
        (self.kernels.end)(self);
        self.owed = 0;
    }

    /// Fills the swarm to its target, for which it always has slots while it is new.
    pub fn populate(&mut self, key: u64) {
        (self.kernels.bear)(self, key, 0..self.band.target() as u32, None);
    }

    /// Whether entry `at` of the list of births is of an agent that lives.
    #[inline(always)]
    pub fn is_listed(&self, at: usize) -> bool {
        let slot = self.list[at];
        let (tile, lane) = place(slot);
        self.is_live(slot) & (self.tiles[tile].turn[lane] as usize == at)
    }

    /// The live agents' slots, the oldest first.
    pub fn by_age(&self) -> impl Iterator<Item = u32> {
        self.listed.clone().filter(|&at| self.is_listed(at)).map(|at| self.list[at])
    }

    fn choose_oldest(&mut self, count: u32, ids: &mut Vec<u64>) {
        let mut left = count;
        while left > 0 {
            let at = self.listed.start;
            if self.is_listed(at) {
                let slot = self.list[at];
                self.chosen[slot as usize / 64] |= 1 << (slot % 64);
                ids.push(self.id(slot));
                left -= 1;
            }
            self.listed.start += 1;
        }
    }

    /// Steps all agents; returns how many it stepped.
    pub fn step(&mut self) -> u64 {
        let stepped =
            (self.kernels.step)(&mut self.tiles, &mut self.grid, self.ledger.live as usize);
        self.ledger.steps += 1;
        self.ledger.stepped += stepped;
        stepped
    }

    /// Lets every agent read its messages and send one to any agent.
    pub fn tick(&mut self) -> Traffic {
        let live = list(&self.occupied, &mut self.grid.slots);
        let parity = (self.ledger.ticks & 1) as usize;
        let traffic = (self.kernels.tick)(&mut self.tiles, &self.grid.slots[..live], parity);
        self.ledger.ticks += 1;
        let total = &mut self.ledger.traffic;
        total.sent += traffic.sent;
        total.sent_sum += traffic.sent_sum;
        total.read += traffic.read;
        total.read_sum += traffic.read_sum;
        traffic
    }

    /// Ends agents as often as lifetimes ask for it that are exponential with a mean of
    /// `band.target()` births: of `live` agents, each birth ends `live / target` at random. What
    /// `destroy` ends counts among them, so that the size is stationary at the target whatever the
    /// mix; the band's edges hold at once.
    fn expire(&mut self, key: u64) {
        let live = self.ledger.live as i64;
        let [least, most] = [self.band.least, self.band.most].map(i64::from);
        let target = self.band.target();
        let due = (self.owed / target).min(live - least).max(live - most).max(0);
        (self.kernels.choose)(self, key, EXPIRED, due as u32);
        (self.kernels.end)(self);
        self.ledger.expired += due as u64;
        self.owed -= target * due;
    }
}

/// The places of the set bits, in their order.
pub fn set_bits(words: &[u64]) -> impl Iterator<Item = u32> {
    words.iter().enumerate().flat_map(|(index, &word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let place = (left != 0).then(|| index as u32 * 64 + left.trailing_zeros());
            left &= left.wrapping_sub(1);
            place
        })
    })
}

/// Lists the set bits in their order; returns how many there are.
fn list(occupied: &[u64], slots: &mut [u32]) -> usize {
    let mut listed = 0;
    for (into, slot) in slots.iter_mut().zip(set_bits(occupied)) {
        *into = slot;
        listed += 1;
    }
    listed
}
