//! Operations that reach a CUDA device without the interpreter.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use swarmbench_core::cuda::{
    self, Command, Driver, DriverError, Entry, HostSpan, HostWord, Launch, LearningError, Mode,
    Noted, Program, Words,
};

use crate::desk::Desk;
use crate::histogram::Histogram;

fn failed(error: &DriverError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// The primary context of a device, through the driver's own library.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct CudaContext {
    inner: Arc<cuda::Context>,
}

#[pymethods]
impl CudaContext {
    /// Opens the driver's library `path` and retains the primary context of `device`.
    #[new]
    fn new(py: Python<'_>, path: &str, device: i32) -> PyResult<Self> {
        let opened = py.detach(|| Driver::open(Path::new(path))?.context(device));
        Ok(Self { inner: opened.map_err(|error| failed(&error))? })
    }

    /// `stream_words`: streams wait for words of memory; `has_time_out`: kernels may not run long;
    /// `priorities`: the least and the greatest of a stream.
    fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = self.inner.capabilities().map_err(|error| failed(&error))?;
        let dict = PyDict::new(py);
        dict.set_item("stream_words", found.stream_words)?;
        dict.set_item("has_time_out", found.has_time_out)?;
        dict.set_item("priorities", found.priorities)?;
        Ok(dict)
    }
}

/// (address, content) of pinned memory.
type Content = (u64, Vec<u8>);
/// Inputs, commands, commands of the check, what the commands may write, units of work.
type NotedFields<'py> =
    (Vec<Content>, Vec<Bound<'py, PyTuple>>, Vec<Bound<'py, PyTuple>>, Vec<Content>, u64);

fn command(fields: &Bound<'_, PyTuple>) -> PyResult<Command> {
    let kind: String = fields.get_item(0)?.extract()?;
    let rest = fields.get_slice(1, fields.len());
    match kind.as_str() {
        "launch" => {
            let (function, grid, block, shared_bytes, arguments): (_, _, _, _, Vec<Vec<u8>>) =
                rest.extract()?;
            let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            Ok(Command::Launch(Launch::new(function, grid, block, shared_bytes, &arguments)))
        }
        "fill" => {
            let (address, byte, bytes) = rest.extract()?;
            Ok(Command::Fill { address, byte, bytes })
        }
        "copy" => {
            let (to, from, bytes) = rest.extract()?;
            Ok(Command::Copy { to, from, bytes })
        }
        other => Err(PyValueError::new_err(format!("there is no command `{other}`"))),
    }
}

fn program(commands: &[Bound<'_, PyTuple>]) -> PyResult<Program> {
    Ok(Program::new(commands.iter().map(command).collect::<PyResult<_>>()?))
}

fn spans(contents: Vec<Content>) -> Vec<(HostSpan, Vec<u8>)> {
    let spanned = |(address, content): Content| {
        // SAFETY: `Berth.learn` has its caller keep the memory, and leave it alone.
        (unsafe { HostSpan::new(address, content.len()) }, content)
    };
    contents.into_iter().map(spanned).collect()
}

fn mode_of(name: &Bound<'_, PyAny>) -> PyResult<Mode> {
    match name.extract()? {
        "native" => Ok(Mode::Native),
        "graph" => Ok(Mode::Graph),
        "armed" => Ok(Mode::Armed),
        other => Err(PyValueError::new_err(format!(
            "submit `{other}`: choose one of native, graph, armed"
        ))),
    }
}

/// The operations of one op type of a lane, learned and ready to be asked again.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Berth {
    /// Before what it works on: it lets its stream run out when it is dropped.
    inner: Mutex<Option<cuda::Berth>>,
    /// Memory that its commands refer to.
    #[expect(dead_code, reason = "kept, not used")]
    kept: Vec<Py<PyAny>>,
    /// Bytes of the answers that come to the host, of all entries.
    #[pyo3(get)]
    answer_bytes: usize,
    /// Driver calls of an operation, on average over the entries; its words not counted.
    #[pyo3(get)]
    calls: f64,
}

