//! Node records of 64 bytes, found by key in an open-addressing table of 4-byte slots.
//!
//! A slot is 8 bits of the key's hash and the 24-bit node; a lookup reads one slot line, nearly
//! always in a cache, and the record's own line, which holds the whole key and settles the matter.
//! Both are asked for some keys ahead, so that many misses overlap.

use super::generate::NODES_MAX;
use super::graph::Graph;
use super::keys::{Keys, mix};
use super::pages::{filled, prefetch, zeroed};

/// The answer to a key that no node has.
pub const MISSING: u32 = u32::MAX;

/// How many keys ahead slots are asked for, and after how many more a record is read.
const AHEAD_SLOTS: usize = 64;
const AHEAD_RECORDS: usize = 48;

/// How far ahead slots are asked for while filling the table.
const AHEAD_KEYS: u64 = 16;

const EMPTY: u32 = u32::MAX;
const NODE_MASK: u32 = (1 << 24) - 1;
const _: () = assert!(NODES_MAX < NODE_MASK);

/// What is known of one node: key, node | degree << 32, six attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Record {
    pub words: [u64; 8],
}

impl Record {
    /// The record of a node, from what it is made of.
    pub fn new(keys: Keys, node: u32, degree: u32) -> Self {
        let key = keys.key(u64::from(node));
        let mut words = [key, u64::from(node) | u64::from(degree) << 32, 0, 0, 0, 0, 0, 0];
        for place in 2..8 {
            words[place] = mix(words[place - 1] ^ key);
        }
        Self { words }
    }

    /// All eight words folded into one, so that a lookup has read all of them.
    #[inline]
    pub fn digest(&self) -> u64 {
        self.words.iter().fold(0, |digest, word| digest.rotate_left(7) ^ word)
    }
}

/// The table and its records.
pub struct Table {
    slots: Vec<u32>,
    records: Vec<Record>,
    shift: u32,
}

/// Slots for so many nodes: a power of two, at most 3/4 full.
pub fn slot_count(nodes: u64) -> u64 {
    (nodes + nodes / 3 + 1).next_power_of_two()
}

impl Table {
    /// Records of all nodes of the graph; filled by `threads` threads.
    pub fn new(graph: &Graph, keys: Keys, threads: usize) -> Self {
        let nodes = graph.nodes();
        let mut records: Vec<Record> = filled(nodes);
        let part = nodes.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (first, records) in (0..nodes).step_by(part).zip(records.chunks_mut(part)) {
                scope.spawn(move || {
                    for (node, record) in (first as u32..).zip(records) {
                        *record = Record::new(keys, node, graph.degree(graph.inner[node as usize]));
                    }
                });
            }
        });
        let slots = slot_count(nodes as u64) as usize;
        let mut table = Self { slots: zeroed(slots), records, shift: 64 - slots.ilog2() };
        table.slots.fill(EMPTY);
        for node in 0..nodes as u32 {
            let ahead = keys.key(u64::from(node) + AHEAD_KEYS);
            prefetch(&table.slots, table.place(ahead).0);
            table.insert(node, keys.key(u64::from(node)));
        }
        table
    }

    fn insert(&mut self, node: u32, key: u64) {
        let (mut slot, tag) = self.place(key);
        while self.slots[slot] != EMPTY {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = tag | node;
    }

    /// The first slot of a key, and its tag (Knuth's multiplicative hashing).
    #[inline]
    fn place(&self, key: u64) -> (usize, u32) {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((hash >> self.shift) as usize, ((hash >> (self.shift - 8)) as u32) << 24)
    }

    /// The node of a key, or `MISSING`.
    #[inline]
    fn find(&self, key: u64) -> u32 {
        let (mut slot, tag) = self.place(key);
        loop {
            let entry = self.slots[slot];
            if entry == EMPTY {
                return MISSING;
            }
            let node = entry & NODE_MASK;
            if entry & !NODE_MASK == tag && self.records[node as usize].words[0] == key {
                return node;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Finds a batch of keys: the node of each, or `MISSING`, and its record's digest, or 0.
    ///
    /// Three stages some keys apart, so that no miss of a cache is waited for: a key's slots are
    /// asked for; the slot with its tag is sought, and the record that this names asked for; the
    /// record settles the matter.
    pub fn find_all(&self, keys: &[u64], nodes: &mut [u32], digests: &mut [u64]) {
        for &key in keys.iter().take(AHEAD_SLOTS) {
            prefetch(&self.slots, self.place(key).0);
        }
        for index in 0..keys.len() + AHEAD_RECORDS {
            if let Some(&key) = keys.get(index + AHEAD_SLOTS) {
                prefetch(&self.slots, self.place(key).0);
            }
            if let Some(&key) = keys.get(index) {
                nodes[index] = self.tagged(key);
                prefetch(&self.records, (nodes[index] & NODE_MASK) as usize);
            }
            if let Some(place) = index.checked_sub(AHEAD_RECORDS) {
                let node = self.settled(keys[place], nodes[place]);
                nodes[place] = node;
                digests[place] = self.records.get(node as usize).map_or(0, Record::digest);
            }
        }
    }

    /// The first slot with the tag of a key, `EMPTY` where there is none.
    #[inline]
    fn tagged(&self, key: u64) -> u32 {
        let (mut slot, tag) = self.place(key);
        loop {
            let entry = self.slots[slot];
            if entry == EMPTY || entry & !NODE_MASK == tag {
                return entry;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// The node of a key, given the first slot with its tag: one in 256 has another key's.
    #[inline]
    fn settled(&self, key: u64, entry: u32) -> u32 {
        let node = entry & NODE_MASK;
        match self.records.get(node as usize) {
            None => MISSING,
            Some(record) if record.words[0] == key => node,
            Some(_) => self.find(key),
        }
    }

    /// The bytes of the table and its records for so many nodes.
    pub fn bytes(nodes: u64) -> u64 {
        4 * slot_count(nodes) + 64 * nodes
    }

    #[cfg(test)]
    pub fn record_mut(&mut self, node: u32) -> &mut Record {
        &mut self.records[node as usize]
    }
}
