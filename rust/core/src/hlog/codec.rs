//! One histogram as text: HdrHistogram's V2 encoding, deflated by zlib, in base64.
//!
//! Source: HdrHistogram's `AbstractHistogram.encodeIntoByteBuffer` and `ZigZagEncoding`. A header
//! of 40 bytes, then for every bucket up to the last its count as a zigzag LEB128 integer of at
//! most 9 bytes, a negative one standing for a run of empty buckets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use crate::histogram::{BUCKETS, HIGHEST_NS, Histogram, SIGNIFICANT_DIGITS};

const COOKIE: u32 = 0x1c84_9313;
const COMPRESSED_COOKIE: u32 = 0x1c84_9314;
/// The fastest level: counts are already packed, so higher ones gain a few percent.
const DEFLATE_LEVEL: u8 = 1;
const HEADER_BYTES: usize = 40;
/// The longest payload of this layout; what inflates beyond it is no such histogram.
const PAYLOAD_BYTES_MAX: usize = BUCKETS * 9;

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
    #[error("only histograms of 3 significant digits in units of 1 are read")]
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

/// The histogram that `text` encodes; buckets beyond [`HIGHEST_NS`] saturate and are counted.
///
/// # Errors
/// The text is damaged, or its histogram has another precision. Any text is safe to pass: memory
/// is bounded by the largest payload of this layout.
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
    if offset != 0 || digits != SIGNIFICANT_DIGITS.unsigned_abs() || unit != 1 {
        return Err(CodecError::Layout);
    }
    inner.u64()?;
    inner.u64()?;
    let payload = inner.rest.get(..length).ok_or(CodecError::Length)?;
    counts_of(payload)
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

fn counts_of(payload: &[u8]) -> Result<Histogram, CodecError> {
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
                total = total.checked_add(count).ok_or(CodecError::Overflow)?;
                return Ok(Some((index, count)));
            }
        }
        Ok(None)
    };
    let buckets = std::iter::from_fn(|| bucket().map_err(|error| failure = Some(error)).ok()?);
    let histogram = Histogram::from_buckets(buckets);
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
    use crate::histogram::Counts;

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
        fn arbitrary_bytes_are_refused_or_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(decode(&STANDARD.encode(&bytes)).is_err());
            if let Ok(histogram) = counts_of(&bytes) {
                let total: u64 = histogram.buckets().map(|(_, count)| count).sum();
                prop_assert_eq!(total, histogram.count());
            }
            let mut plain = COOKIE.to_be_bytes().to_vec();
            plain.extend(&bytes);
            prop_assert!(decode(&wrapped(&plain)).is_err());
        }

        #[test]
        fn a_damaged_text_never_panics(place in 0usize..400, byte: u8) {
            let mut text = encode(&Histogram::from_values((0..5000).map(|value| value * value)))
                .into_bytes();
            let place = place % text.len();
            text[place] = byte & 0x7f;
            if let Ok(text) = String::from_utf8(text) {
                prop_assert!(decode(&text).map_or(true, |read| read.count() < 1 << 62));
            }
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
        (0..3).for_each(|_| push_integer(&mut payload, i64::MAX));
        assert_eq!(counts_of(&payload), Err(CodecError::Overflow));
    }

    #[test]
    fn samples_of_a_wider_range_saturate() {
        let mut payload = Vec::new();
        push_integer(&mut payload, -(BUCKETS as i64) - 7);
        push_integer(&mut payload, 5);
        let histogram = counts_of(&payload).expect("a wider range is read");
        assert_eq!((histogram.count(), histogram.saturated()), (5, 5));
    }
}
