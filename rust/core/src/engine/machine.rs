//! The machine as a system: a pool of worker threads on a real clock, and a pacer.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::arrivals::{Mix, Segment, Timetable, Workload};
use crate::clock::{Clock, RealClock, bind_this_thread, sharpen_this_thread};
use crate::histogram::Histogram;
use crate::sync::{Mutex, Ordering};

use super::hosted::Drain;
use super::lock;
use super::pool::Pool;
use super::recorder::Recorder;
use super::seat::Seat;
use super::settings::{EngineError, EngineSettings, WorkloadSettings};
use super::station::StationSettings;
use super::system::{Occupancy, System};
use super::worker::Worker;

/// Threads, clock, pool and recorders of one run.
pub struct Machine {
    pool: Arc<Pool>,
    clock: Arc<RealClock>,
    /// The workers' first, then the pacer's and the control thread's, then those of drains.
    recorders: Vec<Arc<Recorder>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Machine {
    /// Starts the threads and waits until each worker has its scratch memory; nothing is asked for
    /// until segments are commanded.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(
        settings: &EngineSettings,
        workloads: Vec<WorkloadSettings>,
    ) -> Result<Self, EngineError> {
        let clock = Arc::new(RealClock::new(settings.pacing));
        let op_counts: Vec<usize> = workloads.iter().map(|one| one.component.ops().len()).collect();
        let sources: Vec<Workload> = workloads
            .iter()
            .map(|one| Workload { process: one.process.clone(), weights: one.weights.clone() })
            .collect();
        // What is hosted needs no worker, so it cannot wait for one to be paced.
        let hosted = workloads.iter().filter(|workload| workload.hosted).count();
        let shared = settings.pacer_cpu.is_none() && hosted == 0;
        let writers = settings.workers + 2 + hosted;
        let recorders: Vec<_> = (0..writers).map(|_| Arc::new(Recorder::new(&op_counts))).collect();
        let timetable = Timetable::new(settings.seed, &sources);
        let seat = Seat::new(timetable, Arc::clone(&recorders[settings.workers]), shared);
        let stations = workloads
            .into_iter()
            .enumerate()
            .map(|(index, workload)| StationSettings {
                mix: Mix::new(settings.seed, index as u16, &workload.weights),
                component: workload.component,
                max_in_flight: workload.max_in_flight,
                queue: workload.queue,
                overload: workload.overload,
                planted_delay: workload.planted_delay,
                hosted: workload.hosted,
            })
            .collect();
        let machine = Self {
            pool: Arc::new(Pool::new(stations, Arc::clone(&clock), seat)),
            clock,
            recorders,
            threads: Mutex::new(Vec::new()),
        };
        machine.spawn_threads(settings, shared)?;
        Ok(machine)
    }

    /// The consumers' ends of the hosted workloads, in their order; of one each.
    pub fn drains(&self) -> Vec<Drain> {
        let hosted = self.pool.stations.iter().enumerate().filter(|(_, each)| each.hosted);
        let indices: Vec<usize> = hosted.map(|(index, _)| index).collect();
        let recorders = &self.recorders[self.recorders.len() - indices.len()..];
        let drain = |(index, recorder): (usize, &Arc<Recorder>)| {
            Drain::new(Arc::clone(&self.pool), Arc::clone(recorder), index)
        };
        indices.into_iter().zip(recorders).map(drain).collect()
    }

    fn spawn_threads(&self, settings: &EngineSettings, shared: bool) -> Result<(), EngineError> {
        let failed = |error: std::io::Error| EngineError::Thread(error.to_string());
        let mut threads = lock(&self.threads);
        let (made, ready) = std::sync::mpsc::channel();
        for index in 0..settings.workers {
            let made = made.clone();
            let pool = Arc::clone(&self.pool);
            let recorder = Arc::clone(&self.recorders[index]);
            let cpus = settings.worker_cpus.clone();
            let body = move || {
                bind_this_thread(&cpus);
                if shared {
                    sharpen_this_thread();
                }
                let mut worker = Worker::new(&pool, &recorder);
                // Nobody listens any more where another worker could not be made.
                if made.send(()).is_ok() {
                    worker.work();
                }
            };
            let builder = std::thread::Builder::new().name(format!("sb-worker-{index}"));
            threads.push(builder.spawn(body).map_err(failed)?);
        }
        drop(made);
        // The scratch of large components takes seconds to be touched, which no load may wait for.
        for _ in 0..settings.workers {
            ready.recv().map_err(|_| EngineError::Thread("a worker could not be made".into()))?;
        }
        if !shared {
            let pool = Arc::clone(&self.pool);
            let cpus: Vec<usize> = settings.pacer_cpu.into_iter().collect();
            let body = move || {
                bind_this_thread(&cpus);
                sharpen_this_thread();
                pool.pace();
            };
            let builder = std::thread::Builder::new().name("sb-pacer".to_owned());
            threads.push(builder.spawn(body).map_err(failed)?);
        }
        Ok(())
    }
}

impl System for Machine {
    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn wait(&self, duration_ns: u64) {
        std::thread::sleep(Duration::from_nanos(duration_ns));
    }

    fn command(&self, at: u64, segments: &mut [(u16, Segment)]) -> u64 {
        self.pool.control.command(at, segments)
    }

    fn close_loop(&self, workload: u16, count: usize, phase: u32, epoch: u32) {
        let hosted = self.pool.stations.iter().filter(|station| station.hosted).count();
        let writer = &self.recorders[self.recorders.len() - 1 - hosted];
        self.pool.close_loop(workload, count, phase, epoch, writer);
    }

    fn open_loop(&self, workload: u16) {
        self.pool.open_loop(workload);
    }

    fn abandon_below(&self, phase: u32) {
        self.pool.abandon_below(phase);
    }

    fn occupancy(&self, workload: usize) -> Occupancy {
        let station = &self.pool.stations[workload];
        Occupancy {
            queue_depth: station.queue_depth(),
            in_flight: station.in_flight(),
            queue_depth_max: station.queue_max.load(Ordering::Relaxed),
            in_flight_max: station.in_flight_max.load(Ordering::Relaxed),
        }
    }

    fn caught_up(&self) -> bool {
        self.pool.control.horizon() > self.clock.now()
    }

    fn reset_maxima(&self) {
        for station in &self.pool.stations {
            station.queue_max.store(0, Ordering::Relaxed);
            station.in_flight_max.store(0, Ordering::Relaxed);
        }
    }

    fn recorders(&self) -> &[Arc<Recorder>] {
        &self.recorders
    }

    fn aborted(&self) -> Option<usize> {
        self.pool.aborted()
    }

    fn clock_source(&self) -> &'static str {
        self.clock.source()
    }

    fn anchor(&self) -> u64 {
        self.clock.anchor();
        self.clock.drift_ns()
    }

    fn spin_margin_ns(&self) -> u64 {
        self.clock.margin_ns()
    }

    fn gaps(&self) -> Histogram {
        self.clock.gaps.snapshot()
    }

    fn stop(&self) -> u64 {
        self.pool.stop();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has been counted where it did; its end is what matters here.
            drop(thread.join());
        }
        self.pool.seat.hash()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}
