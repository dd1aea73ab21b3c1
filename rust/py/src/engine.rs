//! The load engine as Python steers it: convert, release the interpreter, call.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use swarmbench_core::arrivals::Process;
use swarmbench_core::clock::Pacing;
use swarmbench_core::engine::{
    self, Counters, EngineError, EngineSettings, Overload, WorkloadSettings,
};
use swarmbench_core::histogram as core_histogram;
use swarmbench_core::simulate;

use crate::component::Component;
use crate::drain::Drain;
use crate::histogram::Histogram;
use crate::simulated::SimulatedWorkload;

/// One workload: a built component, its arrivals and its bounds.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Workload {
    component: Arc<dyn swarmbench_core::operations::Component>,
    process: Process,
    weights: Vec<f64>,
    rate: f64,
    max_in_flight: usize,
    queue: usize,
    overload: Overload,
    planted_delay: f64,
    hosted: bool,
}

/// Reads an arrival process: `shape` is gamma's, `burst_ops` and `duty` on-off's, `instants_s` a
/// trace's.
pub fn process_from(
    name: &str,
    shape: f64,
    burst_ops: f64,
    duty: f64,
    instants_s: Vec<f64>,
) -> PyResult<Process> {
    let positive = |value: f64| value > 0.0 && value.is_finite();
    match name {
        "constant" => Ok(Process::Constant),
        "poisson" => Ok(Process::Poisson),
        "gamma" if positive(shape) => Ok(Process::Gamma { shape }),
        "onoff" if positive(burst_ops) && positive(duty) && duty <= 1.0 => {
            Ok(Process::OnOff { burst_ops, duty })
        }
        "trace" if instants_s.is_sorted() => Ok(Process::Trace { instants_s: instants_s.into() }),
        other => Err(PyValueError::new_err(format!(
            "process `{other}`: choose constant, poisson, gamma (shape > 0), onoff (burst_ops > 0, \
             0 < duty <= 1) or trace (ascending instants)"
        ))),
    }
}

#[pymethods]
impl Workload {
    /// `weights` are per op type; `rate` is operations per second at load multiplier 1;
    /// `planted_delay` makes each operation busy for that many times its own duration more.
    #[new]
    #[pyo3(signature = (
        component, *, weights, rate, process = "poisson", shape = 1.0, burst_ops = 1.0,
        duty = 1.0, instants_s = Vec::new(), max_in_flight = 1024, queue = 10_000,
        overload = "queue", planted_delay = 0.0
    ))]
    #[allow(clippy::too_many_arguments)] // keyword-only on the Python side
    fn new(
        component: &Component,
        weights: Vec<f64>,
        rate: f64,
        process: &str,
        shape: f64,
        burst_ops: f64,
        duty: f64,
        instants_s: Vec<f64>,
        max_in_flight: usize,
        queue: usize,
        overload: &str,
        planted_delay: f64,
    ) -> PyResult<Self> {
        let valid = weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite());
        if weights.len() != component.inner.ops().len()
            || !valid
            || weights.iter().sum::<f64>() <= 0.0
        {
            return Err(PyValueError::new_err("one weight >= 0 per op type, not all zero"));
        }
        if !(rate >= 0.0 && rate.is_finite() && planted_delay >= 0.0) {
            return Err(PyValueError::new_err("rate and planted_delay must be finite and >= 0"));
        }
        let overload = match overload {
            "drop" => Overload::Drop,
            "queue" => Overload::Queue,
            "abort" => Overload::Abort,
            other => {
                return Err(PyValueError::new_err(format!(
                    "overload `{other}`: choose drop, queue or abort"
                )));
            }
        };
        Ok(Self {
            component: Arc::clone(&component.inner),
            process: process_from(process, shape, burst_ops, duty, instants_s)?,
            weights,
            rate,
            max_in_flight,
            queue,
            overload,
            planted_delay,
            hosted: component.outside,
        })
    }
}

impl Workload {
    fn settings(&self) -> WorkloadSettings {
        WorkloadSettings {
            component: Arc::clone(&self.component),
            process: self.process.clone(),
            weights: self.weights.clone(),
            rate: self.rate,
            max_in_flight: self.max_in_flight,
            queue: self.queue,
            overload: self.overload,
            planted_delay: self.planted_delay,
            hosted: self.hosted,
        }
    }
}

/// Everything recorded of one op type in one stretch.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Reading {
    counters: Counters,
    #[pyo3(get)]
    response: Histogram,
    #[pyo3(get)]
    service: Histogram,
    #[pyo3(get)]
    lateness: Histogram,
    #[pyo3(get)]
    unqueued: Histogram,
}

