//! Curvature and posterior of a general subset, tile-packed.

use hoarfrost_core::assemble::Real;
use hoarfrost_core::assemble::jacobian::JacobianSum;
use hoarfrost_core::buffer::Buffer;
use hoarfrost_core::cholesky::Factor;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::dense;
use hoarfrost_core::tiles::TileMatrix;
use pyo3::prelude::*;

use crate::arrays::{Values, Visitor, copied};
use crate::errors::to_python;
use crate::layer::{check_columns, check_of};
use crate::output::{Array, computed, filled, square, vector};
use crate::seam::run;

/// Bytes of one packed symmetric matrix over `num_params` parameters.
#[pyfunction]
pub fn dense_bytes(num_params: usize) -> usize {
    TileMatrix::bytes_of(num_params)
}

/// What `progress` of a factorisation over `num_params` columns counts up to, nearly.
#[pyfunction]
pub fn factor_flops(num_params: usize) -> f64 {
    Factor::reported_flops(num_params)
}

/// The growing curvature of a general subset, tile-packed.
#[pyclass(module = "hoarfrost._core")]
pub struct DenseCurvature {
    sum: Option<JacobianSum>,
}

struct AddRows<'s, 'py> {
    sum: &'s mut JacobianSum,
    py: Python<'py>,
}

impl Visitor for AddRows<'_, '_> {
    type Output = PyResult<()>;
    fn visit<T: Real>(self, rows: &[T]) -> PyResult<()> {
        let sum = self.sum;
        run(self.py, None, move |driver| sum.add_rows(rows, driver))
    }
}

#[pymethods]
impl DenseCurvature {
    #[new]
    fn new(py: Python<'_>, num_params: usize) -> PyResult<Self> {
        JacobianSum::new(num_params)
            .map(|sum| Self { sum: Some(sum) })
            .map_err(|error| to_python(py, &error))
    }

    /// Adds `rows^T rows` for `rows` (R, P).
    fn add_rows(&mut self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = rows.py();
        let rows = Values::new(rows)?;
        let sum = self.sum.as_mut().ok_or_else(|| to_python(py, &CoreError::Consumed))?;
        check_columns(py, "rows", &rows, sum.num_params())?;
        rows.visit(AddRows { sum, py })?
    }

    /// Factors the curvature plus the prior precision (P,); without `keep` in its own memory.
    #[pyo3(signature = (prior_precision, keep=true, check=true, progress=None))]
    fn factor(
        &mut self,
        prior_precision: &Bound<'_, PyAny>,
        keep: bool,
        check: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<DensePosterior> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let sum = self.sum.as_ref().ok_or_else(|| to_python(py, &CoreError::Consumed))?;
        // Refused before the curvature is given up.
        let ready = CoreError::check_len("prior_precision", sum.num_params(), prior.len())
            .and_then(|()| hoarfrost_core::error::check_prior_precision(&prior));
        ready.map_err(|error| to_python(py, &error))?;
        let tiles = if keep {
            let sum = self.sum.as_mut();
            run(py, None, move |_| sum.map_or(Err(CoreError::Consumed), JacobianSum::copy))?
        } else {
            let sum = self.sum.take();
            run(py, None, move |_| sum.map_or(Err(CoreError::Consumed), JacobianSum::into_tiles))?
        };
        run(py, progress, move |driver| {
            dense::DensePosterior::new(tiles, &prior, check_of(check), driver)
        })
        .map(|posterior| DensePosterior { posterior })
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.sum.as_ref().map_or(0, JacobianSum::nbytes)
    }
}

/// The posterior of a general subset.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct DensePosterior {
    posterior: dense::DensePosterior,
}

/// A Jacobian (B, C, P) as float64 of its own, with B and C.
pub(crate) fn own_jacobian(
    jacobian: &Bound<'_, PyAny>,
    num_params: usize,
) -> PyResult<(Buffer, usize, usize)> {
    let py = jacobian.py();
    let jacobian = Values::new(jacobian)?;
    let shape = jacobian.shape();
    let found = if shape.len() == 3 { shape[2] } else { 0 };
    if shape.len() != 3 || found != num_params {
        let error = CoreError::Shape { what: "jacobian", expected: num_params, found };
        return Err(to_python(py, &error));
    }
    let copy = copied(&jacobian)?.map_err(|error| to_python(py, &error))?;
    Ok((copy, shape[0], shape[1]))
}

#[pymethods]
impl DensePosterior {
    #[getter]
    fn num_params(&self) -> usize {
        self.posterior.num_params()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.posterior.nbytes()
    }

    fn log_det(&self) -> f64 {
        self.posterior.factor().log_det()
    }

    /// The curvature again, from the factor and the prior precision (P,) that it was made with.
    fn curvature(&self, prior_precision: &Bound<'_, PyAny>) -> PyResult<DenseCurvature> {
        let prior = Values::double(prior_precision)?;
        run(prior_precision.py(), None, |driver| self.posterior.curvature(&prior, driver))
            .map(|sum| DenseCurvature { sum: Some(sum) })
    }

    #[pyo3(signature = (progress=None))]
    fn variance<'py>(&self, py: Python<'py>, progress: Option<Py<PyAny>>) -> PyResult<Array<'py>> {
        let values = run(py, progress, |driver| self.posterior.factor().inverse_diagonal(driver))?;
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
            self.posterior.factor().sample(seed, 0, out, driver)
        })
    }

    fn functional_covariance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (mut jacobian, points, c) = own_jacobian(jacobian, self.posterior.num_params())?;
        filled(py, &[points, c, c], |out| {
            run(py, None, |driver| {
                self.posterior.functional_covariance(&mut jacobian, c, out, driver)
            })
        })
    }

    fn functional_variance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (mut jacobian, points, c) = own_jacobian(jacobian, self.posterior.num_params())?;
        computed(py, &[points, c], |out, driver| {
            self.posterior.functional_variance(&mut jacobian, out, driver)
        })
    }
}
