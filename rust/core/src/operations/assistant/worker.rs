//! One worker of the assistant: its scratch memory, the timed path and the check after it.

use std::sync::Arc;

use super::chorus::Chorus;
use super::command::Command;
use super::counters::{Own, Total};
use super::decoder::Decoding;
use super::learner::Learner;
use super::parse::{Parsed, parse};
use super::speech::Speech;
use super::tokens::{Features, read};
use super::{Shared, op};
use crate::operations::{Completion, Fault, Operation, Pause, Request, Status, Verdict};

/// One parse in so many is done again to check it: the others are the same work.
const PARSES_PER_CHECK: u64 = 16;
pub struct Worker {
    shared: Arc<Shared>,
    features: Features,
    parsed: Parsed,
    parsed_before: Parsed,
    command: Command,
    speech: Speech,
    decoding: Decoding,
    pub chorus: Chorus,
    learner: Learner,
    /// Operations `learn` run so far.
    taken: u64,
    last: Option<Request>,
    own: Arc<Own>,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            features: Features::default(),
            parsed: Parsed::NOTHING,
            parsed_before: Parsed::NOTHING,
            command: Command::default(),
            speech: Speech::default(),
            decoding: Decoding::new(Arc::clone(&shared.decoder)),
            chorus: Chorus::new(&shared.decoder, shared.parameters.prompts),
            learner: Learner::new(&shared.weights, shared.parameters.feedback_max),
            taken: 0,
            last: None,
            own: shared.counters.enrol(),
            shared,
        }
    }

    fn parse(&mut self, key: u64) {
        let shared = &*self.shared;
        let text = shared.utterance(key).text();
        self.parsed_before = self.parsed;
        self.parsed = parse(&shared.grammar, &shared.weights, text, &mut self.features);
        self.own.add(Total::Parses, 1);
    }

    fn generate(&mut self, key: u64, pause: &mut dyn Pause) {
        let shared = &*self.shared;
        let asked = shared.request(key);
        self.command.write(&shared.grammar, asked.label, |kind| asked.value(kind));
        self.speech.ask(self.command.text(), shared.decoder.shape.vocabulary);
        let count = shared.parameters.tokens;
        self.speech.speak(&mut self.decoding, count, pause);
        self.own.add(Total::Commands, 1);
        self.own.add(Total::Tokens, count as u64);
    }

    fn generate_batch(&mut self, key: u64, pause: &mut dyn Pause) {
        let shared = &*self.shared;
        let prompts = shared.parameters.prompts;
        for number in 0..prompts {
            let asked = shared.request(shared.key_of(key, number));
            self.chorus.ask(number, &shared.grammar, asked.label, |kind| asked.value(kind));
        }
        let count = shared.parameters.tokens;
        self.chorus.speak(count, &mut |_, _| {}, pause);
        self.own.add(Total::Commands, prompts as u64);
        self.own.add(Total::Tokens, (prompts * count) as u64);
    }

    fn learn(&mut self, key: u64) {
        let shared = &*self.shared;
        let utterance = shared.utterance(key);
        let stored = self.learner.stored();
        read(&shared.grammar, utterance.text(), &mut self.features);
        let decided = self.learner.learn(key, self.features.as_slice(), utterance.label);
        self.taken += 1;
        self.own.add(Total::Received, 1);
        self.own.add(Total::Stored, 1);
        if self.learner.stored() == stored {
            self.own.forget(1);
        }
        self.own.add(Total::Corrections, u64::from(decided != utterance.label));
    }

    fn parse_is_right(&mut self, key: u64) -> bool {
        let shared = &*self.shared;
        let utterance = shared.utterance(key);
        let text = utterance.text();
        let again = parse(&shared.grammar, &shared.weights, text, &mut self.features);
        self.own.add(Total::CheckedParses, 1);
        self.own.add(Total::CheckedRight, u64::from(again.label == utterance.label));
        again == self.parsed
    }

    fn speech_is_right(&mut self, key: u64, pause: &mut dyn Pause) -> bool {
        let shared = &*self.shared;
        let count = shared.parameters.tokens;
        shared.asks_the_same(&self.command, shared.request(key), &mut self.features)
            && self.speech.is_sound(&mut self.decoding, count, key as usize % count, pause)
    }

    /// Every command asks for what was asked, every answer is the tokens that were chosen, and one
    /// of them is said again alone, to the same tokens.
    fn batch_is_right(&mut self, key: u64, pause: &mut dyn Pause) -> bool {
        let shared = &*self.shared;
        let count = shared.parameters.tokens;
        for (number, speech) in self.chorus.speeches.iter().enumerate() {
            let asked = shared.request(shared.key_of(key, number));
            let command = &self.chorus.commands[number];
            if !speech.is_whole(count) || !shared.asks_the_same(command, asked, &mut self.features)
            {
                return false;
            }
            pause.point();
        }
        let sampled = &self.chorus.speeches[key as usize % self.chorus.speeches.len()];
        self.speech.clone_from(sampled);
        self.speech.speak(&mut self.decoding, count, pause);
        self.speech.tokens() == sampled.tokens()
    }

    fn learning_is_right(&mut self, key: u64) -> bool {
        let sound = self.learner.is_sound(self.features.as_slice(), key, self.taken);
        // What was found wrong once is not found again with every operation after it.
        if !sound {
            self.learner.recount(self.taken);
        }
        sound
    }
}

impl Operation for Worker {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        let mut units = 1;
        match request.op {
            op::PARSE => self.parse(request.key),
            op::GENERATE => self.generate(request.key, pause),
            op::LEARN => self.learn(request.key),
            op::GENERATE_BATCH => {
                self.generate_batch(request.key, pause);
                units = self.shared.parameters.prompts as u64;
            }
            _ => return Completion { status: Status::Error, units: 0 },
        }
        self.last = Some(request);
        Completion { status: Status::Ok, units }
    }

    fn plant(&mut self, fault: Fault) -> bool {
        let Some(Request { op, key }) = self.last else { return false };
        match (op, fault) {
            (op::PARSE, _) if key % PARSES_PER_CHECK != 0 => false,
            (op::PARSE, Fault::FlippedBit) => {
                self.parsed.label ^= 1;
                true
            }
            (op::PARSE, Fault::LostResult) => {
                self.parsed = Parsed::NOTHING;
                true
            }
            (op::PARSE, Fault::DoubledResult) => {
                let before = std::mem::replace(&mut self.parsed, self.parsed_before);
                before != self.parsed
            }
            (op::GENERATE, fault) => self.speech.damage(fault),
            (op::GENERATE_BATCH, fault) => {
                let place = key as usize / 2 % self.chorus.speeches.len();
                self.chorus.speeches[place].damage(fault)
            }
            (_, Fault::FlippedBit) => self.learner.flip(self.features.as_slice()),
            (_, Fault::LostResult) => {
                self.learner.received -= 1;
                true
            }
            (_, Fault::DoubledResult) => {
                let last = self.learner.last();
                last.is_some_and(|last| {
                    self.learner.remember(last);
                    true
                })
            }
        }
    }

    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        let Some(Request { op, key }) = self.last.take() else { return Verdict::default() };
        let right = match op {
            op::PARSE if key % PARSES_PER_CHECK != 0 => return Verdict::default(),
            op::PARSE => self.parse_is_right(key),
            op::GENERATE => self.speech_is_right(key, pause),
            op::GENERATE_BATCH => self.batch_is_right(key, pause),
            _ => self.learning_is_right(key),
        };
        Verdict { checked: 1, violations: u32::from(!right) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.own.forget(self.learner.stored());
        self.shared.counters.retire(&self.own);
    }
}
