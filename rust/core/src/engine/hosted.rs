//! Workloads whose operations run outside the pool: a Python callable, a device's feeder.
//!
//! The workload's bounded queue is the ring: pacer and closed loop put operations in, one consumer
//! takes them out in batches and gives them back with how they ended. Every operation of a batch
//! keeps its own intended start.

use std::sync::Arc;

use crate::arrivals::Arrival;
use crate::clock::Clock;
use crate::operations::{
    Arrays, BuildError, Completion, Component, Operation, Pause, Request, Status, Verdict,
};
use crate::sync::{Ordering, retry};

use super::desk::Desk;
use super::pool::Pool;
use super::recorder::{Moments, Recorder};
use super::station::{Station, Ticket};

/// How long an idle consumer looks around before it sleeps; in a model no time passes.
const SPIN_NS: u64 = if cfg!(loom) { 0 } else { 20_000 };
/// A sleeping consumer looks around at least this often.
const PARK_NS: u64 = 10_000_000;

/// The op types of a hosted workload, by name; nothing of it runs in the pool.
#[derive(Clone, Copy)]
pub struct Outside {
    ops: &'static [&'static str],
}

impl Outside {
    /// The names live as long as the process: a handful of bytes for each workload hosted.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        let names: Vec<&'static str> =
            names.into_iter().map(|name| &*Box::leak(name.into_boxed_str())).collect();
        Self { ops: Box::leak(names.into_boxed_slice()) }
    }
}

impl Component for Outside {
    fn ops(&self) -> &'static [&'static str] {
        self.ops
    }

    fn operation(&self) -> Box<dyn Operation> {
        Box::new(*self)
    }

    fn resident_bytes(&self, _: usize) -> u64 {
        0
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({ "ops": self.ops })
    }

    fn evaluate(&self, _: &str, _: &Arrays) -> Result<Arrays, BuildError> {
        Ok(Arrays::new())
    }
}

impl Operation for Outside {
    fn run(&mut self, _: Request, _: &mut dyn Pause) -> Completion {
        Completion { status: Status::Error, units: 0 }
    }

    fn verify(&mut self, _: &mut dyn Pause) -> Verdict {
        Verdict::default()
    }
}

/// When a batch is closed, whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    pub max: usize,
    /// Time since the intended start of the batch's first operation.
    pub linger_ns: u64,
}

/// A hosted workload as its consumers see it.
pub(super) struct Post {
    pool: Arc<Pool>,
    recorder: Arc<Recorder>,
    index: usize,
}

impl Post {
    pub fn stopped(&self) -> bool {
        self.pool.control.stopped()
    }

    pub fn now(&self) -> u64 {
        self.pool.clock.now()
    }

    fn station(&self) -> &Station {
        &self.pool.stations[self.index]
    }

    /// The next operation in the queue, whether given up or not.
    pub fn pop(&self) -> Option<Ticket> {
        self.station().pop()
    }

    pub fn is_given_up(&self, ticket: &Ticket) -> bool {
        ticket.arrival.phase < self.pool.abandon_below.load(Ordering::Acquire)
    }

