//! Properties that must hold for any churn, on any number of threads and any kind of vector.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::agent::{LEGAL, PAUSED, RUNNING, STOPPED};
use super::audit;
use super::kernels::{self, Kernels};
use super::parameters::{Band, Parameters};
use super::swarm::Swarm;
use super::tile::{GENERATION_MAX, LANES, SLOT_BITS, Tile, place};
use super::worker::Worker;
use super::{OPS, Shared, op, shared};
use crate::operations::{Build, Fault, NoPause, Operation, Pause, Request, Status};

const BAND: Band = Band { least: 60, most: 125 };

fn parameters(changes: serde_json::Value) -> String {
    let mut parameters = serde_json::json!({
        "population_min": 1000, "population_max": 2000, "swarms": 16, "batch": 1,
        "check_every": 1, "process_steps": 1000, "processes_max": 4,
    });
    for (key, value) in changes.as_object().expect("an object") {
        parameters[key] = value.clone();
    }
    parameters.to_string()
}

fn built(changes: serde_json::Value) -> Arc<Shared> {
    let context = Build { seed: 7, threads: 1, progress: &|_, _| true };
    Arc::new(shared(&parameters(changes), &context).expect("the parameters are within bounds"))
}

fn small(changes: serde_json::Value) -> Arc<Shared> {
    let mut few = serde_json::json!({ "population_min": 20, "population_max": 60, "swarms": 2 });
    for (key, value) in changes.as_object().expect("an object") {
        few[key] = value.clone();
    }
    built(few)
}

/// One of the things that can happen to a swarm.
#[derive(Clone, Copy, Debug)]
enum Act {
    Spawn(u32),
    Destroy(u32, bool),
    Step,
    Tick,
}

fn any_acts(most: usize) -> impl Strategy<Value = Vec<(Act, u64)>> {
    let act = prop_oneof![
        (1u32..30).prop_map(Act::Spawn),
        (1u32..30, any::<bool>()).prop_map(|(batch, oldest)| Act::Destroy(batch, oldest)),
        Just(Act::Step),
        Just(Act::Tick),
    ];
    proptest::collection::vec((act, any::<u64>()), 0..most)
}

fn swarm() -> Swarm {
    swarm_of(kernels::all()[0])
}

fn swarm_of(kernels: Kernels) -> Swarm {
    let mut swarm = Swarm::new(160, BAND, 7, 320, kernels);
    swarm.populate(1);
    swarm
}

fn vacancies(swarm: &Swarm) -> u64 {
    swarm.vacant.iter().map(|word| u64::from(word.count_ones())).sum()
}

