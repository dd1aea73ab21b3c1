//! Synthesis: patterns matched against syntax trees, templates expanded, trees rewritten.
//!
//! Three operations are the workload: `match` finds every (node, pattern) pair of a forest,
//! `expand` turns templates into bytes, `transform` rewrites a forest by rules. Two more are the
//! same questions in the forms that libraries answer: `template_compare` on linearised trees and
//! `byte_match` on text.

use std::sync::Arc;

use serde_json::json;

use crate::operations::instructions::InstructionSet;
use crate::operations::{Arrays, Build, BuildError, Component, Operation};

mod arrays;
mod bytes;
mod counters;
mod evaluate;
mod expansion;
mod expected;
mod filter;
mod forest;
mod index;
mod matching;
mod pairs;
mod parameters;
mod patterns;
mod rewriting;
mod rules;
mod sieve;
mod tables;
#[cfg(test)]
mod tests;
mod tile;
mod tiles;
mod tokens;
mod worker;

use bytes::BytePatterns;
use counters::Totals;
use expansion::{Expander, Instance, Templates, Texts};
use expected::Expected;
use forest::{Forest, Recipe};
use matching::Matcher;
use parameters::Parameters;
use patterns::Patterns;
use rewriting::Rewriter;
use rules::Rules;
use tiles::TreeTemplates;
use worker::Worker;

/// The order of `OPS`.
mod op {
    pub const MATCH: u8 = 0;
    pub const EXPAND: u8 = 1;
    pub const TRANSFORM: u8 = 2;
    pub const TEMPLATE_COMPARE: u8 = 3;
    pub const BYTE_MATCH: u8 = 4;
}
const OPS: [&str; 5] = ["match", "expand", "transform", "template_compare", "byte_match"];

/// What all workers read.
pub struct Shared {
    parameters: Parameters,
    seed: u64,
    forests: Vec<Forest>,
    matcher: Matcher,
    rewriter: Rewriter,
    expander: Expander,
    instances: Vec<Vec<Instance>>,
    trees: Vec<u8>,
    /// Tokens and flags of the templates as they were generated.
    tree_tokens: (Vec<u8>, Vec<u8>),
    tree_templates: TreeTemplates,
    text: Vec<u8>,
    /// Starts, bytes and flags of the byte patterns as they were generated.
    byte_demands: (Vec<u32>, Vec<u8>, Vec<u8>),
    byte_patterns: BytePatterns,
    expected: Expected,
    totals: Totals,
}

struct Synthesis {
    shared: Arc<Shared>,
}

/// Builds the component: generates forests, patterns, rules, templates and texts, indexes them and
/// computes what every operation must answer.
///
/// # Errors
/// Parameters out of bounds, more answers than buffers hold, or cancelled.
pub fn build(parameters: &str, context: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    let mut shared = generate(Parameters::parse(parameters)?, context)?;
    shared.expected = Expected::new(&shared, context)?;
    Ok(Arc::new(Synthesis { shared: Arc::new(shared) }))
}

fn generate(parameters: Parameters, context: &Build<'_>) -> Result<Shared, BuildError> {
    let seed = context.seed;
    let recipe = Recipe::new(&parameters, seed);
    let (mut forests, mut instances) = (Vec::new(), Vec::new());
    for index in 0..parameters.pool {
        forests.push(recipe.forest(index));
        let Parameters { nodes, templates, texts, .. } = parameters;
        instances.push(expansion::instances(seed, index, nodes, templates, texts));
        if !(context.progress)("requests", f64::from(index + 1) / f64::from(parameters.pool)) {
            return Err(BuildError::Cancelled);
        }
    }
    let patterns = Patterns::generate(&recipe, &forests[0], seed, parameters.patterns);
    let rules = Rules::generate(&recipe, &forests[0], seed, parameters.rules);
    let trees = tiles::generate_trees(seed, parameters.trees);
    let tree_tokens = tiles::generate_templates(seed, &trees, parameters.tree_templates);
    let text = bytes::generate_text(seed, parameters.text_bytes);
    let letters = &text[..parameters.text_bytes as usize];
    let byte_demands = bytes::generate_patterns(
        seed,
        letters,
        parameters.byte_patterns,
        parameters.byte_wildcards,
    );
    let (first, demanded, flags) = &byte_demands;
    let byte_patterns = BytePatterns::new(first, demanded, flags, letters)
        .map_err(|problem| BuildError::Value { key: "byte_patterns", problem })?;
    Ok(Shared {
        seed,
        matcher: Matcher::new(patterns),
        rewriter: Rewriter::new(rules),
        expander: Expander {
            templates: Templates::generate(seed, parameters.templates),
            texts: Texts::generate(seed, parameters.texts),
        },
        forests,
        instances,
        tree_templates: TreeTemplates::new(&tree_tokens.0, &tree_tokens.1, &trees),
        tree_tokens,
        trees,
        text,
        byte_patterns,
        byte_demands,
        expected: Expected::default(),
        totals: Totals::default(),
        parameters,
    })
}

impl Shared {
    /// Bytes that the shared data hold.
    fn held_bytes(&self) -> usize {
        let forests = self.forests.iter().map(Forest::held_bytes).sum::<usize>();
        let instances = self.instances.iter().map(|each| size_of_val(each.as_slice()));
        let (first, demanded, flags) = &self.byte_demands;
        let places = self.matcher.patterns.held_bytes() + self.rewriter.held_bytes();
        forests
            + instances.sum::<usize>()
            + places
            + self.matcher.index.held_bytes()
            + self.expander.templates.held_bytes()
            + self.expander.texts.held_bytes()
            + self.trees.len()
            + self.tree_tokens.0.len()
            + self.tree_tokens.1.len()
            + self.tree_templates.held_bytes()
            + self.text.len()
            + 4 * first.len()
            + demanded.len()
            + flags.len()
            + self.byte_patterns.held_bytes()
    }

    /// Which request of the pool the operation `key` is.
    fn index_of(&self, key: u64) -> usize {
        let step = (key & ((1 << 48) - 1)).wrapping_add((key >> 48) * 7);
        (step % self.forests.len() as u64) as usize
    }
}

impl Component for Synthesis {
    fn ops(&self) -> &'static [&'static str] {
        &OPS
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Worker::new(Arc::clone(&self.shared)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        self.shared.parameters.resident_bytes(workers as u64)
    }

    fn describe(&self) -> serde_json::Value {
        let shared = &self.shared;
        let [cells, tables, listed] = shared.matcher.index.sizes();
        let mean = |total: u64| total as f64 / shared.forests.len() as f64;
        let expected = &shared.expected;
        json!({
            "index": {"cells": cells, "tables": tables, "listed": listed,
                      "bytes": shared.matcher.index.held_bytes()},
            "shared_bytes": shared.held_bytes(),
            "instructions": InstructionSet::best().name(),
            "pairs": mean(expected.matches.iter().map(|digest| digest.pairs).sum()),
            "expanded_bytes": mean(expected.expansions.iter().map(|digest| digest.bytes).sum()),
            "rewrites": mean(expected.rewrites.iter().map(|digest| digest.rewrites).sum()),
            "template_pairs": expected.templates.pairs,
            "byte_pairs": expected.bytes.pairs,
        })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.totals.read()
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        if let Some(op) = op.strip_suffix("_inputs") {
            return self.shared.inputs(op, inputs);
        }
        if let Some(op) = op.strip_suffix("_tables") {
            return tables::tables(op, inputs);
        }
        evaluate::evaluate(op, inputs)
    }
}
