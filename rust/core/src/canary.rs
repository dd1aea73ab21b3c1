//! A low-cost observer that times the same small memory copy and the same small computation all
//! through a run, so that what slowed the run down can be named: the memory, the cores, or others.
//!
//! Every beat reads 256 KiB that the caches are made to forget, and runs one dependent chain of
//! multiplications. Each is timed by the thread's own processor time, which waiting for a core does
//! not lengthen, and by wall time, which it does.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::calibrate::topology;

mod beat;

pub(crate) use beat::thread_time_ns;
pub use beat::{Beat, beats};
use beat::{Probe, saturated};

const BEAT: Duration = Duration::from_millis(50);
const IDLE_BEATS: usize = 41;
/// Beats kept of one stretch: the latest 54 minutes.
const BEATS_MAX: usize = 1 << 16;

/// Medians over a stretch; times in nanoseconds, `*_wall_*` by wall time, others by thread time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CanaryReading {
    pub memory_ns_p50: u64,
    pub memory_wall_ns_p50: u64,
    pub compute_ns_p50: u64,
    pub compute_wall_ns_p50: u64,
    /// How late the observer got a core.
    pub delay_ns_p50: u64,
    pub delay_ns_max: u64,
    /// Beats in the stretch, at most 65 536 of which (the latest) are looked at.
    pub samples: u64,
    /// Length of the stretch.
    pub wall_ns: u64,
    /// Processor time that observing took in it.
    pub cost_ns: u64,
}

impl CanaryReading {
    /// How much longer the copy took than `idle`, at least 1; `None` without samples.
    #[must_use]
    pub fn memory_slowdown(&self, idle: &CanaryReading) -> Option<f64> {
        slowdown(self.memory_ns_p50, idle.memory_ns_p50)
    }

    /// How much longer the chain took than `idle`, at least 1; `None` without samples.
    #[must_use]
    pub fn compute_slowdown(&self, idle: &CanaryReading) -> Option<f64> {
        slowdown(self.compute_ns_p50, idle.compute_ns_p50)
    }
}

fn slowdown(now_ns: u64, idle_ns: u64) -> Option<f64> {
    (now_ns > 0 && idle_ns > 0).then(|| (now_ns as f64 / idle_ns as f64).max(1.0))
}

/// The beats of the current stretch.
struct Stretch {
    beats: Vec<Beat>,
    count: u64,
    began: Instant,
    cost_ns: u64,
}

impl Stretch {
    fn new() -> Self {
        Self { beats: Vec::with_capacity(BEATS_MAX), count: 0, began: Instant::now(), cost_ns: 0 }
    }

    fn push(&mut self, beat: Beat, cost_ns: u64) {
        if self.beats.len() < BEATS_MAX {
            self.beats.push(beat);
        } else {
            self.beats[(self.count % BEATS_MAX as u64) as usize] = beat;
        }
        self.count += 1;
        self.cost_ns += cost_ns;
    }

    fn reading(&self) -> CanaryReading {
        let median = |pick: fn(&Beat) -> u32| lower_quantile(&self.beats, pick, 2);
        CanaryReading {
            memory_ns_p50: median(|beat| beat.memory),
            memory_wall_ns_p50: median(|beat| beat.memory_wall),
            compute_ns_p50: median(|beat| beat.compute),
            compute_wall_ns_p50: median(|beat| beat.compute_wall),
            delay_ns_p50: median(|beat| beat.delay),
            delay_ns_max: u64::from(self.beats.iter().map(|beat| beat.delay).max().unwrap_or(0)),
            samples: self.count,
            wall_ns: u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            cost_ns: self.cost_ns,
        }
    }

    fn restart(&mut self) {
        self.beats.clear();
        self.count = 0;
        self.cost_ns = 0;
        self.began = Instant::now();
    }
}

/// The value with a `parts`-th of all at or below it; 0 of none.
fn lower_quantile(beats: &[Beat], pick: fn(&Beat) -> u32, parts: usize) -> u64 {
    let mut values: Vec<u32> = beats.iter().map(pick).collect();
    values.sort_unstable();
    values.get(values.len() / parts).map_or(0, |value| u64::from(*value))
}

struct Shared {
    stretch: Mutex<Stretch>,
    stop: AtomicBool,
}

/// A running observer; ends its thread when dropped.
pub struct Canary {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    idle: CanaryReading,
}

