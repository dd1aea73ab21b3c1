//! One worker's memory for traversals, shared by the op types since a worker runs one at a time.

use super::super::Pause;
use super::pages::zeroed;
use super::paths::Ending;

/// Arcs looked at between two pause points: about 100 µs of random reads.
const ARCS_PER_PAUSE: u32 = 16_384;

/// Arrays by inner node, or as long as there are nodes.
pub struct Scratch {
    pub parents: Vec<u32>,
    pub queue: Vec<u32>,
    /// Bits by node: visited, and the frontiers of two levels.
    pub visited: Vec<u64>,
    pub frontier: Vec<u64>,
    pub next: Vec<u64>,
    /// Two bits by node: which side of a bidirectional search has it. All zero between searches.
    pub sides: Vec<u64>,
    /// 64-bit words by node: the queues of a bidirectional search, or the lanes of 64 searches.
    pub lanes: [Vec<u64>; 3],
    /// How the last bidirectional search ended.
    pub ending: Ending,
}

impl Scratch {
    pub fn new(nodes: usize) -> Self {
        let mut scratch = Self {
            parents: zeroed(nodes),
            queue: zeroed(nodes),
            visited: zeroed(nodes.div_ceil(64)),
            frontier: zeroed(nodes.div_ceil(64)),
            next: zeroed(nodes.div_ceil(64)),
            sides: zeroed(nodes.div_ceil(32)),
            lanes: [zeroed(nodes), zeroed(nodes), zeroed(nodes)],
            ending: Ending::Same,
        };
        scratch.touch();
        scratch
    }

    /// Writes every page, so that no operation pays for a first touch.
    fn touch(&mut self) {
        self.parents.fill(u32::MAX);
        self.queue.fill(u32::MAX);
        let [one, two, three] = &mut self.lanes;
        let words = [
            one,
            two,
            three,
            &mut self.visited,
            &mut self.frontier,
            &mut self.next,
            &mut self.sides,
        ];
        for word in words {
            word.fill(u64::MAX);
            word.fill(0);
        }
    }

    /// Bytes of one worker's scratch memory.
    pub fn bytes(nodes: u64) -> u64 {
        (2 * 4 + 3 * 8) * nodes + (3 * nodes.div_ceil(64) + nodes.div_ceil(32)) * 8
    }
}

/// Nodes passed one after the other that take as long as an arc, which is a random read.
const NODES_PER_ARC: usize = 8;

/// Nodes passed between two looks at the meter.
pub const BLOCK_NODES: usize = 4096;

/// Counts arcs and comes to a pause point every so many.
pub struct Meter<'a> {
    pause: &'a mut dyn Pause,
    arcs: u32,
}

impl<'a> Meter<'a> {
    pub fn new(pause: &'a mut dyn Pause) -> Self {
        Self { pause, arcs: 0 }
    }

    #[inline]
    pub fn add(&mut self, arcs: usize) {
        self.arcs = self.arcs.saturating_add(arcs as u32);
        if self.arcs >= ARCS_PER_PAUSE {
            self.arcs = 0;
            self.pause.point();
        }
    }

    /// Counts nodes that were passed one after the other, beside what their arcs count.
    #[inline]
    pub fn pass(&mut self, nodes: usize) {
        self.add(nodes / NODES_PER_ARC);
    }

    /// Fills what is kept by node.
    pub fn fill<T: Copy>(&mut self, kept: &mut [T], value: T) {
        for block in kept.chunks_mut(BLOCK_NODES) {
            block.fill(value);
            self.pass(block.len());
        }
    }
}
