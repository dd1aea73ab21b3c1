//! Many requests answered together: their commands, and the answers of a few at a time in step.

use std::sync::Arc;

use super::command::Command;
use super::decoder::{Decoder, Shape, Together};
use super::grammar::Grammar;
use super::speech::Speech;
use crate::operations::Pause;

/// The requests of one `generate_batch`, and what they are answered with.
pub struct Chorus {
    pub commands: Vec<Command>,
    pub speeches: Vec<Speech>,
    /// Numbers of the requests, by the lengths of their prompts: those in step are of like lengths.
    order: Vec<u32>,
    decoding: Together,
}

impl Chorus {
    pub fn new(decoder: &Arc<Decoder>, prompts: usize) -> Self {
        Self {
            commands: vec![Command::default(); prompts],
            speeches: vec![Speech::default(); prompts],
            order: (0..prompts as u32).collect(),
            decoding: Together::new(Arc::clone(decoder), prompts),
        }
    }

    /// Bytes of one of so many prompts.
    pub fn bytes(shape: Shape, prompts: usize) -> usize {
        let each = size_of::<Command>() + size_of::<Speech>() + size_of::<u32>();
        Together::bytes(shape, prompts) + prompts * each
    }

    /// Writes the command of a request, and its prompt.
    pub fn ask<'v>(
        &mut self,
        number: usize,
        grammar: &Grammar,
        label: u8,
        value: impl Fn(u8) -> &'v [u8],
    ) {
        let command = &mut self.commands[number];
        command.write(grammar, label, value);
        self.speeches[number].ask(command.text(), self.decoding.vocabulary());
    }

    /// Answers every request with `count` tokens; `heard` gets the number of each and the logits
    /// of its last token.
    pub fn speak(
        &mut self,
        count: usize,
        heard: &mut dyn FnMut(usize, &[f32]),
        pause: &mut dyn Pause,
    ) {
        let speeches = &mut self.speeches;
        self.order
            .sort_unstable_by_key(|number| (speeches[*number as usize].positions(count), *number));
        let groups = speeches.len().div_ceil(Together::MOST);
        for group in 0..groups {
            let [first, end] = [group, group + 1].map(|edge| edge * speeches.len() / groups);
            let numbers = &self.order[first..end];
            for number in numbers {
                speeches[*number as usize].begin();
            }
            let longest = numbers.iter().map(|number| speeches[*number as usize].positions(count));
            for position in 0..longest.max().unwrap_or(0) {
                let mut tokens = [0; Together::MOST];
                for (token, number) in tokens.iter_mut().zip(numbers) {
                    *token = speeches[*number as usize].token(position);
                }
                self.decoding.take(&tokens[..numbers.len()], position, pause);
                let go_on = |number: &u32| speeches[*number as usize].goes_on(position, count);
                if !numbers.iter().any(go_on) {
                    continue;
                }
                self.decoding.weigh(numbers.len(), pause);
                for (place, number) in numbers.iter().map(|number| *number as usize).enumerate() {
                    if speeches[number].goes_on(position, count) {
                        let (logits, token) = self.decoding.choice(place);
                        speeches[number].say(token);
                        if speeches[number].tokens().len() == count {
                            heard(number, logits);
                        }
                    }
                }
            }
        }
    }
}
