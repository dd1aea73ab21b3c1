//! Patterns of trees: places that demand a type, a value, a number of children, or nothing.

use super::forest::{Forest, HOT_TYPES_MAX, Node, Recipe, below, token};
use crate::random::{philox, stream_key};

pub const TYPE: u8 = 1;
pub const VALUE: u8 = 2;
pub const COUNT: u8 = 4;
/// The places of all children follow; their number is demanded too.
pub const LISTED: u8 = 8;
/// Levels of a pattern.
pub const DEPTH_MAX: u8 = 3;

pub const DOMAIN_PATTERNS: u64 = 0x7379_0002;

/// How a place is found from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Root,
    /// First child of the place one level up.
    First,
    /// Next sibling of the last place of this level.
    Next,
}

/// What one node of a pattern demands, ready to be compared by masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub value: u32,
    pub value_mask: u32,
    pub token: u16,
    pub token_mask: u16,
    pub step: Step,
    /// 0 for the root.
    pub level: u8,
    pub flags: u8,
}

impl Place {
    #[inline(always)]
    pub fn accepts(&self, node: &Node) -> bool {
        (node.token ^ self.token) & self.token_mask == 0
            && (node.value ^ self.value) & self.value_mask == 0
    }

    pub fn kind(&self) -> u8 {
        self.token as u8
    }

    pub fn count(&self) -> u8 {
        (self.token >> 8) as u8
    }
}

/// A place as it is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub kind: u8,
    pub count: u8,
    pub value: u32,
    pub flags: u8,
}

/// Patterns one after the other, each in preorder.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// Where each pattern's places start, and the end of the last.
    pub first: Vec<u32>,
    pub places: Vec<Place>,
}

impl Patterns {
    pub fn new() -> Self {
        Self { first: vec![0], places: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.first.len() - 1
    }

    pub fn held_bytes(&self) -> usize {
        size_of_val(self.places.as_slice()) + size_of_val(self.first.as_slice())
    }

    #[inline(always)]
    pub fn of(&self, pattern: u32) -> &[Place] {
        let ends = &self.first[pattern as usize..pattern as usize + 2];
        &self.places[ends[0] as usize..ends[1] as usize]
    }

    /// Appends a pattern.
    ///
    /// # Errors
    /// Its places are not one tree of at most three levels.
    pub fn push(&mut self, demands: &[Demand]) -> Result<(), String> {
        let start = self.places.len();
        let mut rest = demands.iter();
        let pushed = self.push_tree(&mut rest, Step::Root, 0);
        let leftover = rest.count();
        if let Err(problem) = pushed {
            self.places.truncate(start);
            return Err(problem);
        }
        if leftover > 0 {
            self.places.truncate(start);
            return Err(format!("{leftover} places too many"));
        }
        self.first.push(self.places.len() as u32);
        Ok(())
    }

    fn push_tree<'a>(
        &mut self,
        rest: &mut impl Iterator<Item = &'a Demand>,
        step: Step,
        level: u8,
    ) -> Result<(), String> {
        if level == DEPTH_MAX {
            return Err(format!("deeper than {DEPTH_MAX} levels"));
        }
        let demand = rest.next().ok_or("fewer places than its counts say")?;
        let lists = demand.flags & LISTED != 0;
        let counted = lists || demand.flags & COUNT != 0;
        let mask = |flag: bool| if flag { 0xFF } else { 0 };
        let kind_mask = mask(demand.flags & TYPE != 0);
        self.places.push(Place {
            value: demand.value,
            value_mask: if demand.flags & VALUE != 0 { u32::MAX } else { 0 },
            token: token(demand.kind, demand.count),
            token_mask: token(kind_mask, mask(counted)),
            step,
            level,
            flags: demand.flags | if counted { COUNT } else { 0 },
        });
        if lists {
            for child in 0..demand.count {
                let step = if child == 0 { Step::First } else { Step::Next };
                self.push_tree(rest, step, level + 1)?;
            }
        }
        Ok(())
    }

    /// Whether a pattern matches at a node.
    #[inline]
    pub fn matches(&self, pattern: u32, nodes: &[Node], number: u32) -> bool {
        let mut at = [number; DEPTH_MAX as usize];
        for place in self.of(pattern) {
            let level = usize::from(place.level);
            match place.step {
                Step::Root => {}
                Step::First => at[level] = nodes[at[level - 1] as usize].first,
                Step::Next => at[level] = nodes[at[level] as usize].next,
            }
            // A place is reached only through counts that were found right, so the link is there.
            if !place.accepts(&nodes[at[level] as usize]) {
                return false;
            }
        }
        true
    }

