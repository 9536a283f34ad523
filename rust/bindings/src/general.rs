//! Curvature and posterior of a general subset: packed, or diagonal.

use hoarfrost_core::assemble::Real;
use hoarfrost_core::assemble::diagonal::DiagonalSum;
use hoarfrost_core::assemble::jacobian::JacobianSum;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::{dense, diagonal};
use hoarfrost_core::tiles::TileMatrix;
use numpy::PyArrayDyn;
use pyo3::prelude::*;

use crate::arrays::{Values, Visitor, filled, order};
use crate::errors::to_python;
use crate::layer::{check_columns, check_of};
use crate::seam::run;

type Array<'py> = Bound<'py, PyArrayDyn<f64>>;

/// Bytes of one packed symmetric matrix over `num_params` parameters.
#[pyfunction]
pub fn dense_bytes(num_params: usize) -> usize {
    TileMatrix::bytes_of(num_params)
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
            let sum = self.sum.as_ref();
            run(py, None, move |_| {
                sum.map_or(Err(CoreError::Consumed), |sum| sum.tiles()?.try_clone("the factor"))
            })?
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
fn own_jacobian(
    jacobian: &Bound<'_, PyAny>,
    num_params: usize,
) -> PyResult<(Vec<f64>, usize, usize)> {
    let py = jacobian.py();
    let jacobian = Values::new(jacobian)?;
    let shape = jacobian.shape();
    let found = if shape.len() == 3 { shape[2] } else { 0 };
    if shape.len() != 3 || found != num_params {
        return Err(to_python(
            py,
            &CoreError::Shape { what: "jacobian", expected: num_params, found },
        ));
    }
    struct Own;
    impl Visitor for Own {
        type Output = Vec<f64>;
        fn visit<T: Real>(self, values: &[T]) -> Vec<f64> {
            values.iter().map(|v| (*v).into()).collect()
        }
    }
    Ok((jacobian.visit(Own)?, shape[0], shape[1]))
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

    #[pyo3(signature = (progress=None))]
    fn variance<'py>(&self, py: Python<'py>, progress: Option<Py<PyAny>>) -> PyResult<Array<'py>> {
        let values = run(py, progress, |driver| self.posterior.factor().inverse_diagonal(driver))?;
        filled(py, &[values.len()], |out| {
            out.copy_from_slice(&values);
            Ok(())
        })
    }

    #[pyo3(signature = (order, progress=None))]
    fn covariance<'py>(
        &self,
        #[pyo3(from_py_with = order)] order: Vec<usize>,
        progress: Option<Py<PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Array<'py>> {
        filled(py, &[order.len(), order.len()], |out| {
            run(py, progress, |driver| self.posterior.covariance(&order, out, driver))
        })
    }

    #[pyo3(signature = (order, progress=None))]
    fn precision<'py>(
        &self,
        #[pyo3(from_py_with = order)] order: Vec<usize>,
        progress: Option<Py<PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Array<'py>> {
        filled(py, &[order.len(), order.len()], |out| {
            run(py, progress, |driver| self.posterior.precision(&order, out, driver))
        })
    }

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        filled(py, &[n, self.posterior.num_params()], |out| {
            run(py, None, |driver| self.posterior.factor().sample(seed, 0, out, driver))
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
        filled(py, &[points, c], |out| {
            run(py, None, |driver| self.posterior.functional_variance(&mut jacobian, out, driver))
        })
    }
}

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
