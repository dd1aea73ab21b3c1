//! Edges of the synthetic graphs, each a pure function of (seed, index of the edge).
//!
//! R-MAT: Chakrabarti et al., "R-MAT: A Recursive Model for Graph Mining", SDM 2004, with the
//! quadrant probabilities of Graph500 (.57, .19, .19, .05). Every edge descends 24 levels, three at
//! a time by one 16-bit draw each, so one Philox block is one edge; the 24-bit ends are then scaled
//! to the number of nodes, which for powers of two is what fewer levels would give.

use crate::random::{philox, stream_key};

/// Levels of the recursion, so also the bits of an unscaled node.
pub const LEVELS: u32 = 24;

/// Most nodes a graph may have: node numbers fit 24 bits with one value to spare.
pub const NODES_MAX: u32 = 16_000_000;

/// One random edge of the grid per this many nodes.
const NODES_PER_SHORTCUT: u64 = 1024;

/// Quadrant probabilities in hundredths: both ends low, target high, source high, both high.
const QUADRANTS: [u64; 4] = [57, 19, 19, 5];

const DOMAIN_EDGES: u64 = 0x6B67_0001;

/// Source and target.
pub type Edge = [u32; 2];

/// Edges numbered from 0, to be read in any order by any thread.
pub trait EdgeSource: Sync {
    fn nodes(&self) -> u32;

    /// Edges, self-loops (which the build drops) included.
    fn count(&self) -> u64;

    /// The edges from `first` on.
    fn read(&self, first: u64, edges: &mut [Edge]);
}

/// An edge list in memory.
pub struct Listed<'a> {
    pub nodes: u32,
    pub sources: &'a [u32],
    pub targets: &'a [u32],
}

impl EdgeSource for Listed<'_> {
    fn nodes(&self) -> u32 {
        self.nodes
    }

    fn count(&self) -> u64 {
        self.sources.len() as u64
    }

    fn read(&self, first: u64, edges: &mut [Edge]) {
        let range = first as usize..first as usize + edges.len();
        let ends = self.sources[range.clone()].iter().zip(&self.targets[range]);
        for (edge, (&source, &target)) in edges.iter_mut().zip(ends) {
            *edge = [source, target];
        }
    }
}

/// Edges in memory, as they were read.
pub struct Given {
    pub nodes: u32,
    pub edges: Vec<Edge>,
}

impl EdgeSource for Given {
    fn nodes(&self) -> u32 {
        self.nodes
    }

    fn count(&self) -> u64 {
        self.edges.len() as u64
    }

    fn read(&self, first: u64, edges: &mut [Edge]) {
        let first = first as usize;
        edges.copy_from_slice(&self.edges[first..first + edges.len()]);
    }
}

/// The power-law graph: few hubs, small diameter.
pub struct Rmat {
    nodes: u32,
    edges: u64,
    key: [u32; 2],
    /// For each 16-bit draw, three levels: source bits in the upper three, target in the lower.
    descents: Box<[u8; 1 << 16]>,
}

impl Rmat {
    pub fn new(nodes: u32, edges_per_node: u32, seed: u64) -> Self {
        let mut descents = Box::new([0; 1 << 16]);
        let mut cumulated = 0;
        for descent in 0..64_u8 {
            let quadrants = [descent >> 4, descent >> 2 & 3, descent & 3];
            let weight: u64 = quadrants.iter().map(|&each| QUADRANTS[usize::from(each)]).product();
            let ends =
                quadrants.iter().fold(0, |ends, each| ends << 1 | (each >> 1) << 3 | each & 1);
            let first = (cumulated << 16) / 1_000_000;
            cumulated += weight;
            let last = (cumulated << 16) / 1_000_000;
            descents[first as usize..last as usize].fill(ends);
        }
        let edges = u64::from(nodes) * u64::from(edges_per_node);
        Self { nodes, edges, key: stream_key(seed, DOMAIN_EDGES), descents }
    }

    #[inline]
    fn edge(&self, index: u64) -> Edge {
        let words = philox([index as u32, (index >> 32) as u32, 0, 0], self.key);
        let (mut source, mut target) = (0_u32, 0_u32);
        for word in words {
            for draw in [word & 0xFFFF, word >> 16] {
                let ends = u32::from(self.descents[draw as usize]);
                source = source << 3 | ends >> 3;
                target = target << 3 | ends & 7;
            }
        }
        [self.scaled(source), self.scaled(target)]
    }

    #[inline]
    fn scaled(&self, node: u32) -> u32 {
        ((u64::from(node) * u64::from(self.nodes)) >> LEVELS) as u32
    }
}

impl EdgeSource for Rmat {
    fn nodes(&self) -> u32 {
        self.nodes
    }

    fn count(&self) -> u64 {
        self.edges
    }

    fn read(&self, first: u64, edges: &mut [Edge]) {
        for (index, edge) in (first..).zip(edges) {
            *edge = self.edge(index);
        }
    }
}

/// The graph of high diameter: a square grid and one shortcut per 1024 nodes.
pub struct Grid {
    nodes: u32,
    width: u32,
    key: [u32; 2],
}

impl Grid {
    pub fn new(nodes: u32, seed: u64) -> Self {
        Self { nodes, width: nodes.isqrt(), key: stream_key(seed, DOMAIN_EDGES) }
    }

    fn edge(&self, index: u64) -> Edge {
        let lattice = 2 * u64::from(self.nodes);
        if index >= lattice {
            let shortcut = index - lattice;
            let words = philox([shortcut as u32, 0, 0, 0], self.key);
            let end = |word: u32| ((u64::from(word) * u64::from(self.nodes)) >> 32) as u32;
            return [end(words[0]), end(words[1])];
        }
        let node = (index >> 1) as u32;
        let is_right = index & 1 == 0;
        let ends_row = is_right && (node + 1) % self.width == 0;
        let other = node + if is_right { 1 } else { self.width };
        if ends_row || other >= self.nodes { [node, node] } else { [node, other] }
    }
}

impl EdgeSource for Grid {
    fn nodes(&self) -> u32 {
        self.nodes
    }

    fn count(&self) -> u64 {
        grid_edges(self.nodes)
    }

    fn read(&self, first: u64, edges: &mut [Edge]) {
        for (index, edge) in (first..).zip(edges) {
            *edge = self.edge(index);
        }
    }
}

/// Edges of the grid graph, the self-loops at its rim included.
fn grid_edges(nodes: u32) -> u64 {
    2 * u64::from(nodes) + u64::from(nodes) / NODES_PER_SHORTCUT
}
