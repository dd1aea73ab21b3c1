//! The load engine: one pacer and a pool of workers, steered by one control thread.
//!
//! The control thread begins a *stretch* (open or closed loop), may change its load, reads figures
//! at any moment and settles it. Each stretch is a phase of its own; operations belong to the
//! phase of their intended start, whenever they end.

mod figures;
mod pacer;
mod pool;
mod recorder;
mod settings;
mod worker;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::arrivals::{FOREVER, Mix, Segment, Timetable, Workload};
use crate::clock::{Clock, RealClock, bind_this_thread, sharpen_this_thread};
use crate::histogram::Histogram;

pub use pacer::{Control, Executor, serve};
pub use pool::{Overload, Pool, PoolExecutor, StationSettings};
pub use recorder::{Counters, LIVE_PHASES, Moments, Reading, Recorder, Series};
pub use settings::{EngineError, EngineSettings, IntervalReading, WorkloadSettings};
pub use worker::Worker;

/// A live change takes effect this long after the command: far enough ahead that the pacer has
/// taken it in, near enough to be called at once.
const LEAD_NS: u64 = 500_000;
/// Steps in which `settle` looks whether everything has ended.
const SETTLE_STEP: std::time::Duration = std::time::Duration::from_micros(500);

/// State of the control thread.
struct Steering {
    phase: u32,
    epoch: u32,
    /// Stretches begun since everything was last known to have ended.
    unsettled: u32,
    rates: Vec<f64>,
    multiplier: f64,
    /// Readings at the begin of the live phases, by slot, workload and op.
    bases: Vec<Vec<Vec<Reading>>>,
    last_interval: Vec<(Counters, Histogram)>,
    log: Vec<(u16, Segment)>,
}

