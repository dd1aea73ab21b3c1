//! Property tests of the synthesis component: what must hold for any input, on small ones.

use proptest::prelude::*;

use super::forest::{Forest, Node};
use super::patterns::{COUNT, Demand, LISTED, TYPE, VALUE};

mod index;
mod matching;
mod rewriting;
mod words;

/// Values whose marks, and so their first look, are the same; two that differ in one of theirs.
const COLLIDING: [u32; 5] = [5, 5 + 2048, 5 + 4096, 5 + 768, 6];

/// Nodes each of which hangs below an earlier one or is a root; few types, values that collide.
pub fn any_forest() -> impl Strategy<Value = Forest> {
    let types = prop::sample::select(vec![0u8, 1, 2, 200, 255]);
    let node = (0usize..8, types, 0..COLLIDING.len());
    prop::collection::vec(node, 1..150).prop_map(|drawn| {
        let mut forest = empty(drawn.len());
        let mut before = None;
        for (number, (offset, kind, value)) in drawn.into_iter().enumerate() {
            forest.nodes[number] = Node::new(kind, 0, COLLIDING[value]);
            // Half of the nodes are siblings of the one before, so that some have many children.
            let parent = if offset < 4 { number.checked_sub(1 + offset * offset) } else { before };
            before = parent.filter(|&parent| forest.nodes[parent].count() < 12);
            match before {
                Some(parent) => hang(&mut forest, number, parent),
                None => forest.roots.push(number as u32),
            }
        }
        forest.split();
        forest
    })
}

pub fn empty(length: usize) -> Forest {
    Forest {
        nodes: vec![Node::default(); length],
        kinds: vec![0; length],
        counts: vec![0; length],
        marks: vec![0; length],
        submarks: vec![0; length],
        roots: Vec::new(),
    }
}

pub fn hang(forest: &mut Forest, number: usize, parent: usize) {
    match forest.children(parent as u32).last() {
        Some(last) => forest.nodes[last as usize].next = number as u32,
        None => forest.nodes[parent].first = number as u32,
    }
    forest.nodes[parent].token += 1 << 8;
}

/// The same forest with its nodes in another order: node `number` is now `places[number]`.
pub fn permuted(forest: &Forest, places: &[u32]) -> Forest {
    let mut moved = empty(forest.nodes.len());
    let follow = |link: u32| places.get(link as usize).copied().unwrap_or(link);
    for (number, node) in forest.nodes.iter().enumerate() {
        let (first, next) = (follow(node.first), follow(node.next));
        moved.nodes[places[number] as usize] = Node { first, next, ..*node };
    }
    moved.roots = forest.roots.iter().map(|&root| places[root as usize]).collect();
    moved.split();
    moved
}

/// A tree of demands of at most `levels` levels, in preorder.
pub fn any_pattern(levels: u32) -> BoxedStrategy<Vec<Demand>> {
    let types = prop::sample::select(vec![0u8, 1, 2, 200, 255]);
    let root = (types, 0..COLLIDING.len(), 0u8..13, 0u8..8);
    let children = if levels > 1 {
        prop::collection::vec(any_pattern(levels - 1), 0..4).boxed()
    } else {
        Just(Vec::new()).boxed()
    };
    (root, children, any::<bool>())
        .prop_map(move |((kind, value, count, flags), children, lists)| {
            let flags = flags & (TYPE | VALUE | COUNT);
            let value = COLLIDING[value];
            if !lists || levels == 1 {
                return vec![Demand { kind, count, value, flags }];
            }
            let count = children.len() as u8;
            let mut demands = vec![Demand { kind, count, value, flags: flags | LISTED }];
            demands.extend(children.into_iter().flatten());
            demands
        })
        .boxed()
}

/// What a node looks like down to so many levels, as `open` leaves it open: three bits a place say
/// what is demanded, a fourth whether children are listed.
pub fn cut(forest: &Forest, number: u32, levels: u32, open: &mut u64) -> Vec<Demand> {
    let node = &forest.nodes[number as usize];
    let bits = *open as u8;
    *open = open.rotate_right(5);
    let flags = bits & (TYPE | VALUE | COUNT);
    let own = Demand { kind: node.kind(), count: node.count(), value: node.value, flags };
    if levels == 1 || bits & 8 == 0 {
        return vec![own];
    }
    let mut demands = vec![Demand { flags: flags | LISTED, ..own }];
    for child in forest.children(number) {
        demands.extend(cut(forest, child, levels - 1, open));
    }
    demands
}
