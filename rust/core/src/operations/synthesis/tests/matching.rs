//! Matches: the set of the definition, whatever the number of patterns and the order of nodes.

use proptest::prelude::*;

use super::{any_forest, any_pattern, permuted};
use crate::operations::NoPause;
use crate::operations::instructions::InstructionSet;
use crate::operations::synthesis::forest::Forest;
use crate::operations::synthesis::matching::{Matcher, PairDigest};
use crate::operations::synthesis::patterns::{Demand, Patterns, pair, place_of};

fn matcher(demands: &[Vec<Demand>]) -> Matcher {
    let mut patterns = Patterns::new();
    demands.iter().for_each(|demands| patterns.push(demands).unwrap());
    Matcher::new(patterns)
}

fn pairs(matcher: &Matcher, forest: &Forest) -> Vec<u64> {
    let mut pairs = Vec::new();
    matcher.run(forest, &mut pairs, &mut NoPause);
    pairs
}

fn by_definition(matcher: &Matcher, forest: &Forest) -> Vec<u64> {
    let numbers = 0..forest.nodes.len() as u32;
    let all = numbers.flat_map(|node| (0..matcher.patterns.len() as u32).map(move |p| (node, p)));
    all.filter(|&(node, pattern)| matcher.patterns.matches_plainly(pattern, forest, node))
        .map(|(node, pattern)| pair(node, pattern))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn matches_are_those_of_the_definition_in_order(
        forest in any_forest(),
        demands in prop::collection::vec(any_pattern(3), 1..120),
    ) {
        let mut matcher = matcher(&demands);
        let expected = by_definition(&matcher, &forest);
        for set in InstructionSet::available() {
            matcher.look = set.look();
            prop_assert_eq!(&pairs(&matcher, &forest), &expected, "{:?}", set);
        }
        let mut plainly = Vec::new();
        matcher.run_plainly(&forest, |pair| plainly.push(pair));
        prop_assert_eq!(plainly, expected);
    }

    #[test]
    fn moving_nodes_moves_matches_with_them(
        (forest, order) in any_forest().prop_flat_map(|forest| {
            let numbers: Vec<u32> = (0..forest.nodes.len() as u32).collect();
            (Just(forest), Just(numbers).prop_shuffle())
        }),
        demands in prop::collection::vec(any_pattern(3), 1..60),
    ) {
        let matcher = matcher(&demands);
        let moved = permuted(&forest, &order);
        prop_assert_eq!(moved.check(), Ok(()));
        let mut expected: Vec<u64> = pairs(&matcher, &forest)
            .into_iter()
            .map(|found| pair(order[place_of(found) as usize], found as u32))
            .collect();
        expected.sort_unstable();
        prop_assert_eq!(pairs(&matcher, &moved), expected);
    }

    #[test]
    fn a_digest_sees_a_pair_altered_lost_doubled_or_moved(
        pairs in prop::collection::vec(any::<u64>(), 1..50),
        at in any::<prop::sample::Index>(),
        bit in 0u32..64,
    ) {
        let (at, digest) = (at.index(pairs.len()), PairDigest::of(&pairs, &mut NoPause));
        let mut altered = pairs.clone();
        altered[at] ^= 1 << bit;
        prop_assert_ne!(PairDigest::of(&altered, &mut NoPause), digest);
        altered = pairs.clone();
        altered.remove(at);
        prop_assert_ne!(PairDigest::of(&altered, &mut NoPause), digest);
        altered = pairs.clone();
        altered.insert(at, pairs[at]);
        prop_assert_ne!(PairDigest::of(&altered, &mut NoPause), digest);
        altered = pairs.clone();
        altered.rotate_left(1);
        prop_assert_eq!(PairDigest::of(&altered, &mut NoPause) == digest, altered == pairs);
    }
}

#[test]
fn patterns_that_are_no_tree_of_three_levels_are_refused() {
    use crate::operations::synthesis::patterns::LISTED;
    let list = |count| Demand { count, flags: LISTED, ..Demand::default() };
    let leaf = Demand::default();
    let mut patterns = Patterns::new();
    assert_eq!(patterns.push(&[list(1), list(1), leaf]), Ok(()));
    let deep = patterns.push(&[list(1), list(1), list(1), leaf]);
    assert_eq!(deep, Err("deeper than 3 levels".to_owned()));
    assert_eq!(patterns.push(&[list(2), leaf]), Err("fewer places than its counts say".to_owned()));
    assert_eq!(patterns.push(&[leaf, leaf]), Err("1 places too many".to_owned()));
    assert_eq!((patterns.len(), patterns.places.len()), (1, 3));
}
