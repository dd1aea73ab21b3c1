//! Templates of literals and variables, expanded to bytes in two passes: sizes, then bytes.
//!
//! Copies are made 32 bytes at a time whatever a piece's length is, into a buffer with as much room
//! to spare; what is copied too far is overwritten by the next piece.

use crate::operations::{Array, Arrays, Pause};
use crate::random::{philox, stream_key};

use super::forest::below;

/// Variables that an instance binds.
pub const VARIABLES: usize = 4;
/// A binding that binds nothing.
pub const UNBOUND: u32 = u32::MAX;
/// The variable of a part that ends with its literal.
pub const NO_VARIABLE: u8 = u8::MAX;
/// Bytes copied at a time, and room kept behind everything that is read or written so.
pub const STRIDE: usize = 32;
/// Instances between two pauses: about 50 µs.
const PAUSE_INSTANCES: usize = 2048;
const PARTS_MAX: u32 = 6;
const LITERAL_MAX: u32 = 31;
const LONG_TEXT_MAX: u32 = 256;
const TEXT_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz_0123.";
const LITERAL_ALPHABET: &[u8; 32] = b"(){}[]<>=+-*/,;:.&|! \n\treturnifx";

pub const DOMAIN_TEXTS: u64 = 0x7379_0003;
pub const DOMAIN_TEMPLATES: u64 = 0x7379_0004;
pub const DOMAIN_INSTANCES: u64 = 0x7379_0005;

/// A literal and the variable after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub start: u32,
    pub length: u16,
    pub variable: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    first: u32,
    end: u32,
    literal_bytes: u32,
    uses: [u8; VARIABLES],
}

/// Texts by number.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// Where each starts and how long it is.
    spans: Vec<(u32, u32)>,
    bytes: Vec<u8>,
}

impl Texts {
    /// Texts one after the other in `bytes`, each from its entry of `first` to the next one.
    ///
    /// # Errors
    /// Entries that fall or lie outside.
    pub fn new(first: &[u32], bytes: &[u8]) -> Result<Self, String> {
        let ends = first.windows(2);
        if first.is_empty() || ends.clone().any(|ends| ends[0] > ends[1]) {
            return Err("must not be empty nor fall".to_owned());
        }
        if first.last().is_some_and(|&end| end as usize > bytes.len()) {
            return Err(format!("lies beyond {} bytes", bytes.len()));
        }
        let spans = ends.map(|ends| (ends[0], ends[1] - ends[0])).collect();
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len() + STRIDE, 0);
        Ok(Self { spans, bytes })
    }

    /// `count` names of 4 to 23 letters; one in 64 has 32 to 256.
    pub fn generate(seed: u64, count: u32) -> Self {
        let key = stream_key(seed, DOMAIN_TEXTS);
        let (mut first, mut bytes) = (vec![0], Vec::new());
        for number in 0..count {
            let words = philox([number, 0, 0, 0], key);
            let length = if words[0] & 63 == 0 {
                32 + below(words[1], LONG_TEXT_MAX - 31)
            } else {
                4 + below(words[1], 20)
            };
            letters(key, number, length, TEXT_ALPHABET, &mut bytes);
            first.push(bytes.len() as u32);
        }
        bytes.resize(bytes.len() + STRIDE, 0);
        let spans = first.windows(2).map(|ends| (ends[0], ends[1] - ends[0])).collect();
        Self { spans, bytes }
    }

    fn text(&self, number: u32) -> &[u8] {
        let (start, length) = self.spans[number as usize];
        &self.bytes[start as usize..][..length as usize]
    }

    pub fn held_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(self.spans.as_slice())
    }
}

/// Appends letters of an alphabet, five bits of the stream each.
fn letters(key: [u32; 2], number: u32, length: u32, alphabet: &[u8; 32], bytes: &mut Vec<u8>) {
    for block in 0..length.div_ceil(16) {
        let words = philox([number, 1 + block, 0, 0], key);
        let drawn = words.into_iter().flat_map(u32::to_le_bytes);
        let left = (length - 16 * block).min(16) as usize;
        bytes.extend(drawn.take(left).map(|byte| alphabet[usize::from(byte & 31)]));
    }
}

/// Templates, ready to be expanded.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    shapes: Vec<Shape>,
    parts: Vec<Part>,
    literals: Vec<u8>,
}

impl Templates {
    /// Templates whose parts lie one after the other.
    ///
    /// # Errors
    /// A part outside its literals, of a variable that there is not, or too long.
    pub fn new(first: &[u32], parts: &[Part], literals: &[u8]) -> Result<Self, String> {
        let mut templates = Self { literals: literals.to_vec(), ..Self::default() };
        templates.literals.resize(literals.len() + STRIDE, 0);
        for (number, ends) in first.windows(2).enumerate() {
            let own = parts
                .get(ends[0] as usize..ends[1] as usize)
                .ok_or_else(|| format!("template {number} lies outside the parts"))?;
            templates
                .push(own, literals.len())
                .map_err(|problem| format!("template {number}: {problem}"))?;
        }
        Ok(templates)
    }

