//! A worker of the pool: picks, runs, records and checks operations, and parks when there are none.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::arrivals::Arrival;
use crate::clock::Clock;
use crate::operations::{Completion, Operation, Pause, Request, Status, Verdict};
use crate::sync::Ordering;

use super::pool::Pool;
use super::recorder::{Moments, Recorder};
use super::seat::{OWN_MAX, SHORT_NS, WAKING_NS};
use super::station::{Station, Ticket};

/// How long an idle worker spins before it parks.
const SPIN_NS: u64 = 5_000;
/// A parked worker looks around at least this often, should a wake-up ever be lost.
const PARK_NS: u64 = 100_000_000;

/// A workload that has had so much more than the one that pauses is let in all the same: as much as
/// a long operation takes, after which its short ones would wait for the others to have as much.
/// It is paid back where workers choose what comes next.
const AHEAD_NS: u64 = 20_000_000;

/// One thread of the pool.
pub struct Worker<'p> {
    pool: &'p Pool,
    recorder: &'p Recorder,
    /// This worker's copy of each component; absent while it runs.
    operations: Vec<Option<Box<Copy>>>,
    /// Time that operations slipped in at pause points have taken from the current one.
    slipped_ns: u64,
    /// Operations that it handed over to itself while it paced.
    own: Vec<Ticket>,
    /// Scratch for what a closed loop asks for next.
    next: Vec<Ticket>,
}

/// A worker's copy of a component.
struct Copy {
    operation: Box<dyn Operation>,
    index: usize,
    /// Start tag of what it runs.
    tag: u64,
    /// Scratch of a batch.
    requests: Vec<Request>,
    ends: Vec<Completion>,
}

impl Copy {
    fn new(station: &Station, index: usize) -> Box<Self> {
        Box::new(Self {
            operation: station.component.operation(),
            index,
            tag: 0,
            requests: Vec::with_capacity(station.batch_max),
            ends: Vec::with_capacity(station.batch_max),
        })
    }
}

