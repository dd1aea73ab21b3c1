//! Named NumPy arrays in and out of `Arrays`.

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use swarmbench_core::operations::{Array, Arrays};

fn array_from(value: &Bound<'_, PyAny>) -> PyResult<Array> {
    macro_rules! try_types {
        ($($kind:ident => $element:ty),+) => {$(
            if let Ok(array) = value.extract::<PyReadonlyArray1<'_, $element>>() {
                return Ok(Array::$kind(array.as_array().to_vec()));
            }
        )+};
    }
    try_types!(U8 => u8, U16 => u16, U32 => u32, U64 => u64);
    try_types!(I32 => i32, I64 => i64, F32 => f32, F64 => f64);
    Err(PyTypeError::new_err(format!(
        "expected a one-dimensional array of u8, u16, u32, u64, i32, i64, f32 or f64, got {}",
        value.get_type()
    )))
}

pub fn arrays_from(inputs: &Bound<'_, PyDict>) -> PyResult<Arrays> {
    inputs.iter().map(|(name, value)| Ok((name.extract()?, array_from(&value)?))).collect()
}

pub fn arrays_to<'py>(py: Python<'py>, arrays: Arrays) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, array) in arrays {
        let value = match array {
            Array::U8(values) => PyArray1::from_vec(py, values).into_any(),
            Array::U16(values) => PyArray1::from_vec(py, values).into_any(),
            Array::U32(values) => PyArray1::from_vec(py, values).into_any(),
            Array::U64(values) => PyArray1::from_vec(py, values).into_any(),
            Array::I32(values) => PyArray1::from_vec(py, values).into_any(),
            Array::I64(values) => PyArray1::from_vec(py, values).into_any(),
            Array::F32(values) => PyArray1::from_vec(py, values).into_any(),
            Array::F64(values) => PyArray1::from_vec(py, values).into_any(),
        };
        dict.set_item(name, value)?;
    }
    Ok(dict)
}
