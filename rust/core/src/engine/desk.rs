//! A hosted workload served by several clients at once, each of one operation at a time.
//!
//! Where an operation waits for something else, a model server say, one consumer that takes batches
//! would make each wait for the slowest. Clients open operations one by one and close them in any
//! order; they take turns at the queue, and in writing down how operations ended.

use std::sync::PoisonError;

use crate::arrivals::Arrival;
use crate::operations::{Completion, Verdict};
use crate::sync::{Mutex, MutexGuard, retry};

use super::hosted::Post;
use super::station::Ticket;

/// An operation that a client has taken and not given back.
pub struct Open {
    ticket: Ticket,
    started: u64,
    /// When its answer was there, where the client said so before it checked it.
    finished: Option<u64>,
}

impl Open {
    /// The operation as the schedule asked for it.
    #[must_use]
    pub fn arrival(&self) -> &Arrival {
        &self.ticket.arrival
    }
}

/// The clients' end of a hosted workload; any thread may use it.
pub struct Desk {
    post: Post,
    /// Held by the client whose turn it is to wait for the next operation.
    turn: Mutex<()>,
    /// Held while something is written down: a recorder has one writer at a time.
    books: Mutex<()>,
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(super) fn new(post: Post) -> Self {
        Self { post, turn: Mutex::new(()), books: Mutex::new(()) }
    }

    /// Whether the engine has been stopped.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.post.stopped()
    }

    /// Takes the next operation, waiting for it at most `patience_ns` once it is this client's
    /// turn; none where none came or the engine was stopped.
    pub fn open(&self, patience_ns: u64) -> Option<Open> {
        let turn = lock(&self.turn);
        let until = self.post.now().saturating_add(patience_ns);
        while self.post.wait(until) {
            let Some(ticket) = self.post.pop() else {
                retry();
                continue;
            };
            if self.post.is_given_up(&ticket) {
                let books = lock(&self.books);
                self.post.abandon(ticket);
                drop(books);
                continue;
            }
            drop(turn);
            return Some(Open { ticket, started: self.post.now(), finished: None });
        }
        None
    }

    /// Says that an operation's answer is there: what comes until it is closed is its check.
    pub fn finish(&self, open: &mut Open) {
        open.finished = Some(self.post.now());
    }

    /// Gives an operation back, and what checking its answer found.
    pub fn close(&self, open: Open, completion: Completion, verdict: Verdict) {
        let books = lock(&self.books);
        let closed = self.post.now();
        let finished = open.finished.unwrap_or(closed);
        self.post.record(open.ticket, (open.started, finished), 1, completion);
        self.post.check(&open.ticket.arrival, verdict, closed - finished);
        self.post.release(&open.ticket.arrival, 1, closed);
        drop(books);
    }
}
