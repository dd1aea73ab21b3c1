//! What the binding makes of a driver that fails, call by call, and of one that is not there.

use std::path::Path;

use super::super::driver::CALLS;
use super::super::error::LOST;
use super::super::{Capabilities, Driver, DriverError, Launch};
use super::fake::{Fake, library_of};
use super::{Memory, adding, context, failed_with};

const OUT_OF_MEMORY: i32 = 2;
const ILLEGAL_ADDRESS: i32 = 700;
/// `gpu/card_stream.py`, where the same errors are named for CuPy's exceptions.
const CARD: &str = include_str!("../../../../../python/swarmbench/gpu/card_stream.py");
/// What fails in them is not told: they give something back.
const GIVING_BACK: [&str; 4] =
    ["cuStreamDestroy_v2", "cuDevicePrimaryCtxRelease_v2", "cuGraphExecDestroy", "cuGraphDestroy"];

/// Makes every call there is, and gives everything back.
fn everything(path: &Path, launch: &Launch, memory: &Memory) -> Result<(), DriverError> {
    let driver = Driver::open(path)?;
    assert!(driver.version()? >= 12_000);
    let context = driver.context(0)?;
    context.enter()?;
    let priorities = context.capabilities()?.priorities;
    let stream = context.stream(priorities.1)?;
    let graph = stream.capture(|stream| {
        stream.launch(launch)?;
        stream.write_word(memory.address(1), 1)
    })?;
    stream.wait_word(memory.address(0), 1)?;
    stream.fill(memory.address(1), 0, 8)?;
    stream.copy(memory.address(2), memory.address(1), 8)?;
    stream.launch(launch)?;
    stream.graph(&graph)?;
    stream.write_word(memory.address(1), 2)?;
    stream.is_idle()?;
    stream.synchronize()
}

fn nothing_is_left(fake: &Fake, call: &str) {
    for kind in ["contexts", "streams", "graphs", "executables"] {
        assert_eq!(fake.live(kind), 0, "{kind} after {call} failed");
    }
    fake.settle();
}

#[test]
fn each_call_that_fails_is_named_and_leaves_nothing_behind() {
    let Some(fake) = Fake::new() else { return };
    let memory = Memory::of(100);
    let launch = adding(&fake, &memory, 1);
    memory.set(0, 1);
    everything(&fake.path, &launch, &memory).unwrap();
    let counts: Vec<u64> = CALLS.iter().map(|call| fake.calls(call)).collect();
    for (&call, count) in CALLS.iter().zip(counts) {
        assert!(count > 0 || call == "cuGetErrorName", "{call} was never made");
        for nth in 1..=count {
            fake.reset();
            memory.set(0, 1);
            fake.fault(call, nth, OUT_OF_MEMORY);
            let ended = everything(&fake.path, &launch, &memory);
            nothing_is_left(&fake, call);
            let is_told = !GIVING_BACK.contains(&call);
            let is_entering_to_give_back = call == "cuCtxSetCurrent" && nth > 3;
            if is_told && !is_entering_to_give_back {
                let error = ended.unwrap_err();
                let name = "CUDA_ERROR_OUT_OF_MEMORY".to_owned();
                assert_eq!(error, DriverError::Call { call, code: OUT_OF_MEMORY, name });
                assert!(error.is_out_of_memory() && !error.is_lost());
            } else {
                ended.unwrap();
            }
        }
    }
}

#[test]
fn a_device_that_is_lost_stays_lost_and_leaves_nothing_behind() {
    let Some(fake) = Fake::new() else { return };
    let memory = Memory::of(100);
    let (context, launch) = (context(&fake), adding(&fake, &memory, 1));
    let (stream, other) = (context.stream(0).unwrap(), context.stream(0).unwrap());
    let graph = stream.capture(|stream| stream.launch(&launch)).unwrap();
    other.wait_word(memory.address(0), 1 << 40).unwrap();
    fake.fault("kernel", 1, ILLEGAL_ADDRESS);
    stream.launch(&launch).unwrap();
    let told = stream.synchronize().unwrap_err();
    assert!(told.is_lost() && !told.is_out_of_memory());
    assert_eq!(told.to_string(), "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700)");
    let address = memory.address(1);
    for ended in [
        other.synchronize(),
        stream.launch(&launch),
        stream.fill(address, 0, 8),
        stream.copy(address, address, 8),
        stream.wait_word(address, 0),
        stream.write_word(address, 7),
        stream.graph(&graph),
        stream.is_idle().map(drop),
        stream.capture(|_| Ok(())).map(drop),
        context.stream(0).map(drop),
        context.capabilities().map(drop),
    ] {
        assert!(failed_with(ended, ILLEGAL_ADDRESS));
    }
    assert_eq!(memory.values(), vec![0; 100]);
    drop((stream, other, graph, context));
    nothing_is_left(&fake, "the device");
}

#[test]
fn a_kernel_that_does_what_none_may_loses_the_device() {
    let Some(fake) = Fake::new() else { return };
    let context = context(&fake);
    let stream = context.stream(0).unwrap();
    let count = 1u32.to_ne_bytes();
    stream.launch(&Launch::new(fake.function("unmet", &[4]), 1, 32, 0, &[&count])).unwrap();
    let told = stream.synchronize().unwrap_err();
    assert_eq!(told.to_string(), "cuStreamSynchronize: CUDA_ERROR_LAUNCH_FAILED (719)");
    assert!(told.is_lost());
}

