//! Blocks and the tiers they lie in: who may move which, where its bytes are, what each tier holds.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arena::Arena;
use super::draws::{Draws, LogUniform};
use super::mover::Extent;
use super::pool::{Pool, TAG_BYTES};
use crate::operations::scratch::{PAGE_BYTES, Scratch, WriteBudget};

/// Bytes of a granule of the tier in memory.
pub const ROOM_BYTES: usize = PAGE_BYTES;
/// Upper bound of what is kept of a block beside its bytes.
pub const BLOCK_RECORD_BYTES: u64 = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Cpu = 0,
    Nvme = 1,
}

/// Where a block is. Only whoever has claimed the block changes it.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub tier: Tier,
    /// First granule of its bytes in memory; none in the tier `Nvme`.
    pub room: Option<u32>,
    /// How often it was written, which gives the mask of its extent.
    pub generation: u32,
    /// Its extent holds it as of `generation`, whatever its tier.
    pub clean: bool,
}

/// One block; its bytes never change, so that its checksum is known all the time.
pub struct Block {
    pub bytes: usize,
    pub offset: u64,
    pub checksum: u64,
    claimed: AtomicBool,
    record: Mutex<Record>,
}

/// What each tier holds, by the commits alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub bytes: [u64; 2],
    pub blocks: [u64; 2],
}

/// The sizes of the blocks: positions spread evenly over a log-uniform distribution.
pub fn block_sizes(blocks: usize, sizes: &LogUniform) -> Vec<usize> {
    let position = |index: usize| ((2 * index as u64 + 1) << 31) / blocks as u64;
    (0..blocks).map(|index| sizes.at(position(index) as u32) as usize).collect()
}

/// Bytes of the tier in memory: half of the blocks, and room for the largest to arrive in.
pub fn cpu_tier_bytes(sizes: &[usize]) -> u64 {
    let room = |bytes: &usize| bytes.next_multiple_of(ROOM_BYTES) as u64;
    let all: u64 = sizes.iter().map(room).sum();
    let largest = sizes.iter().map(room).max().unwrap_or(0);
    (all / 2 + largest).next_multiple_of(ROOM_BYTES as u64)
}

/// Bytes that the tiers keep resident.
pub fn resident_bytes(sizes: &[usize]) -> u64 {
    let cpu_bytes = cpu_tier_bytes(sizes);
    cpu_bytes + cpu_bytes / ROOM_BYTES as u64 * TAG_BYTES + sizes.len() as u64 * BLOCK_RECORD_BYTES
}

