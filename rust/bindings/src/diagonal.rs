//! Curvature and posterior with a diagonal precision.

use hoarfrost_core::assemble::Real;
use hoarfrost_core::assemble::diagonal::DiagonalSum;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::diagonal;
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use crate::arrays::{Values, Visitor, filled};
use crate::dense::own_jacobian;
use crate::errors::to_python;
use crate::layer::check_columns;
use crate::seam::run;

type Array<'py> = Bound<'py, PyArrayDyn<f64>>;

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
        filled(py, &[self.sum.values().len()], |out| {
            out.copy_from_slice(self.sum.values());
            Ok(())
        })
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
        filled(py, &[values.len()], |out| {
            out.copy_from_slice(&values);
            Ok(())
        })
    }

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        filled(py, &[n, self.posterior.precision().len()], |out| {
            run(py, None, |driver| self.posterior.sample(seed, out, driver))
        })
    }

    fn functional_covariance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (jacobian, points, c) = own_jacobian(jacobian, self.posterior.precision().len())?;
        filled(py, &[points, c, c], |out| {
            run(py, None, |_| self.posterior.functional_covariance(&jacobian, c, out))
        })
    }
}
