//! The ring between a feeder and blocks that end, die and are launched again, as threads.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::consumer::{Ending, digested, serve};
use super::*;
use crate::clock::{Pacing, RealClock};

fn ring(shape: Shape, first: u64) -> (Arc<Memory>, Feeder) {
    let memory = Arc::new(Memory::owned(shape).expect("the shape is right"));
    (Arc::clone(&memory), Feeder::new(memory, first))
}

/// One clock for all, for each takes a while to be calibrated.
fn clock() -> &'static RealClock {
    static CLOCK: OnceLock<RealClock> = OnceLock::new();
    CLOCK.get_or_init(|| RealClock::new(Pacing::Park))
}

fn payload(number: u64) -> Payload {
    std::array::from_fn(|word| number.wrapping_mul(0xD134_2543_DE82_EF95) ^ word as u64)
}

/// What all of a ring's messages have to come to: each once, in order, with its own answer.
struct Expected {
    numbers: Vec<u64>,
    states: Vec<u64>,
    sent: Vec<Vec<u64>>,
    stamp: u64,
}

impl Expected {
    fn new(groups: usize, first: u64) -> Self {
        let sent = vec![Vec::new(); groups];
        Self { numbers: vec![first; groups], states: vec![0; groups], sent, stamp: 0 }
    }

    /// Publishes message `count` of all, and says whether there was room.
    fn push(&mut self, feeder: &mut Feeder, count: u64) -> bool {
        let Some(ticket) = feeder.push(&payload(count)) else { return false };
        self.sent[ticket.group as usize].push(count);
        true
    }

    fn collect(&mut self, feeder: &mut Feeder) -> usize {
        let found = feeder.poll(clock(), |ticket, stamp, answer| {
            let group = ticket.group as usize;
            assert_eq!(ticket.number, self.numbers[group], "lost, doubled or out of order");
            self.numbers[group] = self.numbers[group].wrapping_add(1);
            self.states[group] = digested(self.states[group], &payload(self.sent[group].remove(0)));
            assert_eq!(answer.word(0), self.states[group]);
            assert!(stamp >= self.stamp);
            self.stamp = stamp;
        });
        found.expect("nothing was acknowledged that was not published")
    }
}

/// One step of a test: messages published, collected, or one group served by a launch that ends
/// after so many idle looks and dies at the acknowledgement that is named.
#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Collect,
    Serve { group: usize, dies_at: Option<u64> },
    Resume,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..9u64).prop_map(Step::Push),
        Just(Step::Collect),
        (0..3usize, proptest::option::of(0..5u64))
            .prop_map(|(group, dies_at)| Step::Serve { group, dies_at }),
        Just(Step::Resume),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_in_turn_each_message_is_answered_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..60),
        slots in prop_oneof![Just(1usize), Just(2), Just(8)],
        first in prop_oneof![Just(0u64), Just(u64::MAX), Just(u64::MAX - 7), any::<u64>()],
    ) {
        let shape = Shape { groups: 3, slots, answer_lines: 1 };
        let (memory, mut feeder) = ring(shape, first);
        let mut expected = Expected::new(3, first);
        let (mut launch, mut sent) = (0, 0);
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    let room = 3 * slots as u64 - feeder.in_flight();
                    prop_assert_eq!(expected.push(&mut feeder, sent), room > 0);
                    sent += u64::from(room > 0);
                },
                Step::Collect => { expected.collect(&mut feeder); }
                Step::Serve { group, dies_at } => {
                    launch += 1;
                    let mut left = dies_at;
                    let ending = serve(&memory, group, launch, 1, || match &mut left {
                        Some(0) => true,
                        Some(more) => { *more -= 1; false }
                        None => false,
                    });
                    prop_assert!(ending == Ending::Idle || dies_at.is_some());
                }
                Step::Resume => {
                    expected.collect(&mut feeder);
                    let before = feeder.in_flight();
                    feeder = Feeder::resumed(Arc::clone(&memory));
                    prop_assert_eq!(feeder.in_flight(), before);
                }
            }
        }
        for group in 0..3 {
            prop_assert_eq!(serve(&memory, group, launch + 1, 1, || false), Ending::Idle);
        }
        expected.collect(&mut feeder);
        prop_assert_eq!(feeder.in_flight(), 0);
        prop_assert_eq!(feeder.progress(launch + 1), Progress::Ended);
        let left: usize = expected.sent.iter().map(Vec::len).sum();
        prop_assert_eq!(left, 0);
        for group in 0..3 {
            prop_assert_eq!(feeder.state(group), expected.states[group]);
        }
    }
}

