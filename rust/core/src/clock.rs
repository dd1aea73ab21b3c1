//! Time as the engine sees it: nanoseconds since the clock was made, monotonic, cheap to read.
//!
//! On x86-64 with an invariant TSC a reading is one `rdtsc` and a multiplication, calibrated
//! against CLOCK_MONOTONIC_RAW and anchored anew from time to time; elsewhere it is
//! CLOCK_MONOTONIC_RAW itself. CLOCK_REALTIME is never read.

use std::time::Duration;

use crate::sync::{AtomicU64, Futex, Ordering, fence, spin_loop};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The moment has come.
    Reached,
    /// The signal was raised first.
    Interrupted,
}

/// What the engine needs of time; the simulated clock of `simulate` is the other implementation.
pub trait Clock {
    /// Nanoseconds since the clock was made.
    fn now(&self) -> u64;

    /// Waits until `due`, or until `signal` no longer has the value `seen`.
    fn wait_until(&self, due: u64, signal: &Signal, seen: u32) -> Waited;
}

/// A 32-bit word that waiting threads sleep on; each `raise` wakes them all.
#[derive(Debug, Default)]
pub struct Signal(Futex);

impl Signal {
    #[inline]
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.word.load(Ordering::Acquire)
    }

    pub fn raise(&self) {
        self.0.word.fetch_add(1, Ordering::AcqRel);
        self.0.wake(i32::MAX);
    }

    /// Wakes one sleeper; every thread that has not gone to sleep yet sees the change.
    pub fn raise_one(&self) {
        self.0.word.fetch_add(1, Ordering::AcqRel);
        self.0.wake(1);
    }

    /// Sleeps until the value differs from `seen` or `duration_ns` has passed; may wake early.
    pub fn sleep(&self, seen: u32, duration_ns: u64) {
        self.0.wait(seen, duration_ns);
    }
}

fn monotonic_raw_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Cycles of the time-stamp counter; 0 where there is none.
#[inline]
fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has RDTSC; the kernel may only trap it by a prctl that
    // nothing here asks for.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

fn has_invariant_tsc() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let highest = core::arch::x86_64::__cpuid(0x8000_0000).eax;
        highest >= 0x8000_0007 && core::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// A reading of both counters, taken as close together as `tries` attempts allow.
fn anchor(tries: u32) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..tries {
        let before = cycles();
        let raw_ns = monotonic_raw_ns();
        let after = cycles();
        if after.wrapping_sub(before) < best.0 {
            best = (after.wrapping_sub(before), before + (after - before) / 2, raw_ns);
        }
    }
    (best.1, best.2)
}

const FRACTION_BITS: u32 = 32;
/// What the clock shows in a model, where no time passes.
const MODELLED_NS: u64 = 1_000;
const CALIBRATION: Duration = Duration::from_millis(if cfg!(loom) { 0 } else { 20 });
/// Length of the last stretch before `due` that is spun, at the start and at most.
const MARGIN_START_NS: u64 = 60_000;
const MARGIN_MAX_NS: u64 = 200_000;
const MARGIN_MIN_NS: u64 = 5_000;

/// The last stretch before `due` that is spun without a pause, which may take as long as 50 ns.
const FINAL_NS: u64 = 500;

/// How the last stretch before an intended start is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// Spins all the time: the least lateness, one core.
    Spin,
    /// Sleeps, then spins over a margin learned from its own oversleeping.
    Hybrid,
    /// Only sleeps: no core, and the timer's lateness.
    Park,
}

/// The machine's clock.
pub struct RealClock {
    tsc: bool,
    pacing: Pacing,
    origin_raw_ns: u64,
    first: (u64, u64),
    /// Even while `base_*` and `scale` are consistent.
    version: AtomicU64,
    base_cycles: AtomicU64,
    base_ns: AtomicU64,
    /// Nanoseconds per cycle, 32.32 fixed point.
    scale: AtomicU64,
    /// Spin margin, learned: about the 99.9th percentile of the oversleep.
    margin_ns: AtomicU64,
    drift_ns: AtomicU64,
    /// Gaps between successive readings while spinning: what the machine took from this thread.
    pub gaps: crate::histogram::Counts,
}

impl RealClock {
    /// Calibrates for about 20 ms.
    #[must_use]
    pub fn new(pacing: Pacing) -> Self {
        let tsc = has_invariant_tsc();
        let first = anchor(64);
        std::thread::sleep(CALIBRATION);
        let second = anchor(64);
        let scale = if tsc { ratio(first, second) } else { 0 };
        Self {
            tsc,
            pacing,
            origin_raw_ns: second.1,
            first,
            version: AtomicU64::new(0),
            base_cycles: AtomicU64::new(second.0),
            base_ns: AtomicU64::new(0),
            scale: AtomicU64::new(scale),
            margin_ns: AtomicU64::new(MARGIN_START_NS),
            drift_ns: AtomicU64::new(0),
            gaps: crate::histogram::Counts::new(),
        }
    }

