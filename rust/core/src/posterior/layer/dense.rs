//! What takes all parameters of a layer together: quadratic forms, variances, draws, dense matrices.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::{LayerPosterior, ROWS};
use crate::error::CoreError;
use crate::input::{Real, check_matrix, widen};
use crate::normal::fill_standard_normal;
use crate::posterior::matrix::{rows_in_order, scatter};
use crate::storage::buffer::Buffer;
use crate::threads::Driver;

/// `left middle right`, all row by row, through `half`.
fn product(
    left: MatRef<'_, f64>,
    middle: &[f64],
    right: MatRef<'_, f64>,
    half: &mut [f64],
    out: &mut [f64],
) {
    let (rows, inner, width) = (left.nrows(), left.ncols(), right.nrows());
    let half = &mut half[..rows * width];
    let middle = MatRef::from_row_major_slice(middle, inner, width);
    let target = MatMut::from_row_major_slice_mut(half, rows, width);
    matmul(target, Accum::Replace, left, middle, 1.0, Par::Seq);
    let half = MatRef::from_row_major_slice(half, rows, width);
    let target = MatMut::from_row_major_slice_mut(out, rows, right.ncols());
    matmul(target, Accum::Replace, half, right, 1.0, Par::Seq);
}

impl LayerPosterior {
    /// Operations of a product with both rotations.
    fn flops(&self) -> f64 {
        2.0 * self.num_params() as f64 * (self.num_inputs() + self.num_outputs()) as f64
    }

    /// Multiplies a matrix of parameters, `O x D'`, by a function of `S^-1/2` and `R^-1/2`.
    fn rescale(&self, matrix: &mut [f64], function: fn(f64) -> f64) {
        let rows = matrix.chunks_exact_mut(self.num_inputs());
        for (row, output) in rows.zip(&self.basis.output_root) {
            let pairs = row.iter_mut().zip(&self.basis.input_root);
            pairs.for_each(|(value, input)| *value *= function(output * input));
        }
    }

