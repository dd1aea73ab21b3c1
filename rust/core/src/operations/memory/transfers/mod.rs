//! Chunks between memory and a file with several requests in flight: io_uring where the kernel
//! allows it, else threads that call `pread` and `pwrite`.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::time::Duration;

use serde::Deserialize;

use super::arena::Arena;
use crate::operations::Pause;
use crate::operations::scratch::PAGE_BYTES;

#[cfg(target_os = "linux")]
mod ring;
mod threads;

#[cfg(target_os = "linux")]
use ring::Ring;
use threads::Threads;

/// How long a worker sleeps for a request before it looks whether another component waits.
const PARK: Duration = Duration::from_micros(100);
/// Buffers beyond the requests in flight: one is copied while as many as may be are on their way,
/// and one more stands for a request that ended out of turn.
pub const BUFFERS_SPARE: usize = 2;
/// Parks for one request before the disk counts as gone: half a minute.
const PARKS_MAX: u32 = 300_000;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// io_uring where there is one, else threads.
    Auto,
    IoUring,
    Threads,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Read,
    Write,
    /// Everything written so far made durable (`fdatasync`).
    Sync,
}

/// One request as the way below sees it; `slot` comes back with its result.
#[derive(Clone, Copy, Debug)]
struct Order {
    slot: usize,
    task: Task,
    file: RawFd,
    address: *mut u8,
    bytes: usize,
    offset: u64,
}

// SAFETY: the address is of a staging buffer that nobody touches until the order has come back.
unsafe impl Send for Order {}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Idle,
    Busy(Order),
    /// Ended with this error number.
    Failed(i32),
}

enum Way {
    #[cfg(target_os = "linux")]
    Ring(Ring),
    Threads(Threads),
}

impl Way {
    fn begin(&mut self, order: Order) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(ring) => ring.begin(order),
            Self::Threads(threads) => threads.begin(order),
        }
    }

    /// (slot, bytes moved or a negative error number) of a request that has ended.
    fn ended(&mut self) -> Option<(usize, i32)> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(ring) => ring.ended(),
            Self::Threads(threads) => threads.ended(),
        }
    }

    /// Sleeps until a request has ended, for `time` at most.
    fn park(&mut self, time: Duration) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(ring) => ring.park(time),
            Self::Threads(threads) => {
                threads.park(time);
                Ok(())
            }
        }
    }
}

/// Staging buffers of one worker, each with one request in flight at most.
pub struct Transfers {
    way: Way,
    slots: Vec<Slot>,
    in_flight_max: usize,
    chunk_bytes: usize,
    /// A chunk for every slot, and one more that no request ever uses.
    staging: ManuallyDrop<Arena>,
}

/// What the staging buffers of `in_flight_max` requests take.
pub fn staging_bytes(in_flight_max: usize, chunk_bytes: usize) -> usize {
    (in_flight_max + BUFFERS_SPARE + 1) * chunk_bytes
}

impl Transfers {
    /// Buffers of `chunk_bytes` each, a multiple of a page, for `in_flight_max` requests at once
    /// and the spare ones; touched.
    ///
    /// # Errors
    /// No memory, no io_uring where it was demanded, or no thread.
    pub fn open(wish: Wish, in_flight_max: usize, chunk_bytes: usize) -> io::Result<Self> {
        let slots = in_flight_max + BUFFERS_SPARE;
        let staging = Arena::map(staging_bytes(in_flight_max, chunk_bytes))?;
        let staging = ManuallyDrop::new(staging);
        Ok(Self {
            way: open_way(wish, slots)?,
            slots: vec![Slot::Idle; slots],
            in_flight_max,
            chunk_bytes,
            staging,
        })
    }

