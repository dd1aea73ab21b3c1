//! Parameters of the evolution component, and what all its generations have in common.

use serde::Deserialize;

use super::lanes::{BLOCKS, LANES, Line};
use super::numbers::{RoundKeys, Samples, round_keys};
use crate::operations::{BuildError, within};
use crate::random::stream_key;

/// Streams of randomness, as in `components/evolution.py`.
const DOMAIN_CONTROL: u64 = 0x6576_6F6C_0000_0001;
const DOMAIN_NORMALS: u64 = 0x6576_6F6C_0000_0002;
const DOMAIN_INITIAL: u64 = 0x6576_6F6C_0000_0003;

/// Every gene lies within -BOUND to BOUND, the usual domain of Rastrigin's function.
pub const BOUND: f32 = 5.12;
pub const POPULATION_MIN: usize = 16;
pub const POPULATION_MAX: usize = 1 << 20;
pub const GENOME_MIN: usize = 16;
pub const GENOME_MAX: usize = 4096;
pub const ELITES_MAX: usize = 1024;
pub const TOURNAMENT_MAX: usize = 16;
pub const CHECKED_EVERY_MAX: u64 = 1 << 16;

/// Genes whose normals come from one group of Philox blocks; a row is padded to whole groups.
pub const GROUP: usize = 64;
/// Lines of a group.
pub const GROUP_LINES: usize = GROUP / LANES;
/// Genes of one word of masks.
pub const MASKED: usize = 32;
/// Probabilities of mutation are multiples of 2^-16.
const PROBABILITY_BITS: u32 = 16;

/// The same names and bounds as `Evolution` in `components/evolution.py`, which has the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Individuals of an island.
    pub population: usize,
    /// Genes of an individual.
    pub genome: usize,
    /// Individuals that survive as they are.
    pub elites: usize,
    /// Candidates among which each parent is the best.
    pub tournament: usize,
    /// Probability that a gene mutates, rounded to a multiple of 2^-16.
    pub mutation: f64,
    /// Standard deviation of a mutation.
    pub sigma: f32,
    /// The target fitness as a share of the best of the first population.
    pub target_share: f64,
    /// One generation in so many is checked.
    pub checked_every: u64,
}

impl Parameters {
    /// Reads and checks a JSON object.
    ///
    /// # Errors
    /// An unknown, missing or mistyped key, or a value out of its bounds.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let read: Self = serde_json::from_str(text)?;
        within("population", read.population, POPULATION_MIN, POPULATION_MAX)?;
        within("genome", read.genome, GENOME_MIN, GENOME_MAX)?;
        within("elites", read.elites, 1, ELITES_MAX.min(read.population / 2))?;
        within("tournament", read.tournament, 1, TOURNAMENT_MAX)?;
        within("mutation", read.mutation, 0.0, 1.0)?;
        within("sigma", read.sigma, 0.0, BOUND)?;
        within("target_share", read.target_share, 0.0, 1.0)?;
        within("checked_every", read.checked_every, 1, CHECKED_EVERY_MAX)?;
        if read.genome % 4 != 0 {
            let problem = format!("{} is no multiple of 4", read.genome);
            return Err(BuildError::Value { key: "genome", problem });
        }
        Ok(read)
    }
}

/// One use of randomness: its Philox key, and the keys of all rounds.
pub struct Source {
    pub key: [u32; 2],
    pub rounds: RoundKeys,
}

impl Source {
    fn new(seed: u64, domain: u64) -> Self {
        let key = stream_key(seed, domain);
        Self { key, rounds: round_keys(key) }
    }
}

/// A probability as the numerator over 2^bits of the shortest such fraction; certainty has no bits
/// and the numerator 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    pub numerator: u32,
    pub bits: usize,
}

impl Chance {
    pub fn nearest(probability: f64) -> Self {
        let scaled = (probability * f64::from(1 << PROBABILITY_BITS) + 0.5) as u32;
        let shift = scaled.trailing_zeros().min(PROBABILITY_BITS);
        Self { numerator: scaled >> shift, bits: (PROBABILITY_BITS - shift) as usize }
    }

    pub fn value(self) -> f64 {
        f64::from(self.numerator) / f64::from(1u32 << self.bits)
    }
}

/// What follows from the parameters and the seed alone.
pub struct Plan {
    pub parameters: Parameters,
    pub chance: Chance,
    /// Groups of 64 genes, the last one padded with zeros.
    pub groups: usize,
    /// Philox blocks that choose the parents and masks of one child.
    pub control_blocks: usize,
    /// Bits of the genes that there are, for each group.
    pub genes: Vec<u64>,
    /// Of each vector of a tile's control blocks: their numbers, and their children in the tile.
    pub tile: Vec<[[u64; BLOCKS]; 2]>,
    pub control: Source,
    pub normals: Source,
    pub initial: Source,
    pub samples: Samples,
}

impl Plan {
    pub fn new(parameters: Parameters, seed: u64) -> Self {
        let chance = Chance::nearest(parameters.mutation);
        let groups = parameters.genome.div_ceil(GROUP);
        let words = groups * GROUP / MASKED;
        let control_blocks = (2 * parameters.tournament + words * (1 + chance.bits)).div_ceil(4);
        let genes = (0..groups)
            .map(|group| match parameters.genome - group * GROUP {
                left if left >= GROUP => u64::MAX,
                left => (1 << left) - 1,
            })
            .collect();
        let flat = |vector: usize, lane: usize| vector * BLOCKS + lane;
        let tile = (0..control_blocks)
            .map(|vector| {
                [
                    std::array::from_fn(|lane| (flat(vector, lane) % control_blocks) as u64),
                    std::array::from_fn(|lane| (flat(vector, lane) / control_blocks) as u64),
                ]
            })
            .collect();
        Self {
            chance,
            groups,
            control_blocks,
            genes,
            tile,
            control: Source::new(seed, DOMAIN_CONTROL),
            normals: Source::new(seed, DOMAIN_NORMALS),
            initial: Source::new(seed, DOMAIN_INITIAL),
            samples: Samples::new(seed),
            parameters,
        }
    }

    /// Lines of one individual.
    pub fn lines(&self) -> usize {
        self.groups * GROUP_LINES
    }

    /// Words of masks of one kind of one child.
    pub fn words(&self) -> usize {
        self.groups * GROUP / MASKED
    }

    /// Bytes of the genes of a whole population.
    pub fn rows_bytes(&self) -> u64 {
        (self.parameters.population * self.lines() * size_of::<Line>()) as u64
    }
}
