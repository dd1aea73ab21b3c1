//! Checks the last answer of a worker: cheaply every time, in full for a share of the operations.
//!
//! In full are checked the first operation of a type, the 64th, the 4096th and so on, and every so
//! many between, so that short and long runs both see full checks at a bounded cost. An answer
//! counts as checked where every damage to it would have been seen: a path (which is held against
//! what its search left behind) and a batch of distances always, lookups and search trees where
//! they were checked in full.

use super::super::{Pause, Verdict};
use super::Shared;
use super::batch::NO_PATH;
use super::bfs::{self, Reached, is_set};
use super::graph::Graph;
use super::keys::mix;
use super::lookup::{MISSING, Record};
use super::paths;
use super::scratch::{Meter, Scratch};
use super::worker::{Answer, Worker};

/// One full check per so many operations of a type, and for paths one per 1 / 16 of the nodes: a
/// full check costs the time of some thousand operations there and grows with the graph.
const LOOKUPS_PER_FULL: u64 = 64;
const NODES_PER_PATH_FULL: u64 = 16;
const TREES_PER_FULL: u64 = 512;

/// One path in so many has its edges looked up, each some misses of the caches.
const PATHS_PER_EDGES: u64 = 16;

/// Keys looked at per batch that is not checked in full: one in so many.
const KEYS_ONE_IN: usize = 64;

/// Nodes of a search tree whose surroundings are checked every time.
const SAMPLED_NODES: u64 = 8;

/// Neighbours looked at around a sampled node.
const SAMPLED_NEIGHBOURS: usize = 16;

/// Checks the answer of the last operation.
pub fn verify(worker: &mut Worker, pause: &mut dyn Pause) -> Verdict {
    let Some(in_full) = next_is_full(worker) else { return Verdict::default() };
    let meter = &mut Meter::new(pause);
    let Worker { shared, scratch, .. } = worker;
    let graph = &shared.graph;
    let is_right = match worker.answer {
        Answer::None | Answer::Search => true,
        Answer::Lookup { window } => {
            let keys = &shared.pool[window..window + worker.nodes.len()];
            let stride = if in_full { 1 } else { KEYS_ONE_IN };
            lookups_are_right(shared, keys, &worker.nodes, &worker.digests, stride)
        }
        Answer::Path { from, to, length } => {
            let has_edges = in_full || worker.verified[1] % PATHS_PER_EDGES == 0;
            paths::is_as_searched(graph, (from, to), length, scratch)
                && (!has_edges || is_way(graph, &scratch.queue[..length.unwrap_or(0)]))
                && (!in_full || path_is_shortest(graph, (from, to), length, scratch, meter))
        }
        Answer::Tree { root, reached } => {
            tree_is_sound(graph, root, reached, scratch, worker.verified[2])
                && (!in_full || tree_is_valid(graph, root, reached, scratch, meter))
        }
        Answer::Distances => worker
            .pairs
            .iter()
            .zip(worker.distances)
            .all(|(&pair, distance)| distance_is_right(graph, pair, distance, scratch, meter)),
    };
    let is_sample = matches!(worker.answer, Answer::Lookup { .. } | Answer::Tree { .. });
    let checked = in_full || !is_sample || !is_right;
    Verdict { checked: u32::from(checked), violations: u32::from(!is_right) }
}

/// Counts the answer; says whether it is to be checked in full. None where there is no answer.
fn next_is_full(worker: &mut Worker) -> Option<bool> {
    let (op, one_in) = match worker.answer {
        Answer::None | Answer::Search => return None,
        Answer::Lookup { .. } => (0, LOOKUPS_PER_FULL),
        Answer::Path { .. } => (1, worker.shared.graph.nodes() as u64 / NODES_PER_PATH_FULL),
        Answer::Tree { .. } => (2, TREES_PER_FULL),
        Answer::Distances => (3, 1),
    };
    worker.verified[op] += 1;
    let ordinal = worker.verified[op];
    let is_power_of_64 = ordinal.is_power_of_two() && ordinal.trailing_zeros() % 6 == 0;
    Some(is_power_of_64 || ordinal % one_in.max(1) == 0)
}

/// Misses are misses and hits the key's own node; the record's words are what they were made of.
fn lookups_are_right(
    shared: &Shared,
    keys: &[u64],
    nodes: &[u32],
    digests: &[u64],
    stride: usize,
) -> bool {
    let count = u64::from(shared.parameters.nodes);
    let expected = |key| {
        let number = shared.keys.number(key);
        if number < count { number as u32 } else { MISSING }
    };
    let is_digest_right = |place: usize| {
        let node = nodes[place];
        let right = shared.graph.inner.get(node as usize).map_or(0, |&inner| {
            Record::new(shared.keys, node, shared.graph.degree(inner)).digest()
        });
        digests[place] == right
    };
    (0..keys.len())
        .step_by(stride)
        .all(|place| nodes[place] == expected(keys[place]) && is_digest_right(place))
}

