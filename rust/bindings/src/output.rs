//! New `NumPy` arrays, filled by the core without the GIL.

use hoarfrost_core::error::CoreError;
use hoarfrost_core::threads::Driver;
use numpy::{PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::permutation;
use crate::errors::to_python;
use crate::seam::run;

/// What the core gives back: float64, in C order.
pub type Array<'py> = Bound<'py, PyArrayDyn<f64>>;

/// A new array of zeros; `MemoryLimitError` where it does not fit.
fn zeros<'py>(py: Python<'py>, shape: &[usize]) -> PyResult<Array<'py>> {
    let made = py.import("numpy")?.call_method1("zeros", (PyTuple::new(py, shape)?,));
    let array = made.map_err(|error| {
        // NumPy has another error for sizes beyond what an address can be.
        if error.is_instance_of::<PyMemoryError>(py) || error.is_instance_of::<PyValueError>(py) {
            let count = shape.iter().fold(1, |count: usize, size| count.saturating_mul(*size));
            let bytes = count.saturating_mul(size_of::<f64>());
            to_python(py, &CoreError::Allocation { what: "an array of results", bytes })
        } else {
            error
        }
    })?;
    Ok(array.cast_into::<PyArrayDyn<f64>>()?)
}

/// A new array that the core fills.
pub fn computed<'py>(
    py: Python<'py>,
    shape: &[usize],
    progress: Option<Py<PyAny>>,
    fill: impl FnOnce(&mut [f64], &mut Driver<'_>) -> Result<(), CoreError> + Send,
) -> PyResult<Array<'py>> {
    let array = zeros(py, shape)?;
    {
        let mut guard = array.try_readwrite()?;
        let out = guard.as_slice_mut()?;
        run(py, progress, |driver| fill(out, driver))?;
    }
    Ok(array)
}

/// A new square array over the parameters in `order`, which the core fills.
pub fn square<'py>(
    order: &Bound<'py, PyAny>,
    progress: Option<Py<PyAny>>,
    fill: impl FnOnce(&[usize], &mut [f64], &mut Driver<'_>) -> Result<(), CoreError> + Send,
) -> PyResult<Array<'py>> {
    let (py, order) = (order.py(), permutation(order)?);
    computed(py, &[order.len(), order.len()], progress, |out, driver| fill(&order, out, driver))
}

/// A new two-dimensional array with these rows.
pub fn lanes<'py, const N: usize>(py: Python<'py>, rows: &[[f64; N]]) -> PyResult<Array<'py>> {
    let array = zeros(py, &[rows.len(), N])?;
    array.try_readwrite()?.as_slice_mut()?.copy_from_slice(rows.as_flattened());
    Ok(array)
}

/// A new one-dimensional array with these values.
pub fn vector<'py>(py: Python<'py>, values: &[f64]) -> PyResult<Array<'py>> {
    let array = zeros(py, &[values.len()])?;
    array.try_readwrite()?.as_slice_mut()?.copy_from_slice(values);
    Ok(array)
}
