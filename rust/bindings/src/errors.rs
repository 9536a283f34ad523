//! From the core's one error enum to the Python classes of `hoarfrost.errors`.

use hoarfrost_core::error::CoreError;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

/// The Python exception for a core error. The match is exhaustive on purpose: a new variant does
/// not compile until it has a Python class.
pub fn to_python(py: Python<'_>, error: &CoreError) -> PyErr {
    let text = error.to_string();
    let built = match error {
        CoreError::Shape { .. } => build(py, "ShapeError", (text,)),
        CoreError::NonFinite { .. } => build(py, "NonFiniteError", (text,)),
        CoreError::PriorPrecision { .. } | CoreError::NegativeWeight { .. } => {
            build(py, "InvalidArgumentError", (text,))
        }
        CoreError::NotPositiveDefinite { pivot, least, .. } => {
            build(py, "NotPositiveDefiniteError", (text, *pivot, *least))
        }
        CoreError::LostInRounding { prior, least, directions, size, .. } => {
            let share = *directions as f64 / *size as f64;
            build(py, "PriorTooSmallError", (text, *prior, *least, share))
        }
        CoreError::Allocation { bytes, .. } => build(py, "MemoryLimitError", (text, *bytes)),
        CoreError::Stored { .. } => build(py, "SavedFileError", (text,)),
        CoreError::Threads { .. } => build(py, "ThreadLimitError", (text,)),
        CoreError::FactorCheck { .. } | CoreError::Eigen { .. } => {
            build(py, "InternalError", (text,))
        }
        CoreError::Incomplete | CoreError::Consumed => build(py, "CurvatureStateError", (text,)),
        CoreError::Interrupted => return PyKeyboardInterrupt::new_err(text),
    };
    built.unwrap_or_else(|error| error)
}

/// An `InternalError`: a fault of the core itself.
pub fn internal(py: Python<'_>, text: &str) -> PyErr {
    let text = format!("{text}; this is a fault of Hoarfrost, please report it");
    build(py, "InternalError", (text,)).unwrap_or_else(|error| error)
}

/// A `CurvatureStateError`: a thread that does not live in this process had the curvature.
pub fn in_use_at_fork(py: Python<'_>) -> PyErr {
    let text = "this curvature was being changed by another thread when this process was forked: make \
                it in the child, or fork before";
    build(py, "CurvatureStateError", (text,)).unwrap_or_else(|error| error)
}

fn build<'py>(py: Python<'py>, class: &str, args: impl PyCallArgs<'py>) -> PyResult<PyErr> {
    let error = py.import("hoarfrost.errors")?.getattr(class)?.call1(args)?;
    Ok(PyErr::from_value(error))
}
