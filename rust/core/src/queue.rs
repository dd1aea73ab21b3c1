//! A bounded queue without locks: Vyukov's, for any number of producers and consumers.
//!
//! Each slot carries the turn at which it may be written or read, so producers and consumers meet
//! only at the slot itself.

use std::mem::MaybeUninit;

use crate::sync::{AtomicUsize, Ordering, UnsafeCell, retry, spin_loop, yield_now};

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
        let mut waits = 0;
        loop {
            let slot = &self.slots[tail & self.mask];
            let lead = slot.turn.load(Ordering::Acquire).wrapping_sub(tail) as isize;
            if lead < 0 {
                if self.is_full(tail) {
                    return Err(value);
                }
                pause(&mut waits);
            }
            if lead != 0 {
                retry();
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
                    slot.value.with_mut(|cell| unsafe { (*cell).write(value) });
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
                retry();
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
                    let value = slot.value.with(|cell| unsafe { (*cell).assume_init_read() });
                    slot.turn.store(head.wrapping_add(self.mask + 1), Ordering::Release);
                    return Some(value);
                }
                Err(current) => head = current,
            }
        }
    }

    /// Takes up to `most` of the oldest values at once, appends them to `into` and says how many.
    pub fn pop_many(&self, into: &mut Vec<T>, most: usize) -> usize {
        let mut head = self.head.0.load(Ordering::Relaxed);
        loop {
            let ready = |ahead: &usize| {
                let turn = head.wrapping_add(*ahead);
                let slot = &self.slots[turn & self.mask];
                slot.turn.load(Ordering::Acquire) == turn.wrapping_add(1)
            };
            let count = (0..most.min(self.mask + 1)).take_while(ready).count();
            let next = head.wrapping_add(count);
            match self.head.0.compare_exchange_weak(
                head,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    for turn in (0..count).map(|ahead| head.wrapping_add(ahead)) {
                        let slot = &self.slots[turn & self.mask];
                        // SAFETY: winning the exchange makes this thread the only reader of these
                        // slots, and the acquire loads above saw the release of written values.
                        into.push(slot.value.with(|cell| unsafe { (*cell).assume_init_read() }));
                        slot.turn.store(turn.wrapping_add(self.mask + 1), Ordering::Release);
                    }
                    return count;
                }
                Err(current) => head = current,
            }
        }
    }

    /// Appends as many of `values` as there is room for; returns how many.
    pub fn push_many(&self, values: &[T]) -> usize {
        let mut pushed = 0;
        let mut tail = self.tail.0.load(Ordering::Relaxed);
        let mut waits = 0;
        while pushed < values.len() {
            let free = |ahead: &usize| {
                let turn = tail.wrapping_add(*ahead);
                self.slots[turn & self.mask].turn.load(Ordering::Acquire) == turn
            };
            let left = &values[pushed..];
            let count = (0..left.len().min(self.mask + 1)).take_while(free).count();
            if count == 0 {
                if self.is_full(tail) {
                    break;
                }
                pause(&mut waits);
                tail = self.tail.0.load(Ordering::Relaxed);
                continue;
            }
            let next = tail.wrapping_add(count);
            // Sequentially consistent, as in `push`.
            match self.tail.0.compare_exchange_weak(tail, next, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => {
                    for (ahead, value) in left[..count].iter().enumerate() {
                        let turn = tail.wrapping_add(ahead);
                        let slot = &self.slots[turn & self.mask];
                        // SAFETY: winning the exchange makes this thread the only one to touch
                        // these slots until the stores below publish them.
                        slot.value.with_mut(|cell| unsafe { (*cell).write(*value) });
                        slot.turn.store(turn.wrapping_add(1), Ordering::Release);
                    }
                    pushed += count;
                    tail = next;
                }
                Err(current) => tail = current,
            }
        }
        pushed
    }

    /// Whether nothing has been taken out since the slot of `tail` was filled. Else its consumer
    /// has been interrupted between taking the value and leaving the slot.
    fn is_full(&self, tail: usize) -> bool {
        // A `tail` that is out of date may lie behind; then the caller reads it again.
        let taken = self.head.0.load(Ordering::Relaxed);
        tail.wrapping_sub(taken) as isize > self.mask as isize
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

/// Waits a moment for a consumer to leave a slot that it has emptied: briefly where it runs, and
/// for its turn where the machine has taken the processor from it.
#[cold]
fn pause(waits: &mut u32) {
    *waits += 1;
    if *waits < 64 {
        spin_loop();
    } else {
        yield_now();
    }
}

#[cfg(all(test, loom))]
mod loom_models;

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
    fn several_at_once_keep_order_and_stop_where_the_queue_is_full_or_empty() {
        let queue = Queue::new(8);
        let mut taken = Vec::new();
        for round in 0..5 {
            let values: Vec<u32> = (round * 10..round * 10 + 10).collect();
            assert_eq!(queue.push_many(&values), 8);
            assert_eq!((queue.pop_many(&mut taken, 3), queue.push_many(&values[8..])), (3, 2));
            assert_eq!((queue.pop_many(&mut taken, 100), queue.pop_many(&mut taken, 1)), (7, 0));
        }
        assert!(taken.into_iter().eq(0..50));
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
                    let first = producer * PER_THREAD;
                    let mut values: Vec<u64> = (first..first + PER_THREAD).collect();
                    // One producer queues one by one, the others several at once.
                    let at_once = if producer == 0 { 1 } else { 7 };
                    while !values.is_empty() {
                        let queued = match at_once {
                            1 => usize::from(queue.push(values[0]).is_ok()),
                            _ => queue.push_many(&values[..at_once.min(values.len())]),
                        };
                        values.drain(..queued);
                        if queued == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let consumers: Vec<_> = [1, 5]
                .map(|at_once| {
                    let (queue, left) = (&queue, &left);
                    scope.spawn(move || {
                        let mut mine = Vec::new();
                        while left.load(Ordering::Relaxed) > 0 {
                            let taken = match at_once {
                                1 => queue.pop().map_or(0, |value| {
                                    mine.push(value);
                                    1
                                }),
                                _ => queue.pop_many(&mut mine, at_once),
                            };
                            left.fetch_sub(taken, Ordering::Relaxed);
                            if taken == 0 {
                                std::thread::yield_now();
                            }
                        }
                        mine
                    })
                })
                .into();
            consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect()
        });
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..3 * PER_THREAD));
    }
}
