//! Process agents: real processes of a program of their own, started, heard, and reaped.
//!
//! The program is carried as bytes and written once into a sealed file in memory. `posix_spawn`
//! starts it without copying this process' page tables (it shares memory until the new image is
//! loaded, as `vfork` does), which is safe with any number of threads. A process is ended by its
//! owner alone and only while it is an unreaped child, whose number nobody else can have.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use super::solitary::REPORT_WORDS;

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/process_agent"));
const NAME: &CStr = c"swarmbench-agent";
/// Allows a file in memory to be executed, since Linux 6.3; older kernels refuse the flag.
const MFD_EXEC: libc::c_uint = 0x10;
/// Longest time between two pauses while a process is awaited.
const WAIT_NS: i64 = 200_000;
/// A process that has not reported by then is ended.
pub const PATIENCE: Duration = Duration::from_secs(5);
const HEX_DIGITS: usize = 16;

/// The program, ready to be started.
pub struct Program {
    path: CString,
    /// What `path` names; closed by `exec`, so that no other child inherits it.
    _image: OwnedFd,
}

/// A child process of ours that has not been reaped.
pub struct Process {
    pid: libc::pid_t,
    reports: File,
    reaped: bool,
}

fn checked(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// For calls that return their error.
fn numbered(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn memory_file() -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a C string; what is returned is a new descriptor or an error.
    let create = |flags| checked(unsafe { libc::memfd_create(NAME.as_ptr(), flags) });
    let file = create(flags | MFD_EXEC).or_else(|_| create(flags))?;
    // SAFETY: it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

impl Program {
    /// Writes the program into a file in memory.
    ///
    /// # Errors
    /// The kernel gives none, or gives none that may be executed.
    pub fn new() -> io::Result<Self> {
        let mut file = File::from(memory_file()?);
        file.write_all(PROGRAM)?;
        let seals =
            libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        // SAFETY: a descriptor of ours and a constant.
        checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let program = Self { path, _image: file.into() };
        program.start(0, 0)?.report(PATIENCE, &mut || {})?;
        Ok(program)
    }

    /// Starts a process that will take `steps` steps from where `key` puts it.
    ///
    /// # Errors
    /// Out of processes, memory or descriptors.
    pub fn start(&self, key: u64, steps: u32) -> io::Result<Process> {
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for the two descriptors.
        checked(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
        // SAFETY: both are open and ours.
        let [reports, output] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let (key, steps) = (hex(key), hex(u64::from(steps)));
        let arguments = [NAME.as_ptr(), key.as_ptr().cast(), steps.as_ptr().cast(), ptr::null()];
        let pid = self.spawn(&arguments, output.as_raw_fd())?;
        Ok(Process { pid, reports: reports.into(), reaped: false })
    }

    /// `posix_spawn` with the standard output at `output`, no environment, no blocked signals.
    fn spawn(&self, arguments: &[*const libc::c_char], output: RawFd) -> io::Result<libc::pid_t> {
        let environment: [*mut libc::c_char; 1] = [ptr::null_mut()];
        let mut pid = 0;
        // SAFETY: actions and attributes are made before they are used and destroyed after; all
        // pointers are to C strings or arrays that end with a null pointer and outlive the call.
        unsafe {
            let mut actions = std::mem::zeroed();
            let mut attributes = std::mem::zeroed();
            numbered(libc::posix_spawn_file_actions_init(&mut actions))?;
            let mut made = numbered(libc::posix_spawnattr_init(&mut attributes));
            if made.is_ok() {
                let mut none = std::mem::zeroed();
                libc::sigemptyset(&mut none);
                let flags = libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
                made = numbered(libc::posix_spawn_file_actions_adddup2(&mut actions, output, 1))
                    .and(numbered(libc::posix_spawnattr_setsigmask(&mut attributes, &none)))
                    .and(numbered(libc::posix_spawnattr_setflags(&mut attributes, flags)))
                    .and_then(|()| {
                        numbered(libc::posix_spawn(
                            &mut pid,
                            self.path.as_ptr(),
                            &actions,
                            &attributes,
                            arguments.as_ptr().cast(),
                            environment.as_ptr(),
                        ))
                    });
                libc::posix_spawnattr_destroy(&mut attributes);
            }
            libc::posix_spawn_file_actions_destroy(&mut actions);
            made?;
        }
        Ok(pid)
    }
}

/// The number in hexadecimal, ended by a zero.
fn hex(number: u64) -> [u8; HEX_DIGITS + 1] {
    let mut text = [0; HEX_DIGITS + 1];
    for (place, digit) in text[..HEX_DIGITS].iter_mut().enumerate() {
        let value = (number >> (4 * (HEX_DIGITS - 1 - place)) & 15) as usize;
        *digit = b"0123456789abcdef"[value];
    }
    text
}

impl Process {
    /// Waits until the process has reported and is gone, and reaps it; `between` is called every
    /// `WAIT_NS` or so.
    ///
    /// # Errors
    /// No whole report, an exit status other than 0, or no end within `patience`: then it is ended.
    pub fn report(
        mut self,
        patience: Duration,
        between: &mut dyn FnMut(),
    ) -> io::Result<[u64; REPORT_WORDS]> {
        let until = Instant::now() + patience;
        let mut words = [0; REPORT_WORDS];
        let bytes = bytemuck::bytes_of_mut(&mut words);
        let mut filled = 0;
        // The end of the file comes when the process has closed everything, on its way out.
        loop {
            while !self.readable()? {
                if Instant::now() > until {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                between();
            }
            let mut beyond = [0];
            let room = if filled < bytes.len() { &mut bytes[filled..] } else { &mut beyond[..] };
            match self.reports.read(room) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let status = self.reap()?;
        if status != 0 || filled != size_of_val(&words) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(words)
    }

    fn readable(&self) -> io::Result<bool> {
        let fd = self.reports.as_raw_fd();
        let mut awaited = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let limit = libc::timespec { tv_sec: 0, tv_nsec: WAIT_NS as libc::c_long };
        // SAFETY: one descriptor of ours, a time, and no signal mask.
        match checked(unsafe { libc::ppoll(&mut awaited, 1, &limit, ptr::null()) }) {
            Ok(ready) => Ok(ready > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits for the end of the process; returns its status.
    fn reap(&mut self) -> io::Result<libc::c_int> {
        let mut status = 0;
        loop {
            // SAFETY: `status` is an int; the number is that of a child of ours not yet reaped.
            match checked(unsafe { libc::waitpid(self.pid, &mut status, 0) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Somebody else has reaped it: its number may be another's by now.
                    self.reaped = true;
                    return Err(error);
                }
                Ok(_) => {
                    self.reaped = true;
                    return Ok(status);
                }
            }
        }
    }

    /// Whether the number is still that of a child of ours, running or not yet reaped.
    fn is_ours(&self) -> bool {
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: all zeros is a siginfo_t, and it is written by the call alone.
        unsafe {
            let mut state = std::mem::zeroed();
            libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut state, options) == 0
        }
    }
}

impl Drop for Process {
    /// Ends and reaps a process that was given up.
    fn drop(&mut self) {
        if self.reaped || !self.is_ours() {
            return;
        }
        // SAFETY: an unreaped child keeps its number, so this reaches nobody else.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // A child that was killed ends; there is nobody to tell of a failure to reap it.
        drop(self.reap());
    }
}

#[cfg(test)]
mod tests {
    use super::super::solitary;
    use super::*;

    fn exists(pid: libc::pid_t) -> bool {
        // SAFETY: signal 0 only asks whether there is such a process, be it a zombie.
        unsafe { libc::kill(pid, 0) == 0 }
    }

    #[test]
    fn processes_report_what_the_definition_says_and_are_reaped() {
        let program = Program::new().expect("this machine lets the program run");
        for (key, steps) in [(0, 0), (u64::MAX, 1), (0x0123_4567_89AB_CDEF, 1000)] {
            let process = program.start(key, steps).expect("a process");
            let words = process.report(PATIENCE, &mut || {}).expect("a report");
            assert_eq!(words, solitary::live(key, steps));
        }
    }

    #[test]
    fn a_process_that_is_given_up_is_ended_and_reaped() {
        let program = Program::new().expect("this machine lets the program run");
        let process = program.start(7, u32::MAX).expect("a process");
        let pid = process.pid;
        assert!(process.is_ours() && exists(pid));
        drop(process);
        assert!(!exists(pid));
        let (late, mut between) = (program.start(7, u32::MAX).expect("a process"), 0);
        let pid = late.pid;
        let outcome = late.report(Duration::from_millis(5), &mut || between += 1);
        assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(between > 0 && !exists(pid));
    }

    #[test]
    fn a_process_that_ends_without_a_report_is_an_error() {
        let program = Program::new().expect("this machine lets the program run");
        let process = program.start(7, u32::MAX).expect("a process");
        // SAFETY: an unreaped child of ours.
        assert_eq!(unsafe { libc::kill(process.pid, libc::SIGKILL) }, 0);
        assert!(process.report(PATIENCE, &mut || {}).is_err());
    }

    #[test]
    fn a_process_that_somebody_else_has_reaped_is_left_alone() {
        let program = Program::new().expect("this machine lets the program run");
        let process = program.start(7, 0).expect("a process");
        let mut status = 0;
        // SAFETY: an unreaped child of ours.
        assert_eq!(unsafe { libc::waitpid(process.pid, &mut status, 0) }, process.pid);
        assert!(!process.is_ours());
        assert!(process.report(PATIENCE, &mut || {}).is_err());
    }
}
