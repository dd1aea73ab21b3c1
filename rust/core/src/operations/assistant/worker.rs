//! One worker of the assistant: its scratch memory, the timed path and the check after it.

use std::sync::Arc;

use super::command::Command;
use super::counters::{Own, Total};
use super::decoder::{BEGIN, Decoding, PROMPT_MAX};
use super::learner::Learner;
use super::parse::{Parsed, parse};
use super::tokens::{Features, read, word_hashes};
use super::{Shared, op};
use crate::operations::{Completion, Fault, Operation, Pause, Request, Status, Verdict};

/// One parse in so many is done again to check it: the others are the same work.
const PARSES_PER_CHECK: u64 = 16;
/// Tokens of one answer at most.
pub const TOKENS_MAX: usize = 64;

/// A prompt and what was said to it.
pub struct Speech {
    prompt: [u32; PROMPT_MAX],
    prompted: usize,
    tokens: [u32; TOKENS_MAX],
    pub said: usize,
    /// Of the tokens as they were chosen.
    digest: u64,
}

impl Default for Speech {
    fn default() -> Self {
        let tokens = [0; TOKENS_MAX];
        Self { prompt: [BEGIN; PROMPT_MAX], prompted: 0, tokens, said: 0, digest: 0 }
    }
}

fn mixed(digest: u64, token: u32) -> u64 {
    (digest.rotate_left(7) ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Speech {
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.said]
    }

    /// A token for the begin and one for every word of the command, as many as there is room for.
    pub fn ask(&mut self, command: &[u8], vocabulary: usize) {
        self.prompted = 1;
        for hash in word_hashes(command).take(PROMPT_MAX - 1) {
            self.prompt[self.prompted] = hash % vocabulary as u32;
            self.prompted += 1;
        }
    }

    /// Decodes `count` tokens, each the likeliest after those before it.
    pub fn speak(&mut self, decoding: &mut Decoding, count: usize, pause: &mut dyn Pause) {
        for (position, token) in self.prompt[..self.prompted].iter().enumerate() {
            decoding.take(*token, position, pause);
        }
        (self.said, self.digest) = (0, 0);
        while self.said < count {
            let token = decoding.next(pause);
            self.tokens[self.said] = token;
            self.digest = mixed(self.digest, token);
            self.said += 1;
            if self.said < count {
                decoding.take(token, self.prompted + self.said - 1, pause);
            }
        }
    }

    /// Whether these are the tokens that were chosen, `count` of them, and number `sample` is what
    /// the decoder says again after the one before it.
    fn is_sound(
        &self,
        decoding: &mut Decoding,
        count: usize,
        sample: usize,
        pause: &mut dyn Pause,
    ) -> bool {
        let digest = self.tokens().iter().fold(0, |digest, token| mixed(digest, *token));
        if self.said != count || digest != self.digest {
            return false;
        }
        let before = match sample.checked_sub(1) {
            Some(before) => self.tokens[before],
            None => self.prompt[self.prompted - 1],
        };
        decoding.take(before, self.prompted + sample - 1, pause);
        decoding.next(pause) == self.tokens[sample]
    }

    fn damage(&mut self, fault: Fault) -> bool {
        let before = self.tokens;
        match fault {
            Fault::FlippedBit => self.tokens[self.said / 2] ^= 1,
            Fault::LostResult => self.said -= 1,
            Fault::DoubledResult => self.tokens.copy_within(0..self.said - 1, 1),
        }
        fault == Fault::LostResult || before != self.tokens
    }
}

pub struct Worker {
    shared: Arc<Shared>,
    features: Features,
    parsed: Parsed,
    parsed_before: Parsed,
    command: Command,
    speech: Speech,
    decoding: Decoding,
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
        match request.op {
            op::PARSE => self.parse(request.key),
            op::GENERATE => self.generate(request.key, pause),
            op::LEARN => self.learn(request.key),
            _ => return Completion { status: Status::Error, units: 0 },
        }
        self.last = Some(request);
        Completion { status: Status::Ok, units: 1 }
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