impl From<engine::Reading> for Reading {
    fn from(reading: engine::Reading) -> Self {
        Self {
            counters: reading.counters,
            response: reading.response.into(),
            service: reading.service.into(),
            lateness: reading.lateness.into(),
            unqueued: reading.unqueued.into(),
        }
    }
}

#[pymethods]
impl Reading {
    /// Totals by name: operations, units of work and nanoseconds.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters_to(py, &self.counters)
    }
}

fn counters_to<'py>(py: Python<'py>, counters: &Counters) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in counters.named() {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

/// One workload since the last reading of intervals.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct IntervalReading {
    counters: Counters,
    #[pyo3(get)]
    response: Histogram,
    #[pyo3(get)]
    queue_depth: u64,
    #[pyo3(get)]
    in_flight: u64,
}

#[pymethods]
impl IntervalReading {
    /// Increments by name since the last reading.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counters_to(py, &self.counters)
    }
}

/// Reads the pacing mode.
pub fn pacing_from(name: &str) -> PyResult<Pacing> {
    match name {
        "spin" => Ok(Pacing::Spin),
        "hybrid" => Ok(Pacing::Hybrid),
        "park" => Ok(Pacing::Park),
        other => {
            Err(PyValueError::new_err(format!("pacing `{other}`: choose spin, hybrid or park")))
        }
    }
}

fn failed(error: EngineError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// A pacer and a pool of workers; one control thread steers it.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Engine {
    pub(crate) inner: engine::Engine,
    gaps_read: Mutex<core_histogram::Histogram>,
}

impl From<engine::Engine> for Engine {
    fn from(inner: engine::Engine) -> Self {
        Self { inner, gaps_read: Mutex::default() }
    }
}

