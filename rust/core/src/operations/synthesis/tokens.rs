//! Tokens below a root that patterns are told apart by, in combinations, and keys made of them.

use std::collections::HashMap;

use super::forest::Node;
use super::patterns::{Patterns, Place, TYPE, VALUE};

/// Tokens that a combination can hold, as bits.
const ROOT_VALUE: u8 = 1;
const FIRST_TYPE: u8 = 2;
const SECOND_TYPE: u8 = 4;
const FIRST_VALUE: u8 = 8;
const SECOND_VALUE: u8 = 16;
const FIRST: u8 = FIRST_TYPE | FIRST_VALUE;
const SECOND: u8 = SECOND_TYPE | SECOND_VALUE;
const ODD: [u64; 5] = [
    0x9E37_79B9_7F4A_7C15,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0xD6E8_FEB8_6659_FD93,
    0xA076_1D64_78BD_642F,
];

/// The first two places below the root.
fn children(places: &[Place]) -> [Option<&Place>; 2] {
    let mut below = places.iter().filter(|place| place.level == 1);
    [below.next(), below.next()]
}

/// The tokens that a pattern demands, of those that a combination can hold.
pub fn demanded(places: &[Place]) -> u8 {
    let of = |place: Option<&Place>, kind: u8, value: u8| {
        place.map_or(0, |place| {
            u8::from(place.flags & TYPE != 0) * kind + u8::from(place.flags & VALUE != 0) * value
        })
    };
    let [first, second] = children(places);
    of(Some(&places[0]), 0, ROOT_VALUE)
        | of(first, FIRST_TYPE, FIRST_VALUE)
        | of(second, SECOND_TYPE, SECOND_VALUE)
}

/// The combination that splits the patterns best: most different keys among those it covers.
pub fn best_fields(patterns: &Patterns, members: &[u32]) -> Option<u8> {
    let mut kinds: HashMap<u8, usize> = HashMap::new();
    for &number in members {
        *kinds.entry(demanded(patterns.of(number))).or_default() += 1;
    }
    let mut candidates: Vec<u8> = kinds.keys().copied().collect();
    let pairs: Vec<u8> =
        candidates.iter().flat_map(|a| candidates.iter().map(move |b| a & b)).collect();
    candidates.extend(pairs);
    candidates.sort_unstable();
    candidates.dedup();
    let worth = |fields: u8| {
        let keys = members
            .iter()
            .filter(|&&number| demanded(patterns.of(number)) & fields == fields)
            .map(|&number| key_of_pattern(patterns.of(number), fields));
        let mut keys: Vec<u64> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    };
    let best = candidates.into_iter().filter(|&fields| fields != 0);
    best.map(|fields| (worth(fields), fields)).max().map(|(_, fields)| fields)
}

pub fn key_of_pattern(places: &[Place], fields: u8) -> u64 {
    let [first, second] = children(places);
    let value = |place: Option<&Place>| place.map_or(0, |place| place.value);
    let kind = |place: Option<&Place>| place.map_or(0, |place| u32::from(place.kind()));
    key(fields, [places[0].value, kind(first), kind(second), value(first), value(second)])
}

#[inline(always)]
pub fn key_of_node(nodes: &[Node], number: u32, fields: u8) -> u64 {
    let node = &nodes[number as usize];
    let mut tokens = [node.value, 0, 0, 0, 0];
    // Children are asked about only in cells of roots that list theirs: these nodes have as many.
    if fields & (FIRST | SECOND) != 0 {
        let first = &nodes[node.first as usize];
        (tokens[1], tokens[3]) = (u32::from(first.kind()), first.value);
        if fields & SECOND != 0 {
            let second = &nodes[first.next as usize];
            (tokens[2], tokens[4]) = (u32::from(second.kind()), second.value);
        }
    }
    key(fields, tokens)
}

/// A hash of the tokens of a combination; its upper bits count.
#[inline(always)]
fn key(fields: u8, tokens: [u32; 5]) -> u64 {
    let mut sum = 0u64;
    for (place, (&token, odd)) in tokens.iter().zip(ODD).enumerate() {
        let mask = 0u32.wrapping_sub(u32::from(fields >> place & 1));
        sum = sum.wrapping_add(u64::from(token & mask).wrapping_mul(odd));
    }
    (sum ^ sum >> 32).wrapping_mul(ODD[0])
}
