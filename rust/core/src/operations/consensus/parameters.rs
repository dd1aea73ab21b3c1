//! Parameters of the consensus component, and what a request's key makes of them.

use serde::Deserialize;

use crate::operations::{BuildError, within};

pub const BATCH_MAX: u32 = 1 << 24;
pub const AGENTS_MAX: u32 = 1 << 20;
pub const PROPOSALS_MAX: u32 = 1 << 16;
pub const VALUES_MAX: u32 = 65_535;
pub const COUNTS_MAX: u64 = 1 << 24;
pub const GROUPS_MAX: u32 = 1 << 12;
pub const STORED_VOTES_MAX: u32 = 1 << 26;
pub const ORACLE_EVERY_MAX: u32 = 1 << 16;

/// How the votes of a batch are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// Proposals and agents uniform.
    Uniform,
    /// Proposals by Zipf's law with exponent 1.1.
    Zipf,
    /// Every vote for value 0.
    Same,
    /// Uniform, and `byzantine` of the agents equivocate, forge their identity or vote in a
    /// wrong round.
    Byzantine,
    /// Uniform, and `duplicates` of the votes repeat an earlier one.
    Duplicates,
}

/// The same names and bounds as `Consensus` in `components/consensus.py`, which has the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Votes per operation.
    pub batch: u32,
    /// Authorised agents of a proposal (n).
    pub agents: u32,
    pub proposals: u32,
    pub values: u32,
    /// Independent consensus groups that the operations take turns in.
    pub groups: u32,
    pub mix: Mix,
    /// Share of (agent, proposal) pairs that prefer the proposal's leading value.
    pub agreement: f64,
    pub byzantine: f64,
    pub duplicates: f64,
    /// Votes kept in memory for the operation `tally`.
    pub stored_votes: u32,
    /// One operation in so many is recomputed by the oracle.
    pub oracle_every: u32,
}

impl Parameters {
    /// Reads and checks a JSON object.
    ///
    /// # Errors
    /// An unknown, missing or mistyped key, or a value out of its bounds.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let read: Self = serde_json::from_str(text)?;
        within("batch", read.batch, 1, BATCH_MAX)?;
        within("agents", read.agents, 1, AGENTS_MAX)?;
        within("proposals", read.proposals, 1, PROPOSALS_MAX)?;
        within("values", read.values, 1, VALUES_MAX)?;
        within("groups", read.groups, 1, GROUPS_MAX)?;
        within("stored_votes", read.stored_votes, 1, STORED_VOTES_MAX)?;
        within("oracle_every", read.oracle_every, 1, ORACLE_EVERY_MAX)?;
        within("agreement", read.agreement, 0.0, 1.0)?;
        within("byzantine", read.byzantine, 0.0, 1.0)?;
        within("duplicates", read.duplicates, 0.0, 0.99)?;
        if u64::from(read.proposals) * u64::from(read.values) > COUNTS_MAX {
            return Err(BuildError::Value {
                key: "values",
                problem: format!("proposals * values is above {COUNTS_MAX}"),
            });
        }
        Ok(read)
    }

    /// Most faulty agents that a proposal tolerates: f = floor((n - 1) / 3).
    pub fn tolerated(&self) -> u32 {
        (self.agents - 1) / 3
    }

    /// Votes that decide: q = ceil((n + f + 1) / 2), more than half of n, so that two values
    /// cannot both have them.
    pub fn quorum(&self) -> u32 {
        (self.agents + self.tolerated() + 1).div_ceil(2)
    }

    /// Agents `0..faulty()` of a group are faulty under `Mix::Byzantine`.
    pub fn faulty(&self) -> u32 {
        let agents = u64::from(self.agents);
        ((agents * u64::from(per_65536(self.byzantine))) >> 16) as u32
    }
}

/// A share in units of 2^-16, rounded to nearest; exact in every language with IEEE doubles.
pub fn per_65536(share: f64) -> u32 {
    (share * 65_536.0 + 0.5) as u32
}

/// One round of one group: what a valid vote of a batch must name.
///
/// (group, round, proposal) is different for every key, so no two operations decide the same
/// question: a lane has proposals of its own, its ordinals take turns among the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub agent_first: u32,
    pub agents: u32,
    pub proposal_first: u32,
    pub proposals: u32,
    pub values: u32,
    pub round: u32,
}

impl Ballot {
    pub fn of(parameters: &Parameters, key: u64) -> Self {
        let (lane, ordinal) = ((key >> 48) as u32, key & ((1 << 48) - 1));
        let groups = u64::from(parameters.groups);
        Self {
            agent_first: (ordinal % groups) as u32 * parameters.agents,
            agents: parameters.agents,
            proposal_first: lane * parameters.proposals,
            proposals: parameters.proposals,
            values: parameters.values,
            round: (ordinal / groups) as u32,
        }
    }
}
