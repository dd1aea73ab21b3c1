//! The tables that utterances are drawn from and parsed with, the same file as Python reads.

use serde::Deserialize;

use super::tokens::{Pattern, fnv1a};
use crate::operations::BuildError;

const TABLES: &str =
    include_str!("../../../../../python/swarmbench/components/assistant_grammar.json");

/// Kinds of slots that an answer has room for.
pub const KINDS: usize = 15;
/// Slots of the table of known values: at most half of them are taken.
const KNOWN: usize = 512;

#[derive(Deserialize)]
struct Tables {
    kinds: Vec<String>,
    values: std::collections::BTreeMap<String, Vec<String>>,
    units: Vec<String>,
    openings: Vec<String>,
    closings: Vec<String>,
    intents: Vec<Intent>,
    topics: Vec<Topic>,
}

#[derive(Deserialize)]
struct Intent {
    command: String,
    slots: Vec<String>,
    heads: Vec<String>,
    tails: Vec<String>,
}

#[derive(Deserialize)]
struct Topic {
    heads: Vec<String>,
    tails: Vec<String>,
}

/// A part of a tail: words as they stand, or the place of a value.
#[derive(Debug)]
pub enum Part {
    Words(String),
    Value(u8),
}

/// An intent, or a topic that is none; every head goes with every tail.
pub struct Frame {
    pub heads: Vec<String>,
    pub tails: Vec<Vec<Part>>,
    /// How a command of the intent begins.
    pub command: String,
    /// Kinds of its slots, in the order in which a command names them.
    pub slots: Vec<u8>,
    /// The same as a set: bit k for kind k.
    pub accepts: u16,
}

/// The grammar and what looks words up in it.
pub struct Grammar {
    pub kinds: Vec<String>,
    pub values: Vec<Vec<String>>,
    pub units: Vec<String>,
    pub openings: Vec<String>,
    pub closings: Vec<String>,
    pub intents: Vec<Frame>,
    pub topics: Vec<Frame>,
    /// What is drawn, or recognised, by a pattern: the kind of each.
    patterns: [u8; Pattern::ALL.len()],
    known: Vec<Option<Known>>,
}

struct Known {
    hash: u32,
    kind: u8,
    text: String,
}

fn faulty(problem: String) -> BuildError {
    BuildError::Value { key: "grammar", problem }
}

fn parts(tail: &str, kinds: &[String]) -> Result<Vec<Part>, BuildError> {
    let mut parts = Vec::new();
    let mut rest = tail;
    while let Some((words, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| faulty(format!("a brace is open in `{tail}`")))?;
        if !words.is_empty() {
            parts.push(Part::Words(words.to_owned()));
        }
        parts.push(Part::Value(number(name, kinds)?));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Words(rest.to_owned()));
    }
    Ok(parts)
}

fn number(name: &str, kinds: &[String]) -> Result<u8, BuildError> {
    let found = kinds.iter().position(|kind| kind == name);
    found
        .and_then(|at| u8::try_from(at).ok())
        .ok_or_else(|| faulty(format!("there is no kind `{name}`")))
}

impl Frame {
    fn of_intent(intent: Intent, kinds: &[String]) -> Result<Self, BuildError> {
        let slots: Vec<u8> =
            intent.slots.iter().map(|name| number(name, kinds)).collect::<Result<_, _>>()?;
        Ok(Self {
            tails: intent.tails.iter().map(|tail| parts(tail, kinds)).collect::<Result<_, _>>()?,
            accepts: slots.iter().fold(0, |set, kind| set | 1 << kind),
            heads: intent.heads,
            command: intent.command,
            slots,
        })
    }

    fn of_topic(topic: Topic, kinds: &[String]) -> Result<Self, BuildError> {
        let no_intent = Intent {
            command: String::new(),
            slots: Vec::new(),
            heads: topic.heads,
            tails: topic.tails,
        };
        Self::of_intent(no_intent, kinds)
    }
}

impl Grammar {
    /// Reads the tables.
    ///
    /// # Errors
    /// A table that contradicts itself: an unknown kind, two values of one hash.
    pub fn read() -> Result<Self, BuildError> {
        let tables: Tables = serde_json::from_str(TABLES)?;
        let kinds = tables.kinds;
        if kinds.len() != KINDS {
            return Err(faulty(format!("{} kinds instead of {KINDS}", kinds.len())));
        }
        let intents = tables.intents.into_iter().map(|each| Frame::of_intent(each, &kinds));
        let topics = tables.topics.into_iter().map(|each| Frame::of_topic(each, &kinds));
        let mut patterns = [0; Pattern::ALL.len()];
        for (place, (name, _)) in patterns.iter_mut().zip(Pattern::ALL) {
            *place = number(name, &kinds)?;
        }
        let values = kinds.iter().map(|kind| tables.values.get(kind).cloned().unwrap_or_default());
        let mut grammar = Self {
            intents: intents.collect::<Result<_, _>>()?,
            topics: topics.collect::<Result<_, _>>()?,
            values: values.collect(),
            units: tables.units,
            openings: tables.openings,
            closings: tables.closings,
            patterns,
            known: Vec::new(),
            kinds,
        };
        grammar.index()?;
        Ok(grammar)
    }

    fn index(&mut self) -> Result<(), BuildError> {
        self.known.resize_with(KNOWN, || None);
        let mut taken = 0;
        for (kind, values) in self.values.iter().enumerate() {
            for text in values {
                let hash = fnv1a(text.as_bytes());
                let mut place = hash as usize % KNOWN;
                while let Some(other) = &self.known[place] {
                    if other.hash == hash {
                        return Err(faulty(format!("`{text}` and `{}` collide", other.text)));
                    }
                    place = (place + 1) % KNOWN;
                }
                self.known[place] = Some(Known { hash, kind: kind as u8, text: text.clone() });
                taken += 1;
            }
        }
        if taken > KNOWN / 2 {
            return Err(faulty(format!("{taken} values are more than {}", KNOWN / 2)));
        }
        Ok(())
    }

    /// The kind of a known value, given its lower-case bytes and their FNV-1a hash.
    #[inline]
    pub fn known(&self, word: &[u8], hash: u32) -> Option<u8> {
        let mut place = hash as usize % KNOWN;
        while let Some(known) = &self.known[place] {
            if known.hash == hash {
                return (known.text.as_bytes() == word).then_some(known.kind);
            }
            place = (place + 1) % KNOWN;
        }
        None
    }

    /// The kind that a pattern stands for.
    #[inline]
    pub fn kind_of(&self, pattern: Pattern) -> u8 {
        self.patterns[pattern as usize]
    }

    /// The pattern by which values of a kind are drawn; `None` where they stand in a table.
    pub fn pattern_of(&self, kind: u8) -> Option<Pattern> {
        let at = self.patterns.iter().position(|known| *known == kind)?;
        Some(Pattern::ALL[at].1)
    }

    /// Whether a lower-case word is a unit of time.
    #[inline]
    pub fn is_unit(&self, word: &[u8]) -> bool {
        self.units.iter().any(|unit| unit.as_bytes() == word)
    }

    /// Unknown and the intents.
    pub fn classes(&self) -> usize {
        1 + self.intents.len()
    }

    /// The intent of a label; `None` for unknown, and for what is no label.
    pub fn intent(&self, label: u8) -> Option<&Frame> {
        self.intents.get(usize::from(label).checked_sub(1)?)
    }

    /// Pairs of head and tail, over all intents and topics.
    pub fn templates(&self) -> usize {
        let frames = self.intents.iter().chain(&self.topics);
        frames.map(|frame| frame.heads.len() * frame.tails.len()).sum()
    }
}
