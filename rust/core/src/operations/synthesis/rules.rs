//! Rules that rewrite trees: a pattern whose leaves are captured, and what is put in its place.

use super::forest::{Forest, HOT_TYPES_MAX, Node, Recipe, below};
use super::patterns::{DEPTH_MAX, Demand, LISTED, Patterns, Step, TYPE, demand};
use crate::random::{philox, stream_key};

/// Types of rewritten nodes; no generated pattern or rule matches them.
pub const REWRITTEN_TYPE: u8 = 64;
pub const WRAPPER_TYPE: u8 = 80;
/// Captures of one rule: leaves of its pattern.
pub const CAPTURES_MAX: usize = 64;
pub const ITEMS_MAX: usize = 255;

pub const DOMAIN_RULES: u64 = 0x7379_0006;

/// What an item of a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new node whose children are the items that follow.
    New,
    /// A captured subtree, itself rewritten.
    Capture,
    /// A new node that adopts the children of the matched one, themselves rewritten.
    Adopt,
}

/// One node of a replacement, in preorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: Kind,
    pub node_type: u8,
    /// Children of a new node; the number of the capture.
    pub count: u8,
    /// Whether the value is that of the matched node.
    pub keeps_value: bool,
    pub value: u32,
    /// Items of this one's tree.
    pub span: u8,
}

/// Rules in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub patterns: Patterns,
    /// Where each rule's items start, and the end of the last.
    pub first: Vec<u32>,
    pub items: Vec<Item>,
}