#[pymethods]
impl Berth {
    /// Learns noted operations on a stream of its own; see `swarmbench.gpu.noting` for their form.
    ///
    /// `words` is pinned memory of 512 zero bytes. It and what the notes refer to, on the host and
    /// on the device, is what `kept` keeps, and is used by nobody else until the berth has ended. A
    /// `ValueError` says why an operation cannot be asked again, a `RuntimeError` what the driver
    /// refused.
    #[staticmethod]
    #[pyo3(signature = (context, noted, *, words, kept, mode, has_words, priority))]
    #[allow(clippy::too_many_arguments)] // keyword-only on the Python side
    fn learn(
        py: Python<'_>,
        context: &CudaContext,
        noted: Vec<NotedFields<'_>>,
        words: u64,
        kept: Vec<Py<PyAny>>,
        #[pyo3(from_py_with = mode_of)] mode: Mode,
        has_words: bool,
        priority: i32,
    ) -> PyResult<Self> {
        if noted.is_empty() {
            return Err(PyValueError::new_err("no operation was noted"));
        }
        let noted = noted
            .into_iter()
            .map(|(inputs, run, check, written, units)| {
                let (inputs, written) = (spans(inputs), spans(written));
                Ok(Noted { inputs, run: program(&run)?, check: program(&check)?, written, units })
            })
            .collect::<PyResult<Vec<Noted>>>()?;
        // SAFETY: as for `spans`; each word has a line of its own.
        let word = |line: u64| unsafe { HostWord::new(words + line * HostWord::LINE_BYTES) };
        let words = Words { go: word(0), begun: word(1), done: word(2), checked: word(3) };
        let learned = py.detach(|| {
            context.inner.enter()?;
            let stream = context.inner.stream(priority)?;
            let entries: Vec<Entry> = noted
                .into_iter()
                .map(|each| Entry::learn(each, &stream))
                .collect::<Result<_, LearningError>>()?;
            let answer_bytes = entries.iter().map(Entry::answer_bytes).sum();
            let count = entries.len() as f64;
            let berth = cuda::Berth::new(stream, words, mode, has_words, entries)?;
            Ok((answer_bytes, berth.calls() as f64 / count, berth))
        });
        let (answer_bytes, calls, berth) = learned.map_err(|error: LearningError| match error {
            LearningError::Driver(error) => failed(&error),
            other => PyValueError::new_err(other.to_string()),
        })?;
        Ok(Self { inner: Mutex::new(Some(berth)), kept, answer_bytes, calls })
    }
}

/// Serves a hosted workload from a thread that never enters Python.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Submitter {
    /// Before the berths that it was given, which keep what it works on.
    inner: Mutex<cuda::Submitter>,
    #[expect(dead_code, reason = "kept, not used")]
    berths: Vec<Py<Berth>>,
}

impl Submitter {
    fn submitter(&self) -> MutexGuard<'_, cuda::Submitter> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Submitter {
    /// Begins to serve `desk`; a lane has a berth, or None, for each op type, and takes it over.
    #[new]
    fn new(
        context: &CudaContext,
        desk: &Desk,
        lanes: Vec<Vec<Option<Py<Berth>>>>,
    ) -> PyResult<Self> {
        let taken = |berth: &Option<Py<Berth>>| {
            let mut inner =
                berth.as_ref()?.get().inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.take()
        };
        let served = lanes.iter().map(|berths| cuda::Lane::new(berths.iter().map(taken).collect()));
        let context = Arc::clone(&context.inner);
        let submitter = cuda::Submitter::start(context, desk.inner(), served.collect())?;
        let berths = lanes.into_iter().flatten().flatten().collect();
        Ok(Self { inner: Mutex::new(submitter), berths })
    }

    /// What the driver said when the device was lost; None while all is well.
    #[getter]
    fn lost(&self) -> Option<String> {
        self.submitter().lost()
    }

    /// Times in nanoseconds: `submit` until the driver or the word had an operation, `queue` until
    /// it was seen to begin, `execute` until its answer was seen to be there.
    fn figures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let submitter = self.submitter();
        let figures = submitter.figures();
        let parts =
            [("submit", &figures.submit), ("queue", &figures.queue), ("execute", &figures.execute)];
        for (name, counts) in parts {
            dict.set_item(name, Histogram::from(counts.snapshot()))?;
        }
        Ok(dict)
    }

    /// Ends it, after what is under way.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.submitter().stop());
    }
}
