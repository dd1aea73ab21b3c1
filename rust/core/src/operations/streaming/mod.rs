//! The `streaming` component: chunks of a stated mix, compressed, moved, decompressed and checked.
//!
//! Work per chunk of n bytes in memory: n read at the source, n / ratio written and read back, n
//! written at the end; so no chunk is faster than a copy, and the codec bounds most of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use serde::Deserialize;

use super::{Arrays, BlockFile, Build, BuildError, Component, NoPause, Operation, op_names};

mod answers;
mod files;
mod frame;
mod pack;
mod planting;
mod shuffle;
mod sink;
mod source;
mod survey;
#[cfg(test)]
mod tests;
mod worker;

use crate::operations::scratch::{PAGE_BYTES, WriteBudget};
pub use frame::{Choice, Coder as FrameCoder, bound as frame_bound};

use files::Files;
use frame::Coder;
use sink::Sink;
use source::Source;
use worker::{Totals, Worker};

/// Content of a chunk; the numbers key the random streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u64)]
pub enum Kind {
    Text = 0,
    Json = 1,
    Int32 = 2,
    Float32 = 3,
    Random = 4,
    Zeros = 5,
}

const KINDS: &[(&str, Kind)] = &[
    ("text", Kind::Text),
    ("json", Kind::Json),
    ("int32", Kind::Int32),
    ("float32", Kind::Float32),
    ("random", Kind::Random),
    ("zeros", Kind::Zeros),
];

/// What a frame takes of its chunk, in thousandths: measured in the default blocks, rounded up.
fn frame_per_mille(kind: Kind) -> usize {
    match kind {
        Kind::Text => 600,
        Kind::Json => 220,
        Kind::Int32 => 260,
        Kind::Float32 => 380,
        Kind::Random => 1001,
        Kind::Zeros => 2,
    }
}

/// What an op type does with its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Pipeline(Choice),
    /// Compression alone, the frame checked after the clock was read.
    Compress,
    /// Decompression and checksum alone, of a frame made while building.
    Decompress,
}

impl Role {
    fn choice(self) -> Choice {
        match self {
            Self::Pipeline(choice) => choice,
            Self::Compress | Self::Decompress => Choice::Auto,
        }
    }
}

/// The only list of op types.
const OPS: [(&str, Role); 6] = [
    ("auto", Role::Pipeline(Choice::Auto)),
    ("lz4", Role::Pipeline(Choice::Lz4)),
    ("zstd", Role::Pipeline(Choice::Zstd)),
    ("pack", Role::Pipeline(Choice::Pack)),
    ("compress", Role::Compress),
    ("decompress", Role::Decompress),
];
const OP_NAMES: &[&str] = &op_names(&OPS);

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    chunk_bytes: usize,
    block_bytes: usize,
    pool_chunks: usize,
    /// (kind, share), the shares in any unit.
    blend: Vec<(Kind, f64)>,
    zstd_level: i32,
    queue_depth: usize,
    placement: String,
    directory: String,
    write_budget_bytes: u64,
}

/// Everything that the workers share.
struct Shared {
    parameters: Parameters,
    kinds: Vec<Kind>,
    /// Indices of the numeric chunks, of all where there is none.
    numeric: Vec<usize>,
    pool: Vec<u8>,
    frames: Vec<Vec<u8>>,
    /// Of every chunk of the pool, in whole blocks and in Zstandard's half ones.
    checksums: Vec<[u64; 2]>,
    sink: Sink,
    totals: Totals,
    /// Of all files together.
    budget: WriteBudget,
    files: Option<Files>,
}

struct Streaming(Arc<Shared>);

pub fn build(parameters: &str, context: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    let parameters: Parameters = serde_json::from_str(parameters)?;
    parameters.check()?;
    Ok(Arc::new(Streaming(Arc::new(Shared::build(parameters, context)?))))
}

