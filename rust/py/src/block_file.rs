//! The native component's file of blocks, for a backend that keeps the blocks elsewhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;
use swarmbench_core::operations;

/// A nameless file of blocks, past the page cache where the file system can.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct BlockFile(Mutex<operations::BlockFile>);

impl BlockFile {
    pub fn new(file: operations::BlockFile) -> Self {
        Self(Mutex::new(file))
    }

    fn file(&self) -> MutexGuard<'_, operations::BlockFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checksum of a block (u8), as the tiers of the native `memory` component take it.
#[pyfunction]
#[pyo3(signature = (block, /))]
pub fn block_checksum(py: Python<'_>, block: PyReadonlyArray1<'_, u8>) -> PyResult<u64> {
    let bytes = block.as_slice()?;
    Ok(py.detach(|| operations::block_checksum(bytes)))
}

#[pymethods]
impl BlockFile {
    /// Whether it is read and written past the page cache.
    #[getter]
    fn is_direct(&self) -> bool {
        self.file().is_direct()
    }

    /// Bytes that may still be written by all that share the component's budget.
    #[getter]
    fn write_budget_left_bytes(&self) -> u64 {
        self.file().write_budget_left_bytes()
    }

    /// Writes `block` (u8) at `offset`, each of its words of 32 bits under `mask`, and returns its
    /// checksum; None where the write budget does not allow it. Raises OSError where the disk
    /// fails; the interpreter is released meanwhile.
    #[pyo3(signature = (block, offset, mask, /))]
    fn write(
        &self,
        py: Python<'_>,
        block: PyReadonlyArray1<'_, u8>,
        offset: u64,
        mask: u32,
    ) -> PyResult<Option<u64>> {
        let bytes = block.as_slice()?;
        Ok(py.detach(|| self.file().write(bytes, offset, mask))?)
    }

    /// Reads the block at `offset` that was written under `mask` into `room` (u8), and returns its
    /// checksum. Raises OSError where the disk fails.
    #[pyo3(signature = (room, offset, mask, /))]
    fn read(
        &self,
        py: Python<'_>,
        mut room: PyReadwriteArray1<'_, u8>,
        offset: u64,
        mask: u32,
    ) -> PyResult<u64> {
        let bytes = room.as_slice_mut()?;
        Ok(py.detach(|| self.file().read(bytes, offset, mask))?)
    }
}
