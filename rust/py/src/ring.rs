//! A ring of messages to a kernel that spins, fed from Python a batch at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyReadwriteArray1,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use swarmbench_core::clock::{Pacing, RealClock};
use swarmbench_core::cuda::ring::{
    Feeder, LINE_WORDS, Memory, PAYLOAD_WORDS, Payload, Progress, RingError, Shape,
};

fn refused(error: RingError) -> PyErr {
    match error {
        RingError::Overrun { .. } => PyRuntimeError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// Tickets, the moments in ns at which they were found, and the words of their answers.
type Collected<'py> =
    (Bound<'py, PyArray2<u64>>, Bound<'py, PyArray1<u64>>, Bound<'py, PyArray2<u64>>);

/// The host's side of a ring in memory that a device sees.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Ring {
    feeder: Mutex<Feeder>,
    clock: RealClock,
    /// Keeps the memory that the ring lies in.
    memory: Py<PyArray1<u64>>,
}

impl Ring {
    fn feeder(&self) -> MutexGuard<'_, Feeder> {
        self.feeder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shape_of(groups: usize, slots: usize, answer_lines: usize) -> PyResult<Shape> {
    let shape = Shape { groups, slots, answer_lines };
    shape.check().map_err(refused)?;
    Ok(shape)
}

fn rows<'py>(
    py: Python<'py>,
    words: Vec<u64>,
    width: usize,
) -> PyResult<Bound<'py, PyArray2<u64>>> {
    let height = words.len() / width;
    words.into_pyarray(py).reshape([height, width])
}

#[pymethods]
impl Ring {
    /// A ring in `memory` (u64, aligned to 128 bytes), which nothing else writes but its kernel.
    /// Empty, with message `first` as each group's next; `resumed`: as its last feeder left it.
    /// Raises ValueError for sizes that are out of bounds and memory that is too short.
    #[new]
    #[pyo3(signature = (memory, /, *, groups, slots, answer_lines, first = 0, resumed = false))]
    fn new(
        mut memory: PyReadwriteArray1<'_, u64>,
        groups: usize,
        slots: usize,
        answer_lines: usize,
        first: u64,
        resumed: bool,
    ) -> PyResult<Self> {
        let shape = shape_of(groups, slots, answer_lines)?;
        let words = memory.as_slice_mut()?;
        let address = words.as_mut_ptr().expose_provenance();
        // SAFETY: the words are writable and live as long as the array, which `self` keeps; the
        // kernel accesses them by whole words.
        let found = unsafe { Memory::at(address, size_of_val(words), shape) };
        let lines = Arc::new(found.map_err(refused)?);
        let feeder = if resumed { Feeder::resumed(lines) } else { Feeder::new(lines, first) };
        Ok(Self {
            feeder: Mutex::new(feeder),
            clock: RealClock::new(Pacing::Park),
            memory: memory.as_any().clone().cast_into::<PyArray1<u64>>()?.unbind(),
        })
    }

    /// Words of 8 bytes that a ring of this shape takes.
    #[staticmethod]
    #[pyo3(signature = (*, groups, slots, answer_lines))]
    fn words(groups: usize, slots: usize, answer_lines: usize) -> PyResult<usize> {
        Ok(shape_of(groups, slots, answer_lines)?.lines() * LINE_WORDS)
    }

    /// The memory that it lies in.
    #[getter]
    fn memory(&self, py: Python<'_>) -> Py<PyArray1<u64>> {
        self.memory.clone_ref(py)
    }

    /// Publishes the rows of `payloads` (n, 15) until the ring is full; a (k, 2) array of the group
    /// and the number that the first k of them were given.
    #[pyo3(signature = (payloads, /))]
    fn push<'py>(
        &self,
        py: Python<'py>,
        payloads: PyReadonlyArray2<'py, u64>,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        if payloads.shape()[1] != PAYLOAD_WORDS {
            let width = payloads.shape()[1];
            return Err(PyValueError::new_err(format!(
                "a payload of {width} words: there are {PAYLOAD_WORDS}"
            )));
        }
        let mut tickets = Vec::new();
        let mut feeder = self.feeder();
        for row in payloads.as_slice()?.chunks_exact(PAYLOAD_WORDS) {
            let mut payload: Payload = [0; PAYLOAD_WORDS];
            payload.copy_from_slice(row);
            match feeder.push(&payload) {
                Some(ticket) => tickets.extend([u64::from(ticket.group), ticket.number]),
                None => break,
            }
        }
        rows(py, tickets, 2)
    }

    /// Collects what was acknowledged: tickets (k, 2), the moment in ns at which each was found,
    /// and answers (k, words). Raises RuntimeError where a kernel acknowledged what was never
    /// published.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Collected<'py>> {
        let (mut tickets, mut stamps, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut feeder = self.feeder();
        let width = feeder.shape().answer_lines * LINE_WORDS;
        let found = feeder.poll(&self.clock, |ticket, stamp_ns, answer| {
            tickets.extend([u64::from(ticket.group), ticket.number]);
            stamps.push(stamp_ns);
            answers.extend(answer.words());
        });
        found.map_err(refused)?;
        Ok((rows(py, tickets, 2)?, stamps.into_pyarray(py), rows(py, answers, width)?))
    }

    /// Ends the launches up to this number.
    #[pyo3(signature = (launch, /))]
    fn stop(&self, launch: u64) {
        self.feeder().stop(launch);
    }

    /// "serving", "stranding" (a group with messages on their way is served no more) or "ended".
    #[pyo3(signature = (launch, /))]
    fn progress(&self, launch: u64) -> &'static str {
        match self.feeder().progress(launch) {
            Progress::Serving => "serving",
            Progress::Stranding => "stranding",
            Progress::Ended => "ended",
        }
    }

    /// What the kernel keeps of a group's acknowledged messages.
    #[pyo3(signature = (group, /))]
    fn state(&self, group: usize) -> PyResult<u64> {
        let feeder = self.feeder();
        if group >= feeder.shape().groups {
            return Err(PyValueError::new_err(format!("there is no group {group}")));
        }
        Ok(feeder.state(group))
    }

    /// Messages that were published and not yet collected.
    #[getter]
    fn in_flight(&self) -> u64 {
        self.feeder().in_flight()
    }
}
