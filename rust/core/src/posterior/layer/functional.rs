//! The outputs of a network at points, from the layer's inputs `a` and its Jacobian `G` (`C x O`).
//!
//! With `a' = U^T R^-1/2 a` and `G' = G S^-1/2 V`, the covariance of the outputs is
//! `G' diag(w) G'^T` with `w_j = sum_k a'_k^2 / (weight l_j m_k + scale)`: nothing of size `O D'` is
//! made for a point. A last layer has `G = I`.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::{LayerPosterior, ROWS};
use crate::error::CoreError;
use crate::input::{Real, check_matrix, widen};
use crate::posterior::matrix::mirror_each;
use crate::storage::buffer::Buffer;
use crate::threads::Driver;

impl LayerPosterior {
    /// `sum_k a'_k b'_k / (weight l_j m_k + scale)` for points with inputs `a` and others `b`, both
    /// `B x D'`; `out` is `B x O`. Cost: `4 D'^2 + 2 O D'` flops a point, half of the first for `a = b`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Interrupted`],
    /// [`CoreError::Allocation`].
    pub fn weights<T: Real>(
        &self,
        inputs: &[T],
        others: Option<&[T]>,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (dim, outputs) = (self.num_inputs(), self.num_outputs());
        let points = out.len() / outputs;
        check_matrix("inputs", inputs, points, dim, driver)?;
        if let Some(others) = others {
            check_matrix("other inputs", others, points, dim, driver)?;
        }
        let inverse = self.of_precisions(f64::recip)?;
        let inverse = MatRef::from_row_major_slice(&inverse, outputs, dim);
        let others = others.map(|others| others.chunks(ROWS * dim));
        let mut others = others.into_iter().flatten();
        let tasks = inputs
            .chunks(ROWS * dim)
            .map(|inputs| (inputs, others.next()))
            .zip(out.chunks_mut(ROWS * outputs));
        let flops = (2 * ROWS * dim * (dim + outputs)) as f64;
        driver.for_each(tasks, flops, 3 * ROWS * dim, |((inputs, others), out), scratch| {
            let len = inputs.len();
            let (wide, rest) = scratch.split_at_mut(ROWS * dim);
            let (turned, second) = rest.split_at_mut(ROWS * dim);
            self.turn_inputs(inputs, &mut wide[..len], &mut turned[..len]);
            let second = &mut second[..len];
            if let Some(others) = others {
                self.turn_inputs(others, &mut wide[..len], second);
            } else {
                second.copy_from_slice(&turned[..len]);
            }
            turned.iter_mut().zip(&*second).for_each(|(value, other)| *value *= other);
            let rows = len / dim;
            let products = MatRef::from_row_major_slice(&turned[..len], rows, dim);
            let target = MatMut::from_row_major_slice_mut(out, rows, outputs);
            matmul(target, Accum::Replace, products, inverse.transpose(), 1.0, Par::Seq);
        })
    }

    /// `a' = U^T R^-1/2 a` of some points.
    fn turn_inputs<T: Real>(&self, inputs: &[T], wide: &mut [f64], out: &mut [f64]) {
        let dim = self.num_inputs();
        widen(inputs, wide);
        for row in wide.chunks_exact_mut(dim) {
            row.iter_mut().zip(&self.basis.input_root).for_each(|(v, r)| *v *= r);
        }
        let rows = wide.len() / dim;
        let wide = MatRef::from_row_major_slice(wide, rows, dim);
        let target = MatMut::from_row_major_slice_mut(out, rows, dim);
        matmul(target, Accum::Replace, wide, self.basis.inputs.basis(), 1.0, Par::Seq);
    }

    /// `S^-1/2 V`, row by row: the `G'` of a last layer.
    fn output_basis(&self) -> Result<Buffer, CoreError> {
        let outputs = self.num_outputs();
        let mut turned = Buffer::zeros("the eigenvectors of outputs", outputs * outputs)?;
        let vectors = self.basis.outputs.basis();
        let rows = turned.chunks_exact_mut(outputs).zip(&self.basis.output_root);
        for (c, (row, root)) in rows.enumerate() {
            row.iter_mut().enumerate().for_each(|(j, value)| *value = root * vectors[(c, j)]);
        }
        Ok(turned)
    }

