//! One worker of the agents: the timed path, what it keeps of an answer, and the check after.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use super::agent::STOPPED;
use super::counters::Total;
use super::parameters::Parameters;
use super::population::Population;
use super::process::PATIENCE;
use super::solitary::{self, REPORT_WORDS, mixed};
use super::swarm::Swarm;
use super::tile::{LANES, MESSAGE, SLOT_BITS, Tile, place};
use super::{Shared, audit, op};
use crate::operations::{Completion, Fault, Operation, Pause, Request, Status, Verdict};

/// Slots stepped between two pauses: about 100 µs.
const PAUSE_SLOTS: usize = 8192;
/// Agents of a checked step that are stepped again the plain way.
const SAMPLES: usize = 64;

/// What the last operation answered.
enum Answer {
    Nothing,
    /// `ids` were spawned by `key`; the slab added them up to `digest`.
    Spawned {
        swarm: usize,
        key: u64,
        digest: u64,
    },
    /// `count` were destroyed, and are in `ids`.
    Destroyed {
        swarm: usize,
        key: u64,
        count: u64,
        digest: u64,
    },
    Stepped {
        live: u64,
        stepped: u64,
        wrap: Option<u32>,
    },
    Ticked {
        live: u64,
        sent: u64,
        parity: Option<usize>,
    },
    Reported {
        key: u64,
        words: [u64; REPORT_WORDS],
        reports: u32,
    },
}

pub struct Worker {
    shared: Arc<Shared>,
    ids: Vec<u64>,
    answer: Answer,
    /// A swarm before and after a step or tick that is checked.
    before: Vec<Tile>,
    after: Vec<Tile>,
    /// Swarms that others were at.
    postponed: Vec<usize>,
}

/// One process less in the count when it goes out of scope.
struct Alive<'a>(&'a AtomicU32);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Visits every swarm once, from `first` on; those that others are at come last.
fn visit(
    population: &Population,
    first: usize,
    postponed: &mut Vec<usize>,
    pause: &mut dyn Pause,
    mut act: impl FnMut(usize, &mut Swarm),
) {
    let mut slots = 0;
    let mut serve = |index: usize, mut swarm: MutexGuard<'_, Swarm>| {
        act(index, &mut swarm);
        slots += swarm.slots();
        drop(swarm);
        if slots >= PAUSE_SLOTS {
            slots = 0;
            pause.point();
        }
    };
    for index in (first..population.swarms()).chain(0..first) {
        match population.try_lock(index) {
            Some(swarm) => serve(index, swarm),
            None => postponed.push(index),
        }
    }
    for index in postponed.drain(..) {
        serve(index, population.lock(index));
    }
}

