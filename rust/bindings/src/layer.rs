//! A Dense layer's curvature and posterior.

use hoarfrost_core::assemble::Real;
use hoarfrost_core::assemble::dense_layer::{DenseLayerSum, Outputs};
use hoarfrost_core::cholesky::Check;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::kronecker;
use hoarfrost_core::posterior::layer::LayerPosterior;
use hoarfrost_core::threads::Driver;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Values, Visitor};
use crate::errors::to_python;
use crate::kronecker::KroneckerPosterior;
use crate::output::{Array, computed, filled, square, vector};
use crate::seam::run;

fn parse_outputs(outputs: &str) -> PyResult<Outputs> {
    match outputs {
        "softmax" => Ok(Outputs::Softmax),
        "independent" => Ok(Outputs::Independent),
        other => Err(PyValueError::new_err(format!(
            "outputs must be 'softmax' or 'independent', got {other:?}"
        ))),
    }
}

pub(crate) fn check_of(check: bool) -> Check {
    if check { Check::Verify } else { Check::Skip }
}

/// Bytes of the curvature, of its factor, and of the cached blocks of the covariance.
#[pyfunction]
pub fn head_bytes(
    outputs: &str,
    num_outputs: usize,
    num_features: usize,
) -> PyResult<(usize, usize, usize)> {
    let outputs = parse_outputs(outputs)?;
    Ok((
        DenseLayerSum::bytes_of(outputs, num_outputs, num_features),
        LayerPosterior::bytes_of(outputs, num_outputs, num_features),
        LayerPosterior::cache_bytes_of(outputs, num_outputs, num_features),
    ))
}

/// The growing curvature of a Dense layer, in quarter-size blocks.
#[pyclass(module = "hoarfrost._core")]
pub struct HeadCurvature {
    sum: DenseLayerSum,
}

struct AddFeatures<'a, 'py, 's> {
    sum: &'s mut DenseLayerSum,
    outputs: &'a Values<'py>,
    py: Python<'py>,
}

impl Visitor for AddFeatures<'_, '_, '_> {
    type Output = PyResult<()>;
    fn visit<T: Real>(self, features: &[T]) -> PyResult<()> {
        let add = AddOutputs { sum: self.sum, features, py: self.py };
        self.outputs.visit(add)?
    }
}

struct AddOutputs<'a, 'py, 's, T> {
    sum: &'s mut DenseLayerSum,
    features: &'a [T],
    py: Python<'py>,
}

impl<T: Real> Visitor for AddOutputs<'_, '_, '_, T> {
    type Output = PyResult<()>;
    fn visit<U: Real>(self, outputs: &[U]) -> PyResult<()> {
        let (sum, features) = (self.sum, self.features);
        run(self.py, None, move |driver| sum.add(features, outputs, driver))
    }
}

#[pymethods]
impl HeadCurvature {
    #[new]
    fn new(
        py: Python<'_>,
        outputs: &str,
        num_outputs: usize,
        num_features: usize,
    ) -> PyResult<Self> {
        DenseLayerSum::new(parse_outputs(outputs)?, num_outputs, num_features)
            .map(|sum| Self { sum })
            .map_err(|error| to_python(py, &error))
    }

    /// Adds `features` (B, D') with `outputs` (B, C): logits, or curvatures of independent outputs.
    fn add(&mut self, features: &Bound<'_, PyAny>, outputs: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = features.py();
        let (features, outputs) = (Values::new(features)?, Values::new(outputs)?);
        check_columns(py, "features", &features, self.sum.num_features())?;
        check_columns(py, "outputs", &outputs, self.sum.num_outputs())?;
        features.visit(AddFeatures { sum: &mut self.sum, outputs: &outputs, py })?
    }

