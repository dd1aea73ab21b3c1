//! A prompt, and what the decoder says to it.

use super::decoder::{BEGIN, Decoding, PROMPT_MAX};
use super::tokens::word_hashes;
use crate::operations::{Fault, Pause};

/// Tokens of one answer at most.
pub const TOKENS_MAX: usize = 64;

/// A prompt and what was said to it.
#[derive(Clone)]
pub struct Speech {
    prompt: [u32; PROMPT_MAX],
    prompted: usize,
    tokens: [u32; TOKENS_MAX],
    said: usize,
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

    /// Positions of the prompt and of an answer of `count` tokens, but for its last.
    pub fn positions(&self, count: usize) -> usize {
        self.prompted + count - 1
    }

    /// Forgets the last answer.
    pub fn begin(&mut self) {
        (self.said, self.digest) = (0, 0);
    }

    /// The token at a position of prompt and answer; the begin where nothing was said yet.
    pub fn token(&self, position: usize) -> u32 {
        match position.checked_sub(self.prompted) {
            None => self.prompt[position],
            Some(place) => self.tokens().get(place).copied().unwrap_or(BEGIN),
        }
    }

    /// Whether the answer of `count` tokens goes on after what was taken in at a position.
    pub fn goes_on(&self, position: usize, count: usize) -> bool {
        position + 1 >= self.prompted && self.said < count
    }

    /// Says one more token.
    pub fn say(&mut self, token: u32) {
        self.tokens[self.said] = token;
        self.digest = mixed(self.digest, token);
        self.said += 1;
    }

    /// Decodes `count` tokens, each the likeliest after those before it.
    pub fn speak(&mut self, decoding: &mut Decoding, count: usize, pause: &mut dyn Pause) {
        for (position, token) in self.prompt[..self.prompted].iter().enumerate() {
            decoding.take(*token, position, pause);
        }
        self.begin();
        while self.said < count {
            let token = decoding.next(pause);
            self.say(token);
            if self.said < count {
                decoding.take(token, self.prompted + self.said - 1, pause);
            }
        }
    }

    /// Whether these are the tokens that were chosen, `count` of them.
    pub fn is_whole(&self, count: usize) -> bool {
        let digest = self.tokens().iter().fold(0, |digest, token| mixed(digest, *token));
        self.said == count && digest == self.digest
    }

    /// Whether these are the tokens that were chosen, `count` of them, and number `sample` is what
    /// the decoder says again after the one before it.
    pub fn is_sound(
        &self,
        decoding: &mut Decoding,
        count: usize,
        sample: usize,
        pause: &mut dyn Pause,
    ) -> bool {
        if !self.is_whole(count) {
            return false;
        }
        let before = match sample.checked_sub(1) {
            Some(before) => self.tokens[before],
            None => self.prompt[self.prompted - 1],
        };
        decoding.take(before, self.prompted + sample - 1, pause);
        decoding.next(pause) == self.tokens[sample]
    }

    /// Damages the answer; false where nothing changed.
    pub fn damage(&mut self, fault: Fault) -> bool {
        let before = self.tokens;
        match fault {
            Fault::FlippedBit => self.tokens[self.said / 2] ^= 1,
            Fault::LostResult => self.said -= 1,
            Fault::DoubledResult => self.tokens.copy_within(0..self.said - 1, 1),
        }
        fault == Fault::LostResult || before != self.tokens
    }
}