/// Generates the pool and its frames, on as many threads as building may use.
fn fill_pool(
    parameters: &Parameters,
    kinds: &[Kind],
    source: &Source,
    context: &Build<'_>,
) -> Result<(Vec<u8>, Vec<Vec<u8>>), BuildError> {
    let mut pool = vec![0; kinds.len() * parameters.chunk_bytes];
    let mut frames = vec![Vec::new(); kinds.len()];
    let share = kinds.len().div_ceil(context.threads.max(1));
    let cancelled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let parts = pool.chunks_mut(share * parameters.chunk_bytes).zip(frames.chunks_mut(share));
        for (part, (chunks, frames)) in parts.enumerate() {
            let cancelled = &cancelled;
            scope.spawn(move || {
                let mut coder = Coder::new(parameters.block_bytes, parameters.zstd_level);
                let bound = frame::bound(parameters.chunk_bytes, parameters.block_bytes);
                let mut room = vec![0; bound];
                let parts = chunks.chunks_mut(parameters.chunk_bytes).zip(frames.iter_mut());
                for (number, (chunk, frame)) in parts.enumerate() {
                    let index = part * share + number;
                    source.fill(kinds[index], index as u64, chunk);
                    let (length, _) =
                        coder.encode(Choice::Auto, index as u64, chunk, &mut room, &mut NoPause);
                    *frame = room[..length].to_vec();
                    let done = (number + 1) as f64 / share as f64;
                    if part == 0 && !(context.progress)("chunks", done) {
                        cancelled.store(true, Relaxed);
                    }
                    if cancelled.load(Relaxed) {
                        return;
                    }
                }
            });
        }
    });
    if cancelled.into_inner() { Err(BuildError::Cancelled) } else { Ok((pool, frames)) }
}

fn refuse(key: &'static str, problem: impl Into<String>) -> BuildError {
    BuildError::Value { key, problem: problem.into() }
}

impl Parameters {
    fn check(&self) -> Result<(), BuildError> {
        if self.chunk_bytes == 0 || self.chunk_bytes % PAGE_BYTES != 0 {
            return Err(refuse("chunk_bytes", "must be a positive multiple of 4096"));
        }
        if !(PAGE_BYTES..=1 << 24).contains(&self.block_bytes) || self.block_bytes % PAGE_BYTES != 0
        {
            return Err(refuse("block_bytes", "must be a multiple of 4096 up to 16 MiB"));
        }
        if self.chunk_bytes / self.block_bytes > usize::from(u16::MAX) / 2 {
            return Err(refuse("chunk_bytes", "must be at most 32767 blocks"));
        }
        if self.pool_chunks == 0 || self.queue_depth == 0 {
            return Err(refuse("pool_chunks, queue_depth", "must be positive"));
        }
        if !zstd_safe::min_c_level().max(-50).le(&self.zstd_level) || self.zstd_level > 19 {
            return Err(refuse("zstd_level", "must be -50 to 19"));
        }
        let positive = |kind: Option<Kind>| {
            self.blend.iter().any(|&(known, share)| share > 0.0 && kind != Some(known))
        };
        if !self.blend.iter().all(|&(_, share)| share.is_finite() && share >= 0.0) {
            return Err(refuse("blend", "shares must be finite and not negative"));
        }
        if !positive(None) || !positive(Some(Kind::Zeros)) {
            return Err(refuse("blend", "must hold something else than zeros"));
        }
        Ok(())
    }

    /// The pool, its frames as they are expected to come out and two checksums of each chunk.
    fn shared_bytes(&self) -> usize {
        let frame = |kind: Kind| self.chunk_bytes * frame_per_mille(kind) / 1000;
        let frames: usize = self.kinds().into_iter().map(frame).sum();
        self.pool_chunks * (self.chunk_bytes + 16) + frames
    }

    /// A worker's buffers: the frame, the chunk, where it has files its copy, and the coder's.
    fn worker_bytes(&self) -> usize {
        let frame = frame::bound(self.chunk_bytes, self.block_bytes);
        let chunks = if self.placement == "memory" { 1 } else { 2 };
        frame + chunks * self.chunk_bytes + Coder::resident_bytes(self.block_bytes)
    }

    /// The kind of every chunk of the pool: multiples of the golden ratio modulo 1 against the
    /// blend's cumulative shares, so that every stretch of the pool has the stated blend.
    fn kinds(&self) -> Vec<Kind> {
        let total: f64 = self.blend.iter().map(|(_, share)| share).sum();
        let mut below = 0.0;
        let limits: Vec<(u64, Kind)> = self
            .blend
            .iter()
            .filter(|(_, share)| *share > 0.0)
            .map(|&(kind, share)| {
                below += share;
                ((below / total * 4_294_967_296.0) as u64, kind)
            })
            .collect();
        (0..self.pool_chunks as u32)
            .map(|index| {
                let place = u64::from(index.wrapping_mul(0x9E37_79B9));
                let found = limits.iter().find(|(limit, _)| place < *limit);
                found.or(limits.last()).map_or(Kind::Text, |&(_, kind)| kind)
            })
            .collect()
    }
}

