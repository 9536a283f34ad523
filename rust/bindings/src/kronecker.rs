//! The exactly Kronecker posterior of a last layer with Gaussian noise.

use std::sync::Arc;

use hoarfrost_core::posterior::kronecker;
use pyo3::prelude::*;

use crate::arrays::{Values, with_slice};
use crate::errors::to_python;
use crate::output::{Array, computed, square, vector};
use crate::seam::run;
use crate::stored::saved_posterior;

/// The eigendecomposition of a last layer's Gram matrix in the metric of a prior.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct KroneckerBasis {
    basis: Arc<kronecker::KroneckerBasis>,
}

impl KroneckerBasis {
    pub(crate) fn new(basis: kronecker::KroneckerBasis) -> Self {
        Self { basis: Arc::new(basis) }
    }
}

#[pymethods]
impl KroneckerBasis {
    /// The eigenvalues (D',).
    fn eigenvalues<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        vector(py, self.basis.eigenvalues())
    }

    /// The posterior under `scale` times the prior precision and a noise precision (C,).
    fn posterior(
        &self,
        scale: f64,
        output_precision: &Bound<'_, PyAny>,
    ) -> PyResult<KroneckerPosterior> {
        let noise = Values::double(output_precision)?;
        kronecker::KroneckerPosterior::new(Arc::clone(&self.basis), scale, &noise)
            .map(|posterior| KroneckerPosterior { posterior })
            .map_err(|error| to_python(output_precision.py(), &error))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.basis.nbytes()
    }
}

/// The posterior of a last layer whose output curvature is the same for every point.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct KroneckerPosterior {
    posterior: kronecker::KroneckerPosterior,
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

    /// Eigenvalues (D',) of the Gram matrix in the metric of the prior of its basis.
    fn eigenvalues<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        vector(py, self.posterior.basis().eigenvalues())
    }

    /// `v^T A v` for a vector (P,).
    fn quadratic(&self, vector: &Bound<'_, PyAny>) -> PyResult<f64> {
        let values = Values::double(vector)?;
        run(vector.py(), None, |driver| self.posterior.quadratic(&values, driver))
    }

    fn log_det(&self) -> f64 {
        self.posterior.log_det()
    }

    fn variance<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        computed(py, &[self.posterior.num_params()], None, |out, driver| {
            self.posterior.variance(out, driver)
        })
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

    /// `U^T T^-1/2` (D', D'), and the precisions (C, D') along its rows.
    fn rotation<'py>(&self, py: Python<'py>) -> PyResult<(Array<'py>, Array<'py>)> {
        let (dim, outputs) = (self.posterior.num_features(), self.posterior.num_outputs());
        let rotation = computed(py, &[dim, dim], None, |out, _| self.posterior.rotation(out))?;
        let precision =
            computed(py, &[outputs, dim], None, |out, _| self.posterior.rotated_precision(out))?;
        Ok((rotation, precision))
    }

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.num_params()], None, |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    /// The variance (B, C) of every output at `features` (B, D'); outputs do not covary. The number
    /// of points plays no part here.
    #[pyo3(signature = (features, question=0))]
    fn functional_variance<'py>(
        &self,
        features: &Bound<'py, PyAny>,
        question: usize,
    ) -> PyResult<Array<'py>> {
        let (py, _) = (features.py(), question);
        let features = Values::new(features)?;
        features.check_columns(py, "features", self.posterior.num_features())?;
        let shape = [features.shape()[0], self.posterior.num_outputs()];
        with_slice!(&features, |features| computed(py, &shape, None, |out, driver| {
            self.posterior.functional_variance(features, out, driver)
        }))
    }
}

saved_posterior!(KroneckerPosterior);