/// Whether what waits with start tag `tag` goes first where an operation of start tag `paused`
/// pauses after `own_ns` of its own.
pub(super) fn goes_first(tag: u64, paused: u64, own_ns: u64) -> bool {
    tag.wrapping_sub(paused) as i64 <= (own_ns + AHEAD_NS) as i64
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
                operations[index].is_some() && goes_first(tag, self.tag, own)
            });
            match next.and_then(|index| Some((index, pool.stations[index].pop()?))) {
                Some((index, ticket)) => now = self.worker.slip_in(index, &ticket, now),
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
            .enumerate()
            .map(|(index, station)| (!station.hosted).then(|| Copy::new(station, index)))
            .collect();
        let batch_max = pool.stations.iter().map(|station| station.batch_max).max().unwrap_or(1);
        Self {
            pool,
            recorder,
            operations,
            slipped_ns: 0,
            own: Vec::with_capacity(batch_max.max(OWN_MAX)),
            next: Vec::with_capacity(batch_max),
        }
    }

    /// Serves until the pool is stopped.
    pub fn work(&mut self) {
        let pool = self.pool;
        pool.freed(pool.clock.now());
        // End of the last operation, as long as one follows the other: then no time is read twice
        // and the worker is not free in between.
        let mut ended = None;
        while !pool.control.stopped() {
            if let Some(index) = pool.least_served(|_, _| true) {
                pool.take_some(index, &mut self.own);
            }
            if self.own.is_empty() {
                if let Some(now) = ended.take() {
                    pool.freed(now);
                }
                idle(pool, &mut self.own);
            }
            if !self.own.is_empty() {
                let now = ended.unwrap_or_else(|| {
                    pool.engaged();
                    pool.clock.now()
                });
                ended = Some(self.serve_own(now));
            }
        }
    }

    /// Serves the operations that it has taken, from `began`, which is now; returns when that was
    /// done.
    fn serve_own(&mut self, began: u64) -> u64 {
        let pool = self.pool;
        let mut own = std::mem::take(&mut self.own);
        let (mut now, mut served, mut handed_on) = (began, 0, false);
        for group in own.chunk_by(Ticket::of_one_workload) {
            let index = usize::from(group[0].arrival.workload);
            let station = &pool.stations[index];
            let (tag, charged) = pool.charge(index, station.operations(group));
            let (mut spent_ns, mut ended, mut count) = (0, 0, 0);
            let mut copy = self.begin(index, tag);
            let mut left = group;
            while !left.is_empty() && !handed_on {
                let batch;
                (batch, left) = left.split_at(station.batch_length(left));
                let own_ns;
                (own_ns, now) = self.run_own(&mut copy, batch, now);
                spent_ns += own_ns;
                // What came due while a long operation was in flight is admitted beside it.
                if now - began > SHORT_NS && pool.catch_up(now) {
                    now = pool.clock.now();
                }
                served += batch.len();
                count += station.operations(batch);
                ended += pool.succeed_all(batch, self.recorder, now, &mut self.next);
                // Only one may take long: when it has, others are there for the rest.
                handed_on = now - began > SHORT_NS && pool.others_free();
            }
            self.operations[index] = Some(copy);
            pool.settle(index, ended, (charged, spent_ns), count as u64);
            if handed_on {
                break;
            }
        }
        pool.queue_again(&own[served..], self.recorder);
        own.clear();
        self.own = own;
        now
    }

    /// Runs what it has taken of one workload, in one go, from `started`, which is now; returns the
    /// worker time that took by itself, and the moment at which it was done with.
    fn run_own(&mut self, copy: &mut Copy, batch: &[Ticket], started: u64) -> (u64, u64) {
        self.slipped_ns = 0;
        if let [ticket @ Ticket { count: 1, .. }] = batch {
            if self.gives_up(ticket, started) {
                return (0, started);
            }
            let ended = self.run_ticket(copy, ticket, started);
            return ((ended - started).saturating_sub(self.slipped_ns), ended);
        }
        let phase = self.pool.abandon_below.load(Ordering::Acquire);
        if batch.iter().all(|ticket| ticket.arrival.phase >= phase) {
            let ended = self.run_batch(copy, batch, started);
            return ((ended - started).saturating_sub(self.slipped_ns), ended);
        }
        let (mut own_ns, mut now) = (0, started);
        for ticket in batch {
            self.slipped_ns = 0;
            if self.gives_up(ticket, now) {
                continue;
            }
            let ended = match ticket.count {
                1 => self.run_ticket(copy, ticket, now),
                _ => self.run_batch(copy, std::slice::from_ref(ticket), now),
            };
            own_ns += (ended - now).saturating_sub(self.slipped_ns);
            now = ended;
        }
        (own_ns, now)
    }

    /// Counts operations whose phase has been given up as abandoned; whether they were.
    fn gives_up(&self, ticket: &Ticket, now: u64) -> bool {
        let arrival = &ticket.arrival;
        let over = arrival.phase < self.pool.abandon_below.load(Ordering::Acquire);
        if over {
            let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
            series.abandoned(arrival.due, now, u64::from(ticket.count));
        }
        over
    }

    /// Serves a ticket inside another operation, from `began`, which is now, to its end; returns
    /// the moment of that.
    fn slip_in(&mut self, index: usize, ticket: &Ticket, began: u64) -> u64 {
        let pool = self.pool;
        let count = u64::from(ticket.count);
        let (tag, charged) = pool.charge(index, ticket.count as usize);
        let outer_slipped = std::mem::take(&mut self.slipped_ns);
        let mut copy = self.begin(index, tag);
        let (own_ns, mut ended) = self.run_own(&mut copy, std::slice::from_ref(ticket), began);
        self.operations[index] = Some(copy);
        if pool.catch_up(ended) {
            ended = pool.clock.now();
        }
        self.slipped_ns = outer_slipped + (ended - began);
        let ticket = std::slice::from_ref(ticket);
        let gone = pool.succeed_all(ticket, self.recorder, ended, &mut self.next);
        pool.settle(index, gone, (charged, own_ns), count);
        ended
    }

    /// Runs, records and checks one operation; returns the moment at which it was done with.
    fn run_ticket(&mut self, copy: &mut Copy, ticket: &Ticket, started: u64) -> u64 {
        let arrival = ticket.arrival;
        let request = Request { op: arrival.op, key: arrival.key };
        let Copy { operation, index, tag, .. } = copy;
        let mut slip = Slip { worker: self, tag: *tag, started };
        let run = catch_unwind(AssertUnwindSafe(|| operation.run(request, &mut slip)));
        let finished = self.finish(*index, started);
        let completion = *run.as_ref().unwrap_or(&FAILED);
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.completed(&moments(ticket, started, finished, self.slipped_ns), completion, 1);
        if run.is_err() {
            self.replace(copy);
        }
        match completion.status {
            Status::Ok => self.check(copy, ticket, (started, finished)),
            Status::Error | Status::Rejected => finished,
        }
    }

    /// Runs, records and checks several operations of one workload in one go; returns the moment
    /// at which they were done with.
    fn run_batch(&mut self, copy: &mut Copy, batch: &[Ticket], started: u64) -> u64 {
        let count = self.pool.stations[copy.index].operations(batch);
        let Copy { operation, index, tag, requests, ends } = copy;
        requests.clear();
        batch.iter().for_each(|ticket| requests.extend(ticket.requests()));
        ends.clear();
        let mut slip = Slip { worker: self, tag: *tag, started };
        let run = catch_unwind(AssertUnwindSafe(|| {
            operation.run_batch(requests, &mut slip, ends);
        }));
        let finished = self.finish(*index, started);
        // A copy that panicked, or lost count, has failed in all of them.
        let sound = run.is_ok() && ends.len() == count;
        if !sound {
            ends.clear();
            ends.resize(count, FAILED);
        }
        let served = finished - started;
        let own_ns = served.saturating_sub(self.slipped_ns) / count as u64;
        let mut ends = ends.as_slice();
        for ticket in batch {
            let own;
            (own, ends) = ends.split_at(ticket.count as usize);
            let arrival = &ticket.arrival;
            let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
            for alike in own.chunk_by(PartialEq::eq) {
                let moments = moments(ticket, started, finished, served - own_ns);
                series.completed(&moments, alike[0], alike.len() as u64);
            }
        }
        if sound {
            self.check(copy, &batch[0], (started, finished))
        } else {
            self.replace(copy);
            finished
        }
    }

    /// Takes this worker's copy of a component for operations of start tag `tag`.
    fn begin(&mut self, index: usize, tag: u64) -> Box<Copy> {
        let Some(mut copy) = self.operations[index].take() else {
            unreachable!("a worker never serves a workload inside itself");
        };
        copy.tag = tag;
        copy
    }

    /// A copy that panicked, or lost count, is not used again.
    #[cold]
    fn replace(&self, copy: &mut Copy) {
        copy.operation = self.pool.stations[copy.index].component.operation();
    }

    /// The moment at which what began at `started` has finished, after a planted delay.
    fn finish(&self, index: usize, started: u64) -> u64 {
        let clock = &self.pool.clock;
        let finished = clock.now();
        let planted = self.pool.stations[index].planted_delay;
        if planted == 0.0 {
            return finished;
        }
        let own = (finished - started).saturating_sub(self.slipped_ns);
        let until = finished + (own as f64 * planted) as u64;
        while clock.now() < until {
            std::hint::spin_loop();
        }
        clock.now()
    }

    /// Checks the answers of what went from `started` to `finished`; returns the moment at which
    /// that was done.
    fn check(&mut self, copy: &mut Copy, ticket: &Ticket, (started, finished): (u64, u64)) -> u64 {
        let slipped_ns = self.slipped_ns;
        let mut slip = Slip { worker: self, tag: copy.tag, started };
        let verdict = copy.operation.verify(&mut slip);
        if verdict == Verdict::default() && self.slipped_ns == slipped_ns {
            return finished;
        }
        let ended = self.pool.clock.now();
        let spent_ns = ended - finished - (self.slipped_ns - slipped_ns);
        let Arrival { phase, workload, op, .. } = ticket.arrival;
        self.recorder.series(phase, workload, op).checked(verdict, spent_ns);
        ended
    }
}

