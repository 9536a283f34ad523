//! `NumPy` arrays at the boundary: borrowed where they come as they are needed, converted otherwise.

use hoarfrost_core::error::CoreError;
use hoarfrost_core::input::widen;
use hoarfrost_core::storage::buffer::Buffer;
use hoarfrost_core::storage::list;
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::to_python;

/// A read-only array of float32 or float64 in C order.
pub enum Values<'py> {
    Single(PyReadonlyArrayDyn<'py, f32>),
    Double(PyReadonlyArrayDyn<'py, f64>),
}

/// Runs `$body` with `$slice` standing for the values of an array, of whichever type they are.
macro_rules! with_slice {
    ($values:expr, |$slice:ident| $body:expr) => {
        match $values {
            $crate::arrays::Values::Single(array) => {
                let $slice = array.as_slice()?;
                $body
            }
            $crate::arrays::Values::Double(array) => {
                let $slice = array.as_slice()?;
                $body
            }
        }
    };
}
pub(crate) use with_slice;

/// The array itself where its values can be read as they lie.
fn borrowed<'py, T: Element>(
    array: &Bound<'py, PyAny>,
) -> PyResult<Option<PyReadonlyArrayDyn<'py, T>>> {
    let Ok(array) = array.cast::<PyArrayDyn<T>>() else { return Ok(None) };
    let aligned = array.getattr("flags")?.getattr("aligned")?.is_truthy()?;
    if aligned && array.is_c_contiguous() { Ok(Some(array.try_readonly()?)) } else { Ok(None) }
}

impl<'py> Values<'py> {
    /// Borrows `array`, or a converted copy where its type, order or alignment is another one.
    pub fn new(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Some(array) = borrowed::<f32>(array)? {
            return Ok(Self::Single(array));
        }
        if let Some(array) = borrowed::<f64>(array)? {
            return Ok(Self::Double(array));
        }
        let numpy = array.py().import("numpy")?;
        let kwargs = PyDict::new(array.py());
        kwargs.set_item("dtype", "float64")?;
        kwargs.set_item("requirements", ("C", "A"))?;
        let converted = numpy.call_method("require", (array,), Some(&kwargs))?;
        Ok(Self::Double(converted.cast::<PyArrayDyn<f64>>()?.try_readonly()?))
    }

    /// A float64 copy of the values.
    pub fn copied(&self, py: Python<'_>) -> PyResult<Buffer> {
        with_slice!(self, |values| {
            let mut copy = Buffer::zeros("a float64 copy", values.len())
                .map_err(|error| to_python(py, &error))?;
            widen(values, &mut copy);
            Ok(copy)
        })
    }

    /// A float64 copy of an array, whatever it comes as.
    pub fn double(array: &Bound<'py, PyAny>) -> PyResult<Buffer> {
        Self::new(array)?.copied(array.py())
    }

    /// The sizes of the array.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Single(values) => values.shape().to_vec(),
            Self::Double(values) => values.shape().to_vec(),
        }
    }

    /// Raises `ShapeError` unless the array is two-dimensional with `columns` columns.
    pub fn check_columns(
        &self,
        py: Python<'_>,
        what: &'static str,
        columns: usize,
    ) -> PyResult<()> {
        let shape = self.shape();
        let found = if shape.len() == 2 { shape[1] } else { 0 };
        if shape.len() == 2 && found == columns {
            return Ok(());
        }
        Err(to_python(py, &CoreError::Shape { what, expected: columns, found }))
    }
}

/// A Jacobian (B, C, P) as float64 of its own, with B and C.
pub fn own_jacobian(
    jacobian: &Bound<'_, PyAny>,
    num_params: usize,
) -> PyResult<(Buffer, usize, usize)> {
    let py = jacobian.py();
    let jacobian = Values::new(jacobian)?;
    let shape = jacobian.shape();
    let found = if shape.len() == 3 { shape[2] } else { 0 };
    if shape.len() != 3 || found != num_params {
        let error = CoreError::Shape { what: "jacobian", expected: num_params, found };
        return Err(to_python(py, &error));
    }
    Ok((jacobian.copied(py)?, shape[0], shape[1]))
}

/// A permutation from an integer array.
pub fn permutation(array: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let kwargs = PyDict::new(array.py());
    kwargs.set_item("dtype", "int64")?;
    let array =
        array.py().import("numpy")?.call_method("ascontiguousarray", (array,), Some(&kwargs))?;
    let array = array.cast::<PyArrayDyn<i64>>()?.try_readonly()?;
    // A negative entry wraps to a huge one, which the core refuses as no permutation.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    list::collect("an order", array.as_slice()?.iter().map(|&i| i as usize))
        .map_err(|error| to_python(array.py(), &error))
}
