//! The extension module `swarmbench._native`: handles and conversions, no decisions.

use pyo3::prelude::*;

mod arrays;
mod component;
mod histogram;

#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::component::Component;
    #[pymodule_export]
    use super::component::component_names;
    #[pymodule_export]
    use super::histogram::Histogram;
}
