//! Load engine, latency recorder and CPU workloads of swarmbench, without Python and without CUDA.

pub mod histogram;
pub mod hlog;
pub mod operations;
pub mod random;
