//! A last layer's curvature, and the posterior of a softmax's.

use hoarfrost_core::assemble::head::{HeadSum, Outputs};
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::block_diagonal::{self, BlockDiagonalPosterior as BlockDiagonal};
use hoarfrost_core::posterior::head::{self, HeadPosterior as Head};
use hoarfrost_core::posterior::kronecker;
use hoarfrost_core::spectrum;
use hoarfrost_core::storage::stored::{Content, Source, Stored};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Values, with_slice};
use crate::block_diagonal::BlockDiagonalPosterior;
use crate::errors::to_python;
use crate::kronecker::KroneckerBasis;
use crate::output::{Array, computed, lanes, square, vector};
use crate::seam::run;
use crate::stored::{Saved, saved_posterior};
use crate::turn::Turn;

fn parse_outputs(outputs: &str) -> PyResult<Outputs> {
    match outputs {
        "softmax" => Ok(Outputs::Softmax),
        "independent" => Ok(Outputs::Independent),
        other => Err(PyValueError::new_err(format!(
            "outputs must be 'softmax' or 'independent', got {other:?}"
        ))),
    }
}

/// Bytes of the curvature, of its factor, of a panel of points while they are added, of the cached
/// blocks of the covariance, and of what stands between curvature and factor while one is made from
/// the other.
#[pyfunction]
#[pyo3(signature = (outputs, num_outputs, num_features, shared_prior=true))]
pub fn head_bytes(
    outputs: &str,
    num_outputs: usize,
    num_features: usize,
    shared_prior: bool,
) -> PyResult<(usize, usize, usize, usize, usize)> {
    let outputs = parse_outputs(outputs)?;
    let (curvature, panel) = HeadSum::bytes_of(outputs, num_outputs, num_features);
    Ok(match outputs {
        Outputs::Softmax => (
            curvature,
            Head::bytes_of(num_outputs, num_features, shared_prior),
            panel,
            Head::cache_bytes_of(num_outputs, num_features, shared_prior),
            if shared_prior { 0 } else { Head::class_bytes_of(num_outputs, num_features) },
        ),
        Outputs::Independent => (
            curvature,
            BlockDiagonal::bytes_of(num_outputs, num_features),
            panel,
            BlockDiagonal::cache_bytes_of(num_outputs, num_features),
            0,
        ),
    })
}

/// A sum, or what is left of it while it is given up for its factor.
pub(crate) enum State {
    Sum(Box<HeadSum>),
    Softmax(Box<head::InPlace>),
    Independent(Box<block_diagonal::InPlace>),
    Gone,
}

impl State {
    pub(crate) fn sum(&mut self, py: Python<'_>) -> PyResult<&mut HeadSum> {
        match self {
            Self::Sum(sum) => Ok(sum),
            Self::Gone => Err(to_python(py, &CoreError::Consumed)),
            Self::Softmax(_) | Self::Independent(_) => Err(to_python(py, &CoreError::Incomplete)),
        }
    }

    /// Gives the sum up for its factor, unless that has begun.
    fn give_up(&mut self, py: Python<'_>, prior: &[f64]) -> PyResult<()> {
        let Self::Sum(sum) = self else { return Ok(()) };
        // All memory is had before the sum is taken.
        let failed = |error| to_python(py, &error);
        match sum.outputs() {
            Outputs::Softmax => {
                let mut work = Box::new(head::InPlace::new(sum, prior).map_err(failed)?);
                if let Self::Sum(sum) = std::mem::replace(self, Self::Gone) {
                    work.take(*sum);
                    *self = Self::Softmax(work);
                }
            }
            Outputs::Independent => {
                let mut work = Box::new(block_diagonal::InPlace::new(sum, prior).map_err(failed)?);
                if let Self::Sum(sum) = std::mem::replace(self, Self::Gone) {
                    work.take(*sum);
                    *self = Self::Independent(work);
                }
            }
        }
        Ok(())
    }
}

