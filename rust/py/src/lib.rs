//! The extension module `swarmbench._native`: handles and conversions, no decisions.

use pyo3::prelude::*;

mod arrays;
mod block_file;
mod calibrate;
mod caller;
mod coder;
mod component;
mod cuda;
mod desk;
mod drain;
mod engine;
mod histogram;
mod hlog;
mod ring;
mod simulated;
mod span_pool;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::block_file::{BlockFile, block_checksum};
    #[pymodule_export]
    use super::calibrate::{Canary, CanaryReading, measure_ceilings};
    #[pymodule_export]
    use super::caller::Caller;
    #[pymodule_export]
    use super::coder::Coder;
    #[pymodule_export]
    use super::component::Component;
    #[pymodule_export]
    use super::component::graph_file_size;
    #[pymodule_export]
    use super::component::{component_names, fault_names};
    #[pymodule_export]
    use super::cuda::{Berth, CudaContext, Submitter};
    #[pymodule_export]
    use super::desk::{Desk, Opened};
    #[pymodule_export]
    use super::drain::Drain;
    #[pymodule_export]
    use super::engine::{Engine, IntervalReading, Reading, Workload};
    #[pymodule_export]
    use super::histogram::Histogram;
    #[pymodule_export]
    use super::hlog::{hlog_header, hlog_line, hlog_read};
    #[pymodule_export]
    use super::ring::Ring;
    #[pymodule_export]
    use super::simulated::SimulatedWorkload;
    #[pymodule_export]
    use super::span_pool::SpanPool;
}