    fn push(&mut self, parts: &[Part], literals: usize) -> Result<(), String> {
        let first = self.parts.len() as u32;
        let mut shape = Shape { first, ..Shape::default() };
        for part in parts {
            if part.start as usize + usize::from(part.length) > literals {
                return Err(format!("a literal lies beyond {literals} bytes"));
            }
            shape.literal_bytes += u32::from(part.length);
            if part.variable != NO_VARIABLE {
                let uses = shape.uses.get_mut(usize::from(part.variable));
                let uses = uses.ok_or_else(|| format!("there is no variable {}", part.variable))?;
                *uses = uses.checked_add(1).ok_or("uses a variable more than 255 times")?;
            }
        }
        self.parts.extend_from_slice(parts);
        shape.end = self.parts.len() as u32;
        self.shapes.push(shape);
        Ok(())
    }

    /// `count` templates of 1 to 6 parts with literals of 1 to 31 bytes.
    pub fn generate(seed: u64, count: u32) -> Self {
        let key = stream_key(seed, DOMAIN_TEMPLATES);
        let (mut templates, mut literals) = (Self::default(), Vec::new());
        let mut parts = Vec::new();
        for number in 0..count {
            parts.clear();
            let length = 1 + below(philox([number, 0, 0, 0], key)[0], PARTS_MAX);
            for part in 0..length {
                let words = philox([number, 0, 1 + part, 0], key);
                let start = literals.len() as u32;
                let bytes = 1 + below(words[0], LITERAL_MAX);
                let own = number * PARTS_MAX + part;
                letters(key, own, bytes, LITERAL_ALPHABET, &mut literals);
                let ends = part + 1 == length && words[1] & 3 == 0;
                let variable = if ends { NO_VARIABLE } else { (words[1] >> 2) as u8 & 3 };
                parts.push(Part { start, length: bytes as u16, variable });
            }
            let pushed = templates.push(&parts, literals.len());
            assert!(pushed.is_ok(), "generated parts lie in their literals");
        }
        templates.literals = literals;
        templates.literals.resize(templates.literals.len() + STRIDE, 0);
        templates
    }

    pub fn held_bytes(&self) -> usize {
        self.literals.len()
            + size_of_val(self.shapes.as_slice())
            + size_of_val(self.parts.as_slice())
    }
}

/// What is to be expanded: a template and what its variables are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    pub template: u32,
    /// Numbers of texts, or `UNBOUND`.
    pub bindings: [u32; VARIABLES],
}

/// The instances of the request number `index`.
pub fn instances(seed: u64, index: u32, count: u32, templates: u32, texts: u32) -> Vec<Instance> {
    let key = stream_key(seed, DOMAIN_INSTANCES);
    let instance = |number| Instance {
        template: below(philox([number, index, 0, 0], key)[0], templates),
        bindings: philox([number, index, 1, 0], key).map(|word| below(word, texts)),
    };
    (0..count).map(instance).collect()
}

/// Why nothing was expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpansionError {
    #[error("instance {instance}: there is no template {template}")]
    NoTemplate { instance: usize, template: u32 },
    #[error("instance {instance}: template {template} uses variable {variable}, which is unbound")]
    Unbound { instance: usize, template: u32, variable: usize },
    #[error("instance {instance}: variable {variable} is bound to text {text}, which there is not")]
    NoText { instance: usize, variable: usize, text: u32 },
    #[error("the expansion has {bytes} bytes, above {most}")]
    TooLong { bytes: u64, most: u64 },
}

/// Templates with the texts that their variables may be bound to.
#[derive(Clone, Debug, Default)]
pub struct Expander {
    pub templates: Templates,
    pub texts: Texts,
}

impl Expander {
    /// First pass: where each instance's bytes start, and where the last one's end, in `offsets`
    /// (one longer than `instances`). `most` is the room that there is.
    ///
    /// # Errors
    /// See `ExpansionError`; nothing may be written then.
    pub fn measure(
        &self,
        instances: &[Instance],
        offsets: &mut [u32],
        most: usize,
        pause: &mut dyn Pause,
    ) -> Result<usize, ExpansionError> {
        assert!(offsets.len() == instances.len() + 1, "an offset for every end");
        let most = (most as u64).min(u64::from(u32::MAX));
        let mut total = 0u64;
        for (turn, group) in instances.chunks(PAUSE_INSTANCES).enumerate() {
            for (place, instance) in group.iter().enumerate() {
                let number = turn * PAUSE_INSTANCES + place;
                offsets[number] = total as u32;
                total += self.size(number, instance)?;
                if total > most {
                    return Err(ExpansionError::TooLong { bytes: total, most });
                }
            }
            pause.point();
        }
        offsets[instances.len()] = total as u32;
        Ok(total as usize)
    }