/// Pacer, pool and recorders of one run.
pub struct Engine {
    pool: Arc<Pool>,
    clock: Arc<RealClock>,
    control: Arc<Control>,
    recorders: Vec<Arc<Recorder>>,
    op_counts: Vec<usize>,
    schedule: Arc<Mutex<Timetable>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    steering: Mutex<Steering>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Starts the threads; nothing is asked for until a stretch begins.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(
        settings: &EngineSettings,
        workloads: Vec<WorkloadSettings>,
    ) -> Result<Self, EngineError> {
        let clock = Arc::new(RealClock::new(settings.pacing));
        let op_counts: Vec<usize> = workloads.iter().map(|one| one.component.ops().len()).collect();
        let rates = workloads.iter().map(|workload| workload.rate).collect();
        let sources: Vec<Workload> = workloads
            .iter()
            .map(|one| Workload { process: one.process.clone(), weights: one.weights.clone() })
            .collect();
        let timetable = Timetable::new(settings.seed, &sources);
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
            })
            .collect();
        // The last recorder but one is the pacer's, the last the control thread's.
        let recorders: Vec<Arc<Recorder>> =
            (0..settings.workers + 2).map(|_| Arc::new(Recorder::new(&op_counts))).collect();
        let empty: Vec<Vec<Reading>> =
            op_counts.iter().map(|ops| vec![Reading::default(); *ops]).collect();
        let engine = Self {
            pool: Arc::new(Pool::new(stations, Arc::clone(&clock))),
            clock,
            control: Arc::new(Control::default()),
            recorders,
            schedule: Arc::new(Mutex::new(timetable)),
            threads: Mutex::new(Vec::new()),
            steering: Mutex::new(Steering {
                phase: 0,
                epoch: 0,
                unsettled: 0,
                rates,
                multiplier: 0.0,
                bases: vec![empty; LIVE_PHASES],
                last_interval: vec![(Counters::default(), Histogram::default()); op_counts.len()],
                log: Vec::new(),
            }),
            op_counts,
        };
        engine.spawn_threads(settings)?;
        Ok(engine)
    }

    fn spawn_threads(&self, settings: &EngineSettings) -> Result<(), EngineError> {
        let failed = |error: std::io::Error| EngineError::Thread(error.to_string());
        let mut threads = lock(&self.threads);
        for index in 0..settings.workers {
            let pool = Arc::clone(&self.pool);
            let recorder = Arc::clone(&self.recorders[index]);
            let cpus = settings.worker_cpus.clone();
            let body = move || {
                bind_this_thread(&cpus);
                Worker::new(pool, recorder).work();
            };
            let builder = std::thread::Builder::new().name(format!("sb-worker-{index}"));
            threads.push(builder.spawn(body).map_err(failed)?);
        }
        let mut executor = PoolExecutor {
            pool: Arc::clone(&self.pool),
            recorder: Arc::clone(&self.recorders[settings.workers]),
        };
        let (clock, control) = (Arc::clone(&self.clock), Arc::clone(&self.control));
        let schedule = Arc::clone(&self.schedule);
        let cpus: Vec<usize> = settings.pacer_cpu.into_iter().collect();
        let body = move || {
            bind_this_thread(&cpus);
            sharpen_this_thread();
            // Held for the pacer's whole life; the control thread reads the hash after it ended.
            serve(&*clock, &mut lock(&schedule), &control, &mut executor, FOREVER);
        };
        let builder = std::thread::Builder::new().name("sb-pacer".to_owned());
        threads.push(builder.spawn(body).map_err(failed)?);
        Ok(())
    }

    /// Nanoseconds since the engine's clock was made.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    #[must_use]
    pub fn clock(&self) -> &RealClock {
        &self.clock
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
        let start = self.clock.now() + LEAD_NS;
        let (phase, epoch) = (steering.phase, steering.epoch);
        let mut segments = Vec::new();
        for (index, (offset, multiplier)) in points.iter().enumerate() {
            let next = points.get(index + 1);
            for (workload, rate) in steering.rates.iter().enumerate() {
                segments.push((
                    workload as u16,
                    Segment {
                        start_ns: start + offset,
                        end_ns: next.map_or(FOREVER, |(end, _)| start + end),
                        rate_start: rate * multiplier,
                        rate_end: rate * next.map_or(*multiplier, |(_, end)| *end),
                        phase,
                        epoch,
                    },
                ));
            }
        }
        steering.multiplier = points.last().map_or(0.0, |(_, multiplier)| *multiplier);
        self.send(&mut steering, segments);
        Ok((phase, start))
    }

    /// Begins a stretch in a closed loop with the given numbers of operations in flight.
    ///
    /// # Errors
    /// Two earlier stretches are still unsettled.
    pub fn begin_closed(&self, in_flight: &[usize]) -> Result<(u32, u64), EngineError> {
        let mut steering = lock(&self.steering);
        self.begin(&mut steering)?;
        let start = self.clock.now();
        let writer = &self.recorders[self.recorders.len() - 1];
        for (workload, count) in in_flight.iter().enumerate() {
            self.pool.close_loop(workload as u16, *count, steering.phase, steering.epoch, writer);
        }
        Ok((steering.phase, start))
    }

    fn begin(&self, steering: &mut Steering) -> Result<(), EngineError> {
        if self.pool.in_flight() == 0 {
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
        for station in &self.pool.stations {
            station.queue_max.store(0, Ordering::Relaxed);
            station.in_flight_max.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends all closed loops; open schedules are replaced by whatever segment comes next.
    fn quiet(&self, steering: &Steering) {
        for workload in 0..steering.rates.len() {
            self.pool.open_loop(workload as u16);
        }
    }

    fn send(&self, steering: &mut Steering, segments: Vec<(u16, Segment)>) {
        self.control.command(&segments);
        steering.log.extend(segments);
    }

    /// Changes the load of the current open stretch to `multiplier` at once; returns the moment.
    pub fn change(&self, multiplier: f64) -> u64 {
        let mut steering = lock(&self.steering);
        steering.epoch += 1;
        let at = self.clock.now() + LEAD_NS;
        let (phase, epoch) = (steering.phase, steering.epoch);
        let segments = steering
            .rates
            .iter()
            .enumerate()
            .map(|(workload, rate)| {
                let rate = rate * multiplier;
                let (rate_start, rate_end) = (rate, rate);
                let segment =
                    Segment { start_ns: at, end_ns: FOREVER, rate_start, rate_end, phase, epoch };
                (workload as u16, segment)
            })
            .collect();
        steering.multiplier = multiplier;
        self.send(&mut steering, segments);
        at
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
        let began = self.clock.now();
        // The last segment takes effect LEAD_NS after the command.
        std::thread::sleep(std::time::Duration::from_nanos(2 * LEAD_NS));
        loop {
            if self.pool.in_flight() == 0 {
                lock(&self.steering).unsettled = 0;
                return true;
            }
            let waited = self.clock.now() - began;
            if waited > patience_ns {
                let phase = lock(&self.steering).phase;
                self.pool.abandon_below(phase + 1);
            }
            if waited > 2 * patience_ns {
                return false;
            }
            std::thread::sleep(SETTLE_STEP);
        }
    }

    /// Load epoch of the current stretch; it grows with every change.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        lock(&self.steering).epoch
    }

    /// The workload whose overload policy asked for the end of the run.
    #[must_use]
    pub fn aborted(&self) -> Option<usize> {
        self.pool.aborted()
    }

    /// Every segment commanded so far: replayed, it gives the same schedule.
    #[must_use]
    pub fn control_log(&self) -> Vec<(u16, Segment)> {
        lock(&self.steering).log.clone()
    }

    /// Ends all threads and returns the digest of the schedule that was issued.
    pub fn stop(&self) -> u64 {
        self.control.stop();
        self.pool.stop();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has been counted where it did; its end is what matters here.
            drop(thread.join());
        }
        lock(&self.schedule).hash()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
