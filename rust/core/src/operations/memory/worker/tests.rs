//! Whole operations of a worker: where blocks are, what a failing disk leaves, what is checked.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::journeys::Journeys;
use super::super::tiers::{Census, ROOM_BYTES, Tier};
use super::super::{OP_NAMES, Shared, parameters::Parameters};
use super::*;
use crate::operations::scratch::Scratch;
use crate::operations::{Build, Component, NoPause};

const MIGRATE: u8 = 0;
const ALLOCATE: u8 = 1;
const ROUND_TRIP: u8 = 2;

fn parameters(changes: &[(&str, serde_json::Value)]) -> Parameters {
    let mut given = serde_json::json!({
        "blocks": 12, "size_min_bytes": 512, "size_max_bytes": 200_000, "chunk_bytes": 16_384,
        "chunks_in_flight": 3, "streams": 2, "host_memory": "pinned", "way": "any",
        "io": "auto", "fsync": "none",
        "directory": std::env::temp_dir(),
        "write_budget_bytes": 1u64 << 30, "allocator": "pool", "pool_bytes": 8 << 20,
        "allocation_min_bytes": 1000, "allocation_max_bytes": 500_000, "touch": "page",
        "lifetime_s": 30.0, "allocation_rate_s": 10_000.0, "live_share": 0.0625, "check_every": 1,
    });
    for (key, value) in changes {
        given[key] = value.clone();
    }
    Parameters::parse(&given.to_string()).expect("parameters that fit")
}

fn shared(changes: &[(&str, serde_json::Value)]) -> Arc<Shared> {
    let context = Build { seed: 7, threads: 1, progress: &|_, _| true };
    Arc::new(Shared::build(parameters(changes), &context).expect("a component"))
}

fn run(worker: &mut Worker, op: u8, key: u64) -> Status {
    worker.run(Request { op, key }, &mut NoPause).status
}

fn counter(shared: &Arc<Shared>, name: &str) -> u64 {
    let counters = super::super::Memory(Arc::clone(shared)).counters();
    counters.iter().find(|(known, _)| *known == name).expect("a counter").1
}

/// Every block is in one tier, the tiers add up, nobody has a claim left, and no room is lost.
fn assert_whole(shared: &Arc<Shared>) {
    let tiers = &shared.tiers;
    assert!(tiers.adds_up());
    let mut counted = Census::default();
    let mut rooms_bytes = 0;
    let mut mover = shared.mover().expect("a mover");
    for index in 0..tiers.blocks.len() {
        assert!(tiers.claim(index), "block {index} is still claimed");
        let tier = tiers.record(index).tier;
        if tier == Tier::Cpu {
            rooms_bytes += tiers.blocks[index].bytes.next_multiple_of(ROOM_BYTES) as u64;
        }
        counted.bytes[tier as usize] += tiers.blocks[index].bytes as u64;
        counted.blocks[tier as usize] += 1;
        let mut journeys = Journeys { tiers, totals: &shared.totals, mover: &mut mover };
        assert!(journeys.is_right(index, tier, &mut NoPause), "block {index}");
        tiers.release(index);
    }
    assert_eq!(counted, tiers.census());
    let (_, free) = tiers.free_bytes();
    assert_eq!(free + rooms_bytes, tiers.cpu_bytes(), "a room was lost");
}

#[test]
fn blocks_go_back_and_forth_and_are_always_in_one_tier() {
    for io in ["auto", "threads"] {
        let shared = shared(&[("io", io.into()), ("fsync", "data".into())]);
        let mut worker = Worker::new(Arc::clone(&shared));
        for key in 0..200 {
            let op = if key % 3 == 0 { ROUND_TRIP } else { MIGRATE };
            assert_eq!(run(&mut worker, op, key), Status::Ok);
            assert_eq!(worker.verify(&mut NoPause), Verdict { checked: 1, violations: 0 });
        }
        drop(worker);
        assert_whole(&shared);
        let (out, arrived) = (counter(&shared, "migrated_out"), counter(&shared, "migrated_in"));
        assert!(out > 50 && arrived > 50 && out.abs_diff(arrived) <= 12);
    }
}

