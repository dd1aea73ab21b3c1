//! Semantic search: exact and approximate top-k by cosine over embeddings, on the CPU.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

mod check;
mod cluster;
mod codes;
mod embeddings;
mod index;
mod kernels;
#[cfg(target_arch = "x86_64")]
mod kernels_avx2;
#[cfg(all(target_arch = "x86_64", avx512_intrinsics))]
#[allow(clippy::incompatible_msrv, reason = "build.rs leaves it out before Rust 1.89")]
mod kernels_avx512;
mod near;
mod operation;
mod parallel;
mod scan;
#[cfg(test)]
pub mod tests;
mod top;

use self::embeddings::{Generator, Source};
use self::index::Index;
use self::kernels::Kernels;
use self::parallel::Stop;
use self::scan::{Scan, Scratch, Slot};
use crate::operations::{Array, Arrays, Build, BuildError, NoPause};

pub use self::operation::{SearchKind, SearchOperation};

/// Held-out queries that the recall of the approximate search is measured on.
const RECALL_QUERIES: u32 = 128;

/// The request key of those queries (a lane that no schedule uses).
const RECALL_KEY: u64 = u64::MAX;

/// How vectors are kept, and so what is searched.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// The vectors as generated, beside their codes.
    Fp32,
    /// Vectors rounded to half precision, beside their codes.
    Fp16,
    /// Vectors rounded to 8 bits a component; the codes are the vectors.
    Int8,
}

impl Storage {
    /// Bytes of a component that is kept beside its code.
    fn bytes(self) -> u64 {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 => 2,
            Self::Int8 => 0,
        }
    }
}

/// Sizes of the search part of the knowledge graph.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    pub vectors: u32,
    /// A multiple of 8.
    pub dims: u32,
    /// Clusters that the vectors are drawn around.
    pub clusters: u32,
    pub storage: Storage,
    /// Inverted lists of the index.
    pub lists: u32,
    /// Lists that the approximate search looks into.
    pub probes: u32,
    /// Queries of a batched search.
    pub batch: u32,
    /// How many are asked for.
    pub top: u32,
    /// One operation in so many is checked against a scan of all vectors in float64.
    pub full_check_one_in: u32,
}

impl Parameters {
    fn checked(self) -> Result<Self, BuildError> {
        let within = |key, value: u32, low: u32, high: u32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(BuildError::Value { key, problem: format!("{value} is not in {low}..={high}") })
        };
        within("search.vectors", self.vectors, 1, 100_000_000)?;
        within("search.dims", self.dims, 8, 4096)?;
        within("search.clusters", self.clusters, 1, 1_000_000)?;
        within("search.lists", self.lists, 1, self.vectors.min(65_536))?;
        within("search.probes", self.probes, 1, self.lists)?;
        within("search.batch", self.batch, 1, 1024)?;
        within("search.top", self.top, 1, 1024)?;
        within("search.full_check_one_in", self.full_check_one_in, 1, u32::MAX)?;
        if self.dims % codes::LINE_DIMS as u32 != 0 {
            let problem = format!("{} is not a multiple of {}", self.dims, codes::LINE_DIMS);
            return Err(BuildError::Value { key: "search.dims", problem });
        }
        Ok(self)
    }
}

/// The vectors of one seed, indexed.
pub struct Search {
    parameters: Parameters,
    source: Source,
    index: Index,
    recall: f64,
}

impl Search {
    /// Generates, clusters and lays out the vectors, and measures the recall.
    ///
    /// # Errors
    /// A size out of its range, or cancelled.
    pub fn build(parameters: Parameters, context: &Build<'_>) -> Result<Arc<Self>, BuildError> {
        let parameters = parameters.checked()?;
        let dims = parameters.dims as usize;
        let source = Source::Seeded(Generator::new(context.seed, dims, parameters.clusters));
        let kernels = Kernels::best();
        let mut search = Self::over(source, parameters, kernels, context)?;
        search.recall = search.measured_recall();
        Ok(Arc::new(search))
    }

    fn over(
        source: Source,
        parameters: Parameters,
        kernels: Kernels,
        context: &Build<'_>,
    ) -> Result<Self, BuildError> {
        let stop = Stop::new(context.progress);
        let index = Index::new(&source, &parameters, kernels, context.threads, &stop)
            .ok_or(BuildError::Cancelled)?;
        Ok(Self { parameters, source, index, recall: 1.0 })
    }

    /// A worker's copy.
    #[must_use]
    pub fn operation(self: &Arc<Self>) -> SearchOperation {
        SearchOperation::new(Arc::clone(self))
    }

