//! Leader election: the largest packed (score, agent) of a group leads the round.

use super::lanes::Score;
use super::parameters::Ballot;
use crate::operations::Pause;
use crate::random::philox;

pub const DOMAIN_SCORES: u64 = 0x636F_6E73_0000_0002;

/// Scores drawn between two looks at the maximum; a whole number of Philox blocks.
pub const SCORES: usize = 1024;

/// The candidate with the highest score, the highest id among equals, as (score << 32 | id).
///
/// A maximum is independent of order and of how the candidates are split.
#[inline(always)]
pub fn leader(candidates: impl Iterator<Item = (u32, u32)>) -> u64 {
    candidates.map(|(agent, score)| u64::from(score) << 32 | u64::from(agent)).fold(0, u64::max)
}

/// Elects among the agents of a ballot, drawing their scores into `scores`; returns the leader and,
/// as what its check is held against, the highest score by itself.
pub fn elect(
    draw: Score,
    stream: [u32; 2],
    key: [u32; 2],
    ballot: &Ballot,
    scores: &mut [u32; SCORES],
    pause: &mut dyn Pause,
) -> (u64, u32) {
    let (mut best, mut highest) = (0, 0);
    for first in (0..ballot.agents).step_by(SCORES) {
        let present = &mut scores[..SCORES.min((ballot.agents - first) as usize)];
        draw(stream, key, first / 4, present);
        highest = present.iter().fold(highest, |most, &score| most.max(score));
        let from = ballot.agent_first + first;
        let candidates = present.iter().zip(0..).map(|(&score, offset)| (from + offset, score));
        best = best.max(leader(candidates));
        if first % (64 * SCORES as u32) == 0 && first > 0 {
            pause.point();
        }
    }
    (best, highest)
}

/// The score of one agent (counted from the group's first), by itself.
pub fn score(stream: [u32; 2], key: [u32; 2], agent: u32) -> u32 {
    philox([agent / 4, 0, key[0], key[1]], stream)[(agent % 4) as usize]
}

/// Whether `packed` is an agent of the ballot with its own score, and that the `highest`.
pub fn is_candidate(
    packed: u64,
    highest: u32,
    stream: [u32; 2],
    key: [u32; 2],
    ballot: &Ballot,
) -> bool {
    let agent = (packed as u32).wrapping_sub(ballot.agent_first);
    agent < ballot.agents
        && (packed >> 32) as u32 == highest
        && score(stream, key, agent) == highest
}

/// Whether none of the agents (counted from the group's first) is above `packed`.
pub fn is_unbeaten(
    packed: u64,
    stream: [u32; 2],
    key: [u32; 2],
    ballot: &Ballot,
    agents: std::ops::Range<u32>,
) -> bool {
    let all = agents.map(|agent| (ballot.agent_first + agent, score(stream, key, agent)));
    leader(all) <= packed
}