impl Stored for State {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        match self {
            Self::Sum(sum) => sum.content(),
            Self::Softmax(work) => work.content(),
            Self::Independent(work) => work.content(),
            Self::Gone => Err(CoreError::Consumed),
        }
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        // Only factorisations count steps or factors.
        if source.size("", "steps").is_ok() {
            return head::InPlace::restored(source).map(|work| Self::Softmax(Box::new(work)));
        }
        if source.size("", "factors").is_ok() {
            let work = block_diagonal::InPlace::restored(source)?;
            return Ok(Self::Independent(Box::new(work)));
        }
        HeadSum::restored(source).map(|sum| Self::Sum(Box::new(sum)))
    }
}

/// The growing curvature of a last layer, in quarter-size blocks.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct HeadCurvature {
    outputs: Outputs,
    pub(crate) state: Turn<State>,
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
        let outputs = parse_outputs(outputs)?;
        HeadSum::new(outputs, num_outputs, num_features)
            .map(|sum| Self { outputs, state: Turn::new(State::Sum(Box::new(sum))) })
            .map_err(|error| to_python(py, &error))
    }

    /// Adds `features` (B, D') with `outputs` (B, C): logits, or curvatures of independent outputs.
    fn add(&self, features: &Bound<'_, PyAny>, outputs: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = features.py();
        let (features, outputs) = (Values::new(features)?, Values::new(outputs)?);
        let mut state = self.state.take(py)?;
        let sum = state.sum(py)?;
        features.check_columns(py, "features", sum.num_features())?;
        outputs.check_columns(py, "outputs", sum.num_outputs())?;
        with_slice!(&features, |features| with_slice!(&outputs, |outputs| {
            run(py, None, move |driver| sum.add(features, outputs, driver))
        }))
    }

    /// Adds the points of another curvature of the same kind, which stays as it is, with a weight.
    #[pyo3(signature = (other, weight=1.0))]
    fn merge(&self, other: &Bound<'_, Self>, weight: f64) -> PyResult<()> {
        let py = other.py();
        let (mut state, mut other) = self.state.take_both(&other.get().state, py)?;
        let (sum, other) = (state.sum(py)?, other.sum(py)?);
        run(py, None, move |driver| sum.merge(other, weight, driver))
    }

    /// Factors the curvature plus the prior precision (C * D',); without `keep` the curvature is
    /// given up, and its memory given back as the factor takes it up.
    #[pyo3(signature = (prior_precision, keep=true, progress=None))]
    fn factor<'py>(
        &self,
        prior_precision: &Bound<'py, PyAny>,
        keep: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let outputs = self.outputs;
        let mut state = self.state.take(py)?;
        if let State::Sum(sum) = &mut *state {
            match outputs {
                Outputs::Softmax => Head::check(sum, &prior),
                Outputs::Independent => BlockDiagonal::check(sum, &prior),
            }
            .map_err(|error| to_python(py, &error))?;
            // What is still in the panel is no part of the factorisation's progress.
            run(py, None, |driver| sum.finish(driver).map(|_| ()))?;
        }
        if keep {
            let sum = state.sum(py)?;
            return match outputs {
                Outputs::Softmax => run(py, progress, |driver| Head::new(sum, &prior, driver))
                    .and_then(|posterior| as_python(py, HeadPosterior { posterior })),
                Outputs::Independent => {
                    run(py, progress, |driver| BlockDiagonal::new(sum, &prior, driver))
                        .and_then(|posterior| as_python(py, BlockDiagonalPosterior { posterior }))
                }
            };
        }
        state.give_up(py, &prior)?;
        match &mut *state {
            State::Softmax(work) => run(py, progress, |driver| work.run(&prior, driver))?,
            State::Independent(work) => run(py, progress, |driver| work.run(&prior, driver))?,
            State::Sum(_) | State::Gone => return Err(to_python(py, &CoreError::Consumed)),
        }
        match std::mem::replace(&mut *state, State::Gone) {
            State::Softmax(work) => work
                .into_posterior()
                .map_err(|error| to_python(py, &error))
                .and_then(|posterior| as_python(py, HeadPosterior { posterior })),
            State::Independent(work) => work
                .into_posterior()
                .map_err(|error| to_python(py, &error))
                .and_then(|posterior| as_python(py, BlockDiagonalPosterior { posterior })),
            State::Sum(_) | State::Gone => Err(to_python(py, &CoreError::Consumed)),
        }
    }

    /// The eigendecomposition of this sum over one independent output with weights of one, in the
    /// metric of a prior precision (D',).
    fn kronecker(&self, prior_precision: &Bound<'_, PyAny>) -> PyResult<KroneckerBasis> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let mut state = self.state.take(py)?;
        let sum = state.sum(py)?;
        run(py, None, move |driver| kronecker::KroneckerBasis::new(sum, &prior, driver))
            .map(KroneckerBasis::new)
    }

    /// Lanczos' tridiagonal matrices in the metric of a prior precision (D',) that outputs share:
    /// the edge of the matrix, diagonals (steps, 8), and what stands beside them (steps, 8).
    fn spectrum<'py>(
        &self,
        prior_precision: &Bound<'py, PyAny>,
        steps: usize,
    ) -> PyResult<(usize, Array<'py>, Array<'py>)> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let mut state = self.state.take(py)?;
        let sum = state.sum(py)?;
        let found = run(py, None, |driver| spectrum::of_head(sum, &prior, steps, driver))?;
        Ok((found.size, lanes(py, &found.alpha)?, lanes(py, &found.beta)?))
    }

    #[getter]
    fn num_data(&self, py: Python<'_>) -> PyResult<usize> {
        self.state.take(py)?.sum(py).map(|sum| sum.num_data())
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(match &*self.state.take(py)? {
            State::Sum(sum) => sum.nbytes(),
            State::Softmax(work) => work.nbytes(),
            State::Independent(work) => work.nbytes(),
            State::Gone => 0,
        })
    }
}