impl Rules {
    pub fn new() -> Self {
        Self { patterns: Patterns::new(), first: vec![0], items: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.first.len() - 1
    }

    pub fn items(&self, rule: u32) -> &[Item] {
        &self.items[self.first[rule as usize] as usize..self.first[rule as usize + 1] as usize]
    }

    /// Appends a rule; spans are filled in.
    ///
    /// # Errors
    /// The pattern or the replacement is no tree, captures what there is not or twice, or adopts
    /// children that the pattern lists.
    pub fn push(&mut self, demands: &[Demand], items: &[Item]) -> Result<(), String> {
        let mut captures = demands.iter().filter(|demand| demand.flags & LISTED == 0).count();
        let is_whole = demands.len() == 1 && captures == 1;
        if is_whole {
            captures = 0;
        }
        if captures > CAPTURES_MAX {
            return Err(format!("{captures} captures, at most {CAPTURES_MAX}"));
        }
        let mut items = items.to_vec();
        if items.len() > ITEMS_MAX {
            return Err(format!("{} items, at most {ITEMS_MAX}", items.len()));
        }
        if spans(&mut items)? != 1 {
            return Err("the replacement is not one tree".to_owned());
        }
        let mut used = [false; CAPTURES_MAX];
        for item in &items {
            match item.kind {
                Kind::Adopt if !is_whole => {
                    return Err("adopts children that its pattern lists".to_owned());
                }
                Kind::Capture if usize::from(item.count) >= captures => {
                    return Err(format!("there is no capture {}", item.count));
                }
                Kind::Capture if std::mem::replace(&mut used[usize::from(item.count)], true) => {
                    return Err(format!("uses capture {} twice", item.count));
                }
                _ => {}
            }
        }
        if items.iter().filter(|item| item.kind == Kind::Adopt).count() > 1 {
            return Err("adopts the same children twice".to_owned());
        }
        self.patterns.push(demands)?;
        self.items.extend(items);
        self.first.push(self.items.len() as u32);
        Ok(())
    }

    /// How many leaves of a rule's pattern are captured.
    pub fn captures(&self, rule: u32) -> usize {
        let below = &self.patterns.of(rule)[1..];
        below.iter().filter(|place| place.flags & LISTED == 0).count()
    }

    /// What the leaves of a matching rule's pattern stand for, appended to `captures`.
    #[inline]
    pub fn capture(&self, rule: u32, nodes: &[Node], number: u32, captures: &mut Vec<u32>) {
        let mut at = [number; DEPTH_MAX as usize];
        for place in &self.patterns.of(rule)[1..] {
            let level = usize::from(place.level);
            at[level] = match place.step {
                Step::Next => nodes[at[level] as usize].next,
                _ => nodes[at[level - 1] as usize].first,
            };
            if place.flags & LISTED == 0 {
                captures.push(at[level]);
            }
        }
    }

    /// The rules of a component: those that look below the root first, then one for every hot type.
    ///
    /// A rule demands hot types at its root only, where nothing that a rule leaves behind is hot,
    /// so that rewriting twice gives what rewriting once gave.
    pub fn generate(recipe: &Recipe, forest: &Forest, seed: u64, count: u32) -> Self {
        let key = stream_key(seed, DOMAIN_RULES);
        let mut by_type = vec![Vec::new(); HOT_TYPES_MAX as usize];
        for (number, &kind) in forest.kinds.iter().enumerate() {
            if let Some(numbers) = by_type.get_mut(usize::from(kind)) {
                numbers.push(number as u32);
            }
        }
        let plain = recipe.hot_types.min(count);
        let mut rules = Self::new();
        let (mut demands, mut items) = (Vec::new(), Vec::new());
        for rule in 0..count {
            demands.clear();
            items.clear();
            let draw = philox([rule, 0, 0, 0], key);
            let is_plain = rule >= count - plain;
            let kind = if is_plain { rule - (count - plain) } else { rule % recipe.hot_types };
            let samples = &by_type[kind as usize];
            if is_plain || samples.is_empty() {
                demands.push(Demand { kind: kind as u8, flags: TYPE, ..Demand::default() });
            } else {
                let sample = samples[below(draw[0], samples.len() as u32) as usize];
                write_demands(forest, key, rule, sample, &mut demands);
            }
            write_items(rule, draw[1], &demands, &mut items);
            let pushed = rules.push(&demands, &items);
            assert!(pushed.is_ok(), "generated rules are well-formed");
        }
        rules
    }
}

/// Fills in the spans and returns how many trees the items are.
fn spans(items: &mut [Item]) -> Result<usize, String> {
    // From the end, the trees that stand behind an item are the last ones pushed.
    let mut trees: Vec<u8> = Vec::new();
    for item in items.iter_mut().rev() {
        let children = if item.kind == Kind::New { usize::from(item.count) } else { 0 };
        let left = trees.len().checked_sub(children).ok_or("fewer items than its counts say")?;
        item.span = 1 + trees.drain(left..).sum::<u8>();
        trees.push(item.span);
    }
    Ok(trees.len())
}

/// The look of a hot node: cold children by their type, some with their own children listed.
fn write_demands(
    forest: &Forest,
    key: [u32; 2],
    rule: u32,
    sample: u32,
    demands: &mut Vec<Demand>,
) {
    let is_cold = |node: &Node| u32::from(node.kind()) >= HOT_TYPES_MAX;
    let root = &forest.nodes[sample as usize];
    if !(1..=4).contains(&root.count()) {
        demands.push(demand(root, true, true, false, false));
        return;
    }
    demands.push(demand(root, true, false, true, true));
    for (place, child) in forest.children(sample).enumerate() {
        let word = philox([rule, 1 + place as u32, 0, 0], key)[0];
        let node = &forest.nodes[child as usize];
        let typed = is_cold(node) && word & 1 != 0;
        let lists = typed && (1..=3).contains(&node.count()) && word >> 1 & 1 != 0;
        demands.push(demand(node, typed, false, lists, lists));
        if lists {
            for grandchild in forest.children(child) {
                let node = &forest.nodes[grandchild as usize];
                let typed = is_cold(node) && word >> 2 & 1 != 0;
                demands.push(demand(node, typed, false, false, false));
            }
        }
    }
}

/// The replacement: a rewritten root over the captures, turned round by one; one rule in two wraps
/// the first of them, one in four drops the last.
fn write_items(rule: u32, word: u32, demands: &[Demand], items: &mut Vec<Item>) {
    let node_type = REWRITTEN_TYPE + (rule % 16) as u8;
    let keeps_value = word & 1 != 0;
    let value = if keeps_value { 0 } else { word };
    let root = |kind, count| Item { kind, node_type, count, keeps_value, value, span: 0 };
    if demands[0].flags & LISTED == 0 {
        items.push(root(Kind::Adopt, 0));
        return;
    }
    let captures = demands.iter().filter(|demand| demand.flags & LISTED == 0).count() as u8;
    let dropped = u8::from(rule % 4 == 2 && captures >= 2);
    let kept = captures - dropped;
    items.push(root(Kind::New, kept));
    let plain =
        Item { kind: Kind::Capture, node_type: 0, count: 0, keeps_value: false, value: 0, span: 0 };
    for turn in 0..kept {
        if turn == 0 && rule % 2 == 1 {
            let node_type = WRAPPER_TYPE + (rule % 16) as u8;
            items.push(Item { kind: Kind::New, node_type, count: 1, value: word, ..plain });
        }
        items.push(Item { count: (turn + 1) % kept, ..plain });
    }
}
