//! Every interleaving of a few pushes and pops: nothing lost, doubled, torn or out of order.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::sync::check;

/// Takes `count` values, however long they take to come.
fn take(queue: &Queue<u64>, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match queue.pop() {
            Some(value) => taken.push(value),
            None => retry(),
        }
    }
    taken
}

fn push(queue: &Queue<u64>, value: u64) {
    while queue.push(value) == Err(value) {
        retry();
    }
}

#[test]
fn two_producers_and_a_consumer_that_starts_with_nothing() {
    check(3, || {
        let queue = Arc::new(Queue::new(2));
        let producers = [10, 20].map(|value| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || assert_eq!(queue.push(value), Ok(())))
        });
        let mut taken = take(&queue, 2);
        producers.into_iter().for_each(|one| one.join().expect("a producer failed"));
        taken.sort_unstable();
        assert_eq!((taken, queue.pop(), queue.len()), (vec![10, 20], None, 0));
    });
}

#[test]
fn the_last_place_goes_to_one_of_two_producers() {
    check(3, || {
        let queue = Arc::new(Queue::new(2));
        assert_eq!(queue.push(1), Ok(()));
        let other = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push(20))
        };
        let pushed = [queue.push(10), other.join().expect("a producer failed")];
        let taken: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
        match pushed {
            [Ok(()), Err(20)] => assert_eq!(taken, [1, 10]),
            [Err(10), Ok(())] => assert_eq!(taken, [1, 20]),
            _ => panic!("{pushed:?} {taken:?}"),
        }
    });
}

#[test]
fn a_value_for_a_full_queue_is_accepted_or_given_back() {
    check(3, || {
        let queue = Arc::new(Queue::new(2));
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(3)));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push(10))
        };
        assert_eq!(queue.pop(), Some(1));
        let pushed = producer.join().expect("the producer failed");
        let taken: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
        match pushed {
            Ok(()) => assert_eq!(taken, [2, 10]),
            Err(value) => assert_eq!((value, taken), (10, vec![2])),
        }
    });
}

#[test]
fn slots_that_are_used_again_keep_the_order() {
    check(3, || {
        let queue = Arc::new(Queue::new(2));
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (1..=4).for_each(|value| push(&queue, value)))
        };
        assert_eq!(take(&queue, 4), [1, 2, 3, 4]);
        producer.join().expect("the producer failed");
        assert!(queue.is_empty());
    });
}

#[test]
fn two_consumers_never_take_the_same_value() {
    check(3, || {
        let queue = Arc::new(Queue::new(2));
        let other = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.pop())
        };
        push(&queue, 1);
        push(&queue, 2);
        let mut taken = vec![queue.pop(), other.join().expect("a consumer failed")];
        taken.extend([queue.pop(), queue.pop()]);
        let mut taken: Vec<u64> = taken.into_iter().flatten().collect();
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn a_batch_that_is_taken_beside_another_consumer_is_in_order_and_taken_once() {
    check(3, || {
        let queue = Arc::new(Queue::new(2));
        assert_eq!(queue.push_many(&[1, 2, 3]), 2);
        let other = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.pop())
        };
        let mut taken = Vec::new();
        let count = queue.pop_many(&mut taken, 2);
        let found = other.join().expect("a consumer failed");
        assert_eq!(count, taken.len());
        match found {
            Some(1) => assert_eq!(taken, [2]),
            Some(2) => assert_eq!(taken, [1]),
            found => assert_eq!((found, taken), (None, vec![1, 2])),
        }
        assert!(queue.is_empty());
    });
}

#[test]
fn two_producers_of_batches_fill_the_queue_and_each_keeps_its_order() {
    check(3, || {
        let queue = Arc::new(Queue::new(4));
        let other = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push_many(&[10, 20, 30]))
        };
        let pushed = queue.push_many(&[1, 2, 3]) + other.join().expect("a producer failed");
        let mut taken = Vec::new();
        assert_eq!((pushed, queue.pop_many(&mut taken, 4)), (4, 4));
        let (ours, theirs): (Vec<u64>, Vec<u64>) = taken.iter().partition(|value| **value < 10);
        assert_eq!(ours, [1, 2, 3][..ours.len()]);
        assert_eq!(theirs, [10, 20, 30][..theirs.len()]);
    });
}

#[test]
fn a_batch_waits_for_slots_that_are_being_emptied_and_takes_no_other() {
    check(3, || {
        let queue = Arc::new(Queue::new(2));
        assert_eq!(queue.push_many(&[1, 2]), 2);
        let producer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.push_many(&[3, 4]))
        };
        let mut taken = Vec::new();
        assert_eq!(queue.pop_many(&mut taken, 2), 2);
        let pushed = producer.join().expect("the producer failed");
        taken.extend(std::iter::from_fn(|| queue.pop()));
        assert_eq!(taken, [1, 2, 3, 4][..2 + pushed]);
    });
}

#[test]
fn a_batch_is_seen_in_order_by_consumers_of_one_and_of_many() {
    check(3, || {
        let queue = Arc::new(Queue::new(4));
        let consumer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut taken = vec![queue.pop()];
                let mut batch = Vec::new();
                queue.pop_many(&mut batch, 4);
                taken.extend(batch.into_iter().map(Some));
                taken
            })
        };
        assert_eq!(queue.push_many(&[1, 2, 3]), 3);
        let mut taken = consumer.join().expect("the consumer failed");
        taken.extend(std::iter::from_fn(|| queue.pop()).map(Some));
        assert!(taken.into_iter().flatten().eq([1, 2, 3]));
    });
}
