//! In the place of `process.rs` for targets that the program of the process agents is not made for.

use std::io;
use std::time::Duration;

use super::solitary::REPORT_WORDS;

pub const PATIENCE: Duration = Duration::ZERO;

pub enum Program {}

pub enum Process {}

impl Program {
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn start(&self, _: u64, _: u32) -> io::Result<Process> {
        match *self {}
    }
}

impl Process {
    pub fn report(self, _: Duration, _: &mut dyn FnMut()) -> io::Result<[u64; REPORT_WORDS]> {
        match self {}
    }
}
