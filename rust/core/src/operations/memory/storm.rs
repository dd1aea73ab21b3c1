//! The allocation storm of one worker: every operation frees what is due and allocates once.

use std::ptr::NonNull;

use super::draws::Allocation;
use super::source::Source;
use super::touch::Touch;
use crate::operations::{Fault, Pause};

/// Granule of the pool: the least size of the storm, about.
pub const GRANULE_BYTES: u64 = 1024;
/// Before the bytes that are handed out: one line, whose last word is a canary.
const FRONT_BYTES: u64 = 64;
/// Behind them: a canary.
const BACK_BYTES: u64 = 8;
/// Lifetimes end within so many operations.
pub const WHEEL: usize = 1 << 16;
/// Mean lifetimes are at most so long, which keeps 16 of them within the wheel.
pub const LIFETIME_MEAN_MAX: f64 = 4096.0;
/// Most allocations alive at once: twice the longest mean lifetime, 64 deviations of it away.
pub const ALIVE_MAX: usize = 8192;
const NONE: u32 = u32::MAX;

/// Bytes that an allocation takes of its source and of the bound.
pub fn taken_bytes(bytes: u64) -> u64 {
    (FRONT_BYTES + bytes.next_multiple_of(8) + BACK_BYTES).next_multiple_of(GRANULE_BYTES)
}

/// Bytes that a storm keeps beside its source.
pub const BOOKS_BYTES: u64 = (WHEEL * 4 + ALIVE_MAX * (size_of::<Alive>() + 4)) as u64;

#[derive(Clone, Copy)]
struct Alive {
    start: NonNull<u8>,
    bytes: u64,
    stamp: u64,
    /// The next one that is due at the same time.
    next: u32,
    /// It has canaries.
    guarded: bool,
}

/// How an operation of the storm ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Placed,
    OverBound,
    /// Under the bound, and yet no span was long enough.
    Unplaced,
}

/// What a storm has counted since it was asked last; `alive` stands as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub allocated: u64,
    pub freed: u64,
    pub over_bound: u64,
    pub unplaced: u64,
    /// Canaries found changed, and frees of what was not allocated.
    pub broken: u64,
    pub alive: u64,
    pub alive_bytes: u64,
}

/// The allocations of one worker, where each of them is and when it is freed.
pub struct Storm {
    source: Source,
    touch: Touch,
    bound_bytes: u64,
    /// Allocations of so many bytes are filled past the caches.
    past_cache_bytes: u64,
    /// First of those due at each operation, modulo the wheel.
    wheel: Vec<u32>,
    alive: Vec<Alive>,
    vacant: Vec<u32>,
    /// Operations so far.
    now: u64,
    last: Option<u32>,
    books: Books,
}

// SAFETY: the addresses in `alive` are of memory that this storm alone owns.
unsafe impl Send for Storm {}

impl Storm {
    pub fn new(source: Source, touch: Touch, bound_bytes: u64, past_cache_bytes: u64) -> Self {
        let unused =
            Alive { start: NonNull::dangling(), bytes: 0, stamp: 0, next: NONE, guarded: false };
        Self {
            source,
            touch,
            bound_bytes,
            past_cache_bytes,
            wheel: vec![NONE; WHEEL],
            alive: vec![unused; ALIVE_MAX],
            vacant: (0..ALIVE_MAX as u32).rev().collect(),
            now: 0,
            last: None,
            books: Books::default(),
        }
    }

    /// Frees what is due, then allocates and touches. With `guarded`, or where it touches anyway,
    /// the allocation gets canaries, which are looked at when it is freed.
    #[inline]
    pub fn step(
        &mut self,
        asked: Allocation,
        stamp: u64,
        guarded: bool,
        pause: &mut dyn Pause,
    ) -> Outcome {
        self.now += 1;
        self.last = None;
        let due = self.now as usize % WHEEL;
        self.free_list(due);
        let taken = taken_bytes(asked.bytes);
        if self.books.alive_bytes + taken > self.bound_bytes {
            self.books.over_bound += 1;
            return Outcome::OverBound;
        }
        let Some(&slot) = self.vacant.last() else {
            self.books.over_bound += 1;
            return Outcome::OverBound;
        };
        let Some(start) = self.source.allocate(taken) else {
            self.books.unplaced += 1;
            return Outcome::Unplaced;
        };
        self.vacant.pop();
        let guarded = guarded || self.touch != Touch::None;
        let due = (self.now + asked.lifetime) as usize % WHEEL;
        let one = Alive { start, bytes: asked.bytes, stamp, next: self.wheel[due], guarded };
        self.wheel[due] = slot;
        self.alive[slot as usize] = one;
        self.last = Some(slot);
        self.books.allocated += 1;
        self.books.alive += 1;
        self.books.alive_bytes += taken;
        if guarded {
            one.guard();
            let past_cache = asked.bytes >= self.past_cache_bytes;
            // SAFETY: this storm owns the allocation, and nobody borrows it.
            self.touch.write(unsafe { one.words() }, stamp, past_cache, pause);
        }
        Outcome::Placed
    }

