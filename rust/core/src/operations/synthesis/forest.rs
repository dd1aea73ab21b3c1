//! Forests of syntax trees: nodes linked by first child and next sibling, and their generator.

use crate::operations::pages::filled;
use crate::random::{philox, stream_key};

/// Nodes of a generated tree.
pub const TREE_NODES: usize = 64;
/// "No such node".
pub const NONE: u32 = u32::MAX;
/// Types 0 to 15 are those that base patterns match ("hot"), 16 to 63 all other generated ones.
pub const HOT_TYPES_MAX: u32 = 16;
pub const COLD_TYPES: u32 = 48;

pub const DOMAIN_FORESTS: u64 = 0x7379_0001;

/// One node; a record of 16 bytes, so that looking at a node costs one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Node {
    pub value: u32,
    pub first: u32,
    pub next: u32,
    /// Type in the lower, number of children in the upper byte.
    pub token: u16,
    pub spare: u16,
}

impl Node {
    pub fn new(kind: u8, count: u8, value: u32) -> Self {
        Self { value, first: NONE, next: NONE, token: token(kind, count), spare: 0 }
    }

    /// All that the node is, as two words.
    #[inline(always)]
    pub fn words(&self) -> [u64; 2] {
        [
            u64::from(self.value) | u64::from(self.first) << 32,
            u64::from(self.next) | u64::from(self.token) << 32,
        ]
    }

    pub fn kind(&self) -> u8 {
        self.token as u8
    }

    pub fn count(&self) -> u8 {
        (self.token >> 8) as u8
    }
}

pub fn token(kind: u8, count: u8) -> u16 {
    u16::from(kind) | u16::from(count) << 8
}

/// Trees side by side. Types, counts and eleven bits of the values also lie apart: the first look
/// at a node reads 4 bytes.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    pub nodes: Vec<Node>,
    pub kinds: Vec<u8>,
    pub counts: Vec<u8>,
    /// Lowest byte of the values.
    pub marks: Vec<u8>,
    /// The next three bits.
    pub submarks: Vec<u8>,
    pub roots: Vec<u32>,
}

/// What decides every generated forest of a component.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub key: [u32; 2],
    pub salt: u32,
    pub nodes: usize,
    pub hot_types: u32,
    pub values: u32,
    /// A node is hot where its draw is below this, of 2^32.
    pub hot_below: u64,
}

impl Recipe {
    pub fn new(parameters: &super::Parameters, seed: u64) -> Self {
        let key = stream_key(seed, DOMAIN_FORESTS);
        Self {
            key,
            salt: key[0] ^ key[1],
            nodes: parameters.nodes as usize,
            hot_types: parameters.hot_types(),
            values: parameters.values,
            hot_below: (parameters.selectivity * 4_294_967_296.0) as u64,
        }
    }

    /// The hash of the value number `number`; hot and cold nodes have different values.
    pub fn value(&self, number: u32, hot: bool) -> u32 {
        mixed((number << 1 | u32::from(hot)) ^ self.salt)
    }

    /// A hash that no generated node has.
    pub fn absent_value(&self, number: u32) -> u32 {
        mixed((number | 1 << 31) ^ self.salt)
    }

