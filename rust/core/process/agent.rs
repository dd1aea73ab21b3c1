//! A process agent: lives its steps alone, reports on its standard output and exits.
//!
//! It has neither a standard library nor a C library, so that what is timed when it is started is
//! the kernel's work: a new process, an image of a few pages, a pipe and an exit. It is started
//! as `agent KEY STEPS`, both in hexadecimal.

#![no_std]
#![no_main]

#[path = "../src/operations/agents/solitary.rs"]
mod solitary;

use core::arch::{asm, global_asm};

const STANDARD_OUTPUT: usize = 1;
const SIGINT: usize = 2;
const IGNORE: usize = 1;
const BAD_ARGUMENTS: usize = 2;
const NO_REPORT: usize = 3;
/// Most digits of an argument.
const DIGITS_MAX: usize = 16;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const SIGACTION: usize = 13;
    pub const EXIT: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const SIGACTION: usize = 134;
    pub const EXIT: usize = 94;
}

// The kernel starts a process here, with the stack pointer at the number of its arguments.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    begin = sym begin
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {begin}",
    begin = sym begin
);

#[cfg(target_arch = "x86_64")]
fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [first, second, third, fourth] = arguments;
    let answer: isize;
    // SAFETY: a system call that reads at most what `arguments` point at; the kernel changes rcx
    // and r11 alone.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") first, in("rsi") second,
            in("rdx") third, in("r10") fourth, out("rcx") _, out("r11") _, options(nostack));
    }
    answer
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [first, second, third, fourth] = arguments;
    let answer: isize;
    // SAFETY: a system call that reads at most what `arguments` point at.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") first => answer, in("x1") second,
            in("x2") third, in("x3") fourth, options(nostack));
    }
    answer
}

fn exit(status: usize) -> ! {
    loop {
        call(number::EXIT, [status, 0, 0, 0]);
    }
}

/// The hexadecimal number that a C string holds, or nothing where it holds none.
fn parsed(text: *const u8) -> Option<u64> {
    let mut value = 0;
    for at in 0..=DIGITS_MAX {
        // SAFETY: the kernel ends every argument with a zero, at which this stops.
        let byte = unsafe { text.add(at).read() };
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            0 if at > 0 => return Some(value),
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    None
}

/// The numbers on the command line; `stack` is where the kernel put their count.
fn arguments(stack: *const usize) -> Option<(u64, u32)> {
    // SAFETY: the kernel's own layout: a count, and as many pointers to C strings.
    let (key, steps) = unsafe {
        if stack.read() != 3 {
            return None;
        }
        (stack.add(2).read() as *const u8, stack.add(3).read() as *const u8)
    };
    Some((parsed(key)?, u32::try_from(parsed(steps)?).ok()?))
}

extern "C" fn begin(stack: *const usize) -> ! {
    // An interrupt typed at a terminal is for swarmbench, which ends what it has begun.
    let ignored: [usize; 4] = [IGNORE, 0, 0, 0];
    call(number::SIGACTION, [SIGINT, ignored.as_ptr() as usize, 0, 8]);
    let Some((key, steps)) = arguments(stack) else { exit(BAD_ARGUMENTS) };
    let report = solitary::live(key, steps);
    let bytes = size_of_val(&report);
    let written = call(number::WRITE, [STANDARD_OUTPUT, report.as_ptr() as usize, bytes, 0]);
    exit(if written == bytes as isize { 0 } else { NO_REPORT })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(NO_REPORT)
}
