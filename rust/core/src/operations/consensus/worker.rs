//! One worker of the consensus component: its scratch memory, the timed path and the check after.

use std::sync::Arc;

use super::ballots::{Ballots, UNDECIDED, decision};
use super::counters::{Own, Total};
use super::election::{SCORES, elect, is_candidate, is_unbeaten};
use super::oracle::Oracle;
use super::parameters::Ballot;
use super::votes::{Digest, Vote, mixed};
use super::{Shared, op};
use crate::operations::pages::filled;
use crate::operations::{Completion, Fault, Operation, Pause, Request, Status, Verdict};

/// Votes drawn and counted at a time: 32 KiB, which stay in the first-level cache.
const CHUNK: usize = 2048;
/// Chunks between two pauses: about 100 µs.
const PAUSE_CHUNKS: usize = 8;
/// Votes that `generate` keeps at most: 16 MiB, reused.
const KEPT: usize = 1 << 20;
/// Kept votes that the oracle draws again after a `generate`.
const SAMPLES: usize = 4096;
/// Votes that the oracle looks at between two pauses: about 100 µs.
const ORACLE_CHUNK: usize = 4096;
/// Counts of a tally added up between two pauses: about 50 µs.
const PAUSE_COUNTS: usize = 1 << 16;
/// Candidates among whom the oracle looks for one above the leader: about 15 µs.
const CANDIDATES: u32 = 1024;

pub struct Worker {
    pub shared: Arc<Shared>,
    pub ballots: Ballots,
    pub votes: Vec<Vote>,
    /// What the generator sent: of the batch, or after `generate` of the votes kept.
    pub sent: Digest,
    /// The index of the first vote kept by `generate`.
    kept_first: u32,
    pub leader: u64,
    /// The highest score of the last election, kept apart from its leader.
    highest: u32,
    scores: Box<[u32; SCORES]>,
    oracle: Oracle,
    pub last: Option<Request>,
    own: Arc<Own>,
}

