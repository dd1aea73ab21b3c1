//! Where the chunks of one stream come together again: hands out sequence numbers under a bound and
//! releases arrivals in order.
//!
//! The workers compress chunks of one stream side by side, so chunks arrive out of order; the sink
//! keeps a window of `bound` numbers. A number is handed out only while fewer than `bound` are on
//! their way, which is the stream's back-pressure: operations that are turned away consume no
//! number, so the numbers stay contiguous.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// What an arrival turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    InWindow,
    /// The number had arrived before.
    Doubled,
    /// The number was never handed out.
    Unknown,
}

pub struct Sink {
    /// Next number to hand out.
    next: AtomicU64,
    /// All numbers below have been released, in order.
    head: AtomicU64,
    /// Slot n % bound holds n + 1 once number n has arrived.
    window: Box<[AtomicU64]>,
    depth_max: AtomicU64,
}

impl Sink {
    /// A stream with at most `bound` (> 0) chunks on their way.
    pub fn new(bound: usize) -> Self {
        Self {
            next: AtomicU64::new(0),
            head: AtomicU64::new(0),
            window: (0..bound).map(|_| AtomicU64::new(0)).collect(),
            depth_max: AtomicU64::new(0),
        }
    }

    pub fn bound(&self) -> u64 {
        self.window.len() as u64
    }

    /// Hands out the next number, or nothing while `bound` chunks are on their way.
    pub fn admit(&self) -> Option<u64> {
        let mut number = self.next.load(SeqCst);
        loop {
            let depth = number + 1 - self.head.load(SeqCst).min(number);
            if depth > self.bound() {
                return None;
            }
            match self.next.compare_exchange_weak(number, number + 1, SeqCst, SeqCst) {
                Ok(_) => {
                    self.depth_max.fetch_max(depth, SeqCst);
                    return Some(number);
                }
                Err(seen) => number = seen,
            }
        }
    }

    /// Takes a chunk (or, for a lost one, its place) and releases all that are now in order.
    pub fn arrive(&self, number: u64) -> Arrival {
        if number >= self.next.load(SeqCst) {
            return Arrival::Unknown;
        }
        if number < self.head.load(SeqCst) {
            return Arrival::Doubled;
        }
        let waiting = (number + 1).saturating_sub(self.bound());
        if self.slot(number).compare_exchange(waiting, number + 1, SeqCst, SeqCst).is_err() {
            return Arrival::Doubled;
        }
        self.release();
        Arrival::InWindow
    }

    /// Chunks handed out, released, and the most that were ever on their way at once.
    pub fn totals(&self) -> (u64, u64, u64) {
        (self.next.load(SeqCst), self.head.load(SeqCst), self.depth_max.load(SeqCst))
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        &self.window[(number % self.bound()) as usize]
    }

    /// Sequentially consistent on purpose: an arrival is written before `head` is read, and `head`
    /// before the next slot is read, so one of two racing workers always sees the other's.
    fn release(&self) {
        let mut head = self.head.load(SeqCst);
        while self.slot(head).load(SeqCst) == head + 1 {
            match self.head.compare_exchange(head, head + 1, SeqCst, SeqCst) {
                Ok(_) => head += 1,
                Err(seen) => head = seen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_in_any_order_are_released_in_order() {
        let sink = Sink::new(4);
        let numbers: Vec<u64> = (0..4).filter_map(|_| sink.admit()).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        for (number, released) in [(2, 0), (0, 1), (3, 1), (1, 4)] {
            assert_eq!(sink.arrive(number), Arrival::InWindow);
            assert_eq!(sink.totals().1, released);
        }
    }

    #[test]
    fn no_more_than_the_bound_are_on_their_way() {
        let sink = Sink::new(3);
        assert_eq!((0..5).filter_map(|_| sink.admit()).count(), 3);
        sink.arrive(1);
        assert_eq!(sink.admit(), None, "the oldest is still missing");
        sink.arrive(0);
        assert_eq!(sink.admit(), Some(3), "turned-away operations consumed no number");
        assert_eq!(sink.totals().2, 3);
    }

    #[test]
    fn a_doubled_chunk_is_seen_before_and_after_its_release() {
        let sink = Sink::new(2);
        sink.admit();
        sink.admit();
        assert_eq!(sink.arrive(1), Arrival::InWindow);
        assert_eq!(sink.arrive(1), Arrival::Doubled, "still waiting for 0");
        assert_eq!(sink.arrive(0), Arrival::InWindow);
        assert_eq!(sink.arrive(0), Arrival::Doubled, "already released");
        assert_eq!(sink.arrive(9), Arrival::Unknown);
    }

    #[test]
    fn racing_workers_leave_nothing_behind() {
        let sink = Sink::new(64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut delivered = 0;
                    while delivered < 20_000 {
                        if let Some(number) = sink.admit() {
                            assert_eq!(sink.arrive(number), Arrival::InWindow);
                            delivered += 1;
                        } else {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        let (handed_out, released, depth_max) = sink.totals();
        assert_eq!((handed_out, released), (80_000, 80_000));
        assert!(depth_max <= sink.bound());
    }
}
