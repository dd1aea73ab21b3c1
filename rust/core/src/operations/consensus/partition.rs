//! Votes set apart by proposal, so that the cells being counted into stay in the cache.
//!
//! A batch whose cells (agents times proposals) fit into one partition is counted directly. Else
//! votes go into chains of blocks, two per partition: one word a vote with a ticket, two for any
//! other. A chain grows as votes come, so any skew fits into the memory of one batch.

use std::ops::Range;

use super::cells::Cells;
use super::screen::CODE_BITS;
use crate::operations::pages::{filled, prefetch};

/// Cells of a partition, at least one proposal's: their bytes stay in the second-level cache.
const CELLS: u32 = 1 << 18;
/// Words of a block: 4 KiB.
const BLOCK: usize = 1024;
/// Words of a vote without a ticket: cell and rank.
const PAIR: usize = 2;
/// Words of a cache line, and lines that are read in one go.
const LINE: usize = 16;
const LINES: usize = 4;
/// Blocks counted between two pauses: about 100 µs.
pub const PAUSE_BLOCKS: usize = 32;
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
    pub fn of(agents: u32, proposals: u32) -> Self {
        let stride = agents.next_power_of_two();
        let mut shift = 0;
        while (1 << shift) < proposals && stride << (shift + 1) <= CELLS {
            shift += 1;
        }
        Self { stride: stride.trailing_zeros(), shift }
    }

    /// Bits of the cell of an agent, below those of its proposal.
    pub fn stride(self) -> u32 {
        self.stride
    }

    /// Bits of a cell's number within its partition.
    fn bits(self) -> u32 {
        self.stride + self.shift
    }

    /// The cell within its partition that any number of a cell ends in.
    #[inline(always)]
    pub fn within(self, cell: u32) -> usize {
        (cell & ((1 << self.bits()) - 1)) as usize
    }

    fn partitions(self, proposals: u32) -> usize {
        proposals.div_ceil(1 << self.shift) as usize
    }

    /// Proposals of the largest partition, and numbers of cells that they take.
    fn largest(self, agents: u32, proposals: u32) -> (usize, usize) {
        let together = (1usize << self.shift).min(proposals as usize);
        (together, ((together - 1) << self.stride) + agents as usize)
    }

    /// The cells of any partition.
    pub fn cells(self, agents: u32, proposals: u32, values: u32) -> Cells {
        let (proposals, length) = self.largest(agents, proposals);
        Cells::new(length, proposals, values)
    }

    /// Bytes that these take.
    pub fn cells_bytes(self, agents: u32, proposals: u32, values: u32) -> usize {
        let (proposals, length) = self.largest(agents, proposals);
        Cells::bytes(length, proposals, values)
    }
}

/// Partitions that the cells of these sizes make.
pub fn count(agents: u32, proposals: u32) -> usize {
    Place::of(agents, proposals).partitions(proposals)
}

/// Blocks that hold any batch: all but one of each chain's are full.
fn blocks_max(partitions: usize, votes_max: u32) -> usize {
    if partitions == 1 { 0 } else { votes_max as usize / (BLOCK / PAIR) + 2 * partitions }
}

/// Which block follows which.
struct Chains {
    /// The block before each block in its chain, or `NONE`.
    previous: Vec<u32>,
    /// The last block of each chain, or `NONE`.
    last: Vec<u32>,
    used: u32,
}

impl Chains {
    /// Gives a chain the next free block; returns its first word.
    #[inline(never)]
    fn grow(&mut self, chain: usize) -> u32 {
        let block = self.used;
        self.used += 1;
        self.previous[block as usize] = self.last[chain];
        self.last[chain] = block;
        block * BLOCK as u32
    }
}

pub struct Partitions {
    place: Place,
    proposals: u32,
    /// Tickets without the bits that name the partition's proposals, or pairs, in blocks.
    words: Vec<u32>,
    /// Where the next word of each chain goes; a multiple of `BLOCK` asks for a new block. The
    /// chains of tickets come first.
    cursors: Vec<u32>,
    chains: Chains,
}

