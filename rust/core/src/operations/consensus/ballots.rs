//! The ballot box: validates votes, keeps the first of each agent and decides by quorum.
//!
//! Which vote is an agent's first must not depend on the order of arrival, which no two receivers
//! share: it is the one with the lowest sequence number (`flags`), and among equal numbers the
//! lowest value. All further valid votes of the agent on that proposal are duplicates, and if any
//! two of them name different values, the agent has equivocated. Each rule is a minimum, a sum or
//! an "any", so the answer depends neither on order nor on how a batch is split.

use super::parameters::{Ballot, Parameters};
use super::partition::{PAUSE_BLOCKS, Partitions};
use super::votes::{Digest, SEQUENCE_MAX, Vote};
use crate::operations::Pause;
use crate::operations::pages::filled;

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

    fn merge(&mut self, other: Self) {
        self.tallied += other.tallied;
        self.duplicates += other.duplicates;
        self.unauthorised += other.unauthorised;
        self.unknown_proposal += other.unknown_proposal;
        self.unknown_value += other.unknown_value;
        self.wrong_round += other.wrong_round;
        self.malformed += other.malformed;
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
    /// Agents caught over all proposals, counted apart from `evidence`.
    pub equivocations: u64,
    values: usize,
}

/// Files valid votes into cells; its totals stay in registers until it is done.
struct Filing<'a> {
    counts: &'a mut [u32],
    evidence: &'a mut [u32],
    values: usize,
    filed: u64,
    tallied: u64,
    equivocations: u64,
}

impl Filing<'_> {
    #[inline(always)]
    fn file(&mut self, cell: &mut u32, proposal: usize, rank: u32) {
        let fresh = *cell == EMPTY;
        // Whether a vote is its agent's first cannot be foreseen, that a repeat is exact can: only
        // the latter may be a branch.
        let held = if fresh { rank } else { *cell };
        *cell = held;
        self.counts[proposal * self.values + (rank & 0xFFFF) as usize] += u32::from(fresh);
        self.filed += 1;
        self.tallied += u64::from(fresh);
        if held != rank {
            let row = &mut self.counts[proposal * self.values..][..self.values];
            *cell = contradicted(held, rank, row, &mut self.evidence[proposal]);
            self.equivocations += u64::from((*cell & !held) / EQUIVOCATED);
        }
    }

    /// What was filed, and how many agents were caught.
    fn totals(&self) -> (Classes, u64) {
        let duplicates = self.filed - self.tallied;
        let classes = Classes { tallied: self.tallied, duplicates, ..Classes::default() };
        (classes, self.equivocations)
    }
}

/// What a cell holds after a further vote that is no exact repeat: the first of the two, and
/// whether values differed; keeps the proposal's counts and evidence.
#[inline(never)]
fn contradicted(held: u32, rank: u32, counts: &mut [u32], evidence: &mut u32) -> u32 {
    let (mut caught, first) = (held & EQUIVOCATED, held & !EQUIVOCATED);
    if (first ^ rank) & 0xFFFF != 0 {
        *evidence += u32::from(caught == 0);
        caught = EQUIVOCATED;
    }
    if rank < first {
        counts[(first & 0xFFFF) as usize] -= 1;
        counts[(rank & 0xFFFF) as usize] += 1;
    }
    caught | first.min(rank)
}

impl Tallies {
    fn filing(&mut self) -> Filing<'_> {
        Filing {
            counts: &mut self.counts,
            evidence: &mut self.evidence,
            values: self.values,
            filed: 0,
            tallied: 0,
            equivocations: 0,
        }
    }

    fn add(&mut self, (classes, equivocations): (Classes, u64)) {
        self.classes.merge(classes);
        self.equivocations += equivocations;
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
                equivocations: 0,
                values,
            },
            received: Digest::default(),
            tolerated: parameters.tolerated(),
            quorum: parameters.quorum(),
            cells: filled(partitions.cells()),
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
        self.tallies.equivocations = 0;
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
        let (ballot, place) = (self.ballot, self.partitions.place());
        let mut received = Digest::default();
        let mut rejected = Classes::default();
        let mut filing = self.tallies.filing();
        let cells = self.cells.as_mut_slice();
        for &vote in votes {
            received.add(vote);
            if let Some((agent, proposal)) = valid(vote, &ballot) {
                let cell = &mut cells[place.cell(proposal, agent) as usize];
                filing.file(cell, proposal as usize, rank(vote));
            } else {
                rejected.reject(vote, &ballot);
            }
        }
        let filed = filing.totals();
        self.tallies.add(filed);
        self.tallies.classes.merge(rejected);
        self.received.merge(received);
    }

    fn receive_apart(&mut self, votes: &[Vote]) {
        let ballot = self.ballot;
        let mut received = Digest::default();
        let mut rejected = Classes::default();
        let mut sorting = self.partitions.sorting();
        for &vote in votes {
            received.add(vote);
            if let Some((agent, proposal)) = valid(vote, &ballot) {
                sorting.put(proposal, agent, rank(vote));
            } else {
                rejected.reject(vote, &ballot);
            }
        }
        self.tallies.classes.merge(rejected);
        self.received.merge(received);
    }

    /// Tallies what was set apart and decides every proposal.
    pub fn close(&mut self, pause: &mut dyn Pause) {
        let partitions = if self.partitions.single() { 0 } else { self.partitions.count() };
        for partition in 0..partitions {
            let first = self.partitions.proposals(partition).start;
            let cells = self.cells.as_mut_slice();
            cells.fill(EMPTY);
            for (walked, block) in self.partitions.blocks(partition).enumerate() {
                let mut filing = self.tallies.filing();
                block.each(|cell, proposal, rank| {
                    filing.file(&mut cells[cell], first + proposal, rank);
                });
                let filed = filing.totals();
                self.tallies.add(filed);
                if walked % PAUSE_BLOCKS == PAUSE_BLOCKS - 1 {
                    pause.point();
                }
            }
            pause.point();
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
