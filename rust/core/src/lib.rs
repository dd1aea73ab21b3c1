//! Load engine, latency recorder and CPU workloads of swarmbench, without Python and without CUDA.

pub mod arrivals;
pub mod calibrate;
pub mod canary;
pub mod clock;
pub mod engine;
pub mod histogram;
pub mod hlog;
pub mod operations;
pub mod queue;
pub mod random;
pub mod simulate;
mod sync;
