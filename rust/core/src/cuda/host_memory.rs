//! Pinned memory of the host that a device reads and writes by itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::operations::block_checksum;

/// Some bytes of pinned memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSpan {
    address: u64,
    bytes: usize,
}

impl HostSpan {
    /// The bytes from an address on.
    ///
    /// # Safety
    /// They stay allocated for as long as the span and its copies are used, and nobody touches them
    /// while one of the methods below runs but the device and who calls it.
    #[must_use]
    pub unsafe fn new(address: u64, bytes: usize) -> Self {
        Self { address, bytes }
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// A part of it.
    ///
    /// # Panics
    /// It is not all within.
    #[must_use]
    pub fn part(&self, first: usize, bytes: usize) -> Self {
        assert!(first + bytes <= self.bytes, "a part is within the whole");
        Self { address: self.address + first as u64, bytes }
    }

    /// Whether all bytes of the other are its own too.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let last = other.address + other.bytes as u64;
        self.address <= other.address && last <= self.address + self.bytes as u64
    }

    /// What they are now; no work that writes them is under way.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        self.bytes().to_vec()
    }

    /// Sets every byte; no work that uses them is under way.
    pub fn fill(&self, byte: u8) {
        // SAFETY: allocated and nobody else's, as promised to `new`.
        unsafe { std::ptr::write_bytes(self.address as *mut u8, byte, self.bytes) };
    }

    /// Writes `content`, as long as the span is; no work that uses them is under way.
    ///
    /// # Panics
    /// The lengths differ.
    pub fn write(&self, content: &[u8]) {
        assert_eq!(content.len(), self.bytes, "content fills its span");
        // SAFETY: as for `fill`; `content` is a slice of its own.
        unsafe {
            std::ptr::copy_nonoverlapping(content.as_ptr(), self.address as *mut u8, self.bytes);
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: allocated, and written by nobody meanwhile, as promised to `new`.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.bytes) }
    }
}

/// One digest of all the bytes of some spans, in order; no work that writes them is under way.
#[must_use]
pub fn digest(spans: &[HostSpan]) -> u64 {
    spans.iter().fold(spans.len() as u64, |folded, span| {
        let mixed = (folded ^ block_checksum(span.bytes())).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed.rotate_left(29)
    })
}

/// A word of pinned memory that the host or the device writes, never both.
#[derive(Clone, Copy, Debug)]
pub struct HostWord {
    address: u64,
}

impl HostWord {
    /// Bytes of a line: words of different writers are on lines of their own.
    pub const LINE_BYTES: u64 = 128;

    /// The word at an address.
    ///
    /// # Safety
    /// It is allocated and aligned for as long as the word and its copies are used, and nothing but
    /// these and the device's own accesses to whole words touch it.
    #[must_use]
    pub unsafe fn new(address: u64) -> Self {
        Self { address }
    }

    /// Where it is, for both sides.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// What it is; all that its writer had written before is seen.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.word().load(Ordering::Acquire)
    }

    /// Sets it, after all that was written before.
    pub fn store(&self, value: u64) {
        self.word().store(value, Ordering::Release);
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: allocated, aligned and only ever accessed as a whole, as promised to `new`.
        unsafe { AtomicU64::from_ptr(self.address as *mut u64) }
    }
}
