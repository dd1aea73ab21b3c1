//! One worker's hands: it moves blocks between the tiers and keeps a storm of allocations.

use std::sync::Arc;

use super::journeys::{Journey, Journeys};
use super::mover::Mover;
use super::storm::{Outcome, Storm};
use super::tiers::Tier;
use super::{OPS, Role, Shared};
use crate::operations::{Completion, Fault, Operation, Pause, Request, Status, Verdict};

/// Operations of the storm between two looks of everybody at the books of this worker.
const BOOKED_EVERY: u32 = 256;

pub struct Worker {
    shared: Arc<Shared>,
    /// Absent where the system refused what a mover needs; its operations fail.
    mover: Option<Mover>,
    storm: Option<Storm>,
    unverified: Unverified,
    violations: u32,
    unbooked: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unverified {
    Nothing,
    /// A block that is still claimed.
    Moved(usize, Tier),
    Allocated,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        let (mover, storm) = (shared.mover().ok(), shared.storm().ok());
        let unverified = Unverified::Nothing;
        Self { shared, mover, storm, unverified, violations: 0, unbooked: 0 }
    }

    fn is_checked(&self, key: u64) -> bool {
        key % self.shared.parameters.check_every == 0
    }

    fn journey(&mut self, role: Role, key: u64, pause: &mut dyn Pause) -> Completion {
        let checked = self.is_checked(key);
        let Some(mover) = &mut self.mover else { return FAILED };
        let tiers = &self.shared.tiers;
        let first = tiers.draws.block(key, tiers.blocks.len());
        let mut journeys = Journeys { tiers, totals: &self.shared.totals, mover };
        let Journey { status, bytes, block, violations } = match role {
            Role::Migrate => journeys.migrate(first, pause),
            _ => journeys.round_trip(first, pause),
        };
        self.violations += violations;
        match block {
            Some((index, tier)) if checked => self.unverified = Unverified::Moved(index, tier),
            Some((index, _)) => tiers.release(index),
            None => {}
        }
        Completion { status, units: bytes }
    }

    fn allocate(&mut self, key: u64, pause: &mut dyn Pause) -> Completion {
        let checked = self.is_checked(key);
        let Some(storm) = &mut self.storm else { return FAILED };
        let asked = self.shared.allocation(key);
        let outcome = storm.step(asked, key, checked, pause);
        self.unbooked += 1;
        if self.unbooked == BOOKED_EVERY {
            self.book();
        }
        if outcome != Outcome::Placed {
            return Completion { status: Status::Rejected, units: 0 };
        }
        if checked {
            self.unverified = Unverified::Allocated;
        }
        Completion { status: Status::Ok, units: asked.bytes }
    }

    /// Adds what this worker's storm has counted to what everybody sees.
    fn book(&mut self) {
        self.unbooked = 0;
        if let Some(storm) = &mut self.storm {
            let books = storm.take_books();
            self.violations += u32::try_from(books.broken).unwrap_or(u32::MAX);
            self.shared.gauges.add(&books);
        }
    }

    /// Gives back a block that nobody has verified.
    fn let_go(&mut self) {
        if let Unverified::Moved(index, _) = self.unverified {
            self.shared.tiers.release(index);
        }
        self.unverified = Unverified::Nothing;
    }

    fn verify_block(&mut self, index: usize, tier: Tier, pause: &mut dyn Pause) -> bool {
        let Some(mover) = &mut self.mover else { return false };
        let Shared { tiers, totals, .. } = &*self.shared;
        let mut journeys = Journeys { tiers, totals, mover };
        let right = journeys.is_right(index, tier, pause);
        if !right {
            journeys.repair(index);
        }
        right
    }

    fn verify_storm(&mut self) -> bool {
        let Some(storm) = &mut self.storm else { return false };
        let right = storm.is_right();
        if !right {
            storm.restart();
        }
        if let Some(share) = storm.source().fragmentation() {
            self.shared.gauges.sample_fragmentation(share);
        }
        right
    }
}

const FAILED: Completion = Completion { status: Status::Error, units: 0 };

impl Operation for Worker {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        if self.unverified != Unverified::Nothing {
            self.let_go();
        }
        let (_, role) = OPS[usize::from(request.op)];
        match role {
            Role::Allocate => self.allocate(request.key, pause),
            Role::Migrate | Role::RoundTrip => self.journey(role, request.key, pause),
        }
    }

    fn plant(&mut self, fault: Fault) -> bool {
        let Shared { tiers, totals, .. } = &*self.shared;
        match (self.unverified, &mut self.storm, &mut self.mover) {
            (Unverified::Allocated, Some(storm), _) => storm.plant(fault),
            (Unverified::Moved(index, _), _, Some(mover)) => {
                Journeys { tiers, totals, mover }.plant(index, fault)
            }
            _ => false,
        }
    }

    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        let checked = self.unverified != Unverified::Nothing;
        let right = match self.unverified {
            Unverified::Nothing => true,
            Unverified::Moved(index, tier) => self.verify_block(index, tier, pause),
            Unverified::Allocated => self.verify_storm(),
        };
        self.let_go();
        let violations = std::mem::take(&mut self.violations) + u32::from(!right);
        Verdict { checked: u32::from(checked || violations > 0), violations }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.let_go();
        if let Some(storm) = &mut self.storm {
            storm.drain();
        }
        self.book();
        self.shared.keep(self.mover.take(), self.storm.take());
    }
}

#[cfg(test)]
mod tests;
