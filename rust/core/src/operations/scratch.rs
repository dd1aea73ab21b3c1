//! Nameless files past the page cache, of which nothing stays behind however the process ends, the
//! buffers that they need and a bound on what a run writes into them.

use std::fs::{File, OpenOptions, remove_file};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::BuildError;

/// Alignment that direct I/O needs of addresses, offsets and lengths.
pub const PAGE_BYTES: usize = 4096;

/// Bytes that start at a page.
pub struct PageBuffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl PageBuffer {
    /// `length` bytes, rounded up to whole pages, each page touched.
    pub fn new(length: usize) -> Self {
        let length = length.next_multiple_of(PAGE_BYTES);
        let mut bytes = vec![0; length + PAGE_BYTES];
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        bytes.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
        Self { bytes, start, length }
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// A nameless file, past the page cache where the file system can.
pub struct Scratch {
    file: File,
    pub direct: bool,
}

impl Scratch {
    /// # Errors
    /// The directory does not exist or cannot be written.
    pub fn create(directory: &Path) -> io::Result<Self> {
        static ORDINAL: AtomicU64 = AtomicU64::new(0);
        let ordinal = ORDINAL.fetch_add(1, Relaxed);
        let path = directory.join(format!(".swarmbench-{}-{ordinal}", std::process::id()));
        let open = |flags| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .custom_flags(flags)
                .open(&path)
        };
        let opened = match open(libc::O_DIRECT) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Some file systems refuse the flag after the name was made.
                if path.exists() {
                    remove_file(&path)?;
                }
                (open(0)?, false)
            }
            other => (other?, true),
        };
        remove_file(&path)?;
        Ok(Self { file: opened.0, direct: opened.1 })
    }

    /// A file of which every byte can be read and none written: the disk is full.
    #[cfg(test)]
    pub fn full() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/full")?;
        Ok(Self { file, direct: false })
    }

    /// What requests beside `write` and `read` name it by, as long as it lives.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Writes whole pages at a page offset.
    ///
    /// # Errors
    /// The disk is full or failed.
    pub fn write(&self, pages: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(pages, offset)
    }

    /// Reads whole pages from a page offset.
    ///
    /// # Errors
    /// The disk failed or the file is shorter.
    pub fn read(&self, pages: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(pages, offset)
    }
}

/// Turns what the system refuses in a component's `directory` into what its user is told.
pub fn refuse_directory(directory: &str) -> impl Fn(io::Error) -> BuildError {
    move |error| BuildError::Value {
        key: "directory",
        problem: format!("`{directory}`: {error}; give one that can be written and has room"),
    }
}

/// Bytes that may still be written in a run.
pub struct WriteBudget {
    left: AtomicU64,
}

impl WriteBudget {
    pub fn new(bytes: u64) -> Self {
        Self { left: AtomicU64::new(bytes) }
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }

    /// Takes `bytes` from the budget, or nothing where less is left.
    pub fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}
