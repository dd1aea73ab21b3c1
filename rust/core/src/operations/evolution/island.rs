//! One worker's island: a population for each fitness function, and the generation after it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::breed::{Brood, Family, Scratch, TILE};
use super::definition;
use super::parameters::{BOUND, Plan};
use super::population::{Digest, Population, fitness_of, individual_of, ranked};
use super::{OPS, Shared};
use crate::operations::own_time::OwnTime;
use crate::operations::{Completion, Fault, Operation, Pause, Request, Status, Verdict};

/// Genes bred between two pauses: 10 to 200 us, by the CPU's vectors and the fitness function.
const CHUNK_GENES: usize = 16 << 10;
/// Children that a check makes again by the definition.
const RECOMPUTED: usize = 2;

/// The way of one population to its target fitness.
#[derive(Clone, Copy, Default)]
struct Search {
    target: f32,
    generations: u64,
    spent_ns: u64,
    reached: bool,
}

/// The last generation, as its check needs it.
#[derive(Clone, Copy)]
pub struct Last {
    pub request: Request,
    pub digest: Digest,
}

pub struct Island {
    shared: Arc<Shared>,
    /// One for each op type.
    pub populations: Vec<Population>,
    searches: Vec<Search>,
    /// Where the next generation goes; after `run` it is the one before.
    spare: Population,
    scratch: Scratch,
    pub last: Option<Last>,
}

/// Children of a chunk: whole tiles.
pub fn chunk_children(plan: &Plan) -> usize {
    (CHUNK_GENES / plan.parameters.genome).next_multiple_of(TILE)
}

/// Ranks every individual of a population whose genes were set.
pub fn rank_all(shared: &Shared, kind: usize, population: &mut Population) {
    let plan = &shared.plan;
    for individual in 0..plan.parameters.population {
        let fitness = (shared.path.judge[kind])(plan, population.row(plan, individual));
        population.ranks[individual] = ranked(fitness, individual);
    }
    population.lead(0..plan.parameters.population);
}

/// Breeds the generation after `before` into `after`, `children` at a time; returns its digest and
/// how many genes mutated.
pub fn breed_generation(
    shared: &Shared,
    request: Request,
    (before, after): (&Population, &mut Population),
    (scratch, children): (&mut Scratch, usize),
    pause: &mut dyn Pause,
) -> (Digest, u64) {
    let (plan, path) = (&shared.plan, &shared.path);
    let (lines, elites) = (plan.lines(), plan.parameters.elites);
    let (mut digest, mut mutated) = (Digest::default(), 0);
    for (place, &leader) in before.leaders.iter().enumerate() {
        let row = before.row(plan, individual_of(leader));
        after.rows[place * lines..][..lines].copy_from_slice(row);
        after.ranks[place] = ranked(fitness_of(leader), place);
        if (place + 1) % children == 0 {
            pause.point();
        }
    }
    add_rows(shared, after, 0..elites, &mut digest, pause);
    after.lead(0..elites);
    let family = Family { plan, rows: &before.rows, ranks: &before.ranks, key: request.key };
    for first in (elites..plan.parameters.population).step_by(children) {
        let end = plan.parameters.population.min(first + children);
        (path.breed[usize::from(request.op)])(
            &family,
            &mut Brood {
                first,
                rows: &mut after.rows[first * lines..end * lines],
                ranks: &mut after.ranks[first..end],
                scratch,
                digest: &mut digest,
                mutated: &mut mutated,
            },
        );
        after.lead(first..end);
        pause.point();
    }
    (digest, mutated)
}

/// Adds the genes and ranks of these individuals to a digest, a chunk at a time.
fn add_rows(
    shared: &Shared,
    population: &Population,
    individuals: Range<usize>,
    digest: &mut Digest,
    pause: &mut dyn Pause,
) {
    let (plan, children) = (&shared.plan, chunk_children(&shared.plan));
    let lines = plan.lines();
    for first in individuals.clone().step_by(children) {
        let chunk = first..individuals.end.min(first + children);
        let rows = &population.rows[first * lines..chunk.end * lines];
        (shared.path.sum)(plan, first, rows, digest);
        for individual in chunk {
            digest.add_rank(individual, lines, population.ranks[individual]);
        }
        pause.point();
    }
}

impl Island {
    /// An island whose populations are all the first one; every page of it is touched.
    pub fn new(shared: Arc<Shared>) -> Self {
        let plan = &shared.plan;
        let mut first = Population::new(plan);
        (shared.path.settle)(plan, 0, &mut first.rows);
        let populations: Vec<Population> = (0..OPS.len())
            .map(|kind| {
                let mut population = Population::new(plan);
                population.rows.copy_from_slice(&first.rows);
                rank_all(&shared, kind, &mut population);
                shared.best[kind].offer(population.best());
                population
            })
            .collect();
        let share = plan.parameters.target_share as f32;
        let searches = populations
            .iter()
            .map(|population| Search { target: share * population.best(), ..Search::default() })
            .collect();
        let scratch = Scratch::new(plan);
        Self { populations, searches, spare: first, scratch, last: None, shared }
    }

