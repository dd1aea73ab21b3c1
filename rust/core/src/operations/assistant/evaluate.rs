//! Answers for given inputs, to be held against the reference.

use std::sync::Arc;

use super::classifier::{FEEDBACK_STEP, LANES, Weights};
use super::speech::Speech;
use super::{Author, Chorus, Command, Decoding, Features, Shared, Split, accepted, parse, read};
use crate::operations::{Array, Arrays, BuildError, NoPause};

fn refuse(key: &'static str, problem: impl Into<String>) -> BuildError {
    BuildError::Value { key, problem: problem.into() }
}

fn bytes<'a>(inputs: &'a Arrays, key: &'static str) -> Result<&'a [u8], BuildError> {
    match inputs.get(key) {
        Some(Array::U8(bytes)) => Ok(bytes),
        _ => Err(refuse(key, "is missing or not an array of u8")),
    }
}

/// The texts: one, or those that end where `ends` says.
fn texts(inputs: &Arrays) -> Result<Vec<&[u8]>, BuildError> {
    let text = bytes(inputs, "text")?;
    let ends = match inputs.get("ends") {
        None => return Ok(vec![text]),
        Some(Array::U32(ends)) => ends,
        Some(_) => return Err(refuse("ends", "is not an array of u32")),
    };
    let mut start = 0;
    ends.iter()
        .map(|end| {
            let part = text.get(start..*end as usize);
            start = *end as usize;
            part.ok_or_else(|| refuse("ends", "does not ascend within the text"))
        })
        .collect()
}

/// An arithmetic digest of all weights, exact in 64 bits.
fn checksum(weights: &Weights) -> u64 {
    let lanes = weights.rows.iter().flat_map(|row| row.0);
    lanes.zip(1u64..).fold(0, |sum, (weight, place)| {
        sum.wrapping_add((i64::from(weight) as u64).wrapping_mul(place))
    })
}

impl Shared {
    /// The answers of an op; of `utterances`, `weights` and `logits` too, which are parts of ops.
    pub fn answers(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        match inputs.get("seed") {
            Some(Array::U64(seed)) if *seed != [self.seed] => {
                let problem = format!("the component was built for {}", self.seed);
                return Err(refuse("seed", problem));
            }
            _ => {}
        }
        match op {
            "parse" => self.answer_parse(inputs),
            "generate" => self.answer_generate(inputs),
            "learn" => self.answer_learn(inputs),
            "generate_batch" => self.answer_generate_batch(inputs),
            "utterances" => self.answer_utterances(inputs),
            "weights" => {
                let lanes = self.weights.rows.iter().flat_map(|row| row.0);
                let weights = Array::I32(lanes.map(i32::from).collect());
                Ok(Arrays::from([("weights".to_owned(), weights)]))
            }
            "logits" => self.answer_logits(inputs),
            _ => Err(refuse("op", format!("there is no op `{op}`"))),
        }
    }

    fn answer_parse(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let texts = texts(inputs)?;
        let mut features = Features::default();
        let mut labels = Vec::with_capacity(texts.len());
        let mut slots = Vec::with_capacity(texts.len() * 2 * super::grammar::KINDS);
        for text in texts {
            let found = parse(&self.grammar, &self.weights, text, &mut features);
            labels.push(found.label);
            slots.extend_from_slice(found.slots.as_flattened());
        }
        Ok(Arrays::from([
            ("label".to_owned(), Array::U8(labels)),
            ("slots".to_owned(), Array::U8(slots)),
        ]))
    }

    fn answer_generate(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let text = bytes(inputs, "text")?;
        let label = match bytes(inputs, "label")? {
            [label] if self.grammar.intent(*label).is_some() => *label,
            _ => return Err(refuse("label", "is not one that has an intent")),
        };
        let mut features = Features::default();
        let slots = accepted(&self.grammar, label, read(&self.grammar, text, &mut features));
        let mut command = Command::default();
        command.write(&self.grammar, label, |kind| {
            let [start, length] = slots[usize::from(kind)].map(usize::from);
            &text[start..start + length]
        });
        let mut decoding = Decoding::new(Arc::clone(&self.decoder));
        let mut speech = Speech::default();
        speech.ask(command.text(), self.decoder.shape.vocabulary);
        speech.speak(&mut decoding, self.parameters.tokens, &mut NoPause);
        Ok(Arrays::from([
            ("command".to_owned(), Array::U8(command.text().to_vec())),
            ("logits".to_owned(), Array::F32(decoding.logits.clone())),
            ("tokens".to_owned(), Array::U32(speech.tokens().to_vec())),
        ]))
    }

