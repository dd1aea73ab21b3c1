//! The fake driver and a library of kernels, compiled once and loaded anew for each test.
//!
//! Both are those of the package's emulated device (`python/swarmbench/gpu/emulator`). Each `Fake`
//! loads a copy of its own, so that tests of one process do not share counts and faults.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libloading::Library;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const EMULATOR: &str = "python/swarmbench/gpu/emulator";
const DRIVER_PARTS: [&str; 3] = ["fake_driver.cpp", "fake_streams.cpp", "fake_control.cpp"];
/// Each copy has globals of its own only where templates' are not unique to the process.
const FLAGS: [&str; 7] =
    ["-std=c++20", "-O2", "-fPIC", "-shared", "-pthread", "-w", "-fno-gnu-unique"];
const PATIENCE: Duration = Duration::from_secs(20);
static COPIES: AtomicU64 = AtomicU64::new(0);

/// `add`: words[i] += step * (i + 1). `unmet`: a warp waits for a lane that does not come.
/// `ring_mute`: ends and leaves no word in its ring.
const KERNELS: &str = r#"
#include "ring.cu"
extern "C" __global__ void add(u64* words, u64 count, u32 step) {
    const u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) words[index] += u64(step) * (index + 1);
}
extern "C" __global__ void unmet(u32 count) {
    if (threadIdx.x < count) __syncwarp(1u << 31);
}
extern "C" __global__ void ring_mute(u64*, u32, u32, u64, u64, u64) {}
extern "C" const host_cuda::Entry host_cuda_entries[] = {
    HOST_CUDA_ENTRY(add), HOST_CUDA_ENTRY(unmet), HOST_CUDA_ENTRY(ring_echo),
    HOST_CUDA_ENTRY(ring_mute), {}};
"#;

pub(crate) struct Fake {
    /// The driver, as `Driver::open` takes it.
    pub(crate) path: PathBuf,
    driver: ManuallyDrop<Library>,
    kernels: ManuallyDrop<Library>,
    copies: [PathBuf; 2],
}

impl Fake {
    /// A driver in which nothing has happened yet; `None`, with a word of why, where nothing here
    /// compiles C++.
    pub(crate) fn new() -> Option<Self> {
        let compiler = compiler()?;
        let emulator = Path::new(ROOT).join(EMULATOR);
        let parts = DRIVER_PARTS.map(|part| emulator.join(part));
        let driver = built(compiler, "driver", &parts, "");
        let kernels = built(compiler, "kernels", &[emulator.join("host_cuda.cpp")], KERNELS);
        let copies = [copied(&driver), copied(&kernels)];
        Some(Self {
            path: copies[0].clone(),
            driver: ManuallyDrop::new(loaded(&copies[0])),
            kernels: ManuallyDrop::new(loaded(&copies[1])),
            copies,
        })
    }

    /// The function of a kernel whose parameters have these sizes in bytes.
    pub(crate) fn function(&self, kernel: &str, sizes: &[u64]) -> u64 {
        type Entry = unsafe extern "C" fn(*const c_char) -> u32;
        type Made = unsafe extern "C" fn(*mut c_void, u32, u32, *const u64) -> u64;
        let name = CString::new(kernel).unwrap();
        // SAFETY: the types are those of host_cuda.cpp and fake_control.cpp; what they are given
        // lives as long as the calls, and the kernels' library as long as the process.
        unsafe {
            let entry: Entry = found(&self.kernels, "host_cuda_entry");
            let launch: *mut c_void = found(&self.kernels, "host_cuda_launch");
            let made: Made = found(&self.driver, "fake_function");
            made(launch, entry(name.as_ptr()), sizes.len() as u32, sizes.as_ptr())
        }
    }

    /// Lets the `nth` call from now on fail.
    pub(crate) fn fault(&self, call: &str, nth: u64, code: i32) {
        type Planted = unsafe extern "C" fn(*const c_char, u64, c_int);
        let name = CString::new(call).unwrap();
        // SAFETY: the type is that of fake_control.cpp, the name lives as long as the call.
        unsafe { found::<Planted>(&self.driver, "fake_fault")(name.as_ptr(), nth, code) };
    }

