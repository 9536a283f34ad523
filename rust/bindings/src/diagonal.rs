//! Curvature and posterior with a diagonal precision.

use hoarfrost_core::assemble::diagonal::DiagonalSum;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::diagonal;
use hoarfrost_core::storage::stored::{Content, Source, Stored};
use pyo3::prelude::*;

use crate::arrays::{Values, own_jacobian, with_slice};
use crate::errors::to_python;
use crate::output::{Array, computed, vector};
use crate::seam::run;
use crate::stored::{Saved, saved_posterior};
use crate::turn::Turn;

/// The growing diagonal of a curvature.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct DiagonalCurvature {
    pub(crate) sum: Turn<DiagonalSum>,
}

#[pymethods]
impl DiagonalCurvature {
    #[new]
    fn new(py: Python<'_>, num_params: usize) -> PyResult<Self> {
        DiagonalSum::new(num_params)
            .map(|sum| Self { sum: Turn::new(sum) })
            .map_err(|error| to_python(py, &error))
    }

    /// Adds the sum of squares of `rows` (R, P).
    fn add_rows(&self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = rows.py();
        let rows = Values::new(rows)?;
        let sum = &mut *self.sum.take(py)?;
        rows.check_columns(py, "rows", sum.num_params())?;
        with_slice!(&rows, |rows| run(py, None, move |driver| sum.add_rows(rows, driver)))
    }

    /// Adds a last layer: `features` (B, D') and the diagonal of its output curvature (B, C).
    fn add_head(&self, features: &Bound<'_, PyAny>, weights: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = features.py();
        let (features, weights) = (Values::new(features)?, Values::new(weights)?);
        let shape = weights.shape();
        let outputs = if shape.len() == 2 { shape[1] } else { 0 };
        let sum = &mut *self.sum.take(py)?;
        with_slice!(&features, |features| with_slice!(&weights, |weights| {
            run(py, None, move |driver| sum.add_head(features, weights, outputs, driver))
        }))
    }

    /// Adds another diagonal over the same parameters, which stays as it is, with a weight.
    #[pyo3(signature = (other, weight=1.0))]
    fn merge(&self, other: &Bound<'_, Self>, weight: f64) -> PyResult<()> {
        let py = other.py();
        let (mut sum, other) = self.sum.take_both(&other.get().sum, py)?;
        sum.merge(&other, weight).map_err(|error| to_python(py, &error))
    }

    /// The sum so far (P,).
    fn diagonal<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        let sum = self.sum.take(py)?;
        vector(py, sum.values().map_err(|error| to_python(py, &error))?)
    }

    fn factor(&self, prior_precision: &Bound<'_, PyAny>) -> PyResult<DiagonalPosterior> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        self.sum
            .take(py)?
            .values()
            .and_then(|values| diagonal::DiagonalPosterior::new(values, &prior))
            .map(|posterior| DiagonalPosterior { posterior })
            .map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.sum.take(py)?.nbytes())
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

    /// `v^T A v` for a vector (P,).
    fn quadratic(&self, vector: &Bound<'_, PyAny>) -> PyResult<f64> {
        let values = Values::double(vector)?;
        self.posterior.quadratic(&values).map_err(|error| to_python(vector.py(), &error))
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

impl Saved for DiagonalCurvature {
    fn read<R>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&Content<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let sum = self.sum.take(py)?;
        read(&sum.content().map_err(|error| to_python(py, &error))?)
    }

    fn again(source: &Source) -> Result<Self, CoreError> {
        DiagonalSum::restored(source).map(|sum| Self { sum: Turn::new(sum) })
    }
}

saved_posterior!(DiagonalPosterior);
