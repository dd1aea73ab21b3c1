//! Votes set apart by proposal, so that the cells being counted into stay in the cache.
//!
//! A batch whose cells (agents times proposals) fit into one partition is counted directly. Else
//! votes go, 8 bytes each, into chains of blocks, one chain per partition; a chain grows as votes
//! come, so any skew fits into the memory of one batch.

use std::ops::Range;

use crate::operations::pages::{filled, prefetch};

/// Cells of a partition, at least one proposal's: 512 KiB stay in the second-level cache.
const CELLS: u32 = 1 << 17;
/// Entries of a block: 4 KiB.
const BLOCK: usize = 512;
/// Entries of a cache line.
const LINE: usize = 8;
/// Blocks counted between two pauses: about 100 µs.
pub const PAUSE_BLOCKS: usize = 64;
const NONE: u32 = u32::MAX;

/// Where cells and partitions lie.
#[derive(Clone, Copy)]
pub struct Place {
    /// Cells from one proposal to the next, as a power of two, so that no division is needed.
    stride: u32,
    /// Proposals of a partition, as a power of two.
    shift: u32,
}

impl Place {
    /// The largest power of two of proposals whose cells fit.
    fn of(agents: u32, proposals: u32) -> Self {
        let stride = agents.next_power_of_two();
        let mut shift = 0;
        while (1 << shift) < proposals && stride << (shift + 1) <= CELLS {
            shift += 1;
        }
        Self { stride: stride.trailing_zeros(), shift }
    }

    /// The cell of an agent and a proposal, both counted from the partition's first.
    #[inline(always)]
    pub fn cell(self, proposal: u32, agent: u32) -> u32 {
        proposal << self.stride | agent
    }

    fn partitions(self, proposals: u32) -> usize {
        proposals.div_ceil(1 << self.shift) as usize
    }

    /// Cells of the largest partition.
    fn cells(self, agents: u32, proposals: u32) -> usize {
        let together = (1usize << self.shift).min(proposals as usize);
        ((together - 1) << self.stride) + agents as usize
    }
}

/// Partitions that the cells of these sizes make.
pub fn count(agents: u32, proposals: u32) -> usize {
    Place::of(agents, proposals).partitions(proposals)
}

/// Blocks that hold any batch: all but one of each partition's are full.
fn blocks_max(partitions: usize, votes_max: u32) -> usize {
    if partitions == 1 { 0 } else { votes_max as usize / BLOCK + partitions }
}

/// Which block follows which.
struct Chains {
    /// The block before each block in its chain, or `NONE`.
    previous: Vec<u32>,
    /// The last block of each partition's chain, or `NONE`.
    last: Vec<u32>,
    used: u32,
}

impl Chains {
    /// Gives a partition the next free block; returns its first entry.
    #[inline(never)]
    fn grow(&mut self, partition: usize) -> u32 {
        let block = self.used;
        self.used += 1;
        self.previous[block as usize] = self.last[partition];
        self.last[partition] = block;
        block * BLOCK as u32
    }
}

pub struct Partitions {
    place: Place,
    agents: u32,
    proposals: u32,
    /// (cell << 32 | rank), in blocks.
    entries: Vec<u64>,
    /// Where the next entry of each partition goes; a multiple of `BLOCK` asks for a new block.
    cursors: Vec<u32>,
    chains: Chains,
}

impl Partitions {
    pub fn new(agents: u32, proposals: u32, votes_max: u32) -> Self {
        let place = Place::of(agents, proposals);
        let count = place.partitions(proposals);
        let blocks = blocks_max(count, votes_max);
        Self {
            place,
            agents,
            proposals,
            entries: filled(blocks * BLOCK),
            cursors: vec![0; count],
            chains: Chains { previous: vec![NONE; blocks], last: vec![NONE; count], used: 0 },
        }
    }

