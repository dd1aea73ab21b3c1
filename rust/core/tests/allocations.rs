//! Under load nothing is allocated: not by pacing, nor by running, recording or checking, nor by
//! enqueuing on a device or in a ring; of the latter no system call is made either.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../src/cuda/tests/fake.rs"]
#[allow(dead_code, reason = "the driver's own tests ask for more of it")]
mod fake;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swarmbench_core::arrivals::Process;
use swarmbench_core::clock::{Clock, Pacing, RealClock, Signal, Waited};
use swarmbench_core::cuda::ring::{Feeder, LINE_WORDS, Memory, PAYLOAD_WORDS, Shape};
use swarmbench_core::cuda::{Driver, Launch};
use swarmbench_core::engine::{Engine, EngineSettings, Overload, WorkloadSettings};
use swarmbench_core::operations::{Build, NoPause, Request, build, names};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Small parameters of every component and its ops whose job is fresh memory, written by
/// `python tests/goldens.py` from the one definition that there is of them.
const SMALL: &str = include_str!("../../../tests/golden/small.json");
/// Operations before the counted ones, and the counted ones.
const WARM_UP: u64 = 16;
const COUNTED: u64 = 64;

struct Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn engine(name: &str, parameters: &str, weights: Vec<f64>, pacer_cpu: Option<usize>) -> Engine {
    let component =
        build(name, parameters, &Build { seed: 1, threads: 1, progress: &|_, _| true }).unwrap();
    let settings = EngineSettings {
        seed: 1,
        workers: 2,
        worker_cpus: Vec::new(),
        pacer_cpu,
        pacing: Pacing::Hybrid,
    };
    let workload = WorkloadSettings {
        component,
        process: Process::Poisson,
        weights,
        rate: 5000.0,
        max_in_flight: 64,
        queue: 256,
        overload: Overload::Queue,
        planted_delay: 0.0,
        hosted: false,
    };
    Engine::start(&settings, vec![workload]).unwrap()
}

/// Allocations of the whole process while operations run, after they have run for a while.
fn allocations_under_load(engine: &Engine, closed: bool) -> u64 {
    if closed {
        engine.begin_closed(&[16]).unwrap();
    } else {
        engine.begin_open(&[(0, 1.0)]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(200));
    let after = ALLOCATIONS.load(Ordering::Relaxed);
    engine.cease();
    assert!(engine.settle(1_000_000_000));
    after - before
}

/// The one test here, for it counts what the whole process allocates.
#[test]
fn nothing_is_allocated_under_load_nor_by_any_operation() {
    // The count itself works.
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(vec![1u8; 100]);
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
    nothing_is_allocated_under_load();
    no_operation_of_any_component_allocates();
    nothing_is_allocated_by_enqueuing();
    a_submission_neither_allocates_nor_calls_the_system();
}

/// What the driver itself allocates is not counted: it is no part of this program.
fn nothing_is_allocated_by_enqueuing() {
    let Some(fake) = fake::Fake::new() else { return };
    let context = Driver::open(&fake.path).unwrap().context(0).unwrap();
    let stream = context.stream(0).unwrap();
    let words = [const { AtomicU64::new(0) }; 8];
    let address = |index: usize| words[index].as_ptr() as u64;
    let arguments: [&[u8]; 3] =
        [&address(0).to_ne_bytes(), &4u64.to_ne_bytes(), &1u32.to_ne_bytes()];
    let launch = Launch::new(fake.function("add", &[8, 8, 4]), 1, 32, 0, &arguments);
    let graph = stream.capture(|stream| stream.launch(&launch)).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for message in 1..=COUNTED {
        words[6].store(message, Ordering::Release);
        stream.wait_word(address(6), message).unwrap();
        stream.fill(address(4), 0, 8).unwrap();
        stream.copy(address(5), address(4), 8).unwrap();
        stream.launch(&launch).unwrap();
        stream.graph(&graph).unwrap();
        stream.write_word(address(7), message).unwrap();
        while !stream.is_idle().unwrap() {}
        stream.synchronize().unwrap();
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    assert_eq!(words[0].load(Ordering::Acquire), 2 * COUNTED);
}

/// A clock that reads no counter: a process that may make no system call may not read it either.
struct Still;

impl Clock for Still {
    fn now(&self) -> u64 {
        7
    }

    fn wait_until(&self, _: u64, _: &Signal, _: u32) -> Waited {
        Waited::Reached
    }
}

/// A ring whose device is the caller, who acknowledges in the word that is lent.
fn with_ring(act: impl FnOnce(&mut Feeder, &AtomicU64)) {
    let shape = Shape { groups: 1, slots: 32, answer_lines: 1 };
    let words: Vec<AtomicU64> =
        (0..(shape.lines() + 1) * LINE_WORDS).map(|_| AtomicU64::new(0)).collect();
    let words = &words[words.as_ptr().align_offset(128)..];
    let address = words.as_ptr().expose_provenance();
    // SAFETY: the words live until `act` has ended, and all accesses are atomic.
    let memory = unsafe { Memory::at(address, size_of_val(words), shape) }.unwrap();
    // The lines of the stop word and of the host come before the device's.
    act(&mut Feeder::new(Arc::new(memory), 0), &words[2 * LINE_WORDS]);
}

/// Messages there and back: how many were collected.
fn submit(feeder: &mut Feeder, clock: &impl Clock, acknowledged: &AtomicU64) -> usize {
    let mut collected = 0;
    for _ in 0..COUNTED {
        while feeder.push(&[5; PAYLOAD_WORDS]).is_some() {}
        acknowledged.fetch_add(feeder.in_flight(), Ordering::Release);
        collected += feeder.poll(clock, |_, _, _| ()).unwrap_or(0);
    }
    collected
}

fn a_submission_neither_allocates_nor_calls_the_system() {
    let clock = RealClock::new(Pacing::Park);
    with_ring(|feeder, acknowledged| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let collected = submit(feeder, &clock, acknowledged);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
        assert_eq!(collected as u64, COUNTED * 32);
        assert_eq!(status_in_confinement(|| submit(feeder, &Still, acknowledged)), Some(0));
    });
    // What does call the system does not survive it.
    let calls = || {
        // SAFETY: it takes nothing and writes nothing.
        (unsafe { libc::syscall(libc::SYS_getppid) }) as usize
    };
    assert_eq!(status_in_confinement(calls), None);
}

/// The exit status of a process in which `act` may make no system call; `None` where it was killed.
fn status_in_confinement(act: impl FnOnce() -> usize) -> Option<i32> {
    // SAFETY: the child runs `act`, which takes no lock and allocates nothing, and ends by a call
    // that runs nothing of the library's; the parent waits for it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // From here on only read, write, exit and sigreturn are allowed (seccomp(2)).
            if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) != 0 {
                libc::syscall(libc::SYS_exit, 2);
            }
            let found = act();
            libc::syscall(libc::SYS_exit, i32::from(found == 0));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
    }
}

