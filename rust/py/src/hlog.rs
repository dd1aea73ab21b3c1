//! Lines of HdrHistogram's tagged interval log, for `swarmbench.hlog`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use swarmbench_core::hlog::{self, Entry, LogError};

use crate::histogram::Histogram;

type EntryFields = (String, f64, f64, Histogram);

fn to_python(error: &LogError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The lines that open a log started `start_time_s` seconds after the Unix epoch.
#[pyfunction]
pub fn hlog_header(start_time_s: f64) -> String {
    hlog::header(start_time_s)
}

/// The line of one histogram, with its end; `start_s` counts from the log's start time.
#[pyfunction]
pub fn hlog_line(
    tag: String,
    start_s: f64,
    duration_s: f64,
    histogram: &Histogram,
) -> PyResult<String> {
    let entry = Entry { tag, start_s, duration_s, histogram: histogram.inner.clone() };
    hlog::line(&entry).map_err(|error| to_python(&error))
}

/// A whole log: start time, entries (tag, start, duration, histogram), whether its end was torn.
#[pyfunction]
pub fn hlog_read(text: &str) -> PyResult<(f64, Vec<EntryFields>, bool)> {
    let log = hlog::read(text).map_err(|error| to_python(&error))?;
    let entries = log
        .entries
        .into_iter()
        .map(|entry| (entry.tag, entry.start_s, entry.duration_s, entry.histogram.into()))
        .collect();
    Ok((log.start_time_s, entries, log.torn))
}