    /// "tsc" or "clock_gettime".
    #[must_use]
    pub fn source(&self) -> &'static str {
        if self.tsc { "tsc" } else { "clock_gettime" }
    }

    /// The largest correction that anchoring anew has found, in nanoseconds.
    #[must_use]
    pub fn drift_ns(&self) -> u64 {
        self.drift_ns.load(Ordering::Relaxed)
    }

    /// Refines the scale against CLOCK_MONOTONIC_RAW over the clock's whole life; readings stay
    /// monotonic. One thread at a time (the control thread, about once a second).
    pub fn anchor(&self) {
        if !self.tsc {
            return;
        }
        let (now_cycles, now_raw) = anchor(16);
        let reading = self.convert(now_cycles);
        let truth = now_raw - self.origin_raw_ns;
        self.drift_ns.fetch_max(reading.abs_diff(truth), Ordering::Relaxed);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.base_cycles.store(now_cycles, Ordering::Relaxed);
        // A clock that is ahead stands still rather than running backwards: its base stays, and
        // the refined scale makes the next anchor agree.
        self.base_ns.store(reading.max(truth), Ordering::Relaxed);
        self.scale.store(ratio(self.first, (now_cycles, now_raw)), Ordering::Relaxed);
        self.version.store(version + 2, Ordering::Release);
    }

    #[inline]
    fn convert(&self, now_cycles: u64) -> u64 {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let base_cycles = self.base_cycles.load(Ordering::Relaxed);
            let base_ns = self.base_ns.load(Ordering::Relaxed);
            let scale = self.scale.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if version & 1 == 0 && version == self.version.load(Ordering::Relaxed) {
                let elapsed = now_cycles.saturating_sub(base_cycles);
                return base_ns
                    + ((u128::from(elapsed) * u128::from(scale)) >> FRACTION_BITS) as u64;
            }
            spin_loop();
        }
    }

    fn spin_until(&self, due: u64, signal: &Signal, seen: u32) -> Waited {
        let mut last = self.now();
        while last < due {
            if signal.value() != seen {
                return Waited::Interrupted;
            }
            if due - last > FINAL_NS {
                std::hint::spin_loop();
            }
            let now = self.now();
            self.gaps.record(now - last);
            last = now;
        }
        Waited::Reached
    }

    /// Moves the margin towards the 99.9th percentile of the oversleep: up by 999 parts when it
    /// was too short, down by one part when it was long enough (stochastic quantile tracking).
    fn learn(&self, oversleep_ns: u64) {
        let margin = self.margin_ns.load(Ordering::Relaxed);
        let step = margin / 4096 + 1;
        let learned = if oversleep_ns > margin { margin + 999 * step } else { margin - step };
        self.margin_ns.store(learned.clamp(MARGIN_MIN_NS, MARGIN_MAX_NS), Ordering::Relaxed);
    }

    /// The spin margin as learned so far, in nanoseconds.
    #[must_use]
    pub fn margin_ns(&self) -> u64 {
        self.margin_ns.load(Ordering::Relaxed)
    }
}

/// Nanoseconds per cycle between two anchors, 32.32 fixed point.
fn ratio(first: (u64, u64), second: (u64, u64)) -> u64 {
    let cycles = u128::from(second.0 - first.0).max(1);
    ((u128::from(second.1 - first.1) << FRACTION_BITS) / cycles) as u64
}

impl Clock for RealClock {
    #[inline]
    fn now(&self) -> u64 {
        if cfg!(loom) {
            return MODELLED_NS;
        }
        if self.tsc { self.convert(cycles()) } else { monotonic_raw_ns() - self.origin_raw_ns }
    }

    fn wait_until(&self, due: u64, signal: &Signal, seen: u32) -> Waited {
        let margin = match self.pacing {
            Pacing::Spin => u64::MAX,
            Pacing::Hybrid => self.margin_ns(),
            Pacing::Park => 0,
        };
        loop {
            let now = self.now();
            if now >= due {
                return Waited::Reached;
            }
            if signal.value() != seen {
                return Waited::Interrupted;
            }
            let left = due - now;
            if left <= margin {
                return self.spin_until(due, signal, seen);
            }
            signal.sleep(seen, left - margin);
            let woken = self.now();
            if signal.value() == seen && woken > due - margin {
                self.learn(woken - (due - margin));
            }
        }
    }
}

/// Asks the kernel to wake this thread as exactly as it can (timer slack 1 ns) and to run it soon
/// after waking (a 0.1 ms slice, where the scheduler takes one); needs no privilege.
pub fn sharpen_this_thread() {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime: 100_000,
        deadline: 0,
        period: 0,
    };
    // SAFETY: PR_SET_TIMERSLACK takes a number; sched_setattr reads `size` bytes of a live
    // structure laid out as the kernel's version 0. Refusal of either changes nothing.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0);
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
    }
}

/// Binds the calling thread to `cpus`; an empty list leaves it alone. Returns whether it worked.
pub fn bind_this_thread(cpus: &[usize]) -> bool {
    if cpus.is_empty() {
        return true;
    }
    // SAFETY: a zeroed cpu_set_t is the empty set; CPU_SET stays inside it for indices below
    // CPU_SETSIZE; sched_setaffinity reads it only.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

#[cfg(all(test, loom))]
mod loom_models;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_follow_the_raw_clock_and_never_run_backwards() {
        let clock = RealClock::new(Pacing::Hybrid);
        let began = std::time::Instant::now();
        let first = clock.now();
        let mut last = first;
        while began.elapsed() < Duration::from_millis(50) {
            clock.anchor();
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        let elapsed = began.elapsed().as_nanos() as f64;
        let ratio = (clock.now() - first) as f64 / elapsed;
        assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
    }

    #[test]
    fn a_raised_signal_ends_a_wait_before_its_time() {
        let clock = RealClock::new(Pacing::Hybrid);
        let signal = Signal::default();
        let seen = signal.value();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| clock.wait_until(u64::MAX / 2, &signal, seen));
            std::thread::sleep(Duration::from_millis(5));
            signal.raise();
            assert_eq!(waiter.join().unwrap(), Waited::Interrupted);
        });
    }

    #[test]
    fn a_wait_never_ends_early() {
        for pacing in [Pacing::Spin, Pacing::Hybrid, Pacing::Park] {
            let clock = RealClock::new(pacing);
            let signal = Signal::default();
            let due = clock.now() + 300_000;
            assert_eq!(clock.wait_until(due, &signal, signal.value()), Waited::Reached);
            assert!(clock.now() >= due);
        }
    }
}
