//! One block between memory and the file: chunk by chunk, one copied and summed while others are
//! on their way, the checksum taken in the pass that copies.

use std::io;
use std::os::fd::RawFd;

use super::transfers::{Task, Transfers, Wish};
use crate::operations::Pause;
use crate::operations::checksum::{Running, Side};
use crate::operations::scratch::PAGE_BYTES;

/// Where a block lies in the file, and under which mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub file: RawFd,
    pub offset: u64,
    pub bytes: usize,
    /// Every word of 32 bits in the file is the block's under this mask. It changes whenever the
    /// block is written, so that a write that never happened leaves bytes that are wrong.
    pub mask: u32,
}

impl Extent {
    /// Bytes that the block takes in the file.
    pub fn padded_bytes(bytes: usize) -> u64 {
        bytes.next_multiple_of(PAGE_BYTES) as u64
    }

    fn chunks(&self, chunk_bytes: usize) -> usize {
        self.bytes.div_ceil(chunk_bytes)
    }

    /// (offset in the block, its bytes there) of a chunk.
    fn chunk(&self, number: usize, chunk_bytes: usize) -> (usize, usize) {
        let start = number * chunk_bytes;
        (start, chunk_bytes.min(self.bytes - start))
    }
}

/// What one worker moves blocks with.
pub struct Mover {
    pub transfers: Transfers,
}

impl Mover {
    /// # Errors
    /// As `Transfers::open`.
    pub fn open(wish: Wish, in_flight_max: usize, chunk_bytes: usize) -> io::Result<Self> {
        Ok(Self { transfers: Transfers::open(wish, in_flight_max, chunk_bytes)? })
    }

    /// Writes `block` to its extent and returns the checksum of what left; `durable` waits until
    /// the disk says that it is safe.
    ///
    /// # Errors
    /// The first failure of any chunk, once none is in flight; the extent then holds anything.
    pub fn send(
        &mut self,
        block: &[u8],
        to: Extent,
        durable: bool,
        pause: &mut dyn Pause,
    ) -> io::Result<u64> {
        let mut leaving = Running::new();
        let sent = self.send_chunks(block, to, &mut leaving, pause);
        let ended = self.transfers.finish_all(pause);
        sent.and(ended)?;
        if durable {
            self.transfers.begin(0, Task::Sync, to.file, 0, 0)?;
            self.transfers.finish(0, pause)?;
        }
        Ok(leaving.finish())
    }

    fn send_chunks(
        &mut self,
        block: &[u8],
        to: Extent,
        leaving: &mut Running,
        pause: &mut dyn Pause,
    ) -> io::Result<()> {
        let chunk_bytes = self.transfers.chunk_bytes();
        for number in 0..to.chunks(chunk_bytes) {
            let slot = number % self.transfers.slots();
            let (start, bytes) = to.chunk(number, chunk_bytes);
            self.transfers.finish(slot, pause)?;
            let buffer = self.transfers.buffer(slot);
            let piece = &block[start..start + bytes];
            leaving.copy(piece, &mut buffer[..bytes], to.mask, Side::Source);
            buffer[bytes..bytes.next_multiple_of(PAGE_BYTES)].fill(0);
            // Copied beforehand, so that the disk has all its requests while a chunk is copied.
            self.transfers.make_room(pause)?;
            self.begin(to, number, Task::Write)?;
            pause.point();
        }
        Ok(())
    }

    /// Reads an extent into `room` and returns the checksum of what arrived. Without a room it is
    /// read and summed, and kept nowhere.
    ///
    /// # Errors
    /// The first failure of any chunk, once none is in flight; the room then holds anything.
    pub fn fetch(
        &mut self,
        from: Extent,
        room: Option<&mut [u8]>,
        pause: &mut dyn Pause,
    ) -> io::Result<u64> {
        let mut arriving = Running::new();
        let fetched = self.fetch_chunks(from, room, &mut arriving, pause);
        let ended = self.transfers.finish_all(pause);
        fetched.and(ended)?;
        Ok(arriving.finish())
    }