    /// The forest number `index`: trees of 64 nodes in preorder.
    ///
    /// A node goes down from the one before it, or as many levels up first as its draw has zero
    /// bits at the end, so that depths are those of a random walk.
    pub fn forest(&self, index: u32) -> Forest {
        let mut forest = Forest {
            nodes: filled(self.nodes),
            kinds: filled(self.nodes),
            counts: filled(self.nodes),
            marks: filled(self.nodes),
            submarks: filled(self.nodes),
            roots: (0..self.nodes as u32).step_by(TREE_NODES).collect(),
        };
        let mut path = [(0u32, NONE); TREE_NODES];
        let mut depth = 0usize;
        for number in 0..self.nodes {
            let words = philox([number as u32, index, 0, 0], self.key);
            let is_root = number % TREE_NODES == 0;
            let up = (words[0] | 1 << 31).trailing_zeros() as usize;
            depth = if is_root { 0 } else { (depth + 1).saturating_sub(up).max(1) };
            let hot = u64::from(words[3]) < self.hot_below;
            let kind = if hot {
                skewed(words[1], self.hot_types)
            } else {
                HOT_TYPES_MAX + skewed(words[1], COLD_TYPES)
            };
            let value = self.value(skewed(words[2], self.values), hot);
            forest.nodes[number] = Node::new(kind as u8, 0, value);
            path[depth] = (number as u32, NONE);
            if !is_root {
                let (parent, last) = path[depth - 1];
                if last == NONE {
                    forest.nodes[parent as usize].first = number as u32;
                } else {
                    forest.nodes[last as usize].next = number as u32;
                }
                forest.nodes[parent as usize].token += 1 << 8;
                path[depth - 1].1 = number as u32;
            }
        }
        forest.split();
        forest
    }
}

/// Eleven bits of a value hash: a byte and three more.
pub fn marks(value: u32) -> [u8; 2] {
    [value as u8, (value >> 8) as u8 & 7]
}

/// A draw below `bound` that prefers small numbers: the product of two uniform ones.
pub fn skewed(word: u32, bound: u32) -> u32 {
    let product = u64::from(word & 0xFFFF) * u64::from(word >> 16);
    ((product * u64::from(bound)) >> 32) as u32
}

/// A uniform draw below `bound`.
pub fn below(word: u32, bound: u32) -> u32 {
    ((u64::from(word) * u64::from(bound)) >> 32) as u32
}

/// A bijection of words (C. Wellons, "Prospecting for hash functions", lowbias32).
pub fn mixed(mut word: u32) -> u32 {
    word = (word ^ word >> 16).wrapping_mul(0x7FEB_352D);
    word = (word ^ word >> 15).wrapping_mul(0x846C_A68B);
    word ^ word >> 16
}

impl Forest {
    /// Copies what is looked at first to where it is read.
    pub fn split(&mut self) {
        for (number, node) in self.nodes.iter().enumerate() {
            self.kinds[number] = node.kind();
            self.counts[number] = node.count();
            [self.marks[number], self.submarks[number]] = marks(node.value);
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.nodes.len() * (size_of::<Node>() + 4) + size_of_val(self.roots.as_slice())
    }

    /// The children of a node, in order.
    pub fn children(&self, number: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.nodes[number as usize].first;
        std::iter::successors(Some(first), |&child| Some(self.nodes[child as usize].next))
            .take(usize::from(self.nodes[number as usize].count()))
    }

    /// Says what keeps this from being a forest: every node is in exactly one place, links are in
    /// range, counts are those of the links.
    ///
    /// # Errors
    /// The first node at fault.
    pub fn check(&self) -> Result<(), String> {
        let mut parents: Vec<bool> = vec![false; self.nodes.len()];
        let mut claim = |number: u32| match parents.get_mut(number as usize) {
            None => Err(format!("there is no node {number}")),
            Some(true) => Err(format!("node {number} is in two places")),
            Some(claimed) => {
                *claimed = true;
                Ok(())
            }
        };
        let mut open = Vec::new();
        for &root in &self.roots {
            claim(root)?;
            open.push(root);
        }
        let mut reached = 0;
        while let Some(number) = open.pop() {
            reached += 1;
            let node = &self.nodes[number as usize];
            let (mut child, mut children) = (node.first, 0);
            while child != NONE {
                claim(child)?;
                open.push(child);
                children += 1;
                child = self.nodes[child as usize].next;
            }
            if children != usize::from(node.count()) {
                return Err(format!("node {number} has {children} children, not {}", node.count()));
            }
        }
        if reached != self.nodes.len() {
            return Err(format!("{} nodes hang on no root", self.nodes.len() - reached));
        }
        Ok(())
    }
}
