//! What holds of parsing, commands and learning, for any seed and text.

use proptest::prelude::*;

use super::classifier::{LANES, Weights};
use super::learner::{Feedback, Learner};
use super::tokens::FEATURES_MAX;
use super::*;
use crate::operations::{Fault, NoPause, Request, Status};

fn shared(seed: u64) -> Arc<Shared> {
    let parameters = Parameters {
        utterances: 2048,
        feedback_max: 16,
        tokens: 6,
        prompts: 3,
        model: Model::Small,
    };
    let context = Build { seed, threads: 2, progress: &|_, _| true };
    Arc::new(Shared::build(parameters, &context).expect("parameters that fit"))
}

fn run(worker: &mut Worker, op: u8, key: u64) {
    let completion = worker.run(Request { op, key }, &mut NoPause);
    let units = if op == op::GENERATE_BATCH { 3 } else { 1 };
    assert_eq!((completion.status, completion.units), (Status::Ok, units));
}

#[test]
fn held_out_templates_with_typing_errors_are_understood_for_every_seed() {
    for seed in [1, 20_240_607, u64::MAX] {
        let held = shared(seed).held;
        assert!(held.accuracy >= 0.95, "seed {seed}: {held:?}");
        assert!(held.unknown_recall >= 0.90, "seed {seed}: {held:?}");
        assert!(held.slot_accuracy >= 0.95, "seed {seed}: {held:?}");
        assert!(held.round_trip == 1.0, "seed {seed}: {held:?}");
    }
}

#[test]
fn no_template_for_training_is_held_out() {
    let grammar = Grammar::read().expect("a sound grammar");
    assert!(grammar.templates() > 1000);
    let templates = |split| {
        let author = Author::new(&grammar, 9, split);
        let mut found: Vec<(u8, String)> = Vec::new();
        for number in 0..40_000 {
            let (label, head, tail) = author.template_of(number);
            found.push((label, format!("{head} {tail:?}")));
        }
        found.sort();
        found.dedup();
        found
    };
    let (train, held) = (templates(Split::Train), templates(Split::HeldOut));
    assert!(held.iter().all(|template| train.binary_search(template).is_err()));
    assert_eq!(train.len() + held.len(), grammar.templates());
}

#[test]
fn every_fault_in_every_answer_is_a_violation() {
    let shared = shared(3);
    for op in 0..4 {
        for (name, fault) in Fault::ALL {
            let mut worker = Worker::new(Arc::clone(&shared));
            let mut planted = 0;
            for key in 0..64 {
                run(&mut worker, op, key);
                let damaged = worker.plant(fault);
                let verdict = worker.verify(&mut NoPause);
                assert_eq!(verdict.violations, u32::from(damaged), "op {op} {name} key {key}");
                planted += u32::from(damaged);
            }
            assert!(planted >= 3, "op {op} {name}: {planted} planted");
        }
    }
}

#[test]
fn answers_said_in_step_are_those_said_alone_bit_for_bit() {
    let shared = shared(8);
    let mut decoding = Decoding::new(Arc::clone(&shared.decoder));
    for (prompts, count) in [(2, 5), (3, 64), (8, 6), (9, 1), (19, 3)] {
        let mut chorus = Chorus::new(&shared.decoder, prompts);
        // Twice, so that what the first batch has left is there.
        for first in [0, 1000] {
            let mut heard = vec![Vec::new(); prompts];
            for number in 0..prompts {
                let asked = shared.request(first + number as u64);
                chorus.ask(number, &shared.grammar, asked.label, |kind| asked.value(kind));
            }
            let mut hear = |number: usize, logits: &[f32]| heard[number] = logits.to_vec();
            chorus.speak(count, &mut hear, &mut NoPause);
            for (number, logits) in heard.iter().enumerate() {
                let mut alone = chorus.speeches[number].clone();
                alone.speak(&mut decoding, count, &mut NoPause);
                assert_eq!(alone.tokens(), chorus.speeches[number].tokens(), "{prompts} {number}");
                assert!(chorus.speeches[number].is_whole(count));
                assert_eq!(decoding.logits, *logits, "{prompts} {number}");
            }
        }
    }
}

