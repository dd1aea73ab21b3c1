//! An immutable latency histogram as Python sees it.

use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use swarmbench_core::{histogram, hlog};

/// A distribution of latencies in nanoseconds, 3 significant digits from 1 ns to an hour.
#[pyclass(frozen, eq, module = "swarmbench._native")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    pub inner: histogram::Histogram,
}

impl From<histogram::Histogram> for Histogram {
    fn from(inner: histogram::Histogram) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl Histogram {
    /// A histogram without samples.
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The distribution of `values_ns` (int64, none negative).
    #[staticmethod]
    fn from_values(values_ns: PyReadonlyArray1<'_, i64>) -> PyResult<Self> {
        let values = values_ns.as_array();
        if let Some(negative) = values.iter().find(|value| **value < 0) {
            return Err(PyValueError::new_err(format!("a latency cannot be {negative} ns")));
        }
        Ok(histogram::Histogram::from_values(values.iter().map(|value| value.unsigned_abs()))
            .into())
    }

    /// Samples in all, saturated ones included.
    #[getter]
    fn count(&self) -> u64 {
        self.inner.count()
    }

    /// Samples that were beyond one hour.
    #[getter]
    fn saturated(&self) -> u64 {
        self.inner.saturated()
    }

    /// The smallest value in nanoseconds; 0 where there is no sample.
    #[getter]
    fn min(&self) -> u64 {
        self.inner.min()
    }

    /// The largest value in nanoseconds; 0 where there is no sample.
    #[getter]
    fn max(&self) -> u64 {
        self.inner.max()
    }

    /// The mean in nanoseconds; 0 where there is no sample.
    #[getter]
    fn mean(&self) -> f64 {
        self.inner.mean()
    }

    /// The value in nanoseconds at or below which `percent` (0 to 100) of the samples lie.
    fn percentile(&self, percent: f64) -> u64 {
        self.inner.percentile(percent)
    }

    /// `percentile` of each of `percents`, in one pass.
    fn percentiles(&self, percents: Vec<f64>) -> Vec<u64> {
        self.inner.percentiles(&percents)
    }

    /// The samples of both.
    fn merged(&self, other: &Self) -> Self {
        let mut inner = self.inner.clone();
        inner.merge(&other.inner);
        inner.into()
    }

    /// Samples between two values in nanoseconds, both included (to the width of their buckets).
    fn count_between(&self, low_ns: u64, high_ns: u64) -> u64 {
        self.inner.count_between(low_ns, high_ns)
    }

    /// HdrHistogram's compressed V2 encoding in base64; which samples saturated is not kept.
    fn encode(&self) -> String {
        hlog::encode(&self.inner)
    }

    /// The histogram that `encode` (or any HdrHistogram of 3 digits in units of 1) gave.
    #[staticmethod]
    fn decode(text: &str) -> PyResult<Self> {
        hlog::decode(text).map(Self::from).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn __repr__(&self) -> String {
        let values = self.inner.percentiles(&[50.0, 99.0]);
        format!(
            "Histogram(count={}, p50={} ns, p99={} ns, max={} ns)",
            self.inner.count(),
            values[0],
            values[1],
            self.inner.max()
        )
    }
}
