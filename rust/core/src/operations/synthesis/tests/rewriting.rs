//! Rewriting: the forest of the definition, a valid one, and nothing more to do where rules say so.

use proptest::prelude::*;

use super::{any_forest, any_pattern, cut};
use crate::operations::NoPause;
use crate::operations::synthesis::forest::{Forest, Node, Recipe};
use crate::operations::synthesis::matching::Matcher;
use crate::operations::synthesis::parameters::Parameters;
use crate::operations::synthesis::patterns::{Demand, LISTED, TYPE};
use crate::operations::synthesis::rewriting::{Rewriter, Rewritten, flattened, rewrite_plainly};
use crate::operations::synthesis::rules::{CAPTURES_MAX, ITEMS_MAX, Item, Kind, Rules};

fn item(kind: Kind, node_type: u8, count: u8) -> Item {
    Item { kind, node_type, count, keeps_value: count % 2 == 1, value: 9, span: 0 }
}

/// A rule from a pattern and what is to become of its captures: dropped, kept, wrapped.
fn rule(demands: &[Demand], node_type: u8, fates: &[u8]) -> Vec<Item> {
    let captures = demands.iter().filter(|demand| demand.flags & LISTED == 0).count();
    if demands[0].flags & LISTED == 0 {
        return vec![item(Kind::Adopt, node_type, 0)];
    }
    let kept: Vec<(u8, u8)> = (0..captures as u8)
        .rev()
        .zip(fates.iter().copied().cycle())
        .filter(|&(_, fate)| fate > 0)
        .collect();
    // One capture may stand for the whole replacement.
    if node_type == 200 && kept.len() == 1 {
        return vec![item(Kind::Capture, 0, kept[0].0)];
    }
    let mut items = vec![item(Kind::New, node_type, kept.len() as u8)];
    for (capture, fate) in kept {
        if fate > 1 {
            items.push(item(Kind::New, node_type ^ 1, 1));
        }
        items.push(item(Kind::Capture, 0, capture));
    }
    items
}

fn rules(drawn: &[(Vec<Demand>, u8, Vec<u8>)]) -> Rules {
    let mut rules = Rules::new();
    for (demands, node_type, fates) in drawn {
        rules.push(demands, &rule(demands, *node_type, fates)).unwrap();
    }
    rules
}

fn any_rules(types: Vec<u8>) -> impl Strategy<Value = Rules> {
    let one = (any_pattern(3), prop::sample::select(types), prop::collection::vec(0u8..3, 1..4));
    prop::collection::vec(one, 1..40).prop_map(|drawn| rules(&drawn))
}

/// A forest and rules whose patterns were cut from it, so that those of three levels match, too.
fn any_forest_and_rules() -> impl Strategy<Value = (Forest, Rules)> {
    let types = prop::sample::select(vec![0u8, 1, 2, 100, 200]);
    let one = (any::<prop::sample::Index>(), any::<u64>(), types);
    let made = (one, prop::collection::vec(0u8..3, 1..4));
    (any_forest(), prop::collection::vec(made, 1..20)).prop_map(|(forest, made)| {
        let pattern = |((node, mut open, node_type), fates): (_, Vec<u8>)| {
            let node: prop::sample::Index = node;
            let demands = cut(&forest, node.index(forest.nodes.len()) as u32, 3, &mut open);
            (demands, node_type, fates)
        };
        let drawn: Vec<_> = made.into_iter().map(pattern).collect();
        let fits = |demands: &Vec<Demand>| demands.len() <= CAPTURES_MAX;
        let drawn: Vec<_> = drawn.into_iter().filter(|(demands, ..)| fits(demands)).collect();
        let rules = rules(&drawn);
        (forest, rules)
    })
}

fn run(rewriter: &Rewriter, forest: &Forest) -> Rewritten {
    let mut target = Rewritten::default();
    rewriter.run(forest, &mut target, &mut NoPause);
    target
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_rewritten_forest_is_valid_and_that_of_the_definition(
        forest in any_forest(),
        rules in any_rules(vec![0, 1, 2, 100, 200]),
    ) {
        let (trees, rewrites) = rewrite_plainly(&rules, &forest);
        let rewriter = Rewriter::new(rules);
        let found = run(&rewriter, &forest);
        prop_assert_eq!(found.rewrites, rewrites);
        prop_assert_eq!(found.forest().check(), Ok(()));
        prop_assert_eq!((found.nodes, found.roots), flattened(&trees));
    }

    #[test]
    fn rules_cut_from_a_forest_rewrite_it_as_the_definition_says(
        (forest, rules) in any_forest_and_rules(),
    ) {
        let (trees, rewrites) = rewrite_plainly(&rules, &forest);
        let found = run(&Rewriter::new(rules), &forest);
        prop_assert_eq!(found.rewrites, rewrites);
        prop_assert_eq!((found.nodes, found.roots), flattened(&trees));
    }

    #[test]
    fn rules_that_leave_nothing_to_match_change_nothing_the_second_time(
        forest in any_forest(),
        drawn in prop::collection::vec((0u8..3, 100u8..110), 1..8),
    ) {
        // Every match becomes a node of a type that no rule matches.
        let mut rules = Rules::new();
        for (kind, node_type) in drawn {
            let demand = Demand { kind, flags: TYPE, ..Demand::default() };
            rules.push(&[demand], &[item(Kind::Adopt, node_type, 0)]).unwrap();
        }
        let matcher = Matcher::new(rules.patterns.clone());
        let rewriter = Rewriter::new(rules);
        let mut pairs = Vec::new();
        matcher.run(&forest, &mut pairs, &mut NoPause);
        pairs.dedup_by_key(|pair| *pair >> 32);
        let once = run(&rewriter, &forest);
        prop_assert_eq!(once.rewrites, pairs.len() as u64, "rewrites are matches");
        let twice = run(&rewriter, &once.forest());
        prop_assert_eq!(twice.rewrites, 0);
        prop_assert_eq!((twice.nodes, twice.roots), (once.nodes, once.roots));
    }
}

