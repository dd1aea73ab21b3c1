//! A nameless file for blocks that another backend keeps: what the tier `nvme` does, and the same
//! requests and write budget as of the component that lends it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::journeys::Totals;
use super::mover::{Extent, Mover};
use super::parameters::Fsync;
use super::{Scratch, Shared, refuse_directory};
use crate::operations::scratch::{PAGE_BYTES, WriteBudget};
use crate::operations::{BuildError, NoPause};

/// What a component gives to a file of blocks.
pub trait Lender: Send + Sync {
    /// What all its files may write together.
    fn budget(&self) -> &WriteBudget;

    /// What moves the blocks; touched.
    ///
    /// # Errors
    /// There is none to be had here.
    fn lend(&self) -> Result<Mover, BuildError>;

    /// Takes back what was lent.
    fn take_back(&self, _: Mover) {}

    /// Whether a write waits until the disk says that it is safe.
    fn is_durable(&self) -> bool {
        false
    }

    /// Counts a write of so many bytes.
    fn count_written(&self, _: u64) {}

    /// Counts a read of so many bytes.
    fn count_read(&self, _: u64) {}
}

impl Lender for Shared {
    fn budget(&self) -> &WriteBudget {
        &self.tiers.budget
    }

    fn lend(&self) -> Result<Mover, BuildError> {
        self.mover().map_err(|error| super::refuse_io(&self.parameters, &error))
    }

    fn take_back(&self, mover: Mover) {
        self.keep(Some(mover), None);
    }

    fn is_durable(&self) -> bool {
        self.parameters.fsync == Fsync::Data
    }

    fn count_written(&self, bytes: u64) {
        Totals::add(&self.totals.written_bytes, bytes);
    }

    fn count_read(&self, bytes: u64) {
        Totals::add(&self.totals.read_bytes, bytes);
    }
}

/// A file of blocks, used by one owner at a time; nothing of it stays behind.
pub struct BlockFile {
    lender: Arc<dyn Lender>,
    file: Scratch,
    /// Given back when this is dropped.
    mover: Option<Mover>,
}

impl BlockFile {
    /// # Errors
    /// The system refuses the file, or what it is moved by.
    pub fn create(lender: Arc<dyn Lender>, directory: &str) -> Result<Self, BuildError> {
        let file = Scratch::create(Path::new(directory)).map_err(refuse_directory(directory))?;
        let mover = Some(lender.lend()?);
        Ok(Self { lender, file, mover })
    }

    /// Whether it is read and written past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.file.direct
    }

    /// Bytes that may still be written by all that share the budget.
    #[must_use]
    pub fn write_budget_left_bytes(&self) -> u64 {
        self.lender.budget().left()
    }

    /// Writes a block at `offset`, each of its words of 32 bits under `mask`, and returns its
    /// checksum; None where the write budget does not allow it.
    ///
    /// # Errors
    /// The disk failed, or `offset` is no multiple of a page; the extent then holds anything.
    pub fn write(&mut self, block: &[u8], offset: u64, mask: u32) -> io::Result<Option<u64>> {
        let extent = self.extent(block.len(), offset, mask)?;
        let padded = Extent::padded_bytes(block.len());
        if !self.lender.budget().take(padded) {
            return Ok(None);
        }
        let durable = self.lender.is_durable();
        let sent = self.mover()?.send(block, extent, durable, &mut NoPause)?;
        self.lender.count_written(padded);
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
        self.lender.count_read(padded);
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
        if let Some(mover) = self.mover.take() {
            self.lender.take_back(mover);
        }
    }
}
