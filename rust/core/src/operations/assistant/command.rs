//! Commands: an intent and its slots as a sentence that is parsed back to them.

use super::grammar::Grammar;
use super::tokens::TEXT_MAX;

/// A command, in memory of a fixed size; what does not fit is cut off.
#[derive(Clone)]
pub struct Command {
    text: [u8; TEXT_MAX],
    length: usize,
}

impl Default for Command {
    fn default() -> Self {
        Self { text: [0; TEXT_MAX], length: 0 }
    }
}

impl Command {
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    fn push(&mut self, words: &[u8]) {
        let room = &mut self.text[self.length..];
        let fitting = words.len().min(room.len());
        room[..fitting].copy_from_slice(&words[..fitting]);
        self.length += fitting;
    }

    /// Writes the command of `label`, naming every kind that has a value: "roll back the change
    /// with service ledger, version v1.2.3". Nothing for unknown.
    pub fn write<'v>(&mut self, grammar: &Grammar, label: u8, value: impl Fn(u8) -> &'v [u8]) {
        self.length = 0;
        let Some(frame) = grammar.intent(label) else { return };
        self.push(frame.command.as_bytes());
        let mut before: &[u8] = b" with ";
        for kind in &frame.slots {
            let value = value(*kind);
            if !value.is_empty() {
                self.push(before);
                self.push(grammar.kinds[usize::from(*kind)].as_bytes());
                self.push(b" ");
                self.push(value);
                before = b", ";
            }
        }
    }

    /// The command of `label` that names the kinds in the set `named`, with some value each.
    pub fn example(grammar: &Grammar, label: u8, named: u16) -> Self {
        let mut command = Self::default();
        command.write(grammar, label, |kind| {
            if named >> kind & 1 == 0 {
                return b"";
            }
            match grammar.pattern_of(kind) {
                Some(pattern) => pattern.example(),
                None => grammar.values[usize::from(kind)][0].as_bytes(),
            }
        });
        command
    }
}
