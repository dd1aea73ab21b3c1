//! The ballot box: validates votes, keeps the first of each agent and decides by quorum.
//!
//! Which vote is an agent's first must not depend on the order of arrival, which no two receivers
//! share: it is the one with the lowest sequence number (`flags`), and among equal numbers the
//! lowest value. All further valid votes of the agent on that proposal are duplicates, and if any
//! two of them name different values, the agent has equivocated. Each rule is a minimum, a sum or
//! an "any", so the answer depends neither on order nor on how a batch is split.

use super::parameters::{Ballot, Parameters};
use super::partition::Partitions;
use super::votes::{Digest, SEQUENCE_MAX, Vote};
use crate::operations::Pause;

/// Classes of votes, in the order in which a vote with several faults is filed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    pub tallied: u64,
    pub duplicates: u64,
    /// The agent is not of the group.
    pub unauthorised: u64,
    pub unknown_proposal: u64,
    pub unknown_value: u64,
    pub wrong_round: u64,
    /// The top flag, which no sender may set, is set.
    pub malformed: u64,
}

impl Classes {
    pub fn as_array(&self) -> [u64; 7] {
        [
            self.tallied,
            self.duplicates,
            self.unauthorised,
            self.unknown_proposal,
            self.unknown_value,
            self.wrong_round,
            self.malformed,
        ]
    }

    pub fn invalid(&self) -> u64 {
        self.as_array()[2..].iter().sum()
    }

    #[cold]
    fn reject(&mut self, vote: Vote, ballot: &Ballot) {
        let class = if vote.agent.wrapping_sub(ballot.agent_first) >= ballot.agents {
            &mut self.unauthorised
        } else if vote.proposal.wrapping_sub(ballot.proposal_first) >= ballot.proposals {
            &mut self.unknown_proposal
        } else if u32::from(vote.value) >= ballot.values {
            &mut self.unknown_value
        } else if vote.round != ballot.round {
            &mut self.wrong_round
        } else {
            &mut self.malformed
        };
        *class += 1;
    }
}

/// Agent and proposal of a valid vote, counted from the ballot's first ones.
#[inline(always)]
pub fn valid(vote: Vote, ballot: &Ballot) -> Option<(u32, u32)> {
    let agent = vote.agent.wrapping_sub(ballot.agent_first);
    let proposal = vote.proposal.wrapping_sub(ballot.proposal_first);
    let fits = (agent < ballot.agents)
        & (proposal < ballot.proposals)
        & (u32::from(vote.value) < ballot.values)
        & (vote.round == ballot.round)
        & (vote.flags <= SEQUENCE_MAX);
    fits.then_some((agent, proposal))
}

/// A vote's place in its agent's order: sequence number, then value. Below `EQUIVOCATED`.
#[inline(always)]
pub fn rank(vote: Vote) -> u32 {
    u32::from(vote.flags) << 16 | u32::from(vote.value)
}

/// A cell without a vote; no vote has this rank, as values stay below 65 535.
const EMPTY: u32 = u32::MAX;
/// Set in a cell whose agent voted for two values.
const EQUIVOCATED: u32 = 1 << 31;
/// No value reached the quorum.
pub const UNDECIDED: u32 = u32::MAX;

/// The tallies that cells feed, apart from the cells so that both can be borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallies {
    /// Counted votes by proposal and value, row by row.
    pub counts: Vec<u32>,
    /// Equivocating agents by proposal.
    pub evidence: Vec<u32>,
    /// The decided value by proposal, or `UNDECIDED`.
    pub decisions: Vec<u32>,
    pub classes: Classes,
    values: usize,
}

impl Tallies {
    /// Files a valid vote into its cell.
    #[inline(always)]
    pub fn count(&mut self, cell: &mut u32, proposal: usize, rank: u32) {
        let held = *cell;
        let fresh = held == EMPTY;
        *cell = if fresh { rank } else { held };
        self.counts[proposal * self.values + (rank & 0xFFFF) as usize] += u32::from(fresh);
        self.classes.tallied += u64::from(fresh);
        self.classes.duplicates += u64::from(!fresh);
        if !fresh & (held != rank) {
            self.contradict(cell, proposal, rank);
        }
    }

    /// A further vote that is no exact repeat: keeps the first of the two, notes a difference.
    #[inline(never)]
    fn contradict(&mut self, cell: &mut u32, proposal: usize, rank: u32) {
        let (mut caught, first) = (*cell & EQUIVOCATED, *cell & !EQUIVOCATED);
        if (first ^ rank) & 0xFFFF != 0 {
            self.evidence[proposal] += u32::from(caught == 0);
            caught = EQUIVOCATED;
        }
        if rank < first {
            let row = proposal * self.values;
            self.counts[row + (first & 0xFFFF) as usize] -= 1;
            self.counts[row + (rank & 0xFFFF) as usize] += 1;
        }
        *cell = caught | first.min(rank);
    }
}