#[test]
fn generated_rules_rewrite_once_and_for_all() {
    for (patterns, selectivity) in [(1, 0.5), (256, 0.1), (256, 0.9)] {
        let text = format!(
            r#"{{"nodes": 5000, "pool": 1, "patterns": {patterns}, "selectivity": {selectivity},
            "values": 64, "templates": 1, "texts": 1, "rules": 64, "trees": 1, "tree_templates": 1,
            "text_bytes": 1, "byte_patterns": 1, "byte_wildcards": 0.0}}"#
        );
        let recipe = Recipe::new(&Parameters::parse(&text).unwrap(), 3);
        let forest = recipe.forest(0);
        let rewriter = Rewriter::new(Rules::generate(&recipe, &forest, 3, 64));
        let once = run(&rewriter, &forest);
        assert!(once.rewrites > 100 && once.nodes.len() != forest.nodes.len());
        let again = once.forest();
        assert_eq!(again.check(), Ok(()));
        let twice = run(&rewriter, &again);
        assert_eq!((twice.rewrites, twice.nodes), (0, once.nodes));
    }
}

#[test]
fn a_million_nodes_below_one_another_are_rewritten_without_recursion() {
    let length = 1_000_000;
    let mut forest = Forest {
        nodes: (0..length).map(|number| Node { first: number + 1, ..Node::new(1, 1, 0) }).collect(),
        kinds: vec![0; length as usize],
        counts: vec![0; length as usize],
        marks: vec![0; length as usize],
        submarks: vec![0; length as usize],
        roots: vec![0],
    };
    forest.nodes[length as usize - 1] = Node::new(2, 0, 7);
    forest.split();
    let list = Demand { kind: 1, count: 1, flags: TYPE | LISTED, ..Demand::default() };
    let mut rules = Rules::new();
    rules.push(&[list, Demand::default()], &[item(Kind::Capture, 0, 0)]).unwrap();
    let found = run(&Rewriter::new(rules), &forest);
    assert_eq!((found.nodes, found.rewrites), (vec![Node::new(2, 0, 7)], 999_999));
}

#[test]
fn rules_that_lose_their_way_are_refused() {
    let list = Demand { count: 2, flags: LISTED, ..Demand::default() };
    let pattern = [list, Demand::default(), Demand::default()];
    let capture = |number| item(Kind::Capture, 0, number);
    let mut rules = Rules::new();
    let mut refused = |demands: &[Demand], items: &[Item]| rules.push(demands, items).unwrap_err();
    let new = |count| item(Kind::New, 1, count);
    assert_eq!(refused(&pattern, &[new(1), capture(2)]), "there is no capture 2");
    assert_eq!(refused(&pattern, &[new(2), capture(0), capture(0)]), "uses capture 0 twice");
    assert_eq!(refused(&pattern, &[new(2), capture(0)]), "fewer items than its counts say");
    assert_eq!(refused(&pattern, &[capture(0), capture(1)]), "the replacement is not one tree");
    assert_eq!(refused(&pattern, &[]), "the replacement is not one tree");
    let adopts = refused(&pattern, &[item(Kind::Adopt, 1, 0)]);
    assert_eq!(adopts, "adopts children that its pattern lists");
    let whole = refused(&[Demand::default()], &[capture(0)]);
    assert_eq!(whole, "there is no capture 0");
    let adopt = item(Kind::Adopt, 1, 0);
    let twice = refused(&[Demand::default()], &[new(2), adopt, adopt]);
    assert_eq!(twice, "adopts the same children twice");
    let leaves = vec![Demand::default(); CAPTURES_MAX + 1];
    let list = Demand { count: leaves.len() as u8, flags: LISTED, ..Demand::default() };
    assert_eq!(refused(&[&[list], &leaves[..]].concat(), &[new(0)]), "65 captures, at most 64");
    let long = [vec![new(1); ITEMS_MAX], vec![new(0)]].concat();
    assert_eq!(refused(&[Demand::default()], &long), "256 items, at most 255");
    assert_eq!(rules.len(), 0);
}
