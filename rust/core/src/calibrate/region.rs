//! Page-aligned anonymous memory whose pages come and go when a probe says so.

use std::io;
use std::ptr::NonNull;

/// A private mapping of whole 64-byte lines, read and written as 64-bit words; freed when dropped.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u64>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone and is tied to no thread.
unsafe impl Send for Region {}

impl Region {
    /// Maps `bytes` (rounded up to whole pages); no page is resident yet.
    ///
    /// With `huge` the kernel is asked for huge pages, so that address translation does not bound
    /// what a memory probe sees; where it has none, small pages serve.
    ///
    /// # Errors
    /// The system refuses the mapping.
    pub fn map(bytes: usize, huge: bool) -> io::Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES);
        // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u64>()).ok_or_else(io::Error::last_os_error)?;
        let region = Self { start, bytes };
        if huge {
            // SAFETY: the range is ours; the advice changes no contents. Its refusal (a kernel
            // without huge pages) leaves small pages, which serve as well.
            unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        }
        Ok(region)
    }

    /// All of it, as words; its first use makes pages resident.
    pub fn words(&mut self) -> &mut [u64] {
        // SAFETY: the mapping is page-aligned, `bytes` long, readable and writable, and borrowed
        // mutably through `self`; every bit pattern is a `u64`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes / 8) }
    }

    /// Gives all pages back; the next touch of each is a first touch again.
    ///
    /// # Errors
    /// The system refuses, as it does for locked memory.
    pub fn release_pages(&mut self) -> io::Result<()> {
        // SAFETY: the range is ours and anonymous: it reads as zeros afterwards.
        let status =
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_DONTNEED) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and no borrow outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The smallest page of the supported machines; regions are multiples of it.
pub const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_pages_read_as_zeros_again() {
        let mut region = Region::map(3 * PAGE_BYTES - 1, false).unwrap();
        assert_eq!(region.words().len(), 3 * PAGE_BYTES / 8);
        region.words().fill(7);
        assert!(region.words().iter().all(|word| *word == 7));
        region.release_pages().unwrap();
        assert!(region.words().iter().all(|word| *word == 0));
    }
}
