//! The machine's own ceilings, measured before anything is given as a share of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

mod crew;
mod disk;
mod kernels;
mod memory;
pub mod region;
mod timers;
pub mod topology;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::canary;
use crew::Stretch;
use memory::WorkingSet;
use topology::Caches;

/// What to measure with, and within which bounds.
#[derive(Clone, Debug)]
pub struct Plan {
    pub threads: usize,
    /// Cores to pin the threads to, in order; empty leaves them to the scheduler.
    pub cpus: Vec<usize>,
    /// Where the scratch file of the disk probes is made.
    pub directory: PathBuf,
    /// About how long it all takes, between 1 and 60.
    pub seconds: f64,
    /// Memory that the probes may hold at once.
    pub memory_max_bytes: usize,
    /// Size of the scratch file; at most seven times as much is written.
    pub disk_file_bytes: u64,
}

/// One measured ceiling.
#[derive(Clone, Debug, Serialize)]
pub struct Ceiling {
    pub key: &'static str,
    /// The best repeat of a rate, the median of a delay.
    pub value: f64,
    pub unit: &'static str,
    /// Half of what lies between the repeats' quartiles, over their median (a delay's repeats are
    /// five stretches of its samples).
    pub spread: f64,
    pub threads: usize,
    pub samples: usize,
}

/// All that was measured, what could not be, and what it took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Calibration {
    pub ceilings: Vec<Ceiling>,
    /// (key, reason) of each ceiling that this machine does not have.
    pub absent: Vec<(&'static str, String)>,
    pub notes: Vec<String>,
    pub memory_bytes: usize,
    pub disk_written_bytes: u64,
    pub duration_s: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    #[error("calibration was cancelled")]
    Cancelled,
    #[error("memory for the probes: {0}")]
    Memory(io::Error),
}

/// Called before each probe with (its name, fraction done); `false` asks to give up.
pub type Progress<'a> = &'a (dyn Fn(&str, f64) -> bool + Sync);

const REPEATS: usize = 5;
/// A percentile with fewer samples beyond it is an anecdote.
const BEYOND_MIN: f64 = 10.0;
/// Sleeps and wake-ups timed: enough for ten beyond the 99th percentile.
const DELAYS: usize = 1_100;
/// Share of the time that one rate gets; twelve of them, four tried in two ways.
const RATE_SHARE: f64 = 0.036;
const DISK_SHARE: f64 = 0.045;
const DISK_REPEATS: usize = 3;
/// A working set this many times the last-level caches cannot be served by them.
const CACHE_MULTIPLE: usize = 4;
const WORKING_SET_MIN_BYTES: usize = 64 << 20;

/// Measures every ceiling of `plan`; takes about `plan.seconds` and frees all memory it held.
///
/// # Errors
/// Cancelled by `progress`, or the memory for the working set is refused.
pub fn measure(plan: &Plan, progress: Progress<'_>) -> Result<Calibration, CalibrateError> {
    let mut bench = Bench::new(plan, progress);
    bench.memory()?;
    bench.cores()?;
    bench.timers()?;
    bench.disk()?;
    bench.found.duration_s = bench.began.elapsed().as_secs_f64();
    Ok(bench.found)
}

struct Bench<'a> {
    plan: &'a Plan,
    progress: Progress<'a>,
    caches: Caches,
    threads: usize,
    seconds: f64,
    began: Instant,
    found: Calibration,
}

impl<'a> Bench<'a> {
    fn new(plan: &'a Plan, progress: Progress<'a>) -> Self {
        let cpus = if plan.cpus.is_empty() { topology::allowed() } else { plan.cpus.clone() };
        Self {
            plan,
            progress,
            caches: topology::caches(Path::new("/"), &cpus),
            threads: plan.threads.max(1),
            seconds: plan.seconds.clamp(1.0, 60.0),
            began: Instant::now(),
            found: Calibration::default(),
        }
    }

