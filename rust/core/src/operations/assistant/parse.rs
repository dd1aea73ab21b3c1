//! From a text to its intent and slots.

use super::classifier::Weights;
use super::grammar::{Grammar, KINDS};
use super::tokens::{Features, Slots, read};

/// What was understood of a text: `label` 0 for unknown, else intent + 1; values of the kinds that
/// the intent takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub label: u8,
    pub slots: Slots,
}

impl Parsed {
    /// What stands where there is no answer.
    pub const NOTHING: Self = Self { label: u8::MAX, slots: [[0; 2]; KINDS] };
}

/// Parses a text; leaves its features behind.
#[inline]
pub fn parse(grammar: &Grammar, weights: &Weights, text: &[u8], features: &mut Features) -> Parsed {
    let slots = read(grammar, text, features);
    let label = weights.decided(&weights.scores(features.as_slice()));
    Parsed { label, slots: accepted(grammar, label, slots) }
}

/// The slots of the kinds that the intent of `label` takes.
#[inline]
pub fn accepted(grammar: &Grammar, label: u8, mut slots: Slots) -> Slots {
    let accepts = grammar.intent(label).map_or(0, |frame| frame.accepts);
    for (kind, slot) in slots.iter_mut().enumerate() {
        if accepts >> kind & 1 == 0 {
            *slot = [0; 2];
        }
    }
    slots
}
