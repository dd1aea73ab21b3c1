//! The arithmetic of a generation on lanes: Philox, normal variates, fitness functions.

use super::lanes::{BLOCKS, LANES, Lanes, Line, Wide};
use super::parameters::BOUND;
use crate::random::{MULTIPLIERS, WEYL, philox as scalar_philox, stream_key};

/// The keys of Philox's ten rounds.
pub type RoundKeys = [[u64; 2]; 10];

/// Samples that the network of `mlp` is fitted to, and vectors of them.
pub const SAMPLES: usize = 32;
const SAMPLE_LINES: usize = SAMPLES / LANES;
const DOMAIN_SAMPLES: u64 = 0x6576_6F6C_0000_0004;

/// 2^32 divided by the golden ratio, odd.
pub const GOLDEN: u32 = 0x9E37_79B9;
/// Adding and taking this away rounds a float below 2^22 to the nearest whole number.
pub const ROUNDING: f32 = 12_582_912.0;
/// The bits of the float next to sqrt(1/2), where mantissas are split.
pub const ROOT_HALF_BITS: u32 = 0x3F35_04F3;
pub const MANTISSA_BITS: u32 = 0x007F_FFFF;
/// Exponents count from the 2^31 that a 31-bit word is divided by.
pub const WORD_EXPONENT: u32 = 31 << 23;
pub const MINUS_TWO_LN_2: f32 = -1.386_294_4;

/// -2 ln(1 + z) / z for z from sqrt(1/2) - 1 to sqrt(2) - 1, relative error below 1.2e-6 (minimax).
pub const LOG: [f32; 7] = [
    -2.000_002,
    1.000_022_3,
    -0.666_290_16,
    0.498_195_02,
    -0.409_926_98,
    0.373_355_98,
    -0.237_919_15,
];
/// sin(2 pi t) / t in t^2 for |t| up to 1/4, relative error below 1e-6 (minimax).
pub const SINE: [f32; 4] = [6.283_179_3, -41.338_943, 81.395_355, -71.474_69];
/// sin(pi t) / t in t^2 for |t| up to 1/2, relative error below 1e-7 (minimax, rounded).
pub const HALF_SINE: [f32; 5] =
    [std::f32::consts::PI, -5.167_71, 2.550_069_8, -0.598_242_1, 0.077_560_39];

/// Streams of words, in the order of `Request::op`.
pub const SPHERE: u8 = 0;
pub const RASTRIGIN: u8 = 1;
pub const MLP: u8 = 2;

pub fn round_keys(mut key: [u32; 2]) -> RoundKeys {
    std::array::from_fn(|_| {
        let lanes = key.map(u64::from);
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        lanes
    })
}

#[inline(always)]
fn round<W: Wide>(counter: [W; 4], key: [u64; 2]) -> [W; 4] {
    let [first, second] = MULTIPLIERS.map(|multiplier| W::splat(u64::from(multiplier)));
    let (low, high) = (counter[0].mul(first), counter[2].mul(second));
    [
        high.upper_half().xor(counter[1]).xor(W::splat(key[0])),
        high,
        low.upper_half().xor(counter[3]).xor(W::splat(key[1])),
        low,
    ]
}

/// Philox4x32-10 of eight blocks; the upper halves of counters and results mean nothing.
///
/// Written out: as a loop, a compiler may keep it one and reload the keys in each round.
#[inline(always)]
pub fn philox<W: Wide>(counter: [W; 4], keys: &RoundKeys) -> [W; 4] {
    let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9] = *keys;
    let half = round(round(round(round(round(counter, k0), k1), k2), k3), k4);
    round(round(round(round(round(half, k5), k6), k7), k8), k9)
}

/// The words of eight successive blocks of an individual: words 0 and 1 of each, then 2 and 3.
#[inline(always)]
pub fn words<L: Lanes>(first_block: usize, individual: u32, key: u64, keys: &RoundKeys) -> [L; 2] {
    let lanes: [u64; BLOCKS] = std::array::from_fn(|lane| (first_block + lane) as u64);
    let counter = [
        L::Wide::load(&lanes),
        L::Wide::splat(u64::from(individual)),
        L::Wide::splat(key & 0xFFFF_FFFF),
        L::Wide::splat(key >> 32),
    ];
    let [w0, w1, w2, w3] = philox(counter, keys);
    [L::Wide::pair(w0, w1), L::Wide::pair(w2, w3)]
}

#[inline(always)]
fn horner<L: Lanes, const TERMS: usize>(x: L, coefficients: &[f32; TERMS]) -> L {
    let mut sum = L::splat(coefficients[TERMS - 1]);
    for &coefficient in coefficients[..TERMS - 1].iter().rev() {
        sum = sum.mul(x).add(L::splat(coefficient));
    }
    sum
}

