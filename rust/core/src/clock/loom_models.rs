//! Every interleaving of a sleeper with who wakes it, and of a reading with an anchor.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::sync::{AtomicBool, check, check_both};

#[test]
fn a_sleeper_is_woken_by_the_change_that_it_waits_for() {
    check_both(
        3,
        || (Signal::default(), AtomicBool::new(false)),
        |(signal, done)| {
            done.store(true, Ordering::Release);
            signal.raise_one();
        },
        |(signal, done)| {
            let mut seen = signal.value();
            while !done.load(Ordering::Acquire) {
                signal.sleep(seen, u64::MAX);
                seen = signal.value();
            }
        },
        |_| (),
    );
}

#[test]
fn a_raise_wakes_all_who_sleep() {
    check(3, || {
        let signal = Arc::new(Signal::default());
        let seen = signal.value();
        let sleepers = [(); 2].map(|()| {
            let signal = Arc::clone(&signal);
            thread::spawn(move || {
                while signal.value() == seen {
                    signal.sleep(seen, u64::MAX);
                }
            })
        });
        signal.raise();
        sleepers.into_iter().for_each(|one| one.join().expect("a sleeper failed"));
    });
}

#[test]
fn a_reading_is_of_the_base_before_an_anchor_or_of_the_one_after_it() {
    check(3, || {
        let mut clock = RealClock::new(Pacing::Park);
        clock.tsc = true;
        // So that the anchor has much to correct.
        clock.first.1 -= 1_000_000;
        let clock = Arc::new(clock);
        let moment = cycles() + 1_000_000_000;
        let before = clock.convert(moment);
        let reader = {
            let clock = Arc::clone(&clock);
            thread::spawn(move || clock.convert(moment))
        };
        clock.anchor();
        let found = reader.join().expect("the reader failed");
        let after = clock.convert(moment);
        assert!(before != after, "the anchor changed nothing");
        assert!(found == before || found == after, "{before} {found} {after}");
    });
}
