//! Damage to a worker's last answer, which its check has to see.

use super::ballots::UNDECIDED;
use super::election::{leader, score};
use super::op;
use super::parameters::Ballot;
use super::votes::Vote;
use super::worker::{Worker, chance};
use crate::operations::Fault;

impl Worker {
    /// Damages the answer of the last operation, at a place that its key decides; false where it
    /// holds nothing that could be damaged so.
    pub fn damage(&mut self, fault: Fault) -> bool {
        let Some(request) = self.last else { return false };
        let draw = chance(request.key ^ 2) as usize;
        match request.op {
            op::GENERATE => self.damage_votes(fault, draw),
            op::ELECT => self.damage_election(fault, draw, request.key),
            _ => self.damage_tallies(fault, draw),
        }
    }

    /// A bit of a kept vote; a vote that was never written; one written over its neighbour.
    fn damage_votes(&mut self, fault: Fault, draw: usize) -> bool {
        let kept = &mut self.votes[..self.sent.votes as usize];
        let place = draw % kept.len();
        let whole = kept[place];
        let [lower, upper] = whole.halves();
        let bit = 1 << ((draw >> 16) % 64);
        kept[place] = match fault {
            Fault::FlippedBit if draw % 2 == 0 => Vote::from_halves(lower ^ bit, upper),
            Fault::FlippedBit => Vote::from_halves(lower, upper ^ bit),
            Fault::LostResult => Vote::default(),
            Fault::DoubledResult => kept[(place + 1) % kept.len()],
        };
        kept[place] != whole
    }

    /// A bit of a count, of the evidence or of a decision; a decision or a vote that is missing; a
    /// vote that was counted twice.
    fn damage_tallies(&mut self, fault: Fault, draw: usize) -> bool {
        let tallies = &mut self.ballots.tallies;
        let bit = 1 << ((draw >> 16) % 32);
        match fault {
            Fault::FlippedBit => {
                let words = match draw % 3 {
                    0 => &mut tallies.counts,
                    1 => &mut tallies.evidence,
                    _ => &mut tallies.decisions,
                };
                let place = draw / 3 % words.len();
                words[place] ^= bit;
                true
            }
            Fault::LostResult => {
                let decided = tallies.decisions.iter_mut().find(|value| **value != UNDECIDED);
                if let (Some(value), true) = (decided, draw % 2 == 0) {
                    *value = UNDECIDED;
                    return true;
                }
                let Some(count) = tallies.counts.iter_mut().find(|count| **count > 0) else {
                    return false;
                };
                *count -= 1;
                tallies.classes.tallied -= 1;
                true
            }
            Fault::DoubledResult => {
                let Some(count) = tallies.counts.iter_mut().find(|count| **count > 0) else {
                    return false;
                };
                *count += 1;
                tallies.classes.tallied += 1;
                true
            }
        }
    }

    /// A bit of the leader or its score; the leader overlooked. A candidate seen twice changes no
    /// maximum.
    fn damage_election(&mut self, fault: Fault, draw: usize, key: u64) -> bool {
        let ballot = Ballot::of(&self.shared.parameters, key);
        let (words, stream) = ([key as u32, (key >> 32) as u32], self.shared.score_stream);
        let elected = self.leader as u32;
        match fault {
            Fault::FlippedBit => self.leader ^= 1 << (draw % 64),
            Fault::LostResult => {
                let others = (0..ballot.agents)
                    .map(|agent| (ballot.agent_first + agent, score(stream, words, agent)))
                    .filter(|&(agent, _)| agent != elected);
                self.leader = leader(others);
            }
            Fault::DoubledResult => return false,
        }
        true
    }
}
