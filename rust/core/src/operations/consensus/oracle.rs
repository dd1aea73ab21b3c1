//! Recomputes one proposal of a batch from its votes, by other means than the ballot box.
//!
//! Votes come from the plain generator (or from memory), every agent's first vote is found before
//! anything is counted, and the tally is made from those at the end.

use super::ballots::{Ballots, UNDECIDED};
use super::parameters::Ballot;
use super::votes::{SEQUENCE_MAX, Vote};

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

    /// Whether the box holds the right answer for `proposal` (counted from the ballot's first).
    pub fn agrees(
        &mut self,
        ballots: &Ballots,
        proposal: u32,
        votes: impl Iterator<Item = Vote>,
    ) -> bool {
        let ballot = ballots.ballot;
        self.collect(&ballot, proposal, votes);
        self.counts.fill(0);
        for &(_, value) in self.firsts.iter().flatten() {
            self.counts[usize::from(value)] += 1;
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

    fn collect(&mut self, ballot: &Ballot, proposal: u32, votes: impl Iterator<Item = Vote>) {
        self.firsts.fill(None);
        self.equivocated.fill(false);
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
    use crate::operations::{NoPause, Operation, Request};

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
