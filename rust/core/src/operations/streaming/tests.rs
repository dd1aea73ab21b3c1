//! One stream's workers on small chunks, and each of their checks seen failing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::frame::{self, Choice, Coder};
use super::sink::{Arrival, Sink};
use super::worker::Worker;
use super::{KINDS, OPS, Parameters, Role, Shared};
use crate::operations::{
    Build, Completion, Fault, NoPause, Operation, Pause, Request, Status, Verdict,
};

fn shared_for_tests(queue_depth: usize) -> Arc<Shared> {
    let blend = KINDS.iter().map(|&(_, kind)| (kind, 1.0)).collect();
    let parameters = Parameters {
        chunk_bytes: 1 << 16,
        block_bytes: 4096,
        pool_chunks: 12,
        blend,
        zstd_level: 1,
        queue_depth,
        placement: "memory".to_owned(),
        directory: String::new(),
        write_budget_bytes: 0,
    };
    let context = Build { seed: 7, threads: 2, progress: &|_, _| true };
    Arc::new(Shared::build(parameters, &context).expect("parameters that fit"))
}

const AUTO: Role = OPS[0].1;

fn run(worker: &mut Worker, key: u64) -> Completion {
    worker.run(Request { op: 0, key }, &mut NoPause)
}

#[test]
fn a_clean_run_has_no_violation() {
    let mut worker = Worker::new(shared_for_tests(8));
    for key in 0..12 {
        assert_eq!(run(&mut worker, key).status, Status::Ok);
        assert_eq!(worker.verify(&mut NoPause), Verdict { checked: 1, violations: 0 });
    }
}

#[test]
fn a_flipped_bit_in_the_frame_is_a_violation() {
    let mut worker = Worker::new(shared_for_tests(8));
    for (key, at) in (0..12).zip([17, 33, 200, 1000].into_iter().cycle()) {
        let sequence = worker.admit(&mut NoPause).expect("room");
        let (length, _) =
            worker.compress(AUTO, key, sequence, &mut NoPause).expect("a source in memory");
        worker.frame.as_mut_slice()[at % length] ^= 4;
        assert_eq!(worker.finish(sequence, length, &mut NoPause), Status::Error);
        assert_eq!(worker.verify(&mut NoPause).violations, 1, "chunk {key}");
    }
    assert_eq!(worker.shared.totals.corrupt.load(Relaxed), 12);
}

#[test]
fn a_flipped_bit_of_the_sequence_number_is_a_violation() {
    let mut worker = Worker::new(shared_for_tests(8));
    let sequence = worker.admit(&mut NoPause).expect("room");
    let (length, _) = worker.compress(AUTO, 0, sequence, &mut NoPause).expect("a source in memory");
    worker.frame.as_mut_slice()[9] ^= 4;
    assert_eq!(worker.finish(sequence, length, &mut NoPause), Status::Ok);
    assert_eq!(worker.verify(&mut NoPause).violations, 1);
    assert_eq!(worker.shared.totals.reordered.load(Relaxed), 1);
}

#[test]
fn a_lost_operation_is_a_violation_and_the_stream_goes_on() {
    let shared = shared_for_tests(2);
    let mut worker = Worker::new(Arc::clone(&shared));
    worker.admit(&mut NoPause);
    assert_eq!(worker.verify(&mut NoPause).violations, 1);
    worker.admit(&mut NoPause);
    assert_eq!(run(&mut worker, 5).status, Status::Ok);
    assert_eq!(worker.verify(&mut NoPause).violations, 1, "noticed when the next one starts");
    worker.admit(&mut NoPause);
    drop(worker);
    assert_eq!(shared.totals.lost.load(Relaxed), 3);
    assert_eq!(shared.sink.totals().1, 4);
}

#[test]
fn a_doubled_operation_is_a_violation() {
    let mut worker = Worker::new(shared_for_tests(8));
    run(&mut worker, 0);
    worker.deliver(0);
    assert_eq!(worker.verify(&mut NoPause).violations, 1);
    assert_eq!(worker.shared.totals.doubled.load(Relaxed), 1);
}

#[test]
fn chunks_that_change_places_are_two_violations() {
    let shared = shared_for_tests(8);
    let mut workers = [Worker::new(Arc::clone(&shared)), Worker::new(Arc::clone(&shared))];
    let numbers = workers.each_mut().map(|worker| worker.admit(&mut NoPause));
    workers[0].deliver(numbers[1].expect("room"));
    workers[1].deliver(numbers[0].expect("room"));
    let found: u32 = workers.iter_mut().map(|worker| worker.verify(&mut NoPause).violations).sum();
    assert_eq!(found, 2);
    assert_eq!(shared.sink.totals().1, 2);
}

#[test]
fn every_planted_fault_is_seen() {
    let mut worker = Worker::new(shared_for_tests(8));
    for (op, (name, _)) in (0..).zip(OPS) {
        for (known, fault) in Fault::ALL {
            let mut planted = 0;
            for key in 0..24 {
                worker.run(Request { op, key }, &mut NoPause);
                let damaged = worker.plant(fault);
                planted += u32::from(damaged);
                let found = worker.verify(&mut NoPause);
                let expected = Verdict { checked: 1, violations: u32::from(damaged) };
                assert_eq!(found, expected, "{name} {known} {key}");
            }
            assert!(planted > 12, "{name} {known}");
        }
    }
}

