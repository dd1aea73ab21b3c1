//! The cells of a ballot box: what is held of each agent's votes on a proposal, one byte each.
//!
//! Nearly every vote is its agent's only one and bears sequence number 0, so that its value alone
//! says all of it. A cell that must hold more points at the word beside it, which is written before
//! it is read and so needs no clearing: what is emptied, and kept in the cache, is the bytes.

use crate::operations::pages::filled;

/// A cell without a vote.
const EMPTY: u8 = 0;
/// A cell whose word says what it holds.
const SPILLED: u8 = u8::MAX;
/// Values below this fit into a cell, as their codes: the value plus one.
pub const CODES: u32 = SPILLED as u32 - 1;
/// Set in a word whose agent voted for two values.
const EQUIVOCATED: u32 = 1 << 31;

/// Counters of one (proposal, value) that votes take turns in, as a power of two: an increment
/// waits for the one before it where both are of the same counter, and most votes name one value.
const TURN_BITS: u32 = 2;
/// Counters above which votes seldom meet in one of them: 16 KiB with all their turns.
const FEW: usize = 1024;

pub struct Cells {
    codes: Vec<u8>,
    words: Vec<u32>,
    /// First votes with a code, by proposal, value and turn.
    counters: Vec<u32>,
    /// Values that have a code.
    values: usize,
    turn_bits: u32,
}

/// Counters of as many proposals, and the turns of each as a power of two.
fn counters(proposals: usize, values: u32) -> (usize, u32) {
    let counters = proposals * values.min(CODES) as usize;
    (counters, if counters <= FEW { TURN_BITS } else { 0 })
}

impl Cells {
    /// Cells of up to `proposals` proposals.
    pub fn new(length: usize, proposals: usize, values: u32) -> Self {
        let (counters, turn_bits) = counters(proposals, values);
        Self {
            codes: filled(length),
            words: filled(length),
            counters: filled(counters << turn_bits),
            values: values.min(CODES) as usize,
            turn_bits,
        }
    }

    /// Bytes that they take.
    pub fn bytes(length: usize, proposals: usize, values: u32) -> usize {
        let (counters, turn_bits) = counters(proposals, values);
        length * (size_of::<u8>() + size_of::<u32>()) + size_of::<u32>() * (counters << turn_bits)
    }

    pub fn clear(&mut self) {
        self.codes.fill(EMPTY);
        self.counters.fill(0);
    }

    /// Opens the cells for votes on as many proposals as `evidence` has, 2^`stride` apart; `counts`
    /// are theirs, row by row.
    pub fn filing<'a>(
        &'a mut self,
        stride: u32,
        counts: &'a mut [u32],
        evidence: &'a mut [u32],
    ) -> Filing<'a> {
        Filing {
            codes: &mut self.codes,
            words: &mut self.words,
            counters: &mut self.counters,
            coded: self.values,
            turn_bits: self.turn_bits,
            values: counts.len() / evidence.len(),
            counts,
            evidence,
            stride,
        }
    }

    /// Adds what was counted to `counts`, row by row of all values.
    pub fn settle(&self, counts: &mut [u32], values: usize) {
        let rows = self.counters.chunks_exact(self.values << self.turn_bits);
        for (row, counters) in counts.chunks_exact_mut(values).zip(rows) {
            for (count, turns) in row.iter_mut().zip(counters.chunks_exact(1 << self.turn_bits)) {
                *count = turns.iter().fold(*count, |sum, turn| sum.wrapping_add(*turn));
            }
        }
    }
}

/// What became of valid votes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filed {
    pub tallied: u64,
    pub duplicates: u64,
    /// Agents caught voting for two values.
    pub equivocations: u64,
}

impl Filed {
    pub fn merge(&mut self, other: Self) {
        self.tallied += other.tallied;
        self.duplicates += other.duplicates;
        self.equivocations += other.equivocations;
    }
}

/// Cells opened for votes.
pub struct Filing<'a> {
    codes: &'a mut [u8],
    words: &'a mut [u32],
    counters: &'a mut [u32],
    coded: usize,
    turn_bits: u32,
    /// What the counters do not hold; below zero, so to speak, where a first vote with a code gave
    /// way to another.
    counts: &'a mut [u32],
    evidence: &'a mut [u32],
    values: usize,
    stride: u32,
}

impl Filing<'_> {
    /// Files votes with sequence number 0, given as cells and the codes of their values.
    #[inline(always)]
    pub fn plain(&mut self, votes: impl ExactSizeIterator<Item = (usize, u8)>) -> Filed {
        // Totals of its own, as `self` lies in memory where a contradiction is looked into.
        let (length, mut tallied, mut equivocations) = (votes.len() as u64, 0, 0);
        let turns = (1 << self.turn_bits) - 1;
        for (place, (cell, code)) in votes.enumerate() {
            let held = self.codes[cell];
            let fresh = held == EMPTY;
            // Whether a vote is its agent's first cannot be foreseen, that a repeat is exact can:
            // only the latter may be a branch.
            let kept = if fresh { code } else { held };
            self.codes[cell] = kept;
            let counter = (cell >> self.stride) * self.coded + usize::from(code) - 1;
            self.counters[counter << self.turn_bits | place & turns] += u32::from(fresh);
            tallied += u64::from(fresh);
            if kept != code {
                equivocations += self.contradict(cell, u32::from(code) - 1);
            }
        }
        Filed { tallied, duplicates: length - tallied, equivocations }
    }

    /// Files a vote of any rank.
    #[inline(always)]
    pub fn any(&mut self, cell: usize, rank: u32) -> Filed {
        if self.codes[cell] == EMPTY {
            self.hold(cell, rank);
            let value = (rank & 0xFFFF) as usize;
            let count = &mut self.counts[(cell >> self.stride) * self.values + value];
            *count = count.wrapping_add(1);
            return Filed { tallied: 1, ..Filed::default() };
        }
        Filed { duplicates: 1, equivocations: self.contradict(cell, rank), tallied: 0 }
    }

    /// A further vote of an agent: the first of the two counts, and if they name two values the
    /// agent has equivocated; returns how many agents were caught.
    #[inline(never)]
    fn contradict(&mut self, cell: usize, rank: u32) -> u64 {
        let held = match self.codes[cell] {
            SPILLED => self.words[cell],
            code => u32::from(code) - 1,
        };
        let (before, first) = (held & EQUIVOCATED, held & !EQUIVOCATED);
        let (proposal, differs) = (cell >> self.stride, (first ^ rank) & 0xFFFF != 0);
        let after = if differs { EQUIVOCATED } else { before };
        let caught = (after ^ before) / EQUIVOCATED;
        self.evidence[proposal] += caught;
        if rank < first {
            let counts = &mut self.counts[proposal * self.values..][..self.values];
            for (value, change) in [(first, u32::MAX), (rank, 1)] {
                let count = &mut counts[(value & 0xFFFF) as usize];
                *count = count.wrapping_add(change);
            }
        }
        self.hold(cell, after | first.min(rank));
        u64::from(caught)
    }

    #[inline(always)]
    fn hold(&mut self, cell: usize, word: u32) {
        if word < CODES {
            self.codes[cell] = word as u8 + 1;
        } else {
            self.codes[cell] = SPILLED;
            self.words[cell] = word;
        }
    }
}