    pub(crate) fn attribute(&self, attribute: i32, value: i32) {
        type Planted = unsafe extern "C" fn(c_int, c_int);
        // SAFETY: the type is that of fake_control.cpp.
        unsafe { found::<Planted>(&self.driver, "fake_attribute")(attribute, value) };
    }

    pub(crate) fn reset(&self) {
        // SAFETY: the type is that of fake_control.cpp.
        unsafe { found::<unsafe extern "C" fn()>(&self.driver, "fake_reset")() };
    }

    /// How many there are of `contexts`, `streams`, `workers`, `graphs` or `executables`.
    pub(crate) fn live(&self, kind: &str) -> u64 {
        self.count("fake_live", kind)
    }

    pub(crate) fn calls(&self, call: &str) -> u64 {
        self.count("fake_calls", call)
    }

    /// Waits until no stream has anything left to do; memory that streams use may be freed then.
    pub(crate) fn settle(&self) {
        let began = Instant::now();
        while self.live("workers") != 0 {
            assert!(began.elapsed() < PATIENCE, "streams that nobody holds are still at work");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn count(&self, function: &str, name: &str) -> u64 {
        type Counted = unsafe extern "C" fn(*const c_char) -> u64;
        let name = CString::new(name).unwrap();
        // SAFETY: the type is that of fake_control.cpp, the name lives as long as the call.
        unsafe { found::<Counted>(&self.driver, function)(name.as_ptr()) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        for copy in &self.copies {
            fs::remove_file(copy).unwrap();
        }
    }
}

/// A library of one part, by the name of what has to be in it.
pub(crate) fn library_of(name: &str, text: &str) -> Option<PathBuf> {
    Some(built(compiler()?, name, &[], text))
}

fn compiler() -> Option<&'static str> {
    let found = ["g++", "c++"].into_iter().find(|name| {
        let asked = Command::new(name).arg("--version").stdout(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        eprintln!("skipped: no C++ compiler is here to build the fake driver");
    }
    found
}

/// The library of these files and this text, compiled unless it was before.
fn built(compiler: &str, name: &str, files: &[PathBuf], text: &str) -> PathBuf {
    let root = Path::new(ROOT);
    let folders = [root.join(EMULATOR), root.join("kernels")];
    let mut hasher = DefaultHasher::new();
    (text, FLAGS).hash(&mut hasher);
    let listed = fs::read_dir(&folders[0]).unwrap().map(|entry| entry.unwrap().path());
    let included = ["common.cuh", "ring.cuh", "ring.cu"].map(|file| folders[1].join(file));
    let mut read: Vec<PathBuf> = listed.chain(included).collect();
    read.sort();
    for file in read {
        fs::read(file).unwrap().hash(&mut hasher);
    }
    let place = Path::new(env!("OUT_DIR")).join("fake");
    fs::create_dir_all(&place).unwrap();
    let library = place.join(format!("{name}-{:016x}.so", hasher.finish()));
    let lock = File::create(place.join(format!("{name}.lock"))).unwrap();
    // SAFETY: the descriptor is open; the lock ends with it.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0);
    if library.exists() {
        return library;
    }
    let unfinished = library.with_extension("making");
    let mut child = Command::new(compiler)
        .args(FLAGS)
        .arg("-DHOST_CUDA")
        .args(folders.iter().map(|folder| format!("-I{}", folder.display())))
        .args(["-x", "c++", "-"])
        .args(files)
        .arg("-o")
        .arg(&unfinished)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{name} does not compile");
    fs::rename(&unfinished, &library).unwrap();
    library
}

/// A copy of a library, which the system loads as another one.
fn copied(library: &Path) -> PathBuf {
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let copy = library.with_extension(format!("{}.{number}.so", std::process::id()));
    fs::copy(library, &copy).unwrap();
    copy
}

fn loaded(path: &Path) -> Library {
    // SAFETY: the library was compiled from this repository and is never unloaded.
    unsafe { Library::new(path) }.unwrap()
}

/// What a library exports under a name.
///
/// # Safety
/// `T` is its type: a function's, or a pointer.
unsafe fn found<T: Copy>(library: &Library, name: &str) -> T {
    // SAFETY: the caller's promise.
    *unsafe { library.get::<T>(name.as_bytes()) }.unwrap()
}
