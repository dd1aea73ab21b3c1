//! A worker of the pool: picks, runs, records and checks operations, and parks when there are none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{Ordering, fence};

use crate::clock::Clock;
use crate::operations::{Completion, Operation, Pause, Request, Status};

use super::pool::Pool;
use super::recorder::{Moments, Recorder};
use super::seat::WAKING_NS;
use super::station::Ticket;

/// How long an idle worker spins before it parks.
const SPIN_NS: u64 = 5_000;
/// A parked worker looks around at least this often, should a wake-up ever be lost.
const PARK_NS: u64 = 100_000_000;

/// One thread of the pool.
pub struct Worker<'p> {
    pool: &'p Pool,
    recorder: &'p Recorder,
    /// This worker's copy of each component; absent while it runs.
    operations: Vec<Option<Box<dyn Operation>>>,
    /// Time that operations slipped in at pause points have taken from the current one.
    slipped_ns: u64,
}

struct Slip<'a, 'p> {
    worker: &'a mut Worker<'p>,
    /// Start tag and start of the operation that pauses.
    tag: u64,
    started: u64,
}

impl Pause for Slip<'_, '_> {
    fn point(&mut self) {
        let pool = self.worker.pool;
        let mut now = pool.clock.now();
        loop {
            if pool.catch_up(now) {
                now = pool.clock.now();
            }
            let own = now - self.started - self.worker.slipped_ns;
            let operations = &self.worker.operations;
            let next = pool.least_served(|index, tag| {
                operations[index].is_some() && tag.wrapping_sub(self.tag) as i64 <= own as i64
            });
            match next.and_then(|index| Some((index, pool.take(index)?))) {
                Some((index, (ticket, tag, estimate))) => {
                    now = self.worker.serve_ticket(index, &ticket, (tag, estimate), now);
                }
                None => return,
            }
        }
    }
}

impl<'p> Worker<'p> {
    #[must_use]
    pub fn new(pool: &'p Pool, recorder: &'p Recorder) -> Self {
        let stations = pool.stations.iter();
        let operations = stations
            .map(|station| (!station.hosted).then(|| station.component.operation()))
            .collect();
        Self { pool, recorder, operations, slipped_ns: 0 }
    }

    /// Serves until the pool is stopped.
    pub fn work(&mut self) {
        let pool = self.pool;
        pool.freed(pool.clock.now());
        // End of the last operation, as long as one follows the other: then no time is read twice
        // and the worker is not free in between.
        let mut ended = None;
        while !pool.control.stopped() {
            let next = pool.least_served(|_, _| true);
            match next.and_then(|index| Some((index, pool.take(index)?))) {
                Some((index, (ticket, tag, estimate))) => {
                    let now = ended.unwrap_or_else(|| {
                        pool.engaged();
                        pool.clock.now()
                    });
                    self.slipped_ns = 0;
                    ended = Some(self.serve_ticket(index, &ticket, (tag, estimate), now));
                }
                None => {
                    if let Some(now) = ended.take() {
                        pool.freed(now);
                    }
                    idle(pool);
                }
            }
        }
    }

    /// Serves one operation from `began`, which is now, to its end; returns the moment of that.
    /// `charge` is its start tag and the worker time charged in advance.
    fn serve_ticket(
        &mut self,
        index: usize,
        ticket: &Ticket,
        charge: (u64, u64),
        began: u64,
    ) -> u64 {
        let pool = self.pool;
        let arrival = ticket.arrival;
        let (tag, estimate) = charge;
        if arrival.phase < pool.abandon_below.load(Ordering::Acquire) {
            self.recorder
                .series(arrival.phase, arrival.workload, arrival.op)
                .abandoned(arrival.due, began);
            pool.refund(index, estimate);
            pool.stations[index].in_flight.fetch_sub(1, Ordering::AcqRel);
            return began;
        }
        let outer_slipped = std::mem::take(&mut self.slipped_ns);
        let (own_ns, mut ended) = self.run_ticket(index, ticket, tag, began);
        pool.settle_charge(index, estimate, own_ns);
        // What came due while this operation was in flight is admitted beside it.
        if pool.catch_up(ended) {
            ended = pool.clock.now();
        }
        self.slipped_ns = outer_slipped + (ended - began);
        pool.succeed(&arrival, self.recorder, ended);
        ended
    }

    /// Runs, records and checks one operation; returns the worker time it took by itself, and
    /// the moment at which it was done with.
    fn run_ticket(&mut self, index: usize, ticket: &Ticket, tag: u64, started: u64) -> (u64, u64) {
        let pool = self.pool;
        let arrival = ticket.arrival;
        let request = Request { op: arrival.op, key: arrival.key };
        let Some(mut operation) = self.operations[index].take() else {
            unreachable!("a worker never serves a workload inside itself");
        };
        let run = catch_unwind(AssertUnwindSafe(|| {
            operation.run(request, &mut Slip { worker: self, tag, started })
        }));
        let planted = pool.stations[index].planted_delay;
        if planted > 0.0 {
            let own = (pool.clock.now() - started).saturating_sub(self.slipped_ns);
            let until = pool.clock.now() + (own as f64 * planted) as u64;
            while pool.clock.now() < until {
                std::hint::spin_loop();
            }
        }
        let finished = pool.clock.now();
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        let moments = Moments {
            due: arrival.due,
            started,
            finished,
            slipped_ns: self.slipped_ns,
            unqueued: ticket.unqueued,
        };
        let mut ended = finished;
        if let Ok(completion) = run {
            series.completed(&moments, completion);
            if completion.status == Status::Ok {
                let verdict = operation.verify();
                ended = pool.clock.now();
                series.checked(verdict, ended - finished);
            }
        } else {
            // A panic is counted as an error; the copy it left behind is not used again.
            series.completed(&moments, Completion { status: Status::Error, units: 0 });
            operation = pool.stations[index].component.operation();
        }
        self.operations[index] = Some(operation);
        ((ended - started).saturating_sub(self.slipped_ns), ended)
    }
}

/// Waits for an operation to run or for the pacer's seat, which it takes.
fn idle(pool: &Pool) {
    let deputy = pool.deputise();
    wait(pool, deputy);
    if deputy {
        pool.dismiss_deputy();
    }
    if pool.seat_vacant() {
        pool.lead();
    }
}

/// Looks around for a few microseconds and parks; a deputy is awake when an arrival is near.
fn wait(pool: &Pool, deputy: bool) {
    let wanted = || pool.anything_waiting() || pool.seat_vacant() || pool.control.stopped();
    let began = pool.clock.now();
    let park_ns = loop {
        if wanted() {
            return;
        }
        let now = pool.clock.now();
        let near = now.saturating_add(WAKING_NS);
        let ahead = if deputy { pool.control.horizon().saturating_sub(near) } else { PARK_NS };
        if now - began >= SPIN_NS && ahead > 0 {
            break ahead.min(PARK_NS);
        }
        std::hint::spin_loop();
    };
    let signal = &pool.work;
    let seen = signal.value();
    pool.parked.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if !wanted() {
        signal.sleep(seen, park_ns);
    }
    pool.parked.fetch_sub(1, Ordering::SeqCst);
}
