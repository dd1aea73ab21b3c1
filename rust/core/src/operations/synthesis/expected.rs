//! What every operation of a component must answer, as digests of the definitions' own answers.
//!
//! They are computed while the component is built, by code that shares nothing with the fast paths
//! but the data; an operation is checked by the digest of all that it wrote.

use super::Shared;
use super::expansion::{Expander, Instance};
use super::forest::Node;
use super::matching::PairDigest;
use super::patterns::pair;
use super::rewriting::{flattened, rewrite_plainly};
use super::tile::TOKENS;
use crate::operations::checksum::Running;
use crate::operations::{Build, BuildError, NoPause, Pause};

/// What is summed up between two pauses, each about 50 µs; nodes in whole groups of four, bytes in
/// whole stripes of the checksum.
const PAUSE_NODES: usize = 1 << 15;
const PAUSE_BYTES: usize = 1 << 19;

fn checksum(bytes: &[u8], pause: &mut dyn Pause) -> u64 {
    let mut running = Running::new();
    for piece in bytes.chunks(PAUSE_BYTES) {
        running.absorb(piece);
        pause.point();
    }
    running.finish()
}

/// Length and checksum of an expansion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpansionDigest {
    pub bytes: u64,
    checksum: u64,
}

impl ExpansionDigest {
    pub fn of(bytes: &[u8], pause: &mut dyn Pause) -> Self {
        Self { bytes: bytes.len() as u64, checksum: checksum(bytes, pause) }
    }

    fn plainly(expander: &Expander, instances: &[Instance]) -> Self {
        let mut bytes = Vec::new();
        for instance in instances {
            expander.expand_plainly(instance, &mut bytes);
        }
        Self::of(&bytes, &mut NoPause)
    }
}

/// Rewrites done, and a checksum over nodes, links and roots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RewriteDigest {
    pub rewrites: u64,
    pub nodes: u64,
    folded: u64,
    roots: u64,
}

impl RewriteDigest {
    pub fn of(nodes: &[Node], roots: &[u32], rewrites: u64, pause: &mut dyn Pause) -> Self {
        // Lanes, since the steps of one fold wait for each other.
        let mut lanes = [PairDigest::default(); 8];
        for chunk in nodes.chunks(PAUSE_NODES) {
            for group in chunk.chunks(4) {
                for (pair, node) in lanes.chunks_exact_mut(2).zip(group) {
                    let words = node.words();
                    pair[0].add(words[0]);
                    pair[1].add(words[1]);
                }
            }
            pause.point();
        }
        let mut folded = PairDigest::default();
        lanes.iter().for_each(|lane| folded.add(lane.folded));
        Self {
            rewrites,
            nodes: nodes.len() as u64,
            folded: folded.folded,
            roots: checksum(bytemuck::cast_slice(roots), pause),
        }
    }
}

/// The digests, one for each request of the pool where there are several.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub matches: Vec<PairDigest>,
    pub expansions: Vec<ExpansionDigest>,
    pub rewrites: Vec<RewriteDigest>,
    pub templates: PairDigest,
    pub bytes: PairDigest,
}

impl Expected {
    /// All digests; refuses what a worker has no room for.
    ///
    /// # Errors
    /// Cancelled, or more answers than a worker's buffers hold.
    pub fn new(shared: &Shared, context: &Build<'_>) -> Result<Self, BuildError> {
        let mut made = Self {
            templates: templates_plainly(shared),
            bytes: bytes_plainly(shared),
            ..Self::default()
        };
        let pool = shared.forests.len();
        for (index, forest) in shared.forests.iter().enumerate() {
            let mut digest = PairDigest::default();
            shared.matcher.run_plainly(forest, |pair| digest.add(pair));
            made.matches.push(digest);
            let instances = &shared.instances[index];
            made.expansions.push(ExpansionDigest::plainly(&shared.expander, instances));
            let (trees, rewrites) = rewrite_plainly(&shared.rewriter.rules, forest);
            let (nodes, roots) = flattened(&trees);
            made.rewrites.push(RewriteDigest::of(&nodes, &roots, rewrites, &mut NoPause));
            if !(context.progress)("answers", (index + 1) as f64 / pool as f64) {
                return Err(BuildError::Cancelled);
            }
        }
        made.fits(shared)?;
        Ok(made)
    }

    fn fits(&self, shared: &Shared) -> Result<(), BuildError> {
        let parameters = &shared.parameters;
        let room = |key, found: u64, most: usize| {
            if found <= most as u64 {
                return Ok(());
            }
            let problem = format!("an answer of {found} is above the {most} of a worker's buffer");
            Err(BuildError::Value { key, problem })
        };
        let pairs = self.matches.iter().map(|digest| digest.pairs).max().unwrap_or(0);
        let bytes = self.expansions.iter().map(|digest| digest.bytes).max().unwrap_or(0);
        let nodes = self.rewrites.iter().map(|digest| digest.nodes).max().unwrap_or(0);
        room("patterns", pairs, parameters.pairs_max())?;
        room("templates", bytes, parameters.expansion_max())?;
        room("rules", nodes, parameters.rewritten_max())?;
        room("tree_templates", self.templates.pairs, parameters.pairs_max())?;
        room("byte_patterns", self.bytes.pairs, parameters.pairs_max())
    }
}

fn templates_plainly(shared: &Shared) -> PairDigest {
    let (tokens, flags) = &shared.tree_tokens;
    let demanded: Vec<Vec<(usize, u8)>> = tokens
        .chunks_exact(TOKENS)
        .zip(flags.chunks_exact(TOKENS))
        .map(|(tokens, flags)| {
            (0..TOKENS).filter(|&at| flags[at] != 0).map(|at| (at, tokens[at])).collect()
        })
        .collect();
    let mut digest = PairDigest::default();
    for (number, tree) in shared.trees.chunks_exact(TOKENS).enumerate() {
        for (template, demanded) in demanded.iter().enumerate() {
            if demanded.iter().all(|&(position, token)| tree[position] == token) {
                digest.add(pair(number as u32, template as u32));
            }
        }
    }
    digest
}

fn bytes_plainly(shared: &Shared) -> PairDigest {
    let (first, bytes, flags) = &shared.byte_demands;
    let text = &shared.text[..shared.parameters.text_bytes as usize];
    // Generated patterns demand their first two bytes: only those that begin so are compared.
    let mut beginning: Vec<Vec<u32>> = vec![Vec::new(); 1 << 16];
    for (pattern, ends) in first.windows(2).enumerate() {
        let start = ends[0] as usize;
        let pair = u16::from_le_bytes([bytes[start], bytes[start + 1]]);
        beginning[usize::from(pair)].push(pattern as u32);
    }
    let mut digest = PairDigest::default();
    for (position, two) in text.windows(2).enumerate() {
        for &pattern in &beginning[usize::from(u16::from_le_bytes([two[0], two[1]]))] {
            let range = first[pattern as usize] as usize..first[pattern as usize + 1] as usize;
            let here = text.get(position..position + range.len());
            let demands = bytes[range.clone()].iter().zip(&flags[range]);
            let occurs = here.is_some_and(|here| {
                here.iter()
                    .zip(demands)
                    .all(|(byte, (demanded, &flag))| flag == 0 || byte == demanded)
            });
            if occurs {
                digest.add(pair(position as u32, pattern));
            }
        }
    }
    digest
}
