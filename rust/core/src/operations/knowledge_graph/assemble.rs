//! Builds a graph in parallel: count degrees, rank nodes, deal arcs into buckets, sort each bucket.
//!
//! Work per arc: one counted increment, one gathered rank, 8 bytes written to its bucket and read
//! back, two passes of a radix sort inside the cache, 4 bytes written. The result does not depend
//! on the number of threads: a bucket is sorted whatever the order in which its arcs arrived.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Build, BuildError};
use super::bucket::{Arrangement, bucket_count, bucket_nodes, bucket_of};
use super::generate::{Edge, EdgeSource};
use super::graph::Graph;
use super::pages::{prefetch, zeroed};

/// Edges that a thread takes at a time.
const CHUNK_EDGES: usize = 1 << 16;

/// Private degree counts (4 bytes per node each) are kept for at most this many threads.
const COUNTING_THREADS_MAX: usize = 4;

/// Arcs gathered per bucket before its lock is taken: 1 MB in all at 10 M nodes, the size of an L2
/// cache; eight or sixteen arcs measured a third slower.
const GATHERED_ARCS: usize = 32;

/// How far ahead ranks are asked for, in edges.
const AHEAD_EDGES: usize = 16;

/// Tasks between two reports of progress.
const TASKS_PER_REPORT: usize = 64;

/// Builds the graph of `source`.
///
/// # Errors
/// Cancelled by `build.progress`.
pub fn assemble(source: &dyn EdgeSource, build: &Build<'_>) -> Result<Graph, BuildError> {
    let mut edges = zeroed::<Edge>(source.count() as usize);
    let degrees = read_and_count(source, &mut edges, build)?;
    let (outer, inner, offsets) = rank(&degrees);
    drop(degrees);
    let nodes = outer.len();
    let mut arcs = zeroed::<u64>(offsets[nodes] as usize);
    let buckets = buckets_of(&mut arcs, &offsets);
    deal(&edges, &inner, &buckets, build)?;
    drop(edges);
    let mut neighbours = zeroed::<u32>(offsets[nodes] as usize);
    fill(buckets, &offsets, &mut neighbours, build)?;
    let connected = offsets.partition_point(|&begin| (begin as usize) < neighbours.len());
    let biggest = (0..connected).map(|node| neighbours[offsets[node] as usize]).collect();
    Ok(Graph { offsets, neighbours, biggest, inner, outer })
}

/// Hands tasks to whichever thread asks, until none is left or the caller gives up.
struct Tasks<'a, Each> {
    left: Mutex<Each>,
    count: usize,
    build: &'a Build<'a>,
    stage: &'static str,
    cancelled: AtomicBool,
}

impl<'a, Each: ExactSizeIterator + Send> Tasks<'a, Each> {
    fn new(left: Each, build: &'a Build<'a>, stage: &'static str) -> Self {
        let count = left.len();
        Self { left: Mutex::new(left), count, build, stage, cancelled: AtomicBool::new(false) }
    }

    fn take(&self) -> Option<Each::Item> {
        let (task, left) = {
            let mut tasks = locked(&self.left);
            (tasks.next()?, tasks.len())
        };
        if left % TASKS_PER_REPORT == 0 {
            let done = 1.0 - left as f64 / self.count as f64;
            if !(self.build.progress)(self.stage, done) {
                self.cancelled.store(true, Ordering::Relaxed);
            }
        }
        if self.cancelled.load(Ordering::Relaxed) { None } else { Some(task) }
    }

    /// Runs `work` on `threads` threads, which share the tasks; gives back what each returned.
    fn run<Out: Send>(
        &self,
        threads: usize,
        work: impl Fn(&Self) -> Out + Sync,
    ) -> Result<Vec<Out>, BuildError>
    where
        Self: Sync,
    {
        let outcomes = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(self))).collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(BuildError::Cancelled);
        }
        Ok(outcomes)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes all edges; returns the degree of each node, self-loops not counted.
fn read_and_count(
    source: &dyn EdgeSource,
    edges: &mut [Edge],
    build: &Build<'_>,
) -> Result<Vec<u32>, BuildError> {
    let nodes = source.nodes() as usize;
    let tasks = Tasks::new(edges.chunks_mut(CHUNK_EDGES).enumerate(), build, "generating edges");
    let counts = tasks.run(build.threads.min(COUNTING_THREADS_MAX), |tasks| {
        let mut degrees = zeroed::<u32>(nodes);
        while let Some((chunk, edges)) = tasks.take() {
            source.read((chunk * CHUNK_EDGES) as u64, edges);
            for &[one, other] in &*edges {
                let step = u32::from(one != other);
                degrees[one as usize] += step;
                degrees[other as usize] += step;
            }
        }
        degrees
    })?;
    let add = |mut sum: Vec<u32>, part: Vec<u32>| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sum
    };
    Ok(counts.into_iter().reduce(add).unwrap_or_default())
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

