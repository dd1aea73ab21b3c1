//! Rewriting a forest: outermost matches from the roots down, into a new forest in preorder.
//!
//! At each node the first rule that matches replaces it and the children that its pattern lists;
//! captured subtrees are rewritten in turn. Nothing recurses: open lists of siblings have a stack.

use super::filter::{BLOCK, Filter, class_of};
use super::forest::{Forest, NONE, Node};
use super::index::Index;
use super::patterns::{LISTED, Place};
use super::rules::{Item, Kind, Rules};
use crate::operations::Pause;

/// Nodes written between two pauses: about 30 µs.
const PAUSE_NODES: usize = 4096;

/// A list of siblings that is not yet written to its end.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The next node of the source, or item of the replacement.
    next: u32,
    /// Items to come; `SOURCE` for a chain of the source.
    left: u32,
    /// Where the captures of the match start; the matched node, of items.
    captures: u32,
    matched: u32,
    /// The last sibling written, or the parent while there is none.
    last: u32,
    is_first: bool,
}

const SOURCE: u32 = u32::MAX;

/// A worker's rewritten forest and what it needs on the way.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    pub nodes: Vec<Node>,
    pub roots: Vec<u32>,
    pub rewrites: u64,
    open: Vec<Open>,
    captures: Vec<u32>,
}

/// Rules, ready to be applied.
#[derive(Clone, Debug)]
pub struct Rewriter {
    pub rules: Rules,
    /// Types and classes of child counts of which some rule may match.
    filter: Filter,
    index: Index,
}

impl Rewriter {
    pub fn new(rules: Rules) -> Self {
        let index = Index::new(&rules.patterns);
        Self { filter: index.shapes(), rules, index }
    }

    pub fn held_bytes(&self) -> usize {
        self.rules.patterns.held_bytes()
            + size_of_val(self.rules.items.as_slice())
            + self.index.held_bytes()
    }

    /// The first rule that matches at a node.
    #[inline]
    fn rule_at(&self, nodes: &[Node], number: u32) -> Option<u32> {
        let node = &nodes[number as usize];
        let classes = self.filter.classes[usize::from(node.kind())];
        if classes >> class_of(node.count()) & 1 == 0 {
            return None;
        }
        let (mut first, rows) = (u32::MAX, self.index.rows_of(node));
        let patterns = &self.rules.patterns;
        self.index.at(patterns, nodes, number, (&rows, 0), |rule| first = first.min(rule));
        (first != u32::MAX).then_some(first)
    }

    /// Rewrites a forest into `target`, which is emptied first.
    pub fn run(&self, forest: &Forest, target: &mut Rewritten, pause: &mut dyn Pause) {
        target.nodes.clear();
        target.roots.clear();
        target.rewrites = 0;
        let mut paused = 0;
        for &root in &forest.roots {
            let place = target.nodes.len() as u32;
            target.roots.push(place);
            target.captures.clear();
            self.write_source(forest, root, target);
            while let Some(open) = target.open.pop() {
                self.advance(forest, open, target);
            }
            if target.nodes.len() - paused >= PAUSE_NODES {
                paused = target.nodes.len();
                pause.point();
            }
        }
    }

    /// Writes the next sibling of an open list, and opens what is below it.
    #[inline]
    fn advance(&self, forest: &Forest, mut open: Open, target: &mut Rewritten) {
        let place = target.nodes.len() as u32;
        let last = &mut target.nodes[open.last as usize];
        if open.is_first {
            last.first = place;
        } else {
            last.next = place;
        }
        (open.last, open.is_first) = (place, false);
        if open.left == SOURCE {
            let number = open.next;
            open.next = forest.nodes[number as usize].next;
            if open.next != NONE {
                target.open.push(open);
            }
            self.write_source(forest, number, target);
            return;
        }
        let item = self.rules.items[open.next as usize];
        let own = Open { next: open.next + 1, ..open };
        open.next += u32::from(item.span);
        open.left -= 1;
        if open.left > 0 {
            target.open.push(open);
        }
        self.write_item(forest, item, own, target);
    }

    /// Writes a node of the source, or what replaces it.
    ///
    /// A replacement that is one of its captures is no node; what it captured is looked at next.
    #[inline]
    fn write_source(&self, forest: &Forest, mut number: u32, target: &mut Rewritten) {
        while let Some(rule) = self.rule_at(&forest.nodes, number) {
            target.rewrites += 1;
            let captures = target.captures.len() as u32;
            self.rules.capture(rule, &forest.nodes, number, &mut target.captures);
            let first = self.rules.first[rule as usize];
            let item = self.rules.items[first as usize];
            if item.kind != Kind::Capture {
                let next = first + 1;
                let own =
                    Open { next, left: 0, captures, matched: number, last: 0, is_first: true };
                self.write_item(forest, item, own, target);
                return;
            }
            number = target.captures[captures as usize + usize::from(item.count)];
        }
        let node = &forest.nodes[number as usize];
        self.write(target, Node { first: NONE, next: NONE, ..*node }, node.first);
    }

