//! `NumPy` arrays at the boundary: borrowed where they come as they are needed, converted otherwise.

use hoarfrost_core::assemble::Real;
use hoarfrost_core::buffer::Buffer;
use hoarfrost_core::error::CoreError;
use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A read-only array of float32 or float64 in C order.
pub enum Values<'py> {
    Single(PyReadonlyArrayDyn<'py, f32>),
    Double(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> Values<'py> {
    /// Borrows `array`, or a converted copy where its type or order is another one.
    pub fn new(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        match array.cast::<PyArrayDyn<f32>>() {
            Ok(array) if array.is_c_contiguous() => return Ok(Self::Single(array.try_readonly()?)),
            _ => {}
        }
        match array.cast::<PyArrayDyn<f64>>() {
            Ok(array) if array.is_c_contiguous() => return Ok(Self::Double(array.try_readonly()?)),
            _ => {}
        }
        let numpy = array.py().import("numpy")?;
        let converted =
            numpy.call_method1("ascontiguousarray", (array, numpy.getattr("float64")?))?;
        Ok(Self::Double(converted.cast::<PyArrayDyn<f64>>()?.try_readonly()?))
    }

    /// As [`Values::new`], always in float64 (a copy where it came in another type).
    pub fn double(array: &Bound<'py, PyAny>) -> PyResult<Vec<f64>> {
        Ok(match Self::new(array)? {
            Self::Single(values) => values.as_slice()?.iter().map(|v| f64::from(*v)).collect(),
            Self::Double(values) => values.as_slice()?.to_vec(),
        })
    }

    /// The sizes of the array.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Single(values) => values.shape().to_vec(),
            Self::Double(values) => values.shape().to_vec(),
        }
    }

    /// Calls `visitor` with the values as a slice.
    pub fn visit<V: Visitor>(&self, visitor: V) -> PyResult<V::Output> {
        Ok(match self {
            Self::Single(values) => visitor.visit(values.as_slice()?),
            Self::Double(values) => visitor.visit(values.as_slice()?),
        })
    }
}

/// Work on a slice of either type.
pub trait Visitor {
    type Output;
    fn visit<T: Real>(self, values: &[T]) -> Self::Output;
}

/// A float64 copy of `values`, or the core's allocation error.
pub fn copied(values: &Values<'_>) -> PyResult<Result<Buffer, CoreError>> {
    struct Copy;
    impl Visitor for Copy {
        type Output = Result<Buffer, CoreError>;
        fn visit<T: Real>(self, values: &[T]) -> Self::Output {
            let mut copy = Buffer::zeros("a float64 copy", values.len())?;
            copy.iter_mut().zip(values).for_each(|(target, value)| *target = (*value).into());
            Ok(copy)
        }
    }
    values.visit(Copy)
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
    Ok(array.as_slice()?.iter().map(|&i| i as usize).collect())
}
