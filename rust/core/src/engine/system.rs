//! What the control thread steers: the threads of a machine, or a simulated system.

use std::sync::Arc;

use crate::arrivals::Segment;
use crate::histogram::Histogram;

use super::recorder::Recorder;

/// How full one workload's queue is, and was at most since `System::reset_maxima`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Operations waiting for a worker.
    pub queue_depth: u64,
    /// Operations admitted and not ended.
    pub in_flight: u64,
    pub queue_depth_max: u64,
    pub in_flight_max: u64,
}

/// A clock, a pacer, servers and recorders under one roof. Steering, search, health and analysis
/// know nothing else of it, so they are the same for a machine and for a simulation.
pub trait System: Send + Sync {
    /// Nanoseconds since the system was made.
    fn now(&self) -> u64;

    /// Lets `duration_ns` pass.
    fn wait(&self, duration_ns: u64);

    /// Appends segments (workload, segment) to the schedules, as `Control::command` does.
    fn command(&self, at: u64, segments: &mut [(u16, Segment)]) -> u64;

    /// Puts `count` operations of a closed loop into flight.
    fn close_loop(&self, workload: u16, count: usize, phase: u32, epoch: u32);

    /// Lets a closed loop run dry.
    fn open_loop(&self, workload: u16);

    /// Gives up what is queued of phases below `phase`.
    fn abandon_below(&self, phase: u32);

    fn occupancy(&self, workload: usize) -> Occupancy;

    /// Whether every command has been taken in and every arrival handed over whose time has come.
    fn caught_up(&self) -> bool;

    fn reset_maxima(&self);

    /// One recorder per thread that writes.
    fn recorders(&self) -> &[Arc<Recorder>];

    /// A workload whose overload policy asked for the end of the run.
    fn aborted(&self) -> Option<usize>;

    /// Where the time comes from.
    fn clock_source(&self) -> &'static str;

    /// Anchors the clock anew; returns the largest correction so far in nanoseconds.
    fn anchor(&self) -> u64;

    /// Length of the pacer's spun last stretch before an intended start, in nanoseconds.
    fn spin_margin_ns(&self) -> u64;

    /// Gaps between the pacer's successive clock readings while it spun.
    fn gaps(&self) -> Histogram;

    /// Ends everything; returns the digest of the schedule that was issued.
    fn stop(&self) -> u64;
}
