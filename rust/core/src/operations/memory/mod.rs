//! The `memory` component: blocks that move between tiers, and a storm of allocations.
//!
//! Work per byte that migrates: one byte read, one written and one moved by the disk; the checksum
//! is taken in the pass that copies. Work per allocation: two list operations, and what is touched.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use super::scratch::{Scratch, WriteBudget, refuse_directory};
use super::{Arrays, Build, BuildError, Component, NoPause, Operation, op_names};

mod answers;
mod arena;
mod block_file;
mod draws;
mod journeys;
mod mover;
mod parameters;
mod pool;
mod source;
mod storm;
mod tiers;
mod touch;
mod transfers;
mod worker;

pub use block_file::{BlockFile, Lender};
pub use mover::Mover;
pub use pool::Pool as SpanPool;
pub use transfers::Wish;

use draws::{Allocation, Draws, LogUniform};
use journeys::Totals;
use mover::Extent;
use parameters::{Fsync, Parameters};
use source::Source;
use storm::{Books, Storm};
use tiers::{Tier, Tiers};
use worker::Worker;

/// What an op type does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Migrate,
    Allocate,
    RoundTrip,
}

/// The only list of op types.
const OPS: [(&str, Role); 3] =
    [("migrate", Role::Migrate), ("allocate", Role::Allocate), ("round_trip", Role::RoundTrip)];
const OP_NAMES: &[&str] = &op_names(&OPS);

/// What the storms of all workers have counted.
#[derive(Default)]
struct Gauges {
    allocated: AtomicU64,
    freed: AtomicU64,
    over_bound: AtomicU64,
    unplaced: AtomicU64,
    broken: AtomicU64,
    /// In millionths, of each look at a pool.
    fragmentation_sum: AtomicU64,
    fragmentation_max: AtomicU64,
    looks: AtomicU64,
}

impl Gauges {
    fn add(&self, books: &Books) {
        for (total, more) in [
            (&self.allocated, books.allocated),
            (&self.freed, books.freed),
            (&self.over_bound, books.over_bound),
            (&self.unplaced, books.unplaced),
            (&self.broken, books.broken),
        ] {
            total.fetch_add(more, Relaxed);
        }
    }

    fn sample_fragmentation(&self, share: f64) {
        let millionths = (share * 1e6) as u64;
        self.fragmentation_sum.fetch_add(millionths, Relaxed);
        self.fragmentation_max.fetch_max(millionths, Relaxed);
        self.looks.fetch_add(1, Relaxed);
    }
}

/// Everything that the workers share.
struct Shared {
    parameters: Parameters,
    draws: Draws,
    allocation_sizes: LogUniform,
    half_life: u64,
    past_cache_bytes: u64,
    tiers: Tiers,
    totals: Totals,
    gauges: Gauges,
    /// What workers of earlier runs have left, touched already.
    movers: Mutex<Vec<Mover>>,
    storms: Mutex<Vec<Storm>>,
    way: &'static str,
}

struct Memory(Arc<Shared>);

pub fn build(parameters: &str, context: &Build<'_>) -> Result<Arc<dyn Component>, BuildError> {
    let parameters = Parameters::parse(parameters)?;
    Ok(Arc::new(Memory(Arc::new(Shared::build(parameters, context)?))))
}

fn open_mover(parameters: &Parameters) -> io::Result<Mover> {
    Mover::open(parameters.io, parameters.chunks_in_flight, parameters.chunk_bytes)
}

fn refuse_io(parameters: &Parameters, error: &io::Error) -> BuildError {
    let problem = match parameters.io {
        Wish::IoUring => format!("`io_uring` is refused here: {error}; choose auto"),
        Wish::Auto | Wish::Threads => format!("neither buffers nor threads are to be had: {error}"),
    };
    BuildError::Value { key: "io", problem }
}

fn refuse(key: &'static str) -> impl Fn(io::Error) -> BuildError {
    move |error| BuildError::Value { key, problem: error.to_string() }
}

impl Shared {
    fn build(parameters: Parameters, context: &Build<'_>) -> Result<Self, BuildError> {
        let draws = Draws::new(context.seed);
        let mut mover = open_mover(&parameters).map_err(|error| refuse_io(&parameters, &error))?;
        let tiers = build_tiers(&parameters, draws, &mut mover, context)?;
        let shared = Self {
            allocation_sizes: parameters.allocation_sizes(),
            half_life: parameters.half_life(),
            past_cache_bytes: touch::past_cache_bytes(),
            draws,
            tiers,
            totals: Totals::default(),
            gauges: Gauges::default(),
            way: mover.transfers.way(),
            movers: Mutex::new(vec![mover]),
            storms: Mutex::new(Vec::new()),
            parameters,
        };
        shared.equip(context)?;
        Ok(shared)
    }

    /// Makes and touches what each worker takes up, for as many of them as threads may build; more
    /// of them make their own.
    fn equip(&self, context: &Build<'_>) -> Result<(), BuildError> {
        let parameters = &self.parameters;
        let mut kept = Vec::new();
        for worker in 0..context.threads {
            if !(context.progress)("pools", worker as f64 / context.threads as f64) {
                return Err(BuildError::Cancelled);
            }
            let mover = self.mover().map_err(|error| refuse_io(parameters, &error))?;
            kept.push((mover, self.new_storm().map_err(refuse("pool_bytes"))?));
        }
        for (mover, storm) in kept {
            self.keep(Some(mover), Some(storm));
        }
        Ok(())
    }

