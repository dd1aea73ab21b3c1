//! Every interleaving of a thread that records with one that takes snapshots.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::sync::{AtomicBool, Ordering, check};

#[test]
fn snapshots_only_grow_and_the_last_one_is_complete() {
    check(3, || {
        let counts = Arc::new(Counts::new());
        let reader = {
            let counts = Arc::clone(&counts);
            thread::spawn(move || [(); 2].map(|()| counts.snapshot()))
        };
        // A bucket twice, another of its block, and one of a block that had nothing yet.
        [5, 5, 6, 30].into_iter().for_each(|value_ns| counts.record(value_ns));
        let [first, second] = reader.join().expect("the reader failed");
        let last = counts.snapshot();
        let mut summed = first.clone();
        for (earlier, later) in [(&first, &second), (&second, &last)] {
            summed.merge(&later.subtract(earlier).expect("a snapshot shrank"));
        }
        assert_eq!(summed, last);
        assert_eq!(last, Histogram::from_values([5, 5, 6, 30]));
        assert_eq!(last.count(), 4);
    });
}

#[test]
fn a_snapshot_has_every_sample_that_its_reader_knows_of() {
    check(3, || {
        let shared = Arc::new((Counts::new(), AtomicBool::new(false)));
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let known = shared.1.load(Ordering::Acquire);
                (known, shared.0.snapshot().count())
            })
        };
        shared.0.record(3);
        shared.0.record(20);
        shared.1.store(true, Ordering::Release);
        shared.0.record(3);
        let (known, count) = reader.join().expect("the reader failed");
        assert!(!known || count >= 2, "{count}");
    });
}
