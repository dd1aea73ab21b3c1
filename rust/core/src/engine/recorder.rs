//! What one thread writes down about operations, and how a reader takes it without stopping it.
//!
//! Each thread owns a `Recorder` and is the only one to write it; every cell only grows, with a
//! relaxed load and store and no locked instruction. A reader copies the cells at any moment and
//! subtracts what it had copied before: it never waits for a writer, an idle writer is as readable
//! as a busy one, and sums over threads are exact.

use crate::histogram::{Counts, Histogram, NotEarlier};
use crate::operations::{Completion, Status, Verdict};
use crate::sync::{AtomicU64, Ordering};

/// Phases whose operations can be under way at once: the current one and the one before it.
pub const LIVE_PHASES: usize = 2;

/// Adds to a cell that only the calling thread writes.
#[inline]
fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Default)]
        struct Cells { $($name: AtomicU64),+ }

        /// Totals of operations; all but the sums of moments are counts or nanoseconds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),+ }

        impl Cells {
            fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }

        impl Counters {
            /// Adds `other` cell by cell.
            pub fn merge(&mut self, other: &Self) {
                $(self.$name = self.$name.wrapping_add(other.$name);)+
            }

            /// Every cell with its name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }

            /// What has been added since `earlier`.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(earlier.$name)),+ }
            }
        }
    };
}

counters! {
    /// Operations asked for.
    scheduled,
    ok,
    errors,
    /// Refused: no room in the queue, or over a budget.
    rejected,
    /// Given up before they ran, because their phase was over.
    abandoned,
    /// Work done, in the component's unit.
    units,
    /// Worker time inside operations, without what was slipped in at their pause points.
    busy_ns,
    /// Worker time spent checking answers.
    verify_ns,
    verified,
    violations,
    /// Sum of the moments at which operations entered the system (modulo 2^64).
    entered_sum_ns,
    /// Sum of the moments at which operations left it again (modulo 2^64).
    ended_sum_ns,
    /// Time from intended start to end of operations that were not ok.
    failed_stay_ns,
}

/// One op type in one live phase, written by one thread.
pub struct Series {
    cells: Cells,
    response: Counts,
    service: Counts,
    lateness: Counts,
    /// Response times of operations that found nothing queued before them.
    unqueued: Counts,
}

/// A copy of a `Series`, or a sum or difference of such.
#[derive(Clone, Default)]
pub struct Reading {
    pub counters: Counters,
    pub response: Histogram,
    pub service: Histogram,
    pub lateness: Histogram,
    pub unqueued: Histogram,
}

impl Reading {
    pub fn merge(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.lateness.merge(&other.lateness);
        self.unqueued.merge(&other.unqueued);
    }

    /// What has been recorded since `earlier`.
    ///
    /// # Errors
    /// `earlier` is no earlier reading of the same series.
    pub fn since(&self, earlier: &Self) -> Result<Self, NotEarlier> {
        Ok(Self {
            counters: self.counters.since(&earlier.counters),
            response: self.response.subtract(&earlier.response)?,
            service: self.service.subtract(&earlier.service)?,
            lateness: self.lateness.subtract(&earlier.lateness)?,
            unqueued: self.unqueued.subtract(&earlier.unqueued)?,
        })
    }
}

/// The moments of one operation that ran.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    pub due: u64,
    pub started: u64,
    pub finished: u64,
    /// Time in between that belonged to other operations: slipped in, or of the same batch.
    pub slipped_ns: u64,
    pub unqueued: bool,
}

impl Series {
    fn new() -> Self {
        Self {
            cells: Cells::default(),
            response: Counts::new(),
            service: Counts::new(),
            lateness: Counts::new(),
            unqueued: Counts::new(),
        }
    }

    /// An arrival was handed over by a pacer: lateness is the pacer's own, and what has not been
    /// handed over for want of a free worker has entered the system all the same.
    #[inline]
    pub fn handed_over(&self, due: u64, lateness_ns: u64) {
        add(&self.cells.scheduled, 1);
        add(&self.cells.entered_sum_ns, due + lateness_ns);
        self.lateness.record(lateness_ns);
    }