fn perform(swarm: &mut Swarm, (act, key): (Act, u64)) -> Vec<u64> {
    let mut ids = Vec::new();
    match act {
        Act::Spawn(batch) => assert!(swarm.spawn(key, batch, &mut ids)),
        Act::Destroy(batch, oldest) => swarm.destroy(key, batch, oldest, &mut ids),
        Act::Step => drop(swarm.step()),
        Act::Tick => drop(swarm.tick()),
    }
    ids
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_ledger_adds_up_and_no_id_is_given_twice(acts in any_acts(60)) {
        let mut swarm = swarm();
        let mut given: HashSet<u64> = HashSet::new();
        let spawned = swarm.ledger.spawned;
        let mut counted = 0;
        for act in acts {
            let ids = perform(&mut swarm, act);
            if let Act::Spawn(batch) = act.0 {
                prop_assert_eq!(ids.len(), batch as usize);
                prop_assert!(ids.iter().all(|&id| given.insert(id)));
                counted += u64::from(batch);
            }
            prop_assert!(audit::adds_up(&swarm), "after {:?}", act.0);
            let live = swarm.ledger.live as u32;
            prop_assert!((BAND.least..=BAND.most).contains(&live));
        }
        prop_assert_eq!(swarm.ledger.spawned - spawned, counted + swarm.ledger.replaced);
    }

    #[test]
    fn every_kind_of_vector_gives_the_same_bits(acts in any_acts(40)) {
        let mut swarms: Vec<(Kernels, Swarm)> =
            kernels::all().into_iter().map(|kernels| (kernels, swarm_of(kernels))).collect();
        for act in acts {
            for (_, swarm) in &mut swarms {
                perform(swarm, act);
            }
        }
        for (kernels, swarm) in &swarms[1..] {
            prop_assert!(swarm.tiles == swarms[0].1.tiles, "{}", kernels.name);
            prop_assert_eq!(swarm.ledger, swarms[0].1.ledger);
        }
    }

    #[test]
    fn steps_and_ticks_are_their_plain_definitions_and_change_states_legally(
        acts in any_acts(20),
        crowded in any::<bool>(),
    ) {
        let mut swarm = swarm();
        for act in acts {
            perform(&mut swarm, act);
        }
        if crowded {
            // At the seam, and far more of them than lanes.
            for tile in &mut swarm.tiles {
                tile.x = tile.x.map(|x| (x % 6000).wrapping_sub(3000) & swarm.grid.wrap());
                tile.y = tile.y.map(|y| (y % 6000).wrapping_sub(3000) & swarm.grid.wrap());
            }
        }
        for tile in &mut swarm.tiles {
            for lane in (0..LANES).filter(|lane| lane % 3 > 0) {
                tile.energy[lane] = (tile.x[lane] % 9000) as i32;
                if tile.state[lane] == RUNNING {
                    tile.state[lane] = if lane % 3 == 1 { PAUSED } else { RUNNING };
                }
            }
        }
        let (before, wrap) = (swarm.tiles.clone(), swarm.grid.wrap());
        let stepped = swarm.step();
        prop_assert_eq!(stepped, swarm.ledger.live);
        let slots = swarm.slots();
        prop_assert!(audit::stepped(&before, &swarm.tiles, wrap, slots, &mut NoPause));
        for (before, after) in before.iter().zip(&swarm.tiles) {
            for lane in 0..LANES {
                let (from, to) = (before.state[lane], after.state[lane]);
                prop_assert!(LEGAL[from as usize] >> to & 1 == 1);
                let once = u32::from(from != STOPPED);
                prop_assert_eq!(after.ticks[lane] - before.ticks[lane], once);
            }
        }
        let (mut plain, parity) = (swarm.tiles.clone(), (swarm.ledger.ticks & 1) as usize);
        swarm.tick();
        audit::tick_plainly(&mut plain, parity);
        prop_assert!(plain == swarm.tiles);
    }

    #[test]
    fn a_drained_swarm_is_as_large_as_before_and_wholly_vacant(acts in any_acts(60)) {
        let mut swarm = swarm();
        let room = (swarm.tiles.capacity(), swarm.list.capacity(), swarm.grid.slots.capacity());
        for act in acts {
            perform(&mut swarm, act);
        }
        swarm.drain();
        prop_assert!(audit::adds_up(&swarm));
        prop_assert_eq!(swarm.ledger.live, 0);
        prop_assert_eq!(vacancies(&swarm), swarm.slots() as u64);
        prop_assert!(swarm.occupied.iter().all(|&word| word == 0));
        prop_assert!(swarm.tiles.iter().all(|tile| tile.inbox == [[0; LANES]; 2]));
        let after = (swarm.tiles.capacity(), swarm.list.capacity(), swarm.grid.slots.capacity());
        prop_assert_eq!(room, after);
    }
}

