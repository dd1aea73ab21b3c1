//! Builds a graph in parallel: count degrees, rank nodes, deal arcs into buckets, sort each bucket.
//!
//! Work per arc: one counted increment, one gathered rank, 8 bytes written to its bucket and read
//! back, two passes of a radix sort inside the cache, 4 bytes written. The result does not depend
//! on the number of threads: a bucket is sorted whatever the order in which its arcs arrived.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::{Build, BuildError};
use super::bucket::{Arrangement, bucket_count, bucket_nodes, bucket_of};
use super::generate::EdgeSource;
use super::graph::Graph;
use super::memory::{prefetch, zeroed};

/// Edges handled between two looks at the cancel flag.
const CHUNK_EDGES: u64 = 1 << 15;

/// Private degree counts (4 bytes per node each) are kept for at most this many threads.
const COUNTING_THREADS_MAX: usize = 4;

/// Arcs gathered per bucket before its lock is taken: one cache line.
const GATHERED_ARCS: usize = 8;

/// How far ahead ranks are asked for, in edges.
const AHEAD_EDGES: usize = 16;

/// Builds the graph of `source`.
///
/// # Errors
/// Cancelled by `build.progress`.
pub fn assemble(source: &dyn EdgeSource, build: &Build<'_>) -> Result<Graph, BuildError> {
    let degrees = count_degrees(source, build)?;
    let (outer, inner, offsets) = rank(&degrees);
    drop(degrees);
    let buckets = deal(source, &inner, &offsets, build)?;
    let mut graph = Graph { offsets, neighbours: Vec::new(), biggest: Vec::new(), inner, outer };
    fill(&mut graph, buckets, build)?;
    let connected = graph.offsets.partition_point(|&at| (at as usize) < graph.neighbours.len());
    graph.biggest = (0..connected.min(graph.nodes()))
        .map(|node| graph.neighbours[graph.offsets[node] as usize])
        .collect();
    Ok(graph)
}

/// Gives chunks of the edges to whichever thread asks, until none is left or the caller gives up.
struct Chunks<'a, 'b> {
    source: &'a dyn EdgeSource,
    build: &'a Build<'b>,
    stage: &'static str,
    next: AtomicU64,
    cancelled: AtomicBool,
}

impl<'a, 'b> Chunks<'a, 'b> {
    fn new(source: &'a dyn EdgeSource, build: &'a Build<'b>, stage: &'static str) -> Self {
        Self { source, build, stage, next: AtomicU64::new(0), cancelled: AtomicBool::new(false) }
    }

    fn take(&self, edges: &mut Vec<(u32, u32)>) -> bool {
        let count = self.source.count();
        let first = self.next.fetch_add(CHUNK_EDGES, Ordering::Relaxed);
        if first >= count || self.cancelled.load(Ordering::Relaxed) {
            return false;
        }
        if (first / CHUNK_EDGES) % 64 == 0
            && !(self.build.progress)(self.stage, first as f64 / count as f64)
        {
            self.cancelled.store(true, Ordering::Relaxed);
            return false;
        }
        edges.resize((count - first).min(CHUNK_EDGES) as usize, (0, 0));
        self.source.read(first, edges);
        true
    }

    fn finish(&self) -> Result<(), BuildError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(BuildError::Cancelled) } else { Ok(()) }
    }
}

fn count_degrees(source: &dyn EdgeSource, build: &Build<'_>) -> Result<Vec<u32>, BuildError> {
    let chunks = Chunks::new(source, build, "counting degrees");
    let count = || {
        let mut degrees = zeroed::<u32>(source.nodes() as usize);
        let mut edges = Vec::new();
        while chunks.take(&mut edges) {
            for &(one, other) in &edges {
                let step = u32::from(one != other);
                degrees[one as usize] += step;
                degrees[other as usize] += step;
            }
        }
        degrees
    };
    let mut counts: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads = build.threads.min(COUNTING_THREADS_MAX);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    chunks.finish()?;
    let mut degrees = counts.pop().unwrap_or_default();
    for count in counts {
        degrees.iter_mut().zip(count).for_each(|(sum, part)| *sum += part);
    }
    Ok(degrees)
}

