//! What the host's side of a submission costs, in nanoseconds: a thread stands for the device.
//!
//! Usage: `submission push|visible|messages` prints one line of JSON. `push`: one call, as the
//! feeder's thread sees it; `visible`: from before the call until another processor has acquired
//! the sequence word; `messages`: messages per second there and back, with every slot in use.
//! The reading of the clock is part of both times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swarmbench_core::clock::{Clock, Pacing, RealClock};
use swarmbench_core::cuda::ring::{Feeder, LINE_WORDS, Memory, PAYLOAD_WORDS, Shape};

const SHAPE: Shape = Shape { groups: 1, slots: 64, answer_lines: 1 };
const SAMPLES: usize = 100_000;
/// Between two samples, so that the slot's line is the other processor's again.
const GAP_NS: u64 = 2_000;
const STRETCH: Duration = Duration::from_millis(500);
/// Words of the ring's lines before the first slot: the stop word's, the host's, the device's.
const TAIL: usize = 2 * LINE_WORDS;
const SLOTS: usize = 3 * LINE_WORDS;

/// Acknowledges each message with the moment at which it saw it.
fn device(words: &[AtomicU64], clock: &RealClock, is_over: &AtomicBool) {
    let mut number = 0u64;
    while !is_over.load(Ordering::Relaxed) {
        let slot = SLOTS + (number as usize % SHAPE.slots) * 2 * LINE_WORDS;
        if words[slot + PAYLOAD_WORDS].load(Ordering::Acquire) == number + 1 {
            words[slot + LINE_WORDS].store(clock.now(), Ordering::Relaxed);
            number += 1;
            words[TAIL].store(number, Ordering::Release);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Times of a call and times until it is visible.
fn samples(feeder: &mut Feeder, clock: &RealClock) -> (Vec<u64>, Vec<u64>) {
    let (mut calls, mut visible) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
    let payload = [7; PAYLOAD_WORDS];
    while calls.len() < SAMPLES {
        let before = clock.now();
        let ticket = feeder.push(&payload);
        let after = clock.now();
        assert!(ticket.is_some(), "one message at a time fills no ring");
        calls.push(after - before);
        let mut seen = None;
        while seen.is_none() {
            let found = feeder.poll(clock, |_, _, answer| seen = Some(answer.word(0)));
            assert!(found.is_ok());
        }
        visible.push(seen.map_or(0, |seen| seen.saturating_sub(before)));
        while clock.now() < after + GAP_NS {
            std::hint::spin_loop();
        }
    }
    (calls, visible)
}

fn messages_s(feeder: &mut Feeder, clock: &RealClock) -> f64 {
    let payload = [7; PAYLOAD_WORDS];
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < STRETCH {
        for _ in 0..1000 {
            while feeder.push(&payload).is_some() {}
            done += feeder.poll(clock, |_, _, _| ()).expect("only what was published comes back");
        }
    }
    done as f64 / began.elapsed().as_secs_f64()
}

fn percentile(times_ns: &mut [u64], percent: usize) -> u64 {
    times_ns.sort_unstable();
    times_ns[(times_ns.len() - 1) * percent / 100]
}

fn main() {
    let case = std::env::args().skip(1).find(|one| one != "--bench").unwrap_or_default();
    let words: Vec<AtomicU64> =
        (0..SHAPE.lines() * LINE_WORDS + LINE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let skipped = words.as_ptr().align_offset(128);
    let words = &words[skipped..];
    let address = words.as_ptr().expose_provenance();
    // SAFETY: the words are live until the end and are accessed atomically alone.
    let memory = unsafe { Memory::at(address, size_of_val(words), SHAPE) };
    let mut feeder = Feeder::new(Arc::new(memory.expect("the memory suffices")), 0);
    let clock = RealClock::new(Pacing::Park);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| device(words, &clock, &is_over));
        match case.as_str() {
            "push" | "visible" => {
                let (calls, visible) = samples(&mut feeder, &clock);
                let mut times_ns = if case == "push" { calls } else { visible };
                let [p50, p99] = [50, 99].map(|percent| percentile(&mut times_ns, percent));
                println!("{{\"p50_ns\": {p50}, \"p99_ns\": {p99}, \"samples\": {SAMPLES}}}");
            }
            "messages" => println!("{{\"per_s\": {}}}", messages_s(&mut feeder, &clock)),
            _ => eprintln!("usage: submission push|visible|messages"),
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
