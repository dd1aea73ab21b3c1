//! Utterances drawn from the grammar: the same bytes as `components/utterances.py` draws.

use super::grammar::{Grammar, Part};
use super::tokens::{LENGTH_MAX, Pattern, Slots};
use crate::random::{Stream, stream_key};

/// The label of what is none of the intents.
pub const UNKNOWN: u8 = 0;
const LENGTH_MIN: usize = 20;
/// Tails of each head, and topics of each so many, that training never sees.
const HELD_TAILS: usize = 2;
const TOPIC_STRIDE: usize = 4;
/// One utterance in so many is about something else.
const UNKNOWN_ONE_IN: u64 = 6;
const DOMAIN_SPLIT: u64 = 0xA551_0001;
const DOMAIN_TRAIN: u64 = 0xA551_0002;
const DOMAIN_HELD_OUT: u64 = 0xA551_0003;
const PADDING: &str = " as soon as possible";
/// The owner of bytes that belong to no value.
const LITERAL: u8 = u8::MAX;

/// Which templates are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    /// Templates that training never sees, with one or two typing errors in each utterance.
    HeldOut,
}

/// One utterance, its label and where its values are.
#[derive(Clone)]
pub struct Utterance {
    text: [u8; LENGTH_MAX],
    length: u8,
    pub label: u8,
    pub slots: Slots,
}

impl Utterance {
    #[inline]
    pub fn text(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    /// The value of a kind; empty where there is none.
    pub fn value(&self, kind: u8) -> &[u8] {
        let [start, length] = self.slots[usize::from(kind)].map(usize::from);
        &self.text[start..start + length]
    }
}

/// Draws utterances of one split.
pub struct Author<'a> {
    grammar: &'a Grammar,
    split: Split,
    shift: usize,
    topics: Vec<usize>,
    stream_key: [u32; 2],
}

struct Draft {
    text: Vec<u8>,
    owners: Vec<u8>,
}

impl Draft {
    fn push(&mut self, text: &[u8], owner: u8) {
        self.text.extend_from_slice(text);
        self.owners.resize(self.text.len(), owner);
    }

    /// Bytes inside words that are no values, with a letter on either side.
    fn is_inside_word(&self, at: usize) -> bool {
        self.text[at].is_ascii_lowercase()
            && self.owners[at - 1..=at + 1].iter().all(|owner| *owner == LITERAL)
            && self.text[at - 1].is_ascii_alphabetic()
            && self.text[at + 1].is_ascii_alphabetic()
    }

    /// One typing error: two letters swapped, one left out, doubled or wrong.
    fn mistype(&mut self, stream: &mut Stream) {
        let places = (1..self.text.len() - 1).filter(|at| self.is_inside_word(*at));
        let places: Vec<usize> = places.collect();
        let at = places[below(stream, places.len())];
        let error = below(stream, 4);
        let letter = b'a' + below(stream, 26) as u8;
        match error {
            0 => self.text.swap(at, at + 1),
            1 => {
                self.text.remove(at);
                self.owners.remove(at);
            }
            2 => {
                self.text.insert(at, self.text[at]);
                self.owners.insert(at, LITERAL);
            }
            _ => self.text[at] = letter,
        }
    }
}

fn below(stream: &mut Stream, bound: usize) -> usize {
    stream.next_below(bound as u64) as usize
}

fn choice<'a>(stream: &mut Stream, texts: &'a [String]) -> &'a str {
    &texts[below(stream, texts.len())]
}

impl<'a> Author<'a> {
    pub fn new(grammar: &'a Grammar, seed: u64, split: Split) -> Self {
        let shift = below(&mut Stream::new(stream_key(seed, DOMAIN_SPLIT), 0), 1 << 16);
        let is_held = |topic: &usize| (topic + shift) % TOPIC_STRIDE == 0;
        let topics = (0..grammar.topics.len())
            .filter(|topic| is_held(topic) == (split == Split::HeldOut))
            .collect();
        let domain = if split == Split::Train { DOMAIN_TRAIN } else { DOMAIN_HELD_OUT };
        Self { grammar, split, shift, topics, stream_key: stream_key(seed, domain) }
    }