/// Votes that a worker's buffer holds.
pub fn buffer(batch: u32) -> usize {
    (batch as usize).min(KEPT)
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        let parameters = &shared.parameters;
        let mut ballots = Ballots::new(parameters, parameters.batch.max(parameters.stored_votes));
        ballots.open(Ballot::of(parameters, 0));
        Self {
            ballots,
            votes: filled(buffer(parameters.batch)),
            sent: Digest::default(),
            kept_first: 0,
            leader: 0,
            highest: 0,
            scores: Box::new([1; SCORES]),
            oracle: Oracle::new(parameters.agents, parameters.values),
            last: None,
            own: shared.counters.enrol(),
            shared,
        }
    }

    fn decide(&mut self, key: u64, pause: &mut dyn Pause) -> u64 {
        let shared = &*self.shared;
        let ballot = Ballot::of(&shared.parameters, key);
        let aim = shared.source.aim(ballot, key);
        self.ballots.open(ballot);
        self.sent = Digest::default();
        let batch = shared.parameters.batch as usize;
        for (turn, first) in (0..batch).step_by(CHUNK).enumerate() {
            let votes = &mut self.votes[..CHUNK.min(batch - first)];
            self.sent.merge((shared.fill)(&aim, first as u32, votes));
            self.ballots.receive(votes);
            if turn % PAUSE_CHUNKS == PAUSE_CHUNKS - 1 {
                pause.point();
            }
        }
        self.ballots.close(pause);
        self.count();
        batch as u64
    }

    fn tally(&mut self, pause: &mut dyn Pause) -> u64 {
        let shared = &*self.shared;
        self.ballots.open(Ballot::of(&shared.parameters, 0));
        self.sent = shared.stored_digest;
        for votes in shared.stored.chunks(PAUSE_CHUNKS * CHUNK) {
            self.ballots.receive(votes);
            pause.point();
        }
        self.ballots.close(pause);
        self.count();
        self.shared.stored.len() as u64
    }

    fn generate(&mut self, key: u64, pause: &mut dyn Pause) -> u64 {
        let shared = &*self.shared;
        let aim = shared.source.aim(Ballot::of(&shared.parameters, key), key);
        let batch = shared.parameters.batch as usize;
        for first in (0..batch).step_by(KEPT) {
            self.kept_first = first as u32;
            self.sent = Digest::default();
            let kept = KEPT.min(batch - first);
            let chunks = self.votes[..kept].chunks_mut(PAUSE_CHUNKS * CHUNK);
            for (turn, votes) in chunks.enumerate() {
                let from = first + turn * PAUSE_CHUNKS * CHUNK;
                self.sent.merge((shared.fill)(&aim, from as u32, votes));
                pause.point();
            }
        }
        batch as u64
    }

    fn elect(&mut self, key: u64, pause: &mut dyn Pause) -> u64 {
        let shared = &*self.shared;
        let ballot = Ballot::of(&shared.parameters, key);
        let words = [key as u32, (key >> 32) as u32];
        let stream = shared.score_stream;
        (self.leader, self.highest) =
            elect(shared.score, stream, words, &ballot, &mut self.scores, pause);
        self.own.add(Total::Elections, 1);
        u64::from(ballot.agents)
    }

    fn count(&self) {
        let tallies = &self.ballots.tallies;
        let decided = tallies.decisions.iter().filter(|&&value| value != UNDECIDED).count() as u64;
        self.own.add(Total::Decisions, decided);
        self.own.add(Total::Undecided, tallies.decisions.len() as u64 - decided);
        self.own.add_classes(tallies.classes.as_array());
        self.own.add(Total::Equivocations, tallies.equivocations);
    }

    /// Whether the last answer is consistent in itself: nothing lost, doubled or altered between
    /// sender and tally, every counted vote in exactly one count, and decisions as counts demand.
    fn consistent(&self, pause: &mut dyn Pause) -> bool {
        let ballots = &self.ballots;
        let tallies = &ballots.tallies;
        let classes = tallies.classes;
        let (mut counted, mut caught, mut looked_at) = (0, 0, 0);
        let rows = tallies.counts.chunks_exact(ballots.values()).zip(&tallies.evidence);
        let decided = rows.zip(&tallies.decisions).all(|((counts, &evidence), &decided)| {
            let row: u64 = counts.iter().map(|&count| u64::from(count)).sum();
            counted += row;
            caught += u64::from(evidence);
            looked_at += counts.len();
            if looked_at >= PAUSE_COUNTS {
                looked_at = 0;
                pause.point();
            }
            let agents = u64::from(ballots.ballot.agents);
            row <= agents
                && u64::from(evidence) <= row
                && decided == decision(counts, evidence, ballots.tolerated, ballots.quorum)
        });
        decided
            && self.sent == ballots.received
            && counted == classes.tallied
            && caught == tallies.equivocations
            && classes.tallied + classes.duplicates + classes.invalid() == self.sent.votes
    }

    /// Whether a proposal, another one for every key, is what the oracle makes of it.
    fn oracle_agrees(&mut self, request: Request, pause: &mut dyn Pause) -> bool {
        let Self { shared, oracle, ballots, .. } = self;
        let proposal = chance(request.key ^ 1) % shared.parameters.proposals;
        oracle.begin(pause);
        if request.op == op::TALLY {
            for votes in shared.stored.chunks(ORACLE_CHUNK) {
                oracle.collect(&ballots.ballot, proposal, votes.iter().copied());
                pause.point();
            }
        } else {
            let aim = shared.source.aim(ballots.ballot, request.key);
            let batch = shared.parameters.batch;
            for first in (0..batch).step_by(ORACLE_CHUNK) {
                let indices = first..batch.min(first + ORACLE_CHUNK as u32);
                oracle.collect(&ballots.ballot, proposal, indices.map(|index| aim.vote(index)));
                pause.point();
            }
        }
        oracle.agrees(ballots, proposal, pause)
    }

    /// Whether the kept votes are those that were sent.
    fn kept_as_sent(&self, kept: usize, pause: &mut dyn Pause) -> bool {
        let mut found = Digest::default();
        for votes in self.votes[..kept].chunks(PAUSE_CHUNKS * CHUNK) {
            found.merge(Digest::of(votes));
            pause.point();
        }
        found == self.sent
    }

    /// Whether kept votes, evenly spread, are those of the plain generator.
    fn samples_agree(&self, request: Request, kept: usize) -> bool {
        let parameters = &self.shared.parameters;
        let aim = self.shared.source.aim(Ballot::of(parameters, request.key), request.key);
        (0..kept)
            .step_by(kept.div_ceil(SAMPLES))
            .all(|index| self.votes[index] == aim.vote(self.kept_first + index as u32))
    }

    /// Whether the leader has a score of its own that is the highest drawn, and if it is looked at
    /// more closely nobody, of many candidates those that the key says, is above it.
    fn leads(&self, request: Request, closely: bool) -> bool {
        let ballot = Ballot::of(&self.shared.parameters, request.key);
        let words = [request.key as u32, (request.key >> 32) as u32];
        let stream = self.shared.score_stream;
        let first = chance(request.key ^ 3) % (ballot.agents.saturating_sub(CANDIDATES) + 1);
        let agents = first..ballot.agents.min(first + CANDIDATES);
        is_candidate(self.leader, self.highest, stream, words, &ballot)
            && (!closely || is_unbeaten(self.leader, stream, words, &ballot, agents))
    }

    /// Whether the answer holds.
    fn holds(&mut self, request: Request, pause: &mut dyn Pause) -> bool {
        let chosen = chance(request.key) % self.shared.parameters.oracle_every == 0;
        self.own.add(Total::OracleChecks, u64::from(chosen));
        match request.op {
            op::GENERATE => {
                let kept = self.sent.votes as usize;
                self.kept_as_sent(kept, pause) && (!chosen || self.samples_agree(request, kept))
            }
            op::ELECT => self.leads(request, chosen),
            _ => self.consistent(pause) && (!chosen || self.oracle_agrees(request, pause)),
        }
    }
}

/// A word that decides, by the key alone, what of an operation is checked.
pub fn chance(key: u64) -> u32 {
    mixed(key as u32 ^ mixed((key >> 32) as u32 ^ 0x6F72_6163))
}

impl Operation for Worker {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        let units = match request.op {
            op::DECIDE => self.decide(request.key, pause),
            op::TALLY => self.tally(pause),
            op::GENERATE => self.generate(request.key, pause),
            op::ELECT => self.elect(request.key, pause),
            _ => return Completion { status: Status::Error, units: 0 },
        };
        self.last = Some(request);
        Completion { status: Status::Ok, units }
    }

    fn plant(&mut self, fault: Fault) -> bool {
        self.damage(fault)
    }

    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        let Some(request) = self.last.take() else {
            return Verdict::default();
        };
        let holds = self.holds(request, pause);
        Verdict { checked: 1, violations: u32::from(!holds) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.counters.retire(&self.own);
    }
}
