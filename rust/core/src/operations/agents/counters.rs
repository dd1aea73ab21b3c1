//! Totals over all workers beside the swarms' ledgers, of operations that take microseconds.

use std::sync::atomic::{AtomicU64, Ordering};

/// In the order of `Total`.
const NAMES: [&str; 4] = ["processes", "processes_failed", "process_start_ns", "swarms_checked"];

#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Total {
    Processes,
    ProcessesFailed,
    /// Until the process was started; until it is reaped its worker may serve others.
    ProcessStartNs,
    SwarmsChecked,
}

#[derive(Default)]
pub struct Counters([AtomicU64; NAMES.len()]);

impl Counters {
    pub fn add(&self, total: Total, amount: u64) {
        self.0[total as usize].fetch_add(amount, Ordering::Relaxed);
    }

    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let values = self.0.iter().map(|total| total.load(Ordering::Relaxed));
        NAMES.into_iter().zip(values)
    }
}