    /// The definition of a match, by recursion: what every faster way is held against.
    pub fn matches_plainly(&self, pattern: u32, forest: &Forest, number: u32) -> bool {
        fn walk<'a>(rest: &mut std::slice::Iter<'a, Place>, forest: &Forest, number: u32) -> bool {
            let Some(place) = rest.next() else { return false };
            let node = &forest.nodes[number as usize];
            let fits = (place.flags & TYPE == 0 || node.kind() == place.kind())
                && (place.flags & COUNT == 0 || node.count() == place.count())
                && (place.flags & VALUE == 0 || node.value == place.value);
            fits && (place.flags & LISTED == 0
                || forest.children(number).all(|child| walk(rest, forest, child)))
        }
        walk(&mut self.of(pattern).iter(), forest, number)
    }

    /// The patterns of a component: `hot_types` that match a type whatever is below, the others
    /// taken from nodes of `forest`, one in four altered so that it matches nothing, one in eight
    /// without a type at its root.
    pub fn generate(recipe: &Recipe, forest: &Forest, seed: u64, count: u32) -> Self {
        let key = stream_key(seed, DOMAIN_PATTERNS);
        let hot = numbers_where(forest, |node| u32::from(node.kind()) < HOT_TYPES_MAX);
        let cold = numbers_where(forest, |node| u32::from(node.kind()) >= HOT_TYPES_MAX);
        let mut patterns = Self::new();
        let mut demands = Vec::new();
        for number in 0..count {
            demands.clear();
            if number < recipe.hot_types {
                demands.push(Demand { kind: number as u8, flags: TYPE, ..Demand::default() });
            } else {
                let is_decoy = number % 4 == 3;
                let draw = philox([number, 0, 0, 0], key);
                let from = if is_decoy { &cold } else { &hot };
                let sample = chosen(from, draw[0], forest.nodes.len());
                let sampler = Sampler { recipe, forest, key, number, is_decoy };
                sampler.write(sample, draw[1], &mut demands);
            }
            let pushed = patterns.push(&demands);
            assert!(pushed.is_ok(), "generated patterns are trees of three levels");
        }
        patterns
    }
}

pub fn numbers_where(forest: &Forest, wanted: impl Fn(&Node) -> bool) -> Vec<u32> {
    let numbered = forest.nodes.iter().enumerate();
    numbered.filter(|(_, node)| wanted(node)).map(|(number, _)| number as u32).collect()
}

/// One of the numbers, or, where there are none, any node.
fn chosen(numbers: &[u32], word: u32, nodes: usize) -> u32 {
    match numbers.len() {
        0 => below(word, nodes as u32),
        length => numbers[below(word, length as u32) as usize],
    }
}

/// Writes down what a node of the forest looks like, leaving some of it open.
struct Sampler<'a> {
    recipe: &'a Recipe,
    forest: &'a Forest,
    key: [u32; 2],
    number: u32,
    is_decoy: bool,
}

impl Sampler<'_> {
    fn node(&self, number: u32) -> &Node {
        &self.forest.nodes[number as usize]
    }

    fn write(&self, sample: u32, word: u32, demands: &mut Vec<Demand>) {
        let node = self.node(sample);
        let lists = (1..=4).contains(&node.count()) && word & 3 != 0;
        let is_untyped = self.number % 8 == 4;
        let valued = !lists || is_untyped || self.is_decoy || word >> 2 & 1 != 0;
        let counted = lists || word >> 3 & 1 != 0;
        let mut root = demand(node, !is_untyped, valued, counted, lists);
        if self.is_decoy {
            root.value = self.recipe.absent_value(self.number);
        }
        demands.push(root);
        if !lists {
            return;
        }
        for (place, child) in self.forest.children(sample).enumerate() {
            let word = philox([self.number, 1 + place as u32, 0, 0], self.key)[0];
            let node = self.node(child);
            let lists = (1..=3).contains(&node.count()) && word >> 6 & 1 != 0;
            let counted = lists || word >> 2 & 3 == 0;
            let typed = place == 0 || word & 3 != 0;
            demands.push(demand(node, typed, word >> 4 & 3 == 0, counted, lists));
            if !lists {
                continue;
            }
            for (under, grandchild) in self.forest.children(child).enumerate() {
                let counter = [self.number, 16 + 4 * place as u32 + under as u32, 0, 0];
                let word = philox(counter, self.key)[0];
                let (typed, valued) = (word & 1 != 0, word >> 1 & 3 == 0);
                let node = self.node(grandchild);
                demands.push(demand(node, typed, valued, word >> 3 & 3 == 0, false));
            }
        }
    }
}

/// What is not demanded is zero.
pub fn demand(node: &Node, typed: bool, valued: bool, counted: bool, lists: bool) -> Demand {
    Demand {
        kind: if typed { node.kind() } else { 0 },
        count: if counted { node.count() } else { 0 },
        value: if valued { node.value } else { 0 },
        flags: [(typed, TYPE), (valued, VALUE), (counted, COUNT), (lists, LISTED)]
            .into_iter()
            .fold(0, |flags, (is_set, flag)| if is_set { flags | flag } else { flags }),
    }
}

/// (node, pattern) as one word, in the order of the output.
#[inline(always)]
pub fn pair(number: u32, pattern: u32) -> u64 {
    u64::from(number) << 32 | u64::from(pattern)
}

/// The node or position of a pair.
pub fn place_of(pair: u64) -> u32 {
    (pair >> 32) as u32
}