    fn fetch_chunks(
        &mut self,
        from: Extent,
        mut room: Option<&mut [u8]>,
        arriving: &mut Running,
        pause: &mut dyn Pause,
    ) -> io::Result<()> {
        let (chunk_bytes, slots) = (self.transfers.chunk_bytes(), self.transfers.slots());
        let chunks = from.chunks(chunk_bytes);
        let mut asked = 0;
        for number in 0..chunks {
            let slot = number % slots;
            let (start, bytes) = from.chunk(number, chunk_bytes);
            // The disk has all its requests again before what has arrived is copied.
            let ahead = chunks.min(number + slots);
            while asked < ahead && (self.transfers.has_room() || !self.transfers.is_idle(slot)) {
                self.transfers.make_room(pause)?;
                self.begin(from, asked, Task::Read)?;
                asked += 1;
            }
            self.transfers.finish(slot, pause)?;
            let (buffer, spare) = self.transfers.buffer_and_spare(slot);
            let target = match &mut room {
                Some(room) => &mut room[start..start + bytes],
                None => &mut spare[..bytes],
            };
            arriving.copy(&buffer[..bytes], target, from.mask, Side::Target);
            pause.point();
        }
        Ok(())
    }

    /// Moves whatever is in the staging buffers, with nothing copied and nothing summed: what the
    /// disk does by itself.
    ///
    /// # Errors
    /// The first failure of any chunk, once none is in flight.
    pub fn bare(&mut self, extent: Extent, task: Task, pause: &mut dyn Pause) -> io::Result<()> {
        let begun = (0..extent.chunks(self.transfers.chunk_bytes())).try_for_each(|number| {
            self.transfers.finish(number % self.transfers.slots(), pause)?;
            self.transfers.make_room(pause)?;
            self.begin(extent, number, task)
        });
        let ended = self.transfers.finish_all(pause);
        begun.and(ended)
    }

    fn begin(&mut self, extent: Extent, number: usize, task: Task) -> io::Result<()> {
        let slot = number % self.transfers.slots();
        let (start, bytes) = extent.chunk(number, self.transfers.chunk_bytes());
        let padded = bytes.next_multiple_of(PAGE_BYTES);
        self.transfers.begin(slot, task, extent.file, padded, extent.offset + start as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::NoPause;
    use crate::operations::checksum::checksum;
    use crate::operations::scratch::Scratch;

    fn block(bytes: usize) -> Vec<u8> {
        (0..bytes as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    #[test]
    fn a_block_of_any_length_comes_back_with_both_checksums() {
        let scratch = Scratch::create(&std::env::temp_dir()).expect("a folder");
        let mut mover = Mover::open(Wish::Auto, 2, 8192).expect("a way");
        for bytes in [1, 255, 4096, 4097, 8192, 8193, 50_000, 65_536] {
            let (plain, mut room) = (block(bytes), vec![0; bytes]);
            let extent = Extent { file: scratch.descriptor(), offset: 4096, bytes, mask: 77 };
            let left = mover.send(&plain, extent, bytes == 4097, &mut NoPause).expect("sent");
            let arrived = mover.fetch(extent, Some(&mut room), &mut NoPause).expect("fetched");
            assert_eq!((left, arrived), (checksum(&plain), checksum(&plain)), "{bytes}");
            assert_eq!(room, plain);
            assert_eq!(mover.fetch(extent, None, &mut NoPause).expect("fetched"), left);
        }
    }

    #[test]
    fn a_write_that_never_happened_does_not_pass_for_one() {
        let scratch = Scratch::create(&std::env::temp_dir()).expect("a folder");
        let mut mover = Mover::open(Wish::Auto, 2, 8192).expect("a way");
        let plain = block(20_000);
        let first =
            Extent { file: scratch.descriptor(), offset: 0, bytes: plain.len(), mask: 0x1357 };
        let left = mover.send(&plain, first, false, &mut NoPause).expect("sent");
        let second = Extent { mask: 0x2468, ..first };
        assert_ne!(mover.fetch(second, None, &mut NoPause).expect("fetched"), left);
    }

    #[test]
    fn a_failed_chunk_fails_the_block_and_leaves_nothing_in_flight() {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let file = std::os::fd::AsRawFd::as_raw_fd(&full);
        let mut mover = Mover::open(Wish::Auto, 2, 8192).expect("a way");
        let plain = block(30_000);
        let extent = Extent { file, offset: 0, bytes: plain.len(), mask: 0 };
        assert!(mover.send(&plain, extent, false, &mut NoPause).is_err());
        assert!(mover.transfers.finish_all(&mut NoPause).is_ok());
        let scratch = Scratch::create(&std::env::temp_dir()).expect("a folder");
        let extent = Extent { file: scratch.descriptor(), ..extent };
        assert!(mover.send(&plain, extent, false, &mut NoPause).is_ok());
    }
}
