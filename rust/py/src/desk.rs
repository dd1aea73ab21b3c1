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

impl Desk {
    /// The desk itself, for who serves it without Python.
    pub fn inner(&self) -> Arc<engine::Desk> {
        Arc::clone(&self.inner)
    }
}

impl Opened {
    fn end(&self, completion: Completion, verdict: Verdict) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = open else { return false };
        self.desk.close(open, completion, verdict);
        true
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.end(Completion { status: Status::Error, units: 0 }, Verdict::default());
    }
}

#[pymethods]
impl Opened {
    /// Says that the answer is there: what comes until the operation is closed is its check.
    fn finish(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.as_mut() {
            self.desk.finish(open);
        }
    }

    /// Gives the operation back, with the units of work that it did (one where it is ok, without
    /// `units`), how many answers of it were checked and how many of those were wrong; false where
    /// it had been given back before. One that is `rejected` did not run.
    #[pyo3(signature = (ok, *, units = None, rejected = false, checked = 0, violations = 0))]
    fn close(
        &self,
        py: Python<'_>,
        ok: bool,
        units: Option<u64>,
        rejected: bool,
        checked: u32,
        violations: u32,
    ) -> bool {
        let status = match (ok, rejected) {
            (true, _) => Status::Ok,
            (false, true) => Status::Rejected,
            (false, false) => Status::Error,
        };
        let completion = Completion { status, units: units.unwrap_or(u64::from(ok)) };
        py.detach(|| self.end(completion, Verdict { checked, violations }))
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