    /// A closed loop asked for `count` more operations.
    #[inline]
    pub fn asked(&self, due: u64, count: u64) {
        add(&self.cells.scheduled, count);
        add(&self.cells.entered_sum_ns, due.wrapping_mul(count));
    }

    /// `count` arrivals were refused at their hand-over, which was counted.
    #[inline]
    pub fn refused(&self, handed: u64, count: u64) {
        add(&self.cells.rejected, count);
        add(&self.cells.ended_sum_ns, handed.wrapping_mul(count));
    }

    /// `count` queued operations of the same intended start were given up.
    #[inline]
    pub fn abandoned(&self, due: u64, now: u64, count: u64) {
        add(&self.cells.abandoned, count);
        add(&self.cells.failed_stay_ns, now.saturating_sub(due) * count);
        add(&self.cells.ended_sum_ns, now.wrapping_mul(count));
    }

    /// `count` operations of the same moments ended by themselves, alike; response and service
    /// times are kept of those that were ok.
    #[inline]
    pub fn completed(&self, moments: &Moments, completion: Completion, count: u64) {
        let served = moments.finished - moments.started;
        let response = moments.finished - moments.due.min(moments.finished);
        match completion.status {
            Status::Ok => {
                add(&self.cells.ok, count);
                self.response.record_n(response, count);
                self.service.record_n(served, count);
                if moments.unqueued {
                    self.unqueued.record_n(response, count);
                }
            }
            Status::Error => add(&self.cells.errors, count),
            Status::Rejected => add(&self.cells.rejected, count),
        }
        if completion.status != Status::Ok {
            add(&self.cells.failed_stay_ns, response * count);
        }
        add(&self.cells.units, completion.units * count);
        add(&self.cells.busy_ns, served.saturating_sub(moments.slipped_ns) * count);
        add(&self.cells.ended_sum_ns, moments.finished.wrapping_mul(count));
    }

    #[inline]
    pub fn checked(&self, verdict: Verdict, verify_ns: u64) {
        add(&self.cells.verified, u64::from(verdict.checked));
        add(&self.cells.violations, u64::from(verdict.violations));
        add(&self.cells.verify_ns, verify_ns);
    }

    /// A copy of everything recorded so far.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading {
            counters: self.cells.read(),
            response: self.response.snapshot(),
            service: self.service.snapshot(),
            lateness: self.lateness.snapshot(),
            unqueued: self.unqueued.snapshot(),
        }
    }

    /// The counters alone, which is cheap.
    #[must_use]
    pub fn read_counters(&self) -> Counters {
        self.cells.read()
    }

    /// The response times alone.
    #[must_use]
    pub fn read_response(&self) -> Histogram {
        self.response.snapshot()
    }
}

/// All series of one thread: phases × workloads × op types.
pub struct Recorder {
    /// Start of each workload's op types in a phase's row; the last entry is the row's length.
    offsets: Box<[usize]>,
    series: Box<[Series]>,
}

impl Recorder {
    /// `op_counts` are the numbers of op types, per workload.
    #[must_use]
    pub fn new(op_counts: &[usize]) -> Self {
        let mut offsets = vec![0];
        for count in op_counts {
            offsets.push(offsets[offsets.len() - 1] + count);
        }
        let row = offsets[offsets.len() - 1];
        Self {
            offsets: offsets.into(),
            series: (0..row * LIVE_PHASES).map(|_| Series::new()).collect(),
        }
    }

    #[inline]
    #[must_use]
    pub fn series(&self, phase: u32, workload: u16, op: u8) -> &Series {
        let row = self.offsets[self.offsets.len() - 1];
        let slot = phase as usize % LIVE_PHASES;
        &self.series[slot * row + self.offsets[usize::from(workload)] + usize::from(op)]
    }
}
