//! A stretch of the next population: parents chosen, genes crossed, mutated, stored and judged.
//!
//! What a child becomes depends on the request's key and on its place in the population alone, so
//! neither chunks, nor threads, nor the kind of vector change a bit of it.

use super::lanes::{BLOCKS, LANES, Lanes, Line, Wide};
use super::numbers::{MLP, network_error, normals, philox, term, total, uniform, words};
use super::parameters::{BOUND, GROUP_LINES, MASKED, Plan};
use super::population::{Digest, RowWeight, ranked};
use crate::operations::pages::prefetch;

/// Children whose parents and masks are drawn together.
pub const TILE: usize = BLOCKS;
/// Lines of each parent that are asked for ahead; the rest follows in order.
const PREFETCHED: usize = 8;

/// The population that children are bred from, and what is drawn for them.
pub struct Family<'a> {
    pub plan: &'a Plan,
    pub rows: &'a [Line],
    pub ranks: &'a [u64],
    /// Of the request: the generation's own number.
    pub key: u64,
}

/// Where the children `first, first + 1, ...` go, and what is found out about them.
pub struct Brood<'a> {
    pub first: usize,
    pub rows: &'a mut [Line],
    pub ranks: &'a mut [u64],
    pub scratch: &'a mut Scratch,
    pub digest: &'a mut Digest,
    /// Genes that were mutated.
    pub mutated: &'a mut u64,
}

/// What is drawn for a tile: the words of its Philox blocks, and one child's masks.
pub struct Scratch {
    control: Vec<u32>,
    /// Bits of the genes that come from the second parent.
    second: Vec<u32>,
    /// Bits of the genes that mutate.
    mutate: Vec<u32>,
}

impl Scratch {
    pub fn new(plan: &Plan) -> Self {
        Self {
            control: vec![1; plan.control_blocks * 4 * TILE],
            second: vec![1; plan.words()],
            mutate: vec![1; plan.words()],
        }
    }

    pub fn bytes(plan: &Plan) -> u64 {
        4 * (plan.control_blocks * 4 * TILE + 2 * plan.words()) as u64
    }

    /// Makes the masks of a child of the tile; returns how many of its genes mutate.
    ///
    /// A bit that is set with probability n / 2^b takes b bits: from the lowest bit of n on, one
    /// more random bit is or-ed where n's bit is set, and-ed where it is not.
    #[inline(always)]
    fn mask(&mut self, plan: &Plan, child: usize) -> u64 {
        let words = plan.words();
        let drawn = &self.control[child * 4 * plan.control_blocks..][..4 * plan.control_blocks];
        let drawn = &drawn[2 * plan.parameters.tournament..];
        let (second, layers) = drawn.split_at(words);
        self.second.copy_from_slice(second);
        let chance = plan.chance;
        self.mutate.fill(if chance.bits == 0 { 0u32.wrapping_sub(chance.numerator) } else { 0 });
        for (bit, layer) in layers.chunks_exact(words).take(chance.bits).enumerate() {
            let set = 0u32.wrapping_sub(chance.numerator >> bit & 1);
            for (mask, word) in self.mutate.iter_mut().zip(layer) {
                *mask = *mask & (word | set) | word & set;
            }
        }
        let mut mutated = 0;
        for (mask, genes) in self.mutate.iter_mut().zip(&plan.genes) {
            *mask &= genes;
            mutated += u64::from(mask.count_ones());
        }
        mutated
    }
}

/// The sixteen bits of a line's lanes.
#[inline(always)]
fn bits_of(masks: &[u32], line: usize) -> u16 {
    (masks[line * LANES / MASKED] >> (line * LANES % MASKED)) as u16
}

/// Draws the control blocks of the children `first..first + TILE`, each child's in a row.
#[inline(always)]
fn draw<L: Lanes>(plan: &Plan, first: usize, key: u64, control: &mut [u32]) {
    for (vector, words) in plan.tile.iter().zip(control.chunks_exact_mut(2 * LANES)) {
        let [block, child] = vector.each_ref().map(L::Wide::load);
        let counter = [
            block,
            child.add(L::Wide::splat(first as u64)),
            L::Wide::splat(key & 0xFFFF_FFFF),
            L::Wide::splat(key >> 32),
        ];
        let [w0, w1, w2, w3] = philox(counter, &plan.control.rounds);
        if let Ok(words) = words.try_into() {
            L::Wide::interleave(L::Wide::pair(w0, w1), L::Wide::pair(w2, w3), words);
        }
    }
}

/// Both parents: each the best of as many candidates as a tournament has, drawn by multiplication.
#[inline(always)]
fn choose(family: &Family<'_>, drawn: &[u32]) -> [usize; 2] {
    let size = family.plan.parameters.tournament;
    let population = family.ranks.len() as u64;
    let best = |words: &[u32]| {
        let candidates = words.iter().map(|&word| ((u64::from(word) * population) >> 32) as usize);
        candidates.map(|candidate| family.ranks[candidate]).fold(u64::MAX, u64::min) as u32 as usize
    };
    [best(&drawn[..size]), best(&drawn[size..2 * size])]
}

/// The digest as lanes, while rows are added to it.
struct Sums<L> {
    lanes: L,
    fitness: u32,
}

impl<L: Lanes> Sums<L> {
    #[inline(always)]
    fn resume(digest: &Digest) -> Self {
        Self { lanes: L::load(&digest.lanes), fitness: digest.fitness }
    }

