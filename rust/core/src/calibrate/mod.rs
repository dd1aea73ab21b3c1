//! The machine's own ceilings, measured before anything is given as a share of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod crew;
mod disk;
mod figures;
mod kernels;
mod memory;
pub mod region;
mod timers;
pub mod topology;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::canary;
use crew::Stretch;
use figures::REPEATS;
pub use figures::{Calibration, Ceiling};
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
    /// Memory that the probes may hold at once; with 0 those of memory are left out.
    pub memory_max_bytes: usize,
    /// Size of the scratch file; at most seven times as much is written.
    pub disk_file_bytes: u64,
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

/// Sleeps and wake-ups timed: enough for ten beyond the 99th percentile.
const DELAYS: usize = 1_100;
/// Share of the time that one rate gets; twelve of them, four tried in two ways.
const RATE_SHARE: f64 = 0.036;
const DISK_SHARE: f64 = 0.045;
/// Past this share of its time, probes are cut to a quarter.
const LATE_SHARE: f64 = 0.7;
const DISK_REPEATS: usize = 3;
/// A working set this many times the last-level caches cannot be served by them.
const CACHE_MULTIPLE: usize = 4;
const WORKING_SET_MIN_BYTES: usize = 64 << 20;
/// The ceilings whose probes hold a working set.
const MEMORY_CEILINGS: [&str; 9] = [
    "copy_bytes_s",
    "copy_one_thread_bytes_s",
    "read_bytes_s",
    "read_one_thread_bytes_s",
    "write_bytes_s",
    "write_one_thread_bytes_s",
    "random_64b_s",
    "random_64b_one_thread_s",
    "page_touch_bytes_s",
];

