//! One child by the definition, gene by gene, and fitness in double precision: what checks trust.

use super::lanes::{LANES, Line};
use super::numbers::{
    GOLDEN, LOG, MANTISSA_BITS, MINUS_TWO_LN_2, MLP, ROOT_HALF_BITS, SAMPLES, SINE, SPHERE, TURN,
    WORD_EXPONENT,
};
use super::parameters::{BOUND, GROUP, MASKED, Plan};
use super::population::{Population, individual_of};
use crate::random::philox;

/// Most that a fitness in single precision may differ by, as a share of the sum of its parts: 256
/// additions to a lane (4096 genes) of half a unit in the last place each, 2^-24, and a few units
/// for the terms. The 1024 additions of the largest network could err by more, were they all wrong
/// in one direction.
const TOLERANCE: f64 = 2e-5;

fn drawn(key: [u32; 2], block: usize, individual: usize, request: u64) -> [u32; 4] {
    philox([block as u32, individual as u32, request as u32, (request >> 32) as u32], key)
}

/// Word `index` of those that choose a child's parents and masks.
fn control(plan: &Plan, individual: usize, request: u64, index: usize) -> u32 {
    drawn(plan.control.key, index / 4, individual, request)[index % 4]
}

fn horner(x: f32, coefficients: &[f32]) -> f32 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The two normal variates of a word, as `numbers::normals`.
pub fn normal_pair(word: u32, sigma: f32) -> [f32; 2] {
    let rank = (word >> 1) as f32 + 0.5;
    let offset = rank.to_bits().wrapping_sub(ROOT_HALF_BITS + WORD_EXPONENT);
    let exponent = (offset as i32 >> 23) as f32;
    let z = f32::from_bits((offset & MANTISSA_BITS) + ROOT_HALF_BITS) - 1.0;
    let radius = (z * horner(z, &LOG) + exponent * MINUS_TWO_LN_2).sqrt() * sigma;
    let turn = word.wrapping_mul(GOLDEN) as i32 as f32 * TURN;
    let cosine = 0.25 - turn.abs();
    let sine = 0.25 - cosine.abs();
    let wave = |t: f32| t * horner(t * t, &SINE);
    let signed = if turn.is_sign_negative() { -wave(sine) } else { wave(sine) };
    [wave(cosine) * radius, signed * radius]
}

/// The step by which a gene mutates, if it does.
fn step(plan: &Plan, individual: usize, request: u64, gene: usize) -> f32 {
    let (quarter, lane) = (gene % GROUP / LANES, gene % LANES);
    let block = gene / GROUP * 8 + lane / 2;
    let word = drawn(plan.normals.key, block, individual, request)[quarter / 2 * 2 + lane % 2];
    normal_pair(word, plan.parameters.sigma)[quarter % 2]
}

/// The better of the candidates of a parent's tournament.
fn parent(plan: &Plan, ranks: &[u64], individual: usize, request: u64, which: usize) -> usize {
    let size = plan.parameters.tournament;
    let candidates = (0..size).map(|turn| {
        let word = control(plan, individual, request, which * size + turn);
        ranks[((u64::from(word) * ranks.len() as u64) >> 32) as usize]
    });
    individual_of(candidates.min().unwrap_or(0))
}

/// What a gene of a child is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Made {
    /// The same gene of both parents.
    pub parents: [f32; 2],
    pub inherited: f32,
    pub mutated: bool,
    pub gene: f32,
}

/// All genes of a child of `before`, in order.
pub fn child<'a>(
    plan: &'a Plan,
    before: &'a Population,
    individual: usize,
    request: u64,
) -> impl Iterator<Item = Made> + 'a {
    let parents = [0, 1].map(|which| parent(plan, &before.ranks, individual, request, which));
    let masks = 2 * plan.parameters.tournament;
    let bit = move |index: usize, gene: usize| {
        let word = masks + index * plan.words() + gene / MASKED;
        (control(plan, individual, request, word) >> (gene % MASKED)) & 1
    };
    (0..plan.parameters.genome).map(move |gene| {
        let parents = parents.map(|each| before.row(plan, each)[gene / LANES].0[gene % LANES]);
        let inherited = parents[bit(0, gene) as usize];
        let drawn = (0..plan.chance.bits).map(|layer| (1 - bit(1 + layer, gene)) << layer);
        let mutated = drawn.sum::<u32>() < plan.chance.numerator;
        let step = if mutated { step(plan, individual, request, gene) } else { 0.0 };
        let moved = if mutated { inherited + step } else { inherited };
        Made { parents, inherited, mutated, gene: moved.clamp(-BOUND, BOUND) }
    })
}

/// The fitness in double precision, and how far from it the one in single precision may be.
pub fn fitness(plan: &Plan, kind: u8, row: &[Line]) -> (f64, f64) {
    if kind == MLP {
        return network_error(plan, row);
    }
    let genes = row.iter().flat_map(|line| line.0).take(plan.parameters.genome).map(f64::from);
    let sum: f64 = genes
        .map(|x| match kind {
            SPHERE => x * x,
            _ => x * x + 10.0 - 10.0 * (2.0 * std::f64::consts::PI * x).cos(),
        })
        .sum();
    (sum, TOLERANCE * sum + 1e-12)
}

fn network_error(plan: &Plan, row: &[Line]) -> (f64, f64) {
    let (mut sum, mut bound) = (0.0, 0.0);
    for sample in 0..SAMPLES {
        let at = |lines: &[Line]| f64::from(lines[sample / LANES].0[sample % LANES]);
        let [left, right] = plan.samples.inputs.each_ref().map(|lines| at(lines));
        let (mut output, mut size) = (0.0, 0.0);
        let units = row.iter().flat_map(|line| line.0.chunks_exact(4));
        for unit in units.take(plan.parameters.genome / 4) {
            let unit: [f64; 4] = std::array::from_fn(|weight| f64::from(unit[weight]));
            output += (unit[0] * left + unit[1] * right + unit[2]).max(0.0) * unit[3];
            size +=
                ((unit[0] * left).abs() + (unit[1] * right).abs() + unit[2].abs()) * unit[3].abs();
        }
        let wanted = at(&plan.samples.outputs);
        let error = output - wanted;
        let off = TOLERANCE * (size + wanted.abs());
        sum += error * error;
        bound += (2.0 * error.abs() + off) * off + TOLERANCE * error * error;
    }
    (sum / SAMPLES as f64, bound / SAMPLES as f64)
}
