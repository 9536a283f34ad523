//! Curvature and posterior in the space of the rows.

use hoarfrost_core::assemble::rows::RowSum;
use hoarfrost_core::cholesky::Factor;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::dual;
use hoarfrost_core::storage::stored::{Content, Source, Stored};
use pyo3::prelude::*;

use crate::arrays::{Values, own_jacobian, permutation, with_slice};
use crate::errors::to_python;
use crate::output::{Array, computed, square, vector};
use crate::seam::run;
use crate::stored::{Saved, saved_posterior};
use crate::turn::Turn;

/// Bytes of the rows of a curvature, of what is held beside them for a factor, and of what stands
/// between while one is made.
#[pyfunction]
pub fn dual_bytes(num_params: usize, num_rows: usize) -> (usize, usize, usize) {
    let (rows, gram) = RowSum::bytes_of(num_params, num_rows);
    let variances = num_params.saturating_mul(size_of::<f64>());
    let factor = Factor::bytes_of(num_rows).saturating_add(gram).saturating_add(variances);
    // The prior as it came, and labels by which it is shared.
    (rows, factor, variances.saturating_mul(2))
}

/// The growing curvature of any parameters, as its rows.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct RowCurvature {
    sum: Turn<RowSum>,
}

#[pymethods]
impl RowCurvature {
    #[new]
    fn new(py: Python<'_>, num_params: usize) -> PyResult<Self> {
        RowSum::new(num_params)
            .map(|sum| Self { sum: Turn::new(sum) })
            .map_err(|error| to_python(py, &error))
    }

    /// Keeps `rows` (R, P).
    fn add_rows(&self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = rows.py();
        let rows = Values::new(rows)?;
        let sum = &mut *self.sum.take(py)?;
        rows.check_columns(py, "rows", sum.num_params())?;
        with_slice!(&rows, |rows| run(py, None, move |driver| sum.add_rows(rows, driver)))
    }

    /// Adds another curvature over the same parameters, which stays as it is, with a weight.
    #[pyo3(signature = (other, weight=1.0))]
    fn merge(&self, other: &Bound<'_, Self>, weight: f64) -> PyResult<()> {
        let py = other.py();
        let (mut sum, other) = self.sum.take_both(&other.get().sum, py)?;
        let (sum, other) = (&mut *sum, &*other);
        run(py, None, move |_| sum.merge(other, weight))
    }

    /// Factors the curvature plus the prior precision (P,); the rows are shared with it.
    #[pyo3(signature = (prior_precision, progress=None))]
    fn factor(
        &self,
        prior_precision: &Bound<'_, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<DualPosterior> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let sum = &*self.sum.take(py)?;
        run(py, progress, |driver| dual::DualPosterior::new(sum, &prior, driver))
            .map(|posterior| DualPosterior { posterior })
    }

    /// What `progress` counts up to, nearly.
    fn flops(&self, py: Python<'_>) -> PyResult<f64> {
        let sum = self.sum.take(py)?;
        let count = sum.held().rows().count();
        Ok(dual::DualPosterior::reported_flops(sum.num_params(), count))
    }

    #[getter]
    fn num_rows(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.sum.take(py)?.held().rows().count())
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.sum.take(py)?.nbytes())
    }
}

/// The posterior in the space of the rows.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct DualPosterior {
    posterior: dual::DualPosterior,
}

#[pymethods]
impl DualPosterior {
    #[getter]
    fn num_params(&self) -> usize {
        self.posterior.num_params()
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.posterior.num_rows()
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

    /// The variance of each parameter under the prior (P,).
    fn prior_variance<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        vector(py, self.posterior.prior_variance())
    }

    /// The curvature, with the same rows.
    fn curvature(&self) -> RowCurvature {
        RowCurvature { sum: Turn::new(self.posterior.curvature()) }
    }

    #[pyo3(signature = (progress=None))]
    fn variance<'py>(&self, py: Python<'py>, progress: Option<Py<PyAny>>) -> PyResult<Array<'py>> {
        computed(py, &[self.posterior.num_params()], progress, |out, driver| {
            self.posterior.variance(out, driver)
        })
    }

    /// `sum_{i in g} T_i Sigma_ii` for each of some groups (P,); None where that takes the variances.
    fn prior_traces<'py>(
        &self,
        groups: &Bound<'py, PyAny>,
        num_groups: usize,
    ) -> PyResult<Option<Array<'py>>> {
        let (py, groups) = (groups.py(), permutation(groups)?);
        let mut known = false;
        let traces = computed(py, &[num_groups], None, |out, driver| {
            known = self.posterior.prior_traces(&groups, out, driver)?;
            Ok(())
        })?;
        Ok(known.then_some(traces))
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
        computed(py, &[n, self.posterior.num_params()], None, |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    /// `J A^-1 J^T` (B, C, C) for a Jacobian (B, C, P).
    fn functional_covariance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (jacobian, points, c) = own_jacobian(jacobian, self.posterior.num_params())?;
        computed(py, &[points, c, c], None, |out, driver| {
            self.posterior.functional_covariance(&jacobian, c, out, driver)
        })
    }

    /// Its diagonal (B, C).
    fn functional_variance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (jacobian, points, c) = own_jacobian(jacobian, self.posterior.num_params())?;
        computed(py, &[points, c], None, |out, driver| {
            self.posterior.functional_variance(&jacobian, out, driver)
        })
    }

    /// `G` (M, P) with `A^-1 = S S^T`, `S = T^-1/2 (I - G^T G)`.
    fn root<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        computed(
            py,
            &[self.posterior.num_rows(), self.posterior.num_params()],
            None,
            |out, driver| self.posterior.root(out, driver),
        )
    }
}

impl Saved for RowCurvature {
    fn read<R>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&Content<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let sum = self.sum.take(py)?;
        read(&sum.content().map_err(|error| to_python(py, &error))?)
    }

    fn again(source: &Source) -> Result<Self, CoreError> {
        RowSum::restored(source).map(|sum| Self { sum: Turn::new(sum) })
    }
}

saved_posterior!(DualPosterior);