    #[inline]
    fn free_list(&mut self, due: usize) {
        let mut at = std::mem::replace(&mut self.wheel[due], NONE);
        while at != NONE {
            let one = self.alive[at as usize];
            if one.guarded && !one.is_guarded_well() {
                self.books.broken += 1;
            }
            let taken = taken_bytes(one.bytes);
            if !self.source.free(one.start) {
                self.books.broken += 1;
            }
            self.vacant.push(at);
            self.books.freed += 1;
            self.books.alive -= 1;
            self.books.alive_bytes -= taken;
            at = one.next;
        }
    }

    /// Whether the last allocation is its own, holds what was written to it between whole canaries,
    /// and the books agree with the source.
    pub fn is_right(&self) -> bool {
        let Some(slot) = self.last else { return true };
        let one = &self.alive[slot as usize];
        let taken = taken_bytes(one.bytes);
        self.source.has(one.start, taken)
            && self.source.used_bytes().is_none_or(|used| used == self.books.alive_bytes)
            && (!one.guarded || one.is_guarded_well())
            // SAFETY: this storm owns the allocation, and nobody else borrows it.
            && self.touch.holds(unsafe { one.words() }, one.stamp)
    }

    /// Frees everything and starts over; what the books had wrong is gone.
    pub fn restart(&mut self) {
        let broken = self.books.broken;
        self.drain();
        self.source.clear();
        self.books.broken = broken;
    }

    /// Frees everything that is alive.
    pub fn drain(&mut self) {
        for due in 0..WHEEL {
            self.free_list(due);
        }
        self.last = None;
    }

    /// The counts since the last call.
    pub fn take_books(&mut self) -> Books {
        let Books { alive, alive_bytes, .. } = self.books;
        std::mem::replace(&mut self.books, Books { alive, alive_bytes, ..Books::default() })
    }

    pub fn alive_bytes(&self) -> u64 {
        self.books.alive_bytes
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where the last allocation starts: its offset in the pool; None on the heap.
    pub fn last_offset(&self) -> Option<u64> {
        self.source.offset_of(self.alive[self.last? as usize].start)
    }

    /// Damages the last allocation; false where there is none, or nothing that could be damaged so.
    pub fn plant(&mut self, fault: Fault) -> bool {
        let Some(slot) = self.last else { return false };
        let one = self.alive[slot as usize];
        match fault {
            Fault::FlippedBit if one.guarded => {
                // SAFETY: this storm owns the allocation, and nobody borrows it.
                let words = unsafe { one.words() };
                match self.touch {
                    Touch::None => one.break_guard(),
                    Touch::Page | Touch::Fill => words[0] ^= 0x400,
                }
                true
            }
            Fault::FlippedBit => false,
            // The source has it back, the books do not know.
            Fault::LostResult => self.source.is_pool() && self.source.free(one.start),
            // The source gave more than the books know: something was handed out twice.
            Fault::DoubledResult => {
                self.source.is_pool() && self.source.allocate(GRANULE_BYTES).is_some()
            }
        }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Alive {
    fn front(&self) -> NonNull<u64> {
        // SAFETY: every allocation starts with `FRONT_BYTES`, whose last word this is; allocations
        // are aligned to 16 bytes at least.
        unsafe { self.start.add(FRONT_BYTES as usize - 8).cast() }
    }

    fn back(&self) -> NonNull<u64> {
        let offset = FRONT_BYTES + self.bytes.next_multiple_of(8);
        // SAFETY: `taken_bytes` has room for a word behind the bytes rounded up.
        unsafe { self.start.add(offset as usize).cast() }
    }

    /// The bytes handed out, as words.
    ///
    /// # Safety
    /// The allocation is alive and not borrowed otherwise.
    #[allow(clippy::mut_from_ref, reason = "the record is no owner of the memory")]
    unsafe fn words(&self) -> &mut [u64] {
        let words = self.bytes.div_ceil(8) as usize;
        // SAFETY: inside the allocation, aligned to 8, and the caller vouches for the borrow.
        unsafe {
            let start = self.start.add(FRONT_BYTES as usize).cast::<u64>();
            std::slice::from_raw_parts_mut(start.as_ptr(), words)
        }
    }

    fn guard(&self) {
        // SAFETY: both words are inside the allocation, which the storm owns.
        unsafe {
            self.front().write(!self.stamp);
            self.back().write(!self.stamp);
        }
    }

    fn is_guarded_well(&self) -> bool {
        // SAFETY: as in `guard`, by which both words were written.
        unsafe { self.front().read() == !self.stamp && self.back().read() == !self.stamp }
    }

    fn break_guard(&self) {
        // SAFETY: as in `guard`.
        unsafe { self.back().write(self.back().read() ^ 1) };
    }
}

#[cfg(test)]
mod tests;
