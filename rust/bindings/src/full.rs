//! Curvature and posterior of any parameters, tile-packed.

use hoarfrost_core::assemble::full::FullSum;
use hoarfrost_core::cholesky::Factor;
use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::full::{self, FullPosterior as Full};
use hoarfrost_core::spectrum;
use hoarfrost_core::storage::stored::{Content, Source, Stored};
use pyo3::prelude::*;

use crate::arrays::{Values, own_jacobian, with_slice};
use crate::errors::to_python;
use crate::output::{Array, computed, lanes, square};
use crate::seam::run;
use crate::stored::{Saved, saved_posterior};
use crate::turn::Turn;

/// Bytes of the curvature of `num_params` parameters, of its factor, and of a panel of rows while they
/// are added.
#[pyfunction]
pub fn full_bytes(num_params: usize) -> (usize, usize, usize) {
    let (curvature, panel) = FullSum::bytes_of(num_params);
    (curvature, Factor::bytes_of(num_params), panel)
}

/// What `progress` of a factorisation over `num_params` columns counts up to, nearly.
#[pyfunction]
pub fn factor_flops(num_params: usize) -> f64 {
    Factor::reported_flops(num_params)
}

/// A sum, or what is left of it while it is factored in its own memory.
enum State {
    Sum(FullSum),
    Factoring(full::InPlace),
    Gone,
}

impl State {
    fn sum(&mut self, py: Python<'_>) -> PyResult<&mut FullSum> {
        match self {
            Self::Sum(sum) => Ok(sum),
            Self::Factoring(_) => Err(to_python(py, &CoreError::Incomplete)),
            Self::Gone => Err(to_python(py, &CoreError::Consumed)),
        }
    }

    /// Gives the sum up for its factor, unless that has begun.
    fn give_up(&mut self, py: Python<'_>, prior: &[f64]) -> PyResult<()> {
        let failed = |error| to_python(py, &error);
        if let Self::Sum(sum) = self {
            let mut work = full::InPlace::new(sum, prior).map_err(failed)?;
            if let Self::Sum(sum) = std::mem::replace(self, Self::Gone) {
                work.take(sum).map_err(failed)?;
                *self = Self::Factoring(work);
            }
        }
        Ok(())
    }
}

impl Stored for State {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        match self {
            Self::Sum(sum) => sum.content(),
            Self::Factoring(work) => work.content(),
            Self::Gone => Err(CoreError::Consumed),
        }
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        // Only a factorisation counts steps.
        match source.size("", "steps") {
            Ok(_) => full::InPlace::restored(source).map(Self::Factoring),
            Err(_) => FullSum::restored(source).map(Self::Sum),
        }
    }
}

/// The growing curvature of any parameters, tile-packed.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct FullCurvature {
    state: Turn<State>,
}

impl FullCurvature {
    fn of(sum: FullSum) -> Self {
        Self { state: Turn::new(State::Sum(sum)) }
    }
}

#[pymethods]
impl FullCurvature {
    #[new]
    fn new(py: Python<'_>, num_params: usize) -> PyResult<Self> {
        FullSum::new(num_params).map(Self::of).map_err(|error| to_python(py, &error))
    }

    /// Adds `rows^T rows` for `rows` (R, P).
    fn add_rows(&self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = rows.py();
        let rows = Values::new(rows)?;
        let mut state = self.state.take(py)?;
        let sum = state.sum(py)?;
        rows.check_columns(py, "rows", sum.num_params())?;
        with_slice!(&rows, |rows| run(py, None, move |driver| sum.add_rows(rows, driver)))
    }