    /// What moves the bytes.
    pub fn way(&self) -> &'static str {
        match self.way {
            #[cfg(target_os = "linux")]
            Way::Ring(_) => "io_uring",
            Way::Threads(_) => "threads",
        }
    }

    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Whether a slot has no request in flight.
    pub fn is_idle(&self, slot: usize) -> bool {
        !matches!(self.slots[slot], Slot::Busy(_))
    }

    /// Whether one more request may be begun.
    pub fn has_room(&self) -> bool {
        (0..self.slots.len()).filter(|slot| !self.is_idle(*slot)).count() < self.in_flight_max
    }

    /// The buffer of an idle slot.
    pub fn buffer(&mut self, slot: usize) -> &mut [u8] {
        assert!(self.is_idle(slot), "slot {slot} is in flight");
        // SAFETY: each slot has a part of its own, no request is in flight on it, and the borrow
        // is of all of `self`.
        unsafe { self.staging.part(slot * self.chunk_bytes, self.chunk_bytes) }
    }

    /// Both the buffer of an idle slot and the one that no request uses.
    pub fn buffer_and_spare(&mut self, slot: usize) -> (&[u8], &mut [u8]) {
        let (bytes, spare) = (self.chunk_bytes, self.slots.len());
        assert!(self.is_idle(slot), "slot {slot} is in flight");
        // SAFETY: two different parts, neither in flight, borrowed with all of `self`.
        unsafe { (self.staging.part(slot * bytes, bytes), self.staging.part(spare * bytes, bytes)) }
    }

    /// Begins to move the first `bytes` of a slot's buffer, whole pages.
    ///
    /// # Errors
    /// The kernel does not take the request.
    pub fn begin(
        &mut self,
        slot: usize,
        task: Task,
        file: RawFd,
        bytes: usize,
        offset: u64,
    ) -> io::Result<()> {
        let buffer = self.buffer(slot);
        assert!(bytes <= buffer.len() && bytes % PAGE_BYTES == 0, "{bytes} bytes of a chunk");
        if task == Task::Read {
            // What is not read after all must not look as if it had been.
            buffer[..bytes].iter_mut().step_by(PAGE_BYTES).for_each(|mark| *mark = !*mark);
        }
        let order = Order { slot, task, file, address: buffer.as_mut_ptr(), bytes, offset };
        self.way.begin(order)?;
        self.slots[slot] = Slot::Busy(order);
        Ok(())
    }

    /// Waits until a slot is idle, while others are served.
    ///
    /// # Errors
    /// What its request failed with.
    pub fn finish(&mut self, slot: usize, pause: &mut dyn Pause) -> io::Result<()> {
        self.wait_until(|transfers| transfers.is_idle(slot), pause)?;
        match std::mem::replace(&mut self.slots[slot], Slot::Idle) {
            Slot::Failed(number) => Err(io::Error::from_raw_os_error(number)),
            Slot::Idle | Slot::Busy(_) => Ok(()),
        }
    }

    /// Waits until one more request may be begun, while others are served. What a request failed
    /// with is for `finish` to say.
    ///
    /// # Errors
    /// The kernel or the disk does not answer.
    pub fn make_room(&mut self, pause: &mut dyn Pause) -> io::Result<()> {
        self.wait_until(Self::has_room, pause)
    }

    fn wait_until(
        &mut self,
        reached: impl Fn(&Self) -> bool,
        pause: &mut dyn Pause,
    ) -> io::Result<()> {
        let mut parks = 0;
        while !reached(self) {
            if self.collect() {
                continue;
            }
            pause.point();
            if self.collect() {
                continue;
            }
            self.way.park(PARK)?;
            parks += 1;
            if parks > PARKS_MAX {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Waits until nothing is in flight; the first failure of all.
    ///
    /// # Errors
    /// What a request failed with.
    pub fn finish_all(&mut self, pause: &mut dyn Pause) -> io::Result<()> {
        let mut outcome = Ok(());
        for slot in 0..self.slots.len() {
            let ended = self.finish(slot, pause);
            outcome = outcome.and(ended);
        }
        outcome
    }

    /// Files what has ended; whether anything had.
    fn collect(&mut self) -> bool {
        let mut any = false;
        while let Some((slot, result)) = self.way.ended() {
            any = true;
            let Slot::Busy(order) = self.slots[slot] else {
                unreachable!("slot {slot} ended without having begun")
            };
            self.slots[slot] = self.settled(order, result);
        }
        any
    }

    /// The state of a slot whose order has come back: a short transfer goes on with its rest.
    fn settled(&mut self, order: Order, result: i32) -> Slot {
        let again = [-libc::EINTR, -libc::EAGAIN].contains(&result);
        let moved = usize::try_from(result).unwrap_or(0);
        if result < 0 && !again {
            return Slot::Failed(-result);
        }
        if order.task == Task::Sync && !again || moved >= order.bytes && order.bytes > 0 {
            return Slot::Idle;
        }
        if moved == 0 && !again {
            return Slot::Failed(libc::EIO);
        }
        let rest = Order {
            address: order.address.wrapping_add(moved),
            bytes: order.bytes - moved,
            offset: order.offset + moved as u64,
            ..order
        };
        match self.way.begin(rest) {
            Ok(()) => Slot::Busy(rest),
            Err(error) => Slot::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

impl Drop for Transfers {
    /// The buffers go when nothing is in flight; a disk that does not answer keeps them for good.
    fn drop(&mut self) {
        let ended = self.finish_all(&mut crate::operations::NoPause);
        if ended.is_ok() || !self.slots.iter().any(|slot| matches!(slot, Slot::Busy(_))) {
            // SAFETY: this is the only drop, and no request refers to the buffers any more.
            unsafe { ManuallyDrop::drop(&mut self.staging) };
        }
    }
}

fn open_way(wish: Wish, slots: usize) -> io::Result<Way> {
    #[cfg(target_os = "linux")]
    if wish != Wish::Threads {
        match Ring::open(slots) {
            Ok(ring) => return Ok(Way::Ring(ring)),
            Err(error) if wish == Wish::IoUring => return Err(error),
            Err(_) => {}
        }
    }
    if wish == Wish::IoUring {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(Way::Threads(Threads::open(slots)?))
}

#[cfg(test)]
mod tests;
