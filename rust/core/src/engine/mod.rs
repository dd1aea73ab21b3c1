//! The load engine: a pacer and a pool of workers, steered by one control thread.
//!
//! The control thread begins a *stretch* (open or closed loop), may change its load, reads figures
//! at any moment and settles it. Each stretch is a phase of its own; operations belong to the
//! phase of their intended start, whenever they end.

mod desk;
mod figures;
mod hosted;
mod machine;
mod pacer;
mod pool;
mod recorder;
mod seat;
mod settings;
mod station;
mod system;
mod worker;

use std::collections::VecDeque;
use std::sync::PoisonError;

use crate::arrivals::{FOREVER, Segment};
use crate::histogram::Histogram;
use crate::sync::{Mutex, MutexGuard};

use machine::Machine;

pub use desk::{Desk, Open};
pub use hosted::{Batching, Drain, Outside};
pub use pacer::{Control, Executor, serve};
pub use recorder::{Counters, LIVE_PHASES, Moments, Reading, Recorder, Series};
pub use settings::{EngineError, EngineSettings, IntervalReading, WorkloadSettings};
pub use station::Overload;
pub use system::{Occupancy, System};

/// A live change takes effect this long after the command: far enough ahead that the pacer has
/// taken it in, near enough to be called at once.
const LEAD_NS: u64 = 500_000;
/// Steps in which `settle` looks whether everything has ended.
const SETTLE_STEP_NS: u64 = 500_000;

/// State of the control thread.
struct Steering {
    phase: u32,
    epoch: u32,
    /// Stretches begun since everything was last known to have ended.
    unsettled: u32,
    rates: Vec<f64>,
    /// Readings at the begin of the live phases, by slot, workload and op.
    bases: Vec<Vec<Vec<Reading>>>,
    last_interval: Vec<(Counters, Histogram)>,
    log: Vec<(u16, Segment)>,
}

/// A system and the state of steering it.
pub struct Engine {
    system: Box<dyn System>,
    op_counts: Vec<usize>,
    steering: Mutex<Steering>,
    drains: Mutex<VecDeque<Drain>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Starts the threads of a machine.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(
        settings: &EngineSettings,
        workloads: Vec<WorkloadSettings>,
    ) -> Result<Self, EngineError> {
        let op_counts = workloads.iter().map(|one| one.component.ops().len()).collect();
        let rates = workloads.iter().map(|workload| workload.rate).collect();
        let machine = Machine::start(settings, workloads)?;
        let drains = Mutex::new(machine.drains().into());
        Ok(Self { drains, ..Self::new(Box::new(machine), op_counts, rates) })
    }

    /// Steers `system`; `op_counts` are op types and `rates` operations per second at multiplier
    /// 1, per workload.
    #[must_use]
    pub fn new(system: Box<dyn System>, op_counts: Vec<usize>, rates: Vec<f64>) -> Self {
        let empty: Vec<Vec<Reading>> =
            op_counts.iter().map(|ops| vec![Reading::default(); *ops]).collect();
        let steering = Steering {
            phase: 0,
            epoch: 0,
            unsettled: 0,
            rates,
            bases: vec![empty; LIVE_PHASES],
            last_interval: vec![(Counters::default(), Histogram::default()); op_counts.len()],
            log: Vec::new(),
        };
        Self { system, op_counts, steering: Mutex::new(steering), drains: Mutex::default() }
    }

    /// The consumer's end of the next hosted workload, in their order; `None` once all are taken.
    pub fn drain(&self) -> Option<Drain> {
        lock(&self.drains).pop_front()
    }

    /// What is steered.
    #[must_use]
    pub fn system(&self) -> &dyn System {
        &*self.system
    }

    /// Sets the production rates (operations per second at multiplier 1), from the next stretch on.
    pub fn set_rates(&self, rates: &[f64]) {
        rates.clone_into(&mut lock(&self.steering).rates);
    }

    /// Begins a stretch in an open loop: `points` are (nanoseconds from its begin, multiplier),
    /// linear in between and constant after the last. Returns (phase, begin).
    ///
    /// # Errors
    /// Two earlier stretches are still unsettled.
    pub fn begin_open(&self, points: &[(u64, f64)]) -> Result<(u32, u64), EngineError> {
        let mut steering = lock(&self.steering);
        self.begin(&mut steering)?;
        let (phase, epoch) = (steering.phase, steering.epoch);
        let mut segments = Vec::new();
        for (index, (offset, multiplier)) in points.iter().enumerate() {
            let next = points.get(index + 1);
            for (workload, rate) in steering.rates.iter().enumerate() {
                segments.push((
                    workload as u16,
                    Segment {
                        start_ns: *offset,
                        end_ns: next.map_or(FOREVER, |(end, _)| *end),
                        rate_start: rate * multiplier,
                        rate_end: rate * next.map_or(*multiplier, |(_, end)| *end),
                        phase,
                        epoch,
                    },
                ));
            }
        }
        Ok((phase, self.send(&mut steering, segments)))
    }

