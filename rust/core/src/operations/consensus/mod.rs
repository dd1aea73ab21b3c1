//! Consensus: batches of votes generated, validated, stripped of duplicates, tallied and decided.
//!
//! A proposal has n authorised agents, tolerates f = floor((n - 1) / 3) faulty ones and is decided
//! for a value with at least q = ceil((n + f + 1) / 2) votes (Castro and Liskov, "Practical
//! Byzantine Fault Tolerance", OSDI 1999; here for any n), unless more than f agents were caught
//! equivocating.

use std::sync::Arc;

use serde_json::json;

use crate::operations::pages::filled;
use crate::operations::{Array, Arrays, Build, BuildError, Component, NoPause, Operation};
use crate::random::stream_key;

mod ballots;
mod cells;
mod counters;
mod election;
mod lanes;
mod oracle;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "compiled only where build.rs found them stable")]
mod packed;
mod parameters;
mod partition;
mod planting;
mod screen;
#[cfg(test)]
mod tests;
mod vector;
mod votes;
mod worker;
mod zipf;

use ballots::{Ballots, UNDECIDED};
use counters::Counters;
use lanes::{Fill, Score};
use oracle::Oracle;
use parameters::{Ballot, Parameters};
use votes::{Digest, Source, Vote};
use worker::Worker;

/// The order of `OPS`.
mod op {
    pub const DECIDE: u8 = 0;
    pub const TALLY: u8 = 1;
    pub const GENERATE: u8 = 2;
    pub const ELECT: u8 = 3;
}
const OPS: [&str; 4] = ["decide", "tally", "generate", "elect"];

/// What all workers read.
struct Shared {
    parameters: Parameters,
    seed: u64,
    source: Source,
    fill: Fill,
    score: Score,
    score_stream: [u32; 2],
    /// The votes of `tally`: those of key 0.
    stored: Vec<Vote>,
    stored_digest: Digest,
    counters: Counters,
}

struct Consensus {
    shared: Arc<Shared>,
}

/// Builds the component: checks the parameters and generates the stored votes.
///
/// # Errors
/// Parameters out of bounds, or cancelled.
pub fn build(parameters: &str, context: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    Ok(Arc::new(Consensus { shared: Arc::new(shared(parameters, context)?) }))
}

fn shared(parameters: &str, context: &Build<'_>) -> Result<Shared, BuildError> {
    const STEP: usize = 1 << 20;
    let parameters = Parameters::parse(parameters)?;
    let source = Source::new(&parameters, context.seed);
    let fill = lanes::best(parameters.mix);
    let aim = source.aim(Ballot::of(&parameters, 0), 0);
    let mut stored: Vec<Vote> = filled(parameters.stored_votes as usize);
    let mut stored_digest = Digest::default();
    let total = stored.len() as f64;
    for (turn, votes) in stored.chunks_mut(STEP).enumerate() {
        stored_digest.merge(fill(&aim, (turn * STEP) as u32, votes));
        if !(context.progress)("votes", ((turn * STEP + votes.len()) as f64) / total) {
            return Err(BuildError::Cancelled);
        }
    }
    Ok(Shared {
        seed: context.seed,
        fill,
        score: lanes::best_score(),
        score_stream: stream_key(context.seed, election::DOMAIN_SCORES),
        source,
        stored,
        stored_digest,
        counters: Counters::default(),
        parameters,
    })
}

impl Component for Consensus {
    fn ops(&self) -> &'static [&'static str] {
        &OPS
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Worker::new(Arc::clone(&self.shared)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        let parameters = &self.shared.parameters;
        let stored = size_of_val(self.shared.stored.as_slice()) as u64;
        let worker = Ballots::bytes(parameters, parameters.batch.max(parameters.stored_votes))
            + (worker::buffer(parameters.batch) * size_of::<Vote>()) as u64
            + Oracle::bytes(parameters.agents, parameters.values)
            + 4 * election::SCORES as u64;
        stored + self.shared.source.zipf.bytes() + workers as u64 * worker
    }

    fn describe(&self) -> serde_json::Value {
        let parameters = &self.shared.parameters;
        json!({
            "quorum": parameters.quorum(),
            "tolerated_faulty": parameters.tolerated(),
            "faulty": self.shared.source.faulty,
            "partitions": partition::count(parameters.agents, parameters.proposals),
        })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.read()
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        match op {
            "decide" | "tally" => self.evaluate_votes(inputs),
            "generate" => self.evaluate_generate(inputs),
            "elect" => evaluate_elect(inputs),
            _ => Err(BuildError::Value { key: "op", problem: format!("there is no op `{op}`") }),
        }
    }
}