    /// The answers of `generate` to each of several texts, one after the other; `ends` are those
    /// of the commands.
    fn answer_generate_batch(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let (texts, labels) = (texts(inputs)?, bytes(inputs, "label")?);
        let known = labels.iter().all(|label| self.grammar.intent(*label).is_some());
        if labels.is_empty() || labels.len() != texts.len() || !known {
            return Err(refuse("label", "must be one that has an intent for every text"));
        }
        let mut features = Features::default();
        let mut chorus = Chorus::new(&self.decoder, texts.len());
        for (number, (text, label)) in texts.iter().zip(labels).enumerate() {
            let slots = accepted(&self.grammar, *label, read(&self.grammar, text, &mut features));
            chorus.ask(number, &self.grammar, *label, |kind| {
                let [start, length] = slots[usize::from(kind)].map(usize::from);
                &text[start..start + length]
            });
        }
        let vocabulary = self.decoder.shape.vocabulary;
        let mut logits = vec![0f32; texts.len() * vocabulary];
        let mut heard = |number: usize, found: &[f32]| {
            logits[number * vocabulary..][..vocabulary].copy_from_slice(found);
        };
        chorus.speak(self.parameters.tokens, &mut heard, &mut NoPause);
        let (mut commands, mut ends) = (Vec::new(), Vec::new());
        for command in &chorus.commands {
            commands.extend_from_slice(command.text());
            ends.push(commands.len() as u32);
        }
        let tokens = chorus.speeches.iter().flat_map(Speech::tokens).copied().collect();
        Ok(Arrays::from([
            ("command".to_owned(), Array::U8(commands)),
            ("ends".to_owned(), Array::U32(ends)),
            ("logits".to_owned(), Array::F32(logits)),
            ("tokens".to_owned(), Array::U32(tokens)),
        ]))
    }

    /// Feedback text by text, from the served weights on: the scores of every class before and
    /// after each step, and a digest of the weights in the end.
    fn answer_learn(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let texts = texts(inputs)?;
        let labels = bytes(inputs, "label")?;
        let known = labels.iter().all(|label| usize::from(*label) < self.grammar.classes());
        if labels.len() != texts.len() || !known {
            return Err(refuse("label", "must be one of a class for every text"));
        }
        let mut weights = self.weights.clone();
        let mut features = Features::default();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (text, label) in texts.iter().zip(labels) {
            read(&self.grammar, text, &mut features);
            let scores: [i16; LANES] = weights.learn(features.as_slice(), *label, FEEDBACK_STEP).0;
            before.extend(scores.map(i32::from));
            after.extend(weights.scores(features.as_slice()).0.map(i32::from));
        }
        Ok(Arrays::from([
            ("after".to_owned(), Array::I32(after)),
            ("before".to_owned(), Array::I32(before)),
            ("checksum".to_owned(), Array::U64(vec![checksum(&weights)])),
        ]))
    }

    /// Utterances from number `first` on, of the held-out split or of the one for training.
    fn answer_utterances(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let (split, first, count) = match inputs.get("range") {
            Some(Array::U64(range)) if range.len() == 3 && range[2] <= 1 << 16 => {
                let split = if range[0] == 0 { Split::Train } else { Split::HeldOut };
                (split, range[1], range[2])
            }
            _ => return Err(refuse("range", "must be (split, first, count up to 65536) in u64")),
        };
        let author = Author::new(&self.grammar, self.seed, split);
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        let (mut labels, mut slots) = (Vec::new(), Vec::new());
        for number in (0..count).map(|offset| first.wrapping_add(offset)) {
            let utterance = author.write(number);
            text.extend_from_slice(utterance.text());
            ends.push(text.len() as u32);
            labels.push(utterance.label);
            slots.extend_from_slice(utterance.slots.as_flattened());
        }
        Ok(Arrays::from([
            ("ends".to_owned(), Array::U32(ends)),
            ("label".to_owned(), Array::U8(labels)),
            ("slots".to_owned(), Array::U8(slots)),
            ("text".to_owned(), Array::U8(text)),
        ]))
    }

    /// The logits after each of the given tokens, position after position.
    fn answer_logits(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let vocabulary = self.decoder.shape.vocabulary;
        let tokens = match inputs.get("tokens") {
            Some(Array::U32(tokens)) if tokens.len() <= super::decoder::POSITIONS => tokens,
            _ => return Err(refuse("tokens", "is missing, too long or not an array of u32")),
        };
        if tokens.iter().any(|token| *token as usize >= vocabulary) {
            return Err(refuse("tokens", format!("must be below {vocabulary}")));
        }
        let mut decoding = Decoding::new(Arc::clone(&self.decoder));
        let mut logits = Vec::with_capacity(tokens.len() * vocabulary);
        for (position, token) in tokens.iter().enumerate() {
            decoding.take(*token, position, &mut NoPause);
            decoding.next(&mut NoPause);
            logits.extend_from_slice(&decoding.logits);
        }
        Ok(Arrays::from([("logits".to_owned(), Array::F32(logits))]))
    }
}