    /// The variance of every output of a last layer at each point: `inputs` is `B x D'`, `out` is
    /// `B x O`. Cost: `2 (D'^2 + O D' + O^2)` flops a point.
    ///
    /// # Errors
    /// As [`LayerPosterior::weights`].
    pub fn variance_at<T: Real>(
        &self,
        inputs: &[T],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let outputs = self.num_outputs();
        let mut weights = Buffer::zeros("variances in the eigenbasis", out.len())?;
        self.weights(inputs, None, &mut weights, driver)?;
        let mut squares = self.output_basis()?;
        squares.iter_mut().for_each(|value| *value *= *value);
        let squares = MatRef::from_row_major_slice(&squares, outputs, outputs);
        let tasks = weights.chunks(ROWS * outputs).zip(out.chunks_mut(ROWS * outputs));
        driver.for_each(tasks, (2 * ROWS * outputs * outputs) as f64, 0, |(weights, out), _| {
            let rows = weights.len() / outputs;
            let weights = MatRef::from_row_major_slice(weights, rows, outputs);
            let target = MatMut::from_row_major_slice_mut(out, rows, outputs);
            matmul(target, Accum::Replace, weights, squares.transpose(), 1.0, Par::Seq);
        })
    }

    /// The covariance of a last layer's outputs at each point, `out` is `B x O x O`. Cost: `O^3` flops
    /// a point beside [`LayerPosterior::weights`].
    ///
    /// # Errors
    /// As [`LayerPosterior::weights`].
    pub fn covariance_at<T: Real>(
        &self,
        inputs: &[T],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let c = self.num_outputs();
        let mut weights = Buffer::zeros("variances in the eigenbasis", out.len() / c)?;
        self.weights(inputs, None, &mut weights, driver)?;
        let basis = self.output_basis()?;
        let tasks = weights.chunks_exact(c).zip(out.chunks_exact_mut(c * c));
        driver.for_each(tasks, (2 * c * c * c) as f64, c * c, |(weights, out), scaled| {
            gram(&basis, weights, scaled, out, c);
        })?;
        mirror_each(out, c, driver)
    }

    /// The covariance of the network's outputs at each point, from the layer's inputs (`B x D'`) and
    /// its Jacobian (`B x C x O`); `out` is `B x C x C`. Cost: `2 C O (O + C)` flops a point beside
    /// [`LayerPosterior::weights`].
    ///
    /// # Errors
    /// As [`LayerPosterior::weights`].
    pub fn covariance_through<T: Real, U: Real>(
        &self,
        inputs: &[T],
        jacobian: &[U],
        num_outputs: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (c, o) = (num_outputs, self.num_outputs());
        if c == 0 {
            return Err(CoreError::Shape { what: "number of outputs", expected: 1, found: 0 });
        }
        let points = out.len() / (c * c);
        check_matrix("jacobian", jacobian, points * c, o, driver)?;
        let mut weights = Buffer::zeros("variances in the eigenbasis", points * o)?;
        self.weights(inputs, None, &mut weights, driver)?;
        let basis = self.output_basis()?;
        let basis = MatRef::from_row_major_slice(&basis, o, o);
        let tasks = weights
            .chunks_exact(o)
            .zip(jacobian.chunks_exact(c * o))
            .zip(out.chunks_exact_mut(c * c));
        let flops = (2 * c * o * (o + c)) as f64;
        driver.for_each(tasks, flops, 2 * c * o, |((weights, jacobian), out), both| {
            let (wide, turned) = both.split_at_mut(c * o);
            widen(jacobian, wide);
            let target = MatMut::from_row_major_slice_mut(turned, c, o);
            let rows = MatRef::from_row_major_slice(wide, c, o);
            matmul(target, Accum::Replace, rows, basis, 1.0, Par::Seq);
            gram(turned, weights, wide, out, c);
        })?;
        mirror_each(out, c, driver)
    }
}

/// `rows diag(weights) rows^T`.
fn gram(rows: &[f64], weights: &[f64], scaled: &mut [f64], out: &mut [f64], c: usize) {
    let o = weights.len();
    for (row, source) in scaled.chunks_exact_mut(o).zip(rows.chunks_exact(o)) {
        let pairs = source.iter().zip(weights);
        row.iter_mut().zip(pairs).for_each(|(value, (x, w))| *value = x * w);
    }
    let scaled = MatRef::from_row_major_slice(scaled, c, o);
    let rows = MatRef::from_row_major_slice(rows, c, o);
    let target = MatMut::from_row_major_slice_mut(out, c, c);
    matmul(target, Accum::Replace, scaled, rows.transpose(), 1.0, Par::Seq);
}