/// Measures every ceiling of `plan`; takes about `plan.seconds` and frees all memory it held.
///
/// # Errors
/// Cancelled by `progress`, or the memory for the working set is refused.
pub fn measure(plan: &Plan, progress: Progress<'_>) -> Result<Calibration, CalibrateError> {
    let mut bench = Bench::new(plan, progress);
    if plan.memory_max_bytes > 0 {
        bench.memory()?;
    } else {
        let reason = "not asked for";
        bench.found.absent.extend(MEMORY_CEILINGS.map(|key| (key, reason.to_owned())));
    }
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
        let all = self.threads;
        let mut set = WorkingSet::build(cpus, all, bytes).map_err(CalibrateError::Memory)?;
        self.found.memory_bytes = set.bytes;
        for (key, alone, unit, probe) in [
            ("copy_bytes_s", "copy_one_thread_bytes_s", "bytes/s", WorkingSet::copy as Probe),
            ("read_bytes_s", "read_one_thread_bytes_s", "bytes/s", WorkingSet::read),
            ("write_bytes_s", "write_one_thread_bytes_s", "bytes/s", WorkingSet::write),
            ("random_64b_s", "random_64b_one_thread_s", "loads/s", WorkingSet::random),
        ] {
            self.step(key, self.elapsed_share())?;
            let stretch = self.stretch(RATE_SHARE);
            let together = probe(&mut set, cpus, all, stretch);
            let single = probe(&mut set, cpus, 1, stretch);
            self.found.pair((key, alone), unit, all, together, single);
        }
        Ok(())
    }

    fn cores(&mut self) -> Result<(), CalibrateError> {
        self.step("cores", self.elapsed_share())?;
        let (cpus, all, stretch) = (&self.plan.cpus, self.threads, self.stretch(RATE_SHARE));
        if self.plan.memory_max_bytes > 0 {
            let touched = memory::page_touch(cpus, all, self.plan.memory_max_bytes, stretch)
                .map_err(CalibrateError::Memory)?;
            self.found.rate("page_touch_bytes_s", "bytes/s", all, touched);
        }
        let second = self.caches.second_level_bytes;
        let cached = memory::cache_read(cpus, all, second, stretch);
        self.found.rate("cache_read_bytes_s", "bytes/s", all, cached);
        let (together, single) = (memory::fma(cpus, all, stretch), memory::fma(cpus, 1, stretch));
        let keys = ("fma_flop_s", "fma_one_thread_flop_s");
        self.found.pair(keys, "flop/s", all, together, single);
        Ok(())
    }

    fn timers(&mut self) -> Result<(), CalibrateError> {
        self.step("timers", self.elapsed_share())?;
        let budget = Duration::from_secs_f64(self.seconds * 0.04);
        let reads = timers::clock_read_ns(REPEATS);
        self.found.delay("timer_ns", &reads, 50.0, 1);
        let sleeps = as_floats(timers::sleep_overshoots_ns(DELAYS, budget));
        self.found.delay("sleep_overshoot_ns", &sleeps, 50.0, 1);
        self.found.delay("sleep_overshoot_p99_ns", &sleeps, 99.0, 1);
        let wakeups = as_floats(timers::wakeups_ns(&self.plan.cpus, DELAYS, budget));
        self.found.delay("wakeup_ns", &wakeups, 50.0, 2);
        self.found.delay("wakeup_p99_ns", &wakeups, 99.0, 2);
        let beats = canary::beats(self.beats()).map_err(CalibrateError::Memory)?;
        let memory: Vec<f64> = beats.iter().map(|beat| f64::from(beat.memory)).collect();
        let compute: Vec<f64> = beats.iter().map(|beat| f64::from(beat.compute)).collect();
        self.found.delay("canary_memory_ns", &memory, 50.0, 1);
        self.found.delay("canary_compute_ns", &compute, 50.0, 1);
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
            Ok(syncs) => self.found.delay("disk_fsync_ns", &as_floats(syncs), 50.0, 1),
            Err(error) => self.found.absent.push(("disk_fsync_ns", error.to_string())),
        }
        Ok(())
    }

    fn disk_rate(&mut self, key: &'static str, rates: io::Result<Vec<f64>>) {
        match rates {
            Ok(rates) => self.found.rate(key, "bytes/s", disk::REQUESTS, rates),
            Err(error) => self.found.absent.push((key, error.to_string())),
        }
    }

    fn stretch(&self, share: f64) -> Stretch {
        // A busy machine is slow to start threads and to hand out memory: what that took is saved.
        let late = self.began.elapsed().as_secs_f64() > LATE_SHARE * self.seconds;
        let haste = if late { 0.25 } else { 1.0 };
        let seconds = haste * self.seconds * share / REPEATS as f64;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(directory: PathBuf) -> Plan {
        Plan {
            threads: 2,
            cpus: Vec::new(),
            directory,
            seconds: 1.0,
            memory_max_bytes: 8 << 20,
            disk_file_bytes: 4 << 20,
        }
    }

    #[test]
    fn every_ceiling_is_measured_or_said_to_be_absent() {
        let found = measure(&plan(std::env::temp_dir()), &|_, _| true).unwrap();
        let keys: Vec<_> = found.ceilings.iter().map(|ceiling| ceiling.key).collect();
        for key in DISK_KEYS.iter().chain(&["copy_bytes_s", "fma_flop_s", "timer_ns"]) {
            assert!(keys.contains(key) || found.absent.iter().any(|(name, _)| name == key));
        }
        assert!(found.ceilings.iter().all(|ceiling| ceiling.value > 0.0 && ceiling.spread >= 0.0));
        assert!(found.memory_bytes <= 8 << 20 && found.notes.len() == 1, "{:?}", found.notes);
    }

    #[test]
    fn a_folder_that_cannot_be_written_takes_the_disk_ceilings_alone() {
        let found = measure(&plan("/proc/no/such/folder".into()), &|_, _| true).unwrap();
        let absent: Vec<_> = found.absent.iter().map(|(key, _)| *key).collect();
        assert!(DISK_KEYS.iter().all(|key| absent.contains(key)), "{absent:?}");
        assert!(found.ceilings.iter().any(|ceiling| ceiling.key == "read_bytes_s"));
    }

    #[test]
    fn the_progress_can_give_up() {
        let given_up = measure(&plan(std::env::temp_dir()), &|stage, _| stage != "cores");
        assert!(matches!(given_up, Err(CalibrateError::Cancelled)));
    }
}
