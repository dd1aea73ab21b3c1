//! The storm against a plain model, its canaries and books each seen to fail, and its bound.

use proptest::prelude::*;

use super::super::source::{Allocator, Source};
use super::*;
use crate::operations::NoPause;

const POOL_BYTES: u64 = 1 << 20;

fn storm(allocator: Allocator, touch: Touch) -> Storm {
    let source = Source::new(allocator, POOL_BYTES).expect("a mebibyte");
    Storm::new(source, touch, POOL_BYTES, POOL_BYTES / 4)
}

fn step(storm: &mut Storm, bytes: u64, lifetime: u64) -> Outcome {
    storm.step(Allocation { bytes, lifetime }, 99, true, &mut NoPause)
}

proptest! {
    #[test]
    fn live_bytes_follow_lifetimes_and_never_pass_the_bound(
        asked in prop::collection::vec((1u64..200_000, 1u64..40), 1..200),
        touch in prop::sample::select(vec![Touch::None, Touch::Page, Touch::Fill]),
        heap in any::<bool>(),
    ) {
        let allocator = if heap { Allocator::Heap } else { Allocator::Pool };
        let mut storm = storm(allocator, touch);
        let mut due: Vec<(usize, u64)> = Vec::new();
        for (now, &(bytes, lifetime)) in asked.iter().enumerate() {
            due.retain(|(end, _)| *end > now);
            let live: u64 = due.iter().map(|(_, taken)| taken).sum();
            let fits = live + taken_bytes(bytes) <= POOL_BYTES;
            let outcome = step(&mut storm, bytes, lifetime);
            prop_assert_eq!(outcome == Outcome::OverBound, !fits);
            if outcome == Outcome::Placed {
                due.push((now + lifetime as usize, taken_bytes(bytes)));
                prop_assert!(storm.is_right());
            }
            prop_assert_eq!(
                storm.alive_bytes(),
                due.iter().map(|(_, taken)| taken).sum::<u64>()
            );
            prop_assert!(storm.alive_bytes() <= POOL_BYTES);
        }
        storm.drain();
        let books = storm.take_books();
        prop_assert_eq!((books.allocated, books.broken), (books.freed, 0));
        prop_assert_eq!((books.alive, books.alive_bytes), (0, 0));
        prop_assert!(storm.source().used_bytes().is_none_or(|used| used == 0));
    }
}

#[test]
fn a_broken_canary_is_seen_when_the_allocation_is_freed() {
    for allocator in [Allocator::Pool, Allocator::Heap] {
        let mut storm = storm(allocator, Touch::None);
        step(&mut storm, 5000, 1);
        assert!(storm.is_right());
        assert!(storm.plant(Fault::FlippedBit));
        assert!(!storm.is_right());
        step(&mut storm, 100, 1);
        assert_eq!(storm.take_books().broken, 1);
    }
}

#[test]
fn every_fault_is_seen_and_the_storm_goes_on_after_a_restart() {
    for touch in [Touch::None, Touch::Page, Touch::Fill] {
        for (name, fault) in Fault::ALL {
            let mut storm = storm(Allocator::Pool, touch);
            step(&mut storm, 3000, 10);
            step(&mut storm, 70_000, 10);
            assert!(storm.is_right() && storm.plant(fault));
            assert!(!storm.is_right(), "{name}, {touch:?}");
            storm.restart();
            let fitting = POOL_BYTES - 1024;
            assert_eq!(step(&mut storm, fitting, 1), Outcome::Placed);
            assert!(storm.is_right());
        }
    }
}

#[test]
fn the_bound_turns_away_and_a_freed_allocation_makes_room() {
    let mut storm = storm(Allocator::Pool, Touch::Page);
    assert_eq!(step(&mut storm, 600_000, 2), Outcome::Placed);
    assert_eq!(step(&mut storm, 600_000, 2), Outcome::OverBound);
    assert_eq!(step(&mut storm, 600_000, 2), Outcome::Placed);
    assert_eq!(storm.take_books().over_bound, 1);
}

#[test]
fn what_fits_the_bound_but_no_span_is_turned_away_as_unplaced() {
    let mut storm = storm(Allocator::Pool, Touch::None);
    let fourth = POOL_BYTES / 4 - 1024;
    for lifetime in [100, 4, 100, 2] {
        assert_eq!(step(&mut storm, fourth, lifetime), Outcome::Placed);
    }
    step(&mut storm, 8, 1);
    step(&mut storm, 8, 1);
    assert_eq!(step(&mut storm, POOL_BYTES / 3, 1), Outcome::Unplaced);
    assert!(storm.source().fragmentation().is_some_and(|share| share > 0.4));
}