    #[inline]
    fn write_item(&self, forest: &Forest, item: Item, own: Open, target: &mut Rewritten) {
        let matched = &forest.nodes[own.matched as usize];
        let value = if item.keeps_value { matched.value } else { item.value };
        match item.kind {
            Kind::Capture => {
                let number = target.captures[own.captures as usize + usize::from(item.count)];
                self.write_source(forest, number, target);
            }
            Kind::Adopt => {
                self.write(
                    target,
                    Node::new(item.node_type, matched.count(), value),
                    matched.first,
                );
            }
            Kind::New => {
                let place = target.nodes.len() as u32;
                target.nodes.push(Node::new(item.node_type, item.count, value));
                if item.count > 0 {
                    let left = u32::from(item.count);
                    target.open.push(Open { left, last: place, is_first: true, ..own });
                }
            }
        }
    }

    /// Writes a node and opens the chain of the source that its children are.
    #[inline]
    fn write(&self, target: &mut Rewritten, node: Node, children: u32) {
        let last = target.nodes.len() as u32;
        target.nodes.push(node);
        if children != NONE {
            let chain = Open {
                next: children,
                left: SOURCE,
                captures: 0,
                matched: 0,
                last,
                is_first: true,
            };
            target.open.push(chain);
        }
    }
}

impl Rewritten {
    /// Room for what lies open of a generated tree; for nodes and roots there is none yet.
    pub fn with_capacity() -> Self {
        let mut made = Self::default();
        made.open.reserve_exact(OPEN_MAX);
        made.captures.reserve_exact(OPEN_MAX);
        made
    }

    /// The result as a forest of its own.
    #[cfg(test)]
    pub fn forest(&self) -> Forest {
        let length = self.nodes.len();
        let mut forest = Forest {
            nodes: self.nodes.clone(),
            kinds: vec![0; length],
            counts: vec![0; length],
            marks: vec![0; length],
            submarks: vec![0; length],
            roots: self.roots.clone(),
        };
        forest.split();
        forest
    }
}

/// Open lists and captures of a generated tree: 64 nodes, a wrapper for each at most.
const OPEN_MAX: usize = 4 * BLOCK;

/// A tree by itself, for the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub node_type: u8,
    pub value: u32,
    pub children: Vec<Tree>,
}

/// The definition, by recursion: the rewritten trees and how many matches were replaced.
pub fn rewrite_plainly(rules: &Rules, forest: &Forest) -> (Vec<Tree>, u64) {
    let mut rewrites = 0;
    let roots = forest.roots.iter();
    let trees = roots.map(|&root| rewritten(rules, forest, root, &mut rewrites)).collect();
    (trees, rewrites)
}

fn rewritten(rules: &Rules, forest: &Forest, number: u32, rewrites: &mut u64) -> Tree {
    let matching =
        (0..rules.len() as u32).find(|&rule| rules.patterns.matches_plainly(rule, forest, number));
    let node = &forest.nodes[number as usize];
    let children = |rewrites: &mut u64| {
        forest.children(number).map(|child| rewritten(rules, forest, child, rewrites)).collect()
    };
    let Some(rule) = matching else {
        return Tree { node_type: node.kind(), value: node.value, children: children(rewrites) };
    };
    *rewrites += 1;
    let mut captures = Vec::new();
    capture_plainly(&mut rules.patterns.of(rule).iter(), forest, number, &mut captures);
    let match_of = Match { rules, forest, number, captures, items: rules.items(rule) };
    match_of.build(&mut 0, rewrites)
}

/// What the leaves of a matching pattern stand for, its root's own place aside.
fn capture_plainly(
    rest: &mut std::slice::Iter<'_, Place>,
    forest: &Forest,
    number: u32,
    captures: &mut Vec<u32>,
) {
    match rest.next() {
        Some(place) if place.flags & LISTED != 0 => {
            forest.children(number).for_each(|child| {
                capture_plainly(rest, forest, child, captures);
            });
        }
        Some(place) if place.level > 0 => captures.push(number),
        _ => {}
    }
}

/// A match and what replaces it.
struct Match<'a> {
    rules: &'a Rules,
    forest: &'a Forest,
    number: u32,
    captures: Vec<u32>,
    items: &'a [Item],
}

impl Match<'_> {
    /// The tree of the items from `next` on.
    fn build(&self, next: &mut usize, rewrites: &mut u64) -> Tree {
        let item = self.items[*next];
        *next += 1;
        let root = &self.forest.nodes[self.number as usize];
        let value = if item.keeps_value { root.value } else { item.value };
        let mut source = |number| rewritten(self.rules, self.forest, number, rewrites);
        let children = match item.kind {
            Kind::Capture => return source(self.captures[usize::from(item.count)]),
            Kind::Adopt => self.forest.children(self.number).map(source).collect(),
            Kind::New => (0..item.count).map(|_| self.build(next, rewrites)).collect(),
        };
        Tree { node_type: item.node_type, value, children }
    }
}

/// The nodes of trees in preorder, links and all.
pub fn flattened(trees: &[Tree]) -> (Vec<Node>, Vec<u32>) {
    fn append(tree: &Tree, nodes: &mut Vec<Node>) -> u32 {
        let place = nodes.len();
        nodes.push(Node::new(tree.node_type, tree.children.len() as u8, tree.value));
        let mut last = None;
        for child in &tree.children {
            let at = append(child, nodes);
            match last {
                None => nodes[place].first = at,
                Some(last) => nodes[last as usize].next = at,
            }
            last = Some(at);
        }
        place as u32
    }
    let mut nodes = Vec::new();
    let roots = trees.iter().map(|tree| append(tree, &mut nodes)).collect();
    (nodes, roots)
}