#[test]
fn workers_side_by_side_never_have_the_same_block() {
    let shared = shared(&[]);
    std::thread::scope(|scope| {
        for lane in 0..3u64 {
            let mut worker = Worker::new(Arc::clone(&shared));
            scope.spawn(move || {
                for key in 0..150 {
                    let op = if key % 4 == 0 { ROUND_TRIP } else { MIGRATE };
                    assert_ne!(run(&mut worker, op, lane << 48 | key), Status::Error);
                    assert_eq!(worker.verify(&mut NoPause).violations, 0);
                }
            });
        }
    });
    assert_whole(&shared);
}

#[test]
fn a_failed_write_leaves_the_source_and_the_block_moves_once_the_disk_does() {
    let mut shared = shared(&[]);
    let mut disk = Scratch::full().expect("a device of Linux");
    swap_disk(&mut shared, &mut disk);
    let mut mover = shared.mover().expect("a mover");
    for index in 0..shared.tiers.blocks.len() {
        assert_nothing_leaves(&shared, &mut mover, index);
    }
    assert_eq!(counter(&shared, "failed_hops"), 6);
    drop(mover);
    swap_disk(&mut shared, &mut disk);
    let mut worker = Worker::new(Arc::clone(&shared));
    for key in 0..100 {
        assert_eq!(run(&mut worker, MIGRATE, key), Status::Ok);
        assert_eq!(worker.verify(&mut NoPause).violations, 0);
    }
    drop(worker);
    assert_whole(&shared);
}