    /// What the storm's operation `key` asks for.
    #[inline]
    fn allocation(&self, key: u64) -> Allocation {
        let lifetime_max = storm::WHEEL as u64 - 1;
        self.draws.allocation(key, &self.allocation_sizes, self.half_life, lifetime_max)
    }

    fn mover(&self) -> io::Result<Mover> {
        let kept = self.movers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| open_mover(&self.parameters), Ok)
    }

    fn storm(&self) -> io::Result<Storm> {
        let kept = self.storms.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(|| self.new_storm(), Ok)
    }

    fn new_storm(&self) -> io::Result<Storm> {
        let Parameters { allocator, pool_bytes, touch, .. } = self.parameters;
        let source = Source::new(allocator, pool_bytes)?;
        Ok(Storm::new(source, touch, pool_bytes, self.past_cache_bytes))
    }

    fn keep(&self, mover: Option<Mover>, storm: Option<Storm>) {
        self.movers.lock().unwrap_or_else(PoisonError::into_inner).extend(mover);
        self.storms.lock().unwrap_or_else(PoisonError::into_inner).extend(storm);
    }
}

/// Generates every block, writes it to the file, and lets every second one start in memory.
fn build_tiers(
    parameters: &Parameters,
    draws: Draws,
    mover: &mut Mover,
    context: &Build<'_>,
) -> Result<Tiers, BuildError> {
    let sizes = parameters.block_sizes();
    let in_directory = refuse_directory(&parameters.directory);
    let file = Scratch::create(Path::new(&parameters.directory)).map_err(&in_directory)?;
    let budget = WriteBudget::new(parameters.write_budget_bytes);
    let padded: u64 = sizes.iter().map(|bytes| Extent::padded_bytes(*bytes)).sum();
    if !budget.take(padded) {
        let problem = format!("is less than the {padded} bytes of all blocks");
        return Err(BuildError::Value { key: "write_budget_bytes", problem });
    }
    let durable = parameters.fsync == Fsync::Data;
    let mut tiers =
        Tiers::new(&sizes, draws, file, budget, durable).map_err(refuse("size_max_bytes"))?;
    let mut content = vec![0; sizes.iter().copied().max().unwrap_or(0)];
    for index in 0..sizes.len() {
        if !(context.progress)("blocks", index as f64 / sizes.len() as f64) {
            return Err(BuildError::Cancelled);
        }
        let block = &mut content[..sizes[index]];
        draws.fill(index, block);
        let sent = mover.send(block, tiers.extent(index, 0), false, &mut NoPause);
        tiers.blocks[index].checksum = sent.map_err(&in_directory)?;
        tiers.set_extent(index, 0, true);
        if let Some(room) = (index % 2 == 0).then(|| tiers.take_room(index)).flatten() {
            // SAFETY: nobody else knows of the tiers yet.
            unsafe { tiers.room_bytes(index, room) }.copy_from_slice(block);
            tiers.commit(index, Tier::Cpu, Some(room));
        }
    }
    Ok(tiers)
}

impl Component for Memory {
    fn ops(&self) -> &'static [&'static str] {
        OP_NAMES
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(Worker::new(Arc::clone(&self.0)))
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        let parameters = &self.0.parameters;
        tiers::resident_bytes(&parameters.block_sizes())
            + workers as u64 * parameters.worker_bytes()
    }

    fn describe(&self) -> serde_json::Value {
        let Shared { parameters, tiers, way, .. } = &*self.0;
        serde_json::json!({
            "blocks": parameters.blocks,
            "blocks_bytes": tiers.total_bytes(),
            "cpu_tier_bytes": tiers.cpu_bytes(),
            "nvme": if tiers.file.direct { "O_DIRECT" } else { "buffered" },
            "io": way,
            "fsync": if parameters.fsync == Fsync::Data { "data" } else { "none" },
            "lifetime_mean_operations": parameters.lifetime_mean(),
            "bound_bytes_per_worker": parameters.pool_bytes,
        })
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Shared { tiers, totals, gauges, .. } = &*self.0;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        // A buffered figure never stands in the direct column.
        let moved = |direct: bool, bytes: &AtomicU64| {
            if tiers.file.direct == direct { read(bytes) } else { 0 }
        };
        let census = tiers.census();
        let (largest, free) = tiers.free_bytes();
        vec![
            ("migrated_out", read(&totals.out)),
            ("migrated_in", read(&totals.arrived)),
            ("dropped_clean", read(&totals.dropped_clean)),
            ("failed_hops", read(&totals.failed)),
            ("corrupt", read(&totals.corrupt)),
            ("repaired", read(&totals.repaired)),
            ("direct_written_bytes", moved(true, &totals.written_bytes)),
            ("direct_read_bytes", moved(true, &totals.read_bytes)),
            ("buffered_written_bytes", moved(false, &totals.written_bytes)),
            ("buffered_read_bytes", moved(false, &totals.read_bytes)),
            ("write_budget_left_bytes", tiers.budget.left()),
            ("cpu_bytes", census.bytes[Tier::Cpu as usize]),
            ("nvme_bytes", census.bytes[Tier::Nvme as usize]),
            ("cpu_free_bytes", free),
            ("cpu_largest_free_bytes", largest),
            ("allocated", read(&gauges.allocated)),
            ("freed", read(&gauges.freed)),
            ("over_bound", read(&gauges.over_bound)),
            ("unplaced", read(&gauges.unplaced)),
            ("broken", read(&gauges.broken)),
            ("fragmentation_max_millionths", read(&gauges.fragmentation_max)),
            (
                "fragmentation_mean_millionths",
                read(&gauges.fragmentation_sum) / read(&gauges.looks).max(1),
            ),
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
