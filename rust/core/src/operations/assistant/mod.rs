//! The `assistant` component: utterances parsed, commands and tokens generated, feedback learned.
//!
//! Work: a parse reads one cache line of weights per feature, about 55 of them; a token reads every
//! weight of the decoder once; a step of learning reads and writes a parse's lines again.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::{Arrays, Build, BuildError, Component, Operation, within};

mod chorus;
mod classifier;
mod command;
mod counters;
mod decoder;
mod evaluate;
mod grammar;
mod learner;
mod parse;
mod speech;
#[cfg(test)]
mod tests;
mod tokens;
mod utterances;
mod worker;

use chorus::Chorus;
use classifier::Weights;
use command::Command;
use counters::Counters;
use decoder::{Decoder, Decoding, Model};
use grammar::Grammar;
use learner::Learner;
use parse::{accepted, parse};
use speech::TOKENS_MAX;
use tokens::{Features, read};
use utterances::{Author, Split, UNKNOWN, Utterance};
use worker::Worker;

/// The order of `OPS`.
mod op {
    pub const PARSE: u8 = 0;
    pub const GENERATE: u8 = 1;
    pub const LEARN: u8 = 2;
    pub const GENERATE_BATCH: u8 = 3;
}
const OPS: [&str; 4] = ["parse", "generate", "learn", "generate_batch"];

const UTTERANCES_MAX: usize = 1 << 16;
const FEEDBACK_MAX: usize = 1 << 20;
const PROMPTS_MAX: usize = 256;

/// The same names and bounds as `Assistant` in `components/assistant.py`, which has the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Utterances of held-out templates that operations take turns in.
    utterances: usize,
    /// Feedback that a worker remembers.
    feedback_max: usize,
    /// Tokens of an answer.
    tokens: usize,
    /// Of one `generate_batch`.
    prompts: usize,
    model: Model,
}

impl Parameters {
    fn parse(text: &str) -> Result<Self, BuildError> {
        let read: Self = serde_json::from_str(text)?;
        within("utterances", read.utterances, 64, UTTERANCES_MAX)?;
        within("feedback_max", read.feedback_max, 1, FEEDBACK_MAX)?;
        within("tokens", read.tokens, 1, TOKENS_MAX)?;
        within("prompts", read.prompts, 2, PROMPTS_MAX)?;
        Ok(read)
    }
}

/// What held-out utterances show of the classifier; shares of 1.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    accuracy: f64,
    /// Of utterances about something else, how many were found to be.
    unknown_recall: f64,
    intent_accuracy: f64,
    /// Of those with an intent, how many have it and every slot right.
    slot_accuracy: f64,
    /// Of their commands, how many are parsed back to the same.
    round_trip: f64,
}

/// What all workers read.
struct Shared {
    parameters: Parameters,
    seed: u64,
    grammar: Grammar,
    weights: Weights,
    pool: Vec<Utterance>,
    /// Numbers of the utterances that have an intent.
    requests: Vec<u32>,
    decoder: Arc<Decoder>,
    held: Held,
    counters: Counters,
}

struct Assistant(Arc<Shared>);

/// Builds the component: draws the pool and the decoder's weights, trains the classifier.
///
/// # Errors
/// Parameters out of bounds, or cancelled.
pub fn build(parameters: &str, context: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    Ok(Arc::new(Assistant(Arc::new(Shared::build(Parameters::parse(parameters)?, context)?))))
}

impl Shared {
    fn build(parameters: Parameters, context: &Build<'_>) -> Result<Self, BuildError> {
        let grammar = Grammar::read()?;
        let decoder = Arc::new(Decoder::build(parameters.model, context)?);
        let weights = classifier::train(&grammar, context)?;
        let author = Author::new(&grammar, context.seed, Split::HeldOut);
        let pool: Vec<Utterance> =
            (0..parameters.utterances as u64).map(|number| author.write(number)).collect();
        let requests: Vec<u32> = (0..pool.len() as u32)
            .filter(|number| pool[*number as usize].label != UNKNOWN)
            .collect();
        let mut shared = Self {
            seed: context.seed,
            held: Held::default(),
            counters: Counters::default(),
            parameters,
            grammar,
            weights,
            pool,
            requests,
            decoder,
        };
        shared.held = shared.examined();
        Ok(shared)
    }

