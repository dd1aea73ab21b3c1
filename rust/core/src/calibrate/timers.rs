//! What time itself costs: reading the clock, oversleeping, waking another thread.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::topology;

/// Clock reads per repeat.
const READS: u32 = 20_000;
/// How long each probed sleep is meant to be.
const SLEEP_NS: u64 = 60_000;
/// How long a waker waits for its sleeper to be asleep again.
const SETTLE: Duration = Duration::from_micros(40);

/// Nanoseconds per read of the monotonic clock, one figure per repeat.
#[must_use]
pub fn clock_read_ns(repeats: usize) -> Vec<f64> {
    (0..repeats)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..READS {
                black_box(Instant::now());
            }
            began.elapsed().as_nanos() as f64 / f64::from(READS)
        })
        .collect()
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds by which sleeps to an absolute time end late, under the finest timer slack, which is
/// what a pacer asks for; unsorted, at most `samples` of them within `budget`.
#[must_use]
pub fn sleep_overshoots_ns(samples: usize, budget: Duration) -> Vec<u64> {
    // On a thread of its own, because the timer slack belongs to the thread that sets it.
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            // SAFETY: changes only how late this thread's own timers may fire.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
            let began = Instant::now();
            let mut found = Vec::with_capacity(samples);
            while found.len() < samples && began.elapsed() < budget {
                found.push(overshoot_ns(monotonic_ns() + SLEEP_NS));
            }
            found
        });
        sleeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn overshoot_ns(due_ns: u64) -> u64 {
    let due = libc::timespec {
        tv_sec: (due_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (due_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `due` is a valid time; with TIMER_ABSTIME no remainder is written. An interrupted
    // sleep ends early and counts as not late.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &due,
            std::ptr::null_mut(),
        )
    };
    monotonic_ns().saturating_sub(due_ns)
}

/// Nanoseconds from waking a parked thread until it runs, on two cores where `cpus` has two.
#[must_use]
pub fn wakeups_ns(cpus: &[usize], samples: usize, budget: Duration) -> Vec<u64> {
    let (stamp, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let sleeper_cpu: Vec<usize> = cpus.iter().copied().skip(1).take(1).collect();
    std::thread::scope(|scope| {
        let (stamp, stop) = (&stamp, &stop);
        let sleeper = scope.spawn(move || {
            topology::pin(&sleeper_cpu).unwrap_or_default();
            let mut found = Vec::with_capacity(samples);
            while !stop.load(Ordering::Acquire) {
                let woken_ns = stamp.swap(0, Ordering::AcqRel);
                if woken_ns == 0 {
                    std::thread::park();
                } else {
                    found.push(monotonic_ns().saturating_sub(woken_ns));
                }
            }
            found
        });
        let began = Instant::now();
        for _ in 0..samples {
            if began.elapsed() >= budget {
                break;
            }
            let quiet = Instant::now();
            while quiet.elapsed() < SETTLE || stamp.load(Ordering::Acquire) != 0 {
                std::hint::spin_loop();
                if began.elapsed() >= budget {
                    break;
                }
            }
            stamp.store(monotonic_ns(), Ordering::Release);
            sleeper.thread().unpark();
        }
        stop.store(true, Ordering::Release);
        sleeper.thread().unpark();
        sleeper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_secs(2);

    #[test]
    fn reading_the_clock_takes_between_a_nanosecond_and_ten_microseconds() {
        let found = clock_read_ns(3);
        assert!(found.iter().all(|cost| (1.0..10_000.0).contains(cost)), "{found:?}");
    }

    #[test]
    fn sleeps_never_end_before_their_time() {
        let found = sleep_overshoots_ns(50, BUDGET);
        assert_eq!(found.len(), 50);
        assert!(found.iter().all(|late| *late > 0));
        assert!(sleep_overshoots_ns(50, Duration::ZERO).is_empty());
    }

    #[test]
    fn every_wake_up_is_seen_once() {
        let found = wakeups_ns(&topology::allowed(), 100, BUDGET);
        assert!((95..=100).contains(&found.len()), "{}", found.len());
        assert!(found.iter().all(|late| *late < 1_000_000_000));
    }
}
