//! One worker's searches: the query of a request, its answer, and the check of that answer.

use std::sync::Arc;

use super::Search;
use super::check::Checker;
use super::scan::{Scan, Scratch, Slot};
use super::top::Found;
use crate::operations::{Completion, Fault, Pause, Status, Verdict};

/// Queries drawn between two pauses, 20 µs each at 4096 dimensions.
const PAUSE_MEMBERS: usize = 8;

/// The three ways to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchKind {
    Single,
    Batch,
    Approximate,
}

impl SearchKind {
    /// The kind of an op's name.
    #[must_use]
    pub fn named(op: &str) -> Option<Self> {
        match op {
            "semantic_search" => Some(Self::Single),
            "semantic_search_batch" => Some(Self::Batch),
            "approximate_search" => Some(Self::Approximate),
            _ => None,
        }
    }

    /// Answers the queries in `slots`.
    pub fn search(
        self,
        scan: &mut Scan<'_>,
        slots: &mut [Slot],
        probes: usize,
        pause: &mut dyn Pause,
    ) {
        match self {
            Self::Batch => scan.exact(slots, pause),
            Self::Single => {
                for slot in slots {
                    scan.exact(std::slice::from_mut(slot), pause);
                }
            }
            Self::Approximate => {
                for slot in slots {
                    scan.approximate(slot, probes, pause);
                }
            }
        }
    }
}

/// A worker's copy of the search: scratch and the last answers.
pub struct SearchOperation {
    search: Arc<Search>,
    scratch: Scratch,
    slots: Vec<Slot>,
    checker: Checker,
    last: Option<Last>,
}

#[derive(Clone, Copy)]
struct Last {
    kind: SearchKind,
    key: u64,
    count: usize,
}

impl SearchOperation {
    pub(super) fn new(search: Arc<Search>) -> Self {
        let parameters = search.parameters;
        let slot = Slot::new(parameters.dims as usize, parameters.top as usize);
        Self {
            scratch: Scratch::new(&search.index),
            slots: vec![slot; parameters.batch as usize],
            checker: Checker::new(&parameters),
            last: None,
            search,
        }
    }

    /// Answers the request `key`; units are queries.
    pub fn run(&mut self, kind: SearchKind, key: u64, pause: &mut dyn Pause) -> Completion {
        let count = if kind == SearchKind::Batch { self.slots.len() } else { 1 };
        let slots = &mut self.slots[..count];
        for (member, slot) in slots.iter_mut().enumerate() {
            self.search.query(key, member as u32, &mut slot.row);
            if member % PAUSE_MEMBERS == PAUSE_MEMBERS - 1 {
                pause.point();
            }
        }
        let mut scan = Scan { index: &self.search.index, scratch: &mut self.scratch };
        kind.search(&mut scan, slots, self.search.parameters.probes as usize, pause);
        self.last = Some(Last { kind, key, count });
        Completion { status: Status::Ok, units: count as u64 }
    }

    /// Damages a result of the last `run`, which one `draw` decides: a bit of its id or score, the
    /// result missing, or standing in the next one's place too.
    pub fn damage(&mut self, fault: Fault, draw: u64) -> bool {
        let Some(last) = self.last else { return false };
        let found = self.slots[draw as usize % last.count].top.found_mut();
        if found.is_empty() || (fault == Fault::DoubledResult && found.len() == 1) {
            return false;
        }
        let place = (draw >> 8) as usize % found.len();
        let next = (place + 1) % found.len();
        let Found { id, score } = found[place];
        let bit = draw >> 16 & 63;
        match fault {
            Fault::FlippedBit if bit < 32 => found[place].id = id ^ 1 << bit,
            Fault::FlippedBit => found[place].score = f64::from_bits(score.to_bits() ^ 1 << bit),
            Fault::LostResult => drop(found.remove(place)),
            Fault::DoubledResult => found[next] = found[place],
        }
        true
    }

    /// Checks the answers of the last `run` (see `check`).
    pub fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        let Some(last) = self.last else { return Verdict::default() };
        let mut verdict = Verdict::default();
        for (member, slot) in self.slots[..last.count].iter().enumerate() {
            let turn = last.key.wrapping_add(member as u64);
            let exact = last.kind != SearchKind::Approximate;
            let full = exact && self.checker.is_full(turn);
            self.search.query(last.key, member as u32, self.checker.row());
            let right = self.checker.row() == slot.row.as_slice()
                && self.checker.right(&self.search, slot, exact, turn, pause)
                && (!full || self.checker.best_of_all(&self.search, slot, pause));
            verdict.checked += 1;
            verdict.violations += u32::from(!right);
            pause.point();
        }
        verdict
    }

    /// For tests of the checks: the answers of the last run, to be damaged.
    #[cfg(test)]
    pub fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }
}
