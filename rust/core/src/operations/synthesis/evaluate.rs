//! The operations on given inputs, to be held against the reference.

use super::arrays::{
    forest_from, forest_to, instances_from, longs, patterns_from, rules_from, small,
    templates_from, words, wrong,
};
use super::bytes::{BytePatterns, ROUND};
use super::expansion::{Expander, STRIDE, Texts};
use super::matching::Matcher;
use super::patterns::place_of;
use super::rewriting::{Rewriter, Rewritten};
use super::sieve::MARGIN;
use super::tile::{TOKENS, Tile};
use super::tiles::TreeTemplates;
use crate::operations::instructions::InstructionSet;
use crate::operations::{Array, Arrays, BuildError, NoPause};

/// The answers of `op`.
///
/// # Errors
/// Says which input is missing, malformed or refused.
pub fn evaluate(op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
    match op {
        "match" => {
            let (forest, patterns) = (forest_from(inputs)?, patterns_from(inputs)?);
            let mut pairs = Vec::new();
            Matcher::new(patterns).run(&forest, &mut pairs, &mut NoPause);
            Ok(pairs_to(&pairs, "node", "pattern"))
        }
        "expand" => expand(inputs),
        "transform" => {
            let (forest, rules) = (forest_from(inputs)?, rules_from(inputs)?);
            let mut rewritten = Rewritten::default();
            Rewriter::new(rules).run(&forest, &mut rewritten, &mut NoPause);
            let mut arrays = forest_to(&rewritten.nodes, &rewritten.roots);
            arrays.insert("rewrites".to_owned(), Array::U64(vec![rewritten.rewrites]));
            Ok(arrays)
        }
        "template_compare" => compare(inputs),
        "byte_match" => match_bytes(inputs),
        _ => Err(wrong("op", format!("there is no op `{op}`"))),
    }
}

/// Pairs as two arrays.
fn pairs_to(pairs: &[u64], place: &str, pattern: &str) -> Arrays {
    let places = pairs.iter().map(|&pair| place_of(pair)).collect();
    let patterns = pairs.iter().map(|&pair| pair as u32).collect();
    Arrays::from([
        (place.to_owned(), Array::U32(places)),
        (pattern.to_owned(), Array::U32(patterns)),
    ])
}

fn expand(inputs: &Arrays) -> Result<Arrays, BuildError> {
    let templates = templates_from(inputs)?;
    let texts = Texts::new(words(inputs, "text_first")?, small(inputs, "text")?)
        .map_err(|problem| wrong("text_first", problem))?;
    let instances = instances_from(inputs)?;
    let most = match inputs.get("bytes_max") {
        None => u32::MAX as usize,
        Some(_) => match longs(inputs, "bytes_max")? {
            &[most] => usize::try_from(most).unwrap_or(usize::MAX),
            _ => return Err(wrong("bytes_max", "is not one u64")),
        },
    };
    let expander = Expander { templates, texts };
    let mut offsets = vec![0; instances.len() + 1];
    let length = expander
        .measure(&instances, &mut offsets, most, &mut NoPause)
        .map_err(|error| wrong("binding", error.to_string()))?;
    let mut bytes = vec![0; length + STRIDE];
    expander.write(&instances, &offsets, &mut bytes, &mut NoPause);
    bytes.truncate(length);
    Ok(Arrays::from([
        ("bytes".to_owned(), Array::U8(bytes)),
        ("offset".to_owned(), Array::U32(offsets)),
    ]))
}

fn compare(inputs: &Arrays) -> Result<Arrays, BuildError> {
    let trees = small(inputs, "trees")?;
    let (tokens, flags) = (small(inputs, "template_tokens")?, small(inputs, "template_flags")?);
    if trees.len() % TOKENS != 0 {
        return Err(wrong("trees", format!("is not a multiple of {TOKENS} long")));
    }
    if tokens.len() % TOKENS != 0 || tokens.len() != flags.len() {
        return Err(wrong("template_tokens", "does not fit template_flags"));
    }
    let templates = TreeTemplates::new(tokens, flags, trees);
    let (compare, mut pairs) = (InstructionSet::best().compare(), Vec::new());
    templates.run(compare, trees, &mut Tile::default(), &mut pairs, &mut NoPause);
    Ok(pairs_to(&pairs, "tree", "template"))
}

fn match_bytes(inputs: &Arrays) -> Result<Arrays, BuildError> {
    let (text, first) = (small(inputs, "text")?, words(inputs, "pattern_first")?);
    let (bytes, flags) = (small(inputs, "pattern_bytes")?, small(inputs, "pattern_flags")?);
    if text.len() >= u32::MAX as usize {
        return Err(wrong("text", "is too long"));
    }
    let patterns = BytePatterns::new(first, bytes, flags, text)
        .map_err(|problem| wrong("pattern_first", problem))?;
    let mut padded = text.to_vec();
    padded.resize(text.len() + MARGIN, 0);
    let (mut candidates, mut pairs) = (vec![0; ROUND], Vec::new());
    let best = InstructionSet::best();
    patterns.run(best, &padded, text.len(), &mut candidates, &mut pairs, &mut NoPause);
    Ok(pairs_to(&pairs, "position", "pattern"))
}