impl Partitions {
    pub fn new(agents: u32, proposals: u32, votes_max: u32) -> Self {
        let place = Place::of(agents, proposals);
        let chains = 2 * place.partitions(proposals);
        let blocks = blocks_max(chains / 2, votes_max);
        Self {
            place,
            proposals,
            words: filled(blocks * BLOCK),
            cursors: vec![0; chains],
            chains: Chains { previous: vec![NONE; blocks], last: vec![NONE; chains], used: 0 },
        }
    }

    /// Bytes that blocks and chains take.
    pub fn bytes(agents: u32, proposals: u32, votes_max: u32) -> u64 {
        let count = count(agents, proposals);
        (blocks_max(count, votes_max) * (4 * BLOCK + 4) + 2 * count * 8) as u64
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn count(&self) -> usize {
        self.cursors.len() / 2
    }

    pub fn single(&self) -> bool {
        self.count() == 1
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

    /// Sets votes with tickets apart.
    pub fn put(&mut self, tickets: &[u64]) {
        let bits = self.place.bits() + CODE_BITS;
        let cursors = &mut self.cursors[..];
        for &ticket in tickets {
            let cursor = &mut cursors[(ticket >> bits) as usize];
            if *cursor % BLOCK as u32 == 0 {
                *cursor = self.chains.grow((ticket >> bits) as usize);
            }
            // Every time: asking only at a line's first word is a branch wrongly foreseen.
            prefetch(&self.words, *cursor as usize + LINE);
            self.words[*cursor as usize] = ticket as u32;
            *cursor += 1;
        }
    }

    /// Sets a vote without a ticket apart.
    #[inline(always)]
    pub fn put_other(&mut self, cell: u64, rank: u32) {
        let chain = self.count() + (cell >> self.place.bits()) as usize;
        let mut cursor = self.cursors[chain];
        if cursor % BLOCK as u32 == 0 {
            cursor = self.chains.grow(chain);
        }
        prefetch(&self.words, cursor as usize + LINE);
        let pair = &mut self.words[cursor as usize..][..PAIR];
        pair.copy_from_slice(&[self.place.within(cell as u32) as u32, rank]);
        self.cursors[chain] = cursor + PAIR as u32;
    }

    /// The blocks of a partition's tickets, the last one first.
    pub fn tickets(&self, partition: usize) -> Blocks<'_> {
        self.chain(partition)
    }

    /// The blocks of a partition's other votes.
    pub fn others(&self, partition: usize) -> Blocks<'_> {
        self.chain(self.count() + partition)
    }

    fn chain(&self, chain: usize) -> Blocks<'_> {
        let end = self.cursors[chain] as usize;
        Blocks { partitions: self, block: self.chains.last[chain], end }
    }

    fn full(&self, block: u32) -> &[u32] {
        match block {
            NONE => &[],
            _ => &self.words[block as usize * BLOCK..(block as usize + 1) * BLOCK],
        }
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
        let words = &self.partitions.words[first..self.end];
        self.block = self.partitions.chains.previous[self.block as usize];
        self.end = (self.block as usize + 1) * BLOCK;
        Some(Block { words, ahead: self.partitions.full(self.block) })
    }
}

/// One block, and the one to be read after it.
pub struct Block<'a> {
    words: &'a [u32],
    ahead: &'a [u32],
}

impl Block<'_> {
    /// Calls `file` for all votes of a block of tickets, some lines of them at a time.
    #[inline(always)]
    pub fn each(&self, mut file: impl FnMut(&[u32])) {
        for (turn, words) in self.words.chunks(LINES * LINE).enumerate() {
            for line in 0..LINES {
                prefetch(self.ahead, (turn * LINES + line) * LINE);
            }
            file(words);
        }
    }

    /// Calls `file(cell, rank)` for every vote of a block of other votes.
    #[inline(always)]
    pub fn each_other(&self, mut file: impl FnMut(u32, u32)) {
        self.each(|words| words.chunks_exact(PAIR).for_each(|pair| file(pair[0], pair[1])));
    }
}
