//! How a ring lies in memory: lines of 128 bytes, each word of which one side alone writes.

use std::ops::Deref;
use std::ptr::NonNull;

use crate::sync::{AtomicU64, Ordering};

/// Words of 8 bytes in a line; fewer in a model, where each access is a place to switch threads.
pub const LINE_WORDS: usize = if cfg!(loom) { 4 } else { 16 };
/// Words of a message beside its sequence word.
pub const PAYLOAD_WORDS: usize = LINE_WORDS - 1;
/// What a message carries.
pub type Payload = [u64; PAYLOAD_WORDS];

/// Of a slot's line: one more than the number of the message that lies there. Written last.
pub(super) const SEQUENCE: usize = LINE_WORDS - 1;
/// Of the first line of a ring: launches up to this number end. Written by the host.
pub(super) const STOP: usize = 0;
/// Of a group's first line: messages published. Written by the host.
pub(super) const HEAD: usize = 0;
/// Of a group's second line, written by the device: messages acknowledged, the last launch that
/// ended there, and the state after an even and after an odd number of messages.
pub(super) const TAIL: usize = 0;
pub(super) const ENDED: usize = 1;
pub(super) const STATE: usize = 2;

/// Most groups, slots of a group and lines of an answer.
const GROUPS_MAX: usize = 1024;
const SLOTS_MAX: usize = 1 << 16;
const ANSWER_LINES_MAX: usize = 1 << 20;

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The sizes are none that a kernel takes.
    #[error(
        "a ring of {groups} groups of {slots} slots with {answer_lines} lines an answer: \
         1 to {GROUPS_MAX} groups, a power of two up to {SLOTS_MAX} slots and 1 to \
         {ANSWER_LINES_MAX} lines"
    )]
    Shape { groups: usize, slots: usize, answer_lines: usize },
    /// The memory does not begin at a line, or ends before the ring.
    #[error("memory of {bytes} bytes at {address:#x}: a ring needs {needed} bytes, in whole lines")]
    Memory { address: usize, bytes: usize, needed: usize },
    /// A kernel acknowledged what was never published.
    #[error("group {group} of the ring acknowledged up to {tail}, and {head} was published")]
    Overrun { group: usize, tail: u64, head: u64 },
}

/// The sizes of a ring: a kernel gets them beside its address.
///
/// A group is what one block of the kernel serves. It has `slots` (a power of two) messages in
/// flight at most, each with an answer of `answer_lines` lines behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub groups: usize,
    pub slots: usize,
    pub answer_lines: usize,
}

impl Shape {
    /// # Errors
    /// [`RingError::Shape`] for sizes that are out of bounds.
    pub fn check(&self) -> Result<(), RingError> {
        let Self { groups, slots, answer_lines } = *self;
        let is_right = (1..=GROUPS_MAX).contains(&groups)
            && (1..=SLOTS_MAX).contains(&slots)
            && slots.is_power_of_two()
            && (1..=ANSWER_LINES_MAX).contains(&answer_lines);
        if is_right { Ok(()) } else { Err(RingError::Shape { groups, slots, answer_lines }) }
    }

    /// Lines of the whole ring: the stop word's, and for each group its head, its tail and its
    /// slots, each slot followed by its answer.
    #[must_use]
    pub fn lines(&self) -> usize {
        1 + self.groups * self.group_lines()
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lines() * size_of::<Line>()
    }

    fn group_lines(&self) -> usize {
        2 + self.slots * (1 + self.answer_lines)
    }
}

/// What one side of PCIe transfers at a time.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub(super) struct Line([AtomicU64; LINE_WORDS]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 128);

impl Deref for Line {
    type Target = [AtomicU64; LINE_WORDS];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The memory of one ring, its own or somebody else's.
#[derive(Debug)]
pub struct Memory {
    shape: Shape,
    lines: NonNull<[Line]>,
    is_owned: bool,
}

// SAFETY: all accesses are atomic.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Memory of the host alone.
    ///
    /// # Errors
    /// [`RingError::Shape`] for sizes that are out of bounds.
    pub fn owned(shape: Shape) -> Result<Self, RingError> {
        shape.check()?;
        let lines: Box<[Line]> = (0..shape.lines()).map(|_| Line::default()).collect();
        Ok(Self { shape, lines: NonNull::from(Box::leak(lines)), is_owned: true })
    }

    /// Pinned mapped memory that somebody else keeps.
    ///
    /// # Errors
    /// [`RingError`] for sizes out of bounds, and where the memory is not aligned to 128 bytes or
    /// too short.
    ///
    /// # Safety
    /// From `address` on there are `bytes` of readable and writable memory for as long as the
    /// result lives, and whatever else accesses them does so by whole aligned words.
    #[cfg(not(loom))]
    pub unsafe fn at(address: usize, bytes: usize, shape: Shape) -> Result<Self, RingError> {
        shape.check()?;
        let first = NonNull::new(std::ptr::with_exposed_provenance_mut::<Line>(address));
        match first {
            Some(first) if first.is_aligned() && bytes >= shape.bytes() => {
                let lines = NonNull::slice_from_raw_parts(first, shape.lines());
                Ok(Self { shape, lines, is_owned: false })
            }
            _ => Err(RingError::Memory { address, bytes, needed: shape.bytes() }),
        }
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Where it begins on the host, which is where a device sees pinned memory under unified
    /// addressing.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.lines.cast::<Line>().as_ptr().expose_provenance() as u64
    }

    #[inline(always)]
    fn lines(&self) -> &[Line] {
        // SAFETY: the lines are live for as long as `self`, and consist of atomics alone.
        unsafe { self.lines.as_ref() }
    }

    #[inline(always)]
    pub(super) fn control(&self) -> &Line {
        &self.lines()[0]
    }

    #[inline(always)]
    fn of_group(&self, group: usize, line: usize) -> &Line {
        &self.lines()[1 + group * self.shape.group_lines() + line]
    }

    #[inline(always)]
    pub(super) fn head(&self, group: usize) -> &Line {
        self.of_group(group, 0)
    }

    #[inline(always)]
    pub(super) fn tail(&self, group: usize) -> &Line {
        self.of_group(group, 1)
    }

    #[inline(always)]
    fn slot_line(&self, number: u64) -> usize {
        let place = number as usize & (self.shape.slots - 1);
        2 + place * (1 + self.shape.answer_lines)
    }

    /// The line of message `number` of a group.
    #[inline(always)]
    pub(super) fn slot(&self, group: usize, number: u64) -> &Line {
        self.of_group(group, self.slot_line(number))
    }

    /// The lines of the answer to message `number` of a group.
    #[inline(always)]
    pub(super) fn answer(&self, group: usize, number: u64) -> &[Line] {
        let first = 1 + group * self.shape.group_lines() + self.slot_line(number) + 1;
        &self.lines()[first..first + self.shape.answer_lines]
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.is_owned {
            // SAFETY: it came from a box, and nothing borrows it any more.
            drop(unsafe { Box::from_raw(self.lines.as_ptr()) });
        }
    }
}

/// What a kernel wrote for one message, valid until its slot is used again.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a>(pub(super) &'a [Line]);

impl Answer<'_> {
    /// Its words, whole lines of them.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|line| line.iter().map(|word| word.load(Ordering::Relaxed)))
    }

    /// Word `index`.
    ///
    /// # Panics
    /// Where the answer is shorter.
    #[inline]
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        self.0[index / LINE_WORDS][index % LINE_WORDS].load(Ordering::Relaxed)
    }
}
