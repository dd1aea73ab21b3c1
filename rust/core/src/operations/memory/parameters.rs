//! Parameters of the component `memory`, checked, and the sizes that follow from them.

use serde::Deserialize;

use super::draws::{HALF_LIFE_BITS, LogUniform};
use super::pool::{Pool, TAG_BYTES};
use super::source::Allocator;
use super::storm::{self, GRANULE_BYTES};
use super::tiers;
use super::touch::Touch;
use super::transfers::{self, Wish};
use crate::operations::scratch::PAGE_BYTES;
use crate::operations::{BuildError, within};

pub const BLOCKS_MAX: usize = 4096;
pub const SIZE_MIN_BYTES: u64 = 512;
pub const SIZE_MAX_BYTES: u64 = 1 << 30;
const CHUNK_MAX_BYTES: usize = 16 << 20;
const SLOTS_MAX: usize = 64;
const STREAMS_MAX: usize = 4;
const ALLOCATION_MIN_BYTES: u64 = 8;
const CHECK_EVERY_MAX: u64 = 1 << 20;

/// Whether a block that left memory is made durable before its room is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    None,
    /// `fdatasync` after each block.
    Data,
}

/// Memory of the host that blocks go to a device from. Only backends with a device tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostMemory {
    Pinned,
    Pageable,
}

/// Where migrations go: to any tier, or between host and device in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Any,
    Up,
    Down,
}

/// The same names and bounds as `Memory` in `components/memory.py`, which has the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Blocks that the tiers hold, and the least and largest of them.
    pub blocks: usize,
    pub size_min_bytes: u64,
    pub size_max_bytes: u64,
    pub chunk_bytes: usize,
    pub chunks_in_flight: usize,
    /// Of a device, where there is one: chunks that are on their way to or from it at a time.
    pub streams: usize,
    /// Of a device too: what it copies to and from, and in which direction.
    pub host_memory: HostMemory,
    pub way: Way,
    pub io: Wish,
    pub fsync: Fsync,
    pub directory: String,
    pub write_budget_bytes: u64,
    pub allocator: Allocator,
    /// Of each worker: its pool, which is also the bound on what is alive.
    pub pool_bytes: u64,
    pub allocation_min_bytes: u64,
    pub allocation_max_bytes: u64,
    pub touch: Touch,
    /// Mean lifetime wished for, at `allocation_rate_s` allocations a second.
    pub lifetime_s: f64,
    pub allocation_rate_s: f64,
    /// Mean of what is alive as a share of the bound, where the lifetime wished for is longer.
    pub live_share: f64,
    /// One operation in so many has its answer checked in full.
    pub check_every: u64,
}

impl Parameters {
    /// Reads and checks a JSON object.
    ///
    /// # Errors
    /// An unknown, missing or mistyped key, or a value out of its bounds.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        let read: Self = serde_json::from_str(text)?;
        within("blocks", read.blocks, 4, BLOCKS_MAX)?;
        within("size_min_bytes", read.size_min_bytes, SIZE_MIN_BYTES, SIZE_MAX_BYTES)?;
        within("size_max_bytes", read.size_max_bytes, read.size_min_bytes, SIZE_MAX_BYTES)?;
        within("chunk_bytes", read.chunk_bytes, PAGE_BYTES, CHUNK_MAX_BYTES)?;
        if read.chunk_bytes % PAGE_BYTES != 0 {
            let problem = format!("{} is no multiple of {PAGE_BYTES}", read.chunk_bytes);
            return Err(BuildError::Value { key: "chunk_bytes", problem });
        }
        within("chunks_in_flight", read.chunks_in_flight, 2, SLOTS_MAX)?;
        within("streams", read.streams, 1, STREAMS_MAX)?;
        read.refuse_device()?;
        let pool_max_bytes = Pool::GRANULES_MAX * GRANULE_BYTES;
        within("pool_bytes", read.pool_bytes, 1 << 20, pool_max_bytes)?;
        let (least, most) = (read.allocation_min_bytes, read.allocation_max_bytes);
        within("allocation_min_bytes", least, ALLOCATION_MIN_BYTES, read.pool_bytes / 2)?;
        within("allocation_max_bytes", most, least, read.pool_bytes / 2)?;
        within("lifetime_s", read.lifetime_s, 1e-6, 3600.0)?;
        within("allocation_rate_s", read.allocation_rate_s, 1.0, 1e9)?;
        within("live_share", read.live_share, 0.001, 0.9)?;
        within("check_every", read.check_every, 1, CHECK_EVERY_MAX)?;
        Ok(read)
    }

    /// Refuses what only copies to a device have.
    fn refuse_device(&self) -> Result<(), BuildError> {
        let asked = [
            ("host_memory", self.host_memory != HostMemory::Pinned),
            ("way", self.way != Way::Any),
        ];
        for (key, is_asked) in asked {
            if is_asked {
                let problem = "there is no device to copy to".into();
                return Err(BuildError::Value { key, problem });
            }
        }
        Ok(())
    }

    /// The sizes of the blocks, rising.
    pub fn block_sizes(&self) -> Vec<usize> {
        let sizes = LogUniform::new(self.size_min_bytes, self.size_max_bytes);
        tiers::block_sizes(self.blocks, &sizes)
    }

    pub fn allocation_sizes(&self) -> LogUniform {
        LogUniform::new(self.allocation_min_bytes, self.allocation_max_bytes)
    }

    /// Mean lifetime in operations of a worker. Little's law: what is alive is lifetime times size,
    /// so a wished lifetime that would hold more than the share of the bound is cut to it.
    pub fn lifetime_mean(&self) -> f64 {
        let taken = self.allocation_sizes().mean() + GRANULE_BYTES as f64;
        let bounded = self.live_share * self.pool_bytes as f64 / taken;
        bounded.min(self.lifetime_s * self.allocation_rate_s).min(storm::LIFETIME_MEAN_MAX)
    }

    /// The same as a half-life, in 2^-16 operations.
    pub fn half_life(&self) -> u64 {
        let scale = f64::from(1 << HALF_LIFE_BITS);
        ((self.lifetime_mean() * std::f64::consts::LN_2 * scale).round() as u64).max(1)
    }

    /// What each worker keeps resident.
    pub fn worker_bytes(&self) -> u64 {
        let staging = transfers::staging_bytes(self.chunks_in_flight, self.chunk_bytes) as u64;
        let tags = self.pool_bytes / GRANULE_BYTES * TAG_BYTES;
        staging + self.pool_bytes + tags + storm::BOOKS_BYTES
    }
}