impl Canary {
    /// Measures the idle baseline on the calling machine as it is now (about 0.2 s; to be called
    /// before any load), then starts observing on `cpus` (empty: wherever the caller may run).
    ///
    /// The baseline is the faster quartile of its beats: disturbance only ever lengthens one.
    ///
    /// # Errors
    /// The thread or its half megabyte is refused, or a core of `cpus` does not exist.
    pub fn start(cpus: &[usize]) -> io::Result<Self> {
        let cpus = cpus.to_vec();
        let shared =
            Arc::new(Shared { stretch: Mutex::new(Stretch::new()), stop: AtomicBool::new(false) });
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let observed = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("canary".to_owned()).spawn(move || {
            let ready = topology::pin(&cpus)
                .and_then(|()| idle_baseline())
                .and_then(|idle| Ok((idle, Probe::new()?)));
            match ready {
                Ok((idle, probe)) => {
                    if sender.send(Ok(idle)).is_ok() {
                        observe(probe, &observed);
                    }
                }
                // A caller that is gone wants no answer.
                Err(error) => sender.send(Err(error)).unwrap_or_default(),
            }
        })?;
        let idle = receiver
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the observer ended before it began")))?;
        Ok(Self { shared, thread: Some(thread), idle })
    }

    /// What the beats took on the machine before the load.
    #[must_use]
    pub fn idle(&self) -> CanaryReading {
        self.idle
    }

    /// The medians since the last `reset`.
    #[must_use]
    pub fn read(&self) -> CanaryReading {
        self.locked().reading()
    }

    /// Ends the stretch, gives its medians and begins the next.
    pub fn reset(&self) -> CanaryReading {
        let mut stretch = self.locked();
        let reading = stretch.reading();
        stretch.restart();
        reading
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Stretch> {
        self.shared.stretch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the observer was already printed; it has nothing to hand back.
            thread.join().unwrap_or_default();
        }
    }
}

fn idle_baseline() -> io::Result<CanaryReading> {
    let began = Instant::now();
    let beats = beats(IDLE_BEATS)?;
    let quartile = |pick: fn(&Beat) -> u32| lower_quantile(&beats, pick, 4);
    Ok(CanaryReading {
        memory_ns_p50: quartile(|beat| beat.memory),
        memory_wall_ns_p50: quartile(|beat| beat.memory_wall),
        compute_ns_p50: quartile(|beat| beat.compute),
        compute_wall_ns_p50: quartile(|beat| beat.compute_wall),
        samples: beats.len() as u64,
        wall_ns: u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
        ..CanaryReading::default()
    })
}

fn observe(mut probe: Probe, shared: &Shared) {
    // SAFETY: changes only how late this thread's own timers may fire.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
    let mut due = Instant::now() + BEAT;
    while !shared.stop.load(Ordering::Acquire) {
        let now = Instant::now();
        if now < due {
            std::thread::park_timeout(due - now);
            continue;
        }
        let spent = thread_time_ns();
        let beat = Beat { delay: saturated((now - due).as_nanos()), ..probe.beat() };
        let cost_ns = thread_time_ns() - spent;
        shared.stretch.lock().unwrap_or_else(PoisonError::into_inner).push(beat, cost_ns);
        due = now + BEAT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_counts_from_its_reset_and_keeps_the_latest() {
        let mut stretch = Stretch::new();
        for memory in 0..BEATS_MAX as u32 + 10 {
            stretch.push(Beat { memory, ..Beat::default() }, 5);
        }
        let reading = stretch.reading();
        assert_eq!(reading.samples, BEATS_MAX as u64 + 10);
        assert_eq!(reading.memory_ns_p50, BEATS_MAX as u64 / 2 + 10);
        assert_eq!(reading.cost_ns, 5 * (BEATS_MAX as u64 + 10));
        stretch.restart();
        assert_eq!(stretch.reading().samples, 0);
        assert_eq!(stretch.reading().memory_slowdown(&reading), None);
    }

    #[test]
    fn a_running_observer_beats_and_stops_at_once() {
        let canary = Canary::start(&[]).unwrap();
        assert!(canary.idle().memory_ns_p50 > 0 && canary.idle().compute_ns_p50 > 0);
        std::thread::sleep(4 * BEAT);
        let reading = canary.reset();
        assert!((1..=4).contains(&reading.samples), "{reading:?}");
        assert!(reading.cost_ns > 0 && reading.wall_ns >= 190_000_000);
        let stopping = Instant::now();
        drop(canary);
        assert!(stopping.elapsed() < Duration::from_secs(1));
        assert!(Canary::start(&[100_000]).is_err());
    }

    #[test]
    fn a_slowdown_is_never_below_one() {
        let idle = CanaryReading { memory_ns_p50: 100, compute_ns_p50: 0, ..Default::default() };
        let now = CanaryReading { memory_ns_p50: 250, compute_ns_p50: 7, ..Default::default() };
        assert_eq!(now.memory_slowdown(&idle), Some(2.5));
        assert_eq!(idle.memory_slowdown(&now), Some(1.0));
        assert_eq!(now.compute_slowdown(&idle), None);
    }
}