/// What is counted of an operation that panicked.
const FAILED: Completion = Completion { status: Status::Error, units: 0 };

fn moments(ticket: &Ticket, started: u64, finished: u64, slipped_ns: u64) -> Moments {
    Moments { due: ticket.arrival.due, started, finished, slipped_ns, unqueued: ticket.unqueued }
}

/// Waits for an operation to run or for the pacer's seat, which it takes.
fn idle(pool: &Pool, own: &mut Vec<Ticket>) {
    let deputy = pool.deputise();
    wait(pool, deputy);
    if deputy {
        pool.dismiss_deputy();
    }
    if pool.seat_vacant() {
        pool.lead(own);
    } else if deputy && pool.overdue(pool.clock.now()) {
        pool.relieve(own);
    }
}

/// Looks around for a few microseconds and parks; a deputy is awake when an arrival is near, and
/// waits no longer when it is overdue.
fn wait(pool: &Pool, deputy: bool) {
    let wanted = || pool.anything_waiting() || pool.seat_vacant() || pool.control.stopped();
    let began = pool.clock.now();
    let park_ns = loop {
        if wanted() {
            return;
        }
        let now = pool.clock.now();
        if deputy && pool.overdue(now) {
            return;
        }
        let near = now.saturating_add(WAKING_NS);
        let ahead = if deputy { pool.control.horizon().saturating_sub(near) } else { PARK_NS };
        if now - began >= SPIN_NS && ahead > 0 {
            break ahead.min(PARK_NS);
        }
        std::hint::spin_loop();
    };
    pool.park(wanted, park_ns);
}