    /// Bytes kept resident by a search of these sizes, an upper bound within a few percent.
    #[must_use]
    pub fn resident_bytes(parameters: &Parameters, workers: usize) -> u64 {
        let (vectors, dims) = (u64::from(parameters.vectors), u64::from(parameters.dims));
        let lists = u64::from(parameters.lists);
        let places = (vectors.div_ceil(codes::TILE as u64) + lists) * codes::TILE as u64;
        let row_bytes = parameters.storage.bytes() * dims;
        let slot_bytes = 5 * dims + 16 * u64::from(parameters.top) + 128;
        let worker = Scratch::bytes(128, lists, dims)
            + u64::from(parameters.batch) * slot_bytes
            + 8 * dims
            + 32 * u64::from(parameters.top);
        places * (dims + row_bytes + 4 + 8)
            + Generator::bytes(u64::from(parameters.clusters), dims)
            + cluster::Centroids::bytes(lists, dims)
            + lists * size_of::<index::List>() as u64
            + worker * workers as u64
    }

    /// Facts established while building.
    #[must_use]
    pub fn describe(&self) -> serde_json::Value {
        let worst = |residual: fn(&index::List) -> f64| {
            self.index.lists.iter().map(residual).fold(0.0, f64::max)
        };
        json!({
            "vectors": self.parameters.vectors,
            "dims": self.parameters.dims,
            "storage": self.parameters.storage,
            "lists": self.index.lists.len(),
            "probes": self.parameters.probes,
            "kernels": self.index.kernels.name(),
            "scanned_bytes_per_query": self.index.high.len() * size_of::<codes::Line>(),
            "residual_4bit_max": worst(|list| list.high_residual),
            "residual_8bit_max": worst(|list| list.full_residual),
            "exact_recall": 1.0,
            "approximate_recall_at_top": self.recall,
            "recall_queries": RECALL_QUERIES,
        })
    }

    /// Share of the exact answers that the approximate search finds on held-out queries.
    fn measured_recall(&self) -> f64 {
        let mut scratch = Scratch::new(&self.index);
        let mut scan = Scan { index: &self.index, scratch: &mut scratch };
        let (dims, limit) = (self.index.dims, self.parameters.top as usize);
        let mut exact = vec![Slot::new(dims, limit); RECALL_QUERIES as usize];
        for (member, slot) in exact.iter_mut().enumerate() {
            self.query(RECALL_KEY, member as u32, &mut slot.row);
        }
        let mut approximate = exact.clone();
        scan.exact(&mut exact, &mut NoPause);
        let (mut found, mut wanted) = (0, 0);
        for (exact, slot) in exact.iter().zip(&mut approximate) {
            scan.approximate(slot, self.parameters.probes as usize, &mut NoPause);
            wanted += exact.top.found().len();
            found += exact.top.found().iter().filter(|one| slot.top.found().contains(one)).count();
        }
        found as f64 / wanted as f64
    }

    /// A vector as its source gives it now, whatever memory holds.
    fn regenerate(&self, id: u32, out: &mut [f32]) {
        self.source.vector(id, self.parameters.storage, out);
    }

    /// The query of a request; a source of given vectors has none of its own.
    fn query(&self, key: u64, member: u32, out: &mut [f32]) {
        match &self.source {
            Source::Seeded(generator) => generator.query(key, member, out),
            Source::Given(_) => out.fill(0.0),
        }
    }