    fn memory(&mut self) -> Result<(), CalibrateError> {
        self.step("working set", 0.0)?;
        let cpus = &self.plan.cpus;
        let wanted = (CACHE_MULTIPLE * self.caches.last_level_bytes).max(WORKING_SET_MIN_BYTES);
        let bytes = wanted.min(self.plan.memory_max_bytes);
        if bytes < wanted {
            self.found.notes.push(format!(
                "the working set is {bytes} bytes, less than {CACHE_MULTIPLE} times the \
                 last-level caches: memory ceilings may be those of a cache"
            ));
        }
        let (all, stretch) = (self.threads, self.stretch(RATE_SHARE));
        let mut set = WorkingSet::build(cpus, all, bytes).map_err(CalibrateError::Memory)?;
        self.found.memory_bytes = set.bytes;
        for (key, alone, unit, probe) in [
            ("copy_bytes_s", "copy_one_thread_bytes_s", "bytes/s", WorkingSet::copy as Probe),
            ("read_bytes_s", "read_one_thread_bytes_s", "bytes/s", WorkingSet::read),
            ("write_bytes_s", "write_one_thread_bytes_s", "bytes/s", WorkingSet::write),
            ("random_64b_s", "random_64b_one_thread_s", "loads/s", WorkingSet::random),
        ] {
            self.step(key, 0.05 + self.elapsed_share())?;
            self.rate(key, unit, all, probe(&mut set, cpus, all, stretch));
            self.rate(alone, unit, 1, probe(&mut set, cpus, 1, stretch));
        }
        Ok(())
    }

    fn cores(&mut self) -> Result<(), CalibrateError> {
        self.step("cores", self.elapsed_share())?;
        let (cpus, all, stretch) = (&self.plan.cpus, self.threads, self.stretch(RATE_SHARE));
        let touched = memory::page_touch(cpus, all, self.plan.memory_max_bytes, stretch)
            .map_err(CalibrateError::Memory)?;
        self.rate("page_touch_bytes_s", "bytes/s", all, touched);
        let second = self.caches.second_level_bytes;
        let cached = memory::cache_read(cpus, all, second, stretch);
        self.rate("cache_read_bytes_s", "bytes/s", all, cached);
        self.rate("fma_flop_s", "flop/s", all, memory::fma(cpus, all, stretch));
        self.rate("fma_one_thread_flop_s", "flop/s", 1, memory::fma(cpus, 1, stretch));
        Ok(())
    }

    fn timers(&mut self) -> Result<(), CalibrateError> {
        self.step("timers", self.elapsed_share())?;
        let budget = Duration::from_secs_f64(self.seconds * 0.04);
        let reads = timers::clock_read_ns(REPEATS);
        self.delay("timer_ns", &reads, 50.0, 1);
        let sleeps = as_floats(timers::sleep_overshoots_ns(DELAYS, budget));
        self.delay("sleep_overshoot_ns", &sleeps, 50.0, 1);
        self.delay("sleep_overshoot_p99_ns", &sleeps, 99.0, 1);
        let wakeups = as_floats(timers::wakeups_ns(&self.plan.cpus, DELAYS, budget));
        self.delay("wakeup_ns", &wakeups, 50.0, 2);
        self.delay("wakeup_p99_ns", &wakeups, 99.0, 2);
        let beats = canary::beats(self.beats()).map_err(CalibrateError::Memory)?;
        let memory: Vec<f64> = beats.iter().map(|beat| f64::from(beat.memory)).collect();
        let compute: Vec<f64> = beats.iter().map(|beat| f64::from(beat.compute)).collect();
        self.delay("canary_memory_ns", &memory, 50.0, 1);
        self.delay("canary_compute_ns", &compute, 50.0, 1);
        Ok(())
    }

    /// Canary beats that fit about 4 % of the time.
    fn beats(&self) -> usize {
        (self.seconds * 8.0) as usize + 11
    }

    fn disk(&mut self) -> Result<(), CalibrateError> {
        self.step("disk", self.elapsed_share())?;
        let mut scratch =
            match disk::Scratch::create(&self.plan.directory, self.plan.disk_file_bytes) {
                Ok(scratch) => scratch,
                Err(error) => {
                    for key in DISK_KEYS {
                        self.found.absent.push((key, format!("no scratch file: {error}")));
                    }
                    return Ok(());
                }
            };
        let stretch =
            Stretch { repeats: DISK_REPEATS, ..self.stretch(DISK_SHARE * REPEATS as f64 / 2.0) };
        match scratch.direct(true) {
            Ok(()) => {
                let written = scratch.write(stretch);
                self.disk_rate("disk_write_direct_bytes_s", written);
                self.step("disk", self.elapsed_share())?;
                let read = scratch.read(stretch);
                self.disk_rate("disk_read_direct_bytes_s", read);
            }
            Err(error) => {
                for key in ["disk_write_direct_bytes_s", "disk_read_direct_bytes_s"] {
                    self.found.absent.push((key, format!("no direct access here: {error}")));
                }
            }
        }
        self.disk_buffered(&mut scratch, stretch)?;
        self.found.disk_written_bytes = scratch.bytes_written;
        Ok(())
    }

