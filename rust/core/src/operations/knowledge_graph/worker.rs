//! One worker's operations: draws what to ask for, runs it, keeps the answer for `verify`.

use std::sync::Arc;

use super::super::{Completion, Fault, Operation, Pause, Request, Status, Verdict};
use super::batch::{self, LANES, NO_PATH};
use super::bfs::{self, Reached};
use super::check;
use super::keys::Draws;
use super::lookup::MISSING;
use super::paths;
use super::scratch::{Meter, Scratch};
use super::search::{SearchKind, SearchOperation};
use super::{
    APPROXIMATE_SEARCH, BFS, NODE_LOOKUP, PATH_BATCH, PATH_FINDING, SEMANTIC_SEARCH,
    SEMANTIC_SEARCH_BATCH, Shared,
};

/// The last answer, beside what `Worker` holds in arrays.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    None,
    /// `nodes` and `digests` of the keys in the pool from `window` on.
    Lookup {
        window: usize,
    },
    /// The path is in `scratch.queue[..length]`.
    Path {
        from: u32,
        to: u32,
        length: Option<usize>,
    },
    /// The tree is in `scratch.parents` and `scratch.visited`.
    Tree {
        root: u32,
        reached: Reached,
    },
    /// `distances` of `pairs`.
    Distances,
    /// The answers are in `search`.
    Search,
}

/// A worker's copy of the component.
pub struct Worker {
    pub shared: Arc<Shared>,
    pub scratch: Scratch,
    pub nodes: Vec<u32>,
    pub digests: Vec<u64>,
    pub pairs: [(u32, u32); LANES],
    pub distances: [u32; LANES],
    pub search: SearchOperation,
    pub answer: Answer,
    /// Operations of each type verified so far.
    pub verified: [u64; 4],
    /// Answers damaged so far.
    pub planted: u64,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        let scratch = Scratch::new(shared.graph.nodes());
        let batch = shared.parameters.lookup_batch;
        let search = shared.search.operation();
        Self {
            shared,
            scratch,
            nodes: vec![MISSING; batch],
            digests: vec![0; batch],
            pairs: [(0, 0); LANES],
            distances: [NO_PATH; LANES],
            search,
            answer: Answer::None,
            verified: [0; 4],
            planted: 0,
        }
    }

    /// The inner numbers of the two nodes that `lane` of an operation asks for.
    pub fn pair(shared: &Shared, key: u64, lane: u32) -> (u32, u32) {
        let graph = &shared.graph;
        let connected = graph.connected() as u32;
        let (from, to) = Draws::new(shared.requests, key).pair(
            lane,
            shared.parameters.nodes,
            |node| graph.inner[node as usize] < connected,
            graph.outer[0],
        );
        (graph.inner[from as usize], graph.inner[to as usize])
    }

    fn look_up(&mut self, key: u64) -> u64 {
        let batch = self.nodes.len();
        let window = Draws::new(self.shared.requests, key).window(batch);
        let keys = &self.shared.pool[window..window + batch];
        self.shared.table.find_all(keys, &mut self.nodes, &mut self.digests);
        self.answer = Answer::Lookup { window };
        batch as u64
    }

    fn find_path(&mut self, key: u64, meter: &mut Meter<'_>) -> u64 {
        let (from, to) = Self::pair(&self.shared, key, 0);
        let length = paths::shortest_path(&self.shared.graph, from, to, &mut self.scratch, meter);
        self.answer = Answer::Path { from, to, length };
        1
    }

    /// Counts undirected edges of the component, as Graph500 does, not queries.
    fn search_all(&mut self, key: u64, meter: &mut Meter<'_>) -> u64 {
        let (root, _) = Self::pair(&self.shared, key, 0);
        let reached = bfs::search(&self.shared.graph, root, &mut self.scratch, meter);
        self.answer = Answer::Tree { root, reached };
        reached.arcs / 2
    }

    fn find_distances(&mut self, key: u64, meter: &mut Meter<'_>) -> u64 {
        for (lane, pair) in (0..).zip(&mut self.pairs) {
            *pair = Self::pair(&self.shared, key, lane);
        }
        let Self { shared, pairs, distances, scratch, .. } = self;
        batch::distances(&shared.graph, pairs, distances, scratch, meter);
        self.answer = Answer::Distances;
        LANES as u64
    }
}

fn search_kind(op: u8) -> Option<SearchKind> {
    match op {
        SEMANTIC_SEARCH => Some(SearchKind::Single),
        SEMANTIC_SEARCH_BATCH => Some(SearchKind::Batch),
        APPROXIMATE_SEARCH => Some(SearchKind::Approximate),
        _ => None,
    }
}

impl Operation for Worker {
    fn run(&mut self, request: Request, pause: &mut dyn Pause) -> Completion {
        if let Some(kind) = search_kind(request.op) {
            self.answer = Answer::Search;
            return self.search.run(kind, request.key, pause);
        }
        let mut meter = Meter::new(pause);
        let units = match request.op {
            NODE_LOOKUP => self.look_up(request.key),
            PATH_FINDING => self.find_path(request.key, &mut meter),
            BFS => self.search_all(request.key, &mut meter),
            PATH_BATCH => self.find_distances(request.key, &mut meter),
            _ => return Completion { status: Status::Error, units: 0 },
        };
        Completion { status: Status::Ok, units }
    }

    fn plant(&mut self, fault: Fault) -> bool {
        self.damage(fault)
    }

    fn verify(&mut self, pause: &mut dyn Pause) -> Verdict {
        match self.answer {
            Answer::Search => self.search.verify(pause),
            _ => check::verify(self, pause),
        }
    }
}
