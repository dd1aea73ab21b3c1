//! One worker of the synthesis component: its buffers, the timed operations and the check after.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::bytes::ROUND;
use super::expansion::STRIDE;
use super::expected::{ExpansionDigest, RewriteDigest};
use super::forest::TREE_NODES;
use super::matching::PairDigest;
use super::rewriting::Rewritten;
use super::tile::Tile;
use super::tiles::Compare;
use super::{Shared, op};
use crate::operations::instructions::InstructionSet;
use crate::operations::pages::filled;
use crate::operations::{Completion, Fault, Operation, Pause, Request, Status, Verdict};

pub struct Worker {
    shared: Arc<Shared>,
    pub pairs: Vec<u64>,
    pub offsets: Vec<u32>,
    pub bytes: Vec<u8>,
    /// Bytes of the last expansion.
    pub written: usize,
    pub rewritten: Rewritten,
    tile: Box<Tile>,
    compare: Compare,
    instructions: InstructionSet,
    candidates: Vec<u32>,
    /// The op and the input of the last operation that succeeded.
    last: Option<(u8, usize)>,
}

/// An empty buffer with room for so many, every page touched.
fn room<T: Clone + Default>(length: usize) -> Vec<T> {
    let mut values = filled(length);
    values.clear();
    values
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        let instructions = InstructionSet::best();
        let parameters = &shared.parameters;
        let nodes = parameters.nodes as usize;
        let mut rewritten = Rewritten::with_capacity();
        rewritten.nodes = room(parameters.rewritten_max());
        rewritten.roots = room(nodes.div_ceil(TREE_NODES));
        Self {
            pairs: room(parameters.pairs_max()),
            offsets: filled(nodes + 1),
            bytes: filled(parameters.expansion_max() + STRIDE),
            written: 0,
            rewritten,
            tile: Box::default(),
            compare: instructions.compare(),
            instructions,
            candidates: filled(ROUND),
            last: None,
            shared,
        }
    }

    fn match_all(&mut self, index: usize, pause: &mut dyn Pause) -> Option<u64> {
        let shared = &*self.shared;
        let forest = &shared.forests[index];
        self.pairs.clear();
        shared.matcher.run(forest, &mut self.pairs, pause);
        shared.totals.matches.fetch_add(self.pairs.len() as u64, Relaxed);
        Some(forest.nodes.len() as u64)
    }

    fn expand(&mut self, index: usize, pause: &mut dyn Pause) -> Option<u64> {
        let shared = &*self.shared;
        let instances = &shared.instances[index];
        let most = self.bytes.len() - STRIDE;
        self.written = shared.expander.measure(instances, &mut self.offsets, most, pause).ok()?;
        shared.expander.write(instances, &self.offsets, &mut self.bytes, pause);
        shared.totals.expanded_bytes.fetch_add(self.written as u64, Relaxed);
        Some(instances.len() as u64)
    }

    fn transform(&mut self, index: usize, pause: &mut dyn Pause) -> Option<u64> {
        let shared = &*self.shared;
        let forest = &shared.forests[index];
        shared.rewriter.run(forest, &mut self.rewritten, pause);
        shared.totals.rewrites.fetch_add(self.rewritten.rewrites, Relaxed);
        Some(forest.nodes.len() as u64)
    }

    fn compare_templates(&mut self, pause: &mut dyn Pause) -> Option<u64> {
        let shared = &*self.shared;
        self.pairs.clear();
        let (trees, tile) = (&shared.trees, &mut self.tile);
        shared.tree_templates.run(self.compare, trees, tile, &mut self.pairs, pause);
        let compared = u64::from(shared.parameters.trees) * shared.tree_templates.len() as u64;
        Some(compared)
    }

    fn match_bytes(&mut self, pause: &mut dyn Pause) -> Option<u64> {
        let shared = &*self.shared;
        let length = shared.parameters.text_bytes as usize;
        self.pairs.clear();
        let (candidates, pairs) = (&mut self.candidates, &mut self.pairs);
        shared.byte_patterns.run(self.instructions, &shared.text, length, candidates, pairs, pause);
        Some(length as u64)
    }

    fn holds(&self, op: u8, index: usize, pause: &mut dyn Pause) -> bool {
        let expected = &self.shared.expected;
        match op {
            op::MATCH => PairDigest::of(&self.pairs, pause) == expected.matches[index],
            op::EXPAND => {
                let written = &self.bytes[..self.written];
                ExpansionDigest::of(written, pause) == expected.expansions[index]
            }
            op::TRANSFORM => {
                let Rewritten { nodes, roots, rewrites, .. } = &self.rewritten;
                RewriteDigest::of(nodes, roots, *rewrites, pause) == expected.rewrites[index]
            }
            op::TEMPLATE_COMPARE => PairDigest::of(&self.pairs, pause) == expected.templates,
            _ => PairDigest::of(&self.pairs, pause) == expected.bytes,
        }
    }

    fn plant_in_expansion(&mut self, fault: Fault) -> bool {
        let count = self.offsets.len();
        let last = self.offsets[count - 2] as usize..self.offsets[count - 1] as usize;
        match fault {
            Fault::FlippedBit if self.written > 0 => self.bytes[self.written / 2] ^= 4,
            Fault::LostResult if !last.is_empty() => self.written -= last.len(),
            Fault::DoubledResult if self.written + last.len() <= self.bytes.len() => {
                self.written += last.len();
                self.bytes.copy_within(last.clone(), last.end);
                return !last.is_empty();
            }
            _ => return false,
        }
        true
    }

    fn plant_in_forest(&mut self, fault: Fault) -> bool {
        let nodes = &mut self.rewritten.nodes;
        let Some(&last) = nodes.last() else { return false };
        let middle = nodes.len() / 2;
        match fault {
            Fault::FlippedBit => nodes[middle].value ^= 1 << 7,
            Fault::LostResult => nodes.truncate(nodes.len() - 1),
            Fault::DoubledResult => nodes.push(last),
        }
        true
    }
}

/// Damages one of the values.
fn plant_in_pairs(pairs: &mut Vec<u64>, fault: Fault) -> bool {
    let middle = pairs.len() / 2;
    let Some(&pair) = pairs.get(middle) else { return false };
    match fault {
        Fault::FlippedBit => pairs[middle] ^= 1,
        Fault::LostResult => {
            pairs.remove(middle);
        }
        Fault::DoubledResult => pairs.insert(middle, pair),
    }
    true
}

impl Operation for Worker {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        let index = self.shared.index_of(request.key);
        let units = match request.op {
            op::MATCH => self.match_all(index, pause),
            op::EXPAND => self.expand(index, pause),
            op::TRANSFORM => self.transform(index, pause),
            op::TEMPLATE_COMPARE => self.compare_templates(pause),
            op::BYTE_MATCH => self.match_bytes(pause),
            _ => None,
        };
        self.last = units.map(|_| (request.op, index));
        let status = if units.is_some() { Status::Ok } else { Status::Error };
        Completion { status, units: units.unwrap_or(0) }
    }

    fn plant(&mut self, fault: Fault) -> bool {
        match self.last {
            None => false,
            Some((op::EXPAND, _)) => self.plant_in_expansion(fault),
            Some((op::TRANSFORM, _)) => self.plant_in_forest(fault),
            Some(_) => plant_in_pairs(&mut self.pairs, fault),
        }
    }

    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        let Some((op, index)) = self.last.take() else {
            return Verdict::default();
        };
        let holds = self.holds(op, index, pause);
        Verdict { checked: 1, violations: u32::from(!holds) }
    }
}
