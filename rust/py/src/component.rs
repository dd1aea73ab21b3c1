//! A built component as Python sees it: describe, evaluate against a reference, run alone.

use std::sync::Arc;
use std::sync::Barrier;

use pyo3::exceptions::{PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use swarmbench_core::engine::Outside;
use swarmbench_core::operations::{self, Build, BuildError, Checking, Fault, Tally};

use crate::arrays::{arrays_from, arrays_to};
use crate::block_file::BlockFile;
use crate::caller::Caller;

/// A component built for one seed; immutable, so any thread may use it.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Component {
    pub inner: Arc<dyn operations::Component>,
    name: String,
    /// Its operations are run by the owner of the engine's `Drain`.
    pub outside: bool,
}

fn to_python(error: BuildError) -> PyErr {
    match error {
        BuildError::Cancelled => PyKeyboardInterrupt::new_err("building was cancelled"),
        other => PyValueError::new_err(other.to_string()),
    }
}

/// Names of the components that have a native CPU backend.
#[pyfunction]
pub fn component_names() -> Vec<&'static str> {
    operations::names()
}

/// Names of the faults that can be planted into answers.
#[pyfunction]
pub fn fault_names() -> Vec<&'static str> {
    Fault::ALL.iter().map(|(name, _)| *name).collect()
}

/// Nodes and edges of the graph in a file; an error names file, line and what would be right.
#[pyfunction]
pub fn graph_file_size(py: Python<'_>, path: &str) -> PyResult<(u32, u64)> {
    py.detach(|| operations::graph_file_size(path)).map_err(to_python)
}

#[pymethods]
impl Component {
    /// Builds `name` from its parameters (a JSON object); `progress(stage, fraction)` is called
    /// now and then, and a pending Ctrl-C ends the build.
    #[new]
    #[pyo3(signature = (name, parameters, *, seed, threads = 1, progress = None))]
    fn new(
        py: Python<'_>,
        name: String,
        parameters: String,
        seed: u64,
        threads: usize,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let report = |stage: &str, fraction: f64| {
            Python::attach(|py| {
                py.check_signals().is_ok()
                    && progress
                        .as_ref()
                        .is_none_or(|call| call.call1(py, (stage, fraction)).is_ok())
            })
        };
        let context = Build { seed, threads: threads.max(1), progress: &report };
        let inner =
            py.detach(|| operations::build(&name, &parameters, &context)).map_err(to_python)?;
        Ok(Self { inner, name, outside: false })
    }

    /// A component whose operations are run outside the pool, by whoever drains its workload;
    /// `ops` names their types.
    #[staticmethod]
    fn outside(ops: Vec<String>) -> PyResult<Self> {
        if ops.is_empty() || ops.len() > usize::from(u8::MAX) {
            return Err(PyValueError::new_err("name 1 to 255 op types"));
        }
        Ok(Self { inner: Arc::new(Outside::new(ops)), name: "outside".to_owned(), outside: true })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Names of the op types, in the order of their indices.
    fn ops(&self) -> Vec<&'static str> {
        self.inner.ops().to_vec()
    }

    /// Facts established while building, as a JSON object.
    fn describe(&self) -> String {
        self.inner.describe().to_string()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.inner.counters()
    }

    fn resident_bytes(&self, workers: usize) -> u64 {
        self.inner.resident_bytes(workers)
    }

