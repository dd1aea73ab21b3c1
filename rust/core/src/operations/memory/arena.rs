//! Memory that spans of a pool stand for: one mapping, on huge pages where there are any, touched.

use std::io;
use std::ptr::NonNull;

use crate::calibrate::region::{PAGE_BYTES, Region};

/// A touched mapping that is handed out in parts which do not overlap.
pub struct Arena {
    /// Keeps the mapping; it is reached through `start` alone.
    _region: Region,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is tied to no thread, and its parts are borrowed by `part` alone, whose
// callers vouch that no two borrow the same bytes.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps and touches `bytes`, rounded up to whole pages.
    ///
    /// # Errors
    /// The system refuses the mapping.
    pub fn map(bytes: usize) -> io::Result<Self> {
        let mut region = Region::map(bytes, true)?;
        let words = region.words();
        words.iter_mut().step_by(PAGE_BYTES / 8).for_each(|word| *word = 1);
        let (bytes, start) = (words.len() * 8, NonNull::from(words).cast());
        Ok(Self { _region: region, start, bytes })
    }

    /// The address of the byte at `offset`, which lies inside.
    #[inline]
    pub fn address(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.bytes, "{offset} is not inside {}", self.bytes);
        // SAFETY: the offset is inside the mapping.
        unsafe { self.start.add(offset) }
    }

    /// Where an address of this arena lies.
    #[inline]
    pub fn offset_of(&self, address: NonNull<u8>) -> usize {
        address.as_ptr().addr() - self.start.as_ptr().addr()
    }

    /// The `bytes` from `offset` on.
    ///
    /// # Safety
    /// Nobody else borrows any of them while this borrow lives.
    #[allow(clippy::mut_from_ref, reason = "the parts are disjoint, as the callers vouch")]
    #[inline]
    pub unsafe fn part(&self, offset: usize, bytes: usize) -> &mut [u8] {
        assert!(offset + bytes <= self.bytes, "{offset} + {bytes} is not inside {}", self.bytes);
        // SAFETY: inside the mapping, which lives as long as `self`; the caller vouches that no
        // other borrow of these bytes is alive.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset).as_ptr(), bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_their_offsets_say_and_an_offset_outside_is_refused() {
        let arena = Arena::map(10_000).expect("memory");
        // SAFETY: the two parts do not overlap.
        let (left, right) = unsafe { (arena.part(0, 64), arena.part(64, 64)) };
        left.fill(7);
        right.fill(9);
        assert_eq!(arena.offset_of(arena.address(64)), 64);
        // SAFETY: the earlier borrows have ended.
        assert_eq!(unsafe { arena.part(63, 2) }, [7, 9]);
        // SAFETY: it panics before it borrows anything.
        let outside = || unsafe { arena.part(12_000, 1000).len() };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(outside)).is_err());
    }
}
