//! Every interleaving of a feeder with a block that serves, ends, dies and is launched again.

use std::sync::Arc;

use loom::thread;

use super::consumer::{Ending, digested, serve};
use super::*;
use crate::clock::{Pacing, RealClock};
use crate::sync::{check, retry};

/// A ring of one group whose numbers are about to wrap around.
fn ring(slots: usize) -> (Arc<Memory>, Feeder) {
    let shape = Shape { groups: 1, slots, answer_lines: 1 };
    let memory = Arc::new(Memory::owned(shape).expect("the shape is right"));
    (Arc::clone(&memory), Feeder::new(memory, u64::MAX - 1))
}

fn payload(number: u64) -> Payload {
    std::array::from_fn(|word| 10 * number + word as u64)
}

/// Publishes `count` messages as there is room, collects all of them, and asserts that each came
/// once, in order and with its own answer.
fn feed(feeder: &mut Feeder, from: u64, count: u64, mut state: u64) -> u64 {
    let clock = RealClock::new(Pacing::Park);
    let (mut sent, mut done) = (0, 0);
    while done < count {
        if sent < count && feeder.push(&payload(from + sent)).is_some() {
            sent += 1;
        }
        let found = feeder.poll(&clock, |ticket, _, answer| {
            assert_eq!(ticket.number, u64::MAX.wrapping_sub(1).wrapping_add(from + done));
            state = digested(state, &payload(from + done));
            assert_eq!(answer.word(0), state);
            done += 1;
        });
        if found == Ok(0) {
            retry();
        }
    }
    assert_eq!((feeder.in_flight(), feeder.state(0)), (0, state));
    state
}

#[test]
fn messages_arrive_whole_once_and_in_order_while_the_slots_are_used_again() {
    check(2, || {
        let (memory, mut feeder) = ring(2);
        let kernel = thread::spawn(move || serve(&memory, 0, 1, u64::MAX, || false));
        feed(&mut feeder, 0, 3, 0);
        feeder.stop(1);
        assert_eq!(kernel.join().expect("the kernel failed"), Ending::Stopped);
        assert_eq!(feeder.progress(1), Progress::Ended);
    });
}

#[test]
fn a_block_that_dies_before_it_acknowledges_is_followed_by_one_that_does_it_once() {
    check(2, || {
        let (memory, mut feeder) = ring(2);
        let kernel = thread::spawn(move || {
            let died = serve(&memory, 0, 1, u64::MAX, || true);
            (died, serve(&memory, 0, 2, u64::MAX, || false))
        });
        feed(&mut feeder, 0, 2, 0);
        feeder.stop(2);
        assert_eq!(kernel.join().expect("the kernel failed"), (Ending::Died, Ending::Stopped));
    });
}

#[test]
fn what_comes_after_a_stop_waits_for_the_next_launch() {
    check(2, || {
        let (memory, mut feeder) = ring(2);
        let served = Arc::clone(&memory);
        let kernel = thread::spawn(move || serve(&served, 0, 1, u64::MAX, || false));
        assert!(feeder.push(&payload(0)).is_some());
        feeder.stop(1);
        assert!(feeder.push(&payload(1)).is_some());
        assert_eq!(kernel.join().expect("the kernel failed"), Ending::Stopped);
        assert_eq!(feeder.progress(1), Progress::Ended);
        let mut feeder = Feeder::resumed(Arc::clone(&memory));
        let left = feeder.in_flight();
        assert!(left <= 2, "nothing more was published");
        assert_eq!(serve(&memory, 0, 2, 1, || false), Ending::Idle);
        let all = digested(digested(0, &payload(0)), &payload(1));
        assert_eq!(feeder.poll(&RealClock::new(Pacing::Park), |_, _, _| ()), Ok(left as usize));
        assert_eq!(feeder.state(0), all);
    });
}