#[test]
fn the_audit_sees_whatever_is_wrong_with_a_swarm() {
    type Spoil = fn(&mut Swarm, usize, usize);
    let spoils: [(&str, Spoil); 13] = [
        ("a bit of an id", |swarm, tile, lane| swarm.tiles[tile].generation[lane] ^= 4),
        ("a stopped agent", |swarm, tile, lane| swarm.tiles[tile].state[lane] = STOPPED),
        ("a missed step", |swarm, tile, lane| swarm.tiles[tile].ticks[lane] -= 1),
        ("a second step", |swarm, tile, lane| swarm.tiles[tile].ticks[lane] += 1),
        ("a turn not its own", |swarm, tile, lane| swarm.tiles[tile].turn[lane] ^= 1),
        ("an agent in another's turn", |swarm, _, _| swarm.list[swarm.listed.start] ^= 1),
        ("an order of births that is not", |swarm, tile, lane| {
            swarm.tiles[tile].since[lane] -= 1;
            swarm.tiles[tile].ticks[lane] += 1;
        }),
        ("a lost slot", |swarm, _, _| swarm.vacant[2] &= swarm.vacant[2] - 1),
        ("a slot vacant and occupied", |swarm, _, _| swarm.vacant[0] |= 1),
        ("a lost agent", |swarm, _, _| swarm.ledger.spawned += 1),
        ("a lost message", |swarm, _, _| swarm.ledger.traffic.sent += 1),
        ("a changed message", |swarm, tile, lane| swarm.tiles[tile].inbox[0][lane] ^= 1),
        ("a doubled birth", |swarm, _, _| swarm.ledger.births ^= 1),
    ];
    for (what, spoil) in spoils {
        let mut swarm = swarm();
        swarm.step();
        swarm.tick();
        swarm.tick();
        assert!(audit::adds_up(&swarm));
        let (tile, lane) = place(swarm.by_age().last().expect("it is populated"));
        spoil(&mut swarm, tile, lane);
        assert!(!audit::adds_up(&swarm), "{what}");
    }
}

#[test]
fn the_edges_of_the_band_hold_whatever_lifetimes_ask_for() {
    let mut swarm = swarm();
    for (owed, edge) in [(-1_000_000, BAND.most), (1_000_000, BAND.least)] {
        for key in 0..5 {
            swarm.owed = owed;
            swarm.spawn(key, 30, &mut Vec::new());
        }
        assert_eq!(swarm.ledger.live, u64::from(edge));
    }
    swarm.destroy(9, 30, true, &mut Vec::new());
    assert_eq!((swarm.ledger.live, swarm.ledger.replaced), (u64::from(BAND.least), 30));
    assert!(audit::adds_up(&swarm));
}

#[test]
fn a_slot_that_has_used_up_its_ids_is_never_used_again() {
    let mut swarm = Swarm::new(160, BAND, 7, 0, kernels::all()[0]);
    for tile in &mut swarm.tiles {
        tile.generation = [GENERATION_MAX - 1; LANES];
    }
    swarm.populate(1);
    let (mut ids, live) = (Vec::new(), swarm.ledger.live);
    swarm.drain();
    assert_eq!((swarm.ledger.retired, vacancies(&swarm)), (live, 160 - live));
    assert!(!swarm.spawn(5, 160, &mut ids));
    assert!(ids.iter().all(|id| id >> SLOT_BITS == GENERATION_MAX));
    assert!(audit::adds_up(&swarm));
}

