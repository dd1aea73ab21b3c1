//! One beat of the canary: what it works on, what it does, and how it is timed.

use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use crate::calibrate::region::{PAGE_BYTES, Region};

/// Bytes copied per beat.
const COPY_BYTES: usize = 256 << 10;
const LINE_BYTES: usize = 64;
/// Length of the dependent chain: about 20 µs at 5 cycles a link and 4 GHz.
const CHAIN_LINKS: u64 = 16_000;
/// Gap between the beats of a baseline.
const IDLE_GAP: Duration = Duration::from_millis(4);

/// What one beat took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beat {
    pub memory: u32,
    pub memory_wall: u32,
    pub compute: u32,
    pub compute_wall: u32,
    /// From when the beat was due until it ran.
    pub delay: u32,
}

/// What a beat works on; 512 KiB resident.
pub struct Probe {
    source: Region,
    target: Region,
}

impl Probe {
    pub fn new() -> io::Result<Self> {
        let mut probe = Self {
            source: Region::map(COPY_BYTES, false)?,
            target: Region::map(COPY_BYTES, false)?,
        };
        probe.source.words().fill(3);
        probe.target.words().fill(0);
        forget(probe.source.words());
        Ok(probe)
    }

    /// Runs both once. The chain runs untimed first, every page is touched and the target is
    /// brought into the cache, so that neither a core that was asleep, nor address translation,
    /// nor what others left in the cache is part of the time.
    pub fn beat(&mut self) -> Beat {
        black_box(chain(CHAIN_LINKS / 4));
        let (compute, compute_wall) = timed(|| {
            black_box(chain(CHAIN_LINKS));
        });
        let (source, target) = (self.source.words(), self.target.words());
        for word in (0..source.len()).step_by(PAGE_BYTES / 8) {
            black_box(source[word]);
        }
        black_box(&mut *target).fill(1);
        let (memory, memory_wall) = timed(|| target.copy_from_slice(black_box(source)));
        black_box(&mut *target);
        forget(source);
        Beat { memory, memory_wall, compute, compute_wall, delay: 0 }
    }
}

/// A chain of multiplications each of which waits for the one before.
fn chain(links: u64) -> u64 {
    let mut value = black_box(0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..links {
        value = link(value);
    }
    value
}

/// One link; the shift keeps the compiler from folding the chain into a power.
#[inline(always)]
fn link(value: u64) -> u64 {
    let mixed = value.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

/// (thread time, wall time) of `task` in nanoseconds.
fn timed(task: impl FnOnce()) -> (u32, u32) {
    let (wall, thread) = (Instant::now(), thread_time_ns());
    task();
    let (thread, wall) = (thread_time_ns() - thread, wall.elapsed().as_nanos());
    (saturated(u128::from(thread)), saturated(wall))
}

pub fn saturated(ns: u128) -> u32 {
    u32::try_from(ns).unwrap_or(u32::MAX)
}

/// Processor time of the calling thread.
pub fn thread_time_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable; the thread's own clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Makes every cache forget `words`, so that the next read of them goes to memory.
#[cfg(target_arch = "x86_64")]
fn forget(words: &[u64]) {
    for line in words.chunks(LINE_BYTES / 8) {
        // SAFETY: flushing a line that is mapped changes no contents; part of the baseline.
        unsafe { std::arch::x86_64::_mm_clflush(line.as_ptr().cast()) };
    }
    // SAFETY: waits for the flushes; part of the baseline.
    unsafe { std::arch::x86_64::_mm_mfence() };
}

/// Makes every cache forget `words`, so that the next read of them goes to memory.
#[cfg(target_arch = "aarch64")]
fn forget(words: &[u64]) {
    for line in words.chunks(LINE_BYTES / 8) {
        // SAFETY: cleaning and invalidating a mapped line changes no contents; Linux allows it to
        // programs.
        unsafe { std::arch::asm!("dc civac, {line}", line = in(reg) line.as_ptr()) };
    }
    // SAFETY: a barrier that waits for the maintenance above.
    unsafe { std::arch::asm!("dsb ish") };
}

/// `count` beats 4 ms apart on the calling thread: the machine as it is now.
///
/// # Errors
/// The system refuses half a megabyte.
pub fn beats(count: usize) -> io::Result<Vec<Beat>> {
    let mut probe = Probe::new()?;
    Ok((0..count)
        .map(|_| {
            std::thread::sleep(IDLE_GAP);
            probe.beat()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_copy_takes_longer_than_a_cached_one() {
        let mut probe = Probe::new().unwrap();
        let cold: Vec<u32> = (0..31).map(|_| probe.beat().memory).collect();
        let warm: Vec<u32> = (0..31)
            .map(|_| {
                let (source, target) = (probe.source.words(), probe.target.words());
                timed(|| target.copy_from_slice(black_box(source))).0
            })
            .collect();
        let (cold, warm) = (cold.iter().min().unwrap(), warm.iter().min().unwrap());
        assert!(2 * cold > 3 * warm, "cold {cold} ns, warm {warm} ns");
    }
}