    fn disk_buffered(
        &mut self,
        scratch: &mut disk::Scratch,
        stretch: Stretch,
    ) -> Result<(), CalibrateError> {
        self.step("page cache", self.elapsed_share())?;
        let written = scratch.direct(false).and_then(|()| scratch.write(stretch));
        self.disk_rate("disk_write_buffered_bytes_s", written);
        let read = scratch.read(stretch);
        self.disk_rate("disk_read_buffered_bytes_s", read);
        self.step("fsync", self.elapsed_share())?;
        let budget = Duration::from_secs_f64(self.seconds * DISK_SHARE);
        match scratch.flush().and_then(|()| scratch.syncs_ns(budget)) {
            Ok(syncs) => self.delay("disk_fsync_ns", &as_floats(syncs), 50.0, 1),
            Err(error) => self.found.absent.push(("disk_fsync_ns", error.to_string())),
        }
        Ok(())
    }

    fn disk_rate(&mut self, key: &'static str, rates: io::Result<Vec<f64>>) {
        match rates {
            Ok(rates) => self.rate(key, "bytes/s", disk::REQUESTS, rates),
            Err(error) => self.found.absent.push((key, error.to_string())),
        }
    }

    fn rate(&mut self, key: &'static str, unit: &'static str, threads: usize, rates: Vec<f64>) {
        let samples = rates.len();
        let sorted = sorted(rates);
        match sorted.last() {
            Some(best) => {
                let spread = spread(&sorted);
                self.found.ceilings.push(Ceiling {
                    key,
                    value: *best,
                    unit,
                    spread,
                    threads,
                    samples,
                });
            }
            None => self.found.absent.push((key, "no repeat came to an end".to_owned())),
        }
    }

    /// Files `percentile` of `delays`; its spread is that over five stretches of them.
    fn delay(&mut self, key: &'static str, delays: &[f64], percentile: f64, threads: usize) {
        let samples = delays.len();
        let beyond = samples as f64 * (100.0 - percentile) / 100.0;
        if samples < REPEATS || (percentile > 50.0 && beyond < BEYOND_MIN) {
            self.found.absent.push((key, format!("only {samples} samples in its time")));
            return;
        }
        let at = |part: &[f64]| quantile(&sorted(part.to_vec()), percentile / 100.0);
        let parts = sorted(delays.chunks(samples.div_ceil(REPEATS)).map(at).collect());
        let (value, spread) = (at(delays), spread(&parts));
        self.found.ceilings.push(Ceiling { key, value, unit: "ns", spread, threads, samples });
    }

    fn stretch(&self, share: f64) -> Stretch {
        let seconds = self.seconds * share / REPEATS as f64;
        Stretch { duration: Duration::from_secs_f64(seconds), repeats: REPEATS }
    }

    fn elapsed_share(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() / self.seconds).min(0.95)
    }

    fn step(&self, name: &str, fraction: f64) -> Result<(), CalibrateError> {
        if (self.progress)(name, fraction.min(0.99)) {
            Ok(())
        } else {
            Err(CalibrateError::Cancelled)
        }
    }
}

type Probe = fn(&mut WorkingSet, &[usize], usize, Stretch) -> Vec<f64>;

const DISK_KEYS: [&str; 5] = [
    "disk_write_direct_bytes_s",
    "disk_read_direct_bytes_s",
    "disk_write_buffered_bytes_s",
    "disk_read_buffered_bytes_s",
    "disk_fsync_ns",
];

fn as_floats(values: Vec<u64>) -> Vec<f64> {
    values.into_iter().map(|value| value as f64).collect()
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Linear between the order statistics; `sorted` holds at least one.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

fn spread(sorted: &[f64]) -> f64 {
    let median = quantile(sorted, 0.5);
    if median <= 0.0 {
        return 0.0;
    }
    (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2.0 / median
}
