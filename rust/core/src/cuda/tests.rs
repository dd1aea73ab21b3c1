//! The binding under the fake driver: what streams, graphs and words do.

pub(crate) mod fake;
mod faults;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::{Context, Driver, DriverError, Launch, Stream};
use fake::Fake;

const COUNT: usize = 100;
const MESSAGES: u64 = 100_000;
/// Messages whose commands are enqueued ahead of the word that lets them go.
const AHEAD: u64 = 64;

/// Words that streams and threads of the host share.
struct Memory(Box<[AtomicU64]>);

impl Memory {
    fn of(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    fn address(&self, index: usize) -> u64 {
        self.0[index].as_ptr() as u64
    }

    fn get(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Acquire)
    }

    fn set(&self, index: usize, value: u64) {
        self.0[index].store(value, Ordering::Release);
    }

    fn values(&self) -> Vec<u64> {
        (0..self.0.len()).map(|index| self.get(index)).collect()
    }
}

fn context(fake: &Fake) -> Arc<Context> {
    let context = Driver::open(&fake.path).unwrap().context(0).unwrap();
    context.enter().unwrap();
    context
}

/// `add` over all words of a memory.
fn adding(fake: &Fake, memory: &Memory, step: u32) -> Launch {
    let function = fake.function("add", &[8, 8, 4]);
    let count = memory.0.len() as u64;
    let (words, count, step) =
        (memory.address(0).to_ne_bytes(), count.to_ne_bytes(), step.to_ne_bytes());
    Launch::new(function, (memory.0.len() as u32).div_ceil(32), 32, 0, &[&words, &count, &step])
}

fn failed_with(result: Result<(), DriverError>, code: i32) -> bool {
    matches!(result, Err(DriverError::Call { code: found, .. }) if found == code)
}

#[test]
fn a_launch_takes_its_arguments_as_they_were() {
    let Some(fake) = Fake::new() else { return };
    let (context, memory) = (context(&fake), Memory::of(COUNT));
    let stream = context.stream(0).unwrap();
    for step in 1..=3 {
        stream.launch(&adding(&fake, &memory, step)).unwrap();
    }
    stream.synchronize().unwrap();
    let expected: Vec<u64> = (1..=COUNT as u64).map(|index| 6 * index).collect();
    assert_eq!(memory.values(), expected);
}

#[test]
fn arguments_of_any_size_begin_at_whole_words() {
    let launch = Launch::new(1, 2, 3, 4, &[&[1], &[2; 12], &[], &[3; 8]]);
    let clone = launch.clone();
    drop(launch);
    let firsts: Vec<usize> =
        clone.places.windows(2).map(|pair| pair[1] as usize - pair[0] as usize).collect();
    assert_eq!(firsts, [8, 16, 0]);
    // SAFETY: the place is one of eight bytes that the launch still owns.
    assert_eq!(unsafe { clone.places[3].cast::<u64>().read() }, u64::from_ne_bytes([3; 8]));
    assert!(Launch::new(1, 1, 1, 0, &[]).places.is_empty());
}

#[test]
fn fills_and_copies_are_done_in_their_order() {
    let Some(fake) = Fake::new() else { return };
    let (context, memory) = (context(&fake), Memory::of(3));
    let stream = context.stream(0).unwrap();
    stream.fill(memory.address(0), 0x11, 8).unwrap();
    stream.copy(memory.address(1), memory.address(0), 8).unwrap();
    stream.fill(memory.address(0), 0x22, 4).unwrap();
    stream.copy(memory.address(2), memory.address(0), 8).unwrap();
    stream.synchronize().unwrap();
    let half = u64::from_ne_bytes([0x22, 0x22, 0x22, 0x22, 0x11, 0x11, 0x11, 0x11]);
    assert_eq!(memory.values(), [half, 0x1111_1111_1111_1111, half]);
}

/// One command of a sequence that is enqueued alone and as part of a graph.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u32),
    Fill(u8, usize),
    Copy(usize, usize),
    Write(usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u32..100).prop_map(Step::Add),
        (any::<u8>(), 1..COUNT).prop_map(|(byte, words)| Step::Fill(byte, words)),
        (0..COUNT / 2, COUNT / 2..COUNT).prop_map(|(to, from)| Step::Copy(to, from)),
        (0..COUNT, any::<u64>()).prop_map(|(word, value)| Step::Write(word, value)),
    ];
    proptest::collection::vec(step, 0..20)
}

fn enqueue(
    stream: &Stream,
    fake: &Fake,
    memory: &Memory,
    steps: &[Step],
) -> Result<(), DriverError> {
    for step in steps {
        match *step {
            Step::Add(step) => stream.launch(&adding(fake, memory, step))?,
            Step::Fill(byte, words) => stream.fill(memory.address(0), byte, words * 8)?,
            Step::Copy(to, from) => stream.copy(memory.address(to), memory.address(from), 8)?,
            Step::Write(word, value) => stream.write_word(memory.address(word), value)?,
        }
    }
    Ok(())
}

#[test]
fn a_graph_does_what_its_commands_do_one_by_one() {
    let Some(fake) = Fake::new() else { return };
    let context = context(&fake);
    let stream = context.stream(0).unwrap();
    proptest!(|(steps in steps(), times in 1usize..4)| {
        let (alone, together) = (Memory::of(COUNT), Memory::of(COUNT));
        let graph = stream.capture(|stream| enqueue(stream, &fake, &together, &steps)).unwrap();
        stream.synchronize().unwrap();
        prop_assert_eq!(together.values(), vec![0; COUNT], "capturing runs nothing");
        for _ in 0..times {
            stream.graph(&graph).unwrap();
            enqueue(&stream, &fake, &alone, &steps).unwrap();
        }
        drop(graph);
        stream.synchronize().unwrap();
        prop_assert_eq!(together.values(), alone.values());
    });
    assert_eq!((fake.live("graphs"), fake.live("executables")), (0, 0));
}