#[test]
fn tokens_of_a_batch_that_are_not_said_again_are_a_violation_where_they_are_sampled() {
    let mut worker = Worker::new(shared(6));
    for key in 0..6 {
        for place in 0..3 {
            run(&mut worker, op::GENERATE_BATCH, key);
            let speech = &mut worker.chorus.speeches[place];
            let said = speech.tokens().to_vec();
            speech.begin();
            said.iter().for_each(|token| speech.say(token ^ 1));
            let is_sampled = key as usize % 3 == place;
            let verdict = worker.verify(&mut NoPause);
            assert_eq!(verdict.violations, u32::from(is_sampled), "key {key} place {place}");
        }
    }
}

#[test]
fn feedback_is_conserved_and_the_store_is_bounded() {
    let shared = shared(4);
    let read = |name: &str| {
        let counters = shared.counters.read();
        counters.iter().find(|(known, _)| *known == name).expect("a counter").1
    };
    let mut workers: Vec<_> = (0..2).map(|_| Worker::new(Arc::clone(&shared))).collect();
    for key in 0..100 {
        run(&mut workers[key as usize % 3 % 2], 2, key);
    }
    assert_eq!(read("feedback_received"), 100);
    assert_eq!(read("feedback_stored"), 32);
    assert_eq!(read("feedback_stored") + read("feedback_forgotten"), 100);
    drop(workers);
    assert_eq!(read("feedback_stored"), 0);
    assert_eq!(read("feedback_forgotten"), 100);
}

#[test]
fn learning_helps_the_copy_that_learns_and_leaves_what_is_served_alone() {
    let shared = shared(5);
    let served = shared.weights.rows.clone();
    let mut features = Features::default();
    let mut right = |weights: &Weights| {
        let is_right = |utterance: &&Utterance| {
            parse(&shared.grammar, weights, utterance.text(), &mut features).label
                == utterance.label
        };
        shared.pool.iter().filter(is_right).count()
    };
    let before = right(&shared.weights);
    assert!(before < shared.pool.len(), "something is left to learn");
    let mut learner = Learner::new(&shared.weights, 16);
    let mut features = Features::default();
    for (key, utterance) in (0..).zip(&shared.pool) {
        read(&shared.grammar, utterance.text(), &mut features);
        learner.learn(key, features.as_slice(), utterance.label);
        assert!(learner.is_sound(features.as_slice(), key, key + 1));
        assert_eq!(learner.stored(), 16.min(key + 1));
    }
    assert!(right(&learner.weights) > before);
    assert_eq!(shared.weights.rows, served);
}

#[test]
fn what_is_remembered_is_the_feedback_itself() {
    let mut learner = Learner::new(&Weights::new(3), 4);
    assert_eq!(learner.last(), None);
    for key in 0..9 {
        let feedback = Feedback { key, label: 1, decided: 2 };
        learner.remember(feedback);
        assert_eq!(learner.last(), Some(feedback));
    }
}

#[test]
fn parameters_out_of_bounds_are_refused_by_name() {
    let right = r#"{"utterances": 64, "feedback_max": 9, "tokens": 4, "prompts": 2,
        "model": "small"}"#;
    assert!(Parameters::parse(right).is_ok());
    for (from, to, key) in [
        (": 64", ": 63", "utterances"),
        (": 9", ": 0", "feedback_max"),
        (": 4", ": 65", "tokens"),
        (": 2", ": 1", "prompts"),
        (": 2", ": 257", "prompts"),
        ("small", "huge", "huge"),
    ] {
        let wrong = right.replace(from, to);
        let refused = Parameters::parse(&wrong).expect_err("refused").to_string();
        assert!(refused.contains(key), "{refused}");
    }
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_parsed_within_their_bounds(
        text in proptest::collection::vec(any::<u8>(), 0..400)
    ) {
        let grammar = Grammar::read().expect("a sound grammar");
        let mut features = Features::default();
        let slots = read(&grammar, &text, &mut features);
        prop_assert!(features.as_slice().len() <= FEATURES_MAX);
        for [start, length] in slots {
            prop_assert!(usize::from(start) + usize::from(length) <= text.len());
        }
        let weights = Weights::new(grammar.classes());
        prop_assert_eq!(weights.scores(features.as_slice()).0, [0; LANES]);
    }
}
