//! The consumer's end of a hosted workload: taken by hand, or served by a Python callable.

use std::sync::{Mutex, MutexGuard, TryLockError};

use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PySlice;
use swarmbench_core::engine::{self, Batching};
use swarmbench_core::operations::{Completion, Status};

/// Time after which a waiting consumer lets Python look for signals.
const PATIENCE_NS: u64 = 100_000_000;
const BATCH_MAX: usize = 1 << 20;
const OK: Completion = Completion { status: Status::Ok, units: 1 };
const FAILED: Completion = Completion { status: Status::Error, units: 0 };

/// Where the operations of a hosted workload are taken and given back; of one thread at a time.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Drain {
    inner: Mutex<engine::Drain>,
}

impl From<engine::Drain> for Drain {
    fn from(inner: engine::Drain) -> Self {
        Self { inner: Mutex::new(inner) }
    }
}

/// The fields of a batch, as arrays that are used again for the next one.
struct Views<'py> {
    keys: Bound<'py, PyArray1<u64>>,
    ops: Bound<'py, PyArray1<u8>>,
    due_ns: Bound<'py, PyArray1<u64>>,
}

impl<'py> Views<'py> {
    fn new(py: Python<'py>, max: usize) -> Self {
        Self {
            keys: PyArray1::zeros(py, max, false),
            ops: PyArray1::zeros(py, max, false),
            due_ns: PyArray1::zeros(py, max, false),
        }
    }

    /// (keys, ops, due_ns) of the current batch of `drain`.
    fn filled(
        &self,
        py: Python<'py>,
        drain: &engine::Drain,
        count: usize,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (mut keys, mut ops) = (self.keys.try_readwrite()?, self.ops.try_readwrite()?);
        let mut due_ns = self.due_ns.try_readwrite()?;
        let fields = keys.as_slice_mut()?.iter_mut().zip(ops.as_slice_mut()?);
        let fields = fields.zip(due_ns.as_slice_mut()?);
        for (((key, op), due), arrival) in fields.zip(drain.arrivals()) {
            (*key, *op, *due) = (arrival.key, arrival.op, arrival.due);
        }
        let range = PySlice::new(py, 0, count as isize, 1);
        Ok((self.keys.get_item(&range)?, self.ops.get_item(&range)?, self.due_ns.get_item(range)?))
    }
}

fn batching(batch: usize, linger_s: f64) -> PyResult<Batching> {
    if batch == 0 || batch > BATCH_MAX || !(linger_s >= 0.0 && linger_s.is_finite()) {
        return Err(PyValueError::new_err(format!(
            "batch must lie in 1..{BATCH_MAX} and linger_s be finite and >= 0"
        )));
    }
    Ok(Batching { max: batch, linger_ns: (linger_s * 1e9) as u64 })
}

/// Which operations of `count` are ok: all of them, or as the array says.
fn verdicts(answer: &Bound<'_, PyAny>, count: usize) -> PyResult<Option<Vec<bool>>> {
    if answer.is_none() {
        return Ok(None);
    }
    let flags: PyReadonlyArray1<'_, bool> = answer.extract().map_err(|_| {
        PyValueError::new_err("a batch is answered by None or by a one-dimensional array of bool")
    })?;
    let flags = flags.as_array().to_vec();
    if flags.len() == count {
        Ok(Some(flags))
    } else {
        Err(PyValueError::new_err(format!("{} answers for {count} operations", flags.len())))
    }
}

fn completion(flags: Option<&[bool]>, position: usize) -> Completion {
    if flags.is_none_or(|flags| flags[position]) { OK } else { FAILED }
}

impl Drain {
    fn owned(&self) -> PyResult<MutexGuard<'_, engine::Drain>> {
        match self.inner.try_lock() {
            Ok(drain) => Ok(drain),
            Err(TryLockError::Poisoned(drain)) => Ok(drain.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("another thread is draining this workload"))
            }
        }
    }
}