/// The path leads over edges that exist.
fn is_way(graph: &Graph, path: &[u32]) -> bool {
    path.windows(2).all(|step| graph.has_edge(step[0], step[1]))
}

/// Its length is what a one-sided search of the whole component finds.
fn path_is_shortest(
    graph: &Graph,
    (from, to): (u32, u32),
    length: Option<usize>,
    scratch: &mut Scratch,
    meter: &mut Meter,
) -> bool {
    bfs::search(graph, from, scratch, meter);
    level_of(graph, from, to, scratch) == length.map(|length| length as u32 - 1)
}

/// The distance is the length of the path that the search from both ends finds.
fn distance_is_right(
    graph: &Graph,
    (from, to): (u32, u32),
    distance: u32,
    scratch: &mut Scratch,
    meter: &mut Meter,
) -> bool {
    let length = paths::shortest_path(graph, from, to, scratch, meter);
    distance == length.map_or(NO_PATH, |length| length as u32 - 1)
}

/// As many nodes visited as said, and a sample of them hangs on the root by edges that exist, no
/// more than one level from their neighbours.
fn tree_is_sound(
    graph: &Graph,
    root: u32,
    reached: Reached,
    scratch: &Scratch,
    ordinal: u64,
) -> bool {
    let visited: u64 = scratch.visited.iter().map(|bits| u64::from(bits.count_ones())).sum();
    if visited != reached.nodes || scratch.parents[root as usize] != root {
        return false;
    }
    (0..SAMPLED_NODES).all(|sample| {
        let draw = mix(ordinal * SAMPLED_NODES + sample) >> 32;
        let node = ((draw * graph.connected() as u64) >> 32) as u32;
        let Some(level) = level_of(graph, root, node, scratch) else {
            return !is_set(&scratch.visited, node);
        };
        graph.row(node).iter().take(SAMPLED_NEIGHBOURS).all(|&neighbour| {
            level_of(graph, root, neighbour, scratch)
                .is_some_and(|other| other.abs_diff(level) <= 1)
        })
    })
}

/// Steps from a node up to the root; None where it was not visited or does not get there.
fn level_of(graph: &Graph, root: u32, node: u32, scratch: &Scratch) -> Option<u32> {
    let mut node = node;
    for level in 0..graph.nodes() as u32 {
        if !is_set(&scratch.visited, node) {
            return None;
        }
        if node == root {
            return Some(level);
        }
        let parent = scratch.parents[node as usize];
        if !graph.has_edge(node, parent) {
            return None;
        }
        node = parent;
    }
    None
}

/// A level not yet known.
const UNKNOWN: u32 = u32::MAX;

/// The rules of Graph500 (specification 2.0, section 9): a tree without cycles, of existing edges
/// between successive levels, that spans the component, and no edge skips a level; and as many
/// arcs as said.
fn tree_is_valid(
    graph: &Graph,
    root: u32,
    reached: Reached,
    scratch: &mut Scratch,
    meter: &mut Meter,
) -> bool {
    let Scratch { visited, parents, queue: walked, lanes: [levels, ..], .. } = scratch;
    let levels: &mut [u32] = bytemuck::cast_slice_mut(levels);
    let connected = graph.connected();
    meter.fill(&mut levels[..connected], UNKNOWN);
    levels[root as usize] = 0;
    let mut arcs = 0;
    for node in (0..connected as u32).filter(|&node| is_set(visited, node)) {
        arcs += u64::from(graph.degree(node));
        meter.add(1);
        let mut height = 0;
        let mut above = node;
        while levels[above as usize] == UNKNOWN {
            if height == connected || !is_set(visited, above) {
                return false;
            }
            walked[height] = above;
            height += 1;
            above = parents[above as usize];
            if above as usize >= connected {
                return false;
            }
        }
        let base = levels[above as usize];
        for (step, &below) in (1..).zip(walked[..height].iter().rev()) {
            levels[below as usize] = base + step;
        }
    }
    arcs == reached.arcs
        && (0..connected as u32).all(|node| {
            let (row, level) = (graph.row(node), levels[node as usize]);
            meter.add(row.len());
            let hangs = level == 0
                || level == UNKNOWN
                || row.binary_search(&parents[node as usize]).is_ok();
            // Every edge once, from its smaller end: levels of the bigger ones are in a cache.
            let bigger = &row[..row.partition_point(|&neighbour| neighbour < node)];
            let apart = bigger.iter().map(|&other| levels[other as usize].abs_diff(level));
            hangs && apart.fold(0, u32::max) <= 1
        })
}
