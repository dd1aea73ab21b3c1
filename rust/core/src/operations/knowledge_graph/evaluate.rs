//! Answers for given inputs in the nodes' own numbers, to be compared with the reference.

use std::time::Instant;

use super::super::{Array, Arrays, Build, BuildError, NoPause};
use super::Shared;
use super::assemble::assemble;
use super::batch::{self, LANES, NO_PATH};
use super::bfs::{self, is_set};
use super::generate::{Listed, NODES_MAX};
use super::graph::Graph;
use super::keys::Draws;
use super::paths;
use super::scratch::{Meter, Scratch};
use super::worker::Worker;

/// The answers of one op; `graph` gives the graph itself and `inner_graph` as it is kept, `edges`
/// says which pairs have one, `assemble` gives the graph of a given edge list (and
/// `assemble_ns` the time it took), `requested_keys` and `requested_pairs` what the operation of a
/// key asks for, `path_nodes` and `bfs_parents` the answers of path_finding and
/// bfs of which more than one is right.
pub fn evaluate(shared: &Shared, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
    match op {
        "graph" => Ok(rows_of(&shared.graph)),
        "inner_graph" => Ok(inner_rows_of(&shared.graph)),
        "edges" => find_edges(shared, inputs),
        "assemble" | "assemble_ns" => assemble_given(inputs, op == "assemble_ns"),
        "requested_keys" | "requested_pairs" => requested(shared, inputs, op == "requested_keys"),
        "node_lookup" => look_up(shared, inputs),
        "path_finding" | "path_nodes" => find_paths(shared, inputs, op == "path_nodes"),
        "path_batch" => find_distances(shared, inputs),
        "bfs" | "bfs_parents" => search_all(shared, inputs, op == "bfs_parents"),
        _ => shared.search.evaluate(op, inputs),
    }
}

fn arrays<const COUNT: usize>(named: [(&str, Array); COUNT]) -> Arrays {
    named.into_iter().map(|(name, array)| (name.to_owned(), array)).collect()
}

fn missing(key: &'static str, wanted: &str) -> BuildError {
    BuildError::Value { key, problem: format!("expected an array of {wanted}") }
}

/// Nodes given by their own numbers, as inner ones.
fn nodes_of(shared: &Shared, inputs: &Arrays, key: &'static str) -> Result<Vec<u32>, BuildError> {
    let Some(Array::U32(nodes)) = inputs.get(key) else {
        return Err(missing(key, "u32"));
    };
    let inner = |&node: &u32| shared.graph.inner.get(node as usize).copied();
    nodes.iter().map(inner).collect::<Option<_>>().ok_or_else(|| BuildError::Value {
        key,
        problem: format!("a node is not below {}", shared.graph.nodes()),
    })
}

fn pairs_of(shared: &Shared, inputs: &Arrays) -> Result<Vec<(u32, u32)>, BuildError> {
    let sources = nodes_of(shared, inputs, "sources")?;
    let targets = nodes_of(shared, inputs, "targets")?;
    if sources.len() != targets.len() {
        return Err(missing("targets", "as many nodes as there are sources"));
    }
    Ok(sources.into_iter().zip(targets).collect())
}

fn rows_of(graph: &Graph) -> Arrays {
    let (offsets, neighbours) = graph.outer_rows();
    arrays([("offsets", Array::U32(offsets)), ("neighbours", Array::U32(neighbours))])
}

/// The arrays of the graph as traversals read them.
fn inner_rows_of(graph: &Graph) -> Arrays {
    let array = |values: &[u32]| Array::U32(values.to_vec());
    arrays([
        ("offsets", array(&graph.offsets)),
        ("neighbours", array(&graph.neighbours)),
        ("biggest", array(&graph.biggest)),
        ("inner", array(&graph.inner)),
        ("outer", array(&graph.outer)),
    ])
}

/// Which of the pairs `sources`, `targets` have an edge between them.
fn find_edges(shared: &Shared, inputs: &Arrays) -> Result<Arrays, BuildError> {
    let pairs = pairs_of(shared, inputs)?;
    let has_edge = |&(one, other): &(u32, u32)| u8::from(shared.graph.has_edge(one, other));
    Ok(arrays([("edges", Array::U8(pairs.iter().map(has_edge).collect()))]))
}

/// Builds the graph of `sources` and `targets`; `size` is its number of nodes and the threads.
fn assemble_given(inputs: &Arrays, only_time: bool) -> Result<Arrays, BuildError> {
    let Some(Array::U32(size)) = inputs.get("size") else {
        return Err(missing("size", "u32"));
    };
    let (Some(Array::U32(sources)), Some(Array::U32(targets)), &[nodes, threads]) =
        (inputs.get("sources"), inputs.get("targets"), &size[..])
    else {
        return Err(missing("sources", "u32, targets likewise, and a size of two numbers"));
    };
    let is_inside = sources.iter().chain(targets).all(|&node| node < nodes);
    if sources.len() != targets.len() || !is_inside || nodes > NODES_MAX {
        return Err(missing("sources", "nodes below size[0], as many as there are targets"));
    }
    let listed = Listed { nodes, sources, targets };
    let build = Build { seed: 0, threads: threads.max(1) as usize, progress: &|_, _| true };
    let began = Instant::now();
    let graph = assemble(&listed, &build)?;
    let elapsed_ns = began.elapsed().as_nanos() as u64;
    Ok(if only_time {
        arrays([("elapsed_ns", Array::U64(vec![elapsed_ns]))])
    } else {
        rows_of(&graph)
    })
}

