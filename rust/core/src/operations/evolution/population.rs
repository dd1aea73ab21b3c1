//! A population: rows of genes, ranks by fitness, the best of them, and a digest of it all.

use super::lanes::{LANES, Line};
use super::parameters::Plan;
use crate::operations::pages::filled;

/// A fitness as a word of the same order, above the individual's number: the least rank is the
/// best, and of equal fitness the first.
#[inline(always)]
pub fn ranked(fitness: f32, individual: usize) -> u64 {
    let bits = fitness.to_bits();
    let ordered = bits ^ ((bits as i32 >> 31) as u32 | 1 << 31);
    u64::from(ordered) << 32 | individual as u64
}

/// The fitness that a rank was made of.
pub fn fitness_of(rank: u64) -> f32 {
    let ordered = (rank >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered ^ 1 << 31 } else { !ordered })
}

/// The individual that a rank was made of.
pub fn individual_of(rank: u64) -> usize {
    rank as u32 as usize
}

/// What the lines of a row are multiplied by in the digest: odd, so that no flipped bit is lost,
/// and another one for every place, so that no row can stand for another.
pub struct RowWeight;

impl RowWeight {
    pub const STEP: u32 = 2u32.wrapping_mul(0x85EB_CA6B);

    #[inline(always)]
    pub fn first(individual: usize) -> u32 {
        (2 * individual as u32 + 1).wrapping_mul(0x9E37_79B1)
    }

    /// What a rank adds, as if it were one more line.
    #[inline(always)]
    pub fn of_rank(individual: usize, lines: usize, rank: u64) -> u32 {
        let weight = Self::first(individual).wrapping_add((lines as u32).wrapping_mul(Self::STEP));
        ((rank >> 32) as u32).wrapping_mul(weight)
    }
}

/// Weighted sums, modulo 2^32, of the bits of all genes, lane by lane, and of all ranks.
///
/// A sum is the same in whatever order and portions it is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digest {
    pub lanes: Line,
    pub fitness: u32,
}

impl Digest {
    /// All sums in one word.
    pub fn word(&self) -> u64 {
        let lanes = self.lanes.0.iter().map(|lane| lane.to_bits());
        lanes.chain([self.fitness]).fold(0, |word: u64, sum| {
            (word.rotate_left(5) ^ u64::from(sum)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        })
    }

    pub fn add_rank(&mut self, individual: usize, lines: usize, rank: u64) {
        let added = RowWeight::of_rank(individual, lines, rank);
        self.fitness = self.fitness.wrapping_add(added);
    }
}

/// Rows and ranks of as many individuals as the plan says, and the ranks of the best, in order.
pub struct Population {
    pub rows: Vec<Line>,
    pub ranks: Vec<u64>,
    pub leaders: Vec<u64>,
}

impl Population {
    pub fn new(plan: &Plan) -> Self {
        let parameters = &plan.parameters;
        Self {
            rows: filled(parameters.population * plan.lines()),
            ranks: filled(parameters.population),
            leaders: vec![u64::MAX; parameters.elites],
        }
    }

    pub fn bytes(plan: &Plan) -> u64 {
        let parameters = &plan.parameters;
        plan.rows_bytes() + 8 * (parameters.population + parameters.elites) as u64
    }

    pub fn row(&self, plan: &Plan, individual: usize) -> &[Line] {
        &self.rows[individual * plan.lines()..][..plan.lines()]
    }

    /// Takes the leaders out of the first `known` ranks of an otherwise unread population.
    pub fn lead(&mut self, known: std::ops::Range<usize>) {
        if known.start == 0 {
            self.leaders.fill(u64::MAX);
        }
        let mut worst = self.leaders[self.leaders.len() - 1];
        for &rank in &self.ranks[known] {
            if rank < worst {
                let place = self.leaders.partition_point(|&leader| leader < rank);
                let last = self.leaders.len() - 1;
                self.leaders.copy_within(place..last, place + 1);
                self.leaders[place] = rank;
                worst = self.leaders[last];
            }
        }
    }

    /// The fitness of the best.
    pub fn best(&self) -> f32 {
        fitness_of(self.leaders[0])
    }

    /// The genes without their padding.
    pub fn genes(&self, plan: &Plan) -> Vec<f32> {
        let rows = self.rows.chunks_exact(plan.lines());
        rows.flat_map(|row| row.iter().flat_map(|line| line.0).take(plan.parameters.genome))
            .collect()
    }

    /// Takes genes over, one individual after the other.
    pub fn set_genes(&mut self, plan: &Plan, genes: &[f32]) {
        let individuals = genes.chunks_exact(plan.parameters.genome);
        for (row, genes) in self.rows.chunks_exact_mut(plan.lines()).zip(individuals) {
            for (line, part) in row.iter_mut().zip(genes.chunks(LANES)) {
                line.0[..part.len()].copy_from_slice(part);
            }
        }
    }
}
