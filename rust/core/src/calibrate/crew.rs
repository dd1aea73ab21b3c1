//! Threads that do the same step over and over, started together, and the rate that comes out.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::topology;

/// How long and how often a rate is taken.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub duration: Duration,
    pub repeats: usize,
}

struct Lap {
    began: Instant,
    ended: Instant,
    units: u64,
}

/// Runs `task` once on every share, each on its own pinned thread.
pub fn each<S: Send>(cpus: &[usize], shares: &mut [S], task: impl Fn(&mut S) + Sync) {
    std::thread::scope(|scope| {
        for (index, share) in shares.iter_mut().enumerate() {
            let task = &task;
            scope.spawn(move || {
                pin_to(cpus, index);
                task(share);
            });
        }
    });
}

/// Units per second of all threads together, one figure per repeat.
///
/// Every repeat prepares each share untimed, starts all threads at a barrier and repeats `step` (at
/// most about a millisecond of work, returning the units done) until the time is over or `step`
/// returns 0. The rate is all units over the time from the first start to the last end.
pub fn rates<S: Send>(
    cpus: &[usize],
    shares: &mut [S],
    stretch: Stretch,
    prepare: impl Fn(&mut S) + Sync,
    step: impl Fn(&mut S) -> u64 + Sync,
) -> Vec<f64> {
    let barrier = Barrier::new(shares.len());
    let laps: Vec<Vec<Lap>> = std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter_mut()
            .enumerate()
            .map(|(index, share)| {
                let (barrier, prepare, step) = (&barrier, &prepare, &step);
                scope.spawn(move || {
                    pin_to(cpus, index);
                    (0..stretch.repeats)
                        .map(|_| {
                            prepare(share);
                            barrier.wait();
                            lap(share, stretch.duration, step)
                        })
                        .collect()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    (0..stretch.repeats).filter_map(|repeat| rate(laps.iter().map(|own| &own[repeat]))).collect()
}

fn pin_to(cpus: &[usize], index: usize) {
    if cpus.is_empty() {
        return;
    }
    // A refusal leaves the scheduler to place the thread: a lower figure, never a wrong one.
    topology::pin(&[cpus[index % cpus.len()]]).unwrap_or_default();
}

fn lap<S>(share: &mut S, duration: Duration, step: &impl Fn(&mut S) -> u64) -> Lap {
    let began = Instant::now();
    let mut units = 0;
    loop {
        let done = step(share);
        units += done;
        let ended = Instant::now();
        if done == 0 || ended - began >= duration {
            return Lap { began, ended, units };
        }
    }
}

fn rate<'a>(laps: impl Iterator<Item = &'a Lap> + Clone) -> Option<f64> {
    let began = laps.clone().map(|lap| lap.began).min()?;
    let ended = laps.clone().map(|lap| lap.ended).max()?;
    let units: u64 = laps.map(|lap| lap.units).sum();
    let seconds = (ended - began).as_secs_f64();
    (seconds > 0.0).then(|| units as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRETCH: Stretch = Stretch { duration: Duration::from_millis(20), repeats: 3 };

    #[test]
    fn a_step_of_known_length_gives_its_rate() {
        let mut shares = [(), ()];
        let step = |(): &mut ()| {
            std::thread::sleep(Duration::from_millis(1));
            10
        };
        let found = rates(&[], &mut shares, STRETCH, |()| (), step);
        assert_eq!(found.len(), 3);
        // Two threads, 10 units a millisecond each; sleeping only ever takes longer.
        assert!(found.iter().all(|rate| (1_000.0..20_000.0).contains(rate)), "{found:?}");
    }

    #[test]
    fn an_exhausted_share_ends_its_lap_and_is_prepared_again() {
        let mut shares = [0_u64];
        let step = |left: &mut u64| {
            let done = (*left).min(4);
            *left -= done;
            done
        };
        let found = rates(&[], &mut shares, STRETCH, |left| *left = 12, step);
        assert_eq!(found.len(), 3);
        assert_eq!(shares, [0]);
    }
}
