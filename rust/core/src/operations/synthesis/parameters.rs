//! Parameters of the synthesis component, their bounds and the sizes that follow from them.

use serde::Deserialize;

use super::forest::{Node, TREE_NODES};
use crate::operations::{BuildError, within};

pub const NODES_MAX: u32 = 1 << 26;
pub const POOL_MAX: u32 = 1 << 12;
pub const PATTERNS_MAX: u32 = 1 << 16;
pub const VALUES_MAX: u32 = 1 << 20;
pub const TEMPLATES_MAX: u32 = 1 << 16;
pub const TEXTS_MAX: u32 = 1 << 20;
pub const RULES_MAX: u32 = 1 << 12;
pub const TREES_MAX: u32 = 1 << 22;
pub const TREE_TEMPLATES_MAX: u32 = 1 << 17;
pub const TEXT_BYTES_MAX: u32 = 1 << 30;
pub const BYTE_PATTERNS_MAX: u32 = 1 << 17;

/// The same names and bounds as `Synthesis` in `components/synthesis.py`, which has the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Nodes of a forest, and instances of one expansion: the size of a request.
    pub nodes: u32,
    /// Different requests of each op type, served in turn.
    pub pool: u32,
    pub patterns: u32,
    /// Share of the nodes that some pattern matches.
    pub selectivity: f64,
    /// Different value hashes of ordinary nodes.
    pub values: u32,
    pub templates: u32,
    pub texts: u32,
    pub rules: u32,
    /// Linearised trees of `template_compare`, 64 tokens each.
    pub trees: u32,
    pub tree_templates: u32,
    /// Length of the text of `byte_match`.
    pub text_bytes: u32,
    pub byte_patterns: u32,
    /// Share of the bytes of a byte pattern that match anything.
    pub byte_wildcards: f64,
}

impl Parameters {
    /// Reads and checks a JSON object.
    ///
    /// # Errors
    /// An unknown, missing or mistyped key, or a value out of its bounds.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let read: Self = serde_json::from_str(text)?;
        within("nodes", read.nodes, 1, NODES_MAX)?;
        within("pool", read.pool, 1, POOL_MAX)?;
        within("patterns", read.patterns, 1, PATTERNS_MAX)?;
        within("values", read.values, 1, VALUES_MAX)?;
        within("templates", read.templates, 1, TEMPLATES_MAX)?;
        within("texts", read.texts, 1, TEXTS_MAX)?;
        within("rules", read.rules, 1, RULES_MAX)?;
        within("trees", read.trees, 1, TREES_MAX)?;
        within("tree_templates", read.tree_templates, 1, TREE_TEMPLATES_MAX)?;
        within("text_bytes", read.text_bytes, 1, TEXT_BYTES_MAX)?;
        within("byte_patterns", read.byte_patterns, 1, BYTE_PATTERNS_MAX)?;
        within("selectivity", read.selectivity, 0.0, 1.0)?;
        within("byte_wildcards", read.byte_wildcards, 0.0, 0.9)?;
        Ok(read)
    }

    /// Node types of which some pattern matches every node.
    pub fn hot_types(&self) -> u32 {
        (self.patterns / 2).clamp(1, super::forest::HOT_TYPES_MAX)
    }

    /// Pairs that a worker has room for: (node, pattern), (tree, template), (position, pattern).
    pub fn pairs_max(&self) -> usize {
        let nodes = self.nodes as usize * self.patterns.min(4) as usize;
        let trees = 16 * self.tree_templates as usize + self.trees as usize;
        let text = 16 * self.byte_patterns as usize + self.text_bytes as usize / 16;
        nodes.max(trees).max(text) + 4096
    }

    /// Bytes that a worker has room for: instances have 105 on average, at most 1722.
    pub fn expansion_max(&self) -> usize {
        self.nodes as usize * 160 + (64 << 10)
    }

    /// Nodes of a rewritten forest: a rewrite adds one at most.
    pub fn rewritten_max(&self) -> usize {
        2 * self.nodes as usize
    }

    /// Upper bound of what shared data and `workers` copies keep resident.
    pub fn resident_bytes(&self, workers: u64) -> u64 {
        let (nodes, pool) = (u64::from(self.nodes), u64::from(self.pool));
        let roots = nodes.div_ceil(TREE_NODES as u64);
        let record = size_of::<Node>() as u64;
        let forest = nodes * (record + 4) + 4 * roots;
        let programs = 512 * u64::from(self.patterns + self.rules) + (1 << 17);
        let wording = 512 * u64::from(self.templates) + 64 * u64::from(self.texts);
        let compared = 64 * u64::from(self.trees) + 256 * u64::from(self.tree_templates);
        let scanned = u64::from(self.text_bytes) + 96 * u64::from(self.byte_patterns) + (1 << 17);
        let shared = pool * (forest + 20 * nodes + 64) + programs + wording + compared + scanned;
        let rewritten = self.rewritten_max() as u64 * record + 4 * roots;
        let own = 8 * self.pairs_max() as u64
            + self.expansion_max() as u64
            + 4 * (nodes + 1)
            + rewritten
            + (1 << 17);
        shared + workers * own
    }
}
