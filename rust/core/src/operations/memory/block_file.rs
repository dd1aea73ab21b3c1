//! The tier `nvme` for blocks that another backend keeps: a nameless file of their own, moved by
//! the same requests and within the same write budget as the component's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::journeys::Totals;
use super::mover::{Extent, Mover};
use super::parameters::Fsync;
use super::{Scratch, Shared, refuse_directory, refuse_io};
use crate::operations::scratch::PAGE_BYTES;
use crate::operations::{BuildError, NoPause};

/// A file of blocks, used by one owner at a time; nothing of it stays behind.
pub struct BlockFile {
    shared: Arc<Shared>,
    file: Scratch,
    /// Taken back when this is dropped.
    mover: Option<Mover>,
}

impl BlockFile {
    pub(super) fn create(shared: Arc<Shared>) -> Result<Self, BuildError> {
        let parameters = &shared.parameters;
        let directory = &parameters.directory;
        let file = Scratch::create(Path::new(directory)).map_err(refuse_directory(directory))?;
        let mover = Some(shared.mover().map_err(|error| refuse_io(parameters, &error))?);
        Ok(Self { shared, file, mover })
    }

    /// Whether it is read and written past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.file.direct
    }

    /// Bytes that may still be written by all that share the budget.
    #[must_use]
    pub fn write_budget_left_bytes(&self) -> u64 {
        self.shared.tiers.budget.left()
    }

    /// Writes a block at `offset`, each of its words of 32 bits under `mask`, and returns its
    /// checksum; None where the write budget does not allow it.
    ///
    /// # Errors
    /// The disk failed, or `offset` is no multiple of a page; the extent then holds anything.
    pub fn write(&mut self, block: &[u8], offset: u64, mask: u32) -> io::Result<Option<u64>> {
        let extent = self.extent(block.len(), offset, mask)?;
        let padded = Extent::padded_bytes(block.len());
        if !self.shared.tiers.budget.take(padded) {
            return Ok(None);
        }
        let durable = self.shared.parameters.fsync == Fsync::Data;
        let sent = self.mover()?.send(block, extent, durable, &mut NoPause)?;
        Totals::add(&self.shared.totals.written_bytes, padded);
        Ok(Some(sent))
    }

    /// Reads the block at `offset` that was written under `mask`, and returns its checksum.
    ///
    /// # Errors
    /// As `write`; the room then holds anything.
    pub fn read(&mut self, room: &mut [u8], offset: u64, mask: u32) -> io::Result<u64> {
        let extent = self.extent(room.len(), offset, mask)?;
        let padded = Extent::padded_bytes(room.len());
        let fetched = self.mover()?.fetch(extent, Some(room), &mut NoPause)?;
        Totals::add(&self.shared.totals.read_bytes, padded);
        Ok(fetched)
    }

    fn extent(&self, bytes: usize, offset: u64, mask: u32) -> io::Result<Extent> {
        if bytes == 0 || offset % PAGE_BYTES as u64 != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no whole pages"));
        }
        Ok(Extent { file: self.file.descriptor(), offset, bytes, mask })
    }

    fn mover(&mut self) -> io::Result<&mut Mover> {
        self.mover.as_mut().ok_or_else(|| io::Error::other("closed"))
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        self.shared.keep(self.mover.take(), None);
    }
}
