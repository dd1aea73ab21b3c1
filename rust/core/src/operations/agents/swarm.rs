//! One swarm: a slab of slots with a free list, the order of births, and a controller of its size.
//!
//! Whatever changes it holds its lock, and no longer than for one batch, one step or one tick.

use crate::operations::pages::filled;

use super::agent::STOPPED;
use super::births::{Births, CHOSEN, EXPIRED};
use super::grid::Grid;
use super::kernels::{Kernels, Traffic};
use super::parameters::Band;
use super::solitary::mixed;
use super::tile::{GENERATION_MAX, LANES, MESSAGE, NONE, SLOT_BITS, SLOT_BYTES, Tile, place};

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
    /// One bit per slot.
    pub occupied: Vec<u64>,
    /// Vacant slots; the last is used next.
    pub free: Vec<u32>,
    pub oldest: u32,
    pub newest: u32,
    pub ledger: Ledger,
    /// Ends that the agents' lifetimes ask for, in units of one `band.target()`th.
    pub owed: i64,
    band: Band,
    births: Births,
    /// Slots of the swarms before it.
    first_slot: u64,
    kernels: Kernels,
}

impl Swarm {
    /// An empty swarm of `slots` slots, a multiple of `LANES`; every page is touched.
    pub fn new(slots: usize, band: Band, seed: u64, first_slot: u64, kernels: Kernels) -> Self {
        let grid = Grid::new(slots);
        let births = Births::new(seed, grid.wrap());
        Self {
            tiles: vec![Tile::VACANT; slots / LANES],
            grid,
            occupied: filled(slots.div_ceil(64)),
            free: (0..slots as u32).rev().collect(),
            oldest: NONE,
            newest: NONE,
            ledger: Ledger::default(),
            owed: 0,
            band,
            births,
            first_slot,
            kernels,
        }
    }

    /// Bytes of a swarm of so many slots: the slab, the bits, the free list, the cells' table.
    pub fn bytes(slots: usize) -> u64 {
        let slab = slots * SLOT_BYTES + 8 * slots.div_ceil(64) + 4 * slots;
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

    pub fn is_live(&self, slot: u32) -> bool {
        self.occupied[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// Spawns a batch, and lets the controller end whoever is due; false where no slot was left.
    pub fn spawn(&mut self, key: u64, batch: u32, ids: &mut Vec<u64>) -> bool {
        self.owed += self.ledger.live as i64 * i64::from(batch);
        for ordinal in 0..batch {
            let Some(id) = self.bear(key, ordinal) else { return false };
            ids.push(id);
        }
        self.expire(key);
        true
    }

    /// Destroys up to `batch` agents, the oldest or any; the controller replaces what the band is
    /// short of then.
    pub fn destroy(&mut self, key: u64, batch: u32, oldest: bool, ids: &mut Vec<u64>) {
        for ordinal in 0..batch.min(self.ledger.live as u32) {
            let slot = if oldest {
                self.oldest
            } else {
                self.nth(self.births.victim(key, ordinal, CHOSEN, self.ledger.live as u32))
            };
            ids.push(self.id(slot));
            self.end(slot);
        }
        let target = self.band.target();
        let credit = target * (i64::from(self.band.most) - target);
        self.owed = (self.owed - target * ids.len() as i64).max(-credit);
        let mut ordinal = batch;
        while self.ledger.live < u64::from(self.band.least) && self.bear(key, ordinal).is_some() {
            self.ledger.replaced += 1;
            ordinal += 1;
        }
    }

    /// Ends every agent, without the controller.
    pub fn drain(&mut self) {
        while self.oldest != NONE {
            self.end(self.oldest);
        }
        self.owed = 0;
    }

    /// Fills the swarm to its target.
    pub fn populate(&mut self, key: u64) {
        for ordinal in 0..self.band.target() as u32 {
            if self.bear(key, ordinal).is_none() {
                return;
            }
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
        let (target, mut ordinal) = (self.band.target(), 0);
        let (least, most) = (u64::from(self.band.least), u64::from(self.band.most));
        while self.ledger.live > most || (self.owed >= target && self.ledger.live > least) {
            let live = self.ledger.live as u32;
            let slot = self.nth(self.births.victim(key, ordinal, EXPIRED, live));
            self.end(slot);
            self.ledger.expired += 1;
            self.owed -= target;
            ordinal += 1;
        }
    }

    /// The agent number `ordinal` of the operation `key`, in a slot of its own.
    fn bear(&mut self, key: u64, ordinal: u32) -> Option<u64> {
        let slot = self.free.pop()?;
        let (index, lane) = place(slot);
        let newest = std::mem::replace(&mut self.newest, slot);
        let tile = &mut self.tiles[index];
        tile.set_agent(lane, self.births.agent(key, ordinal));
        tile.generation[lane] += 1;
        tile.born[lane] = key;
        tile.since[lane] = self.ledger.steps as u32;
        tile.heard[lane] = 0;
        tile.older[lane] = newest;
        tile.newer[lane] = NONE;
        if newest == NONE {
            self.oldest = slot;
        } else {
            let (index, lane) = place(newest);
            self.tiles[index].newer[lane] = slot;
        }
        self.occupied[slot as usize / 64] |= 1 << (slot % 64);
        self.ledger.live += 1;
        self.ledger.spawned += 1;
        let id = self.id(slot);
        self.ledger.births = self.ledger.births.wrapping_add(mixed(id));
        Some(id)
    }

    /// Stops an agent and vacates its slot.
    fn end(&mut self, slot: u32) {
        self.ledger.deaths = self.ledger.deaths.wrapping_add(mixed(self.id(slot)));
        let (index, lane) = place(slot);
        let tile = &mut self.tiles[index];
        let (older, newer) = (tile.older[lane], tile.newer[lane]);
        tile.state[lane] = STOPPED;
        for inbox in &mut tile.inbox {
            let unread = std::mem::take(&mut inbox[lane]);
            self.ledger.dead += unread / MESSAGE;
            self.ledger.dead_sum += unread % MESSAGE;
        }
        let exhausted = tile.generation[lane] >= GENERATION_MAX;
        if older == NONE {
            self.oldest = newer;
        } else {
            let (index, lane) = place(older);
            self.tiles[index].newer[lane] = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            let (index, lane) = place(newer);
            self.tiles[index].older[lane] = older;
        }
        self.occupied[slot as usize / 64] &= !(1 << (slot % 64));
        self.ledger.live -= 1;
        self.ledger.destroyed += 1;
        if exhausted {
            self.ledger.retired += 1;
        } else {
            self.free.push(slot);
        }
    }

    /// The slot of the live agent number `rank`, in the order of slots.
    fn nth(&self, rank: u32) -> u32 {
        (self.kernels.nth)(&self.occupied, rank)
    }
}

/// Lists the set bits in their order; returns how many there are.
fn list(occupied: &[u64], slots: &mut [u32]) -> usize {
    let mut listed = 0;
    for (index, &word) in occupied.iter().enumerate() {
        let mut left = word;
        while left != 0 {
            slots[listed] = index as u32 * 64 + left.trailing_zeros();
            listed += 1;
            left &= left - 1;
        }
    }
    listed
}