/// The keys, or the 64 pairs of nodes (of which all ops but path_batch take the first), that the
/// operation of `key` draws.
fn requested(shared: &Shared, inputs: &Arrays, wants_keys: bool) -> Result<Arrays, BuildError> {
    let Some(&[key]) = inputs.get("key").and_then(|key| match key {
        Array::U64(key) => Some(&key[..]),
        _ => None,
    }) else {
        return Err(missing("key", "one u64"));
    };
    if wants_keys {
        let batch = shared.parameters.lookup_batch;
        let window = Draws::new(shared.requests, key).window(batch);
        let keys = shared.pool[window..window + batch].to_vec();
        return Ok(arrays([("keys", Array::U64(keys))]));
    }
    let outer = |node: u32| shared.graph.outer[node as usize];
    let (sources, targets) = (0..LANES as u32)
        .map(|lane| Worker::pair(shared, key, lane))
        .map(|(from, to)| (outer(from), outer(to)))
        .unzip();
    Ok(arrays([("sources", Array::U32(sources)), ("targets", Array::U32(targets))]))
}

fn look_up(shared: &Shared, inputs: &Arrays) -> Result<Arrays, BuildError> {
    let Some(Array::U64(keys)) = inputs.get("keys") else {
        return Err(missing("keys", "u64"));
    };
    let (mut nodes, mut digests) = (vec![0; keys.len()], vec![0; keys.len()]);
    shared.table.find_all(keys, &mut nodes, &mut digests);
    Ok(arrays([("nodes", Array::U32(nodes)), ("digests", Array::U64(digests))]))
}

fn find_paths(shared: &Shared, inputs: &Arrays, with_nodes: bool) -> Result<Arrays, BuildError> {
    let graph = &shared.graph;
    let mut scratch = Scratch::new(graph.nodes());
    let mut pause = NoPause;
    let mut meter = Meter::new(&mut pause);
    let (mut lengths, mut offsets, mut nodes) = (Vec::new(), vec![0], Vec::new());
    for (from, to) in pairs_of(shared, inputs)? {
        let length = paths::shortest_path(graph, from, to, &mut scratch, &mut meter);
        lengths.push(length.map_or(NO_PATH, |length| length as u32 - 1));
        let path = &scratch.queue[..length.unwrap_or(0)];
        nodes.extend(path.iter().map(|&node| graph.outer[node as usize]));
        offsets.push(nodes.len() as u32);
    }
    Ok(if with_nodes {
        arrays([("offsets", Array::U32(offsets)), ("nodes", Array::U32(nodes))])
    } else {
        arrays([("lengths", Array::U32(lengths))])
    })
}

fn find_distances(shared: &Shared, inputs: &Arrays) -> Result<Arrays, BuildError> {
    let pairs = pairs_of(shared, inputs)?;
    let mut scratch = Scratch::new(shared.graph.nodes());
    let mut pause = NoPause;
    let mut meter = Meter::new(&mut pause);
    let mut lengths = vec![NO_PATH; pairs.len()];
    for (pairs, lengths) in pairs.chunks(LANES).zip(lengths.chunks_mut(LANES)) {
        batch::distances(&shared.graph, pairs, lengths, &mut scratch, &mut meter);
    }
    Ok(arrays([("lengths", Array::U32(lengths))]))
}

/// Levels by node (or parents), `u32::MAX` for nodes not reached.
fn search_all(shared: &Shared, inputs: &Arrays, with_parents: bool) -> Result<Arrays, BuildError> {
    let graph = &shared.graph;
    let [root] = nodes_of(shared, inputs, "root")?[..] else {
        return Err(missing("root", "one u32"));
    };
    let mut scratch = Scratch::new(graph.nodes());
    let mut pause = NoPause;
    bfs::search(graph, root, &mut scratch, &mut Meter::new(&mut pause));
    let mut answer = vec![NO_PATH; graph.nodes()];
    for inner in (0..graph.nodes() as u32).filter(|&node| is_set(&scratch.visited, node)) {
        let parent = scratch.parents[inner as usize];
        let outer = graph.outer[inner as usize] as usize;
        answer[outer] = if with_parents {
            graph.outer[parent as usize]
        } else {
            let up = |&node: &u32| (node != root).then(|| scratch.parents[node as usize]);
            std::iter::successors(Some(inner), up).count() as u32 - 1
        };
    }
    let name = if with_parents { "parents" } else { "levels" };
    Ok(arrays([(name, Array::U32(answer))]))
}