fn digest(ids: &[u64]) -> u64 {
    ids.iter().fold(0, |sum, &id| sum.wrapping_add(mixed(id)))
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        let parameters = &shared.parameters;
        let tiles = parameters.slots() / LANES;
        Self {
            // A doubled id has room, too.
            ids: Vec::with_capacity(parameters.batch as usize + 1),
            answer: Answer::Nothing,
            before: vec![Tile::VACANT; tiles],
            after: vec![Tile::VACANT; tiles],
            postponed: Vec::with_capacity(parameters.swarms as usize),
            shared,
        }
    }

    pub fn bytes(parameters: &Parameters) -> u64 {
        let tiles = parameters.slots() / LANES;
        let words = parameters.batch as usize + 1 + parameters.swarms as usize;
        (2 * tiles * size_of::<Tile>() + 8 * words) as u64
    }

    /// Where an operation begins to look for a swarm.
    fn first(&self, key: u64) -> usize {
        let swarms = self.shared.population.swarms() as u64;
        ((u128::from(mixed(key)) * u128::from(swarms)) >> 64) as usize
    }

    /// Whether a whole swarm is checked after the operation.
    fn is_chosen(&self, key: u64) -> bool {
        let ordinal = key & ((1 << 48) - 1);
        ordinal % u64::from(self.shared.parameters.check_every) == 0
    }

    fn spawn(&mut self, key: u64) -> (Status, u64) {
        self.ids.clear();
        let (index, mut swarm) = self.shared.population.claim(self.first(key));
        let before = swarm.ledger.births;
        if !swarm.spawn(key, self.shared.parameters.batch, &mut self.ids) {
            return (Status::Rejected, self.ids.len() as u64);
        }
        let digest = swarm.ledger.births.wrapping_sub(before);
        self.answer = Answer::Spawned { swarm: index, key, digest };
        (Status::Ok, self.ids.len() as u64)
    }

    fn destroy(&mut self, key: u64, oldest: bool) -> (Status, u64) {
        self.ids.clear();
        let (index, mut swarm) = self.shared.population.claim(self.first(key));
        let (batch, before) = (self.shared.parameters.batch, swarm.ledger.deaths);
        let count = u64::from(batch).min(swarm.ledger.live);
        swarm.destroy(key, batch, oldest, &mut self.ids);
        let digest = swarm.ledger.deaths.wrapping_sub(before);
        self.answer = Answer::Destroyed { swarm: index, key, count, digest };
        (Status::Ok, self.ids.len() as u64)
    }

    /// Has every swarm `act`; keeps the slots of the chosen one before and after it, and what
    /// `noted` says of it before. Returns the live, what the acts sum up to, and what was noted.
    fn advance<Noted>(
        &mut self,
        key: u64,
        pause: &mut dyn Pause,
        noted: fn(&Swarm) -> Noted,
        act: fn(&mut Swarm) -> u64,
    ) -> (u64, u64, Option<Noted>) {
        let first = self.first(key);
        let chosen = self.is_chosen(key).then_some(first);
        let Self { shared, before, after, postponed, .. } = self;
        let (mut live, mut sum, mut note) = (0, 0, None);
        visit(&shared.population, first, postponed, pause, |index, swarm| {
            live += swarm.ledger.live;
            if chosen == Some(index) {
                before.copy_from_slice(&swarm.tiles);
                note = Some(noted(swarm));
            }
            sum += act(swarm);
            if chosen == Some(index) {
                after.copy_from_slice(&swarm.tiles);
            }
        });
        (live, sum, note)
    }

    fn step(&mut self, key: u64, pause: &mut dyn Pause) -> (Status, u64) {
        let (live, stepped, wrap) =
            self.advance(key, pause, |swarm| swarm.grid.wrap(), Swarm::step);
        self.answer = Answer::Stepped { live, stepped, wrap };
        (Status::Ok, stepped)
    }

    fn tick(&mut self, key: u64, pause: &mut dyn Pause) -> (Status, u64) {
        let parity = |swarm: &Swarm| (swarm.ledger.ticks & 1) as usize;
        let (live, sent, parity) = self.advance(key, pause, parity, |swarm| swarm.tick().sent);
        self.answer = Answer::Ticked { live, sent, parity };
        (Status::Ok, sent)
    }

    fn process(&mut self, key: u64, pause: &mut dyn Pause) -> (Status, u64) {
        let Self { shared, answer, .. } = self;
        let Shared { parameters, program, processes_alive, counters, .. } = &**shared;
        let alive = Alive(processes_alive);
        if alive.0.fetch_add(1, Ordering::Relaxed) >= parameters.processes_max {
            return (Status::Rejected, 0);
        }
        let Ok(program) = program else { return (Status::Error, 0) };
        let began = Instant::now();
        let reported = program.start(key, parameters.process_steps).and_then(|process| {
            let spent_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            counters.add(Total::ProcessStartNs, spent_ns);
            process.report(PATIENCE, &mut || pause.point())
        });
        counters.add(Total::Processes, 1);
        let Ok(words) = reported else {
            counters.add(Total::ProcessesFailed, 1);
            return (Status::Error, 0);
        };
        *answer = Answer::Reported { key, words, reports: 1 };
        (Status::Ok, 1)
    }

    /// Whether a swarm that is chosen for checking adds up.
    fn adds_up(&self, key: u64, swarm: &Swarm) -> bool {
        let chosen = self.is_chosen(key);
        self.shared.counters.add(Total::SwarmsChecked, u64::from(chosen));
        !chosen || audit::adds_up(swarm)
    }

    /// Whether the ids are those that the slab gave, and each is its agent's or, by now, past.
    fn spawned_holds(&self, swarm: usize, key: u64, expected: u64) -> bool {
        let swarm = self.shared.population.lock(swarm);
        let known = self.ids.iter().all(|&id| {
            swarm.slot(id).is_some_and(|slot| {
                let (index, lane) = place(slot);
                let (tile, generation) = (&swarm.tiles[index], id >> SLOT_BITS);
                let present = tile.generation[lane] == generation && tile.born[lane] == key;
                present || tile.generation[lane] > generation
            })
        });
        let complete = self.ids.len() == self.shared.parameters.batch as usize;
        complete && known && digest(&self.ids) == expected && self.adds_up(key, &swarm)
    }

    /// Whether the ids are those that the slab took back, and none of them is an agent's any more.
    fn destroyed_holds(&self, swarm: usize, key: u64, count: u64, expected: u64) -> bool {
        let swarm = self.shared.population.lock(swarm);
        let gone = self.ids.iter().all(|&id| {
            let slot = swarm.slot(id);
            slot.is_some_and(|slot| !swarm.is_live(slot) || swarm.id(slot) > id)
        });
        let complete = self.ids.len() as u64 == count;
        complete && gone && digest(&self.ids) == expected && self.adds_up(key, &swarm)
    }

    /// Whether the kept swarm after its tick is what the plain definition makes of it before.
    fn ticked_holds(&mut self, parity: usize) -> bool {
        audit::tick_plainly(&mut self.before, parity);
        self.before == self.after
    }

    /// Damages the kept swarm after a step or a tick; false where none was kept.
    fn plant_kept(&mut self, fault: Fault) -> bool {
        let inbox = match self.answer {
            Answer::Stepped { wrap: Some(_), .. } => None,
            Answer::Ticked { parity: Some(parity), .. } => Some(parity ^ 1),
            _ => return false,
        };
        // The checks of a step and of a tick both look at these.
        let mut sampled = audit::sampled(self.before.len() * LANES, SAMPLES).map(place);
        let Some((tile, lane)) =
            sampled.find(|&(tile, lane)| self.before[tile].state[lane] != STOPPED)
        else {
            return false;
        };
        let (before, after) = (&self.before[tile], &mut self.after[tile]);
        match (fault, inbox) {
            (Fault::FlippedBit, None) => after.x[lane] ^= 1,
            (Fault::FlippedBit, Some(inbox)) => after.inbox[inbox][lane] ^= 1,
            (Fault::LostResult, Some(inbox)) if after.inbox[inbox][lane] >= MESSAGE => {
                after.inbox[inbox][lane] -= MESSAGE;
            }
            (Fault::DoubledResult, Some(inbox)) => after.inbox[inbox][lane] += MESSAGE,
            (Fault::LostResult, None) => after.set_agent(lane, before.agent(lane)),
            (Fault::DoubledResult, None) => after.ticks[lane] += 1,
            (Fault::LostResult, Some(_)) => return false,
        }
        true
    }

    /// Makes a count one too small or one too large.
    fn plant_count(&mut self, fault: Fault) -> bool {
        let step = if fault == Fault::LostResult { u64::MAX } else { 1 };
        match &mut self.answer {
            Answer::Stepped { stepped: count, .. } | Answer::Ticked { sent: count, .. } => {
                *count = count.wrapping_add(step);
            }
            Answer::Reported { reports, .. } => *reports = reports.wrapping_add(step as u32),
            _ => return false,
        }
        true
    }

    fn plant_ids(&mut self, fault: Fault) -> bool {
        let Some(&id) = self.ids.first() else { return false };
        match fault {
            Fault::FlippedBit => self.ids[0] ^= 1 << (id % 64),
            Fault::LostResult => drop(self.ids.pop()),
            Fault::DoubledResult => self.ids.push(id),
        }
        true
    }
}

