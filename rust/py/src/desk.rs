//! A hosted workload for several Python threads at once, each of one operation at a time.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use swarmbench_core::engine::{self, Open};
use swarmbench_core::operations::{Completion, Status, Verdict};

use crate::engine::Engine;

/// Where clients open and close the operations of a hosted workload; any thread may use it.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Desk {
    inner: Arc<engine::Desk>,
}

/// One operation that a client has taken: it is closed once, as failed where nobody closes it.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Opened {
    desk: Arc<engine::Desk>,
    open: Mutex<Option<Open>>,
    #[pyo3(get)]
    op: u8,
    #[pyo3(get)]
    key: u64,
    #[pyo3(get)]
    due_ns: u64,
}

impl Opened {
    fn end(&self, ok: bool, verdict: Verdict) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = open else { return false };
        let status = if ok { Status::Ok } else { Status::Error };
        self.desk.close(open, Completion { status, units: u64::from(ok) }, verdict);
        true
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.end(false, Verdict::default());
    }
}

#[pymethods]
impl Opened {
    /// Gives the operation back, with how many answers of it were checked and how many of those
    /// were wrong; false where it had been given back before.
    #[pyo3(signature = (ok, *, checked = 0, violations = 0))]
    fn close(&self, py: Python<'_>, ok: bool, checked: u32, violations: u32) -> bool {
        py.detach(|| self.end(ok, Verdict { checked, violations }))
    }
}

#[pymethods]
impl Desk {
    /// The next workload of `Component.outside` that is not drained yet, for several clients at
    /// once; None once all are taken.
    #[staticmethod]
    fn of(engine: &Engine) -> Option<Self> {
        let drain = engine.inner.drain()?;
        Some(Self { inner: Arc::new(drain.into_desk()) })
    }

    /// The next operation; None where none came within `patience_s` or the engine was stopped.
    #[pyo3(signature = (patience_s = 0.1))]
    fn open(&self, py: Python<'_>, patience_s: f64) -> Option<Opened> {
        let patience_ns = (patience_s.max(0.0) * 1e9) as u64;
        let open = py.detach(|| self.inner.open(patience_ns))?;
        let arrival = open.arrival();
        let (op, key, due_ns) = (arrival.op, arrival.key, arrival.due);
        Some(Opened {
            desk: Arc::clone(&self.inner),
            open: Mutex::new(Some(open)),
            op,
            key,
            due_ns,
        })
    }

    /// Whether the engine has been stopped: nothing more will come.
    fn stopped(&self) -> bool {
        self.inner.stopped()
    }
}
