//! The ballot box: validates votes, keeps the first of each agent and decides by quorum.
//!
//! Which vote is an agent's first must not depend on the order of arrival, which no two receivers
//! share: it is the one with the lowest sequence number (`flags`), and among equal numbers the
//! lowest value. All further valid votes of the agent on that proposal are duplicates, and if any
//! two of them name different values, the agent has equivocated. Each rule is a minimum, a sum or
//! an "any", so the answer depends neither on order nor on how a batch is split.

use super::cells::{Cells, Filed};
use super::parameters::{Ballot, Parameters};
use super::partition::{PAUSE_BLOCKS, Partitions, Place};
use super::screen::{self, CODE_BITS, Screen, Screened, Screener};
use super::votes::{Digest, SEQUENCE_MAX, Vote};
use crate::operations::Pause;

/// Faults of a vote, in the order in which one with several is filed: its agent is not of the
/// group; unknown proposal; unknown value; wrong round; malformed, as the top flag is set, which no
/// sender may set.
const FAULTS: usize = 5;

/// Votes by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    pub tallied: u64,
    pub duplicates: u64,
    pub faulty: [u64; FAULTS],
}

impl Classes {
    pub fn as_array(&self) -> [u64; 2 + FAULTS] {
        let [agent, proposal, value, round, flags] = self.faulty;
        [self.tallied, self.duplicates, agent, proposal, value, round, flags]
    }

    pub fn invalid(&self) -> u64 {
        self.faulty.iter().sum()
    }
}

/// Agent and proposal of a valid vote, counted from the ballot's first ones.
///
/// # Errors
/// The vote's first fault. All are looked at, as no branch on one of them could be foreseen.
#[inline(always)]
fn valid(vote: Vote, ballot: &Ballot) -> Result<(u32, u32), usize> {
    let agent = vote.agent.wrapping_sub(ballot.agent_first);
    let proposal = vote.proposal.wrapping_sub(ballot.proposal_first);
    let faults = u32::from(agent >= ballot.agents)
        | u32::from(proposal >= ballot.proposals) << 1
        | u32::from(u32::from(vote.value) >= ballot.values) << 2
        | u32::from(vote.round != ballot.round) << 3
        | u32::from(vote.flags > SEQUENCE_MAX) << 4;
    if faults == 0 { Ok((agent, proposal)) } else { Err(faults.trailing_zeros() as usize) }
}

/// A vote's place in its agent's order: sequence number, then value. Below 2^31.
#[inline(always)]
pub fn rank(vote: Vote) -> u32 {
    u32::from(vote.flags) << 16 | u32::from(vote.value)
}

/// How many votes ahead of their screening memory is asked for them: 8 KiB, as processors stop
/// asking at the end of every 4 KiB.
const AHEAD: usize = 512;
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

impl Tallies {
    fn add(&mut self, filed: Filed) {
        self.classes.tallied += filed.tallied;
        self.classes.duplicates += filed.duplicates;
        self.equivocations += filed.equivocations;
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
    cells: Cells,
    partitions: Partitions,
    screener: Screener,
    screened: Box<Screened>,
}

impl Ballots {
    /// A box for batches of up to `votes_max` votes.
    pub fn new(parameters: &Parameters, votes_max: u32) -> Self {
        let (agents, proposals) = (parameters.agents, parameters.proposals);
        let values = parameters.values as usize;
        Self {
            ballot: Ballot::of(parameters, 0),
            tallies: Tallies {
                counts: vec![0; proposals as usize * values],
                evidence: vec![0; proposals as usize],
                decisions: vec![UNDECIDED; proposals as usize],
                classes: Classes::default(),
                equivocations: 0,
                values,
            },
            received: Digest::default(),
            tolerated: parameters.tolerated(),
            quorum: parameters.quorum(),
            cells: Place::of(agents, proposals).cells(agents, proposals, parameters.values),
            partitions: Partitions::new(agents, proposals, votes_max),
            screener: screen::best(),
            screened: Box::default(),
        }
    }

    /// Bytes that a box takes.
    pub fn bytes(parameters: &Parameters, votes_max: u32) -> u64 {
        let (agents, proposals) = (parameters.agents, parameters.proposals);
        let counts = u64::from(proposals) * u64::from(parameters.values);
        let cells = Place::of(agents, proposals).cells_bytes(agents, proposals, parameters.values);
        4 * (counts + 2 * u64::from(proposals))
            + (cells + size_of::<Screened>()) as u64
            + Partitions::bytes(agents, proposals, votes_max)
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
            self.cells.clear();
        } else {
            self.partitions.clear();
        }
    }

