//! Disk ceilings in one bounded scratch file that is unlinked before its first byte is written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::crew::{self, Stretch};
use super::region::Region;
use crate::random::{Stream, stream_key};

/// Bytes moved by one request: large enough to reach a drive's sequential rate.
const BLOCK_BYTES: usize = 1 << 20;
/// Requests in flight at once; a flash drive needs several to be busy.
pub const REQUESTS: usize = 4;
const SYNC_BYTES: usize = 4096;
/// Synchronised writes at most: they wear a drive most.
const SYNCS_MAX: usize = 400;

/// One of the requests kept in flight: its own aligned buffer and its part of the file.
struct Slot {
    block: Region,
    first: u64,
    next: u64,
    failure: Option<io::Error>,
}

/// The scratch file; nothing of it is left however the program ends.
pub struct Scratch {
    file: File,
    slots: Vec<Slot>,
    blocks_per_slot: u64,
    pub bytes_written: u64,
}

impl Scratch {
    /// Creates it in `directory`, for `bytes` at most (rounded down to whole requests).
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(directory: &Path, bytes: u64) -> io::Result<Self> {
        let path = directory.join(format!(".swarmbench-calibrate-{}", std::process::id()));
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        let blocks_per_slot = (bytes / (BLOCK_BYTES * REQUESTS) as u64).max(1);
        let slots = (0..REQUESTS as u64)
            .map(|slot| {
                let mut block = Region::map(BLOCK_BYTES, false)?;
                let mut stream = Stream::new(stream_key(slot, 0), 0);
                // Random bytes, so that a file system that compresses gains nothing.
                block.words().fill_with(|| stream.next_u64());
                Ok(Slot { block, first: slot * blocks_per_slot, next: 0, failure: None })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { file, slots, blocks_per_slot, bytes_written: 0 })
    }

    /// Switches the page cache off or on for this file.
    ///
    /// # Errors
    /// The file system has no direct access.
    pub fn direct(&self, on: bool) -> io::Result<()> {
        let descriptor = self.file.as_raw_fd();
        // SAFETY: reads the flags of a descriptor that `self` keeps open.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
        let flags = if on { flags | libc::O_DIRECT } else { flags & !libc::O_DIRECT };
        // SAFETY: sets the flags of the same descriptor.
        let status = unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Bytes per second written, each repeat the whole file once or as much as fits its time.
    ///
    /// # Errors
    /// A write fails (a full disk).
    pub fn write(&mut self, stretch: Stretch) -> io::Result<Vec<f64>> {
        let before = self.bytes_written;
        let (file, blocks) = (&self.file, self.blocks_per_slot);
        let written = std::sync::atomic::AtomicU64::new(0);
        let rates = crew::rates(
            &[],
            &mut self.slots,
            stretch,
            |slot| slot.next = 0,
            |slot| {
                let moved =
                    slot.step(blocks, |block, offset| file.write_at(bytes_of(block), offset));
                written.fetch_add(moved, std::sync::atomic::Ordering::Relaxed);
                moved
            },
        );
        self.bytes_written = before + written.into_inner();
        self.checked(rates)
    }

    /// Bytes per second read back of what was written.
    ///
    /// # Errors
    /// A read fails.
    pub fn read(&mut self, stretch: Stretch) -> io::Result<Vec<f64>> {
        let (file, blocks) = (&self.file, self.blocks_per_slot);
        let rates = crew::rates(
            &[],
            &mut self.slots,
            stretch,
            |slot| slot.next = 0,
            |slot| slot.step(blocks, |block, offset| file.read_at(bytes_of_mut(block), offset)),
        );
        self.checked(rates)
    }

    /// Flushes what is buffered.
    ///
    /// # Errors
    /// The flush fails.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Nanoseconds of writing 4 KiB through the page cache and `fsync`, unsorted.
    ///
    /// # Errors
    /// A write or a sync fails.
    pub fn syncs_ns(&mut self, budget: Duration) -> io::Result<Vec<u64>> {
        let began = Instant::now();
        let mut found = Vec::with_capacity(SYNCS_MAX);
        while found.len() < SYNCS_MAX && (found.is_empty() || began.elapsed() < budget) {
            let offset = found.len() as u64 % 64 * SYNC_BYTES as u64;
            let block = &bytes_of(self.slots[0].block.words())[..SYNC_BYTES];
            let started = Instant::now();
            self.file.write_all_at(block, offset)?;
            self.file.sync_all()?;
            found.push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
            self.bytes_written += SYNC_BYTES as u64;
        }
        Ok(found)
    }

    fn checked(&mut self, rates: Vec<f64>) -> io::Result<Vec<f64>> {
        match self.slots.iter_mut().find_map(|slot| slot.failure.take()) {
            Some(failure) => Err(failure),
            None => Ok(rates.into_iter().filter(|rate| *rate > 0.0).collect()),
        }
    }
}

impl Slot {
    /// Moves the next block of this slot's part; 0 at its end and after a failure.
    fn step(
        &mut self,
        blocks: u64,
        transfer: impl Fn(&mut [u64], u64) -> io::Result<usize>,
    ) -> u64 {
        if self.next == blocks || self.failure.is_some() {
            return 0;
        }
        let offset = (self.first + self.next) * BLOCK_BYTES as u64;
        self.next += 1;
        match transfer(self.block.words(), offset) {
            Ok(moved) => moved as u64,
            Err(failure) => {
                self.failure = Some(failure);
                0
            }
        }
    }
}

fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: the same memory, 8 bytes a word; bytes have no alignment and no invalid value.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 8) }
}

fn bytes_of_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`, and borrowed mutably through `words`; any bytes make valid words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRETCH: Stretch = Stretch { duration: Duration::from_millis(200), repeats: 2 };

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("swarmbench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn the_file_is_bounded_and_leaves_no_name_behind() {
        let path = folder("scratch");
        let mut scratch = Scratch::create(&path, 8 << 20).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        let written = scratch.write(STRETCH).unwrap();
        assert!(!written.is_empty());
        assert!(scratch.bytes_written <= 16 << 20);
        assert!(scratch.file.metadata().unwrap().len() <= 8 << 20);
        assert!(!scratch.read(STRETCH).unwrap().is_empty());
        assert!(!scratch.syncs_ns(Duration::from_millis(20)).unwrap().is_empty());
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_failed_transfer_is_an_error_and_no_rate() {
        let path = folder("scratch-failing");
        let mut scratch = Scratch::create(&path, 4 << 20).unwrap();
        scratch.file = File::open("/dev/null").unwrap();
        assert!(scratch.write(STRETCH).is_err());
        std::fs::remove_dir_all(&path).unwrap();
        assert!(Scratch::create(&path, 4 << 20).is_err());
    }
}