/// Two independent normal variates of deviation `sigma` from each word (Box and Muller, 1958).
///
/// The word is the rank of the radius, the fractional part of its product with the golden ratio the
/// angle: the 2^32 pairs that can come out lie on Vogel's spiral (1979), evenly spread under the
/// normal density up to 6.6 deviations, so that one word of randomness serves two genes.
#[inline(always)]
pub fn normals<L: Lanes>(words: L, sigma: L) -> [L; 2] {
    let rank = words.shift_right::<1>().signed_to_float().add(L::splat(0.5));
    let offset = rank.sub_bits(L::splat_bits(ROOT_HALF_BITS + WORD_EXPONENT));
    let exponent = offset.shift_right_signed::<23>().signed_to_float();
    let mantissa = offset.and(L::splat_bits(MANTISSA_BITS)).add_bits(L::splat_bits(ROOT_HALF_BITS));
    let z = mantissa.sub(L::splat(1.0));
    let logarithm = z.mul(horner(z, &LOG)).add(exponent.mul(L::splat(MINUS_TWO_LN_2)));
    let radius = logarithm.sqrt().mul(sigma);

    let turn = words.mul_bits(L::splat_bits(GOLDEN)).signed_to_float().mul(L::splat(TURN));
    let sign = L::splat_bits(1 << 31);
    let magnitude = L::splat_bits(!(1 << 31));
    let cosine = L::splat(0.25).sub(turn.and(magnitude));
    let sine = L::splat(0.25).sub(cosine.and(magnitude));
    let wave = |t: L| t.mul(horner(t.mul(t), &SINE));
    [wave(cosine).mul(radius), wave(sine).xor(turn.and(sign)).mul(radius)]
}

/// A signed word as a share of a whole turn.
pub const TURN: f32 = 1.0 / 4_294_967_296.0;
/// A word without its lowest eight bits, as a share of twice the range.
pub const UNIT: f32 = 1.0 / 8_388_608.0;

/// Genes spread evenly over their bounds.
#[inline(always)]
pub fn uniform<L: Lanes>(words: L) -> L {
    let unit = words.shift_right::<8>().signed_to_float().mul(L::splat(UNIT)).sub(L::splat(1.0));
    unit.mul(L::splat(BOUND))
}

/// What the genes of one line add to the fitness, lane by lane; 0 for a gene that is 0.
///
/// Rastrigin's term x^2 + 10 - 10 cos(2 pi x) is taken as x^2 + 20 sin^2(pi x), which cancels
/// nothing.
#[inline(always)]
pub fn term<L: Lanes, const FITNESS: u8>(genes: L) -> L {
    let square = genes.mul(genes);
    if FITNESS == SPHERE {
        return square;
    }
    let rounding = L::splat(ROUNDING);
    let rest = genes.sub(genes.add(rounding).sub(rounding));
    let sine = rest.mul(horner(rest.mul(rest), &HALF_SINE));
    square.add(sine.mul(sine).mul(L::splat(20.0)))
}

/// The sum of all lanes, each half added to the other until one is left.
#[inline(always)]
pub fn total<L: Lanes>(lanes: L) -> f32 {
    let mut line = Line::default();
    lanes.store(&mut line);
    let eight: [f32; 8] = std::array::from_fn(|lane| line.0[lane] + line.0[lane + 8]);
    let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// What the network of `mlp` learns: the product of two numbers.
pub struct Samples {
    pub inputs: [[Line; SAMPLE_LINES]; 2],
    pub outputs: [Line; SAMPLE_LINES],
}

impl Samples {
    pub fn new(seed: u64) -> Self {
        let key = stream_key(seed, DOMAIN_SAMPLES);
        let mut samples = Self { inputs: Default::default(), outputs: Default::default() };
        for sample in 0..SAMPLES {
            let drawn = scalar_philox([sample as u32, 0, 0, 0], key);
            let [first, second] = [drawn[0], drawn[1]].map(|word| (word >> 8) as f32 * UNIT - 1.0);
            let (line, lane) = (sample / LANES, sample % LANES);
            samples.inputs[0][line].0[lane] = first;
            samples.inputs[1][line].0[lane] = second;
            samples.outputs[line].0[lane] = first * second;
        }
        samples
    }
}

/// Mean squared error of the network that the genes are the weights of: two inputs, a quarter as
/// many rectified hidden units as genes (two weights, bias, outgoing weight), one output.
#[inline(always)]
pub fn network_error<L: Lanes>(samples: &Samples, genes: &[Line], genome: usize) -> f32 {
    let load = |lines: &[Line; SAMPLE_LINES]| lines.each_ref().map(L::load);
    let [first, second] = samples.inputs.each_ref().map(load);
    let mut outputs = [L::splat(0.0); SAMPLE_LINES];
    for unit in 0..genome / 4 {
        let weights = &genes[unit / 4].0[unit % 4 * 4..][..4];
        let [left, right, bias, outgoing] = std::array::from_fn(|gene| L::splat(weights[gene]));
        for (line, output) in outputs.iter_mut().enumerate() {
            let reached = left.mul(first[line]).add(right.mul(second[line])).add(bias);
            *output = output.add(reached.max(L::splat(0.0)).mul(outgoing));
        }
    }
    let mut squares = L::splat(0.0);
    for (output, right) in outputs.iter().zip(&samples.outputs) {
        let error = output.sub(L::load(right));
        squares = squares.add(error.mul(error));
    }
    total(squares) * (1.0 / SAMPLES as f32)
}
