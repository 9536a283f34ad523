//! The exactly Kronecker posterior of a last layer with Gaussian noise.

use hoarfrost_core::assemble::Real;
use hoarfrost_core::posterior::kronecker;
use pyo3::prelude::*;

use crate::arrays::{Values, Visitor};
use crate::errors::to_python;
use crate::layer::check_columns;
use crate::output::{Array, computed, filled, square, vector};
use crate::seam::run;

/// The posterior of a last layer whose output curvature is the same for every point.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct KroneckerPosterior {
    pub(crate) posterior: kronecker::KroneckerPosterior,
}

struct FunctionalVariance<'a, 'py> {
    posterior: &'a kronecker::KroneckerPosterior,
    out: &'a mut [f64],
    py: Python<'py>,
}

impl Visitor for FunctionalVariance<'_, '_> {
    type Output = PyResult<()>;
    fn visit<T: Real>(self, features: &[T]) -> PyResult<()> {
        let (posterior, out) = (self.posterior, self.out);
        run(self.py, None, move |driver| posterior.functional_variance(features, out, driver))
    }
}

#[pymethods]
impl KroneckerPosterior {
    #[getter]
    fn num_params(&self) -> usize {
        self.posterior.num_params()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.posterior.nbytes()
    }

    /// Eigenvalues (D',) of the Gram matrix in the metric of the prior that was given.
    fn eigenvalues<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        vector(py, self.posterior.eigenvalues())
    }

    /// The posterior under `scale` times the prior precision and another noise precision (C,).
    fn rescaled(&self, scale: f64, output_precision: &Bound<'_, PyAny>) -> PyResult<Self> {
        let noise = Values::double(output_precision)?;
        self.posterior
            .rescaled(scale, &noise)
            .map(|posterior| Self { posterior })
            .map_err(|error| to_python(output_precision.py(), &error))
    }

    fn log_det(&self) -> f64 {
        self.posterior.log_det()
    }

    fn variance<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        let values = run(py, None, |driver| self.posterior.variance(driver))?;
        vector(py, &values)
    }

    #[pyo3(signature = (order, progress=None))]
    fn covariance<'py>(
        &self,
        order: &Bound<'py, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Array<'py>> {
        square(order, progress, |order, out, driver| self.posterior.covariance(order, out, driver))
    }

    #[pyo3(signature = (order, progress=None))]
    fn precision<'py>(
        &self,
        order: &Bound<'py, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Array<'py>> {
        square(order, progress, |order, out, driver| self.posterior.precision(order, out, driver))
    }

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.num_params()], |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    /// The variance (B, C) of every output at `features` (B, D'); outputs do not covary.
    fn functional_variance<'py>(&self, features: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = features.py();
        let features = Values::new(features)?;
        check_columns(py, "features", &features, self.posterior.num_features())?;
        filled(py, &[features.shape()[0], self.posterior.num_outputs()], |out| {
            features.visit(FunctionalVariance { posterior: &self.posterior, out, py })?
        })
    }
}