/// Stretches of operations, each with the disk as it is or full.
fn stretches() -> impl Strategy<Value = Vec<(bool, Vec<(u8, u64)>)>> {
    let operation = (MIGRATE..=ROUND_TRIP, 0u64..1000);
    prop::collection::vec((any::<bool>(), prop::collection::vec(operation, 0..40)), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_is_asked_and_fails_every_block_is_in_one_tier_and_whole(
        stretches in stretches(),
        budget in prop::sample::select(vec![0u64, 300_000, 1 << 30]),
    ) {
        let sizes = parameters(&[]).block_sizes();
        let all: u64 = sizes.iter().map(|bytes| bytes.next_multiple_of(4096) as u64).sum();
        let mut shared = shared(&[("write_budget_bytes", (all + budget).into())]);
        let mut other = Scratch::full().expect("a device of Linux");
        for (is_full, operations) in stretches {
            if is_full {
                swap_disk(&mut shared, &mut other);
                let mut mover = shared.mover().expect("a mover");
                for (_, key) in operations {
                    assert_nothing_leaves(&shared, &mut mover, key as usize);
                }
                drop(mover);
                swap_disk(&mut shared, &mut other);
                continue;
            }
            let mut worker = Worker::new(Arc::clone(&shared));
            for (op, key) in operations {
                prop_assert_ne!(run(&mut worker, op, key), Status::Error);
                prop_assert_eq!(worker.verify(&mut NoPause).violations, 0);
            }
        }
        assert_whole(&shared);
        prop_assert_eq!(counter(&shared, "allocated"), counter(&shared, "freed"));
        prop_assert_eq!(counter(&shared, "broken"), 0);
    }
}

fn swap_disk(shared: &mut Arc<Shared>, other: &mut Scratch) {
    std::mem::swap(&mut Arc::get_mut(shared).expect("alone").tiers.file, other);
}

/// A block in memory that may be written cannot leave while the disk is full, and is where it was,
/// bit for bit.
fn assert_nothing_leaves(shared: &Shared, mover: &mut Mover, draw: usize) {
    let tiers = &shared.tiers;
    let index = draw % tiers.blocks.len();
    let padded = tiers.blocks[index].bytes.next_multiple_of(ROOM_BYTES) as u64;
    if tiers.record(index).tier != Tier::Cpu || tiers.budget.left() < padded {
        return;
    }
    let before = tiers.census();
    let mut journeys = Journeys { tiers, totals: &shared.totals, mover };
    assert_eq!(journeys.migrate(index, &mut NoPause).status, Status::Error);
    assert!(tiers.claim(index), "given back");
    assert!(journeys.is_right(index, Tier::Cpu, &mut NoPause), "block {index} is where it was");
    tiers.release(index);
    assert_eq!(tiers.census(), before);
}

#[test]
fn a_spent_write_budget_leaves_migrations_that_only_read() {
    let sizes = parameters(&[]).block_sizes();
    let all: u64 = sizes.iter().map(|bytes| bytes.next_multiple_of(4096) as u64).sum();
    let shared = shared(&[("write_budget_bytes", (all + 300_000).into())]);
    let mut worker = Worker::new(Arc::clone(&shared));
    for key in 0..200 {
        let op = if key % 5 == 0 { ROUND_TRIP } else { MIGRATE };
        assert_eq!(run(&mut worker, op, key), Status::Ok);
        assert_eq!(worker.verify(&mut NoPause).violations, 0);
    }
    drop(worker);
    assert_whole(&shared);
    assert!(counter(&shared, "direct_written_bytes") <= 300_000);
    assert!(counter(&shared, "buffered_written_bytes") <= 300_000);
    assert!(counter(&shared, "dropped_clean") > 50);
}

#[test]
fn a_flipped_bit_that_nobody_checked_is_found_at_the_next_hop_and_repaired() {
    let shared = shared(&[("check_every", 1_000_000.into())]);
    let tiers = &shared.tiers;
    let mut mover = shared.mover().expect("a mover");
    for index in [0, 1, 10, 11] {
        let mut journeys = Journeys { tiers, totals: &shared.totals, mover: &mut mover };
        assert!(tiers.claim(index) && journeys.plant(index, Fault::FlippedBit));
        tiers.release(index);
        let found = journeys.migrate(index, &mut NoPause);
        assert_eq!((found.status, found.violations), (Status::Error, 1), "block {index}");
        let again = journeys.migrate(index, &mut NoPause);
        assert_eq!((again.status, again.block.map(|moved| moved.0)), (Status::Ok, Some(index)));
        tiers.release(index);
    }
    assert_whole(&shared);
}

#[test]
fn every_fault_in_a_checked_operation_is_one_violation_and_is_repaired() {
    let shared = shared(&[]);
    let mut worker = Worker::new(Arc::clone(&shared));
    for (name, fault) in Fault::ALL {
        for op in [MIGRATE, ALLOCATE, ROUND_TRIP] {
            for key in 0..24 {
                assert_eq!(run(&mut worker, op, key), Status::Ok);
                assert!(worker.plant(fault), "{name} in {}", OP_NAMES[usize::from(op)]);
                let verdict = worker.verify(&mut NoPause);
                assert_eq!((verdict.checked, verdict.violations), (1, 1), "{name}, {op}, {key}");
                assert_eq!(run(&mut worker, op, key), Status::Ok);
                assert_eq!(
                    worker.verify(&mut NoPause),
                    Verdict { checked: 1, violations: 0 },
                    "{name}"
                );
            }
        }
    }
    drop(worker);
    assert_whole(&shared);
}

#[test]
fn an_operation_that_was_not_chosen_is_not_checked_and_holds_no_claim() {
    let shared = shared(&[("check_every", 4.into())]);
    let mut worker = Worker::new(Arc::clone(&shared));
    for key in 1..20 {
        run(&mut worker, if key % 2 == 0 { MIGRATE } else { ALLOCATE }, key);
        assert_eq!(worker.plant(Fault::LostResult), key % 4 == 0);
        let verdict = worker.verify(&mut NoPause);
        assert_eq!(
            (verdict.checked, verdict.violations),
            (u32::from(key % 4 == 0), verdict.checked)
        );
    }
    drop(worker);
    assert_whole(&shared);
}

#[test]
fn what_was_allocated_is_freed_when_the_worker_ends_and_its_pool_is_used_again() {
    let shared = shared(&[]);
    for round in 1..3 {
        let mut worker = Worker::new(Arc::clone(&shared));
        for key in 0..1000 {
            assert_eq!(run(&mut worker, ALLOCATE, key), Status::Ok);
        }
        drop(worker);
        assert_eq!(counter(&shared, "allocated"), round * 1000);
        assert_eq!(counter(&shared, "freed"), round * 1000);
        assert_eq!(counter(&shared, "broken"), 0);
    }
    assert_eq!(shared.storms.lock().expect("whole").len(), 1);
}
