//! A workload of a simulated system, as Python makes it.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use swarmbench_core::arrivals;
use swarmbench_core::simulate::{self, Service};

use crate::engine::process_from;

/// One workload of a simulated system.
#[pyclass(frozen, module = "swarmbench._native")]
pub struct SimulatedWorkload {
    pub inner: simulate::SimulatedWorkload,
}

#[pymethods]
impl SimulatedWorkload {
    /// `rate` is operations per second at multiplier 1; `service` is "constant" or "exponential"
    /// with a mean of `service_ns`; `in_flight_bound` operations are admitted at once at most.
    #[new]
    #[pyo3(signature = (
        *, rate, service_ns, service = "exponential", process = "poisson",
        in_flight_bound = 11_024
    ))]
    fn new(
        rate: f64,
        service_ns: f64,
        service: &str,
        process: &str,
        in_flight_bound: usize,
    ) -> PyResult<Self> {
        let service = match service {
            "constant" => Service::Constant { ns: service_ns },
            "exponential" => Service::Exponential { mean_ns: service_ns },
            other => {
                return Err(PyValueError::new_err(format!(
                    "service `{other}`: choose constant or exponential"
                )));
            }
        };
        let process = process_from(process, 1.0, 1.0, 1.0, Vec::new())?;
        let source = arrivals::Workload { process, weights: vec![1.0] };
        Ok(Self { inner: simulate::SimulatedWorkload { source, rate, service, in_flight_bound } })
    }
}
