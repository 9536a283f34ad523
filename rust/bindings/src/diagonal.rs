//! Curvature and posterior with a diagonal precision.

use hoarfrost_core::assemble::diagonal::DiagonalSum;
use hoarfrost_core::posterior::diagonal;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Values, own_jacobian, with_slice};
use crate::errors::to_python;
use crate::output::{Array, computed, vector};
use crate::seam::run;

/// The growing diagonal of a curvature.
#[pyclass(module = "hoarfrost._core")]
pub struct DiagonalCurvature {
    sum: DiagonalSum,
}

#[pymethods]
impl DiagonalCurvature {
    #[new]
    fn new(py: Python<'_>, num_params: usize) -> PyResult<Self> {
        DiagonalSum::new(num_params).map(|sum| Self { sum }).map_err(|error| to_python(py, &error))
    }

    /// Adds the sum of squares of `rows` (R, P).
    fn add_rows(&mut self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = rows.py();
        let rows = Values::new(rows)?;
        rows.check_columns(py, "rows", self.sum.num_params())?;
        let sum = &mut self.sum;
        with_slice!(&rows, |rows| run(py, None, move |driver| sum.add_rows(rows, driver)))
    }

    /// Adds a last layer: `features` (B, D') and the diagonal of its output curvature (B, C).
    fn add_head(
        &mut self,
        features: &Bound<'_, PyAny>,
        weights: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = features.py();
        let (features, weights) = (Values::new(features)?, Values::new(weights)?);
        let shape = weights.shape();
        let outputs = if shape.len() == 2 { shape[1] } else { 0 };
        let sum = &mut self.sum;
        with_slice!(&features, |features| with_slice!(&weights, |weights| {
            run(py, None, move |driver| sum.add_head(features, weights, outputs, driver))
        }))
    }

    /// Adds another diagonal over the same parameters, which stays as it is.
    fn merge(&mut self, other: &Bound<'_, Self>) -> PyResult<()> {
        let other = other.try_borrow().map_err(|_| {
            PyValueError::new_err("a curvature cannot be merged with itself, or while it is in use")
        })?;
        self.sum.merge(&other.sum).map_err(|error| to_python(other.py(), &error))
    }

    /// The sum so far (P,).
    fn diagonal<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        vector(py, self.sum.values().map_err(|error| to_python(py, &error))?)
    }

    fn factor(&self, prior_precision: &Bound<'_, PyAny>) -> PyResult<DiagonalPosterior> {
        let prior = Values::double(prior_precision)?;
        self.sum
            .values()
            .and_then(|values| diagonal::DiagonalPosterior::new(values, &prior))
            .map(|posterior| DiagonalPosterior { posterior })
            .map_err(|error| to_python(prior_precision.py(), &error))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.sum.nbytes()
    }
}

/// The posterior with a diagonal precision.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct DiagonalPosterior {
    posterior: diagonal::DiagonalPosterior,
}

#[pymethods]
impl DiagonalPosterior {
    #[getter]
    fn num_params(&self) -> usize {
        self.posterior.precision().len()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        size_of_val(self.posterior.precision())
    }

    fn log_det(&self) -> f64 {
        self.posterior.log_det()
    }

    fn variance<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        computed(py, &[self.posterior.precision().len()], None, |out, _| {
            self.posterior.variance(out)
        })
    }

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.precision().len()], None, |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    /// `J A^-1 J^T` (B, C, C) for a Jacobian (B, C, P).
    fn functional_covariance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (jacobian, points, c) = own_jacobian(jacobian, self.posterior.precision().len())?;
        computed(py, &[points, c, c], None, |out, driver| {
            self.posterior.functional_covariance(&jacobian, c, out, driver)
        })
    }
}
