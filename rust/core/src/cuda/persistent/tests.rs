//! The feeder of a spinning kernel under the fake driver: launches that end, are refused and fail.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::*;
use crate::clock::{Pacing, RealClock, Signal, Waited};
use crate::cuda::Driver;
use crate::cuda::ring::{PAYLOAD_WORDS, Shape};
use crate::cuda::tests::fake::Fake;

const SHAPE: Shape = Shape { groups: 2, slots: 16, answer_lines: 1 };
/// Sizes of the parameters of `ring_echo`.
const SIZES: [u64; 6] = [8, 4, 4, 8, 8, 8];
const PATIENCE: Duration = Duration::from_secs(20);
/// Short enough to end often: the emulator's blocks run one after the other.
const SHORT: Limits = Limits { slice_ns: 300_000, polls_max: 200 };
/// Attribute of the device: the system ends kernels that run for long.
const KERNEL_EXEC_TIMEOUT: i32 = 17;
const OUT_OF_RESOURCES: i32 = 701;
const LAUNCH_FAILED: i32 = 719;

/// One clock for all, for each takes a while to be calibrated.
struct Common(&'static RealClock);

impl Common {
    fn new() -> Self {
        static CLOCK: OnceLock<RealClock> = OnceLock::new();
        Self(CLOCK.get_or_init(|| RealClock::new(Pacing::Park)))
    }
}

impl Clock for Common {
    fn now(&self) -> u64 {
        self.0.now()
    }

    fn wait_until(&self, due: u64, signal: &Signal, seen: u32) -> Waited {
        self.0.wait_until(due, signal, seen)
    }
}

fn opened(fake: &Fake) -> Arc<Context> {
    Driver::open(&fake.path).and_then(|driver| driver.context(0)).expect("it opens")
}

fn start(fake: &Fake, kernel: &str, limits: Limits) -> Persistent<Common> {
    let context = opened(fake);
    let memory = Arc::new(Memory::owned(SHAPE).expect("the shape is right"));
    let address = memory.address();
    let function = fake.function(kernel, &SIZES);
    let kernel = Kernel { function, block: 32, shared_bytes: 0, arguments: Vec::new() };
    Persistent::start(&context, 0, memory, address, kernel, limits, Common::new())
        .expect("nothing is refused")
}

fn payload(number: u64) -> Payload {
    [number; PAYLOAD_WORDS]
}

/// Submits messages until so many more have come back, each as it was sent.
fn exchange(
    persistent: &mut Persistent<Common>,
    sent: &mut u64,
    count: u64,
) -> Result<(), PersistentError> {
    let (began, mut done) = (Instant::now(), 0);
    while done < count {
        while *sent < u64::MAX && persistent.in_flight() < 8 {
            assert!(persistent.submit(&payload(*sent)).is_some());
            *sent += 1;
        }
        done += persistent.poll(|_, _, answer| assert!(answer.word(0) < *sent))? as u64;
        assert!(began.elapsed() < PATIENCE, "{done} of {count} came back");
        std::thread::yield_now();
    }
    Ok(())
}

/// Polls until `is_so`, and says whether it ever was.
fn comes_true(
    persistent: &mut Persistent<Common>,
    mut is_so: impl FnMut(&Persistent<Common>) -> bool,
) -> bool {
    let began = Instant::now();
    while !is_so(persistent) {
        if began.elapsed() > PATIENCE || persistent.poll(|_, _, _| ()).is_err() {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn each_message_is_answered_once_over_many_launches() {
    let Some(fake) = Fake::new() else { return };
    let mut persistent = start(&fake, "ring_echo", SHORT);
    let mut answered = vec![0u8; 5000];
    let (mut sent, mut done, began) = (0, 0, Instant::now());
    while done < answered.len() {
        while sent < answered.len() && persistent.submit(&payload(sent as u64)).is_some() {
            sent += 1;
        }
        let found = persistent.poll(|_, _, answer| {
            assert!((0..PAYLOAD_WORDS).all(|word| answer.word(word) == answer.word(0)));
            answered[answer.word(0) as usize] += 1;
        });
        done += found.unwrap();
        assert!(began.elapsed() < PATIENCE, "{done} came back");
        std::thread::yield_now();
    }
    assert!(answered.iter().all(|times| *times == 1));
    assert!(persistent.launches() > 10, "{} launches", persistent.launches());
}

#[test]
fn a_launch_that_found_nothing_to_do_is_followed_by_one_when_there_is() {
    let Some(fake) = Fake::new() else { return };
    let limits = Limits { slice_ns: 1_000_000_000, polls_max: 3 };
    let mut persistent = start(&fake, "ring_echo", limits);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(50) {
        assert_eq!(persistent.poll(|_, _, _| ()).unwrap(), 0);
    }
    assert_eq!(persistent.launches(), 1);
    assert!(persistent.submit(&payload(1)).is_some());
    assert!(comes_true(&mut persistent, |persistent| persistent.in_flight() == 0));
    assert!(persistent.launches() > 1);
}

#[test]
fn a_launch_whose_slice_is_over_is_followed_by_another_at_once() {
    let Some(fake) = Fake::new() else { return };
    let limits = Limits { slice_ns: 2_000_000, polls_max: u64::MAX };
    let mut persistent = start(&fake, "ring_echo", limits);
    assert!(comes_true(&mut persistent, |persistent| persistent.launches() > 5));
}

#[test]
fn slices_end_before_a_watchdog_would_end_them() {
    let asked = Limits { slice_ns: u64::MAX, polls_max: 5 };
    for (has_time_out, slice_ns) in [(0, 2_000_000_000), (1, 200_000_000)] {
        let Some(fake) = Fake::new() else { return };
        fake.attribute(KERNEL_EXEC_TIMEOUT, has_time_out);
        let persistent = start(&fake, "ring_echo", asked);
        assert_eq!(persistent.limits(), Limits { slice_ns, polls_max: 5 });
        drop(persistent);
        let persistent = start(&fake, "ring_echo", SHORT);
        assert_eq!(persistent.limits(), SHORT);
    }
}

#[test]
fn a_refused_launch_is_told_and_tried_again() {
    let Some(fake) = Fake::new() else { return };
    let mut persistent = start(&fake, "ring_echo", SHORT);
    let mut sent = 0;
    exchange(&mut persistent, &mut sent, 100).unwrap();
    fake.fault("cuLaunchKernel", 1, OUT_OF_RESOURCES);
    let refused = exchange(&mut persistent, &mut sent, 1_000_000).unwrap_err();
    let PersistentError::Driver(error) = &refused else { panic!("{refused}") };
    assert!(!error.is_lost(), "{refused}");
    exchange(&mut persistent, &mut sent, 100).unwrap();
}

#[test]
fn a_device_that_is_lost_while_its_kernel_spins_is_told() {
    let Some(fake) = Fake::new() else { return };
    let mut persistent = start(&fake, "ring_echo", SHORT);
    let mut sent = 0;
    exchange(&mut persistent, &mut sent, 100).unwrap();
    fake.fault("kernel", 3, LAUNCH_FAILED);
    let lost = exchange(&mut persistent, &mut sent, 1_000_000).unwrap_err();
    let PersistentError::Driver(error) = &lost else { panic!("{lost}") };
    assert!(error.is_lost(), "{lost}");
    let began = Instant::now();
    while persistent.poll(|_, _, _| ()).is_ok() {
        assert!(began.elapsed() < PATIENCE, "a device that is lost stays so");
    }
}

#[test]
fn a_first_launch_that_is_refused_starts_nothing() {
    let Some(fake) = Fake::new() else { return };
    let context = opened(&fake);
    for call in ["cuStreamCreateWithPriority", "cuLaunchKernel"] {
        fake.fault(call, 1, OUT_OF_RESOURCES);
        let memory = Arc::new(Memory::owned(SHAPE).unwrap());
        let address = memory.address();
        let function = fake.function("ring_echo", &SIZES);
        let kernel = Kernel { function, block: 32, shared_bytes: 0, arguments: Vec::new() };
        let refused = Persistent::start(&context, 0, memory, address, kernel, SHORT, Common::new());
        let Err(error) = refused else { panic!("{call} was not refused") };
        assert!(error.to_string().contains(call), "{error}");
    }
}

#[test]
fn a_kernel_that_leaves_no_word_is_launched_again() {
    let Some(fake) = Fake::new() else { return };
    let mut persistent = start(&fake, "ring_mute", SHORT);
    assert!(persistent.submit(&payload(1)).is_some());
    assert!(comes_true(&mut persistent, |persistent| persistent.launches() > 3));
    assert_eq!(persistent.in_flight(), 1);
}

#[test]
fn what_a_stop_leaves_is_answered_after_it() {
    let Some(fake) = Fake::new() else { return };
    let endless = Limits { slice_ns: u64::MAX, polls_max: u64::MAX };
    let mut persistent = start(&fake, "ring_echo", endless);
    persistent.stop().unwrap();
    let launches = persistent.launches();
    assert!(persistent.submit(&payload(1)).is_some());
    assert_eq!((persistent.in_flight(), persistent.launches()), (1, launches));
    assert!(comes_true(&mut persistent, |persistent| persistent.in_flight() == 0));
    drop(persistent);
    // Its end was waited for, though the launch had two seconds for each block.
    fake.settle();
}
