//! A kernel that spins: launched, fed through its ring, and launched again whenever it ends.

use std::sync::Arc;

use super::ring::{Answer, Feeder, Memory, Payload, Progress, RingError, Ticket};
use super::{Capabilities, Context, DriverError, Launch, Stream};
use crate::clock::Clock;

/// Longest slices: where the system ends kernels that run for long, and elsewhere.
const WATCHED_SLICE_NS: u64 = 200_000_000;
const SLICE_NS: u64 = 2_000_000_000;
/// How often the driver is asked whether the kernel is still there: a query costs microseconds and
/// takes a lock, and nothing else tells of a kernel that ended without a word.
const QUERY_NS: u64 = 1_000_000;
/// The stop word above every launch's number.
const EVERY_LAUNCH: u64 = u64::MAX;

/// Why a ring is served no more.
#[derive(Debug, thiserror::Error)]
pub enum PersistentError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// When a launch ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// After so long.
    pub slice_ns: u64,
    /// After so many looks in a row that found no message.
    pub polls_max: u64,
}

impl Limits {
    /// What the device allows of limits that are asked for: slices end before its watchdog would.
    #[must_use]
    pub fn within(self, capabilities: &Capabilities) -> Self {
        let most = if capabilities.has_time_out { WATCHED_SLICE_NS } else { SLICE_NS };
        Self { slice_ns: self.slice_ns.min(most), ..self }
    }
}

/// A kernel whose first parameters are those of `ring_echo` (`kernels/ring.cu`).
#[derive(Clone, Debug)]
pub struct Kernel {
    /// A `CUfunction` of the context.
    pub function: u64,
    pub block: u32,
    pub shared_bytes: u32,
    /// The bytes of each parameter that follows the ring's own.
    pub arguments: Vec<Vec<u8>>,
}

/// A spinning kernel and its feeder: one thread's, which has entered the context.
///
/// Nothing is launched, queried or allocated to hand a message over. `poll` is what keeps the
/// kernel there, so it is called all the time.
pub struct Persistent<C> {
    feeder: Feeder,
    stream: Stream,
    kernel: Kernel,
    address: u64,
    limits: Limits,
    clock: C,
    /// The number of the last launch, which are counted from 1, and when it was enqueued.
    launch: u64,
    launched_ns: u64,
    /// When the driver was asked last.
    asked_ns: u64,
    is_running: bool,
}

impl<C: Clock> Persistent<C> {
    /// Launches the kernel over an empty ring that the device sees at `address`, in a stream of
    /// this priority. Enters the context.
    ///
    /// # Errors
    /// The driver refuses the stream or the launch.
    pub fn start(
        context: &Arc<Context>,
        priority: i32,
        memory: Arc<Memory>,
        address: u64,
        kernel: Kernel,
        limits: Limits,
        clock: C,
    ) -> Result<Self, DriverError> {
        let limits = limits.within(&context.capabilities()?);
        let stream = context.stream(priority)?;
        let mut started = Self {
            feeder: Feeder::new(memory, 0),
            stream,
            kernel,
            address,
            limits,
            clock,
            launch: 0,
            launched_ns: 0,
            asked_ns: 0,
            is_running: false,
        };
        started.relaunch()?;
        Ok(started)
    }

    /// The limits that launches have, after what the device allows.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Launches so far.
    #[must_use]
    pub fn launches(&self) -> u64 {
        self.launch
    }

    /// Messages that were submitted and not yet collected.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.feeder.in_flight()
    }

    /// Hands a message over; `None` where every slot is taken.
    #[inline]
    pub fn submit(&mut self, payload: &Payload) -> Option<Ticket> {
        self.feeder.push(payload)
    }

    /// Calls `done` once for each message that was answered since, with the moment at which it was
    /// found and its answer, and sees to it that the kernel goes on. Says how many there were.
    ///
    /// # Errors
    /// The device is lost, a launch is refused, or the kernel broke the ring's rules; messages on
    /// their way stay there.
    #[inline]
    pub fn poll(
        &mut self,
        done: impl FnMut(Ticket, u64, Answer<'_>),
    ) -> Result<usize, PersistentError> {
        let count = self.feeder.poll(&self.clock, done)?;
        self.tend()?;
        Ok(count)
    }

    /// Ends the kernel and waits for its end. What was not answered by then stays on its way; the
    /// next `poll` launches the kernel again for it.
    ///
    /// # Errors
    /// The device is lost.
    pub fn stop(&mut self) -> Result<(), DriverError> {
        self.feeder.stop(self.launch);
        self.stream.synchronize()?;
        self.is_running = false;
        Ok(())
    }

    fn tend(&mut self) -> Result<(), DriverError> {
        if self.is_running {
            match self.feeder.progress(self.launch) {
                Progress::Ended => self.is_running = false,
                // One block found nothing for long and has work now, others still look.
                Progress::Stranding => self.feeder.stop(self.launch),
                Progress::Serving => {}
            }
            let now_ns = self.clock.now();
            if now_ns.saturating_sub(self.asked_ns) >= QUERY_NS {
                self.asked_ns = now_ns;
                self.is_running &= !self.stream.is_idle()?;
            }
        }
        // A launch that found nothing to do for long is not followed by another before there is.
        if self.is_running || (self.feeder.in_flight() == 0 && !self.has_used_its_slice()) {
            return Ok(());
        }
        self.relaunch()
    }

    fn has_used_its_slice(&self) -> bool {
        self.clock.now().saturating_sub(self.launched_ns) >= self.limits.slice_ns
    }

    fn relaunch(&mut self) -> Result<(), DriverError> {
        self.launch += 1;
        let shape = self.feeder.shape();
        let own: [&[u8]; 6] = [
            &self.address.to_ne_bytes(),
            &(shape.slots as u32).to_ne_bytes(),
            &(shape.answer_lines as u32).to_ne_bytes(),
            &self.launch.to_ne_bytes(),
            &self.limits.slice_ns.to_ne_bytes(),
            &self.limits.polls_max.to_ne_bytes(),
        ];
        let rest = self.kernel.arguments.iter().map(Vec::as_slice);
        let arguments: Vec<&[u8]> = own.into_iter().chain(rest).collect();
        let Kernel { function, block, shared_bytes, .. } = self.kernel;
        let launch = Launch::new(function, shape.groups as u32, block, shared_bytes, &arguments);
        self.stream.launch(&launch)?;
        self.is_running = true;
        self.launched_ns = self.clock.now();
        self.asked_ns = self.launched_ns;
        Ok(())
    }
}

impl<C> Drop for Persistent<C> {
    fn drop(&mut self) {
        self.feeder.stop(EVERY_LAUNCH);
        // The ring outlives the kernel; a device that is lost has none any more.
        self.stream.synchronize().ok();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