    /// Writes down an operation that was given up before it was begun.
    pub fn abandon(&self, Ticket { arrival, .. }: Ticket) {
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.abandoned(arrival.due, self.now(), 1);
        self.station().in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Writes down one operation; `count` of them shared the time from `started` to `finished`.
    pub fn record(
        &self,
        Ticket { arrival, unqueued, .. }: Ticket,
        (started, finished): (u64, u64),
        count: u64,
        completion: Completion,
    ) {
        let served = finished - started;
        let moments = Moments {
            due: arrival.due,
            started,
            finished,
            slipped_ns: served - served / count,
            unqueued,
        };
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.completed(&moments, completion, 1);
    }

    /// Writes down what checking an operation's answer found, and how long it took.
    pub fn check(&self, arrival: &Arrival, verdict: Verdict, verify_ns: u64) {
        let series = self.recorder.series(arrival.phase, arrival.workload, arrival.op);
        series.checked(verdict, verify_ns);
    }

    /// Takes `count` operations, of which `arrival` is one, out of flight at `now` and keeps a
    /// closed loop going.
    pub fn release(&self, arrival: &Arrival, count: u64, now: u64) {
        let station = self.station();
        station.in_flight.fetch_sub(count, Ordering::AcqRel);
        let closed = station.closed_phase.load(Ordering::Acquire) == arrival.phase + 1;
        let target = station.closed_target.load(Ordering::Acquire);
        for _ in 0..count {
            if closed && station.in_flight() < target {
                self.pool.ask_again(arrival, &self.recorder, now);
            }
        }
    }

    /// Waits for something in the queue; false where `until` or the end has come first.
    pub fn wait(&self, until: u64) -> bool {
        let (station, began) = (self.station(), self.now());
        loop {
            let now = self.now();
            if station.waits() {
                return true;
            }
            if now >= until || self.stopped() {
                return false;
            }
            if now - began < SPIN_NS {
                std::hint::spin_loop();
                continue;
            }
            station.listen(|| self.stopped(), PARK_NS.min(until - now));
            retry();
        }
    }
}

/// The consumer's end of a hosted workload.
pub struct Drain {
    post: Post,
    batch: Vec<Ticket>,
    /// Operations of the batch that have been given back.
    done: usize,
    started: u64,
}

impl Drain {
    pub(super) fn new(pool: Arc<Pool>, recorder: Arc<Recorder>, index: usize) -> Self {
        let post = Post { pool, recorder, index };
        Self { post, batch: Vec::new(), done: 0, started: 0 }
    }

    /// The same workload for several clients at once, each of one operation at a time.
    ///
    /// # Panics
    /// A batch has not been given back.
    #[must_use]
    pub fn into_desk(self) -> Desk {
        assert_eq!(self.done, self.batch.len(), "a batch is given back before a desk is opened");
        Desk::new(self.post)
    }

    /// Whether the engine has been stopped.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.post.stopped()
    }

    /// Takes the next batch, waiting at most `patience_ns` for its first operation; returns how
    /// many operations it has, 0 where none came or the engine was stopped.
    ///
    /// # Panics
    /// The batch before has not been given back.
    pub fn take(&mut self, batching: Batching, patience_ns: u64) -> usize {
        assert_eq!(self.done, self.batch.len(), "a batch is given back before the next is taken");
        self.batch.clear();
        self.done = 0;
        let until = self.post.now().saturating_add(patience_ns);
        while self.batch.is_empty() {
            self.fill(1);
            if self.batch.is_empty() && !self.post.wait(until) {
                return 0;
            }
        }
        let close = self.batch[0].arrival.due.saturating_add(batching.linger_ns);
        loop {
            self.fill(batching.max);
            if self.batch.len() >= batching.max || !self.post.wait(close) {
                break;
            }
        }
        self.started = self.post.now();
        self.batch.len()
    }

    /// Operations of the current batch that have not been given back.
    #[must_use]
    pub fn left(&self) -> usize {
        self.batch.len() - self.done
    }

    /// The operations of the current batch.
    pub fn arrivals(&self) -> impl Iterator<Item = &Arrival> {
        self.batch.iter().map(|ticket| &ticket.arrival)
    }

    /// Gives the next operation of the batch back; it began when the one before had ended.
    ///
    /// # Panics
    /// The whole batch has been given back.
    pub fn complete_one(&mut self, completion: Completion) {
        let finished = self.post.now();
        self.post.record(self.batch[self.done], (self.started, finished), 1, completion);
        self.done += 1;
        self.started = finished;
        self.release(1, finished);
    }

    /// Gives what is left of the batch back, all at once; `completion` says how each ended.
    pub fn complete(&mut self, completion: impl Fn(usize) -> Completion) {
        let finished = self.post.now();
        let left = self.done..self.batch.len();
        let count = left.len() as u64;
        for position in left {
            let ended = completion(position);
            self.post.record(self.batch[position], (self.started, finished), count, ended);
        }
        self.done = self.batch.len();
        self.release(count, finished);
    }

    fn release(&self, count: u64, now: u64) {
        if let Some(Ticket { arrival, .. }) = self.batch.last() {
            self.post.release(arrival, count, now);
        }
    }

    /// Moves what is queued into the batch, up to `max`; what has been given up is counted so.
    fn fill(&mut self, max: usize) {
        while self.batch.len() < max {
            let Some(ticket) = self.post.pop() else { return };
            if self.post.is_given_up(&ticket) {
                self.post.abandon(ticket);
            } else {
                self.batch.push(ticket);
            }
        }
    }
}