#[test]
fn the_errors_of_a_lost_device_are_those_that_the_card_names() {
    let Some(fake) = Fake::new() else { return };
    let driver = Driver::open(&fake.path).unwrap();
    let list = CARD.split_once("_STICKY = (").unwrap().1.split_once("\n)").unwrap().0;
    let mut named: Vec<String> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
        .map(|name| format!("CUDA_ERROR_{name}"))
        .collect();
    let mut ours: Vec<String> = LOST
        .iter()
        .map(|&code| match driver.checked("cuInit", code).unwrap_err() {
            DriverError::Call { name, .. } => name,
            other => other.to_string(),
        })
        .collect();
    named.sort();
    ours.sort();
    assert_eq!(ours, named);
    for code in 0..1000 {
        let is_lost = driver.checked("cuInit", code).is_err_and(|error| error.is_lost());
        assert_eq!(is_lost, LOST.contains(&code), "{code}");
    }
}

#[test]
fn a_device_without_words_says_so_and_refuses_them() {
    let Some(fake) = Fake::new() else { return };
    let (context, memory) = (context(&fake), Memory::of(1));
    let usual = Capabilities { stream_words: true, has_time_out: false, priorities: (0, -5) };
    assert_eq!(context.capabilities().unwrap(), usual);
    fake.attribute(122, 0);
    fake.attribute(17, 1);
    let without = Capabilities { stream_words: false, has_time_out: true, ..usual };
    assert_eq!(context.capabilities().unwrap(), without);
    let stream = context.stream(0).unwrap();
    let refused = stream.wait_word(memory.address(0), 0).unwrap_err();
    assert_eq!(refused.to_string(), "cuStreamWaitValue64_v2: CUDA_ERROR_NOT_SUPPORTED (801)");
    assert!(failed_with(stream.write_word(memory.address(0), 1), 801));
    stream.synchronize().unwrap();
    assert_eq!(memory.get(0), 0);
}

#[test]
fn what_a_driver_refuses_is_told_at_the_call() {
    let Some(fake) = Fake::new() else { return };
    let (context, memory) = (context(&fake), Memory::of(1));
    let stream = context.stream(0).unwrap();
    let function = fake.function("unmet", &[4]);
    let argument = 0u32.to_ne_bytes();
    for (grid, block, shared_bytes) in [(0, 1, 0), (1, 0, 0), (1, 1025, 0), (1, 1, 1 << 20)] {
        let launch = Launch::new(function, grid, block, shared_bytes, &[&argument]);
        assert!(failed_with(stream.launch(&launch), 1), "{launch:?}");
    }
    let unknown = Launch::new(memory.address(0), 1, 1, 0, &[&argument]);
    assert!(failed_with(stream.launch(&unknown), 400));
    assert!(failed_with(stream.wait_word(memory.address(0) + 4, 0), 1), "a word is aligned");
    assert!(failed_with(stream.fill(0, 0, 1), 1));
    assert!(failed_with(stream.copy(memory.address(0), 0, 1), 1));
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| stream.synchronize());
        assert!(failed_with(entered.join().unwrap(), 201), "the thread has not entered");
    });
}

#[test]
fn an_error_without_a_name_is_told_by_its_number() {
    let Some(fake) = Fake::new() else { return };
    fake.fault("cuInit", 1, 4242);
    let unnamed = Driver::open(&fake.path).map(drop).unwrap_err();
    assert_eq!(unnamed.to_string(), "cuInit: an error without a name (4242)");
    fake.fault("cuInit", 1, 100);
    fake.fault("cuGetErrorName", 1, 999);
    let unnamed = Driver::open(&fake.path).map(drop).unwrap_err();
    assert_eq!(unnamed.to_string(), "cuInit: an error without a name (100)");
    fake.fault("cuInit", 1, 100);
    let named = Driver::open(&fake.path).map(drop).unwrap_err();
    assert_eq!(named.to_string(), "cuInit: CUDA_ERROR_NO_DEVICE (100)");
}

#[test]
fn a_driver_that_is_not_there_is_named_with_the_reason() {
    let path = Path::new("/nowhere/libcuda.so.1");
    let absent = Driver::open(path).map(drop).unwrap_err();
    assert!(matches!(&absent, DriverError::Absent { path: found, .. } if found == path));
    let text = absent.to_string();
    let beginning = "the CUDA driver `/nowhere/libcuda.so.1` cannot be opened: ";
    assert!(text.starts_with(beginning) && text.len() > beginning.len(), "{text}");
    assert!(!absent.is_lost() && !absent.is_out_of_memory());
}

#[test]
fn a_driver_without_a_call_is_too_old() {
    let old = "extern \"C\" int cuInit(unsigned) { return 0; }";
    let Some(path) = library_of("old", old) else { return };
    let missing = Driver::open(&path).map(drop).unwrap_err();
    assert_eq!(missing, DriverError::Symbol { name: "cuDriverGetVersion".to_owned() });
    assert_eq!(missing.to_string(), "the CUDA driver has no `cuDriverGetVersion`; it is too old");
}

#[test]
fn everything_of_the_driver_goes_from_thread_to_thread() {
    fn is_shared<T: Send + Sync>() {}
    fn is_given_on<T: Send>() {}
    is_shared::<super::super::Driver>();
    is_shared::<super::super::Context>();
    is_shared::<super::super::Stream>();
    is_shared::<Launch>();
    is_given_on::<super::super::Graph>();
}