impl Shared {
    fn build(parameters: Parameters, context: &Build<'_>) -> Result<Self, BuildError> {
        let kinds = parameters.kinds();
        let is_numeric = |index: &usize| matches!(kinds[*index], Kind::Int32 | Kind::Float32);
        let mut numeric: Vec<usize> = (0..kinds.len()).filter(is_numeric).collect();
        if numeric.is_empty() {
            numeric = (0..kinds.len()).collect();
        }
        let source = Source::new(context.seed);
        let (pool, frames) = fill_pool(&parameters, &kinds, &source, context)?;
        let budget = WriteBudget::new(parameters.write_budget_bytes);
        let files = Files::of(&parameters, &pool, &budget)?;
        let block_bytes = parameters.block_bytes;
        let sums = |chunk: &[u8]| {
            [Choice::Auto, Choice::Zstd]
                .map(|choice| frame::chunk_checksum(chunk, choice.block_bytes(block_bytes)))
        };
        let checksums = pool.chunks(parameters.chunk_bytes).map(sums).collect();
        Ok(Self {
            sink: Sink::new(parameters.queue_depth),
            totals: Totals::default(),
            parameters,
            kinds,
            numeric,
            pool,
            frames,
            checksums,
            budget,
            files,
        })
    }

    fn chunk(&self, index: usize) -> &[u8] {
        let length = self.parameters.chunk_bytes;
        &self.pool[index * length..(index + 1) * length]
    }

    /// The checksum of a chunk of the pool in the blocks of a choice.
    fn checksum(&self, index: usize, choice: Choice) -> u64 {
        self.checksums[index][usize::from(choice == Choice::Zstd)]
    }

    /// The pool's chunk that the operation `key` streams: each lane walks the pool from a place of
    /// its own, so that what is read next was used a whole pool ago.
    fn index_of(&self, role: Role, key: u64) -> usize {
        let (lane, ordinal) = (key >> 48, key & ((1 << 48) - 1));
        let step = (ordinal + lane * 7) as usize;
        match role {
            Role::Pipeline(Choice::Pack) => self.numeric[step % self.numeric.len()],
            _ => step % self.kinds.len(),
        }
    }
}

impl Component for Streaming {
    fn ops(&self) -> &'static [&'static str] {
        OP_NAMES
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Worker::new(Arc::clone(&self.0)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        let parameters = &self.0.parameters;
        (parameters.shared_bytes() + workers * parameters.worker_bytes()) as u64
    }

    fn describe(&self) -> serde_json::Value {
        let shared = &self.0;
        let frames: usize = shared.frames.iter().map(Vec::len).sum();
        let chunks_of = |kind| shared.kinds.iter().filter(|known| **known == kind).count();
        let mut kinds = serde_json::Map::new();
        for (name, kind) in KINDS {
            if chunks_of(*kind) > 0 {
                let coded: usize = (0..shared.kinds.len())
                    .filter(|&index| shared.kinds[index] == *kind)
                    .map(|index| shared.frames[index].len())
                    .sum();
                let original = chunks_of(*kind) * shared.parameters.chunk_bytes;
                let ratio = original as f64 / coded as f64;
                let facts = serde_json::json!({"chunks": chunks_of(*kind), "ratio": ratio});
                kinds.insert((*name).to_owned(), facts);
            }
        }
        serde_json::json!({
            "ratio": shared.pool.len() as f64 / frames as f64,
            "kinds": kinds,
            "direct_io": shared.files.as_ref().map(|files| files.source.direct),
        })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let totals = &self.0.totals;
        let (handed_out, released, depth_max) = self.0.sink.totals();
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        vec![
            ("chunks", read(&totals.chunks)),
            ("chunk_bytes", read(&totals.chunk_bytes)),
            ("compressed_bytes", read(&totals.frame_bytes)),
            ("bypassed_chunks", read(&totals.bypassed)),
            ("packed_chunks", read(&totals.packed)),
            ("sequences_handed_out", handed_out),
            ("sequences_released", released),
            ("queue_depth_max", depth_max),
            ("turned_away", read(&totals.turned_away)),
            ("corrupt", read(&totals.corrupt)),
            ("lost", read(&totals.lost)),
            ("doubled", read(&totals.doubled)),
            ("reordered", read(&totals.reordered)),
        ]
    }

    fn block_file(&self) -> Result<BlockFile, BuildError> {
        let lender = Arc::clone(&self.0);
        BlockFile::create(lender, &self.0.parameters.directory)
    }

    fn evaluate(&self, op: &str, inputs: &Arrays) -> Result<Arrays, BuildError> {
        self.0.answers(op, inputs)
    }
}
