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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lanes::best_score;
    use super::*;
    use crate::operations::NoPause;

    const STREAM: [u32; 2] = [7, 11];

    fn ballot(agent_first: u32, agents: u32) -> Ballot {
        Ballot { agent_first, agents, proposal_first: 0, proposals: 1, values: 1, round: 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_leader_has_the_highest_score_and_among_equals_the_highest_id(
            (candidates, shuffled) in proptest::collection::vec(
                (any::<u32>(), prop_oneof![Just(0), 0u32..3, Just(u32::MAX)]), 1..40,
            ).prop_flat_map(|drawn| (Just(drawn.clone()), Just(drawn).prop_shuffle())),
            cut in any::<prop::sample::Index>(),
        ) {
            let highest = candidates.iter().map(|each| each.1).max().unwrap();
            let equals = candidates.iter().filter(|each| each.1 == highest).map(|each| each.0);
            let expected = u64::from(highest) << 32 | u64::from(equals.max().unwrap());
            prop_assert_eq!(leader(candidates.iter().copied()), expected);
            let (left, right) = shuffled.split_at(cut.index(shuffled.len() + 1));
            let [left, right] = [left, right].map(|part| leader(part.iter().copied()));
            prop_assert_eq!(left.max(right), expected);
        }

        #[test]
        fn an_election_among_any_number_of_agents_is_that_of_their_scores(
            agent_first in 0u32..1 << 30,
            agents in prop_oneof![1u32..20, 1000u32..1050, 2000u32..5000],
            key in any::<[u32; 2]>(),
        ) {
            let ballot = ballot(agent_first, agents);
            let mut scores = [0; SCORES];
            let (best, highest) =
                elect(best_score(), STREAM, key, &ballot, &mut scores, &mut NoPause);
            let all = (0..agents).map(|agent| (agent_first + agent, score(STREAM, key, agent)));
            prop_assert_eq!(best, leader(all));
            prop_assert_eq!(best >> 32, u64::from(highest));
            prop_assert!(is_candidate(best, highest, STREAM, key, &ballot));
            prop_assert!(is_unbeaten(best, STREAM, key, &ballot, 0..agents));
        }

        #[test]
        fn who_is_not_of_the_group_or_has_another_score_is_no_candidate(
            agent_first in 0u32..1 << 30,
            agents in 1u32..100,
            (agent, key) in any::<(u32, [u32; 2])>(),
        ) {
            let ballot = ballot(agent_first, agents);
            let inside = agent % agents;
            for (agent, other, expected) in [
                (inside, 0, true), (inside, 1, false),
                (agents, 0, false), (u32::MAX, 0, false),
            ] {
                let own = score(STREAM, key, agent);
                let packed =
                    u64::from(own ^ other) << 32 | u64::from(agent_first.wrapping_add(agent));
                let found = is_candidate(packed, own ^ other, STREAM, key, &ballot);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
