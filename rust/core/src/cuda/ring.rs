//! Messages to a kernel that spins: a ring in memory that the host and a device share.
//!
//! A message and its sequence word lie in one line, and each word has one writer, so that nothing
//! is read, changed and written back across PCIe. The host publishes with a release store of the
//! sequence word; the device acquires it, answers behind the message, and acknowledges with a
//! release store of its count. That count and the state beside it are all that a kernel needs to
//! go on: one that ended, of its own accord or not, is launched again, and nothing is lost nor
//! done twice. `kernels/ring.cuh` is the device's side.

mod memory;

use std::sync::Arc;

pub use memory::{Answer, LINE_WORDS, Memory, PAYLOAD_WORDS, Payload, RingError, Shape};
use memory::{ENDED, HEAD, SEQUENCE, STATE, STOP, TAIL};

use crate::clock::Clock;
use crate::sync::Ordering;

/// A message on its way: its group, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub group: u32,
    pub number: u64,
}

/// How far a launch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every group with messages on their way is served.
    Serving,
    /// A group with messages on their way is served no more, others are: they have to be stopped.
    Stranding,
    /// No group is served any more.
    Ended,
}

/// Numbers of messages, which wrap around: published by the host, and collected by it.
#[derive(Clone, Copy, Debug)]
struct Group {
    head: u64,
    collected: u64,
}

impl Group {
    #[inline(always)]
    fn in_flight(&self) -> u64 {
        self.head.wrapping_sub(self.collected)
    }
}

/// The host's side of a ring: one thread's.
#[derive(Debug)]
pub struct Feeder {
    memory: Arc<Memory>,
    groups: Box<[Group]>,
    /// The group that is asked first for room.
    turn: usize,
}

impl Feeder {
    /// An empty ring whose groups begin with message `first`. No kernel serves it yet.
    #[must_use]
    pub fn new(memory: Arc<Memory>, first: u64) -> Self {
        let shape = memory.shape();
        memory.control()[STOP].store(0, Ordering::Relaxed);
        for group in 0..shape.groups {
            // What each slot would say if the ring had gone round once before.
            for number in (0..shape.slots as u64).map(|place| first.wrapping_add(place)) {
                let before = number.wrapping_add(1).wrapping_sub(shape.slots as u64);
                memory.slot(group, number)[SEQUENCE].store(before, Ordering::Relaxed);
            }
            memory.head(group)[HEAD].store(first, Ordering::Relaxed);
            let tail = memory.tail(group);
            for word in [ENDED, STATE, STATE + 1] {
                tail[word].store(0, Ordering::Relaxed);
            }
            tail[TAIL].store(first, Ordering::Release);
        }
        let groups = vec![Group { head: first, collected: first }; shape.groups];
        Self { memory, groups: groups.into_boxed_slice(), turn: 0 }
    }

    /// Takes up a ring where its last feeder left it: what was acknowledged is collected, what was
    /// published is on its way.
    #[must_use]
    pub fn resumed(memory: Arc<Memory>) -> Self {
        let of = |group: usize| Group {
            head: memory.head(group)[HEAD].load(Ordering::Relaxed),
            collected: memory.tail(group)[TAIL].load(Ordering::Acquire),
        };
        let groups = (0..memory.shape().groups).map(of).collect();
        Self { memory, groups, turn: 0 }
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        self.memory.shape()
    }

    /// Messages that were published and not yet collected.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.groups.iter().map(Group::in_flight).sum()
    }

    /// Publishes a message where the fewest are on their way; `None` where every slot is taken.
    ///
    /// Allocates nothing and makes no system call.
    #[inline]
    pub fn push(&mut self, payload: &Payload) -> Option<Ticket> {
        let group = self.emptiest()?;
        let number = self.groups[group].head;
        let slot = self.memory.slot(group, number);
        // The kernel is done with the slot: its acknowledgement was acquired by `poll`.
        for (word, value) in slot.iter().zip(payload) {
            word.store(*value, Ordering::Relaxed);
        }
        let head = number.wrapping_add(1);
        slot[SEQUENCE].store(head, Ordering::Release);
        self.memory.head(group)[HEAD].store(head, Ordering::Relaxed);
        self.groups[group].head = head;
        self.turn = if group + 1 == self.groups.len() { 0 } else { group + 1 };
        Some(Ticket { group: group as u32, number })
    }

    /// The group with the fewest messages on their way, of several the next in turn.
    #[inline]
    fn emptiest(&self) -> Option<usize> {
        let (before, from) = self.groups.split_at(self.turn);
        let mut found = None;
        let mut fewest = self.memory.shape().slots as u64;
        for (ahead, group) in from.iter().chain(before).enumerate() {
            if group.in_flight() < fewest {
                fewest = group.in_flight();
                found = Some(ahead);
                if fewest == 0 {
                    break;
                }
            }
        }
        let group = self.turn + found?;
        Some(if group < self.groups.len() { group } else { group - self.groups.len() })
    }

    /// Collects what was acknowledged: calls `done` once for each message with its ticket, the
    /// moment at which it was found, and its answer, whose slot is free afterwards. Says how many.
    ///
    /// # Errors
    /// [`RingError::Overrun`] where a kernel acknowledged what was never published.
    #[inline]
    pub fn poll(
        &mut self,
        clock: &impl Clock,
        mut done: impl FnMut(Ticket, u64, Answer<'_>),
    ) -> Result<usize, RingError> {
        let mut count = 0;
        for (index, group) in self.groups.iter_mut().enumerate() {
            if group.in_flight() == 0 {
                continue;
            }
            let tail = self.memory.tail(index)[TAIL].load(Ordering::Acquire);
            let acknowledged = tail.wrapping_sub(group.collected);
            if acknowledged > group.in_flight() {
                return Err(RingError::Overrun { group: index, tail, head: group.head });
            }
            if acknowledged == 0 {
                continue;
            }
            let stamp = clock.now();
            for number in (0..acknowledged).map(|ahead| group.collected.wrapping_add(ahead)) {
                let ticket = Ticket { group: index as u32, number };
                done(ticket, stamp, Answer(self.memory.answer(index, number)));
            }
            group.collected = tail;
            count += acknowledged as usize;
        }
        Ok(count)
    }

    /// Ends the launches up to this number; a later one serves on.
    pub fn stop(&self, launch: u64) {
        self.memory.control()[STOP].store(launch, Ordering::Release);
    }

    /// How far launch `launch` has come, by what its blocks wrote when they ended.
    #[must_use]
    pub fn progress(&self, launch: u64) -> Progress {
        let mut ended = 0;
        let mut is_stranding = false;
        for (index, group) in self.groups.iter().enumerate() {
            if self.memory.tail(index)[ENDED].load(Ordering::Acquire) < launch {
                continue;
            }
            ended += 1;
            // What has been acknowledged since, waits for nobody.
            let tail = self.memory.tail(index)[TAIL].load(Ordering::Acquire);
            is_stranding |= tail != group.head;
        }
        match ended {
            _ if ended == self.groups.len() => Progress::Ended,
            _ if is_stranding => Progress::Stranding,
            _ => Progress::Serving,
        }
    }

    /// What the kernel keeps of a group's acknowledged messages.
    #[must_use]
    pub fn state(&self, group: usize) -> u64 {
        let tail = self.memory.tail(group);
        let number = tail[TAIL].load(Ordering::Acquire);
        tail[STATE + (number & 1) as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod consumer;
#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