    /// The answers of `op` for `inputs` (one-dimensional arrays by name).
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        op: &str,
        inputs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let inputs = arrays_from(inputs)?;
        let answers = py.detach(|| self.inner.evaluate(op, &inputs)).map_err(to_python)?;
        arrays_to(py, answers)
    }

    /// A file for blocks that another backend keeps, within this component's write budget.
    fn block_file(&self, py: Python<'_>) -> PyResult<BlockFile> {
        py.detach(|| self.inner.block_file()).map(BlockFile::new).map_err(to_python)
    }

    /// A worker's copy whose operations of type `op` are called one at a time.
    fn caller(&self, op: &str) -> PyResult<Caller> {
        Ok(Caller::new(&self.inner, self.index_of(op)?))
    }

    /// Runs `count` operations of type `op` back to back on each of `threads` threads.
    ///
    /// `fault` ("flipped_bit", "lost_result", "doubled_result") damages each answer before it is
    /// checked. Returns a dict: elapsed_ns (the slowest thread's), busy_ns (without the checks),
    /// verify_ns, page_faults, ok, errors, rejected, units, verified, violations, planted (sums).
    #[pyo3(signature = (op, *, first_key = 0, count = 1, threads = 1, verify = true, fault = None))]
    #[allow(clippy::too_many_arguments, reason = "named one by one in Python")]
    fn run<'py>(
        &self,
        py: Python<'py>,
        op: &str,
        first_key: u64,
        count: u64,
        threads: usize,
        verify: bool,
        fault: Option<&str>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let checking = checking(verify, fault)?;
        let index = self.index_of(op)?;
        let total =
            py.detach(|| run_threads(&*self.inner, index, first_key, count, threads, checking));
        let dict = PyDict::new(py);
        dict.set_item("elapsed_ns", total.elapsed_ns)?;
        dict.set_item("busy_ns", total.busy_ns)?;
        dict.set_item("verify_ns", total.verify_ns)?;
        dict.set_item("page_faults", total.page_faults)?;
        dict.set_item("ok", total.ok)?;
        dict.set_item("errors", total.errors)?;
        dict.set_item("rejected", total.rejected)?;
        dict.set_item("units", total.units)?;
        dict.set_item("verified", total.verified)?;
        dict.set_item("violations", total.violations)?;
        dict.set_item("planted", total.planted)?;
        Ok(dict)
    }

    /// Runs `count` operations of type `op` on the calling thread; returns for each the longest
    /// processor time in nanoseconds for which it, or its check, would let no other one in.
    #[pyo3(signature = (op, *, first_key = 0, count = 1))]
    fn longest_stretches(
        &self,
        py: Python<'_>,
        op: &str,
        first_key: u64,
        count: u64,
    ) -> PyResult<Vec<u64>> {
        let index = self.index_of(op)?;
        Ok(py.detach(|| {
            let mut operation = self.inner.operation();
            operations::longest_stretches(operation.as_mut(), index, first_key, count)
        }))
    }
}

impl Component {
    fn index_of(&self, op: &str) -> PyResult<u8> {
        let index = self.inner.ops().iter().position(|known| *known == op);
        index
            .and_then(|index| u8::try_from(index).ok())
            .ok_or_else(|| PyValueError::new_err(format!("{}: there is no op `{op}`", self.name)))
    }
}

fn checking(verify: bool, fault: Option<&str>) -> PyResult<Checking> {
    let Some(name) = fault else {
        return Ok(if verify { Checking::Checked } else { Checking::Skipped });
    };
    let named = Fault::ALL.iter().find(|(known, _)| *known == name);
    named.map(|(_, fault)| Checking::Damaged(*fault)).ok_or_else(|| {
        let known = Fault::ALL.map(|(known, _)| known).join(", ");
        PyValueError::new_err(format!("there is no fault `{name}`; there are {known}"))
    })
}

fn run_threads(
    component: &dyn operations::Component,
    op: u8,
    first_key: u64,
    count: u64,
    threads: usize,
    checking: Checking,
) -> Tally {
    let threads = threads.max(1);
    let barrier = Barrier::new(threads);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads as u64)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut operation = component.operation();
                    barrier.wait();
                    let first = first_key + thread * count;
                    operations::run_alone(operation.as_mut(), op, first, count, checking)
                })
            })
            .collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    tallies.iter().fold(Tally::default(), |sum, one| Tally {
        elapsed_ns: sum.elapsed_ns.max(one.elapsed_ns),
        verify_ns: sum.verify_ns + one.verify_ns,
        busy_ns: sum.busy_ns + one.busy_ns,
        page_faults: sum.page_faults + one.page_faults,
        ok: sum.ok + one.ok,
        errors: sum.errors + one.errors,
        rejected: sum.rejected + one.rejected,
        units: sum.units + one.units,
        verified: sum.verified + one.verified,
        violations: sum.violations + one.violations,
        planted: sum.planted + one.planted,
    })
}