    fn count(&mut self, kind: usize, mutated: u64, spent_ns: u64) {
        let parameters = &self.shared.plan.parameters;
        let counters = &self.shared.counters;
        let children = (parameters.population - parameters.elites) as u64;
        counters.generations.fetch_add(1, Relaxed);
        counters.individuals.fetch_add(parameters.population as u64, Relaxed);
        counters.genes.fetch_add(children * parameters.genome as u64, Relaxed);
        counters.genes_mutated.fetch_add(mutated, Relaxed);
        let best = self.populations[kind].best();
        self.shared.best[kind].offer(best);
        let search = &mut self.searches[kind];
        if search.reached {
            return;
        }
        search.generations += 1;
        search.spent_ns += spent_ns;
        search.reached = best <= search.target;
        if search.reached {
            counters.targets_reached.fetch_add(1, Relaxed);
            counters.generations_to_target.fetch_add(search.generations, Relaxed);
            counters.ns_to_target.fetch_add(search.spent_ns, Relaxed);
        }
    }

    /// Whether the best of before are there unchanged, at the front and in order, and lead still.
    fn elites_kept(&self, after: &Population) -> bool {
        let plan = &self.shared.plan;
        let kept = self.spare.leaders.iter().enumerate().all(|(place, &leader)| {
            after.row(plan, place) == self.spare.row(plan, individual_of(leader))
                && after.ranks[place] == ranked(fitness_of(leader), place)
        });
        kept && after.best() <= self.spare.best()
    }

    /// Whether a child has the genes that the definition gives it, within their bounds, and the
    /// fitness that double precision gives these.
    fn child_agrees(&self, after: &Population, request: Request, individual: usize) -> bool {
        let plan = &self.shared.plan;
        let row = after.row(plan, individual);
        let made = definition::child(plan, &self.spare, individual, request.key);
        let genes = row.iter().flat_map(|line| line.0);
        let same = genes.zip(made).all(|(gene, made)| {
            gene.to_bits() == made.gene.to_bits()
                && gene.abs() <= BOUND
                && (made.mutated || made.parents.contains(&gene))
        });
        let (fitness, off) = definition::fitness(plan, request.op, row);
        same && (f64::from(fitness_of(after.ranks[individual])) - fitness).abs() <= off
    }

    fn holds(&self, last: &Last, pause: &mut dyn Pause) -> bool {
        let Last { request, digest } = last;
        let plan = &self.shared.plan;
        let (population, elites) = (plan.parameters.population, plan.parameters.elites);
        let after = &self.populations[usize::from(request.op)];
        let mut found = Digest::default();
        add_rows(&self.shared, after, 0..population, &mut found, pause);
        found.word() == digest.word()
            && self.elites_kept(after)
            && (0..RECOMPUTED).all(|turn| {
                pause.point();
                let drawn = request.key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                let place = (drawn as usize + turn * population / 2) % (population - elites);
                self.child_agrees(after, *request, elites + place)
            })
    }
}

impl Operation for Island {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        let kind = usize::from(request.op);
        if kind >= OPS.len() {
            return Completion { status: Status::Error, units: 0 };
        }
        let mut own = OwnTime::new(pause);
        let shared = Arc::clone(&self.shared);
        let generations = (&self.populations[kind], &mut self.spare);
        let scratch = (&mut self.scratch, chunk_children(&shared.plan));
        let (digest, mutated) = breed_generation(&shared, request, generations, scratch, &mut own);
        std::mem::swap(&mut self.populations[kind], &mut self.spare);
        self.count(kind, mutated, own.spent_ns());
        self.last = Some(Last { request, digest });
        Completion { status: Status::Ok, units: shared.plan.parameters.population as u64 }
    }

    /// Damages the individual of the highest rank, which no generation keeps as it is.
    fn plant(&mut self, fault: Fault) -> bool {
        let Some(last) = self.last else {
            return false;
        };
        let lines = self.shared.plan.lines();
        let after = &mut self.populations[usize::from(last.request.op)];
        let worst = after.ranks.iter().max().map_or(0, |&rank| individual_of(rank));
        let row = worst * lines..(worst + 1) * lines;
        let before = after.rows[row.start].0[0];
        match fault {
            Fault::FlippedBit => {
                after.rows[row.start].0[0] = f32::from_bits(before.to_bits() ^ 1 << 20);
            }
            Fault::LostResult => after.rows[row].fill(Default::default()),
            Fault::DoubledResult => {
                let other = if worst == 0 { lines } else { (worst - 1) * lines };
                after.rows.copy_within(other..other + lines, row.start);
            }
        }
        true
    }

    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        let Some(last) = self.last.take() else {
            return Verdict::default();
        };
        let every = self.shared.plan.parameters.checked_every;
        if last.request.key % every != 0 {
            return Verdict::default();
        }
        let holds = self.holds(&last, pause);
        self.shared.counters.children_recomputed.fetch_add(RECOMPUTED as u64, Relaxed);
        Verdict { checked: 1, violations: u32::from(!holds) }
    }
}