#[test]
fn threads_that_end_die_and_serve_again_lose_and_double_nothing() {
    const MESSAGES: u64 = 100_000;
    let first = u64::MAX - 1000;
    let (memory, mut feeder) = ring(Shape { groups: 2, slots: 16, answer_lines: 2 }, first);
    let mut expected = Expected::new(2, first);
    std::thread::scope(|scope| {
        for group in 0..2 {
            let memory = &memory;
            scope.spawn(move || {
                let mut acknowledged = 0u64;
                let mut dies = || {
                    acknowledged += 1;
                    acknowledged.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58 == 0
                };
                while serve(memory, group, 7, 500, &mut dies) != Ending::Stopped {}
            });
        }
        let (mut sent, mut done) = (0, 0);
        let began = Instant::now();
        while done < MESSAGES {
            while sent < MESSAGES && expected.push(&mut feeder, sent) {
                sent += 1;
            }
            let found = expected.collect(&mut feeder) as u64;
            done += found;
            if found == 0 {
                std::thread::yield_now();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{done} of {MESSAGES} came back");
        }
        feeder.stop(7);
    });
    assert_eq!(feeder.state(0), expected.states[0]);
    assert_eq!(feeder.state(1), expected.states[1]);
}

#[test]
fn a_full_ring_takes_nothing_until_an_answer_is_collected() {
    let (memory, mut feeder) = ring(Shape { groups: 2, slots: 2, answer_lines: 1 }, 5);
    let tickets: Vec<_> = (0..4).map(|count| feeder.push(&payload(count)).unwrap()).collect();
    let places: Vec<_> = tickets.iter().map(|ticket| (ticket.group, ticket.number)).collect();
    assert_eq!(places, [(0, 5), (1, 5), (0, 6), (1, 6)]);
    assert_eq!((feeder.push(&payload(4)), feeder.in_flight()), (None, 4));
    assert_eq!(serve(&memory, 1, 1, 1, || false), Ending::Idle);
    assert_eq!(feeder.push(&payload(4)), None);
    assert_eq!(feeder.poll(clock(), |_, _, _| ()), Ok(2));
    assert_eq!(feeder.push(&payload(4)), Some(Ticket { group: 1, number: 7 }));
}

#[test]
fn a_group_that_is_served_no_more_is_told_apart_from_a_launch_that_ended() {
    let (memory, mut feeder) = ring(Shape { groups: 2, slots: 2, answer_lines: 1 }, 0);
    assert_eq!(feeder.progress(1), Progress::Serving);
    assert_eq!(serve(&memory, 0, 1, 1, || false), Ending::Idle);
    assert_eq!(feeder.progress(1), Progress::Serving);
    assert!(feeder.push(&payload(0)).is_some());
    assert_eq!(feeder.progress(1), Progress::Stranding);
    feeder.stop(1);
    assert_eq!(serve(&memory, 1, 1, 1, || false), Ending::Stopped);
    assert_eq!(feeder.progress(1), Progress::Ended);
    assert_eq!((feeder.progress(2), feeder.in_flight()), (Progress::Serving, 1));
    // A launch of a later number is not stopped by what stopped an earlier one.
    assert_eq!(serve(&memory, 0, 2, 1, || false), Ending::Idle);
    assert_eq!(feeder.poll(clock(), |_, _, _| ()), Ok(1));
}

#[test]
fn what_was_never_published_cannot_be_acknowledged() {
    let (memory, mut feeder) = ring(Shape { groups: 1, slots: 4, answer_lines: 1 }, 9);
    assert!(feeder.push(&payload(0)).is_some());
    memory.tail(0)[memory::TAIL].store(11, Ordering::Release);
    let found = feeder.poll(clock(), |_, _, _| ());
    assert_eq!(found, Err(RingError::Overrun { group: 0, tail: 11, head: 10 }));
}

#[test]
fn sizes_and_memory_that_are_no_ring_are_refused_in_one_line() {
    for (groups, slots, answer_lines) in [(0, 2, 1), (1, 3, 1), (1, 0, 1), (1, 2, 0), (1025, 2, 1)]
    {
        let shape = Shape { groups, slots, answer_lines };
        let refused = Memory::owned(shape).unwrap_err();
        assert_eq!(refused, RingError::Shape { groups, slots, answer_lines });
        assert!(refused.to_string().starts_with(&format!("a ring of {groups} groups of {slots}")));
    }
    let shape = Shape { groups: 1, slots: 2, answer_lines: 1 };
    assert_eq!((shape.lines(), shape.bytes()), (7, 896));
    let mut room = vec![0u64; 256];
    let address = room.as_mut_ptr().expose_provenance().next_multiple_of(128);
    for (address, bytes) in [(address + 8, 1000), (address, 895), (0, 1000)] {
        // SAFETY: nothing is accessed, for it is refused.
        let refused = unsafe { Memory::at(address, bytes, shape) };
        let needed = 896;
        assert_eq!(refused.unwrap_err(), RingError::Memory { address, bytes, needed });
    }
    // SAFETY: of its 2048 bytes 896 lie behind the first whole line.
    let memory = Arc::new(unsafe { Memory::at(address, 896, shape) }.unwrap());
    let mut feeder = Feeder::new(Arc::clone(&memory), 0);
    assert!(feeder.push(&payload(3)).is_some());
    assert_eq!(serve(&memory, 0, 1, 1, || false), Ending::Idle);
    assert_eq!(feeder.poll(clock(), |_, _, _| ()), Ok(1));
    drop((feeder, memory));
    assert_eq!(room.iter().filter(|word| **word == payload(3)[5]).count(), 1);
}
