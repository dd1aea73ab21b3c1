//! A stretch of the next population: parents chosen, genes crossed, mutated, stored and judged.
//!
//! What a child becomes depends on the request's key and on its place in the population alone, so
//! neither chunks, nor threads, nor the kind of vector change a bit of it.

use super::lanes::{BLOCKS, LANES, Lanes, Line, Wide};
use super::numbers::{MLP, network_error, normals, philox, term, total, uniform, words};
use super::parameters::{BOUND, Chance, GROUP_LINES, Plan};
use super::population::{Digest, RowWeight, ranked};
use crate::operations::pages::prefetch;

/// Children whose parents and masks are drawn together.
pub const TILE: usize = BLOCKS;
/// Groups of each parent that are asked for before its tile is bred; the others are asked for as
/// many groups ahead.
const AHEAD: usize = 2;

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

/// What is drawn for a tile: the words of its Philox blocks, each child's in a row.
pub struct Scratch {
    control: Vec<u32>,
}

impl Scratch {
    pub fn new(plan: &Plan) -> Self {
        Self { control: vec![1; plan.control_blocks * 4 * TILE] }
    }

    pub fn bytes(plan: &Plan) -> u64 {
        4 * (plan.control_blocks * 4 * TILE) as u64
    }
}

/// The masks of one child, a group of 64 genes at a time, from the words drawn for them.
struct Masks<'a> {
    chance: Chance,
    /// For each group two words: bits of the genes that come from the second parent.
    second: &'a [u32],
    /// As many words for each bit of the chance.
    layers: &'a [u32],
}

#[inline(always)]
fn wide(words: &[u32], group: usize) -> u64 {
    u64::from(words[2 * group]) | u64::from(words[2 * group + 1]) << 32
}

impl<'a> Masks<'a> {
    #[inline(always)]
    fn new(plan: &Plan, drawn: &'a [u32]) -> Self {
        let drawn = &drawn[2 * plan.parameters.tournament..];
        let (second, layers) = drawn.split_at(plan.words());
        Self { chance: plan.chance, second, layers }
    }

    /// Bits of the genes that mutate.
    ///
    /// A bit that is set with probability n / 2^b takes b bits: from the lowest bit of n on, one
    /// more random bit is or-ed where n's bit is set, and-ed where it is not.
    #[inline(always)]
    fn mutating(&self, group: usize) -> u64 {
        let Chance { numerator, bits } = self.chance;
        let spread = |bit: u32| 0u64.wrapping_sub(u64::from(bit & 1));
        let mut mask = if bits == 0 { spread(numerator) } else { 0 };
        for bit in 0..bits {
            let layer = wide(&self.layers[bit * self.second.len()..], group);
            let set = spread(numerator >> bit);
            mask = (mask & (layer | set)) | (layer & set);
        }
        mask
    }
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

/// A child of both parents' genes: crossed, mutated, kept within bounds, stored; returns the lanes
/// of the fitness where it is a sum over genes, and how many genes mutated.
#[inline(always)]
fn cross<L: Lanes, const FITNESS: u8>(
    family: &Family<'_>,
    individual: usize,
    parents: [&[Line]; 2],
    masks: &Masks<'_>,
    row: &mut [Line],
    sums: &mut Sums<L>,
) -> (L, u64) {
    let plan = family.plan;
    let sigma = L::splat(plan.parameters.sigma);
    let (least, most) = (L::splat(-BOUND), L::splat(BOUND));
    let mut weight = L::splat_bits(RowWeight::first(individual));
    let (mut fitness, mut mutated) = (L::splat(0.0), 0);
    let [first, second] = parents.map(|lines| lines.chunks_exact(GROUP_LINES));
    let lines = row.chunks_exact_mut(GROUP_LINES).zip(first.zip(second));
    for (group, ((row, (first, second)), genes)) in lines.zip(&plan.genes).enumerate() {
        if group + AHEAD < plan.groups {
            for line in (group + AHEAD) * GROUP_LINES..(group + AHEAD + 1) * GROUP_LINES {
                prefetch(parents[0], line);
                prefetch(parents[1], line);
            }
        }
        let [front, back] =
            words::<L>(group * BLOCKS, individual as u32, family.key, &plan.normals.rounds);
        let [n0, n1] = normals(front, sigma);
        let [n2, n3] = normals(back, sigma);
        let crossing = wide(masks.second, group);
        let mutating = masks.mutating(group) & genes;
        mutated += u64::from(mutating.count_ones());
        for (line, step) in [n0, n1, n2, n3].into_iter().enumerate() {
            let bits = |mask: u64| (mask >> (line * LANES)) as u16;
            let gene = L::select(bits(crossing), L::load(&second[line]), L::load(&first[line]));
            let gene = L::select(bits(mutating), gene.add(step), gene);
            let gene = gene.min(most).max(least);
            gene.store(&mut row[line]);
            if FITNESS != MLP {
                fitness = fitness.add(term::<L, FITNESS>(gene));
            }
            sums.lanes = sums.lanes.add_bits(gene.mul_bits(weight));
            weight = weight.add_bits(L::splat_bits(RowWeight::STEP));
        }
    }
    (fitness, mutated)
}

/// Chooses the parents of a tile's children and asks for their genes.
#[inline(always)]
fn pair_up(family: &Family<'_>, control: &[u32]) -> [[usize; 2]; TILE] {
    let lines = family.plan.lines();
    let mut parents = [[0; 2]; TILE];
    for (pair, drawn) in parents.iter_mut().zip(control.chunks_exact(control.len() / TILE)) {
        *pair = choose(family, drawn);
        for parent in *pair {
            let row = &family.rows[parent * lines..][..lines.min(AHEAD * GROUP_LINES)];
            for line in 0..row.len() {
                prefetch(row, line);
            }
        }
    }
    parents
}

#[inline(always)]
pub fn breed<L: Lanes, const FITNESS: u8>(family: &Family<'_>, brood: &mut Brood<'_>) {
    let plan = family.plan;
    let lines = plan.lines();
    let mut sums = Sums::<L>::resume(brood.digest);
    let control = &mut brood.scratch.control[..];
    let tiles = brood.rows.chunks_mut(TILE * lines).zip(brood.ranks.chunks_mut(TILE));
    for (tile, (rows, ranks)) in tiles.enumerate() {
        let first = brood.first + tile * TILE;
        draw::<L>(plan, first, family.key, control);
        let parents = pair_up(family, control);
        let drawn = parents.iter().zip(control.chunks_exact(control.len() / TILE));
        let children = rows.chunks_exact_mut(lines).zip(ranks);
        for ((child, (row, rank)), (pair, drawn)) in children.enumerate().zip(drawn) {
            let individual = first + child;
            let pair = pair.map(|parent| &family.rows[parent * lines..][..lines]);
            let masks = Masks::new(plan, drawn);
            let (terms, mutated) =
                cross::<L, FITNESS>(family, individual, pair, &masks, row, &mut sums);
            *brood.mutated += mutated;
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
                let place = 2 * two + half;
                let present = plan.genes[place / GROUP_LINES] >> (place % GROUP_LINES * LANES);
                L::select(present as u16, uniform(drawn[half]), L::splat(0.0)).store(line);
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