    /// Bytes that cells, blocks and chains take.
    pub fn bytes(agents: u32, proposals: u32, votes_max: u32) -> u64 {
        let place = Place::of(agents, proposals);
        let count = place.partitions(proposals);
        let chains = blocks_max(count, votes_max) * (8 * BLOCK + 4) + count * 8;
        (4 * place.cells(agents, proposals) + chains) as u64
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn count(&self) -> usize {
        self.cursors.len()
    }

    pub fn single(&self) -> bool {
        self.cursors.len() == 1
    }

    /// Cells of the largest partition.
    pub fn cells(&self) -> usize {
        self.place.cells(self.agents, self.proposals)
    }

    /// The proposals of a partition.
    pub fn proposals(&self, partition: usize) -> Range<usize> {
        let first = partition << self.place.shift;
        first..(first + (1 << self.place.shift)).min(self.proposals as usize)
    }

    pub fn clear(&mut self) {
        self.chains.used = 0;
        self.chains.last.fill(NONE);
        self.cursors.fill(0);
    }

    /// Opens the partitions for more votes.
    pub fn sorting(&mut self) -> Sorting<'_> {
        Sorting {
            place: self.place,
            entries: &mut self.entries,
            cursors: &mut self.cursors,
            chains: &mut self.chains,
        }
    }

    /// The blocks of a partition, the last one first.
    pub fn blocks(&self, partition: usize) -> Blocks<'_> {
        Blocks {
            partitions: self,
            block: self.chains.last[partition],
            end: self.cursors[partition] as usize,
        }
    }

    fn full(&self, block: u32) -> &[u64] {
        match block {
            NONE => &[],
            _ => &self.entries[block as usize * BLOCK..(block as usize + 1) * BLOCK],
        }
    }
}

/// Puts votes into their partitions, its addresses kept in registers.
pub struct Sorting<'a> {
    place: Place,
    entries: &'a mut [u64],
    cursors: &'a mut [u32],
    chains: &'a mut Chains,
}

impl Sorting<'_> {
    #[inline(always)]
    pub fn put(&mut self, proposal: u32, agent: u32, rank: u32) {
        let partition = (proposal >> self.place.shift) as usize;
        let cell = self.place.cell(proposal & ((1 << self.place.shift) - 1), agent);
        let mut cursor = self.cursors[partition];
        if cursor % BLOCK as u32 == 0 {
            cursor = self.chains.grow(partition);
        }
        // Every time: asking only at a line's first entry is a branch wrongly foreseen.
        prefetch(self.entries, cursor as usize + LINE);
        self.entries[cursor as usize] = u64::from(cell) << 32 | u64::from(rank);
        self.cursors[partition] = cursor + 1;
    }
}

pub struct Blocks<'a> {
    partitions: &'a Partitions,
    block: u32,
    end: usize,
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    fn next(&mut self) -> Option<Block<'a>> {
        if self.block == NONE {
            return None;
        }
        let first = self.block as usize * BLOCK;
        let entries = &self.partitions.entries[first..self.end];
        self.block = self.partitions.chains.previous[self.block as usize];
        self.end = (self.block as usize + 1) * BLOCK;
        let ahead = self.partitions.full(self.block);
        Some(Block { entries, ahead, stride: self.partitions.place.stride })
    }
}

/// One block, and the one to be read after it.
pub struct Block<'a> {
    entries: &'a [u64],
    ahead: &'a [u64],
    stride: u32,
}

impl Block<'_> {
    /// Calls `file(cell, proposal within the partition, rank)` for every vote.
    #[inline(always)]
    pub fn each(&self, mut file: impl FnMut(usize, usize, u32)) {
        for (line, entries) in self.entries.chunks(LINE).enumerate() {
            prefetch(self.ahead, line * LINE);
            for &entry in entries {
                let cell = (entry >> 32) as u32;
                file(cell as usize, (cell >> self.stride) as usize, entry as u32);
            }
        }
    }
}
