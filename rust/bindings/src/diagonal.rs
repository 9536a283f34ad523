//! Curvature and posterior with a diagonal precision.

use hoarfrost_core::assemble::Real;
use hoarfrost_core::assemble::diagonal::DiagonalSum;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::diagonal;
use pyo3::prelude::*;

use crate::arrays::{Values, Visitor};
use crate::dense::own_jacobian;
use crate::errors::to_python;
use crate::layer::check_columns;
use crate::output::{Array, computed, vector};
use crate::seam::run;

/// The growing diagonal of a curvature.
#[pyclass(module = "hoarfrost._core")]
pub struct DiagonalCurvature {
    sum: DiagonalSum,
}

struct AddDiagonalRows<'s>(&'s mut DiagonalSum);

impl Visitor for AddDiagonalRows<'_> {
    type Output = Result<(), CoreError>;
    fn visit<T: Real>(self, rows: &[T]) -> Result<(), CoreError> {
        self.0.add_rows(rows)
    }
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
        check_columns(py, "rows", &rows, self.sum.values().len())?;
        rows.visit(AddDiagonalRows(&mut self.sum))?.map_err(|error| to_python(py, &error))
    }

    /// Adds a Dense layer: `features` (B, D') and the diagonal of its output curvature (B, C).
    fn add_head(
        &mut self,
        features: &Bound<'_, PyAny>,
        weights: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = features.py();
        let shape = Values::new(weights)?.shape();
        let (features, weights) = (Values::double(features)?, Values::double(weights)?);
        let outputs = if shape.len() == 2 { shape[1] } else { 0 };
        let sum = &mut self.sum;
        run(py, None, move |_| sum.add_layer(&features, &weights, outputs))
    }

    /// The sum so far (P,).
    fn diagonal<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        vector(py, self.sum.values())
    }

    fn factor(&self, prior_precision: &Bound<'_, PyAny>) -> PyResult<DiagonalPosterior> {
        let prior = Values::double(prior_precision)?;
        diagonal::DiagonalPosterior::new(self.sum.values(), &prior)
            .map(|posterior| DiagonalPosterior { posterior })
            .map_err(|error| to_python(prior_precision.py(), &error))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        size_of_val(self.sum.values())
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
        let values = self.posterior.variance();
        vector(py, &values)
    }

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.precision().len()], |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    fn functional_covariance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (jacobian, points, c) = own_jacobian(jacobian, self.posterior.precision().len())?;
        computed(py, &[points, c, c], |out, _| {
            self.posterior.functional_covariance(&jacobian, c, out)
        })
    }
}