fn as_python<T>(py: Python<'_>, posterior: T) -> PyResult<Bound<'_, PyAny>>
where
    T: pyo3::PyClass + Into<PyClassInitializer<T>>,
{
    Ok(Bound::new(py, posterior)?.into_any())
}

/// The posterior of a softmax's last layer.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct HeadPosterior {
    posterior: Head,
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

    /// The covariance (B, C, C) of the outputs at `features` (B, D'), which may be a part of a
    /// question about `question` points.
    #[pyo3(signature = (features, question=0))]
    fn functional_covariance<'py>(
        &self,
        features: &Bound<'py, PyAny>,
        question: usize,
    ) -> PyResult<Array<'py>> {
        let py = features.py();
        let (features, c) = (Values::new(features)?, self.posterior.num_outputs());
        features.check_columns(py, "features", self.posterior.num_features())?;
        let shape = [features.shape()[0], c, c];
        with_slice!(&features, |features| computed(py, &shape, None, |out, driver| {
            self.posterior.functional_covariance(features, question, out, driver)
        }))
    }

    /// Its diagonal (B, C).
    #[pyo3(signature = (features, question=0))]
    fn functional_variance<'py>(
        &self,
        features: &Bound<'py, PyAny>,
        question: usize,
    ) -> PyResult<Array<'py>> {
        let py = features.py();
        let (features, c) = (Values::new(features)?, self.posterior.num_outputs());
        features.check_columns(py, "features", self.posterior.num_features())?;
        let shape = [features.shape()[0], c];
        with_slice!(&features, |features| computed(py, &shape, None, |out, driver| {
            self.posterior.functional_variance(features, question, out, driver)
        }))
    }

    /// Gives back the memory of the cached covariance blocks.
    fn drop_cache(&self) {
        self.posterior.drop_cache();
    }
}

impl Saved for HeadCurvature {
    fn read<R>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&Content<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let state = self.state.take(py)?;
        read(&state.content().map_err(|error| to_python(py, &error))?)
    }

    fn again(source: &Source) -> Result<Self, CoreError> {
        let state = State::restored(source)?;
        let outputs = match &state {
            State::Sum(sum) => sum.outputs(),
            State::Independent(_) => Outputs::Independent,
            State::Softmax(_) | State::Gone => Outputs::Softmax,
        };
        Ok(Self { outputs, state: Turn::new(state) })
    }
}

saved_posterior!(HeadPosterior);
