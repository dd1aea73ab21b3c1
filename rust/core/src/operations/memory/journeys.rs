//! What happens to a block: it leaves, it arrives, or both; and what is done where that goes wrong.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::mover::{Extent, Mover};
use super::tiers::{Tier, Tiers};
use crate::operations::checksum::Running;
use crate::operations::scratch::PAGE_BYTES;
use crate::operations::{Fault, NoPause, Pause, Status};

/// Of a block in memory so many bytes are summed between two pauses.
const SUMMED_BYTES: usize = 1 << 20;

/// Why a hop did not happen; the block is where it was.
#[derive(Debug)]
enum Stop {
    Disk,
    /// The bytes were not the block's.
    Corrupt,
    /// The block has no bytes in memory, though its tier says so.
    Lost,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Disk
    }
}

/// What is to be done with the block that was claimed.
enum Way {
    Out,
    In { room: u32 },
}

/// The journey of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    pub status: Status,
    /// Bytes of its hops.
    pub bytes: u64,
    /// The block, which is still claimed, and where it should be.
    pub block: Option<(usize, Tier)>,
    pub violations: u32,
}

const TURNED_AWAY: Journey =
    Journey { status: Status::Rejected, bytes: 0, block: None, violations: 0 };

/// What all workers did together.
#[derive(Default)]
pub struct Totals {
    pub written_bytes: AtomicU64,
    pub read_bytes: AtomicU64,
    pub out: AtomicU64,
    pub arrived: AtomicU64,
    /// Blocks whose room was given up because the file still had them: nothing may be written.
    pub dropped_clean: AtomicU64,
    pub failed: AtomicU64,
    pub corrupt: AtomicU64,
    pub repaired: AtomicU64,
}

impl Totals {
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }
}

/// Moves blocks of `tiers` for one worker.
pub struct Journeys<'a> {
    pub tiers: &'a Tiers,
    pub totals: &'a Totals,
    pub mover: &'a mut Mover,
}