    /// Takes in a part of the batch.
    pub fn receive(&mut self, votes: &[Vote]) {
        let screen = Screen { ballot: self.ballot, stride: self.partitions.place().stride() };
        let single = self.partitions.single();
        for (turn, part) in votes.chunks(screen::VOTES).enumerate() {
            let ahead = &votes[votes.len().min(turn * screen::VOTES + AHEAD)..];
            let digest = (self.screener)(&screen, part, ahead, &mut self.screened);
            self.received.merge(digest);
            if single {
                self.file_screened(part);
            } else {
                self.set_apart(part);
            }
        }
    }

    /// The votes that were screened go into the cells.
    fn file_screened(&mut self, votes: &[Vote]) {
        let Self { ballot, tallies, cells, partitions, screened, .. } = self;
        let place = partitions.place();
        let mut filing = cells.filing(place.stride(), &mut tallies.counts, &mut tallies.evidence);
        let tickets = screened.tickets().iter();
        let plain = tickets.map(|&ticket| ((ticket >> CODE_BITS) as usize, ticket as u8));
        let mut filed = filing.plain(plain);
        for index in screened.others() {
            let vote = votes[index];
            match valid(vote, ballot) {
                Ok((agent, proposal)) => {
                    let cell = (proposal << place.stride() | agent) as usize;
                    filed.merge(filing.any(cell, rank(vote)));
                }
                Err(fault) => tallies.classes.faulty[fault] += 1,
            }
        }
        tallies.add(filed);
    }

    /// The votes that were screened go to their partitions.
    fn set_apart(&mut self, votes: &[Vote]) {
        self.partitions.put(self.screened.tickets());
        let stride = self.partitions.place().stride();
        for index in self.screened.others() {
            let vote = votes[index];
            match valid(vote, &self.ballot) {
                Ok((agent, proposal)) => {
                    let cell = u64::from(proposal) << stride | u64::from(agent);
                    self.partitions.put_other(cell, rank(vote));
                }
                Err(fault) => self.tallies.classes.faulty[fault] += 1,
            }
        }
    }

    /// Tallies what was set apart and decides every proposal.
    pub fn close(&mut self, pause: &mut dyn Pause) {
        let values = self.tallies.values;
        if self.partitions.single() {
            self.cells.settle(&mut self.tallies.counts, values);
        } else {
            for partition in 0..self.partitions.count() {
                self.count(partition, pause);
                pause.point();
            }
        }
        let rows = self.tallies.counts.chunks_exact(values).zip(&self.tallies.evidence);
        for (decided, (counts, &evidence)) in self.tallies.decisions.iter_mut().zip(rows) {
            *decided = decision(counts, evidence, self.tolerated, self.quorum);
        }
    }

    /// Tallies the votes of one partition.
    fn count(&mut self, partition: usize, pause: &mut dyn Pause) {
        let Self { tallies, cells, partitions, .. } = self;
        let (place, proposals) = (partitions.place(), partitions.proposals(partition));
        let counters = proposals.start * tallies.values..proposals.end * tallies.values;
        cells.clear();
        let tickets = partitions.tickets(partition).map(|block| (block, true));
        let others = partitions.others(partition).map(|block| (block, false));
        for (walked, (block, has_tickets)) in tickets.chain(others).enumerate() {
            let counts = &mut tallies.counts[counters.clone()];
            let evidence = &mut tallies.evidence[proposals.clone()];
            let mut filing = cells.filing(place.stride(), counts, evidence);
            let mut filed = Filed::default();
            if has_tickets {
                block.each(|tickets| {
                    let tickets = tickets.iter();
                    filed.merge(filing.plain(
                        tickets.map(|&ticket| (place.within(ticket >> CODE_BITS), ticket as u8)),
                    ));
                });
            } else {
                block.each_other(|cell, rank| filed.merge(filing.any(cell as usize, rank)));
            }
            tallies.add(filed);
            if walked % PAUSE_BLOCKS == PAUSE_BLOCKS - 1 {
                pause.point();
            }
        }
        cells.settle(&mut tallies.counts[counters], tallies.values);
    }

    pub fn values(&self) -> usize {
        self.tallies.values
    }
}