    /// Factors the curvature plus the prior precision (C * D',); the curvature stays.
    #[pyo3(signature = (prior_precision, check=true, progress=None))]
    fn factor(
        &mut self,
        prior_precision: &Bound<'_, PyAny>,
        check: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<HeadPosterior> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let sum = &mut self.sum;
        // What is still in the panel is no part of the factorisation's progress.
        run(py, None, |driver| sum.finish(driver).map(|_| ()))?;
        run(py, progress, move |driver| LayerPosterior::new(sum, &prior, check_of(check), driver))
            .map(|posterior| HeadPosterior { posterior })
    }

    /// Factors `diag(output_precision) (x) G + I (x) diag(prior_precision)`, `G` being this sum over
    /// one independent output with weights of one: prior (D',), noise precision (C,).
    fn factor_kronecker(
        &mut self,
        prior_precision: &Bound<'_, PyAny>,
        output_precision: &Bound<'_, PyAny>,
    ) -> PyResult<KroneckerPosterior> {
        let (prior, noise) = (Values::double(prior_precision)?, Values::double(output_precision)?);
        let sum = &mut self.sum;
        run(prior_precision.py(), None, move |driver| {
            kronecker::KroneckerPosterior::new(sum, &prior, &noise, driver)
        })
        .map(|posterior| KroneckerPosterior { posterior })
    }

    #[getter]
    fn num_data(&self) -> usize {
        self.sum.num_data()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.sum.nbytes()
    }
}

/// Raises `ShapeError` unless `values` is two-dimensional with `columns` columns.
pub(crate) fn check_columns(
    py: Python<'_>,
    what: &'static str,
    values: &Values<'_>,
    columns: usize,
) -> PyResult<()> {
    let shape = values.shape();
    let found = if shape.len() == 2 { shape[1] } else { 0 };
    if shape.len() == 2 && found == columns {
        return Ok(());
    }
    Err(to_python(py, &CoreError::Shape { what, expected: columns, found }))
}

/// The posterior of a Dense layer.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct HeadPosterior {
    posterior: LayerPosterior,
}

struct Functional<'a, 'py> {
    posterior: &'a LayerPosterior,
    out: &'a mut [f64],
    full: bool,
    py: Python<'py>,
}

impl Visitor for Functional<'_, '_> {
    type Output = PyResult<()>;
    fn visit<T: Real>(self, features: &[T]) -> PyResult<()> {
        let (posterior, out, full) = (self.posterior, self.out, self.full);
        run(self.py, None, move |driver: &mut Driver<'_>| {
            if full {
                posterior.functional_covariance(features, out, driver)
            } else {
                posterior.functional_variance(features, out, driver)
            }
        })
    }
}

impl HeadPosterior {
    fn functional<'py>(&self, features: &Bound<'py, PyAny>, full: bool) -> PyResult<Array<'py>> {
        let py = features.py();
        let features = Values::new(features)?;
        check_columns(py, "features", &features, self.posterior.num_features())?;
        let (points, c) = (features.shape()[0], self.posterior.num_outputs());
        let shape = if full { vec![points, c, c] } else { vec![points, c] };
        filled(py, &shape, |out| {
            features.visit(Functional { posterior: &self.posterior, out, full, py })?
        })
    }
}

#[pymethods]
impl HeadPosterior {
    #[getter]
    fn num_params(&self) -> usize {
        self.posterior.num_params()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.posterior.nbytes()
    }

    fn log_det(&self) -> f64 {
        self.posterior.log_det()
    }

    fn variance<'py>(&self, py: Python<'py>) -> PyResult<Array<'py>> {
        let values = run(py, None, |driver| self.posterior.variance(driver))?;
        vector(py, &values)
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

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.num_params()], |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    fn functional_covariance<'py>(&self, features: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        self.functional(features, true)
    }

    fn functional_variance<'py>(&self, features: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        self.functional(features, false)
    }

    /// Gives back the memory of the cached covariance blocks.
    fn drop_cache(&self) {
        self.posterior.drop_cache();
    }
}
