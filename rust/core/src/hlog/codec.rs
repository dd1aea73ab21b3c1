//! One histogram as text: HdrHistogram's V2 encoding, deflated by zlib, in base64.
//!
//! Source: HdrHistogram's `AbstractHistogram.encodeIntoByteBuffer` and `ZigZagEncoding`. A header
//! of 40 bytes, then for every bucket up to the last its count as a zigzag LEB128 integer of at
//! most 9 bytes, a negative one standing for a run of empty buckets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use crate::histogram::{HIGHEST_NS, Histogram, SIGNIFICANT_DIGITS};

const COOKIE: u32 = 0x1c84_9313;
const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
/// The fastest level: counts are already packed, so higher ones gain a few percent.
const DEFLATE_LEVEL: u8 = 1;
const HEADER_BYTES: usize = 40;
/// HdrHistogram keeps at most so many significant digits.
const DIGITS_MAX: u32 = 5;
/// Longer than any payload of this layout, or of 4 digits over any range.
const PAYLOAD_BYTES_MAX: usize = 1 << 23;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("the histogram is not base64")]
    Base64,
    #[error("the histogram does not inflate")]
    Zlib,
    #[error("this is not a compressed HdrHistogram of version 2")]
    Cookie,
    #[error("the histogram ends too early or is longer than it says")]
    Length,
    #[error("the histogram is shifted or has no layout of 0 to 5 significant digits")]
    Layout,
    #[error("the histogram's counts overflow")]
    Overflow,
}

/// The histogram as text, without line ends. Which samples were saturated is not kept.
#[must_use]
pub fn encode(histogram: &Histogram) -> String {
    let payload = payload_of(histogram);
    let mut plain = Vec::with_capacity(HEADER_BYTES + payload.len());
    plain.extend(COOKIE.to_be_bytes());
    plain.extend((payload.len() as u32).to_be_bytes());
    plain.extend(0i32.to_be_bytes());
    plain.extend(SIGNIFICANT_DIGITS.to_be_bytes());
    plain.extend(1u64.to_be_bytes());
    plain.extend(HIGHEST_NS.to_be_bytes());
    plain.extend(1f64.to_be_bytes());
    plain.extend(payload);
    let deflated = compress_to_vec_zlib(&plain, DEFLATE_LEVEL);
    let mut whole = Vec::with_capacity(8 + deflated.len());
    whole.extend(COMPRESSED_COOKIE.to_be_bytes());
    whole.extend((deflated.len() as u32).to_be_bytes());
    whole.extend(deflated);
    STANDARD.encode(whole)
}

/// The histogram that `text` encodes; samples beyond [`HIGHEST_NS`] saturate and are counted.
///
/// A histogram of other digits or units keeps its counts: those of a wider bucket go to the bucket
/// of its middle, those of narrower ones are added up.
///
/// # Errors
/// The text is damaged. Any text is safe to pass: it may take some 8 MB to find that out.
pub fn decode(text: &str) -> Result<Histogram, CodecError> {
    let whole = STANDARD.decode(text).map_err(|_| CodecError::Base64)?;
    let mut outer = Reader { rest: &whole };
    if outer.u32()? != COMPRESSED_COOKIE {
        return Err(CodecError::Cookie);
    }
    let length = outer.u32()? as usize;
    let deflated = outer.rest.get(..length).ok_or(CodecError::Length)?;
    let limit = HEADER_BYTES + PAYLOAD_BYTES_MAX;
    let plain = decompress_to_vec_zlib_with_limit(deflated, limit).map_err(|_| CodecError::Zlib)?;
    let mut inner = Reader { rest: &plain };
    if inner.u32()? != COOKIE {
        return Err(CodecError::Cookie);
    }
    let length = inner.u32()? as usize;
    let (offset, digits, unit) = (inner.u32()?, inner.u32()?, inner.u64()?);
    if offset != 0 {
        return Err(CodecError::Layout);
    }
    let layout = Layout::new(digits, unit).ok_or(CodecError::Layout)?;
    inner.u64()?;
    inner.u64()?;
    let payload = inner.rest.get(..length).ok_or(CodecError::Length)?;
    counts_of(payload, layout)
}

/// Which values the buckets of an HdrHistogram hold.
#[derive(Clone, Copy)]
struct Layout {
    /// log2 of the buckets that one doubling is cut into.
    block_bits: u32,
    /// log2 of the width of the narrowest buckets.
    unit_bits: u32,
}

impl Layout {
    /// That of so many significant digits, the smallest value told from 0 being `unit`.
    fn new(digits: u32, unit: u64) -> Option<Self> {
        let told_apart = 2 * 10u32.pow((digits <= DIGITS_MAX).then_some(digits)?);
        Some(Self {
            block_bits: told_apart.next_power_of_two().trailing_zeros() - 1,
            unit_bits: unit.checked_ilog2()?,
        })
    }

    /// The middle of bucket `index`; the largest number where that is not one of 64 bits.
    fn middle(self, index: usize) -> u64 {
        let block = (index >> self.block_bits).saturating_sub(1);
        let place = (index - (block << self.block_bits)) as u64;
        let width_bits = block as u64 + u64::from(self.unit_bits);
        // `place` has one bit more than `block_bits`.
        if width_bits + u64::from(self.block_bits) >= 63 {
            return u64::MAX;
        }
        (place << width_bits) + ((1 << width_bits) >> 1)
    }
}

fn payload_of(histogram: &Histogram) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut next = 0;
    for (index, count) in histogram.buckets() {
        if index > next {
            push_integer(&mut payload, -((index - next) as i64));
        }
        push_integer(&mut payload, i64::try_from(count).unwrap_or(i64::MAX));
        next = index + 1;
    }
    payload
}

