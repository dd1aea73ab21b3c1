//! The `knowledge_graph` component: node lookups, shortest paths and searches of a synthetic graph.

use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use super::{Arrays, Build, BuildError, Component, Operation};
use edge_file::NODES_MIN;
use generate::{EdgeSource, Given, Grid, NODES_MAX, Rmat};
use graph::Graph;
use keys::{Draws, Keys, POOL_KEYS};
use lookup::Table;
use scratch::Scratch;
use search::Search;
use worker::Worker;

mod assemble;
mod batch;
mod bfs;
mod bucket;
mod check;
mod edge_file;
mod evaluate;
mod generate;
mod graph;
mod keys;
mod lookup;
use super::pages;
mod paths;
mod planting;
mod scratch;
mod search;
#[cfg(test)]
mod tests;
mod worker;

/// Op types by their index in `Request::op`.
const OPS: &[&str] = &[
    "node_lookup",
    "path_finding",
    "bfs",
    "path_batch",
    "semantic_search",
    "semantic_search_batch",
    "approximate_search",
];
const NODE_LOOKUP: u8 = 0;
const PATH_FINDING: u8 = 1;
const BFS: u8 = 2;
const PATH_BATCH: u8 = 3;
const SEMANTIC_SEARCH: u8 = 4;
const SEMANTIC_SEARCH_BATCH: u8 = 5;
const APPROXIMATE_SEARCH: u8 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Rmat,
    Grid,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    nodes: u32,
    /// Edges per node of the R-MAT graph; the grid has two.
    edges_per_node: u32,
    graph: Shape,
    /// Where given, the graph is this file's, and `graph` and `edges_per_node` do not matter.
    file: String,
    /// Keys per lookup operation.
    lookup_batch: usize,
    search: search::Parameters,
}

impl Parameters {
    fn checked(self) -> Result<Self, BuildError> {
        let wrong = |key, problem: String| Err(BuildError::Value { key, problem });
        if !(NODES_MIN..=NODES_MAX).contains(&self.nodes) {
            let problem = format!("{} is not within {NODES_MIN}..={NODES_MAX}", self.nodes);
            return wrong("nodes", problem);
        }
        if !(1..=64).contains(&self.edges_per_node) {
            return wrong("edges_per_node", format!("{} is not in 1..=64", self.edges_per_node));
        }
        if !(1..=65_536).contains(&self.lookup_batch) {
            return wrong("lookup_batch", format!("{} is not in 1..=65536", self.lookup_batch));
        }
        Ok(self)
    }

    fn source(&self, build: &Build<'_>) -> Result<Box<dyn EdgeSource>, BuildError> {
        if !self.file.is_empty() {
            return Ok(Box::new(self.listed(build)?));
        }
        Ok(match self.graph {
            Shape::Rmat => Box::new(Rmat::new(self.nodes, self.edges_per_node, build.seed)),
            Shape::Grid => Box::new(Grid::new(self.nodes, build.seed)),
        })
    }

    /// The edges in the file, which must still be of as many nodes as was planned for.
    fn listed(&self, build: &Build<'_>) -> Result<Given, BuildError> {
        let mut edges = Vec::new();
        let progress = |share| (build.progress)("reading the graph", share);
        let size = edge_file::read(&self.file, &progress, &mut |edge| edges.push(edge))?;
        if size.nodes != self.nodes {
            let (found, planned) = (size.nodes, self.nodes);
            let problem = format!("{}: has {found} nodes now, not {planned}", self.file);
            return Err(BuildError::Value { key: "file", problem });
        }
        Ok(Given { nodes: size.nodes, edges })
    }
}

/// Nodes and edges (self-loops and repeats included) of the graph in a file.
///
/// # Errors
/// It cannot be read or is no graph: file, line and what would be right.
pub fn graph_file_size(path: &str) -> Result<(u32, u64), BuildError> {
    edge_file::size(path).map(|size| (size.nodes, size.edges))
}

/// What all workers share.
struct Shared {
    parameters: Parameters,
    graph: Graph,
    /// Edges before self-loops were dropped: what memory is planned by.
    edges_listed: u64,
    table: Table,
    keys: Keys,
    pool: Vec<u64>,
    requests: [u32; 2],
    graph_build_s: f64,
    search: Arc<Search>,
}

/// A handle on what is shared; workers hold others.
struct KnowledgeGraph {
    shared: Arc<Shared>,
}

pub fn build(parameters: &str, build: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    let parameters = serde_json::from_str::<Parameters>(parameters)?.checked()?;
    Ok(Arc::new(KnowledgeGraph { shared: Arc::new(prepare(parameters, build)?) }))
}

fn prepare(parameters: Parameters, build: &Build<'_>) -> Result<Shared, BuildError> {
    let began = Instant::now();
    let source = parameters.source(build)?;
    let edges_listed = source.count();
    let graph = assemble::assemble(&*source, build)?;
    drop(source);
    let graph_build_s = began.elapsed().as_secs_f64();
    if !(build.progress)("filling the node table", 0.0) {
        return Err(BuildError::Cancelled);
    }
    let keys = Keys::new(build.seed);
    let table = Table::new(&graph, keys, build.threads);
    let pool = keys::pool(keys, parameters.nodes, build.seed);
    let requests = Draws::stream(build.seed);
    let search = Search::build(parameters.search, build)?;
    Ok(Shared {
        parameters,
        graph,
        edges_listed,
        table,
        keys,
        pool,
        requests,
        graph_build_s,
        search,
    })
}

impl Component for KnowledgeGraph {
    fn ops(&self) -> &'static [&'static str] {
        OPS
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Worker::new(Arc::clone(&self.shared)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        let parameters = &self.shared.parameters;
        let nodes = u64::from(parameters.nodes);
        let graph = 4 * (nodes + 1) + 8 * self.shared.edges_listed + 12 * nodes;
        let shared = graph + Table::bytes(nodes) + 8 * POOL_KEYS as u64;
        let answers = 12 * parameters.lookup_batch as u64;
        let search = Search::resident_bytes(&parameters.search, workers);
        shared + search + workers as u64 * (Scratch::bytes(nodes) + answers)
    }

    fn describe(&self) -> serde_json::Value {
        let Shared { parameters, graph, graph_build_s, search, .. } = &*self.shared;
        json!({
            "file": parameters.file,
            "nodes": parameters.nodes,
            "nodes_connected": graph.connected(),
            "edges": graph.edges(),
            "degree_max": graph.degree(0),
            "graph_build_s": graph_build_s,
            "search": search.describe(),
        })
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        evaluate::evaluate(&self.shared, op, inputs)
    }
}