#[pymethods]
impl Engine {
    /// Starts the threads. `worker_cpus` empty leaves them to the scheduler; where `pacer_cpu` is
    /// None the workers pace in turns.
    #[new]
    #[pyo3(signature = (
        workloads, *, seed, workers, worker_cpus = Vec::new(), pacer_cpu = None, pacing = "hybrid"
    ))]
    fn new(
        py: Python<'_>,
        workloads: Vec<PyRef<'_, Workload>>,
        seed: u64,
        workers: usize,
        worker_cpus: Vec<usize>,
        pacer_cpu: Option<usize>,
        pacing: &str,
    ) -> PyResult<Self> {
        let pooled = workloads.iter().any(|workload| !workload.hosted);
        if (workers == 0 && pooled) || workloads.is_empty() {
            return Err(PyValueError::new_err("at least one worker and one workload"));
        }
        let settings =
            EngineSettings { seed, workers, worker_cpus, pacer_cpu, pacing: pacing_from(pacing)? };
        let workloads = workloads.iter().map(|workload| workload.settings()).collect();
        let inner = py.detach(|| engine::Engine::start(&settings, workloads)).map_err(failed)?;
        Ok(inner.into())
    }

    /// The consumer's end of the next workload of `Component.outside`, in their order; None once
    /// all are taken.
    fn drain(&self) -> Option<Drain> {
        self.inner.drain().map(Drain::from)
    }

    /// A simulated system under a virtual clock, steered like a machine: `servers` share the
    /// workloads' queues; `freezes` are (begin, end) in seconds without progress;
    /// `drift_per_hour` is the growth of all service times.
    #[staticmethod]
    #[pyo3(signature = (workloads, *, seed, servers, freezes = Vec::new(), drift_per_hour = 0.0))]
    fn simulated(
        workloads: Vec<PyRef<'_, SimulatedWorkload>>,
        seed: u64,
        servers: usize,
        freezes: Vec<(f64, f64)>,
        drift_per_hour: f64,
    ) -> PyResult<Self> {
        if servers == 0 || workloads.is_empty() {
            return Err(PyValueError::new_err("at least one server and one workload"));
        }
        let workloads = workloads.iter().map(|workload| workload.inner.clone()).collect();
        let in_ns = |(begin, end): (f64, f64)| ((begin * 1e9) as u64, (end * 1e9) as u64);
        let freezes = freezes.into_iter().map(in_ns).collect();
        let simulated = simulate::Simulated { seed, servers, workloads, freezes, drift_per_hour };
        Ok(simulated.engine().into())
    }

    /// Nanoseconds since the engine's clock was made.
    fn now(&self) -> u64 {
        self.inner.system().now()
    }

    /// Lets `duration_s` pass, on a machine or in virtual time.
    fn wait(&self, py: Python<'_>, duration_s: f64) {
        py.detach(|| self.inner.system().wait((duration_s.max(0.0) * 1e9) as u64));
    }

    /// Sets operations per second at multiplier 1, one per workload, from the next stretch on.
    fn set_rates(&self, rates: Vec<f64>) {
        self.inner.set_rates(&rates);
    }

    /// Begins an open loop over points (seconds since its begin, multiplier), linear in between.
    /// Returns (phase, begin in ns).
    fn begin_open(&self, py: Python<'_>, points: Vec<(f64, f64)>) -> PyResult<(u32, u64)> {
        let sound = points.iter().all(|(at, multiplier)| *at >= 0.0 && *multiplier >= 0.0);
        if points.is_empty() || !sound || !points.is_sorted_by_key(|(at, _)| *at) {
            return Err(PyValueError::new_err("points must ascend in time, with multipliers >= 0"));
        }
        let points: Vec<(u64, f64)> =
            points.into_iter().map(|(at, multiplier)| ((at * 1e9) as u64, multiplier)).collect();
        py.detach(|| self.inner.begin_open(&points)).map_err(failed)
    }

    /// Begins a closed loop with the given numbers in flight. Returns (phase, begin in ns).
    fn begin_closed(&self, py: Python<'_>, in_flight: Vec<usize>) -> PyResult<(u32, u64)> {
        py.detach(|| self.inner.begin_closed(&in_flight)).map_err(failed)
    }

    /// Changes the load multiplier of the current open stretch; returns the moment in ns.
    fn change(&self, py: Python<'_>, multiplier: f64) -> u64 {
        py.detach(|| self.inner.change(multiplier))
    }

    /// Changes the numbers in flight of the current closed stretch.
    fn change_closed(&self, py: Python<'_>, in_flight: Vec<usize>) {
        py.detach(|| self.inner.change_closed(&in_flight));
    }

    /// Asks for nothing more; returns the moment in ns.
    fn cease(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.inner.cease())
    }

    /// Waits until nothing is under way, giving up what is queued after `patience_s`; false when
    /// an operation still hangs after as long again.
    fn settle(&self, py: Python<'_>, patience_s: f64) -> bool {
        py.detach(|| self.inner.settle((patience_s * 1e9) as u64))
    }

    /// Everything recorded of `phase`, by workload and op type.
    fn reading(&self, py: Python<'_>, phase: u32) -> PyResult<Vec<Vec<Reading>>> {
        let readings = py.detach(|| self.inner.reading(phase)).map_err(failed)?;
        Ok(readings.into_iter().map(|ops| ops.into_iter().map(Reading::from).collect()).collect())
    }

    /// What each workload did in the current stretch since the last call.
    fn interval(&self, py: Python<'_>) -> PyResult<Vec<IntervalReading>> {
        let intervals = py.detach(|| self.inner.interval()).map_err(failed)?;
        Ok(intervals
            .into_iter()
            .map(|one| IntervalReading {
                counters: one.counters,
                response: one.response.into(),
                queue_depth: one.queue_depth,
                in_flight: one.in_flight,
            })
            .collect())
    }

    /// (Greatest queue depth, greatest number in flight) per workload since the last begin.
    fn maxima(&self) -> Vec<(u64, u64)> {
        self.inner.maxima()
    }

    /// Load epoch of the current stretch.
    fn epoch(&self) -> u32 {
        self.inner.epoch()
    }

    /// Index of a workload whose overload policy asked for the end of the run.
    fn aborted(&self) -> Option<usize> {
        self.inner.system().aborted()
    }

    /// "tsc" or "clock_gettime".
    fn clock_source(&self) -> &'static str {
        self.inner.system().clock_source()
    }

    /// Anchors the clock anew and returns the largest correction so far, in ns.
    fn anchor(&self) -> u64 {
        self.inner.system().anchor()
    }

    /// Length of the pacer's last, spun stretch before an intended start, as learned, in ns.
    fn spin_margin_ns(&self) -> u64 {
        self.inner.system().spin_margin_ns()
    }

    /// Gaps between the pacer's successive readings of the clock while it spun, since the last
    /// call.
    fn gaps(&self) -> PyResult<Histogram> {
        let now = self.inner.system().gaps();
        let mut read = self.gaps_read.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.subtract(&read).map_err(|error| failed(error.into()))?;
        *read = now;
        Ok(since.into())
    }

    /// Ends all threads; returns the digest of the schedule that was issued.
    fn stop(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.inner.system().stop())
    }
}
