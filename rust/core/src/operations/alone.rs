//! Operations of one component run back to back on the calling thread, timed and accounted.

use std::time::Instant;

use crate::canary::thread_time_ns;

use super::{Fault, NoPause, Operation, Pause, Request, Status};

/// One component timed alone on the calling threads, for benchmarks and the Python API.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// From the first operation to the end of the last check.
    pub elapsed_ns: u64,
    /// Of it the time spent checking answers, and all the other.
    pub verify_ns: u64,
    pub busy_ns: u64,
    /// Pages that the kernel had to bring while operations ran, checks included.
    pub page_faults: u64,
    pub ok: u64,
    pub errors: u64,
    pub rejected: u64,
    pub units: u64,
    pub verified: u64,
    pub violations: u64,
    /// Operations whose answer was damaged before it was checked.
    pub planted: u64,
}

/// What is done with the answers of operations that run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checking {
    Skipped,
    Checked,
    /// Each answer is damaged first.
    Damaged(Fault),
}

/// Runs `count` operations of type `op`, keys from `first_key` on, back to back on one thread.
#[must_use]
pub fn run_alone(
    operation: &mut dyn Operation,
    op: u8,
    first_key: u64,
    count: u64,
    checking: Checking,
) -> Tally {
    let mut tally = Tally::default();
    let faults_before = page_faults();
    let began = Instant::now();
    for key in first_key..first_key + count {
        let completion = operation.run(Request { op, key }, &mut NoPause);
        tally.units += completion.units;
        match completion.status {
            Status::Ok => tally.ok += 1,
            Status::Error => tally.errors += 1,
            Status::Rejected => tally.rejected += 1,
        }
        if let Checking::Damaged(fault) = checking {
            tally.planted += u64::from(operation.plant(fault));
        }
        if checking != Checking::Skipped {
            let checked_from = Instant::now();
            let verdict = operation.verify(&mut NoPause);
            tally.verify_ns += checked_from.elapsed().as_nanos() as u64;
            tally.verified += u64::from(verdict.checked);
            tally.violations += u64::from(verdict.violations);
        }
    }
    tally.elapsed_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    tally.page_faults = page_faults() - faults_before;
    tally.busy_ns = tally.elapsed_ns.saturating_sub(tally.verify_ns);
    tally
}

/// The longest processor time that each of `count` operations, or its check, took between two
/// pauses, in nanoseconds; what other threads of the machine took meanwhile is not in it.
#[must_use]
pub fn longest_stretches(
    operation: &mut dyn Operation,
    op: u8,
    first_key: u64,
    count: u64,
) -> Vec<u64> {
    let longest = |key| {
        let mut stretches = Stretches { began: thread_time_ns(), longest_ns: 0 };
        operation.run(Request { op, key }, &mut stretches);
        stretches.point();
        operation.verify(&mut stretches);
        stretches.point();
        stretches.longest_ns
    };
    (first_key..first_key + count).map(longest).collect()
}

/// Times what lies between two pauses.
struct Stretches {
    began: u64,
    longest_ns: u64,
}

impl Pause for Stretches {
    fn point(&mut self) {
        self.longest_ns = self.longest_ns.max(thread_time_ns() - self.began);
        self.began = thread_time_ns();
    }
}

/// Page faults of the calling thread so far; 0 where the system does not count them by thread.
fn page_faults() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a whole `rusage`, which the call fills or leaves zeroed, and
        // all zeroes is a valid one.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        (usage.ru_minflt + usage.ru_majflt) as u64
    }
    #[cfg(not(target_os = "linux"))]
    0
}