impl Consensus {
    fn evaluate_votes(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let parameters = &self.shared.parameters;
        let votes = votes_from(inputs)?;
        let length = u32::try_from(votes.len()).map_err(|_| BuildError::Value {
            key: "agent",
            problem: format!("{} votes are too many", votes.len()),
        })?;
        let mut ballots = Ballots::new(parameters, length);
        ballots.open(Ballot::of(parameters, single(inputs, "key")?));
        ballots.receive(&votes);
        ballots.close(&mut NoPause);
        let tallies = ballots.tallies;
        let decided = |value| if value == UNDECIDED { -1 } else { value as i32 };
        let decisions = tallies.decisions.into_iter().map(decided).collect();
        Ok(Arrays::from([
            ("classes".to_owned(), Array::U64(tallies.classes.as_array().to_vec())),
            ("counts".to_owned(), Array::U32(tallies.counts)),
            ("decision".to_owned(), Array::I32(decisions)),
            ("evidence".to_owned(), Array::U32(tallies.evidence)),
        ]))
    }

    fn evaluate_generate(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let seed = single(inputs, "seed")?;
        if seed != self.shared.seed {
            let problem = format!("the component was built for seed {}", self.shared.seed);
            return Err(BuildError::Value { key: "seed", problem });
        }
        let key = single(inputs, "key")?;
        let aim = self.shared.source.aim(Ballot::of(&self.shared.parameters, key), key);
        let mut votes = vec![Vote::default(); self.shared.parameters.batch as usize];
        (self.shared.fill)(&aim, 0, &mut votes);
        Ok(Arrays::from([
            ("agent".to_owned(), Array::U32(votes.iter().map(|vote| vote.agent).collect())),
            ("flags".to_owned(), Array::U16(votes.iter().map(|vote| vote.flags).collect())),
            ("proposal".to_owned(), Array::U32(votes.iter().map(|vote| vote.proposal).collect())),
            ("round".to_owned(), Array::U32(votes.iter().map(|vote| vote.round).collect())),
            ("value".to_owned(), Array::U16(votes.iter().map(|vote| vote.value).collect())),
        ]))
    }
}

fn evaluate_elect(inputs: &Arrays) -> Result<Arrays, BuildError> {
    let (agents, scores) = (words(inputs, "agent")?, words(inputs, "score")?);
    if agents.is_empty() || agents.len() != scores.len() {
        let problem = "needs one candidate or more, with a score each".to_owned();
        return Err(BuildError::Value { key: "agent", problem });
    }
    let best = election::leader(agents.iter().copied().zip(scores.iter().copied()));
    Ok(Arrays::from([
        ("leader".to_owned(), Array::U32(vec![best as u32])),
        ("score".to_owned(), Array::U32(vec![(best >> 32) as u32])),
    ]))
}

fn missing(key: &'static str, kind: &str) -> BuildError {
    BuildError::Value { key, problem: format!("is missing or not an array of {kind}") }
}

fn words<'a>(inputs: &'a Arrays, key: &'static str) -> Result<&'a [u32], BuildError> {
    match inputs.get(key) {
        Some(Array::U32(words)) => Ok(words),
        _ => Err(missing(key, "u32")),
    }
}

fn halves<'a>(inputs: &'a Arrays, key: &'static str) -> Result<&'a [u16], BuildError> {
    match inputs.get(key) {
        Some(Array::U16(halves)) => Ok(halves),
        _ => Err(missing(key, "u16")),
    }
}

fn single(inputs: &Arrays, key: &'static str) -> Result<u64, BuildError> {
    match inputs.get(key) {
        Some(Array::U64(values)) if values.len() == 1 => Ok(values[0]),
        _ => Err(missing(key, "one u64")),
    }
}

fn votes_from(inputs: &Arrays) -> Result<Vec<Vote>, BuildError> {
    let (agent, proposal) = (words(inputs, "agent")?, words(inputs, "proposal")?);
    let (value, flags) = (halves(inputs, "value")?, halves(inputs, "flags")?);
    let round = words(inputs, "round")?;
    let length = agent.len();
    if [proposal.len(), value.len(), flags.len(), round.len()] != [length; 4] {
        let problem = "agent, proposal, value, flags and round differ in length".to_owned();
        return Err(BuildError::Value { key: "agent", problem });
    }
    Ok((0..length)
        .map(|index| Vote {
            agent: agent[index],
            proposal: proposal[index],
            value: value[index],
            flags: flags[index],
            round: round[index],
        })
        .collect())
}