    /// Adds the rows that were gathered until now, and gives their memory back.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.take(py)?;
        let sum = state.sum(py)?;
        run(py, None, |driver| sum.finish(driver).map(|_| ()))
    }

    /// Adds another curvature over the same parameters, which stays as it is, with a weight.
    #[pyo3(signature = (other, weight=1.0))]
    fn merge(&self, other: &Bound<'_, Self>, weight: f64) -> PyResult<()> {
        let py = other.py();
        let (mut state, mut other) = self.state.take_both(&other.get().state, py)?;
        let (sum, other) = (state.sum(py)?, other.sum(py)?);
        run(py, None, move |driver| sum.merge(other, weight, driver))
    }

    /// Lanczos' tridiagonal matrices in the metric of a prior precision (P,): the edge of the matrix,
    /// diagonals (steps, 8), and what stands beside them (steps, 8).
    fn spectrum<'py>(
        &self,
        prior_precision: &Bound<'py, PyAny>,
        steps: usize,
    ) -> PyResult<(usize, Array<'py>, Array<'py>)> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let mut state = self.state.take(py)?;
        let sum = state.sum(py)?;
        let found = run(py, None, |driver| spectrum::of_full(sum, &prior, steps, driver))?;
        Ok((found.size, lanes(py, &found.alpha)?, lanes(py, &found.beta)?))
    }

    /// Factors the curvature plus the prior precision (P,); without `keep` in its own memory.
    #[pyo3(signature = (prior_precision, keep=true, progress=None))]
    fn factor(
        &self,
        prior_precision: &Bound<'_, PyAny>,
        keep: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<FullPosterior> {
        let py = prior_precision.py();
        let prior = Values::double(prior_precision)?;
        let mut state = self.state.take(py)?;
        if let State::Sum(sum) = &mut *state {
            // Refused before the curvature is given up.
            Full::check(sum, &prior).map_err(|error| to_python(py, &error))?;
            run(py, None, |driver| sum.finish(driver).map(|_| ()))?;
        }
        if keep {
            let sum = state.sum(py)?;
            return run(py, progress, |driver| Full::new(sum, &prior, driver))
                .map(|posterior| FullPosterior { posterior });
        }
        state.give_up(py, &prior)?;
        let State::Factoring(work) = &mut *state else {
            return Err(to_python(py, &CoreError::Consumed));
        };
        run(py, progress, |driver| work.run(&prior, driver))?;
        let State::Factoring(work) = std::mem::replace(&mut *state, State::Gone) else {
            return Err(to_python(py, &CoreError::Consumed));
        };
        work.into_posterior()
            .map(|posterior| FullPosterior { posterior })
            .map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(match &*self.state.take(py)? {
            State::Sum(sum) => sum.nbytes(),
            State::Factoring(work) => work.nbytes(),
            State::Gone => 0,
        })
    }
}

/// The posterior of any parameters.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct FullPosterior {
    posterior: Full,
}

#[pymethods]
impl FullPosterior {
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
        run(vector.py(), None, |driver| self.posterior.factor().quadratic(&values, driver))
    }

    fn log_det(&self) -> f64 {
        self.posterior.factor().log_det()
    }

    /// The curvature again, from the factor and the prior precision (P,) that it was made with.
    fn curvature(&self, prior_precision: &Bound<'_, PyAny>) -> PyResult<FullCurvature> {
        let prior = Values::double(prior_precision)?;
        run(prior_precision.py(), None, |driver| self.posterior.curvature(&prior, driver))
            .map(FullCurvature::of)
    }

    #[pyo3(signature = (progress=None))]
    fn variance<'py>(&self, py: Python<'py>, progress: Option<Py<PyAny>>) -> PyResult<Array<'py>> {
        computed(py, &[self.posterior.num_params()], progress, |out, driver| {
            out.copy_from_slice(&self.posterior.factor().inverse_diagonal(driver)?);
            Ok(())
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

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.num_params()], None, |out, driver| {
            self.posterior.factor().sample(seed, 0, out, driver)
        })
    }

    /// `J A^-1 J^T` (B, C, C) for a Jacobian (B, C, P).
    fn functional_covariance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (mut jacobian, points, c) = own_jacobian(jacobian, self.posterior.num_params())?;
        computed(py, &[points, c, c], None, |out, driver| {
            self.posterior.functional_covariance(&mut jacobian, c, out, driver)
        })
    }

    /// Its diagonal (B, C).
    fn functional_variance<'py>(&self, jacobian: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = jacobian.py();
        let (mut jacobian, points, c) = own_jacobian(jacobian, self.posterior.num_params())?;
        computed(py, &[points, c], None, |out, driver| {
            self.posterior.functional_variance(&mut jacobian, out, driver)
        })
    }
}

impl Saved for FullCurvature {
    fn read<R>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&Content<'_>) -> PyResult<R>,
    ) -> PyResult<R> {
        let state = self.state.take(py)?;
        read(&state.content().map_err(|error| to_python(py, &error))?)
    }

    fn again(source: &Source) -> Result<Self, CoreError> {
        State::restored(source).map(|state| Self { state: Turn::new(state) })
    }
}

saved_posterior!(FullPosterior);
