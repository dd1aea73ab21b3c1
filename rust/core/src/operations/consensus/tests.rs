//! Properties that must hold for any votes, and injected faults that the check must see.

use proptest::prelude::*;

use super::ballots::{Ballots, Tallies, UNDECIDED};
use super::oracle::Oracle;
use super::parameters::{Ballot, Mix, Parameters};
use super::votes::{Digest, Source, Vote};
use super::worker::Worker;
use super::{Shared, election, op, shared};
use crate::operations::{Build, Fault, NoPause, Operation, Request, Status, Verdict};

pub const MIXES: [Mix; 5] = [Mix::Uniform, Mix::Zipf, Mix::Same, Mix::Byzantine, Mix::Duplicates];

pub fn parameters(mix: Mix) -> Parameters {
    Parameters {
        batch: 100,
        agents: 16,
        proposals: 4,
        values: 4,
        groups: 1000,
        mix,
        agreement: 0.9,
        byzantine: 0.33,
        duplicates: 0.5,
        stored_votes: 5000,
        oracle_every: 1,
    }
}

fn built(parameters: &Parameters) -> Shared {
    let mix = format!("{:?}", parameters.mix).to_lowercase();
    let text = serde_json::json!({
        "batch": parameters.batch, "agents": parameters.agents, "proposals": parameters.proposals,
        "values": parameters.values, "groups": parameters.groups, "mix": mix,
        "agreement": parameters.agreement, "byzantine": parameters.byzantine,
        "duplicates": parameters.duplicates, "stored_votes": parameters.stored_votes,
        "oracle_every": parameters.oracle_every,
    });
    let context = Build { seed: 7, threads: 1, progress: &|_, _| true };
    shared(&text.to_string(), &context).expect("the parameters are within their bounds")
}

pub fn worker(parameters: &Parameters) -> Worker {
    Worker::new(std::sync::Arc::new(built(parameters)))
}

fn counted(parameters: &Parameters, parts: &[&[Vote]]) -> Ballots {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut ballots = Ballots::new(parameters, total as u32);
    ballots.open(Ballot::of(parameters, 0));
    parts.iter().for_each(|part| ballots.receive(part));
    ballots.close(&mut NoPause);
    ballots
}

fn tallied(parameters: &Parameters, parts: &[&[Vote]]) -> Tallies {
    counted(parameters, parts).tallies
}

/// Small numbers, so that faults, repeats and contradictions are all frequent.
fn any_votes(most: usize) -> impl Strategy<Value = Vec<Vote>> {
    let flags = prop_oneof![6 => Just(0u16), 3 => 0u16..4, 1 => Just(0x8000u16)];
    let value = prop_oneof![4 => 0u16..4, 1 => 252u16..256];
    let vote =
        (0u32..9, 0u32..5, value, flags, prop_oneof![9 => Just(0u32), 1 => Just(1u32)]).prop_map(
            |(agent, proposal, value, flags, round)| Vote { agent, proposal, value, flags, round },
        );
    proptest::collection::vec(vote, 0..most)
}