    /// Label, head and tail of a template of the split.
    fn template(&self, stream: &mut Stream) -> (u8, &'a str, &'a [Part]) {
        let grammar = self.grammar;
        if stream.next_below(UNKNOWN_ONE_IN) == 0 {
            let topic = &grammar.topics[self.topics[below(stream, self.topics.len())]];
            let head = choice(stream, &topic.heads);
            return (UNKNOWN, head, &topic.tails[below(stream, topic.tails.len())]);
        }
        let intent = below(stream, grammar.intents.len());
        let frame = &grammar.intents[intent];
        let head = below(stream, frame.heads.len());
        let rank = match self.split {
            Split::HeldOut => below(stream, HELD_TAILS),
            Split::Train => HELD_TAILS + below(stream, frame.tails.len() - HELD_TAILS),
        };
        let tail = (rank + 3 * head + intent + self.shift) % frame.tails.len();
        (intent as u8 + 1, &frame.heads[head], &frame.tails[tail])
    }

    /// Label, head and tail of the utterance of number `number`.
    #[cfg(test)]
    pub fn template_of(&self, number: u64) -> (u8, &'a str, &'a [Part]) {
        self.template(&mut Stream::new(self.stream_key, number))
    }

    fn value(&self, kind: u8, stream: &mut Stream) -> String {
        let known = &self.grammar.values[usize::from(kind)];
        let Some(pattern) = self.grammar.pattern_of(kind) else {
            return choice(stream, known).to_owned();
        };
        let mut below = |bound| below(stream, bound);
        match pattern {
            Pattern::Number => format!("{}", 2 + below(98)),
            Pattern::Percent => format!("{}%", 1 + below(99)),
            Pattern::Version => format!("v{}.{}.{}", below(10), below(20), below(10)),
            Pattern::Duration => {
                let count = 2 + below(58);
                format!("{count} {}", choice(stream, &self.grammar.units))
            }
            Pattern::Time => format!("{:02}:{:02}", below(24), below(60)),
            Pattern::Node => format!("node-{}", 1 + below(999)),
            Pattern::Agent => format!("agent-{}", 1 + below(9999)),
            Pattern::Ticket => format!("INC-{}", 1000 + below(9000)),
        }
    }

    /// The utterance of number `number`.
    pub fn write(&self, number: u64) -> Utterance {
        let stream = &mut Stream::new(self.stream_key, number);
        let grammar = self.grammar;
        let (label, head, tail) = self.template(stream);
        let mut opening = choice(stream, &grammar.openings);
        let closing = choice(stream, &grammar.closings);
        let mut body = Draft { text: Vec::new(), owners: Vec::new() };
        let mut kinds = Vec::new();
        for part in tail {
            match part {
                Part::Words(words) => body.push(words.as_bytes(), LITERAL),
                Part::Value(kind) => {
                    body.push(self.value(*kind, stream).as_bytes(), kinds.len() as u8);
                    kinds.push(*kind);
                }
            }
        }
        let core = head.len() + 1 + body.text.len();
        // Three bytes are kept for a full stop and two doubled letters, two for letters left out.
        let mut end = closing.to_owned();
        if opening.len() + core + end.len() > LENGTH_MAX - 3 {
            end.clear();
        }
        if opening.len() + core + end.len() > LENGTH_MAX - 3 {
            opening = "";
        }
        if opening.len() + core + end.len() < LENGTH_MIN + 2 {
            end.push_str(PADDING);
        }
        let mut draft = Draft { text: Vec::new(), owners: Vec::new() };
        draft.push(format!("{opening}{head} ").as_bytes(), LITERAL);
        draft.text.extend(body.text);
        draft.owners.extend(body.owners);
        draft.push(end.as_bytes(), LITERAL);
        if below(stream, 2) == 0 {
            draft.text[0] = draft.text[0].to_ascii_uppercase();
        }
        draft.push([&b""[..], b".", b"?"][below(stream, 3)], LITERAL);
        let errors = match self.split {
            Split::HeldOut => 1 + below(stream, 2),
            Split::Train => below(stream, 3),
        };
        for _ in 0..errors {
            draft.mistype(stream);
        }
        finished(&draft, label, &kinds)
    }
}

fn finished(draft: &Draft, label: u8, kinds: &[u8]) -> Utterance {
    let mut text = [0; LENGTH_MAX];
    text[..draft.text.len()].copy_from_slice(&draft.text);
    let mut slots = Slots::default();
    for (slot, kind) in kinds.iter().enumerate() {
        let owned = |owner: &u8| usize::from(*owner) == slot;
        let start = draft.owners.iter().position(owned).unwrap_or(0);
        let length = draft.owners.iter().filter(|owner| owned(owner)).count();
        slots[usize::from(*kind)] = [start as u8, length as u8];
    }
    Utterance { text, length: draft.text.len() as u8, label, slots }
}
