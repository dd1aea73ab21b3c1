//! The CUDA driver, opened at run time: contexts, streams, launches and graphs without Python.
//!
//! Nothing is linked and nothing is opened before [`Driver::open`], so the crate loads on a machine
//! that has no driver. What a function or an address stands for cannot be seen here: whoever makes
//! a [`Launch`] or enqueues a fill, a copy or a word answers for it, and for the memory's being
//! there until the stream is done with it.

mod context;
mod driver;
mod error;
mod graph;
mod launch;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub use context::{Capabilities, Context};
pub use driver::Driver;
pub use error::DriverError;
pub use graph::Graph;
pub use launch::Launch;
pub use stream::Stream;