/// Numbers nodes by falling degree, ties by rising node: (outer, inner, offsets).
fn rank(degrees: &[u32]) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let degree_max = degrees.iter().copied().max().unwrap_or(0) as usize;
    let mut nodes_with = vec![0_u32; degree_max + 1];
    degrees.iter().for_each(|&degree| nodes_with[degree as usize] += 1);
    let mut offsets = Vec::with_capacity(degrees.len() + 1);
    let mut places = vec![0_u32; degree_max + 1];
    let mut arcs = 0;
    for degree in (0..=degree_max).rev() {
        places[degree] = offsets.len() as u32;
        for _ in 0..nodes_with[degree] {
            offsets.push(arcs);
            arcs += degree as u32;
        }
    }
    offsets.push(arcs);
    let mut outer = zeroed::<u32>(degrees.len());
    let mut inner = zeroed::<u32>(degrees.len());
    for (node, &degree) in degrees.iter().enumerate() {
        let place = &mut places[degree as usize];
        outer[*place as usize] = node as u32;
        inner[node] = *place;
        *place += 1;
    }
    (outer, inner, offsets)
}

type Buckets = Vec<Mutex<Vec<u64>>>;

/// Deals both arcs of every edge to the bucket of their first node, as first << 32 | second.
fn deal(
    source: &dyn EdgeSource,
    inner: &[u32],
    offsets: &[u32],
    build: &Build<'_>,
) -> Result<Buckets, BuildError> {
    let nodes = inner.len();
    let buckets: Buckets = (0..bucket_count(nodes))
        .map(|bucket| {
            let held = bucket_nodes(bucket, nodes);
            let arcs = offsets[held.end] - offsets[held.start];
            Mutex::new(Vec::with_capacity(arcs as usize))
        })
        .collect();
    let chunks = Chunks::new(source, build, "dealing edges");
    std::thread::scope(|scope| {
        for _ in 0..build.threads {
            scope.spawn(|| deal_chunks(&chunks, inner, &buckets));
        }
    });
    chunks.finish()?;
    Ok(buckets)
}

fn deal_chunks(chunks: &Chunks<'_, '_>, inner: &[u32], buckets: &Buckets) {
    let mut gathered = vec![[0_u64; GATHERED_ARCS]; buckets.len()];
    let mut lengths = vec![0_u8; buckets.len()];
    let mut edges = Vec::new();
    while chunks.take(&mut edges) {
        for (index, &(one, other)) in edges.iter().enumerate() {
            if let Some(&(ahead, behind)) = edges.get(index + AHEAD_EDGES) {
                prefetch(inner, ahead as usize);
                prefetch(inner, behind as usize);
            }
            if one == other {
                continue;
            }
            let ends = (inner[one as usize], inner[other as usize]);
            for (from, to) in [ends, (ends.1, ends.0)] {
                let bucket = bucket_of(from);
                let length = usize::from(lengths[bucket]);
                gathered[bucket][length] = u64::from(from) << 32 | u64::from(to);
                lengths[bucket] = (length as u8 + 1) % GATHERED_ARCS as u8;
                if length + 1 == GATHERED_ARCS {
                    append(&buckets[bucket], &gathered[bucket]);
                }
            }
        }
    }
    for ((bucket, arcs), length) in buckets.iter().zip(&gathered).zip(lengths) {
        append(bucket, &arcs[..usize::from(length)]);
    }
}

fn append(bucket: &Mutex<Vec<u64>>, arcs: &[u64]) {
    bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend_from_slice(arcs);
}

/// Sorts every bucket into the rows of its nodes.
fn fill(graph: &mut Graph, buckets: Buckets, build: &Build<'_>) -> Result<(), BuildError> {
    let nodes = graph.nodes();
    let offsets = &graph.offsets;
    graph.neighbours = zeroed(offsets[nodes] as usize);
    let mut rest = graph.neighbours.as_mut_slice();
    let mut tasks = Vec::with_capacity(buckets.len());
    for (bucket, arcs) in buckets.into_iter().enumerate() {
        let arcs = arcs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (rows, after) = rest.split_at_mut(arcs.len());
        rest = after;
        tasks.push((bucket_nodes(bucket, nodes), arcs, rows));
    }
    let count = tasks.len().max(1);
    let tasks = Mutex::new(tasks);
    let cancelled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..build.threads {
            scope.spawn(|| {
                let mut arrangement = Arrangement::default();
                loop {
                    let mut left = tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let Some((held, mut arcs, rows)) = left.pop() else { break };
                    let done = 1.0 - left.len() as f64 / count as f64;
                    drop(left);
                    if !(build.progress)("sorting rows", done) {
                        cancelled.store(true, Ordering::Relaxed);
                        break;
                    }
                    arrangement.fill_rows(&mut arcs, &offsets[held.clone()], held.start, rows);
                }
            });
        }
    });
    if cancelled.into_inner() { Err(BuildError::Cancelled) } else { Ok(()) }
}