/// One partition of few cells, or one for each proposal; values that all fit into a cell or not.
fn any_shape() -> impl Strategy<Value = Parameters> {
    (1u32..9, 1u32..5, prop_oneof![1u32..4, Just(300)], any::<bool>()).prop_map(
        |(agents, proposals, values, large)| {
            let agents = if large { 200_000 } else { agents };
            Parameters { agents, proposals, values, ..parameters(Mix::Uniform) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_vote_is_tallied_a_duplicate_or_invalid(shape in any_shape(), votes in any_votes(200)) {
        let classes = tallied(&shape, &[&votes]).classes;
        prop_assert_eq!(classes.as_array().iter().sum::<u64>(), votes.len() as u64);
        prop_assert_eq!(
            classes.tallied + classes.duplicates + classes.invalid(),
            votes.len() as u64
        );
    }

    #[test]
    fn the_answer_depends_on_neither_order_nor_split(
        shape in any_shape(),
        (votes, shuffled) in any_votes(200)
            .prop_flat_map(|votes| (Just(votes.clone()), Just(votes).prop_shuffle())),
        cut in 0.0..1.0f64,
    ) {
        let cut = (votes.len() as f64 * cut) as usize;
        let (left, right) = shuffled.split_at(cut);
        let whole = tallied(&shape, &[&votes]);
        prop_assert_eq!(&whole, &tallied(&shape, &[left, right]));
        prop_assert_eq!(&whole, &tallied(&shape, &[right, left]));
    }

    #[test]
    fn the_answer_is_that_of_the_oracle(shape in any_shape(), votes in any_votes(200)) {
        let ballots = counted(&shape, &[&votes]);
        let mut oracle = Oracle::new(shape.agents, shape.values);
        for proposal in 0..shape.proposals {
            oracle.begin(&mut NoPause);
            oracle.collect(&ballots.ballot, proposal, votes.iter().copied());
            prop_assert!(oracle.agrees(&ballots, proposal, &mut NoPause));
        }
    }

    #[test]
    fn a_value_is_decided_exactly_when_it_has_the_quorum(
        shape in any_shape(),
        votes in any_votes(200),
    ) {
        let tallies = tallied(&shape, &[&votes]);
        let rows = tallies.counts.chunks_exact(shape.values as usize);
        for (proposal, counts) in rows.enumerate() {
            let reached: Vec<u32> = (0..shape.values)
                .filter(|&value| counts[value as usize] >= shape.quorum())
                .collect();
            prop_assert!(reached.len() <= 1, "two values were decided");
            let expected = if tallies.evidence[proposal] > shape.tolerated() {
                UNDECIDED
            } else {
                reached.first().copied().unwrap_or(UNDECIDED)
            };
            prop_assert_eq!(tallies.decisions[proposal], expected);
        }
    }

    #[test]
    fn a_repeat_of_all_votes_adds_only_duplicates(shape in any_shape(), votes in any_votes(100)) {
        let once = tallied(&shape, &[&votes]);
        let twice = tallied(&shape, &[&votes, &votes]);
        prop_assert_eq!(&once.counts, &twice.counts);
        prop_assert_eq!(&once.evidence, &twice.evidence);
        let valid = once.classes.tallied + once.classes.duplicates;
        prop_assert_eq!(twice.classes.duplicates, once.classes.duplicates + valid);
    }
}

/// A vote of an agent on proposal 0 in round 0 of group 0.
fn vote(agent: u32, value: u16, flags: u16) -> Vote {
    Vote { agent, proposal: 0, value, flags, round: 0 }
}

#[test]
fn the_quorum_leaves_no_room_for_two_values_at_any_size() {
    for agents in 1..2000 {
        let shape = Parameters { agents, ..parameters(Mix::Uniform) };
        let (f, q) = (shape.tolerated(), shape.quorum());
        assert!(2 * q > agents + f, "two quorums share an honest agent");
        assert!(q <= agents - f, "the honest agents alone reach it");
    }
}

#[test]
fn nothing_is_decided_once_more_than_f_agents_are_caught() {
    let shape = Parameters { agents: 6, values: 2, ..parameters(Mix::Uniform) };
    assert_eq!((shape.tolerated(), shape.quorum()), (1, 4));
    let mut votes: Vec<Vote> = (0..6).map(|agent| vote(agent, 1, 0)).collect();
    votes.push(vote(0, 0, 1));
    assert_eq!(tallied(&shape, &[&votes]).decisions[0], 1);
    votes.push(vote(1, 0, 1));
    let tallies = tallied(&shape, &[&votes]);
    assert_eq!(tallies.decisions[0], UNDECIDED);
    assert_eq!((tallies.counts[1], tallies.evidence[0]), (6, 2));
}

#[test]
fn an_agents_first_vote_is_the_one_with_the_lowest_sequence_number() {
    let shape = parameters(Mix::Uniform);
    let tallies = tallied(&shape, &[&[vote(3, 2, 5), vote(3, 1, 4), vote(3, 1, 4), vote(3, 0, 9)]]);
    assert_eq!(tallies.counts[..4], [0, 1, 0, 0]);
    assert_eq!((tallies.evidence[0], tallies.classes.duplicates), (1, 3));
}

#[test]
fn faults_are_filed_under_the_first_that_applies() {
    let shape = parameters(Mix::Uniform);
    let bad = Vote { agent: 16, proposal: 4, value: 4, flags: 0x8000, round: 1 };
    let votes = [
        bad,
        Vote { agent: 0, ..bad },
        Vote { agent: 0, proposal: 0, ..bad },
        Vote { agent: 0, proposal: 0, value: 0, ..bad },
        Vote { agent: 0, proposal: 0, value: 0, round: 0, ..bad },
    ];
    assert_eq!(tallied(&shape, &[&votes]).classes.as_array(), [0, 0, 1, 1, 1, 1, 1]);
}

#[test]
fn every_op_of_every_mix_and_size_passes_its_own_check() {
    for mix in MIXES {
        for (batch, agents, proposals) in [(100, 16, 4), (30_000, 500, 64), (30_000, 3000, 200)] {
            let shape = Parameters { batch, agents, proposals, ..parameters(mix) };
            let mut worker = worker(&shape);
            for key in [0, 1, 77, 9 << 48 | 1234] {
                for op in [op::DECIDE, op::TALLY, op::GENERATE, op::ELECT] {
                    let completion = worker.run(Request { op, key }, &mut NoPause);
                    assert_eq!(completion.status, Status::Ok);
                    let verdict = worker.verify(&mut NoPause);
                    assert_eq!((verdict.checked, verdict.violations), (1, 0), "{mix:?} {op}");
                }
            }
        }
    }
}

#[test]
fn the_mixes_do_what_their_names_say() {
    for mix in MIXES {
        let shape = Parameters { batch: 20_000, agents: 100, proposals: 1000, ..parameters(mix) };
        let source = Source::new(&shape, 3);
        let aim = source.aim(Ballot::of(&shape, 0), 0);
        let votes: Vec<Vote> = (0..shape.batch).map(|index| aim.vote(index)).collect();
        let tallies = tallied(&shape, &[&votes]);
        let classes = tallies.classes;
        let invalid = classes.invalid() as f64 / 20_000.0;
        let byzantine = mix == Mix::Byzantine;
        assert!((invalid - if byzantine { 0.22 } else { 0.0 }).abs() < 0.01, "{mix:?}");
        assert_eq!(byzantine, tallies.evidence.iter().any(|&agents| agents > 0));
        let repeated = classes.duplicates > 9000;
        assert_eq!(repeated, matches!(mix, Mix::Duplicates | Mix::Zipf), "{mix:?}");
        let zeros = votes.iter().filter(|vote| vote.value == 0).count();
        assert_eq!(zeros == votes.len(), mix == Mix::Same);
    }
}

/// Runs one `decide` with `tamper` applied between receiving and closing, and checks it.
fn check_after(tamper: impl Fn(&mut Worker)) -> u32 {
    let mut worker = worker(&parameters(Mix::Duplicates));
    worker.run(Request { op: op::DECIDE, key: 5 }, &mut NoPause);
    tamper(&mut worker);
    worker.verify(&mut NoPause).violations
}

/// Receives the batch of key 5 again, altered on its way from the sender.
fn receive_altered(worker: &mut Worker, alter: impl Fn(&mut Vec<Vote>)) {
    let mut votes = worker.votes.clone();
    assert_eq!(Digest::of(&votes), worker.sent);
    alter(&mut votes);
    worker.ballots.open(worker.ballots.ballot);
    worker.ballots.receive(&votes);
    worker.ballots.close(&mut NoPause);
}

#[test]
fn the_check_sees_every_flipped_bit_of_a_vote() {
    assert_eq!(check_after(|worker| receive_altered(worker, |_| {})), 0);
    for bit in 0..32 {
        let alter = |votes: &mut Vec<Vote>| votes[40].agent ^= 1 << bit;
        assert_eq!(check_after(|worker| receive_altered(worker, alter)), 1);
        let alter = |votes: &mut Vec<Vote>| votes[40].proposal ^= 1 << bit;
        assert_eq!(check_after(|worker| receive_altered(worker, alter)), 1);
        let alter = |votes: &mut Vec<Vote>| votes[40].round ^= 1 << bit;
        assert_eq!(check_after(|worker| receive_altered(worker, alter)), 1);
    }
    for bit in 0..16 {
        let alter = |votes: &mut Vec<Vote>| votes[40].value ^= 1 << bit;
        assert_eq!(check_after(|worker| receive_altered(worker, alter)), 1);
        let alter = |votes: &mut Vec<Vote>| votes[40].flags ^= 1 << bit;
        assert_eq!(check_after(|worker| receive_altered(worker, alter)), 1);
    }
}

#[test]
fn the_check_sees_a_lost_vote_and_a_doubled_vote() {
    let lose = |votes: &mut Vec<Vote>| {
        votes.swap_remove(17);
    };
    assert_eq!(check_after(|worker| receive_altered(worker, lose)), 1);
    let double = |votes: &mut Vec<Vote>| votes.push(votes[17]);
    assert_eq!(check_after(|worker| receive_altered(worker, double)), 1);
}

#[test]
fn the_check_sees_altered_answers() {
    type Tamper = fn(&mut Tallies);
    let tampers: [Tamper; 7] = [
        |tallies| tallies.counts[3] += 1,
        |tallies| tallies.counts[0] ^= 1 << 20,
        |tallies| tallies.counts.swap(0, 1),
        |tallies| tallies.decisions[0] ^= 1,
        |tallies| tallies.evidence[0] += 1,
        |tallies| tallies.classes.duplicates += 1,
        |tallies| tallies.classes.tallied -= 1,
    ];
    for (index, tamper) in tampers.into_iter().enumerate() {
        let mut seen = 0;
        let mut worker = worker(&Parameters { proposals: 1, ..parameters(Mix::Duplicates) });
        worker.run(Request { op: op::DECIDE, key: 5 }, &mut NoPause);
        tamper(&mut worker.ballots.tallies);
        seen += worker.verify(&mut NoPause).violations;
        assert_eq!(seen, 1, "tamper {index}");
    }
}

#[test]
fn the_check_sees_altered_buffers_and_a_false_leader() {
    let mut worker = worker(&parameters(Mix::Uniform));
    worker.run(Request { op: op::GENERATE, key: 5 }, &mut NoPause);
    worker.votes[3].value ^= 1;
    assert_eq!(worker.verify(&mut NoPause).violations, 1);
    worker.run(Request { op: op::GENERATE, key: 5 }, &mut NoPause);
    worker.votes.swap(3, 4);
    assert_eq!(worker.verify(&mut NoPause).violations, 1);
    worker.run(Request { op: op::ELECT, key: 5 }, &mut NoPause);
    worker.leader ^= 1;
    assert_eq!(worker.verify(&mut NoPause).violations, 1);
}

#[test]
fn every_planted_fault_is_seen_in_every_answer_that_is_checked() {
    for (mix, oracle_every) in MIXES.into_iter().zip([1, 1 << 16].into_iter().cycle()) {
        let mut worker = worker(&Parameters { oracle_every, ..parameters(mix) });
        for op in [op::DECIDE, op::TALLY, op::GENERATE, op::ELECT] {
            for (name, fault) in Fault::ALL {
                let mut planted = 0;
                for key in 0..300 {
                    worker.run(Request { op, key }, &mut NoPause);
                    let damaged = worker.plant(fault);
                    planted += u32::from(damaged);
                    let found = worker.verify(&mut NoPause);
                    assert_eq!(found.checked, 1);
                    assert_eq!(found.violations, u32::from(damaged), "{mix:?} {op} {name} {key}");
                }
                let possible = op != op::ELECT || fault != Fault::DoubledResult;
                assert_eq!(planted > 150, possible, "{mix:?} {op} {name}");
            }
        }
    }
}

#[test]
fn a_leader_overlooked_is_seen_however_many_the_candidates_and_whatever_is_looked_at() {
    for (agents, oracle_every) in [(1, 1), (16, 1 << 16), (5000, 1), (5000, 1 << 16)] {
        let shape = Parameters { agents, oracle_every, ..parameters(Mix::Uniform) };
        let mut worker = worker(&shape);
        for fault in [None, Some(Fault::LostResult), Some(Fault::FlippedBit)] {
            for key in 0..20 {
                worker.run(Request { op: op::ELECT, key }, &mut NoPause);
                let violations = u32::from(fault.is_some_and(|fault| worker.plant(fault)));
                assert_eq!(
                    worker.verify(&mut NoPause),
                    Verdict { checked: 1, violations },
                    "{agents} {fault:?}"
                );
                assert_eq!(violations, u32::from(fault.is_some()));
            }
        }
    }
}

#[test]
fn a_candidate_above_the_leader_is_found_among_those_looked_at() {
    let ballot = Ballot::of(&parameters(Mix::Uniform), 0);
    let scores = (0..16).map(|agent| (agent, election::score([1, 2], [3, 4], agent)));
    let best = election::leader(scores.clone());
    assert!(election::is_unbeaten(best, [1, 2], [3, 4], &ballot, 0..16));
    let second = election::leader(scores.filter(|&(agent, _)| agent != best as u32));
    assert!(!election::is_unbeaten(second, [1, 2], [3, 4], &ballot, 0..16));
}

#[test]
fn keys_never_share_a_group_round_and_proposal() {
    let shape = Parameters { groups: 7, ..parameters(Mix::Uniform) };
    let mut seen = std::collections::HashSet::new();
    for lane in 0..5u64 {
        for ordinal in 0..200 {
            let ballot = Ballot::of(&shape, lane << 48 | ordinal);
            assert!(seen.insert((ballot.agent_first, ballot.proposal_first, ballot.round)));
        }
    }
}