#[test]
fn threads_that_churn_one_population_keep_its_ledgers() {
    let shared = small(serde_json::json!({ "batch": 3, "processes_max": 1 }));
    let violations: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u64)
            .map(|lane| {
                let shared = Arc::clone(&shared);
                scope.spawn(move || {
                    let mut worker = Worker::new(shared);
                    let mut violations = 0;
                    for turn in 0..2000 {
                        let request = Request { op: (turn % 5) as u8, key: lane << 48 | turn };
                        let completion = worker.run(request, &mut NoPause);
                        assert_eq!(completion.status, Status::Ok);
                        violations += worker.verify(&mut NoPause).violations;
                    }
                    violations
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
    });
    assert_eq!(violations, 0);
    let ledger = shared.population.ledger();
    assert_eq!(ledger.spawned - ledger.destroyed, ledger.live);
    assert_eq!(ledger.steps, 4 * 400 * 2);
    for index in 0..shared.population.swarms() {
        assert!(audit::adds_up(&shared.population.lock(index)));
    }
}

#[test]
fn a_swarm_that_another_is_at_is_passed_over_and_comes_last() {
    let shared = small(serde_json::json!({}));
    let held = shared.population.lock(0);
    let (index, claimed) = shared.population.claim(0);
    assert_eq!(index, 1);
    drop(claimed);
    let steps = held.ledger.steps;
    std::thread::scope(|scope| {
        let stepping = scope.spawn(|| {
            let mut worker = Worker::new(Arc::clone(&shared));
            worker.run(Request { op: op::STEP, key: 0 }, &mut NoPause).units
        });
        while shared.population.try_lock(1).is_none_or(|other| other.ledger.steps == 0) {
            std::thread::yield_now();
        }
        drop(held);
        assert_eq!(stepping.join().ok(), Some(shared.population.ledger().live));
    });
    assert_eq!(shared.population.lock(0).ledger.steps, steps + 1);
}

#[test]
fn every_planted_fault_is_seen_and_leaves_nothing_behind() {
    let mut worker = Worker::new(small(serde_json::json!({ "batch": 5 })));
    for (index, name) in OPS.into_iter().enumerate() {
        for (fault, kind) in Fault::ALL {
            let request = Request { op: index as u8, key: 3 };
            worker.run(request, &mut NoPause);
            let planted = worker.plant(kind);
            assert_eq!(
                worker.verify(&mut NoPause).violations,
                u32::from(planted),
                "{name}: {fault}"
            );
            assert!(planted || kind == Fault::LostResult, "{name}: {fault}");
            worker.run(request, &mut NoPause);
            assert_eq!(
                (worker.verify(&mut NoPause).violations, worker.verify(&mut NoPause).checked),
                (0, 0)
            );
        }
    }
}

#[test]
fn checks_of_births_and_ends_look_at_the_whole_swarm_too() {
    for op in [op::SPAWN, op::DESTROY, op::DESTROY_OLDEST] {
        let shared = small(serde_json::json!({ "swarms": 1, "batch": 5 }));
        let mut worker = Worker::new(Arc::clone(&shared));
        for (lost, key) in [(0, 16), (1, 17)] {
            worker.run(Request { op, key }, &mut NoPause);
            shared.population.lock(0).ledger.spawned += lost;
            assert_eq!(u64::from(worker.verify(&mut NoPause).violations), lost, "{op}");
        }
    }
}

#[test]
fn a_large_population_pauses_between_swarms_and_holds_no_lock_meanwhile() {
    struct Free<'a>(&'a Shared, usize);
    impl Pause for Free<'_> {
        fn point(&mut self) {
            self.1 += 1;
            for index in 0..self.0.population.swarms() {
                assert!(self.0.population.try_lock(index).is_some());
            }
        }
    }
    let shared = built(serde_json::json!({ "population_min": 30_000, "population_max": 40_000 }));
    let mut worker = Worker::new(Arc::clone(&shared));
    for op in [op::STEP, op::TICK] {
        let mut pauses = Free(&shared, 0);
        worker.run(Request { op, key: 1 }, &mut pauses);
        assert_eq!(pauses.1, 4);
        let mut pauses = Free(&shared, 0);
        assert_eq!(worker.verify(&mut pauses).checked, 1);
        assert_eq!(pauses.1 > 40, op == op::STEP);
    }
}

#[test]
fn a_band_without_room_and_too_many_slots_are_refused() {
    let refused = |changes| Parameters::parse(&parameters(changes)).is_err();
    assert!(!refused(serde_json::json!({})));
    assert!(refused(serde_json::json!({ "population_max": 999 })));
    assert!(refused(serde_json::json!({ "swarms": 1, "population_max": 9000 })));
    assert!(refused(serde_json::json!({ "legs": 8 })));
    assert_eq!(size_of::<Tile>() % 64, 0);
}

#[test]
fn one_process_more_than_allowed_is_rejected() {
    let shared = small(serde_json::json!({ "processes_max": 1 }));
    let mut worker = Worker::new(Arc::clone(&shared));
    let request = Request { op: op::PROCESS, key: 1 };
    shared.processes_alive.fetch_add(1, Ordering::Relaxed);
    assert_eq!(worker.run(request, &mut NoPause).status, Status::Rejected);
    shared.processes_alive.fetch_sub(1, Ordering::Relaxed);
    assert_eq!(worker.run(request, &mut NoPause).status, Status::Ok);
    assert_eq!(shared.processes_alive.load(Ordering::Relaxed), 0);
}
