//! Votes set apart by proposal, so that the cells being counted into stay in the cache.
//!
//! A batch whose cells (agents times proposals) fit into one partition is counted directly. Else
//! votes go, 8 bytes each, into chains of blocks, one chain per partition; a chain grows as votes
//! come, so any skew fits into the memory of one batch.

use std::ops::Range;

use crate::operations::Pause;

/// Cells of a partition, at least one proposal's: 512 KiB stay in the second-level cache.
const CELLS: u32 = 1 << 17;
/// Entries of a block: 4 KiB.
const BLOCK: usize = 512;
/// Blocks counted between two pauses: about 100 µs.
const PAUSE_BLOCKS: u32 = 64;
const NONE: u32 = u32::MAX;

pub struct Partitions {
    agents: u32,
    /// Cells from one proposal to the next, as a power of two, so that no division is needed.
    stride: u32,
    proposals: u32,
    /// Proposals of a partition, as a power of two.
    shift: u32,
    /// (cell << 32 | rank), in blocks.
    entries: Vec<u64>,
    /// The block before each block in its chain, or `NONE`.
    previous: Vec<u32>,
    used: usize,
    /// Where the next entry of each partition goes; a multiple of `BLOCK` asks for a new block.
    cursors: Vec<usize>,
    /// The last block of each chain, or `NONE`.
    last: Vec<u32>,
}

/// The largest power of two of proposals whose cells fit, and the partitions that makes.
pub fn layout(agents: u32, proposals: u32) -> (u32, usize) {
    let stride = agents.next_power_of_two();
    let mut shift = 0;
    while (1 << shift) < proposals && stride << (shift + 1) <= CELLS {
        shift += 1;
    }
    (shift, proposals.div_ceil(1 << shift) as usize)
}

/// Cells of the largest partition.
fn cells(agents: u32, proposals: u32, shift: u32) -> usize {
    let stride = agents.next_power_of_two().trailing_zeros();
    (((1usize << shift).min(proposals as usize) - 1) << stride) + agents as usize
}

/// Blocks that hold any batch: all but one of each partition's are full.
fn blocks(partitions: usize, votes_max: u32) -> usize {
    if partitions == 1 { 0 } else { votes_max as usize / BLOCK + partitions }
}

impl Partitions {
    pub fn new(agents: u32, proposals: u32, votes_max: u32) -> Self {
        let (shift, count) = layout(agents, proposals);
        let blocks = blocks(count, votes_max);
        Self {
            agents,
            stride: agents.next_power_of_two().trailing_zeros(),
            proposals,
            shift,
            entries: vec![1; blocks * BLOCK],
            previous: vec![NONE; blocks],
            used: 0,
            cursors: vec![0; count],
            last: vec![NONE; count],
        }
    }

    /// Bytes that cells, blocks and chains take.
    pub fn bytes(agents: u32, proposals: u32, votes_max: u32) -> u64 {
        let (shift, count) = layout(agents, proposals);
        let chains = blocks(count, votes_max) * (8 * BLOCK + 4) + count * 12;
        (4 * cells(agents, proposals, shift) + chains) as u64
    }

    pub fn count(&self) -> usize {
        self.cursors.len()
    }

    pub fn single(&self) -> bool {
        self.cursors.len() == 1
    }

    /// Cells of the largest partition.
    pub fn cells(&self) -> usize {
        cells(self.agents, self.proposals, self.shift)
    }

    /// The cell of an agent and a proposal, both counted from the partition's first.
    #[inline(always)]
    pub fn cell(&self, proposal: u32, agent: u32) -> u32 {
        proposal << self.stride | agent
    }

    /// The proposals of a partition.
    pub fn proposals(&self, partition: usize) -> Range<usize> {
        let first = partition << self.shift;
        first..(first + (1 << self.shift)).min(self.proposals as usize)
    }

    pub fn clear(&mut self) {
        self.used = 0;
        self.cursors.fill(0);
        self.last.fill(NONE);
    }

    #[inline(always)]
    pub fn put(&mut self, proposal: u32, agent: u32, rank: u32) {
        let partition = (proposal >> self.shift) as usize;
        let cell = self.cell(proposal & ((1 << self.shift) - 1), agent);
        let mut cursor = self.cursors[partition];
        if cursor % BLOCK == 0 {
            cursor = self.chain(partition);
        }
        self.entries[cursor] = u64::from(cell) << 32 | u64::from(rank);
        self.cursors[partition] = cursor + 1;
    }

    #[inline(never)]
    fn chain(&mut self, partition: usize) -> usize {
        let block = self.used;
        self.used += 1;
        self.previous[block] = self.last[partition];
        self.last[partition] = block as u32;
        block * BLOCK
    }

    /// Calls `count(cell, proposal within the partition, rank)` for every vote of a partition.
    pub fn drain(
        &self,
        partition: usize,
        pause: &mut dyn Pause,
        mut count: impl FnMut(usize, usize, u32),
    ) {
        let stride = self.stride;
        let mut block = self.last[partition];
        let mut end = self.cursors[partition];
        let mut walked = 0u32;
        while block != NONE {
            let first = block as usize * BLOCK;
            for &entry in &self.entries[first..end] {
                let cell = (entry >> 32) as u32;
                count(cell as usize, (cell >> stride) as usize, entry as u32);
            }
            block = self.previous[block as usize];
            end = block.wrapping_add(1) as usize * BLOCK;
            walked += 1;
            if walked % PAUSE_BLOCKS == 0 {
                pause.point();
            }
        }
    }
}
