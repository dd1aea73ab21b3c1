//! Requests through io_uring: one system call begins a transfer, none is needed to see its end.

use std::io;
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode};

use super::{Order, Task};

/// A ring of one worker.
pub struct Ring {
    ring: IoUring,
}

impl Ring {
    /// # Errors
    /// The kernel has no io_uring, forbids it, or lacks an operation or the timed wait.
    pub fn open(entries: usize) -> io::Result<Self> {
        let entries = u32::try_from(entries.max(2)).map_err(io::Error::other)?;
        let ring = IoUring::new(entries.next_power_of_two())?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
        let able = needed.iter().all(|code| probe.is_supported(*code));
        if able && ring.params().is_feature_ext_arg() {
            Ok(Self { ring })
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub fn begin(&mut self, order: Order) -> io::Result<()> {
        let Order { slot, task, file, address, bytes, offset } = order;
        let (file, length) = (Fd(file), u32::try_from(bytes).map_err(io::Error::other)?);
        let entry = match task {
            Task::Read => opcode::Read::new(file, address, length).offset(offset).build(),
            Task::Write => opcode::Write::new(file, address, length).offset(offset).build(),
            Task::Sync => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
        };
        // SAFETY: the buffer stays where it is and untouched until the request has ended, which
        // `Transfers` holds, and the file is kept open by whoever began the request.
        unsafe { self.ring.submission().push(&entry.user_data(slot as u64)) }
            .map_err(io::Error::other)?;
        loop {
            match self.ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(|_| ()),
            }
        }
    }

    pub fn ended(&mut self) -> Option<(usize, i32)> {
        self.ring.completion().next().map(|entry| (entry.user_data() as usize, entry.result()))
    }

    pub fn park(&mut self, time: Duration) -> io::Result<()> {
        let time = Timespec::from(time);
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time)) {
            Err(error)
                if [Some(libc::ETIME), Some(libc::EINTR)].contains(&error.raw_os_error()) =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }
}
