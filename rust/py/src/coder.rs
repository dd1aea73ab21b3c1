//! The streaming component's codecs on memory that Python holds: what a device leaves to the host.

use std::sync::{Mutex, PoisonError};

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use swarmbench_core::operations::{Choice, FrameCoder, NoPause, frame_bound};

/// Codes chunks into frames and frames into chunks; for one thread at a time, and nothing is
/// allocated once it is made.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct Coder {
    inner: Mutex<FrameCoder>,
    block_bytes: usize,
}

#[pymethods]
impl Coder {
    /// A coder for blocks of `block_bytes` at a Zstandard level.
    #[new]
    #[pyo3(signature = (block_bytes, zstd_level))]
    fn new(block_bytes: usize, zstd_level: i32) -> PyResult<Self> {
        if block_bytes == 0 || block_bytes > 1 << 24 || !(-50..=19).contains(&zstd_level) {
            return Err(PyValueError::new_err("give blocks up to 16 MiB and a level of -50 to 19"));
        }
        Ok(Self { inner: Mutex::new(FrameCoder::new(block_bytes, zstd_level)), block_bytes })
    }

    /// Bytes that a frame of `chunk_bytes` needs as room.
    fn bound(&self, chunk_bytes: usize) -> usize {
        frame_bound(chunk_bytes, self.block_bytes)
    }

    /// Codes `chunk` for an op ("auto", "lz4", "zstd", "pack") into `frame`, at least `bound` long,
    /// without the interpreter; returns the frame's length and its codec's number.
    #[pyo3(signature = (op, sequence, chunk, frame, /))]
    fn encode(
        &self,
        py: Python<'_>,
        op: &str,
        sequence: u64,
        chunk: PyReadonlyArray1<'_, u8>,
        mut frame: PyReadwriteArray1<'_, u8>,
    ) -> PyResult<(usize, u8)> {
        let choice = Choice::named(op)
            .ok_or_else(|| PyValueError::new_err(format!("there is no choice `{op}`")))?;
        let (chunk, frame) = (chunk.as_slice()?, frame.as_slice_mut()?);
        if frame.len() < self.bound(chunk.len()) {
            return Err(PyValueError::new_err("the frame's room is below `bound`"));
        }
        let (length, codec) = py.detach(|| {
            let mut coder = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            coder.encode(choice, sequence, chunk, frame, &mut NoPause)
        });
        Ok((length, codec as u8))
    }

    /// Decodes `frame` into `chunk`, which is as long as the original, and checks it, without the
    /// interpreter; returns its sequence number. `ValueError` for what is not a chunk's frame.
    #[pyo3(signature = (frame, chunk, /))]
    fn decode(
        &self,
        py: Python<'_>,
        frame: PyReadonlyArray1<'_, u8>,
        mut chunk: PyReadwriteArray1<'_, u8>,
    ) -> PyResult<u64> {
        let (frame, chunk) = (frame.as_slice()?, chunk.as_slice_mut()?);
        let header = py.detach(|| {
            let mut coder = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            coder.decode(frame, chunk, &mut NoPause)
        });
        header
            .map(|header| header.sequence)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }
}