impl Journeys<'_> {
    /// Moves the block `first`, or the next one that can be moved, to the other tier.
    pub fn migrate(&mut self, first: usize, pause: &mut dyn Pause) -> Journey {
        let Some((index, way)) = self.choose(first) else { return TURNED_AWAY };
        let bytes = self.bytes(index);
        let (hop, tier) = match way {
            Way::Out => (self.leave(index, pause).map(|room| self.vacate(room)), Tier::Nvme),
            Way::In { room } => (self.arrive(index, room, pause), Tier::Cpu),
        };
        self.ended(index, hop, bytes, tier)
    }

    /// Moves a block to the other tier and back.
    pub fn round_trip(&mut self, first: usize, pause: &mut dyn Pause) -> Journey {
        let Some((index, way)) = self.choose(first) else { return TURNED_AWAY };
        let bytes = self.bytes(index);
        match way {
            Way::Out => {
                let hop = self.leave(index, pause).and_then(|room| self.arrive(index, room, pause));
                self.ended(index, hop, 2 * bytes, Tier::Cpu)
            }
            Way::In { room } => {
                let hop = self.arrive(index, room, pause).and_then(|()| {
                    if self.tiers.budget.take(Extent::padded_bytes(bytes as usize)) {
                        self.leave(index, pause).map(|room| self.vacate(room))
                    } else {
                        self.drop_clean(index);
                        Ok(())
                    }
                });
                self.ended(index, hop, 2 * bytes, Tier::Nvme)
            }
        }
    }

    fn bytes(&self, index: usize) -> u64 {
        self.tiers.blocks[index].bytes as u64
    }

    fn ended(&mut self, index: usize, hop: Result<(), Stop>, bytes: u64, tier: Tier) -> Journey {
        let Err(stop) = hop else {
            let block = Some((index, tier));
            return Journey { status: Status::Ok, bytes, block, violations: 0 };
        };
        Totals::add(&self.totals.failed, 1);
        let violations = u32::from(!matches!(stop, Stop::Disk));
        if violations > 0 {
            Totals::add(&self.totals.corrupt, 1);
            self.repair(index);
        }
        self.tiers.release(index);
        Journey { status: Status::Error, bytes: 0, block: None, violations }
    }

    /// Claims a block from `first` on that can be moved. Where nothing may be written any more,
    /// blocks only arrive, and those that the file still has make room for them.
    fn choose(&self, first: usize) -> Option<(usize, Way)> {
        loop {
            let found = self.each_from(first, |index| self.way_of(index));
            if found.is_some() {
                return found;
            }
            self.each_from(first, |index| self.drop_clean(index).then_some(()))
                .map(|(index, ())| self.tiers.release(index))?;
        }
    }

    /// The first block from `first` on that is free and for which `wanted` has an answer; claimed.
    fn each_from<T>(
        &self,
        first: usize,
        wanted: impl Fn(usize) -> Option<T>,
    ) -> Option<(usize, T)> {
        let blocks = self.tiers.blocks.len();
        (0..blocks).map(|probe| (first + probe) % blocks).find_map(|index| {
            if !self.tiers.claim(index) {
                return None;
            }
            let found = wanted(index);
            if found.is_none() {
                self.tiers.release(index);
            }
            Some((index, found?))
        })
    }

    fn way_of(&self, index: usize) -> Option<Way> {
        match self.tiers.record(index).tier {
            Tier::Cpu => {
                let bytes = Extent::padded_bytes(self.tiers.blocks[index].bytes);
                self.tiers.budget.take(bytes).then_some(Way::Out)
            }
            Tier::Nvme => self.tiers.take_room(index).map(|room| Way::In { room }),
        }
    }

    /// Memory to file; what is left is the room, which is the caller's to give back.
    fn leave(&mut self, index: usize, pause: &mut dyn Pause) -> Result<u32, Stop> {
        let record = self.tiers.record(index);
        let room = record.room.ok_or(Stop::Lost)?;
        let generation = record.generation.wrapping_add(1);
        // From here on the extent holds neither the old nor yet the new bytes.
        self.tiers.set_extent(index, generation, false);
        let extent = self.tiers.extent(index, generation);
        // SAFETY: the block is claimed, and this is the only borrow of its room.
        let block = unsafe { self.tiers.room_bytes(index, room) };
        let left = self.mover.send(block, extent, self.tiers.durable, pause)?;
        Totals::add(&self.totals.written_bytes, Extent::padded_bytes(extent.bytes));
        if left != self.tiers.blocks[index].checksum {
            return Err(Stop::Corrupt);
        }
        self.tiers.set_extent(index, generation, true);
        self.tiers.commit(index, Tier::Nvme, None);
        Totals::add(&self.totals.out, 1);
        Ok(room)
    }

    /// File to memory, into a room that is given back where it fails.
    fn arrive(&mut self, index: usize, room: u32, pause: &mut dyn Pause) -> Result<(), Stop> {
        let extent = self.tiers.extent(index, self.tiers.record(index).generation);
        // SAFETY: the block is claimed, the room was taken for it and nobody else knows of it.
        let target = unsafe { self.tiers.room_bytes(index, room) };
        let fetched = self.mover.fetch(extent, Some(target), pause);
        let arrived = fetched.map_err(Stop::from).and_then(|found| {
            if found == self.tiers.blocks[index].checksum { Ok(()) } else { Err(Stop::Corrupt) }
        });
        if arrived.is_err() {
            self.vacate(room);
            return arrived;
        }
        Totals::add(&self.totals.read_bytes, Extent::padded_bytes(extent.bytes));
        self.tiers.commit(index, Tier::Cpu, Some(room));
        Totals::add(&self.totals.arrived, 1);
        Ok(())
    }

    fn vacate(&self, room: u32) {
        if !self.tiers.free_room(room) {
            Totals::add(&self.totals.corrupt, 1);
        }
    }

    /// Gives up the room of a claimed block that the file still has; whether it does.
    fn drop_clean(&self, index: usize) -> bool {
        let record = self.tiers.record(index);
        let droppable = record.tier == Tier::Cpu && record.clean;
        if droppable {
            if let Some(room) = self.tiers.commit(index, Tier::Nvme, None) {
                self.vacate(room);
            }
            Totals::add(&self.totals.dropped_clean, 1);
        }
        droppable
    }

    /// Whether a claimed block is in `tier` and nowhere else, bit for bit, and the tiers add up.
    pub fn is_right(&mut self, index: usize, tier: Tier, pause: &mut dyn Pause) -> bool {
        let record = self.tiers.record(index);
        let in_one = record.tier == tier && record.room.is_some() == (tier == Tier::Cpu);
        if !in_one || !self.tiers.adds_up() {
            return false;
        }
        let found = match record.room {
            // SAFETY: the block is claimed, and this is the only borrow of its room.
            Some(room) => Ok(summed(unsafe { self.tiers.room_bytes(index, room) }, pause)),
            None => {
                let extent = self.tiers.extent(index, record.generation);
                self.mover.fetch(extent, None, pause)
            }
        };
        found.is_ok_and(|found| found == self.tiers.blocks[index].checksum)
    }

    /// Makes a claimed block what it was, where its tier says that it is; one without a room goes
    /// to the file. Costs as much of the write budget as its bytes; beyond it the file stays wrong.
    pub fn repair(&mut self, index: usize) {
        let record = self.tiers.record(index);
        let mut content = vec![0; self.tiers.blocks[index].bytes];
        self.tiers.draws.fill(index, &mut content);
        match record.room.filter(|_| record.tier == Tier::Cpu) {
            // SAFETY: the block is claimed, and this is the only borrow of its room.
            Some(room) => unsafe { self.tiers.room_bytes(index, room) }.copy_from_slice(&content),
            None => {
                let generation = record.generation.wrapping_add(1);
                let extent = self.tiers.extent(index, generation);
                let written = self.tiers.budget.take(Extent::padded_bytes(content.len()))
                    && self.mover.send(&content, extent, self.tiers.durable, &mut NoPause).is_ok();
                self.tiers.set_extent(index, generation, written);
                if let Some(room) = self.tiers.commit(index, Tier::Nvme, None) {
                    self.vacate(room);
                }
            }
        }
        self.tiers.recount();
        Totals::add(&self.totals.repaired, 1);
    }

    /// Damages a claimed block; false where the disk does not let it.
    pub fn plant(&mut self, index: usize, fault: Fault) -> bool {
        let record = self.tiers.record(index);
        match (fault, record.room) {
            (Fault::FlippedBit, Some(room)) => {
                // SAFETY: the block is claimed, and this is the only borrow of its room.
                let bytes = unsafe { self.tiers.room_bytes(index, room) };
                bytes[bytes.len() / 2] ^= 0x10;
                true
            }
            (Fault::FlippedBit, None) => self.change_page(index, |page| page[0] ^= 0x10),
            (Fault::LostResult, Some(room)) => {
                self.vacate(room);
                self.tiers.plant(index, |_, record| record.room = None);
                true
            }
            // As if the page had not been written: it is under the mask of the generation before.
            (Fault::LostResult, None) => {
                let now = self.tiers.extent(index, record.generation).mask;
                let before = self.tiers.extent(index, record.generation.wrapping_sub(1)).mask;
                let stale = (now ^ before).to_le_bytes();
                self.change_page(index, |page| {
                    page.iter_mut()
                        .zip(stale.iter().cycle())
                        .for_each(|(byte, bits)| *byte ^= bits);
                })
            }
            (Fault::DoubledResult, _) => {
                let bytes = self.bytes(index);
                self.tiers.plant(index, |census, record| {
                    let other = 1 - record.tier as usize;
                    census.bytes[other] += bytes;
                    census.blocks[other] += 1;
                });
                true
            }
        }
    }

    /// Reads, changes and writes the first page of a block's extent.
    fn change_page(&mut self, index: usize, change: impl FnOnce(&mut [u8])) -> bool {
        let mut page = crate::operations::scratch::PageBuffer::new(PAGE_BYTES);
        let offset = self.tiers.blocks[index].offset;
        let used = self.tiers.blocks[index].bytes.min(PAGE_BYTES);
        let file = &self.tiers.file;
        file.read(page.as_mut_slice(), offset).is_ok_and(|()| {
            change(&mut page.as_mut_slice()[..used]);
            file.write(page.as_slice(), offset).is_ok()
        })
    }
}

/// The checksum of a block in memory.
fn summed(bytes: &[u8], pause: &mut dyn Pause) -> u64 {
    let mut running = Running::new();
    for piece in bytes.chunks(SUMMED_BYTES) {
        running.absorb(piece);
        pause.point();
    }
    running.finish()
}