/// All blocks, the memory and the file they lie in.
pub struct Tiers {
    pub blocks: Vec<Block>,
    pub draws: Draws,
    pub file: Scratch,
    pub budget: WriteBudget,
    /// Each block that leaves is made durable before its room is given away.
    pub durable: bool,
    arena: Arena,
    pool: Mutex<Pool>,
    census: Mutex<Census>,
    total_bytes: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tiers {
    /// Blocks of the given sizes, all of them in the file, none of them written yet.
    ///
    /// # Errors
    /// No memory.
    pub fn new(
        sizes: &[usize],
        draws: Draws,
        file: Scratch,
        budget: WriteBudget,
        durable: bool,
    ) -> std::io::Result<Self> {
        let mut offset = 0;
        let blocks = sizes.iter().map(|&bytes| {
            let start = offset;
            offset += Extent::padded_bytes(bytes);
            let record = Record { tier: Tier::Nvme, room: None, generation: 0, clean: false };
            Block {
                bytes,
                offset: start,
                checksum: 0,
                claimed: AtomicBool::new(false),
                record: Mutex::new(record),
            }
        });
        let blocks: Vec<Block> = blocks.collect();
        let cpu_bytes = cpu_tier_bytes(sizes);
        let total_bytes = sizes.iter().map(|bytes| *bytes as u64).sum();
        let census = Census { bytes: [0, total_bytes], blocks: [0, blocks.len() as u64] };
        Ok(Self {
            blocks,
            draws,
            file,
            budget,
            durable,
            arena: Arena::map(cpu_bytes as usize)?,
            pool: Mutex::new(Pool::new(cpu_bytes / ROOM_BYTES as u64)),
            census: Mutex::new(census),
            total_bytes,
        })
    }

    /// Takes block `index` for the caller alone; whether it was free.
    pub fn claim(&self, index: usize) -> bool {
        self.blocks[index].claimed.compare_exchange(false, true, AcqRel, Relaxed).is_ok()
    }

    /// Gives a claimed block back.
    pub fn release(&self, index: usize) {
        self.blocks[index].claimed.store(false, Release);
    }

    pub fn record(&self, index: usize) -> Record {
        *locked(&self.blocks[index].record)
    }

    /// Changes what is known of the extent of a claimed block.
    pub fn set_extent(&self, index: usize, generation: u32, clean: bool) {
        let mut record = locked(&self.blocks[index].record);
        (record.generation, record.clean) = (generation, clean);
    }

    /// The extent of a block as its generation `generation`.
    pub fn extent(&self, index: usize, generation: u32) -> Extent {
        let Block { bytes, offset, .. } = self.blocks[index];
        // Odd factors: different for any two generations of a block.
        let mask = generation.wrapping_add(1).wrapping_mul(0x9E37_79B1)
            ^ (index as u32).wrapping_mul(0x85EB_CA6B);
        Extent { file: self.file.descriptor(), offset, bytes, mask }
    }

    /// Room in memory for a block; none where no free span is long enough.
    pub fn take_room(&self, index: usize) -> Option<u32> {
        let granules = self.blocks[index].bytes.div_ceil(ROOM_BYTES) as u64;
        locked(&self.pool).allocate(granules)
    }

    /// Gives a room back; whether there was one.
    pub fn free_room(&self, room: u32) -> bool {
        locked(&self.pool).free(room).is_ok()
    }

    /// The bytes of a room that the caller took for block `index`, or that the block lies in.
    ///
    /// # Safety
    /// The caller has claimed the block, and has no other borrow of that room.
    #[allow(clippy::mut_from_ref, reason = "rooms are disjoint, and claimed with their block")]
    pub unsafe fn room_bytes(&self, index: usize, room: u32) -> &mut [u8] {
        // SAFETY: rooms of different blocks do not overlap; the caller vouches for this one.
        unsafe { self.arena.part(room as usize * ROOM_BYTES, self.blocks[index].bytes) }
    }

    /// Makes `tier` the tier of a claimed block and `room` its room; returns the one it had.
    pub fn commit(&self, index: usize, tier: Tier, room: Option<u32>) -> Option<u32> {
        let block = &self.blocks[index];
        let mut census = locked(&self.census);
        let mut record = locked(&block.record);
        let before = record.tier;
        census.bytes[before as usize] -= block.bytes as u64;
        census.blocks[before as usize] -= 1;
        census.bytes[tier as usize] += block.bytes as u64;
        census.blocks[tier as usize] += 1;
        record.tier = tier;
        std::mem::replace(&mut record.room, room)
    }

    pub fn census(&self) -> Census {
        *locked(&self.census)
    }

    /// Whether what the tiers hold adds up to all blocks, and memory holds no more than it has.
    pub fn adds_up(&self) -> bool {
        let Census { bytes, blocks } = self.census();
        bytes[0] + bytes[1] == self.total_bytes
            && blocks[0] + blocks[1] == self.blocks.len() as u64
            && bytes[0] <= self.cpu_bytes()
    }

    /// Counts the tiers anew from the records.
    pub fn recount(&self) {
        let mut census = locked(&self.census);
        *census = Census::default();
        for block in &self.blocks {
            let tier = locked(&block.record).tier as usize;
            census.bytes[tier] += block.bytes as u64;
            census.blocks[tier] += 1;
        }
    }

    /// Changes the census behind the back of the records, as a lost or doubled block would.
    pub fn plant(&self, index: usize, change: impl FnOnce(&mut Census, &mut Record)) {
        let mut census = locked(&self.census);
        let mut record = locked(&self.blocks[index].record);
        change(&mut census, &mut record);
    }

    /// Bytes that the tier in memory has for blocks.
    pub fn cpu_bytes(&self) -> u64 {
        let pool = locked(&self.pool);
        (pool.used_granules() + pool.free_granules()) * ROOM_BYTES as u64
    }

    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// (longest free span, all that is free) of the tier in memory, in bytes.
    pub fn free_bytes(&self) -> (u64, u64) {
        let pool = locked(&self.pool);
        let bytes = ROOM_BYTES as u64;
        (pool.largest_free_granules() * bytes, pool.free_granules() * bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tier_in_memory_holds_half_of_the_blocks_and_the_largest() {
        let sizes = block_sizes(16, &LogUniform::new(4096, 1 << 24));
        assert!(sizes.is_sorted() && sizes[0] > 4096 && sizes[15] < 1 << 24);
        let all: usize = sizes.iter().sum();
        let bytes = cpu_tier_bytes(&sizes);
        assert!(bytes >= (all / 2 + sizes[15]) as u64 && bytes < all as u64 + (1 << 24));
    }
}