    /// Begins a stretch in a closed loop with the given numbers of operations in flight.
    ///
    /// # Errors
    /// Two earlier stretches are still unsettled.
    pub fn begin_closed(&self, in_flight: &[usize]) -> Result<(u32, u64), EngineError> {
        let mut steering = lock(&self.steering);
        self.begin(&mut steering)?;
        let start = self.system.now();
        for (workload, count) in in_flight.iter().enumerate() {
            self.system.close_loop(workload as u16, *count, steering.phase, steering.epoch);
        }
        Ok((steering.phase, start))
    }

    fn begin(&self, steering: &mut Steering) -> Result<(), EngineError> {
        if self.idle() {
            steering.unsettled = 0;
        }
        if steering.unsettled as usize >= LIVE_PHASES {
            return Err(EngineError::Unsettled);
        }
        self.quiet(steering);
        steering.phase += 1;
        steering.epoch += 1;
        steering.unsettled += 1;
        let slot = steering.phase as usize % LIVE_PHASES;
        steering.bases[slot] = self.totals(steering.phase);
        for (workload, last) in steering.last_interval.iter_mut().enumerate() {
            *last = self.workload_totals(steering.phase, workload);
        }
        self.system.reset_maxima();
        Ok(())
    }

    /// Ends all closed loops; open schedules are replaced by whatever segment comes next.
    fn quiet(&self, steering: &Steering) {
        for workload in 0..steering.rates.len() {
            self.system.open_loop(workload as u16);
        }
    }

    /// Commands segments whose times count from the moment that is returned.
    fn send(&self, steering: &mut Steering, mut segments: Vec<(u16, Segment)>) -> u64 {
        let start = self.system.command(self.system.now() + LEAD_NS, &mut segments);
        steering.log.extend(segments);
        start
    }

    /// Changes the load of the current open stretch to `multiplier` at once; returns the moment.
    pub fn change(&self, multiplier: f64) -> u64 {
        let mut steering = lock(&self.steering);
        steering.epoch += 1;
        let (phase, epoch) = (steering.phase, steering.epoch);
        let segments = steering
            .rates
            .iter()
            .enumerate()
            .map(|(workload, rate)| {
                let rate = rate * multiplier;
                let (rate_start, rate_end) = (rate, rate);
                let segment =
                    Segment { start_ns: 0, end_ns: FOREVER, rate_start, rate_end, phase, epoch };
                (workload as u16, segment)
            })
            .collect();
        self.send(&mut steering, segments)
    }

    /// Changes how many operations a closed stretch keeps in flight, at once.
    pub fn change_closed(&self, in_flight: &[usize]) {
        let mut steering = lock(&self.steering);
        steering.epoch += 1;
        for (workload, count) in in_flight.iter().enumerate() {
            self.system.close_loop(workload as u16, *count, steering.phase, steering.epoch);
        }
    }

    /// Stops asking: open schedules have rate 0 from now on, closed loops run dry. Returns the
    /// moment.
    pub fn cease(&self) -> u64 {
        self.quiet(&lock(&self.steering));
        self.change(0.0)
    }

    /// Waits until nothing is under way; after `patience_ns` gives up what is still queued, and
    /// after as long again returns false: an operation hangs.
    pub fn settle(&self, patience_ns: u64) -> bool {
        let began = self.system.now();
        // The last segment takes effect LEAD_NS after the command.
        self.system.wait(2 * LEAD_NS);
        loop {
            if self.idle() {
                lock(&self.steering).unsettled = 0;
                return true;
            }
            let waited = self.system.now() - began;
            if waited > patience_ns {
                let phase = lock(&self.steering).phase;
                self.system.abandon_below(phase + 1);
            }
            if waited > 2 * patience_ns {
                return false;
            }
            self.system.wait(SETTLE_STEP_NS);
        }
    }

    /// Load epoch of the current stretch; it grows with every change.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        lock(&self.steering).epoch
    }

    /// Operations admitted and not ended, over all workloads.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        (0..self.op_counts.len()).map(|index| self.system.occupancy(index).in_flight).sum()
    }

    /// Nothing is under way and nothing that has come due is still to be handed over.
    fn idle(&self) -> bool {
        // In this order: what is handed over in between is in flight.
        self.system.caught_up() && self.in_flight() == 0
    }

    /// Every segment commanded so far: replayed, it gives the same schedule.
    #[must_use]
    pub fn control_log(&self) -> Vec<(u16, Segment)> {
        lock(&self.steering).log.clone()
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(test)]
mod tests;