    /// The answers for given `queries` (f32, row after row) over the built vectors, or over
    /// `vectors` (f32) where they are given: `ids` (u32) and `scores` (f64), `top` a query. The op
    /// `embeddings` gives the built `vectors` themselves, by their `ids` (u32) or by a `range`
    /// (u32) of the first and how many; `requested_queries` the `queries` of a batch of `key`.
    /// The op `lists` gives the index: `ids` list after list, where each of them `starts`, and the
    /// `centroids` as words of four signed bytes.
    ///
    /// # Errors
    /// No or wrongly sized inputs, or no such op.
    pub fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        if op == "embeddings" {
            return self.vectors(inputs);
        }
        if op == "requested_queries" {
            return self.requested(inputs);
        }
        if op == "lists" {
            return match rows(inputs, "vectors", self.index.dims)? {
                None => Ok(self.lists()),
                Some(vectors) => Ok(self.given(vectors)?.lists()),
            };
        }
        let kind =
            SearchKind::named(op).ok_or_else(|| wrong("op", format!("there is no op `{op}`")))?;
        let queries = rows(inputs, "queries", self.index.dims)?
            .ok_or_else(|| wrong("queries", "missing".to_owned()))?;
        match rows(inputs, "vectors", self.index.dims)? {
            None => Ok(self.answers(kind, queries)),
            Some(vectors) => Ok(self.given(vectors)?.answers(kind, queries)),
        }
    }

    fn vectors(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let expected =
            || wrong("range", "expected the first vector and how many, or ids, u32".to_owned());
        let ids: Vec<u32> = match (inputs.get("ids"), inputs.get("range")) {
            (Some(Array::U32(ids)), None) => ids.clone(),
            (None, Some(Array::U32(range))) => {
                let &[first, count] = range.as_slice() else { return Err(expected()) };
                let end = first.checked_add(count).filter(|&end| end <= self.parameters.vectors);
                (first..end.ok_or_else(expected)?).collect()
            }
            _ => return Err(expected()),
        };
        if ids.iter().any(|&id| id >= self.parameters.vectors) {
            return Err(expected());
        }
        let mut rows = vec![0.0; ids.len() * self.index.dims];
        for (&id, row) in ids.iter().zip(rows.chunks_exact_mut(self.index.dims)) {
            self.regenerate(id, row);
        }
        Ok(Arrays::from([("vectors".to_owned(), Array::F32(rows))]))
    }

    /// The queries of a batch of the request `key`; the first is that of a single search.
    fn requested(&self, inputs: &Arrays) -> Result<Arrays, BuildError> {
        let Some(&[key]) = inputs.get("key").and_then(|key| match key {
            Array::U64(key) => Some(&key[..]),
            _ => None,
        }) else {
            return Err(wrong("key", "expected one u64".to_owned()));
        };
        let mut rows = vec![0.0; self.parameters.batch as usize * self.index.dims];
        for (member, row) in (0..).zip(rows.chunks_exact_mut(self.index.dims)) {
            self.query(key, member, row);
        }
        Ok(Arrays::from([("queries".to_owned(), Array::F32(rows))]))
    }

    fn lists(&self) -> Arrays {
        let (mut starts, mut ids) = (vec![0], Vec::with_capacity(self.index.ids.len()));
        for list in &self.index.lists {
            let first = list.tiles.start * codes::TILE;
            ids.extend_from_slice(&self.index.ids[first..first + list.count]);
            starts.push(ids.len() as u32);
        }
        let centroids = self.index.centroids.words().to_vec();
        Arrays::from([
            ("ids".to_owned(), Array::U32(ids)),
            ("starts".to_owned(), Array::U32(starts)),
            ("centroids".to_owned(), Array::I32(centroids)),
        ])
    }

    /// The same search over other vectors.
    fn given(&self, vectors: &[f32]) -> Result<Self, BuildError> {
        let count = vectors.len() / self.index.dims;
        let mut parameters = self.parameters;
        parameters.vectors =
            u32::try_from(count).map_err(|_| wrong("vectors", "more than 2^32".to_owned()))?;
        parameters.lists = parameters.lists.min(parameters.vectors);
        parameters.probes = parameters.probes.min(parameters.lists);
        let context = Build { seed: 0, threads: 1, progress: &|_, _| true };
        let source = Source::Given(vectors.to_vec());
        Self::over(source, parameters.checked()?, self.index.kernels, &context)
    }

    fn answers(&self, kind: SearchKind, queries: &[f32]) -> Arrays {
        let mut scratch = Scratch::new(&self.index);
        let mut scan = Scan { index: &self.index, scratch: &mut scratch };
        let dims = self.index.dims;
        let mut slots = vec![Slot::new(dims, self.parameters.top as usize); queries.len() / dims];
        for (slot, query) in slots.iter_mut().zip(queries.chunks_exact(dims)) {
            slot.row.copy_from_slice(query);
        }
        kind.search(&mut scan, &mut slots, self.parameters.probes as usize, &mut NoPause);
        let found = || slots.iter().flat_map(|slot| slot.top.found());
        Arrays::from([
            ("ids".to_owned(), Array::U32(found().map(|one| one.id).collect())),
            ("scores".to_owned(), Array::F64(found().map(|one| one.score).collect())),
        ])
    }
}

fn wrong(key: &'static str, problem: String) -> BuildError {
    BuildError::Value { key, problem }
}

fn rows<'a>(
    inputs: &'a Arrays,
    name: &'static str,
    dims: usize,
) -> Result<Option<&'a [f32]>, BuildError> {
    match inputs.get(name) {
        None => Ok(None),
        Some(Array::F32(values)) if values.len() % dims == 0 && !values.is_empty() => {
            Ok(Some(values))
        }
        Some(_) => Err(wrong(name, format!("expected rows of {dims} components of type f32"))),
    }
}
