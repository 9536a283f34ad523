//! The posterior of a last layer whose outputs do not interact.

use hoarfrost_core::posterior::block_diagonal;
use pyo3::prelude::*;

use crate::arrays::{Values, with_slice};
use crate::output::{Array, computed, square, vector};
use crate::seam::run;
use crate::stored::saved_posterior;

/// The posterior of a last layer whose outputs do not interact: one factor an output.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct BlockDiagonalPosterior {
    pub(crate) posterior: block_diagonal::BlockDiagonalPosterior,
}

#[pymethods]
impl BlockDiagonalPosterior {
    #[getter]
    fn num_params(&self) -> usize {
        self.posterior.num_params()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.posterior.nbytes()
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

    /// The marginal variances of each feature summed over the outputs (D',).
    fn variance_by_feature<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        let values = run(py, None, |driver| self.posterior.variance_by_feature(driver))?;
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

    /// The covariance (D', D') of the parameters of output `output` with one another.
    fn output_covariance<'py>(&self, py: Python<'py>, output: usize) -> PyResult<Array<'py>> {
        let dim = self.posterior.num_features();
        computed(py, &[dim, dim], None, |out, driver| {
            self.posterior.output_covariance(output, out, driver)
        })
    }

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.num_params()], None, |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    /// The variance (B, C) of every output at `features` (B, D'), which may be a part of a question
    /// about `question` points; outputs do not covary.
    #[pyo3(signature = (features, question=0))]
    fn functional_variance<'py>(
        &self,
        features: &Bound<'py, PyAny>,
        question: usize,
    ) -> PyResult<Array<'py>> {
        let py = features.py();
        let features = Values::new(features)?;
        features.check_columns(py, "features", self.posterior.num_features())?;
        let shape = [features.shape()[0], self.posterior.num_outputs()];
        with_slice!(&features, |features| computed(py, &shape, None, |out, driver| {
            self.posterior.functional_variance(features, question, out, driver)
        }))
    }

    /// Gives back the memory of the cached covariance blocks.
    fn drop_cache(&self) {
        self.posterior.drop_cache();
    }
}

saved_posterior!(BlockDiagonalPosterior);
