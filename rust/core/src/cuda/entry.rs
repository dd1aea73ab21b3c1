//! An operation with known inputs and a known answer, to be asked of a device again and again.
//!
//! What an operation asks of the device is noted while its host code runs once; that answer is
//! checked in full by whoever noted it. `Entry::learn` asks the same twice more, over memory filled
//! with zeros and over memory filled with ones. Bytes that come out alike are the answer, bytes
//! that keep what they were filled with are not written, and where there are others the operation
//! is not one that can be asked again.

use super::host_memory::{HostSpan, digest};
use super::{DriverError, Program, Stream};

/// What memory is filled with before the device writes an answer to it.
const UNWRITTEN: u8 = 0xA5;

/// Why an operation cannot be asked again without its host code.
#[derive(Debug, thiserror::Error)]
pub enum LearningError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("its answer does not come to the host")]
    NoAnswer,
    #[error("its answer is not the same each time")]
    Varying,
    #[error("asked again it answers something else")]
    Different,
}

/// What an operation was asked, and where the device may write.
pub struct Noted {
    /// What the host wrote for the device to read, before the first command.
    pub inputs: Vec<(HostSpan, Vec<u8>)>,
    pub run: Program,
    /// What is asked once the answer is there, to check it: not a part of the operation's time.
    pub check: Program,
    /// Pinned memory that the commands may write, with what was there after the host code had run.
    pub written: Vec<(HostSpan, Vec<u8>)>,
    /// Work that the operation does, in its unit.
    pub units: u64,
}

/// An operation that can be asked again.
pub struct Entry {
    inputs: Vec<(HostSpan, Vec<u8>)>,
    pub run: Program,
    pub check: Program,
    pub units: u64,
    answer: Vec<HostSpan>,
    expected: u64,
}

impl Entry {
    /// Asks it twice and learns the answer.
    ///
    /// # Errors
    /// The driver refuses, or it cannot be asked again.
    pub fn learn(noted: Noted, stream: &Stream) -> Result<Self, LearningError> {
        let Noted { inputs, run, check, written, units } = noted;
        let mut entry = Self { inputs, run, check, units, answer: Vec::new(), expected: 0 };
        let spans: Vec<HostSpan> = written.iter().map(|(span, _)| *span).collect();
        let low = entry.asked(stream, &spans, 0x00)?;
        let high = entry.asked(stream, &spans, 0xFF)?;
        for ((span, seen), (low, high)) in written.iter().zip(low.iter().zip(&high)) {
            let found = alike(low, high).ok_or(LearningError::Varying)?;
            for (first, bytes) in found {
                let place = first..first + bytes;
                if low[place.clone()] != seen[place] {
                    return Err(LearningError::Different);
                }
                let part = span.part(first, bytes);
                if !entry.inputs.iter().any(|(input, _)| input.contains(&part)) {
                    entry.answer.push(part);
                }
            }
        }
        if entry.answer.is_empty() {
            return Err(LearningError::NoAnswer);
        }
        entry.expected = digest(&entry.answer);
        Ok(entry)
    }

    /// Bytes of the answer that come to the host.
    #[must_use]
    pub fn answer_bytes(&self) -> usize {
        self.answer.iter().map(HostSpan::len).sum()
    }

    /// Where the answer comes to.
    #[must_use]
    pub fn answer(&self) -> &[HostSpan] {
        &self.answer
    }

    /// Puts the inputs in place; where `is_checked`, what an answer of before left is overwritten.
    pub fn ready(&self, is_checked: bool) {
        if is_checked {
            self.answer.iter().for_each(|span| span.fill(UNWRITTEN));
        }
        for (span, content) in &self.inputs {
            span.write(content);
        }
    }

    /// Whether the answer is there, in every bit; `run` and `check` have ended.
    #[must_use]
    pub fn is_right(&self) -> bool {
        digest(&self.answer) == self.expected
    }

    /// What is in `spans` after they were filled with `byte` and everything was asked.
    fn asked(
        &self,
        stream: &Stream,
        spans: &[HostSpan],
        byte: u8,
    ) -> Result<Vec<Vec<u8>>, DriverError> {
        spans.iter().for_each(|span| span.fill(byte));
        for (span, content) in &self.inputs {
            span.write(content);
        }
        self.run.enqueue(stream)?;
        self.check.enqueue(stream)?;
        stream.synchronize()?;
        Ok(spans.iter().map(HostSpan::read).collect())
    }
}

/// Where bytes are alike in both, as (first, length); none where a byte is neither that nor what
/// the memory was filled with, zeros in `low` and ones in `high`.
fn alike(low: &[u8], high: &[u8]) -> Option<Vec<(usize, usize)>> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (place, (&left, &right)) in low.iter().zip(high).enumerate() {
        if left != right {
            if (left, right) != (0x00, 0xFF) {
                return None;
            }
            continue;
        }
        match found.last_mut() {
            Some((first, bytes)) if *first + *bytes == place => *bytes += 1,
            _ => found.push((place, 1)),
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_come_out_alike_are_the_answer() {
        assert_eq!(alike(&[7, 7, 0, 0, 9], &[7, 7, 255, 255, 9]), Some(vec![(0, 2), (4, 1)]));
        assert_eq!(alike(&[0, 0], &[255, 255]), Some(vec![]));
    }

    #[test]
    fn a_byte_that_is_neither_written_nor_left_has_no_answer() {
        assert_eq!(alike(&[7, 3], &[7, 4]), None);
        assert_eq!(alike(&[0], &[1]), None);
        assert_eq!(alike(&[1], &[255]), None);
    }
}