#[test]
fn a_full_stream_turns_operations_away_without_using_numbers() {
    let shared = shared_for_tests(2);
    let mut stalled = [Worker::new(Arc::clone(&shared)), Worker::new(Arc::clone(&shared))];
    let numbers = stalled.each_mut().map(|worker| worker.admit(&mut NoPause));
    let mut worker = Worker::new(Arc::clone(&shared));
    let completion = run(&mut worker, 0);
    assert_eq!(completion, Completion { status: Status::Rejected, units: 0 });
    assert_eq!(worker.verify(&mut NoPause).violations, 0);
    for (stalled, number) in stalled.iter_mut().zip(numbers) {
        stalled.deliver(number.expect("room"));
    }
    assert_eq!(run(&mut worker, 1).status, Status::Ok);
    assert_eq!(shared.sink.totals(), (3, 3, 2));
}

#[test]
fn a_worker_may_serve_others_between_any_two_blocks() {
    struct Count(usize);
    impl Pause for Count {
        fn point(&mut self) {
            self.0 += 1;
        }
    }
    let mut worker = Worker::new(shared_for_tests(8));
    let mut pauses = Count(0);
    worker.run(Request { op: 2, key: 0 }, &mut pauses);
    assert_eq!(pauses.0, 2 * (1 << 16) / 2048);
}

/// Bytes of every content and length: repeated, as if drawn, or a series of words.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let repeated = prop::collection::vec(any::<u8>(), 1..40)
        .prop_flat_map(|piece| (1usize..600).prop_map(move |times| piece.repeat(times)));
    let drawn = prop::collection::vec(any::<u8>(), 1..20_000);
    let series = (any::<u32>(), prop::collection::vec(any::<u8>(), 1..6000)).prop_map(
        |(first, steps): (u32, Vec<u8>)| {
            let mut value = first;
            let words = steps.into_iter().map(|step| {
                value = value.wrapping_add(u32::from(step)).wrapping_sub(128);
                value.to_le_bytes()
            });
            words.flatten().collect()
        },
    );
    prop_oneof![repeated, drawn, series]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_chunk_comes_back_and_no_flipped_bit_of_its_frame_gives_another(
        chunk in contents(),
        choice in prop::sample::select(vec![Choice::Auto, Choice::Lz4, Choice::Zstd, Choice::Pack]),
        sequence in any::<u64>(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        const BLOCK_BYTES: usize = 8192;
        let mut coder = Coder::new(BLOCK_BYTES, 1);
        let mut frame = vec![0; frame::bound(chunk.len(), BLOCK_BYTES)];
        let (length, codec) = coder.encode(choice, sequence, &chunk, &mut frame, &mut NoPause);
        frame.truncate(length);
        let mut restored = vec![0; chunk.len()];
        let header = coder.decode(&frame, &mut restored, &mut NoPause).expect("a whole frame");
        prop_assert_eq!((header.codec, header.sequence), (codec, sequence));
        prop_assert!(restored == chunk);
        let block_bytes = choice.block_bytes(BLOCK_BYTES);
        prop_assert_eq!(header.checksum, frame::chunk_checksum(&chunk, block_bytes));
        for flip in flips {
            let bit = flip.index(frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            if coder.decode(&frame, &mut restored, &mut NoPause).is_ok() {
                prop_assert!(restored == chunk, "bit {bit}");
            }
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn whatever_the_order_of_arrival_numbers_are_contiguous_released_in_order_and_bounded(
        bound in 1usize..12,
        steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 1..300),
    ) {
        let sink = Sink::new(bound);
        let (mut next, mut open) = (0u64, BTreeSet::new());
        let mut arrived = BTreeSet::new();
        for step in steps {
            let head = open.first().copied().unwrap_or(next);
            match step {
                None => {
                    let admitted = sink.admit();
                    prop_assert_eq!(admitted, (next - head < bound as u64).then_some(next));
                    if admitted.is_some() {
                        open.insert(next);
                        next += 1;
                    }
                }
                Some(pick) if !open.is_empty() => {
                    let number = *open.iter().nth(pick.index(open.len())).expect("not empty");
                    prop_assert_eq!(sink.arrive(number), Arrival::InWindow);
                    prop_assert_eq!(sink.arrive(number), Arrival::Doubled);
                    open.remove(&number);
                    arrived.insert(number);
                }
                Some(_) => prop_assert_eq!(sink.arrive(next), Arrival::Unknown),
            }
            let head = open.first().copied().unwrap_or(next);
            let (handed_out, released, depth_max) = sink.totals();
            prop_assert_eq!((handed_out, released), (next, head));
            prop_assert!((0..released).all(|number| arrived.contains(&number)));
            prop_assert!(depth_max <= bound as u64);
        }
    }
}