/// Decides one proposal: the value with a quorum, unless more agents than are tolerated were
/// caught, for then no count can be trusted.
pub fn decision(counts: &[u32], evidence: u32, tolerated: u32, quorum: u32) -> u32 {
    if evidence > tolerated {
        return UNDECIDED;
    }
    counts.iter().position(|&count| count >= quorum).map_or(UNDECIDED, |value| value as u32)
}

/// One worker's ballot box, emptied for every batch.
pub struct Ballots {
    pub ballot: Ballot,
    pub tallies: Tallies,
    /// What came in, to be compared with what was sent.
    pub received: Digest,
    pub tolerated: u32,
    pub quorum: u32,
    /// One per agent and proposal, of one partition at a time.
    cells: Vec<u32>,
    partitions: Partitions,
}

impl Ballots {
    /// A box for batches of up to `votes_max` votes.
    pub fn new(parameters: &Parameters, votes_max: u32) -> Self {
        let partitions = Partitions::new(parameters.agents, parameters.proposals, votes_max);
        let proposals = parameters.proposals as usize;
        let values = parameters.values as usize;
        Self {
            ballot: Ballot::of(parameters, 0),
            tallies: Tallies {
                counts: vec![0; proposals * values],
                evidence: vec![0; proposals],
                decisions: vec![UNDECIDED; proposals],
                classes: Classes::default(),
                values,
            },
            received: Digest::default(),
            tolerated: parameters.tolerated(),
            quorum: parameters.quorum(),
            cells: vec![EMPTY; partitions.cells()],
            partitions,
        }
    }

    /// Bytes that a box takes.
    pub fn bytes(parameters: &Parameters, votes_max: u32) -> u64 {
        let (agents, proposals) = (parameters.agents, parameters.proposals);
        let counts = u64::from(proposals) * u64::from(parameters.values);
        4 * (counts + 2 * u64::from(proposals)) + Partitions::bytes(agents, proposals, votes_max)
    }

    /// Empties the box for a batch.
    pub fn open(&mut self, ballot: Ballot) {
        self.ballot = ballot;
        self.tallies.counts.fill(0);
        self.tallies.evidence.fill(0);
        self.tallies.classes = Classes::default();
        self.received = Digest::default();
        if self.partitions.single() {
            self.cells.fill(EMPTY);
        } else {
            self.partitions.clear();
        }
    }

    /// Takes in a part of the batch.
    pub fn receive(&mut self, votes: &[Vote]) {
        if self.partitions.single() {
            self.receive_directly(votes);
        } else {
            self.receive_apart(votes);
        }
    }

    fn receive_directly(&mut self, votes: &[Vote]) {
        let ballot = self.ballot;
        let mut received = self.received;
        for &vote in votes {
            received.add(vote);
            if let Some((agent, proposal)) = valid(vote, &ballot) {
                let cell = &mut self.cells[self.partitions.cell(proposal, agent) as usize];
                self.tallies.count(cell, proposal as usize, rank(vote));
            } else {
                self.tallies.classes.reject(vote, &ballot);
            }
        }
        self.received = received;
    }

    fn receive_apart(&mut self, votes: &[Vote]) {
        let ballot = self.ballot;
        let mut received = self.received;
        for &vote in votes {
            received.add(vote);
            if let Some((agent, proposal)) = valid(vote, &ballot) {
                self.partitions.put(proposal, agent, rank(vote));
            } else {
                self.tallies.classes.reject(vote, &ballot);
            }
        }
        self.received = received;
    }

    /// Tallies what was set apart and decides every proposal.
    pub fn close(&mut self, pause: &mut dyn Pause) {
        if !self.partitions.single() {
            for partition in 0..self.partitions.count() {
                self.cells.fill(EMPTY);
                let (cells, tallies) = (&mut self.cells, &mut self.tallies);
                let proposals = self.partitions.proposals(partition);
                self.partitions.drain(partition, pause, |cell, proposal, rank| {
                    tallies.count(&mut cells[cell], proposals.start + proposal, rank);
                });
                pause.point();
            }
        }
        let values = self.tallies.values;
        let rows = self.tallies.counts.chunks_exact(values).zip(&self.tallies.evidence);
        for (decided, (counts, &evidence)) in self.tallies.decisions.iter_mut().zip(rows) {
            *decided = decision(counts, evidence, self.tolerated, self.quorum);
        }
    }

    pub fn values(&self) -> usize {
        self.tallies.values
    }
}