fn nothing_is_allocated_under_load() {
    // Its oracle, which recomputes one operation in so many, is left out: it may allocate.
    let consensus = r#"{
        "batch": 100, "agents": 16, "proposals": 4, "values": 4, "groups": 100, "mix": "uniform",
        "agreement": 0.9, "byzantine": 0.0, "duplicates": 0.02, "stored_votes": 1000,
        "oracle_every": 65536
    }"#;
    let evolution = r#"{
        "population": 100, "genome": 64, "elites": 4, "tournament": 3, "mutation": 0.5,
        "sigma": 0.1, "target_share": 0.25, "checked_every": 1
    }"#;
    let loads = [
        ("null", "{}", vec![1.0]),
        ("consensus", consensus, vec![1.0, 1.0, 1.0, 1.0]),
        ("evolution", evolution, vec![1.0, 1.0, 1.0]),
    ];
    for pacer_cpu in [None, Some(0)] {
        for (name, parameters, weights) in loads.clone() {
            let engine = engine(name, parameters, weights, pacer_cpu);
            for closed in [false, true] {
                let found = allocations_under_load(&engine, closed);
                assert_eq!(found, 0, "{name}, closed: {closed}, pacer on {pacer_cpu:?}");
            }
        }
    }
}

fn no_operation_of_any_component_allocates() {
    let small: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    let mut found = Vec::new();
    for name in names() {
        let described = small.get(name).expect("python tests/goldens.py writes every component");
        let parameters = described["parameters"].to_string();
        let context = Build { seed: 1, threads: 1, progress: &|_, _| true };
        let component = build(name, &parameters, &context).unwrap();
        for (index, op) in component.ops().iter().enumerate() {
            if described["allocating_ops"].as_array().unwrap().iter().any(|each| each == op) {
                continue;
            }
            let mut operation = component.operation();
            let mut run = |key: u64| {
                operation.run(Request { op: index as u8, key }, &mut NoPause);
            };
            (0..WARM_UP).for_each(&mut run);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (WARM_UP..WARM_UP + COUNTED).for_each(&mut run);
            let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
            if allocated > 0 {
                found.push(format!("{name} {op}: {allocated}"));
            }
        }
    }
    assert!(found.is_empty(), "allocations of {COUNTED} operations: {found:?}");
}