/// Calls for every operation of the batch by itself; returns the first exception.
fn call_each(
    py: Python<'_>,
    drain: &mut engine::Drain,
    call: &Bound<'_, PyAny>,
    batch: &[(u8, u64)],
) -> PyResult<Option<PyErr>> {
    let mut first = None;
    for (op, key) in batch {
        match call.call1((*op, *key)) {
            Ok(answer) => {
                let refused = answer.extract::<bool>().is_ok_and(|ok| !ok);
                drain.complete_one(if refused { FAILED } else { OK });
            }
            Err(error) => {
                drain.complete_one(FAILED);
                if !error.is_instance_of::<PyException>(py) {
                    // Ctrl-C and the like: what is left of the batch was not run.
                    drain.complete(|_| FAILED);
                    return Err(error);
                }
                first = first.or(Some(error));
            }
        }
    }
    Ok(first)
}

#[pymethods]
impl Drain {
    /// The next batch as (keys, ops, due_ns): copies, of at most `batch` operations, closed at
    /// the latest `linger_s` after the intended start of its first one. Empty arrays where nothing
    /// came within `patience_s`, None once the engine was stopped.
    #[pyo3(signature = (batch = 256, *, linger_s = 0.0, patience_s = 0.1))]
    #[allow(clippy::type_complexity)] // the three arrays have no name on the Python side either
    fn take<'py>(
        &self,
        py: Python<'py>,
        batch: usize,
        linger_s: f64,
        patience_s: f64,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let batching = batching(batch, linger_s)?;
        let mut owned = self.owned()?;
        let drain: &mut engine::Drain = &mut owned;
        if drain.left() > 0 {
            return Err(PyRuntimeError::new_err("give the last batch back with complete() first"));
        }
        let patience_ns = (patience_s.max(0.0) * 1e9) as u64;
        let count = py.detach(|| drain.take(batching, patience_ns));
        if count == 0 && drain.stopped() {
            return Ok(None);
        }
        Views::new(py, count).filled(py, drain, count).map(Some)
    }

    /// Gives the batch back; `ok` says which operations succeeded, all of them by default.
    #[pyo3(signature = (ok = None))]
    fn complete(&self, ok: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let mut drain = self.owned()?;
        let flags = match ok {
            Some(answer) => verdicts(answer, drain.left())?,
            None => None,
        };
        drain.complete(|position| completion(flags.as_deref(), position));
        Ok(())
    }

    /// Answers every operation by `call` until the engine is stopped.
    ///
    /// By batch: `call(keys, ops, due_ns)` gets views that hold until it returns, and answers with
    /// None or an array of bool, True where an operation succeeded. With `per_op`, which is slower:
    /// `call(op, key)`, and False is a failure. An exception makes its operations errors and the
    /// first one is returned; one that is no `Exception` ends the service.
    #[pyo3(signature = (call, *, batch = 256, linger_s = 0.0, per_op = false))]
    fn serve(
        &self,
        py: Python<'_>,
        call: &Bound<'_, PyAny>,
        batch: usize,
        linger_s: f64,
        per_op: bool,
    ) -> PyResult<Option<Py<PyAny>>> {
        let batching = batching(batch, linger_s)?;
        let mut owned = self.owned()?;
        let drain: &mut engine::Drain = &mut owned;
        let views = Views::new(py, batch);
        let mut calls = Vec::with_capacity(batch);
        let mut first: Option<PyErr> = None;
        loop {
            let count = py.detach(|| drain.take(batching, PATIENCE_NS));
            if count == 0 {
                if drain.stopped() {
                    return Ok(first.map(|error| error.into_value(py).into_any()));
                }
                py.check_signals()?;
                continue;
            }
            if per_op {
                calls.clear();
                calls.extend(drain.arrivals().map(|arrival| (arrival.op, arrival.key)));
                let failed = call_each(py, drain, call, &calls)?;
                first = first.or(failed);
                continue;
            }
            let answer = views.filled(py, drain, count).and_then(|batch| call.call1(batch));
            match answer.and_then(|answer| verdicts(&answer, count)) {
                Ok(flags) => drain.complete(|position| completion(flags.as_deref(), position)),
                Err(error) => {
                    drain.complete(|_| FAILED);
                    if !error.is_instance_of::<PyException>(py) {
                        return Err(error);
                    }
                    first = first.or(Some(error));
                }
            }
        }
    }
}