/// The arcs of successive nodes, as first << 32 | second, filled from the front.
struct Bucket<'a> {
    arcs: &'a mut [u64],
    length: usize,
}

impl Bucket<'_> {
    fn append(&mut self, arcs: &[u64]) {
        self.arcs[self.length..self.length + arcs.len()].copy_from_slice(arcs);
        self.length += arcs.len();
    }
}

/// Divides room for all arcs into buckets of the size that each will need.
fn buckets_of<'a>(arcs: &'a mut [u64], offsets: &[u32]) -> Vec<Mutex<Bucket<'a>>> {
    let nodes = offsets.len() - 1;
    let mut rest = arcs;
    (0..bucket_count(nodes))
        .map(|bucket| {
            let held = bucket_nodes(bucket, nodes);
            let size = (offsets[held.end] - offsets[held.start]) as usize;
            let (arcs, after) = std::mem::take(&mut rest).split_at_mut(size);
            rest = after;
            Mutex::new(Bucket { arcs, length: 0 })
        })
        .collect()
}

/// Deals both arcs of every edge to the bucket of their first node.
fn deal(
    edges: &[Edge],
    inner: &[u32],
    buckets: &[Mutex<Bucket<'_>>],
    build: &Build<'_>,
) -> Result<(), BuildError> {
    let tasks = Tasks::new(edges.chunks(CHUNK_EDGES), build, "dealing edges");
    tasks.run(build.threads, |tasks| {
        let mut gathered = vec![[0_u64; GATHERED_ARCS]; buckets.len()];
        let mut lengths = vec![0_u8; buckets.len()];
        while let Some(edges) = tasks.take() {
            deal_chunk(edges, inner, buckets, &mut gathered, &mut lengths);
        }
        for ((bucket, arcs), length) in buckets.iter().zip(&gathered).zip(lengths) {
            locked(bucket).append(&arcs[..usize::from(length)]);
        }
    })?;
    Ok(())
}

fn deal_chunk(
    edges: &[Edge],
    inner: &[u32],
    buckets: &[Mutex<Bucket<'_>>],
    gathered: &mut [[u64; GATHERED_ARCS]],
    lengths: &mut [u8],
) {
    for (index, &[one, other]) in edges.iter().enumerate() {
        if let Some(&[ahead, behind]) = edges.get(index + AHEAD_EDGES) {
            prefetch(inner, ahead as usize);
            prefetch(inner, behind as usize);
        }
        if one == other {
            continue;
        }
        let ends = (inner[one as usize], inner[other as usize]);
        for (from, to) in [ends, (ends.1, ends.0)] {
            let bucket = bucket_of(from);
            let length = usize::from(lengths[bucket]) % GATHERED_ARCS;
            gathered[bucket][length] = u64::from(from) << 32 | u64::from(to);
            lengths[bucket] = (length as u8 + 1) % GATHERED_ARCS as u8;
            if length + 1 == GATHERED_ARCS {
                locked(&buckets[bucket]).append(&gathered[bucket]);
            }
        }
    }
}

/// Sorts every bucket into the rows of its nodes.
fn fill(
    buckets: Vec<Mutex<Bucket<'_>>>,
    offsets: &[u32],
    neighbours: &mut [u32],
    build: &Build<'_>,
) -> Result<(), BuildError> {
    let nodes = offsets.len() - 1;
    let mut rest = neighbours;
    let mut sorting = Vec::with_capacity(buckets.len());
    for (bucket, arcs) in buckets.into_iter().enumerate() {
        let arcs = arcs.into_inner().unwrap_or_else(PoisonError::into_inner).arcs;
        let (rows, after) = std::mem::take(&mut rest).split_at_mut(arcs.len());
        rest = after;
        sorting.push((bucket_nodes(bucket, nodes), arcs, rows));
    }
    let tasks = Tasks::new(sorting.into_iter(), build, "sorting rows");
    tasks.run(build.threads, |tasks| {
        let mut arrangement = Arrangement::default();
        while let Some((held, arcs, rows)) = tasks.take() {
            arrangement.fill_rows(arcs, &offsets[held.clone()], held.start, rows);
        }
    })?;
    Ok(())
}
