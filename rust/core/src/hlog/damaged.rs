//! Logs and histograms damaged in depth: nothing makes the reader panic, and what it takes for a
//! histogram is one.
//!
//! Damage is done behind each layer by itself (text, base64, zlib, header, counts), so that most
//! inputs get past the layers before it.

use std::cell::Cell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use super::*;

/// So many times the cases of other properties: 12 800, and 10^6 of each where `make soak` asks for
/// 20 000.
const CASES_FACTOR: u32 = 50;
const HEADER_BYTES: usize = 40;

/// Holds `property` for many inputs. `proptest!` would let the environment replace the count that
/// is asked for here.
fn for_many<S: Strategy>(inputs: S, property: impl Fn(S::Value) -> TestCaseResult) {
    let usual = Config::default();
    let cases = usual.cases * CASES_FACTOR;
    let config = Config { cases, source_file: Some(file!()), max_shrink_iters: 10_000, ..usual };
    let counted = Cell::new(0);
    let held = TestRunner::new(config).run(&inputs, |input| {
        counted.set(counted.get() + 1);
        property(input)
    });
    assert!(held.is_ok(), "{held:?}");
    println!("{} inputs", counted.get());
    assert!(counted.get() >= cases);
}

/// A change to some bytes; places count modulo their number.
#[derive(Clone, Debug)]
enum Damage {
    Replace(usize, u8),
    Insert(usize, u8),
    Remove(usize, usize),
    /// So many bytes from here are repeated there.
    Copy(usize, usize, usize),
    Truncate(usize),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let place = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    // Bytes at the ends of varints, of signs and of base64's alphabet come often.
    let byte =
        || prop_oneof![any::<u8>(), prop::sample::select(&b"\0\x01\x7f\x80\xff,=\n#\"Az0."[..])];
    let damage = prop_oneof![
        4 => (place(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        2 => (place(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        2 => (place(), 1..12usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (place(), 1..12usize, place())
            .prop_map(|(from, length, to)| Damage::Copy(from, length, to)),
        1 => place().prop_map(Damage::Truncate),
    ];
    prop::collection::vec(damage, 0..4)
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let length = bytes.len();
        if length == 0 {
            break;
        }
        match *damage {
            Damage::Replace(at, byte) => bytes[at % length] = byte,
            Damage::Insert(at, byte) => bytes.insert(at % length, byte),
            Damage::Remove(at, count) => {
                let at = at % length;
                bytes.drain(at..(at + count).min(length));
            }
            Damage::Copy(from, count, to) => {
                let from = from % length;
                let copied = bytes[from..(from + count).min(length)].to_vec();
                let to = to % length;
                bytes.splice(to..to, copied);
            }
            Damage::Truncate(at) => bytes.truncate(at % length),
        }
    }
    bytes
}

/// Latencies near each other and far apart.
fn samples() -> impl Strategy<Value = Vec<u64>> {
    let latency = (0..44u32, any::<u64>()).prop_map(|(bits, value)| value >> (63 - bits));
    prop::collection::vec(latency, 0..20)
}

/// The parts of an encoded histogram: the bytes before zlib's, and what they inflate to.
fn parts(values: &[u64]) -> (Vec<u8>, Vec<u8>) {
    let whole = STANDARD.decode(encode(&Histogram::from_values(values.iter().copied())));
    let whole = whole.expect("an encoding is base64");
    let plain = decompress_to_vec_zlib(&whole[8..]).expect("an encoding inflates");
    (whole, plain)
}

/// `plain` deflated, with a header that fits.
fn wrapped(plain: &[u8]) -> String {
    let deflated = compress_to_vec_zlib(plain, 1);
    let mut whole = 0x1c84_9314u32.to_be_bytes().to_vec();
    whole.extend((deflated.len() as u32).to_be_bytes());
    whole.extend(deflated);
    STANDARD.encode(whole)
}

/// What is read is a histogram as any other: its figures hold together and it survives a log.
fn holds_together(read: Result<Histogram, CodecError>) -> Result<bool, TestCaseError> {
    let Ok(histogram) = read else { return Ok(false) };
    let total: u64 = histogram.buckets().map(|(_, count)| count).sum();
    prop_assert_eq!(total, histogram.count());
    prop_assert!(histogram.saturated() <= total);
    prop_assert!(histogram.min() <= histogram.percentile(50.0));
    prop_assert!(histogram.percentile(50.0) <= histogram.max());
    let again = decode(&encode(&histogram)).map(|again| again.buckets().collect::<Vec<_>>());
    prop_assert_eq!(again, Ok(histogram.buckets().collect()));
    Ok(true)
}

#[test]
fn a_damaged_header_or_payload_is_refused_or_read() {
    for_many((samples(), damages(), any::<bool>()), |(values, damages, fitting)| {
        let (_, plain) = parts(&values);
        let mut plain = damaged(plain, &damages);
        if fitting && plain.len() >= HEADER_BYTES {
            let length = (plain.len() - HEADER_BYTES) as u32;
            plain[4..8].copy_from_slice(&length.to_be_bytes());
        }
        holds_together(decode(&wrapped(&plain)))?;
        Ok(())
    });
}

#[test]
fn a_payload_of_any_bytes_is_refused_or_read() {
    let payloads = prop::collection::vec(any::<u8>(), 0..60);
    for_many((payloads, 0..7u32, 0..64u32), |(payload, digits, unit_bits)| {
        let (_, mut plain) = parts(&[]);
        plain.truncate(HEADER_BYTES);
        plain[4..8].copy_from_slice(&(payload.len() as u32).to_be_bytes());
        plain[12..16].copy_from_slice(&digits.to_be_bytes());
        plain[16..24].copy_from_slice(&(1u64 << unit_bits).to_be_bytes());
        plain.extend(payload);
        let read = holds_together(decode(&wrapped(&plain)))?;
        prop_assert!(digits <= 5 || !read);
        Ok(())
    });
}

#[test]
fn damaged_bytes_and_text_are_refused_or_read() {
    for_many((samples(), damages(), damages()), |(values, outer, text)| {
        let (whole, _) = parts(&values);
        let text = damaged(STANDARD.encode(damaged(whole, &outer)).into_bytes(), &text);
        holds_together(decode(&String::from_utf8_lossy(&text)))?;
        Ok(())
    });
}

#[test]
fn a_damaged_log_is_refused_by_its_line_or_read() {
    let tags = prop::collection::vec("[a-z.]{0,6}", 0..4);
    let starts_s = prop_oneof![0.0..1e5, 1.4e9..1.5e9f64];
    for_many((tags, samples(), starts_s, damages()), |(tags, values, start_s, damages)| {
        let histogram = Histogram::from_values(values);
        let mut text = header(start_s);
        for tag in tags {
            let histogram = histogram.clone();
            text += &line(&Entry { tag, start_s, duration_s: 1.5, histogram })?;
        }
        let text = damaged(text.into_bytes(), &damages);
        let text = String::from_utf8_lossy(&text);
        let lines = text.split('\n').count();
        match read(&text) {
            Ok(log) => {
                prop_assert!(log.entries.len() < lines);
                prop_assert_eq!(log.torn, !text.is_empty() && !text.ends_with('\n'));
                for entry in log.entries {
                    prop_assert!(entry.start_s.is_finite() && entry.duration_s.is_finite());
                    holds_together(Ok(entry.histogram))?;
                }
            }
            Err(LogError::Line { line } | LogError::Histogram { line, .. }) => {
                prop_assert!((1..=lines).contains(&line));
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        Ok(())
    });
}

#[test]
fn any_text_is_read_or_refused() {
    for_many("\\PC*(\n\\PC*){0,4}", |text| {
        if let Ok(log) = read(&text) {
            prop_assert!(log.entries.len() <= text.lines().count());
        }
        Ok(())
    });
}

#[test]
fn damage_lets_enough_through_to_reach_the_counts() {
    let (_, mut plain) = parts(&[7, 9, 70_000]);
    plain[HEADER_BYTES + 1] ^= 2;
    assert_eq!(holds_together(decode(&wrapped(&plain))).ok(), Some(true));
}
