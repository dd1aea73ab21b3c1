//! A bounded queue without locks: Vyukov's, for any number of producers and consumers.
//!
//! Each slot carries the turn at which it may be written or read, so producers and consumers meet
//! only at the slot itself.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A value on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
pub struct Padded<T>(pub T);

struct Slot<T> {
    turn: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// A bounded queue for any number of producers and consumers; plain values only.
pub struct Queue<T: Copy> {
    slots: Box<[Slot<T>]>,
    mask: usize,
    head: Padded<AtomicUsize>,
    tail: Padded<AtomicUsize>,
}

// SAFETY: a slot's value is written by the one thread that won its turn and read by the one that
// won the next; the turn's release store and acquire load order the two.
unsafe impl<T: Copy + Send> Sync for Queue<T> {}
// SAFETY: the queue owns its values, which may be sent.
unsafe impl<T: Copy + Send> Send for Queue<T> {}

impl<T: Copy> Queue<T> {
    /// Room for at least `capacity` values, rounded up to a power of two.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let slots = capacity.max(2).next_power_of_two();
        Self {
            slots: (0..slots)
                .map(|turn| Slot {
                    turn: AtomicUsize::new(turn),
                    value: UnsafeCell::new(MaybeUninit::uninit()),
                })
                .collect(),
            mask: slots - 1,
            head: Padded::default(),
            tail: Padded::default(),
        }
    }

    /// Appends, or gives the value back when the queue is full.
    ///
    /// # Errors
    /// The value, when there is no room.
    pub fn push(&self, value: T) -> Result<(), T> {
        let mut tail = self.tail.0.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[tail & self.mask];
            let lead = slot.turn.load(Ordering::Acquire).wrapping_sub(tail) as isize;
            if lead < 0 {
                return Err(value);
            }
            if lead > 0 {
                tail = self.tail.0.load(Ordering::Relaxed);
                continue;
            }
            // Sequentially consistent, as the reading in `len` is: whoever queues and then finds
            // nobody asleep has been seen by whoever goes to sleep after finding nothing queued.
            match self.tail.0.compare_exchange_weak(
                tail,
                tail.wrapping_add(1),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    // SAFETY: winning the exchange at this turn makes this thread the only one
                    // to touch the slot until the store below publishes it.
                    unsafe { (*slot.value.get()).write(value) };
                    slot.turn.store(tail.wrapping_add(1), Ordering::Release);
                    return Ok(());
                }
                Err(current) => tail = current,
            }
        }
    }

    /// Takes the oldest value.
    pub fn pop(&self) -> Option<T> {
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[head & self.mask];
            let lead =
                slot.turn.load(Ordering::Acquire).wrapping_sub(head.wrapping_add(1)) as isize;
            if lead < 0 {
                return None;
            }
            if lead > 0 {
                head = self.head.0.load(Ordering::Relaxed);
                continue;
            }
            match self.head.0.compare_exchange_weak(
                head,
                head.wrapping_add(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    // SAFETY: winning the exchange makes this thread the slot's only reader, and
                    // the acquire load above saw the producer's release of a written value.
                    let value = unsafe { (*slot.value.get()).assume_init_read() };
                    slot.turn.store(head.wrapping_add(self.mask + 1), Ordering::Release);
                    return Some(value);
                }
                Err(current) => head = current,
            }
        }
    }

    /// Values inside; exact when nobody pushes or pops meanwhile.
    #[must_use]
    pub fn len(&self) -> usize {
        let head = self.head.0.load(Ordering::Relaxed);
        self.tail.0.load(Ordering::SeqCst).wrapping_sub(head).min(self.mask + 1)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_the_value_back_and_keeps_order() {
        let queue = Queue::new(4);
        assert!((0..4).all(|value| queue.push(value).is_ok()));
        assert_eq!(queue.push(9), Err(9));
        assert_eq!(queue.len(), 4);
        assert_eq!(
            (0..5).map(|_| queue.pop()).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(2), Some(3), None]
        );
    }

    #[test]
    fn many_producers_and_consumers_lose_and_double_nothing() {
        const PER_THREAD: u64 = 20_000;
        let queue = Queue::new(64);
        let left = AtomicUsize::new(3 * PER_THREAD as usize);
        let mut taken: Vec<u64> = std::thread::scope(|scope| {
            for producer in 0..3 {
                let queue = &queue;
                scope.spawn(move || {
                    for value in 0..PER_THREAD {
                        while queue.push(producer * PER_THREAD + value).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let consumers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        while left.load(Ordering::Relaxed) > 0 {
                            match queue.pop() {
                                Some(value) => {
                                    mine.push(value);
                                    left.fetch_sub(1, Ordering::Relaxed);
                                }
                                None => std::thread::yield_now(),
                            }
                        }
                        mine
                    })
                })
                .collect();
            consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
        });
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..3 * PER_THREAD));
    }
}
