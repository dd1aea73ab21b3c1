//! The allocator of the native `memory` component, over memory that the host cannot reach.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use swarmbench_core::operations;

/// Spans of whole granules; places are numbers of granules.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct SpanPool(Mutex<operations::SpanPool>);

impl SpanPool {
    fn pool(&self) -> MutexGuard<'_, operations::SpanPool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl SpanPool {
    /// A pool of `granules`, all free.
    #[new]
    #[pyo3(signature = (granules, /))]
    fn new(granules: u64) -> PyResult<Self> {
        if !(1..=operations::SpanPool::GRANULES_MAX).contains(&granules) {
            return Err(PyValueError::new_err(format!("a pool of {granules} granules")));
        }
        Ok(Self(Mutex::new(operations::SpanPool::new(granules))))
    }

    /// The first of `granules` in a row; None where no free span is long enough.
    #[pyo3(signature = (granules, /))]
    fn allocate(&self, granules: u64) -> Option<u32> {
        self.pool().allocate(granules)
    }

    /// Frees the span that starts at `first`; whether one was allocated there.
    #[pyo3(signature = (first, /))]
    fn free(&self, first: u32) -> bool {
        self.pool().free(first).is_ok()
    }

    /// Granules of the allocated span that starts at `first`; None where there is none.
    #[pyo3(signature = (first, /))]
    fn length_of(&self, first: u32) -> Option<u32> {
        self.pool().length_of(first)
    }

    /// Frees everything.
    fn clear(&self) {
        self.pool().clear();
    }

    #[getter]
    fn used_granules(&self) -> u64 {
        self.pool().used_granules()
    }

    /// 1 - longest free span / all that is free; 0 where nothing is free.
    #[getter]
    fn fragmentation(&self) -> f64 {
        self.pool().fragmentation()
    }
}
