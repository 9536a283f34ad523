//! New `NumPy` arrays, filled by the core without the GIL.

use hoarfrost_core::error::CoreError;
use hoarfrost_core::threads::Driver;
use numpy::{PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;

use crate::arrays::permutation;
use crate::seam::run;

/// What the core gives back: float64, in C order.
pub type Array<'py> = Bound<'py, PyArrayDyn<f64>>;

/// A new array of zeros, filled by `fill`; `NumPy`'s own `MemoryError` where it does not fit.
pub fn filled<'py>(
    py: Python<'py>,
    shape: &[usize],
    fill: impl FnOnce(&mut [f64]) -> PyResult<()>,
) -> PyResult<Array<'py>> {
    let shape = pyo3::types::PyTuple::new(py, shape)?;
    let array = py.import("numpy")?.call_method1("zeros", (shape,))?;
    let array = array.cast_into::<PyArrayDyn<f64>>()?;
    {
        let mut guard = array.try_readwrite()?;
        fill(guard.as_slice_mut()?)?;
    }
    Ok(array)
}

/// A new array that the core fills.
pub fn computed<'py>(
    py: Python<'py>,
    shape: &[usize],
    fill: impl FnOnce(&mut [f64], &mut Driver<'_>) -> Result<(), CoreError> + Send,
) -> PyResult<Array<'py>> {
    filled(py, shape, |out| run(py, None, |driver| fill(out, driver)))
}

/// A new square array over the parameters in `order`, which the core fills.
pub fn square<'py>(
    order: &Bound<'py, PyAny>,
    progress: Option<Py<PyAny>>,
    fill: impl FnOnce(&[usize], &mut [f64], &mut Driver<'_>) -> Result<(), CoreError> + Send,
) -> PyResult<Array<'py>> {
    let (py, order) = (order.py(), permutation(order)?);
    filled(py, &[order.len(), order.len()], |out| {
        run(py, progress, |driver| fill(&order, out, driver))
    })
}

/// A new one-dimensional array with these values.
pub fn vector<'py>(py: Python<'py>, values: &[f64]) -> PyResult<Array<'py>> {
    filled(py, &[values.len()], |out| {
        out.copy_from_slice(values);
        Ok(())
    })
}