impl Operation for Worker {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        self.answer = Answer::Nothing;
        let key = request.key;
        let (status, units) = match request.op {
            op::SPAWN => self.spawn(key),
            op::DESTROY => self.destroy(key, false),
            op::DESTROY_OLDEST => self.destroy(key, true),
            op::STEP => self.step(key, pause),
            op::TICK => self.tick(key, pause),
            op::PROCESS => self.process(key, pause),
            _ => (Status::Error, 0),
        };
        Completion { status, units }
    }

    fn plant(&mut self, fault: Fault) -> bool {
        match &mut self.answer {
            Answer::Nothing => false,
            Answer::Spawned { .. } | Answer::Destroyed { .. } => self.plant_ids(fault),
            Answer::Reported { words, .. } if fault == Fault::FlippedBit => {
                words[REPORT_WORDS - 1] ^= 1 << 17;
                true
            }
            _ => self.plant_kept(fault) || fault != Fault::FlippedBit && self.plant_count(fault),
        }
    }

    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        let (mut checked, holds) = match std::mem::replace(&mut self.answer, Answer::Nothing) {
            Answer::Nothing => return Verdict::default(),
            Answer::Spawned { swarm, key, digest } => {
                (true, self.spawned_holds(swarm, key, digest))
            }
            Answer::Destroyed { swarm, key, count, digest } => {
                (true, self.destroyed_holds(swarm, key, count, digest))
            }
            Answer::Stepped { live, stepped, wrap } => {
                let (before, after) = (&self.before, &self.after);
                let kept =
                    wrap.is_none_or(|wrap| audit::stepped(before, after, wrap, SAMPLES, pause));
                (wrap.is_some(), live == stepped && kept)
            }
            Answer::Ticked { live, sent, parity } => {
                let kept = parity.is_none_or(|parity| self.ticked_holds(parity));
                (parity.is_some(), live == sent && kept)
            }
            Answer::Reported { key, words, reports } => {
                let steps = self.shared.parameters.process_steps;
                (true, reports == 1 && words == solitary::live(key, steps))
            }
        };
        checked |= !holds;
        Verdict { checked: u32::from(checked), violations: u32::from(!holds) }
    }
}