    /// Parses every utterance of the pool, and the commands that ask for the same.
    fn examined(&self) -> Held {
        let (mut right, mut unknown, mut sloted, mut back) = (0, 0, 0, 0);
        let (mut features, mut command) = (Features::default(), Command::default());
        for utterance in &self.pool {
            let found = parse(&self.grammar, &self.weights, utterance.text(), &mut features);
            let is_right = found.label == utterance.label;
            right += usize::from(is_right);
            if utterance.label == UNKNOWN {
                unknown += usize::from(is_right);
                continue;
            }
            sloted += usize::from(is_right && found.slots == utterance.slots);
            command.write(&self.grammar, utterance.label, |kind| utterance.value(kind));
            back += usize::from(self.asks_the_same(&command, utterance, &mut features));
        }
        let requests = self.requests.len().max(1) as f64;
        let others = (self.pool.len() - self.requests.len()).max(1) as f64;
        Held {
            accuracy: right as f64 / self.pool.len() as f64,
            unknown_recall: unknown as f64 / others,
            intent_accuracy: (right - unknown) as f64 / requests,
            slot_accuracy: sloted as f64 / requests,
            round_trip: back as f64 / requests,
        }
    }

    /// Whether a command is parsed to the intent and the values of an utterance.
    fn asks_the_same(
        &self,
        command: &Command,
        utterance: &Utterance,
        features: &mut Features,
    ) -> bool {
        let found = parse(&self.grammar, &self.weights, command.text(), features);
        let same = |(kind, slot): (usize, &[u8; 2])| {
            let [start, length] = slot.map(usize::from);
            &command.text()[start..start + length] == utterance.value(kind as u8)
        };
        found.label == utterance.label && found.slots.iter().enumerate().all(same)
    }

    /// Which of `count` things the operation of `key` is about (Knuth's multiplicative hash).
    fn pick(key: u64, count: usize) -> usize {
        let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((mixed * count as u64) >> 32) as usize
    }

    #[inline]
    fn utterance(&self, key: u64) -> &Utterance {
        &self.pool[Self::pick(key, self.pool.len())]
    }

    /// What request number `number` of the batch of `key` is drawn by.
    fn key_of(&self, key: u64, number: usize) -> u64 {
        key.wrapping_mul(self.parameters.prompts as u64).wrapping_add(number as u64)
    }

    /// An utterance with an intent.
    #[inline]
    fn request(&self, key: u64) -> &Utterance {
        &self.pool[self.requests[Self::pick(key, self.requests.len())] as usize]
    }
}

impl Component for Assistant {
    fn ops(&self) -> &'static [&'static str] {
        &OPS
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Worker::new(Arc::clone(&self.0)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        let parameters = &self.0.parameters;
        let shape = parameters.model.shape();
        let shared = Weights::bytes()
            + Decoder::bytes(shape)
            + self.0.pool.len() * (size_of::<Utterance>() + size_of::<u32>());
        let worker = Learner::bytes(parameters.feedback_max)
            + shape.copy_bytes()
            + Chorus::bytes(shape, parameters.prompts);
        (shared + workers * worker) as u64
    }

    fn describe(&self) -> serde_json::Value {
        let shared = &*self.0;
        let held = shared.held;
        json!({
            "templates": shared.grammar.templates(),
            "held_out_utterances": shared.pool.len(),
            "accuracy": held.accuracy,
            "intent_accuracy": held.intent_accuracy,
            "unknown_recall": held.unknown_recall,
            "slot_accuracy": held.slot_accuracy,
            "command_round_trip": held.round_trip,
            "decoder": "synthetic weights",
            "decoder_parameters": shared.decoder.shape.parameters(),
            "kernels": shared.decoder.kernels.name(),
        })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.counters.read()
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        self.0.answers(op, inputs)
    }
}