fn counts_of(payload: &[u8], layout: Layout) -> Result<Histogram, CodecError> {
    let mut reader = Reader { rest: payload };
    let (mut next, mut total) = (0usize, 0u64);
    let mut failure = None;
    let mut bucket = || {
        while !reader.rest.is_empty() {
            let integer = reader.integer()?;
            let length = if integer < 0 { integer.unsigned_abs() } else { 1 };
            let index = next;
            next = usize::try_from(length)
                .ok()
                .and_then(|length| next.checked_add(length))
                .ok_or(CodecError::Overflow)?;
            if integer > 0 {
                let count = integer.unsigned_abs();
                // What several buckets saturate into has to fit into one count of the encoding.
                total = total
                    .checked_add(count)
                    .filter(|total| *total <= i64::MAX as u64)
                    .ok_or(CodecError::Overflow)?;
                return Ok(Some((layout.middle(index), count)));
            }
        }
        Ok(None)
    };
    let buckets = std::iter::from_fn(|| bucket().map_err(|error| failure = Some(error)).ok()?);
    let histogram = Histogram::from_rising(buckets);
    failure.map_or(Ok(histogram), Err)
}

/// Zigzag, then 7 bits a byte, lowest first; a ninth byte carries 8.
fn push_integer(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    for _ in 0..8 {
        if rest < 0x80 {
            bytes.push(rest as u8);
            return;
        }
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// Takes big-endian and zigzag integers off the front of some bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], CodecError> {
        let (front, rest) = self.rest.split_first_chunk().ok_or(CodecError::Length)?;
        self.rest = rest;
        Ok(*front)
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    fn integer(&mut self) -> Result<i64, CodecError> {
        let mut zigzag = 0u64;
        for place in 0..9 {
            let [byte] = self.array()?;
            let bits = if place == 8 { byte } else { byte & 0x7f };
            zigzag |= u64::from(bits) << (7 * place);
            if byte & 0x80 == 0 || place == 8 {
                break;
            }
        }
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::histogram::{BUCKETS, Counts};

    /// What this package writes.
    const OWN: Layout = Layout { block_bits: 10, unit_bits: 0 };

    fn wrapped(plain: &[u8]) -> String {
        let deflated = compress_to_vec_zlib(plain, DEFLATE_LEVEL);
        let mut whole = COMPRESSED_COOKIE.to_be_bytes().to_vec();
        whole.extend((deflated.len() as u32).to_be_bytes());
        whole.extend(deflated);
        STANDARD.encode(whole)
    }

    proptest! {
        #[test]
        fn every_integer_is_read_as_it_was_written(value: i64) {
            let mut bytes = Vec::new();
            push_integer(&mut bytes, value);
            prop_assert!(bytes.len() <= 9);
            prop_assert_eq!(Reader { rest: &bytes }.integer(), Ok(value));
        }

        #[test]
        fn a_histogram_is_decoded_as_it_was_encoded(
            samples in prop::collection::vec((0..=HIGHEST_NS, 1..1u64 << 40), 0..200),
        ) {
            let counts = Counts::new();
            samples.iter().for_each(|(value_ns, count)| counts.record_n(*value_ns, *count));
            let histogram = counts.snapshot();
            prop_assert_eq!(decode(&encode(&histogram)), Ok(histogram));
        }

        #[test]
        fn the_middles_of_any_layout_rise(
            digits in 0..=5u32, unit in 1u64.., index in 0..1usize << 24,
        ) {
            let layout = Layout::new(digits, unit).expect("there is such a layout");
            let (low, high) = (layout.middle(index), layout.middle(index + 1));
            prop_assert!(low < high || low == u64::MAX && high == u64::MAX, "{} {}", low, high);
        }
    }

    #[test]
    fn a_payload_that_inflates_without_end_is_refused() {
        let plain = vec![0; HEADER_BYTES + PAYLOAD_BYTES_MAX + 1];
        assert_eq!(decode(&wrapped(&plain)), Err(CodecError::Zlib));
        assert_eq!(decode(&wrapped(&plain[1..])), Err(CodecError::Cookie));
    }

    #[test]
    fn counts_that_overflow_are_refused() {
        let mut payload = Vec::new();
        [i64::MAX, 1].into_iter().for_each(|count| push_integer(&mut payload, count));
        assert_eq!(counts_of(&payload, OWN), Err(CodecError::Overflow));
    }

    #[test]
    fn samples_of_a_wider_range_saturate() {
        let mut payload = Vec::new();
        push_integer(&mut payload, -(BUCKETS as i64) - 7);
        push_integer(&mut payload, 5);
        let histogram = counts_of(&payload, OWN).expect("a wider range is read");
        assert_eq!((histogram.count(), histogram.saturated()), (5, 5));
    }

    #[test]
    fn counts_of_another_precision_go_to_the_middle_of_their_bucket() {
        // Two digits in units of 1024: 256 buckets of 1024, then 128 of 2048, and so on.
        let layout = Layout::new(2, 1500).expect("there is such a layout");
        let middles = [0, 255, 256, 383, 384].map(|index| layout.middle(index));
        assert_eq!(middles, [512, 261_632, 263_168, 523_264, 526_336]);
        assert!(Layout::new(6, 1).is_none() && Layout::new(3, 0).is_none());
        assert_eq!(Layout::new(5, 1 << 40).map(|layout| layout.middle(usize::MAX)), Some(u64::MAX));
    }
}
