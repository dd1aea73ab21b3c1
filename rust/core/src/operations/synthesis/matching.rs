//! All patterns against all nodes: compacted (node, pattern) pairs, by node and then by pattern.

use super::filter::{BLOCK, Look};
use super::forest::Forest;
use super::index::{Index, Rows};
use super::patterns::{Patterns, pair};
use crate::operations::Pause;
use crate::operations::instructions::InstructionSet;

/// Nodes between two pauses: 10 to 200 µs.
const PAUSE_NODES: usize = 1024;

/// Pairs digested between two pauses: about 70 µs.
const PAUSE_PAIRS: usize = 1 << 15;

/// A set of patterns, ready to be matched.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub patterns: Patterns,
    pub index: Index,
    pub look: Look,
}

impl Matcher {
    pub fn new(patterns: Patterns) -> Self {
        Self { index: Index::new(&patterns), look: InstructionSet::best().look(), patterns }
    }

    /// Appends the pairs of a forest to `pairs`.
    pub fn run(&self, forest: &Forest, pairs: &mut Vec<u64>, pause: &mut dyn Pause) {
        let length = forest.nodes.len();
        for start in (0..length).step_by(PAUSE_NODES) {
            let end = (start + PAUSE_NODES).min(length);
            for first in (start..end).step_by(BLOCK) {
                let rows = self.index.rows(self.look, forest, first);
                self.block(forest, first, &rows, pairs);
            }
            pause.point();
        }
    }

    #[inline]
    fn block(&self, forest: &Forest, first: usize, rows: &Rows, pairs: &mut Vec<u64>) {
        let mut left = rows.iter().fold(0, |all, bits| all | bits);
        while left != 0 {
            let place = left.trailing_zeros();
            left &= left - 1;
            let number = first as u32 + place;
            let before = pairs.len();
            self.index.at(&self.patterns, &forest.nodes, number, (rows, place), |pattern| {
                pairs.push(pair(number, pattern));
            });
            sort_few(&mut pairs[before..]);
        }
    }

    /// The same by the definition, comparing only what (type, count) leaves open; for checks.
    pub fn run_plainly(&self, forest: &Forest, mut found: impl FnMut(u64)) {
        let mut by_type: Vec<Vec<u32>> = vec![Vec::new(); 256];
        for pattern in 0..self.patterns.len() as u32 {
            let root = &self.patterns.of(pattern)[0];
            let typed = usize::from(root.kind());
            let is_typed = root.flags & super::patterns::TYPE != 0;
            for (kind, members) in by_type.iter_mut().enumerate() {
                if !is_typed || kind == typed {
                    members.push(pattern);
                }
            }
        }
        for number in 0..forest.nodes.len() as u32 {
            for &pattern in &by_type[usize::from(forest.kinds[number as usize])] {
                if self.patterns.matches_plainly(pattern, forest, number) {
                    found(pair(number, pattern));
                }
            }
        }
    }
}

/// Insertion sort: a node has few matches, and they come nearly sorted.
#[inline(always)]
fn sort_few(pairs: &mut [u64]) {
    for end in 1..pairs.len() {
        let (value, mut place) = (pairs[end], end);
        while place > 0 && pairs[place - 1] > value {
            pairs[place] = pairs[place - 1];
            place -= 1;
        }
        pairs[place] = value;
    }
}

/// A number that any lost, doubled, moved or altered pair changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairDigest {
    pub pairs: u64,
    pub folded: u64,
}

impl PairDigest {
    #[inline]
    pub fn add(&mut self, pair: u64) {
        // A bijection of the pair for a given state and of the state for a given pair.
        let mixed = (self.folded ^ pair).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.folded = mixed ^ mixed >> 29;
        self.pairs += 1;
    }

    pub fn of(pairs: &[u64], pause: &mut dyn Pause) -> Self {
        let mut digest = Self::default();
        for chunk in pairs.chunks(PAUSE_PAIRS) {
            chunk.iter().for_each(|&pair| digest.add(pair));
            pause.point();
        }
        digest
    }
}
