//! Requests through threads of one worker, one a slot, where the kernel has no io_uring for us.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Order, Task};

/// A thread for every slot; both channels are bounded and made beforehand.
pub struct Threads {
    orders: Vec<SyncSender<Order>>,
    results: Receiver<(usize, i32)>,
    /// Came while parking.
    early: Option<(usize, i32)>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// # Errors
    /// The system refuses a thread.
    pub fn open(slots: usize) -> io::Result<Self> {
        let (done, results) = sync_channel(slots);
        let mut opened = Self { orders: Vec::new(), results, early: None, threads: Vec::new() };
        for slot in 0..slots {
            let (order, mine) = sync_channel::<Order>(1);
            let done = done.clone();
            let serve = move || {
                while let Ok(order) = mine.recv() {
                    if done.send((order.slot, served(order))).is_err() {
                        return;
                    }
                }
            };
            let name = format!("transfer-{slot}");
            opened.threads.push(std::thread::Builder::new().name(name).spawn(serve)?);
            opened.orders.push(order);
        }
        Ok(opened)
    }

    pub fn begin(&mut self, order: Order) -> io::Result<()> {
        self.orders[order.slot].send(order).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    pub fn ended(&mut self) -> Option<(usize, i32)> {
        self.early.take().or_else(|| self.results.try_recv().ok())
    }

    pub fn park(&mut self, time: Duration) {
        match self.results.recv_timeout(time) {
            Ok(result) => self.early = Some(result),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// Bytes moved, or a negative error number.
fn served(order: Order) -> i32 {
    let Order { task, file, address, bytes, offset, .. } = order;
    let offset = offset as libc::off_t;
    // SAFETY: the buffer is `bytes` long and nobody else's until the result is sent; the file is
    // kept open by whoever began the request.
    let moved = unsafe {
        match task {
            Task::Read => libc::pread(file, address.cast(), bytes, offset),
            Task::Write => libc::pwrite(file, address.cast(), bytes, offset),
            Task::Sync => libc::fdatasync(file) as isize,
        }
    };
    if moved < 0 {
        return -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    }
    i32::try_from(moved).unwrap_or(i32::MAX)
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.orders.clear();
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_default();
        }
    }
}
