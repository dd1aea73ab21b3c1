//! Recomputes one proposal of a batch from its votes, by other means than the ballot box.
//!
//! Votes come from the plain generator (or from memory), every agent's first vote is found before
//! anything is counted, and the tally is made from those at the end.

use super::ballots::{Ballots, UNDECIDED};
use super::parameters::Ballot;
use super::votes::{SEQUENCE_MAX, Vote};
use crate::operations::Pause;

/// Agents forgotten or counted between two pauses: about 50 µs.
const PAUSE_AGENTS: usize = 1 << 15;

/// The memory that checking takes, allocated once per worker.
pub struct Oracle {
    /// By agent: the first vote's (sequence number, value), or `None`.
    firsts: Vec<Option<(u16, u16)>>,
    equivocated: Vec<bool>,
    counts: Vec<u32>,
}

impl Oracle {
    pub fn new(agents: u32, values: u32) -> Self {
        Self {
            firsts: vec![None; agents as usize],
            equivocated: vec![false; agents as usize],
            counts: vec![0; values as usize],
        }
    }

    pub fn bytes(agents: u32, values: u32) -> u64 {
        u64::from(agents) * (size_of::<Option<(u16, u16)>>() as u64 + 1) + u64::from(values) * 4
    }

    /// Forgets all votes.
    pub fn begin(&mut self, pause: &mut dyn Pause) {
        self.equivocated.fill(false);
        for firsts in self.firsts.chunks_mut(PAUSE_AGENTS) {
            firsts.fill(None);
            pause.point();
        }
    }

    /// Whether the box holds the right answer for `proposal` (counted from the ballot's first), of
    /// which the votes were collected.
    pub fn agrees(&mut self, ballots: &Ballots, proposal: u32, pause: &mut dyn Pause) -> bool {
        self.counts.fill(0);
        for firsts in self.firsts.chunks(PAUSE_AGENTS) {
            for &(_, value) in firsts.iter().flatten() {
                self.counts[usize::from(value)] += 1;
            }
            pause.point();
        }
        let evidence = self.equivocated.iter().map(|&caught| u32::from(caught)).sum::<u32>();
        let mut decision = UNDECIDED;
        for (value, &count) in self.counts.iter().enumerate() {
            if count >= ballots.quorum && evidence <= ballots.tolerated {
                decision = value as u32;
            }
        }
        let row = proposal as usize * self.counts.len();
        ballots.tallies.counts[row..row + self.counts.len()] == self.counts
            && ballots.tallies.evidence[proposal as usize] == evidence
            && ballots.tallies.decisions[proposal as usize] == decision
    }

    /// Finds the first votes for `proposal` among more votes.
    pub fn collect(&mut self, ballot: &Ballot, proposal: u32, votes: impl Iterator<Item = Vote>) {
        let agents =
            u64::from(ballot.agent_first)..u64::from(ballot.agent_first) + u64::from(ballot.agents);
        for vote in votes {
            let counts = u64::from(vote.proposal)
                == u64::from(ballot.proposal_first) + u64::from(proposal)
                && agents.contains(&u64::from(vote.agent))
                && u32::from(vote.value) < ballot.values
                && vote.round == ballot.round
                && vote.flags <= SEQUENCE_MAX;
            if !counts {
                continue;
            }
            let agent = (vote.agent - ballot.agent_first) as usize;
            let candidate = (vote.flags, vote.value);
            let first = self.firsts[agent].unwrap_or(candidate);
            self.equivocated[agent] |= first.1 != vote.value;
            self.firsts[agent] = Some(first.min(candidate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ballots::decision;
    use super::super::op;
    use super::super::parameters::{Mix, Parameters};
    use super::super::tests::{parameters, worker};
    use crate::operations::{NoPause, Operation, Pause, Request};

    struct Counted(usize);

    impl Pause for Counted {
        fn point(&mut self) {
            self.0 += 1;
        }
    }

    #[test]
    fn a_closer_look_at_a_long_batch_pauses_between_chunks() {
        let shape = Parameters { batch: 20_000, stored_votes: 20_000, ..parameters(Mix::Uniform) };
        for (oracle_every, expected) in [(1, 20_000usize.div_ceil(4096) + 2), (1 << 16, 0)] {
            let mut worker = worker(&Parameters { oracle_every, ..shape.clone() });
            for op in [op::DECIDE, op::TALLY] {
                let mut pauses = Counted(0);
                worker.run(Request { op, key: 1 }, &mut NoPause);
                let verdict = worker.verify(&mut pauses);
                assert_eq!((verdict.checked, verdict.violations), (1, 0));
                assert_eq!(pauses.0, expected);
            }
        }
    }

    #[test]
    fn a_vote_moved_to_another_value_that_decides_nothing_is_seen_by_the_oracle_alone() {
        for (oracle_every, expected) in [(1, 1), (1 << 16, 0)] {
            let shape = Parameters { proposals: 1, oracle_every, ..parameters(Mix::Duplicates) };
            let (mut worker, mut moved) = (worker(&shape), 0);
            for key in 0..50 {
                worker.run(Request { op: op::DECIDE, key }, &mut NoPause);
                let tallies = &mut worker.ballots.tallies;
                let decided = tallies.decisions[0];
                let idle = |&value: &usize| value as u32 != decided;
                let Some(from) = (0..4).filter(idle).find(|&value| tallies.counts[value] > 0)
                else {
                    continue;
                };
                let to = (0..4).filter(idle).find(|&value| value != from).unwrap();
                tallies.counts[from] -= 1;
                tallies.counts[to] += 1;
                let again = decision(&tallies.counts, 0, shape.tolerated(), shape.quorum());
                assert_eq!(again, decided);
                assert_eq!(worker.verify(&mut NoPause).violations, expected);
                moved += 1;
            }
            assert!(moved > 25, "{moved} moved");
        }
    }
}
