//! Systems whose truth is known, under a virtual clock: the same schedules, pacer, recorders and
//! steering as on a machine, with simulated servers in place of the workers.
//!
//! A discrete-event simulation: `servers` identical servers share bounded queues by start-time
//! fair queueing, as the pool does. Service times are drawn from the operation's own key, so a
//! run is a pure function of its seed and its commands.

mod servers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::arrivals::{Segment, Timetable, Workload};
use crate::clock::{Clock, Signal, Waited};
use crate::engine::{Control, Engine, Executor, Occupancy, Recorder, System, serve};
use crate::histogram::Histogram;

use servers::Servers;

/// How long an operation is served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Service {
    Constant { ns: f64 },
    Exponential { mean_ns: f64 },
}

/// One workload of a simulated system, with a single op type.
#[derive(Clone, Debug)]
pub struct SimulatedWorkload {
    pub source: Workload,
    /// Operations per second at load multiplier 1.
    pub rate: f64,
    pub service: Service,
    /// Operations admitted at once at most; arrivals beyond are rejected.
    pub in_flight_bound: usize,
}

/// A simulated system: what it serves with, and what goes wrong when.
#[derive(Clone, Debug)]
pub struct Simulated {
    pub seed: u64,
    pub servers: usize,
    pub workloads: Vec<SimulatedWorkload>,
    /// Stretches (begin, end) in nanoseconds during which no server makes progress.
    pub freezes: Vec<(u64, u64)>,
    /// Growth of all service times per hour, as a share: a planted drift.
    pub drift_per_hour: f64,
}

impl Simulated {
    /// The system under steering, at time 0.
    #[must_use]
    pub fn engine(self) -> Engine {
        let rates = self.workloads.iter().map(|workload| workload.rate).collect();
        let op_counts = vec![1; self.workloads.len()];
        Engine::new(Box::new(Simulation::new(self)), op_counts, rates)
    }
}

/// A clock that stands still unless it is waited on.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicU64);

impl VirtualClock {
    /// Moves the clock on to `moment`, never back.
    pub fn advance_to(&self, moment: u64) {
        self.0.fetch_max(moment, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn wait_until(&self, due: u64, _: &Signal, _: u32) -> Waited {
        self.advance_to(due);
        Waited::Reached
    }
}

struct Running {
    timetable: Timetable,
    servers: Servers,
}

/// The simulated counterpart of `engine::Machine`.
struct Simulation {
    clock: VirtualClock,
    control: Control,
    recorders: Vec<Arc<Recorder>>,
    running: Mutex<Running>,
}

impl Simulation {
    fn new(simulated: Simulated) -> Self {
        let recorder = Arc::new(Recorder::new(&vec![1; simulated.workloads.len()]));
        let sources: Vec<Workload> =
            simulated.workloads.iter().map(|workload| workload.source.clone()).collect();
        let timetable = Timetable::new(simulated.seed, &sources);
        let servers = Servers::new(&simulated, Arc::clone(&recorder));
        Self {
            clock: VirtualClock::default(),
            control: Control::default(),
            recorders: vec![recorder],
            running: Mutex::new(Running { timetable, servers }),
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for Simulation {
    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn wait(&self, duration_ns: u64) {
        let until = self.clock.now() + duration_ns;
        let Running { timetable, servers } = &mut *self.running();
        serve(&self.clock, timetable, &self.control, servers, until);
        self.clock.advance_to(until);
        servers.advance_to(until);
    }

    fn command(&self, at: u64, segments: &mut [(u16, Segment)]) -> u64 {
        self.control.command(at, segments)
    }

    fn close_loop(&self, workload: u16, count: usize, phase: u32, epoch: u32) {
        self.running().servers.close_loop(workload, count, phase, epoch, self.clock.now());
    }

    fn open_loop(&self, workload: u16) {
        self.running().servers.open_loop(workload);
    }

    fn abandon_below(&self, phase: u32) {
        self.running().servers.abandon_below(phase, self.clock.now());
    }

    fn occupancy(&self, workload: usize) -> Occupancy {
        self.running().servers.occupancy(workload)
    }

    fn caught_up(&self) -> bool {
        true // `wait` returns only then
    }

    fn reset_maxima(&self) {
        self.running().servers.reset_maxima();
    }

    fn recorders(&self) -> &[Arc<Recorder>] {
        &self.recorders
    }

    fn aborted(&self) -> Option<usize> {
        None
    }

    fn clock_source(&self) -> &'static str {
        "virtual"
    }

    fn anchor(&self) -> u64 {
        0
    }

    fn spin_margin_ns(&self) -> u64 {
        0
    }

    fn gaps(&self) -> Histogram {
        Histogram::default()
    }

    fn stop(&self) -> u64 {
        self.control.stop();
        self.running().timetable.hash()
    }
}

/// The pacer's own thread as the executor: one server, first come first served, in no queue.
///
/// While it runs an operation no arrival can be handed over; that time is queueing and goes into
/// the response time of each arrival it delays.
pub struct Inline<'a, C: Clock, F: FnMut(u64)> {
    pub clock: &'a C,
    /// Does the work of the operation with the given key.
    pub run: F,
    pub recorder: &'a Recorder,
    pub free_at: u64,
}

impl<C: Clock, F: FnMut(u64)> Executor for Inline<'_, C, F> {
    fn hand_over(&mut self, arrival: &crate::arrivals::Arrival, handed: u64, late_ns: u64) {
        use crate::engine::Moments;
        use crate::operations::{Completion, Status};
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.handed_over(arrival.due, late_ns);
        (self.run)(arrival.key);
        let finished = self.clock.now();
        let unqueued = self.free_at <= arrival.due;
        self.free_at = finished;
        let moments =
            Moments { due: arrival.due, started: handed, finished, slipped_ns: 0, unqueued };
        series.completed(&moments, Completion { status: Status::Ok, units: 1 }, 1);
    }

    fn busy_until(&mut self) -> u64 {
        self.free_at
    }
}

#[cfg(test)]
mod tests;
