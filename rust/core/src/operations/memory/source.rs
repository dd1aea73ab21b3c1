//! What a storm allocates from: our own pool, or the host's heap as the control beside it.

use std::io;
use std::ptr::NonNull;

use serde::Deserialize;

use super::arena::Arena;
use super::pool::Pool;
use super::storm::GRANULE_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    Pool,
    Heap,
}

/// Memory of one worker.
pub enum Source {
    Pool {
        pool: Box<Pool>,
        arena: Arena,
    },
    /// `malloc` and `free` of the C library, or of what stands in for it.
    Heap,
}

impl Source {
    /// # Errors
    /// The system refuses the pool's memory.
    pub fn new(allocator: Allocator, pool_bytes: u64) -> io::Result<Self> {
        Ok(match allocator {
            Allocator::Pool => Self::Pool {
                pool: Box::new(Pool::new(pool_bytes / GRANULE_BYTES)),
                arena: Arena::map(pool_bytes as usize)?,
            },
            Allocator::Heap => Self::Heap,
        })
    }

    pub fn is_pool(&self) -> bool {
        matches!(self, Self::Pool { .. })
    }

    /// `bytes`, a multiple of the granule; None where there are none.
    #[inline]
    pub fn allocate(&mut self, bytes: u64) -> Option<NonNull<u8>> {
        match self {
            Self::Pool { pool, arena } => {
                let first = pool.allocate(bytes / GRANULE_BYTES)?;
                Some(arena.address(first as usize * GRANULE_BYTES as usize))
            }
            // SAFETY: any size may be asked for; what comes back is checked.
            Self::Heap => NonNull::new(unsafe { libc::malloc(bytes as usize) }.cast()),
        }
    }

    /// Takes back what `allocate` gave; false where it had been taken back before.
    #[inline]
    pub fn free(&mut self, start: NonNull<u8>) -> bool {
        match self {
            Self::Pool { pool, arena } => pool.free(granule_of(arena, start)).is_ok(),
            Self::Heap => {
                // SAFETY: it came from `malloc`, and the storm forgets it with this call.
                unsafe { libc::free(start.as_ptr().cast()) };
                true
            }
        }
    }

    /// Whether `bytes` are allocated at `start`; the heap is believed.
    pub fn has(&self, start: NonNull<u8>, bytes: u64) -> bool {
        match self {
            Self::Pool { pool, arena } => {
                let granules = pool.length_of(granule_of(arena, start));
                granules.is_some_and(|found| u64::from(found) * GRANULE_BYTES == bytes)
            }
            Self::Heap => true,
        }
    }

    /// Bytes handed out; the heap does not say.
    pub fn used_bytes(&self) -> Option<u64> {
        match self {
            Self::Pool { pool, .. } => Some(pool.used_granules() * GRANULE_BYTES),
            Self::Heap => None,
        }
    }

    /// 1 - largest free / total free; the heap does not say.
    pub fn fragmentation(&self) -> Option<f64> {
        match self {
            Self::Pool { pool, .. } => Some(pool.fragmentation()),
            Self::Heap => None,
        }
    }

    pub fn offset_of(&self, start: NonNull<u8>) -> Option<u64> {
        match self {
            Self::Pool { arena, .. } => Some(arena.offset_of(start) as u64),
            Self::Heap => None,
        }
    }

    /// Makes everything free that a storm has lost sight of.
    pub fn clear(&mut self) {
        if let Self::Pool { pool, .. } = self {
            pool.clear();
        }
    }
}

fn granule_of(arena: &Arena, start: NonNull<u8>) -> u32 {
    (arena.offset_of(start) / GRANULE_BYTES as usize) as u32
}
