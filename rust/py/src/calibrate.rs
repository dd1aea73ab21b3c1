//! Ceilings of the machine and the observer of a run, as Python sees them.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use swarmbench_core::calibrate::{self, CalibrateError, Plan};
use swarmbench_core::canary;

/// Measures the machine's ceilings; returns a JSON object as `swarmbench.calibrate` reads it.
///
/// `progress(stage, fraction)` is called between the probes, and a pending Ctrl-C ends it there.
#[pyfunction]
#[pyo3(signature = (
    *, threads, cpus, directory, seconds, memory_max_bytes, disk_file_bytes, progress = None
))]
#[allow(clippy::too_many_arguments, reason = "named one by one in Python")]
pub fn measure_ceilings(
    py: Python<'_>,
    threads: usize,
    cpus: Vec<usize>,
    directory: PathBuf,
    seconds: f64,
    memory_max_bytes: usize,
    disk_file_bytes: u64,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let plan = Plan { threads, cpus, directory, seconds, memory_max_bytes, disk_file_bytes };
    let failure = Mutex::new(None);
    let report = |stage: &str, fraction: f64| {
        Python::attach(|py| {
            let answer = py.check_signals().and_then(|()| match &progress {
                Some(call) => call.call1(py, (stage, fraction)).map(drop),
                None => Ok(()),
            });
            let going_on = answer.is_ok();
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = answer.err();
            going_on
        })
    };
    let found = py.detach(|| calibrate::measure(&plan, &report));
    let raised = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    let found = found.map_err(|error| match (error, raised) {
        (CalibrateError::Cancelled, Some(raised)) => raised,
        (CalibrateError::Cancelled, None) => PyKeyboardInterrupt::new_err(()),
        (CalibrateError::Memory(error), _) => PyOSError::new_err(error.to_string()),
    })?;
    serde_json::to_string(&found).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// The observer of a run: the same small copy and computation timed every 50 ms.
///
/// Making one measures the idle baseline (about 0.2 s); `stop` ends its thread, and so does
/// forgetting it.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Canary {
    running: Mutex<Option<canary::Canary>>,
    idle: CanaryReading,
}

/// Medians over a stretch, in nanoseconds; see the attributes in `_native.pyi`.
#[pyclass(frozen, module = "swarmbench._native")]
#[derive(Clone)]
pub struct CanaryReading {
    inner: canary::CanaryReading,
}

#[pymethods]
impl CanaryReading {
    #[getter]
    fn memory_ns_p50(&self) -> u64 {
        self.inner.memory_ns_p50
    }

    #[getter]
    fn memory_wall_ns_p50(&self) -> u64 {
        self.inner.memory_wall_ns_p50
    }

    #[getter]
    fn compute_ns_p50(&self) -> u64 {
        self.inner.compute_ns_p50
    }

    #[getter]
    fn compute_wall_ns_p50(&self) -> u64 {
        self.inner.compute_wall_ns_p50
    }

    #[getter]
    fn delay_ns_p50(&self) -> u64 {
        self.inner.delay_ns_p50
    }

    #[getter]
    fn delay_ns_max(&self) -> u64 {
        self.inner.delay_ns_max
    }

    #[getter]
    fn samples(&self) -> u64 {
        self.inner.samples
    }

    #[getter]
    fn wall_ns(&self) -> u64 {
        self.inner.wall_ns
    }

    #[getter]
    fn cost_ns(&self) -> u64 {
        self.inner.cost_ns
    }

    /// The copy's time over its time in `idle`, at least 1; None without samples.
    fn memory_slowdown(&self, idle: &CanaryReading) -> Option<f64> {
        self.inner.memory_slowdown(&idle.inner)
    }

    /// The chain's time over its time in `idle`, at least 1; None without samples.
    fn compute_slowdown(&self, idle: &CanaryReading) -> Option<f64> {
        self.inner.compute_slowdown(&idle.inner)
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.inner)
    }
}

#[pymethods]
impl Canary {
    /// Observes on `cpus`; none: wherever this process may run.
    #[new]
    #[pyo3(signature = (cpus = Vec::new()))]
    fn new(py: Python<'_>, cpus: Vec<usize>) -> PyResult<Self> {
        let running = py.detach(|| canary::Canary::start(&cpus))?;
        let idle = CanaryReading { inner: running.idle() };
        Ok(Self { running: Mutex::new(Some(running)), idle })
    }

    /// The machine before the load: faster quartiles of 41 beats.
    #[getter]
    fn idle(&self) -> CanaryReading {
        self.idle.clone()
    }

    /// The medians since the last `reset`; a stopped observer has no samples.
    fn read(&self, py: Python<'_>) -> CanaryReading {
        self.with(py, canary::Canary::read)
    }

    /// Ends the stretch, gives its medians and begins the next.
    fn reset(&self, py: Python<'_>) -> CanaryReading {
        self.with(py, canary::Canary::reset)
    }

    /// Ends the observer's thread; again is harmless.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}

impl Canary {
    fn with(
        &self,
        py: Python<'_>,
        read: fn(&canary::Canary) -> canary::CanaryReading,
    ) -> CanaryReading {
        let inner = py.detach(|| {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(read).unwrap_or_default()
        });
        CanaryReading { inner }
    }
}