    #[inline(always)]
    fn store(self, digest: &mut Digest) {
        self.lanes.store(&mut digest.lanes);
        digest.fitness = self.fitness;
    }
}

/// Children of both parents' genes: crossed, mutated, kept within bounds, stored; returns the
/// lanes of the fitness where it is a sum over genes.
#[inline(always)]
fn cross<L: Lanes, const FITNESS: u8>(
    family: &Family<'_>,
    individual: usize,
    parents: [&[Line]; 2],
    scratch: &Scratch,
    row: &mut [Line],
    sums: &mut Sums<L>,
) -> L {
    let plan = family.plan;
    let sigma = L::splat(plan.parameters.sigma);
    let (least, most) = (L::splat(-BOUND), L::splat(BOUND));
    let mut weight = L::splat_bits(RowWeight::first(individual));
    let mut fitness = L::splat(0.0);
    for group in 0..plan.groups {
        let [front, back] =
            words::<L>(group * BLOCKS, individual as u32, family.key, &plan.normals.rounds);
        let [n0, n1] = normals(front, sigma);
        let [n2, n3] = normals(back, sigma);
        for (quarter, step) in [n0, n1, n2, n3].into_iter().enumerate() {
            let line = group * GROUP_LINES + quarter;
            let [first, second] = parents.map(|lines| L::load(&lines[line]));
            let gene = L::select(bits_of(&scratch.second, line), second, first);
            let gene = L::select(bits_of(&scratch.mutate, line), gene.add(step), gene);
            let gene = gene.min(most).max(least);
            gene.store(&mut row[line]);
            if FITNESS != MLP {
                fitness = fitness.add(term::<L, FITNESS>(gene));
            }
            sums.lanes = sums.lanes.add_bits(gene.mul_bits(weight));
            weight = weight.add_bits(L::splat_bits(RowWeight::STEP));
        }
    }
    fitness
}

#[inline(always)]
pub fn breed<L: Lanes, const FITNESS: u8>(family: &Family<'_>, brood: &mut Brood<'_>) {
    let plan = family.plan;
    let lines = plan.lines();
    let mut sums = Sums::<L>::resume(brood.digest);
    let tiles = brood.rows.chunks_mut(TILE * lines).zip(brood.ranks.chunks_mut(TILE));
    for (tile, (rows, ranks)) in tiles.enumerate() {
        let first = brood.first + tile * TILE;
        draw::<L>(plan, first, family.key, &mut brood.scratch.control);
        let mut parents = [[0; 2]; TILE];
        for (child, pair) in parents.iter_mut().enumerate() {
            *pair = choose(family, &brood.scratch.control[child * 4 * plan.control_blocks..]);
            for line in 0..lines.min(PREFETCHED) {
                prefetch(family.rows, pair[0] * lines + line);
                prefetch(family.rows, pair[1] * lines + line);
            }
        }
        for (child, (row, rank)) in rows.chunks_exact_mut(lines).zip(ranks).enumerate() {
            let individual = first + child;
            *brood.mutated += brood.scratch.mask(plan, child);
            let pair = parents[child].map(|parent| &family.rows[parent * lines..][..lines]);
            let terms =
                cross::<L, FITNESS>(family, individual, pair, brood.scratch, row, &mut sums);
            let fitness = match FITNESS {
                MLP => network_error::<L>(&plan.samples, row, plan.parameters.genome),
                _ => total(terms),
            };
            *rank = ranked(fitness, individual);
            sums.fitness = sums.fitness.wrapping_add(RowWeight::of_rank(individual, lines, *rank));
        }
    }
    sums.store(brood.digest);
}

#[inline(always)]
pub fn judge<L: Lanes, const FITNESS: u8>(plan: &Plan, row: &[Line]) -> f32 {
    if FITNESS == MLP {
        return network_error::<L>(&plan.samples, row, plan.parameters.genome);
    }
    let terms = row.iter().map(|line| term::<L, FITNESS>(L::load(line)));
    total(terms.fold(L::splat(0.0), L::add))
}

/// Writes individuals of the first population: each gene a word of its own.
#[inline(always)]
pub fn settle<L: Lanes>(plan: &Plan, first: usize, rows: &mut [Line]) {
    for (offset, row) in rows.chunks_exact_mut(plan.lines()).enumerate() {
        for (two, lines) in row.chunks_exact_mut(2).enumerate() {
            let individual = (first + offset) as u32;
            let drawn = words::<L>(two * BLOCKS, individual, 0, &plan.initial.rounds);
            for (half, line) in lines.iter_mut().enumerate() {
                let present = bits_of(&plan.genes, 2 * two + half);
                L::select(present, uniform(drawn[half]), L::splat(0.0)).store(line);
            }
        }
    }
}

/// Adds the genes of rows, from the individual `first` on, to a digest.
#[inline(always)]
pub fn sum<L: Lanes>(plan: &Plan, first: usize, rows: &[Line], digest: &mut Digest) {
    let mut sums = Sums::<L>::resume(digest);
    for (offset, row) in rows.chunks_exact(plan.lines()).enumerate() {
        let mut weight = L::splat_bits(RowWeight::first(first + offset));
        for line in row {
            sums.lanes = sums.lanes.add_bits(L::load(line).mul_bits(weight));
            weight = weight.add_bits(L::splat_bits(RowWeight::STEP));
        }
    }
    sums.store(digest);
}