#[test]
fn a_capture_that_ends_badly_leaves_a_stream_that_works() {
    let Some(fake) = Fake::new() else { return };
    let (context, memory) = (context(&fake), Memory::of(1));
    let stream = context.stream(0).unwrap();
    let fill = |stream: &Stream| stream.fill(memory.address(0), 1, 8);
    let planted = DriverError::Symbol { name: "ours".to_owned() };
    let ended = stream.capture(|stream| fill(stream).and(Err(planted.clone())));
    assert_eq!(ended.err(), Some(planted), "what the commands returned");
    let asked = stream.capture(|stream| fill(stream).and(stream.is_idle().map(drop)));
    assert!(failed_with(asked.map(drop), 900), "a stream is not asked while it is captured");
    let asked = stream.capture(|stream| {
        assert!(failed_with(stream.synchronize(), 900));
        Ok(())
    });
    assert!(failed_with(asked.map(drop), 901), "a spoilt capture makes no graph");
    let twice = stream.capture(|stream| stream.capture(fill).map(drop));
    assert!(failed_with(twice.map(drop), 401), "no capture within a capture");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        stream.capture(|_| -> Result<(), DriverError> { std::panic::panic_any("planned") })
    }));
    assert!(panicked.is_err());
    assert_eq!((fake.live("graphs"), fake.live("executables")), (0, 0));
    stream.synchronize().unwrap();
    assert_eq!(memory.get(0), 0, "nothing of them was run");
    fill(&stream).unwrap();
    stream.synchronize().unwrap();
    assert_eq!(memory.get(0), 0x0101_0101_0101_0101);
}

#[test]
fn a_stream_is_idle_once_the_word_that_it_waits_for_is_there() {
    let Some(fake) = Fake::new() else { return };
    let (context, memory) = (context(&fake), Memory::of(2));
    let stream = context.stream(0).unwrap();
    assert!(stream.is_idle().unwrap());
    stream.wait_word(memory.address(0), 5).unwrap();
    stream.write_word(memory.address(1), 9).unwrap();
    // 4 less than 0 is before 5, as signed numbers go round.
    for early in [1, 4, u64::MAX - 3] {
        memory.set(0, early);
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(!stream.is_idle().unwrap(), "{early}");
        assert_eq!(memory.get(1), 0);
    }
    memory.set(0, 6);
    stream.synchronize().unwrap();
    assert!(stream.is_idle().unwrap());
    assert_eq!(memory.get(1), 9);
}

/// One thread arms the stream, the other publishes in bursts and looks at what comes back.
#[test]
fn words_order_a_hundred_thousand_messages_between_two_threads() {
    let Some(fake) = Fake::new() else { return };
    let slots = AHEAD as usize;
    let context = context(&fake);
    let (sent, received) = (Memory::of(slots), Memory::of(slots));
    // What is published, what is answered, and what may be armed.
    let words = Memory::of(3);
    let stream = context.stream(0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            context.enter().unwrap();
            for message in 1..=MESSAGES {
                while words.get(2) + AHEAD < message {
                    std::thread::yield_now();
                }
                let slot = message as usize % slots;
                stream.wait_word(words.address(0), message).unwrap();
                stream.copy(received.address(slot), sent.address(slot), 8).unwrap();
                stream.write_word(words.address(1), message).unwrap();
            }
        });
        let mut message = 0;
        while message < MESSAGES {
            assert_eq!(words.get(1), message, "what was not published was answered");
            let last = (message + 1 + message * 7 % AHEAD).min(MESSAGES);
            for each in message + 1..=last {
                sent.set(each as usize % slots, each * each);
                words.set(0, each);
            }
            while words.get(1) < last {
                std::thread::yield_now();
            }
            for each in message + 1..=last {
                assert_eq!(received.get(each as usize % slots), each * each, "message {each}");
            }
            message = last;
            words.set(2, message);
        }
    });
    stream.synchronize().unwrap();
}

#[test]
fn a_stream_that_is_dropped_ends_its_work_and_keeps_nobody_waiting() {
    let Some(fake) = Fake::new() else { return };
    let (context, memory) = (context(&fake), Memory::of(2));
    let stream = context.stream(0).unwrap();
    stream.wait_word(memory.address(0), 1).unwrap();
    stream.write_word(memory.address(1), 1).unwrap();
    drop(stream);
    assert_eq!((fake.live("streams"), fake.live("workers"), memory.get(1)), (0, 1, 0));
    memory.set(0, 1);
    fake.settle();
    assert_eq!(memory.get(1), 1);
}

#[test]
fn two_devices_have_contexts_of_their_own() {
    let Some(fake) = Fake::new() else { return };
    let driver = Driver::open(&fake.path).unwrap();
    let (first, second) = (driver.context(0).unwrap(), driver.context(1).unwrap());
    let stream = first.stream(0).unwrap();
    second.enter().unwrap();
    assert!(failed_with(stream.synchronize(), 201), "the thread is in the other context");
    first.enter().unwrap();
    stream.synchronize().unwrap();
    assert!(failed_with(driver.context(2).map(drop), 101));
    assert_eq!(fake.live("contexts"), 2);
    drop((first, second));
    assert_eq!(fake.live("contexts"), 1, "a stream keeps its context");
    drop(stream);
    assert_eq!(fake.live("contexts"), 0);
}
