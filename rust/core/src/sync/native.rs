//! The machine's own atomics, and a word that the kernel lets threads sleep on.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use std::thread::yield_now;

/// Called before what another thread's progress made fail is tried again; costs nothing.
#[inline(always)]
pub(crate) fn retry() {}

/// `count` counters at 0; the system provides their pages as they are first written.
pub(crate) fn zeroed(count: usize) -> Box<[AtomicU64]> {
    bytemuck::allocation::zeroed_slice_box(count)
}

/// A value that is written and read by whoever has agreed on it otherwise.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Lends the value to a reader.
    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends the value to a writer.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// A word, and the threads that sleep until it changes.
#[derive(Debug, Default)]
pub(crate) struct Futex {
    pub(crate) word: AtomicU32,
}

impl Futex {
    /// Wakes at most `sleepers` threads.
    pub(crate) fn wake(&self, sleepers: i32) {
        // SAFETY: FUTEX_WAKE only uses the address of a live, aligned 32-bit word.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                sleepers,
            );
        }
    }

    /// Sleeps for at most `duration_ns`, unless the word differs from `seen`; may wake early.
    pub(crate) fn wait(&self, seen: u32, duration_ns: u64) {
        let timeout = libc::timespec {
            tv_sec: i64::try_from(duration_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (duration_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: the word is live and aligned for the whole call and `timeout` is a valid
        // relative timespec; FUTEX_WAIT writes neither.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                seen,
                &raw const timeout,
            );
        }
    }
}