    #[inline(always)]
    fn size(&self, number: usize, instance: &Instance) -> Result<u64, ExpansionError> {
        let template = instance.template;
        let shape = self
            .templates
            .shapes
            .get(template as usize)
            .ok_or(ExpansionError::NoTemplate { instance: number, template })?;
        let mut size = u64::from(shape.literal_bytes);
        let mut is_bound = true;
        // Which variables a template uses cannot be foretold: no branch depends on it.
        for (&uses, &text) in shape.uses.iter().zip(&instance.bindings) {
            let length = self.texts.spans.get(text as usize).map(|span| span.1);
            is_bound &= uses == 0 || length.is_some();
            size += u64::from(uses) * u64::from(length.unwrap_or(0));
        }
        if is_bound { Ok(size) } else { Err(self.unbound(number, instance)) }
    }

    /// What is wrong with an instance that binds a variable of its template to no text.
    #[cold]
    fn unbound(&self, instance: usize, given: &Instance) -> ExpansionError {
        let template = given.template;
        let uses = self.templates.shapes[template as usize].uses;
        let wrong = |&(variable, &text): &(usize, &u32)| {
            uses[variable] > 0 && text as usize >= self.texts.spans.len()
        };
        match given.bindings.iter().enumerate().find(wrong) {
            Some((variable, &text)) if text != UNBOUND => {
                ExpansionError::NoText { instance, variable, text }
            }
            found => {
                let variable = found.map_or(0, |(variable, _)| variable);
                ExpansionError::Unbound { instance, template, variable }
            }
        }
    }

    /// Second pass: writes the bytes of measured instances; `bytes` has `STRIDE` more than needed.
    pub fn write(
        &self,
        instances: &[Instance],
        offsets: &[u32],
        bytes: &mut [u8],
        pause: &mut dyn Pause,
    ) {
        let Templates { shapes, parts, literals } = &self.templates;
        for (turn, group) in instances.chunks(PAUSE_INSTANCES).enumerate() {
            for (place, instance) in group.iter().enumerate() {
                let number = turn * PAUSE_INSTANCES + place;
                let mut at = offsets[number] as usize;
                let shape = &shapes[instance.template as usize];
                for part in &parts[shape.first as usize..shape.end as usize] {
                    let length = usize::from(part.length);
                    copy(bytes, at, literals, part.start as usize, length);
                    at += length;
                    if let Some(&text) = instance.bindings.get(usize::from(part.variable)) {
                        let (start, length) = self.texts.spans[text as usize];
                        copy(bytes, at, &self.texts.bytes, start as usize, length as usize);
                        at += length as usize;
                    }
                }
                assert!(at == offsets[number + 1] as usize, "an instance has its measured size");
            }
            pause.point();
        }
    }

    /// The bytes of one instance by the definition, appended; for checks.
    pub fn expand_plainly(&self, instance: &Instance, bytes: &mut Vec<u8>) {
        let shape = &self.templates.shapes[instance.template as usize];
        for part in &self.templates.parts[shape.first as usize..shape.end as usize] {
            let literal = &self.templates.literals[part.start as usize..];
            bytes.extend_from_slice(&literal[..usize::from(part.length)]);
            if part.variable != NO_VARIABLE {
                let text = instance.bindings[usize::from(part.variable)];
                bytes.extend_from_slice(self.texts.text(text));
            }
        }
    }
}

/// Copies `length` bytes, and up to the next stride beyond them.
#[inline(always)]
fn copy(target: &mut [u8], at: usize, source: &[u8], from: usize, length: usize) {
    let mut done = 0;
    loop {
        let (to, of) = (at + done, from + done);
        target[to..to + STRIDE].copy_from_slice(&source[of..of + STRIDE]);
        done += STRIDE;
        if done >= length {
            return;
        }
    }
}

impl Templates {
    /// As named arrays: starts of templates, parts and literals.
    pub fn arrays(&self) -> Arrays {
        let parts = &self.parts;
        let mut first = vec![0];
        first.extend(self.shapes.iter().map(|shape| shape.end));
        let literals = self.literals[..self.literals.len() - STRIDE].to_vec();
        Arrays::from([
            ("template_first".to_owned(), Array::U32(first)),
            ("part_start".to_owned(), Array::U32(parts.iter().map(|part| part.start).collect())),
            ("part_length".to_owned(), Array::U16(parts.iter().map(|part| part.length).collect())),
            (
                "part_variable".to_owned(),
                Array::U8(parts.iter().map(|part| part.variable).collect()),
            ),
            ("literal".to_owned(), Array::U8(literals)),
        ])
    }
}

impl Texts {
    /// As named arrays: starts, and the bytes.
    pub fn arrays(&self) -> Arrays {
        let mut first = vec![0];
        first.extend(self.spans.iter().map(|(start, length)| start + length));
        let bytes = self.bytes[..self.bytes.len() - STRIDE].to_vec();
        Arrays::from([
            ("text_first".to_owned(), Array::U32(first)),
            ("text".to_owned(), Array::U8(bytes)),
        ])
    }
}
