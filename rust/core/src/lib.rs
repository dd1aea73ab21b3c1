//! Load engine, latency recorder, CPU workloads and the CUDA driver of swarmbench, without Python.

pub mod arrivals;
pub mod calibrate;
pub mod canary;
pub mod clock;
pub mod cuda;
pub mod engine;
pub mod histogram;
pub mod hlog;
pub mod operations;
pub mod queue;
pub mod random;
pub mod simulate;
mod sync;
