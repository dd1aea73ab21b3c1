//! The CUDA driver, opened at run time: contexts, streams, launches and graphs without Python, and
//! the operations of a workload asked again and again through them.
//!
//! Nothing is linked and nothing is opened before [`Driver::open`], so the crate loads on a machine
//! that has no driver. What a function or an address stands for cannot be seen here: whoever makes
//! a [`Launch`] or enqueues a fill, a copy or a word answers for it, and for the memory's being
//! there until the stream is done with it.

mod context;
mod driver;
mod entry;
mod error;
mod graph;
mod host_memory;
mod lane;
mod launch;
pub mod persistent;
mod program;
pub mod ring;
mod stream;
mod submitter;
#[cfg(test)]
pub(crate) mod tests;

pub use context::{Capabilities, Context};
pub use driver::Driver;
pub use entry::{Entry, LearningError, Noted};
pub use error::DriverError;
pub use graph::Graph;
pub use host_memory::{HostSpan, HostWord};
pub use lane::{Berth, Mode, Words};
pub use launch::Launch;
pub use program::{Command, Program};
pub use stream::Stream;
pub use submitter::{Figures, Lane, Submitter};
