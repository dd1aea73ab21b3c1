//! One operation at a time on the calling thread: what a single call from Python costs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use swarmbench_core::operations::{Component, NoPause, Operation, Request, Status};

/// A worker's copy of a component, whose operations of one type are called one by one.
///
/// The interpreter is held meanwhile: releasing it costs more than the operations that this is for.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Caller {
    operation: Mutex<Box<dyn Operation>>,
    op: u8,
}

impl Caller {
    pub fn new(component: &Arc<dyn Component>, op: u8) -> Self {
        Self { operation: Mutex::new(component.operation()), op }
    }

    fn operation(&self) -> MutexGuard<'_, Box<dyn Operation>> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Caller {
    /// Runs the operation `key`; returns the units of work that it did.
    #[pyo3(signature = (key, /))]
    fn run(&self, key: u64) -> PyResult<u64> {
        let completion = self.operation().run(Request { op: self.op, key }, &mut NoPause);
        match completion.status {
            Status::Ok => Ok(completion.units),
            Status::Error => Err(PyRuntimeError::new_err("the operation failed")),
            Status::Rejected => Err(PyRuntimeError::new_err("the operation was rejected")),
        }
    }

    /// Checks the answer of the last `run`; returns how many answers were checked, and how many of
    /// them were wrong.
    fn verify(&self) -> (u32, u32) {
        let verdict = self.operation().verify(&mut NoPause);
        (verdict.checked, verdict.violations)
    }
}
