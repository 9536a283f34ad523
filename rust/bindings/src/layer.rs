//! The posterior of a Dense layer by its Kronecker factors.

use std::sync::Arc;

use hoarfrost_core::error::CoreError;
use hoarfrost_core::posterior::layer::{self, OutputFactor};
use pyo3::prelude::*;

use crate::arrays::{Values, with_slice};
use crate::diagonal::DiagonalCurvature;
use crate::errors::to_python;
use crate::head::HeadCurvature;
use crate::output::{Array, computed, square};
use crate::seam::run;
use crate::stored::saved_posterior;

/// Bytes of a basis, and of what stands between the sums and it for a while.
#[pyfunction]
pub fn layer_bytes(num_outputs: usize, num_inputs: usize) -> (usize, usize) {
    layer::LayerBasis::bytes_of(num_outputs, num_inputs)
}

/// Both factors of a layer, decomposed in the metric of a prior.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct LayerBasis {
    basis: Arc<layer::LayerBasis>,
}

#[pymethods]
impl LayerBasis {
    /// From the sums of products of the layer's inputs and of what its outputs are: rows, or with
    /// `softmax` probabilities, of a head with one independent output; or a diagonal. The prior
    /// precision of parameter (c, i) is `output_prior[c] * input_prior[i]`.
    #[new]
    #[pyo3(signature = (inputs, outputs, input_prior, output_prior, softmax=false))]
    fn new(
        inputs: &Bound<'_, HeadCurvature>,
        outputs: &Bound<'_, PyAny>,
        input_prior: &Bound<'_, PyAny>,
        output_prior: &Bound<'_, PyAny>,
        softmax: bool,
    ) -> PyResult<Self> {
        let py = inputs.py();
        let (input_prior, output_prior) =
            (Values::double(input_prior)?, Values::double(output_prior)?);
        let inputs = &inputs.get().state;
        let basis = if let Ok(diagonal) = outputs.cast::<DiagonalCurvature>() {
            let (mut inputs, diagonal) = (inputs.take(py)?, diagonal.get().sum.take(py)?);
            let (inputs, diagonal) = (inputs.sum(py)?, &*diagonal);
            run(py, None, |driver| {
                let outputs = OutputFactor::Diagonal(diagonal);
                layer::LayerBasis::new(inputs, outputs, &input_prior, &output_prior, driver)
            })
        } else {
            let outputs = outputs.cast::<HeadCurvature>()?;
            let (mut inputs, mut outputs) = inputs.take_both(&outputs.get().state, py)?;
            let (inputs, outputs) = (inputs.sum(py)?, outputs.sum(py)?);
            run(py, None, |driver| {
                let outputs = if softmax {
                    OutputFactor::Softmax(outputs)
                } else {
                    OutputFactor::Gram(outputs)
                };
                layer::LayerBasis::new(inputs, outputs, &input_prior, &output_prior, driver)
            })
        };
        basis.map(|basis| Self { basis: Arc::new(basis) })
    }

    /// The posterior with `weight` times the product of the factors and `scale` times the prior.
    fn posterior(&self, py: Python<'_>, weight: f64, scale: f64) -> PyResult<LayerPosterior> {
        layer::LayerPosterior::new(Arc::clone(&self.basis), weight, scale)
            .map(|posterior| LayerPosterior { posterior })
            .map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.basis.nbytes()
    }
}

/// The posterior of a Dense layer; parameters by output, then input.
#[pyclass(module = "hoarfrost._core", frozen)]
pub struct LayerPosterior {
    posterior: layer::LayerPosterior,
}

impl LayerPosterior {
    /// Inputs (B, D'), and how many there are.
    fn points<'py>(&self, inputs: &Bound<'py, PyAny>) -> PyResult<(Values<'py>, usize)> {
        let values = Values::new(inputs)?;
        values.check_columns(inputs.py(), "inputs", self.posterior.num_inputs())?;
        let points = values.shape()[0];
        Ok((values, points))
    }
}

#[pymethods]
impl LayerPosterior {
    #[getter]
    fn num_params(&self) -> usize {
        self.posterior.num_params()
    }

    #[getter]
    fn num_outputs(&self) -> usize {
        self.posterior.num_outputs()
    }