    /// `v^T A v`. Cost: `2 O D' (O + D')` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn quadratic(&self, v: &[f64], driver: &mut Driver<'_>) -> Result<f64, CoreError> {
        let (p, dim, outputs) = (self.num_params(), self.num_inputs(), self.num_outputs());
        CoreError::check_len("the vector", p, v.len())?;
        let mut scaled = Buffer::zeros("a vector of parameters", p)?;
        scaled.copy_from_slice(v);
        self.rescale(&mut scaled, f64::recip);
        let mut sums = Buffer::zeros("sums of squares", outputs.div_ceil(ROWS))?;
        let flops = self.flops() * ROWS.min(outputs) as f64 / outputs as f64;
        driver.for_each(
            sums.iter_mut().enumerate(),
            flops,
            2 * ROWS * dim,
            |(part, sum), both| {
                let first = part * ROWS;
                let rows = ROWS.min(outputs - first);
                let left = self.basis.outputs.basis().subcols(first, rows).transpose();
                let (half, turned) = both.split_at_mut(ROWS * dim);
                let turned = &mut turned[..rows * dim];
                product(left, &scaled, self.basis.inputs.basis(), half, turned);
                let rows = turned.chunks_exact(dim).enumerate();
                *sum = rows
                    .map(|(j, row)| {
                        let pairs = row.iter().zip(self.precisions(first + j));
                        pairs.map(|(x, a)| a * x * x).sum::<f64>()
                    })
                    .sum();
            },
        )?;
        Ok(sums.iter().sum())
    }

    /// The marginal variances, `O D'` values, into `out`. Cost: `2 O D' (O + D')` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance(&self, out: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let (dim, outputs) = (self.num_inputs(), self.num_outputs());
        CoreError::check_len("the variance", self.num_params(), out.len())?;
        let inverse = self.of_precisions(f64::recip)?;
        let squares = |values: &Buffer| -> Result<Buffer, CoreError> {
            let mut squares = Buffer::zeros("squares of the eigenvectors", values.len())?;
            squares.iter_mut().zip(values.iter()).for_each(|(s, u)| *s = u * u);
            Ok(squares)
        };
        let inputs = squares(&self.basis.inputs.vectors)?;
        let inputs = MatRef::from_column_major_slice(&inputs, dim, dim);
        let left = squares(&self.basis.outputs.vectors)?;
        let left = MatRef::from_column_major_slice(&left, outputs, outputs);
        let flops = self.flops() * ROWS.min(outputs) as f64 / outputs as f64;
        let tasks = out.chunks_mut(ROWS * dim).enumerate();
        driver.for_each(tasks, flops, ROWS * dim, |(part, out), half| {
            let (first, rows) = (part * ROWS, out.len() / dim);
            product(left.subrows(first, rows), &inverse, inputs.transpose(), half, out);
            let roots = &self.basis.output_root[first..];
            for (row, output) in out.chunks_exact_mut(dim).zip(roots) {
                let pairs = row.iter_mut().zip(&self.basis.input_root);
                pairs.for_each(|(value, input)| *value *= (output * input).powi(2));
            }
        })
    }

    /// Fills `out` with zero-mean draws of length `O D'`; draw `s` uses stream `s` of `seed`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn sample(
        &self,
        seed: u64,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let p = self.num_params();
        CoreError::check_len("draws", out.len() / p * p, out.len())?;
        let std = self.of_precisions(|a| a.sqrt().recip())?;
        let tasks = out.chunks_exact_mut(p).enumerate();
        driver.for_each(tasks, self.flops(), 2 * p, |(unit, draw), both| {
            let (z, half) = both.split_at_mut(p);
            fill_standard_normal(seed, unit as u64, z);
            z.iter_mut().zip(std.iter()).for_each(|(z, std)| *z *= std);
            let right = self.basis.inputs.basis().transpose();
            product(self.basis.outputs.basis(), z, right, half, draw);
            self.rescale(draw, |root| root);
        })
    }

    /// Rows `x` of length `O D'` as `x A^-1/2` in the eigenbasis, into `out`: `x A^-1 y^T` is the
    /// product of two of those. Cost: `2 O D' (O + D')` flops a row.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Interrupted`],
    /// [`CoreError::Allocation`].
    pub fn whitened<T: Real>(
        &self,
        rows: &[T],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let p = self.num_params();
        check_matrix("rows", rows, out.len() / p, p, driver)?;
        let std = self.of_precisions(|a| a.sqrt().recip())?;
        let tasks = rows.chunks_exact(p).zip(out.chunks_exact_mut(p));
        driver.for_each(tasks, self.flops(), 2 * p, |(row, out), both| {
            let (wide, half) = both.split_at_mut(p);
            widen(row, wide);
            self.rescale(wide, |root| root);
            let left = self.basis.outputs.basis().transpose();
            product(left, wide, self.basis.inputs.basis(), half, out);
            out.iter_mut().zip(std.iter()).for_each(|(value, std)| *value *= std);
        })
    }

    /// `A^-1` with entry `(i, j)` at `out[order[i], order[j]]`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn covariance(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.dense(order, out, driver, f64::recip, |root| root)
    }

    /// `A`, in the order of [`LayerPosterior::covariance`].
    ///
    /// # Errors
    /// As [`LayerPosterior::covariance`].
    pub fn precision(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.dense(order, out, driver, |a| a, f64::recip)
    }

    /// `outer (V (x) U) inner(precisions) (V (x) U)^T outer`, row by row.
    fn dense(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
        inner: fn(f64) -> f64,
        outer: fn(f64) -> f64,
    ) -> Result<(), CoreError> {
        let (p, dim) = (self.num_params(), self.num_inputs());
        CoreError::check_len("order", p, order.len())?;
        let weights = self.of_precisions(inner)?;
        let (left, right) = (self.basis.outputs.basis(), self.basis.inputs.basis());
        let tasks = rows_in_order(out, order)?.into_iter().enumerate();
        driver.for_each(tasks, self.flops(), 2 * p, |(k, row), both| {
            let (c, i) = (k / dim, k % dim);
            let (turned, half) = both.split_at_mut(p);
            let lines = turned.chunks_exact_mut(dim).zip(weights.chunks_exact(dim));
            for (j, (line, weights)) in lines.enumerate() {
                for (n, (value, weight)) in line.iter_mut().zip(weights).enumerate() {
                    *value = left[(c, j)] * right[(i, n)] * weight;
                }
            }
            product(left, turned, right.transpose(), half, row);
            self.rescale(row, outer);
            let own = outer(self.basis.output_root[c] * self.basis.input_root[i]);
            for value in row.iter_mut() {
                *value *= own;
            }
            scatter(row, order, turned);
        })
    }
}
