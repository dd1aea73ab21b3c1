//! The index with thousands of patterns: tables of every combination of tokens, collisions of keys.

use super::{empty, hang};
use crate::operations::NoPause;
use crate::operations::synthesis::forest::{Forest, Node, below, mixed};
use crate::operations::synthesis::matching::Matcher;
use crate::operations::synthesis::patterns::{
    COUNT, Demand, LISTED, Patterns, TYPE, VALUE, pair, place_of,
};

/// Combinations of what a pattern may demand of a root's value and of two children's types and
/// values, a bit each; of every one so many patterns, and so many nodes that they may match.
const COMBINATIONS: u32 = 32;
const PATTERNS: u32 = 160;
const NODES: u32 = 60;
/// Few types and values, so that patterns match and their keys collide.
const TYPES: u32 = 2;
const VALUES: u32 = 5;
const CHILD_TYPE: u8 = 100;

/// A root and its two children, drawn by number.
fn drawn(number: u32, root_type: u8) -> [(u8, u32); 3] {
    let draw = |place: u32, bound: u32| below(mixed(mixed(number) ^ place), bound);
    let child = |place: u32| (CHILD_TYPE + draw(place, TYPES) as u8, draw(place + 1, VALUES));
    [(root_type, draw(0, VALUES)), child(1), child(3)]
}

fn pattern(combination: u32, number: u32, root_type: u8) -> [Demand; 3] {
    let [root, first, second] = drawn(number, root_type);
    let demand = |(kind, value): (u8, u32), type_bit: u32, value_bit: u32| Demand {
        kind,
        value,
        count: 0,
        flags: (u8::from(combination & type_bit != 0) * TYPE)
            | (u8::from(combination & value_bit != 0) * VALUE),
    };
    let own = demand(root, 0, 1);
    let root = Demand { count: 2, flags: own.flags | TYPE | LISTED, ..own };
    [root, demand(first, 2, 8), demand(second, 4, 16)]
}

/// All patterns, and a forest of as many kinds of roots; `type_of` gives a combination's root type.
fn many(type_of: fn(u32) -> u8) -> (Matcher, Forest) {
    let mut patterns = Patterns::new();
    let mut forest = empty((COMBINATIONS * NODES * 3) as usize);
    for combination in 0..COMBINATIONS {
        for number in 0..PATTERNS {
            let number = combination * PATTERNS + number;
            patterns.push(&pattern(combination, number, type_of(combination))).unwrap();
        }
        for number in combination * NODES..(combination + 1) * NODES {
            let root = 3 * number as usize;
            for (place, (kind, value)) in
                drawn(!number, type_of(combination)).into_iter().enumerate()
            {
                forest.nodes[root + place] = Node::new(kind, 0, value);
            }
            hang(&mut forest, root + 1, root);
            hang(&mut forest, root + 2, root);
            forest.roots.push(root as u32);
        }
    }
    forest.split();
    (Matcher::new(patterns), forest)
}

#[test]
fn thousands_of_patterns_are_found_by_every_combination_of_tokens() {
    // Once each combination in a cell of its own, once all in one cell.
    for type_of in [|combination| combination as u8, |_| 7] {
        let (matcher, forest) = many(type_of);
        assert!(matcher.patterns.len() > 4096);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        matcher.run(&forest, &mut found, &mut NoPause);
        matcher.run_plainly(&forest, |pair| expected.push(pair));
        assert_eq!(found, expected);
        for combination in 0..COMBINATIONS {
            let nodes = 3 * NODES * combination..3 * NODES * (combination + 1);
            let own = found.iter().filter(|&&pair| nodes.contains(&place_of(pair)));
            assert!(own.count() > 5, "combination {combination} is matched by something");
        }
    }
}

#[test]
fn patterns_that_differ_in_one_token_have_slots_of_their_own() {
    for place in 0..5 {
        let mut patterns = Patterns::new();
        for number in 0..200 {
            let mut demands = pattern(COMBINATIONS - 1, 0, 7);
            match place {
                0 => demands[0].value = number,
                1 => demands[1].kind = number as u8,
                2 => demands[2].kind = number as u8,
                3 => demands[1].value = number,
                _ => demands[2].value = number,
            }
            patterns.push(&demands).unwrap();
        }
        // 200 balls in 512 boxes: more than six in one happens once in 10^5 hashes.
        let crowd = Matcher::new(patterns).index.crowd_max();
        assert!((1..=6).contains(&crowd), "{crowd} in one slot by token {place}");
    }
}

#[test]
fn numbers_of_children_that_share_a_class_are_told_apart() {
    let counts = 5..12u8;
    let mut patterns = Patterns::new();
    for count in counts.clone() {
        let demand = Demand { count, flags: COUNT, ..Demand::default() };
        patterns.push(&[demand]).unwrap();
        patterns.push(&[Demand { kind: 3, flags: COUNT | TYPE, ..demand }]).unwrap();
        patterns.push(&[Demand { value: 9, flags: COUNT | VALUE, ..demand }]).unwrap();
    }
    let uncounted = [TYPE, VALUE, 0].map(|flags| Demand { kind: 3, value: 9, count: 0, flags });
    uncounted.iter().for_each(|&demand| patterns.push(&[demand]).unwrap());
    let nodes = counts.clone().map(|count| 1 + usize::from(count)).sum();
    let mut forest = empty(nodes);
    let mut root = 0;
    for count in counts {
        forest.nodes[root] = Node::new(3, 0, 9);
        forest.roots.push(root as u32);
        for child in root + 1..=root + usize::from(count) {
            forest.nodes[child] = Node::new(4, 0, 9);
            hang(&mut forest, child, root);
        }
        root += 1 + usize::from(count);
    }
    forest.split();
    let matcher = Matcher::new(patterns);
    let mut found = Vec::new();
    matcher.run(&forest, &mut found, &mut NoPause);
    found.retain(|&pair| forest.roots.contains(&place_of(pair)));
    let (own, first) = (forest.roots.iter().zip((0..).step_by(3)), 3 * 7);
    let expected: Vec<u64> = own
        .flat_map(|(&root, own)| {
            (own..own + 3).chain(first..first + 3).map(move |at| pair(root, at))
        })
        .collect();
    assert_eq!(found, expected);
}