    #[getter]
    fn num_inputs(&self) -> usize {
        self.posterior.num_inputs()
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

    /// `tr(T A^-1)`.
    fn prior_trace(&self) -> f64 {
        self.posterior.prior_trace()
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

    fn sample<'py>(&self, py: Python<'py>, seed: u64, n: usize) -> PyResult<Array<'py>> {
        computed(py, &[n, self.posterior.num_params()], None, |out, driver| {
            self.posterior.sample(seed, out, driver)
        })
    }

    /// Rotations of outputs (O, O) and inputs (D', D'), and the precisions (O, D') along their rows.
    fn rotations<'py>(&self, py: Python<'py>) -> PyResult<(Array<'py>, Array<'py>, Array<'py>)> {
        let (o, d) = (self.posterior.num_outputs(), self.posterior.num_inputs());
        let outputs = computed(py, &[o, o], None, |out, _| self.posterior.output_rotation(out))?;
        let inputs = computed(py, &[d, d], None, |out, _| self.posterior.input_rotation(out))?;
        let precision =
            computed(py, &[o, d], None, |out, _| self.posterior.rotated_precision(out))?;
        Ok((outputs, inputs, precision))
    }

    /// Rows (R, P) as `x A^-1/2` in the eigenbasis (R, P).
    fn whitened<'py>(&self, rows: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = rows.py();
        let rows = Values::new(rows)?;
        rows.check_columns(py, "rows", self.posterior.num_params())?;
        let shape = [rows.shape()[0], self.posterior.num_params()];
        with_slice!(&rows, |rows| computed(py, &shape, None, |out, driver| {
            self.posterior.whitened(rows, out, driver)
        }))
    }

    /// `sum_k a'_k b'_k / precision_jk` (B, O) for inputs `a` and others `b`, both (B, D').
    fn weights<'py>(
        &self,
        inputs: &Bound<'py, PyAny>,
        others: &Bound<'py, PyAny>,
    ) -> PyResult<Array<'py>> {
        let py = inputs.py();
        let ((inputs, points), (others, _)) = (self.points(inputs)?, self.points(others)?);
        let (inputs, others) = (inputs.copied(py)?, others.copied(py)?);
        computed(py, &[points, self.posterior.num_outputs()], None, |out, driver| {
            self.posterior.weights(&inputs[..], Some(&others[..]), out, driver)
        })
    }

    /// The variance (B, O) of the outputs of a last layer at its inputs (B, D').
    fn variance_at<'py>(&self, inputs: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = inputs.py();
        let (inputs, points) = self.points(inputs)?;
        let shape = [points, self.posterior.num_outputs()];
        with_slice!(&inputs, |inputs| computed(py, &shape, None, |out, driver| {
            self.posterior.variance_at(inputs, out, driver)
        }))
    }

    /// The covariance (B, O, O) of the outputs of a last layer at its inputs (B, D').
    fn covariance_at<'py>(&self, inputs: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
        let py = inputs.py();
        let (inputs, points) = self.points(inputs)?;
        let outputs = self.posterior.num_outputs();
        with_slice!(&inputs, |inputs| computed(
            py,
            &[points, outputs, outputs],
            None,
            |out, driver| { self.posterior.covariance_at(inputs, out, driver) }
        ))
    }

    /// The covariance (B, C, C) of the network's outputs at the layer's inputs (B, D'), through its
    /// Jacobian (B, C, O).
    fn covariance_through<'py>(
        &self,
        inputs: &Bound<'py, PyAny>,
        jacobian: &Bound<'py, PyAny>,
    ) -> PyResult<Array<'py>> {
        let py = inputs.py();
        let (inputs, points) = self.points(inputs)?;
        let jacobian = Values::new(jacobian)?;
        let shape = jacobian.shape();
        let outputs = self.posterior.num_outputs();
        if shape.len() != 3 || shape[0] != points || shape[2] != outputs {
            let error = CoreError::Shape {
                what: "numbers of the layer's Jacobian",
                expected: points * outputs,
                found: shape.iter().product(),
            };
            return Err(to_python(py, &error));
        }
        let c = shape[1];
        with_slice!(&inputs, |inputs| with_slice!(&jacobian, |jacobian| computed(
            py,
            &[points, c, c],
            None,
            |out, driver| { self.posterior.covariance_through(inputs, jacobian, c, out, driver) }
        )))
    }
}

saved_posterior!(LayerPosterior);
