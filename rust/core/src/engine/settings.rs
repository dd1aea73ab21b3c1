//! What the engine is given, what it gives back at each interval, and what it cannot do.

use std::sync::Arc;

use crate::arrivals::Process;
use crate::clock::Pacing;
use crate::histogram::{Histogram, NotEarlier};
use crate::operations::Component;

use super::recorder::Counters;
use super::station::Overload;

/// A workload as the engine is given it.
pub struct WorkloadSettings {
    pub component: Arc<dyn Component>,
    pub process: Process,
    /// Weights of the component's op types.
    pub weights: Vec<f64>,
    /// Operations per second at load multiplier 1.
    pub rate: f64,
    pub max_in_flight: usize,
    pub queue: usize,
    pub overload: Overload,
    /// Planted: each operation is followed by a busy wait of this many times its own duration.
    pub planted_delay: f64,
    /// Its operations are run by whoever owns its `Drain`, not by the pool; the component names
    /// their types and nothing else of it is used.
    pub hosted: bool,
}

/// How the engine is laid out on the machine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    pub seed: u64,
    pub workers: usize,
    /// Cores the workers are bound to together; empty leaves them to the scheduler.
    pub worker_cpus: Vec<usize>,
    /// Core for a pacer with a thread of its own; where there is `None` the workers pace in turns,
    /// unless a workload is hosted.
    pub pacer_cpu: Option<usize>,
    pub pacing: Pacing,
}

/// What a command cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("a thread could not be started: {0}")]
    Thread(String),
    #[error("operations of two earlier stretches are still under way; settle first")]
    Unsettled,
    #[error("a phase that is no longer kept was asked for: {0}")]
    NoSuchPhase(u32),
    #[error(transparent)]
    Record(#[from] NotEarlier),
}

/// Figures of one workload since the last call of `Engine::interval`.
pub struct IntervalReading {
    pub counters: Counters,
    pub response: Histogram,
    pub queue_depth: u64,
    pub in_flight: u64,
}
