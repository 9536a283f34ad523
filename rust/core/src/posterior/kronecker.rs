//! The posterior of a last layer whose output curvature is the same for every point.
//!
//! With Gaussian noise `Lambda_n = diag(w)` for all `n`, so `H = diag(w) (x) G` with
//! `G = sum_n a_n a_n^T`, exactly. For a prior `T` that is the same for all outputs, one
//! eigendecomposition `T^-1/2 G T^-1/2 = U diag(s) U^T` gives every output's block,
//! `A_c = T^1/2 U diag(w_c s + 1) U^T T^1/2`, and for any other noise or any multiple of the prior
//! nothing of size `D'^3` has to be done again.

use std::sync::Arc;

use faer::linalg::matmul::matmul;
use faer::prelude::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};

use crate::assemble::head::{HeadSum, Outputs};
use crate::cholesky::CLEAR;
use crate::error::{CoreError, check_prior_precision};
use crate::input::{Real, check_matrix, widen};
use crate::kernel::dot::dot;
use crate::normal::fill_standard_normal;
use crate::posterior::PRIOR;
use crate::posterior::eigen::{Eigen, eigen, in_metric};
use crate::posterior::matrix::{rows_in_order, scatter};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::threads::Driver;

/// Rows that one product takes together.
const ROWS: usize = 256;

/// Rows of a dense matrix that one product makes.
const DENSE_ROWS: usize = 64;

/// `U` and `s` of `T^-1/2 G T^-1/2`: all posteriors under multiples of one prior, and any noise.
#[derive(Debug)]
pub struct KroneckerBasis {
    eigen: Eigen,
    prior: Vec<f64>,
    /// `T^-1/2`.
    inverse_root: Vec<f64>,
}

impl KroneckerBasis {
    /// From the sum `G` (one independent output, weights of one) and the prior precision of each
    /// feature (`D'` values, the same for all outputs). Cost: one eigendecomposition of edge `D'`.
    ///
    /// # Errors
    /// [`CoreError::Shape`] and [`CoreError::PriorPrecision`] before the work,
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`], [`CoreError::Eigen`]; the sum stays.
    pub fn new(
        sum: &mut HeadSum,
        prior_precision: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        let dim = sum.num_features();
        CoreError::check_len("prior_precision (one a feature)", dim, prior_precision.len())?;
        CoreError::check_len("outputs of the sum", 1, sum.num_outputs())?;
        if sum.outputs() == Outputs::Softmax {
            return Err(CoreError::Shape { what: "independent outputs", expected: 1, found: 0 });
        }
        check_prior_precision(prior_precision)?;
        let blocks = sum.finish(driver)?;
        let inverse_root = list::collect(PRIOR, prior_precision.iter().map(|t| 1.0 / t.sqrt()))?;
        let gram = in_metric(blocks.block(0, 0), &inverse_root)?;
        let prior = list::copy_of(PRIOR, prior_precision)?;
        let eigen = eigen(gram, dim, driver)?;
        Ok(Self { eigen, prior, inverse_root })
    }

    /// Length of a layer input `D'`.
    pub fn num_features(&self) -> usize {
        self.prior.len()
    }

    /// Eigenvalues of `T^-1/2 G T^-1/2`, `D'` values.
    pub fn eigenvalues(&self) -> &[f64] {
        &self.eigen.values
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        let dim = self.num_features();
        (dim * dim + 3 * dim) * size_of::<f64>()
    }
}

/// `N(mean, A^-1)` with `A = diag(w) (x) G + scale I (x) diag(T)`; parameters by output, then feature.
#[derive(Clone, Debug)]
pub struct KroneckerPosterior {
    basis: Arc<KroneckerBasis>,
    output_precision: Vec<f64>,
    scale: f64,
}

impl KroneckerPosterior {
    /// The posterior under `scale` times the prior precision of a basis, and the noise precision of
    /// each output. `O(C + D')`.
    ///
    /// The decomposition's error `dM` moves the precisions `w_c s_k + scale` by at most `w_c |dM|`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::PriorPrecision`]; [`CoreError::LostInRounding`] where the
    /// least of the precisions is not clearly above that.
    pub fn new(
        basis: Arc<KroneckerBasis>,
        scale: f64,
        output_precision: &[f64],
    ) -> Result<Self, CoreError> {
        if output_precision.is_empty() {
            return Err(CoreError::Shape { what: "output_precision", expected: 1, found: 0 });
        }
        check_prior_precision(&[scale])?;
        check_prior_precision(output_precision)?;
        let (values, rounding) = (basis.eigenvalues(), basis.eigen.rounding);
        let largest = output_precision.iter().copied().fold(0.0, f64::max);
        let (low, high) = (values[0], values[values.len() - 1]);
        if largest * low + scale < CLEAR * largest * rounding {
            let lost = values.iter().filter(|s| largest * **s + scale < CLEAR * largest * rounding);
            let norm = largest * high + scale;
            let prior = scale * basis.prior.iter().copied().fold(f64::INFINITY, f64::min);
            return Err(CoreError::LostInRounding {
                size: basis.num_features(),
                prior,
                eigenvalue: (largest * low + scale) / norm,
                rounding: largest * rounding / norm,
                directions: lost.count(),
                least: prior * (2.0 * CLEAR * largest * rounding / scale),
            });
        }
        let own = list::copy_of("noise precisions", output_precision)?;
        Ok(Self { basis, output_precision: own, scale })
    }

    /// `U`.
    fn vectors(&self) -> MatRef<'_, f64> {
        self.basis.eigen.basis()
    }

    /// `U^T T^-1/2`, row by row, into `out`: the variance of an output at a point `a` is
    /// `sum_k (U^T T^-1/2 a)_k^2 / (w s_k + scale)`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn rotation(&self, out: &mut [f64]) -> Result<(), CoreError> {
        let dim = self.num_features();
        CoreError::check_len("the rotation", dim * dim, out.len())?;
        for (row, vector) in
            out.chunks_exact_mut(dim).zip(self.basis.eigen.vectors.chunks_exact(dim))
        {
            let pairs = vector.iter().zip(&self.basis.inverse_root);
            row.iter_mut().zip(pairs).for_each(|(value, (u, root))| *value = u * root);
        }
        Ok(())
    }

    /// The precision of every output along every row of the rotation (`C x D'`) into `out`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn rotated_precision(&self, out: &mut [f64]) -> Result<(), CoreError> {
        CoreError::check_len("the precisions", self.num_params(), out.len())?;
        for (c, row) in out.chunks_exact_mut(self.num_features()).enumerate() {
            row.iter_mut().zip(self.precisions(c)).for_each(|(value, a)| *value = a);
        }
        Ok(())
    }

    /// The basis, for other noise and other multiples of its prior.
    pub fn basis(&self) -> &Arc<KroneckerBasis> {
        &self.basis
    }

    /// Number of parameters `C D'`.
    pub fn num_params(&self) -> usize {
        self.num_outputs() * self.num_features()
    }

    /// Number of outputs `C`.
    pub fn num_outputs(&self) -> usize {
        self.output_precision.len()
    }

    /// Length of a layer input `D'`.
    pub fn num_features(&self) -> usize {
        self.basis.num_features()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.basis.nbytes() + self.num_outputs() * size_of::<f64>()
    }

    /// `w_c s_k + scale`: the precision of output `c` along eigenvector `k`.
    fn precisions(&self, output: usize) -> impl Iterator<Item = f64> + '_ {
        let weight = self.output_precision[output];
        self.basis.eigenvalues().iter().map(move |s| weight * s + self.scale)
    }

    /// `v^T A v`. Cost: `2 C D'^2` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn quadratic(&self, v: &[f64], driver: &mut Driver<'_>) -> Result<f64, CoreError> {
        let dim = self.num_features();
        CoreError::check_len("the vector", self.num_params(), v.len())?;
        let mut sums = Buffer::zeros("sums of squares", self.num_outputs())?;
        let tasks = sums.iter_mut().zip(v.chunks_exact(dim)).enumerate();
        driver.for_each(tasks, (2 * dim * dim) as f64, dim, |(c, (sum, v)), scaled| {
            let pairs = v.iter().zip(&self.basis.inverse_root);
            scaled.iter_mut().zip(pairs).for_each(|(value, (v, root))| *value = v / root);
            let vectors = self.basis.eigen.vectors.chunks_exact(dim);
            *sum = vectors.zip(self.precisions(c)).map(|(u, a)| a * dot(u, scaled).powi(2)).sum();
        })?;
        Ok(sums.iter().sum())
    }

    /// `log |A|`.
    pub fn log_det(&self) -> f64 {
        let prior: f64 = self.basis.inverse_root.iter().map(|r| -2.0 * r.ln()).sum();
        (0..self.num_outputs()).map(|c| self.precisions(c).map(f64::ln).sum::<f64>() + prior).sum()
    }

    /// The marginal variances, `C D'` values, output by output, into `out`. Cost: `2 C D'^2` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance(&self, out: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        CoreError::check_len("the variance", self.num_params(), out.len())?;
        let dim = self.num_features();
        let mut squares = Buffer::zeros("squares of the eigenvectors", dim * dim)?;
        squares.iter_mut().zip(self.basis.eigen.vectors.iter()).for_each(|(s, u)| *s = u * u);
        let squares = MatRef::from_column_major_slice(&squares, dim, dim);
        let tasks = out.chunks_mut(ROWS * dim).enumerate();
        driver.for_each(
            tasks,
            (2 * ROWS * dim * dim) as f64,
            ROWS * dim,
            |(chunk, out), scratch| {
                let outputs = out.len() / dim;
                for (row, line) in scratch.chunks_exact_mut(dim).take(outputs).enumerate() {
                    line.iter_mut()
                        .zip(self.precisions(chunk * ROWS + row))
                        .for_each(|(v, a)| *v = 1.0 / a);
                }
                let weights = MatRef::from_row_major_slice(&scratch[..outputs * dim], outputs, dim);
                let mut target = MatMut::from_row_major_slice_mut(out, outputs, dim);
                matmul(
                    target.rb_mut(),
                    Accum::Replace,
                    weights,
                    squares.transpose(),
                    1.0,
                    Par::Seq,
                );
                for row in out.chunks_exact_mut(dim) {
                    row.iter_mut().zip(&self.basis.inverse_root).for_each(|(v, r)| *v *= r * r);
                }
            },
        )
    }

    /// Fills `out` with zero-mean draws of length `C D'`; draw `s` uses stream `s` of `seed`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn sample(
        &self,
        seed: u64,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (p, dim) = (self.num_params(), self.num_features());
        CoreError::check_len("draws", out.len() / p * p, out.len())?;
        let tasks = out.chunks_exact_mut(p).enumerate();
        driver.for_each(tasks, 2.0 * (p * dim) as f64, p, |(unit, draw), z| {
            fill_standard_normal(seed, unit as u64, z);
            for (c, z) in z.chunks_exact_mut(dim).enumerate() {
                z.iter_mut().zip(self.precisions(c)).for_each(|(z, a)| *z /= a.sqrt());
            }
            let z = MatRef::from_row_major_slice(z, self.num_outputs(), dim);
            let target = MatMut::from_row_major_slice_mut(draw, self.num_outputs(), dim);
            matmul(target, Accum::Replace, z, self.vectors().transpose(), 1.0, Par::Seq);
            for row in draw.chunks_exact_mut(dim) {
                row.iter_mut().zip(&self.basis.inverse_root).for_each(|(v, r)| *v *= r);
            }
        })
    }

    /// The variance of every output at each point: `features` is `B x D'`, `out` is `B x C`; outputs
    /// do not covary. Cost: `2 D'^2 + 2 C D'` flops a point.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Interrupted`],
    /// [`CoreError::Allocation`].
    pub fn functional_variance<T: Real>(
        &self,
        features: &[T],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (dim, outputs) = (self.num_features(), self.num_outputs());
        let points = features.len() / dim;
        check_matrix("features", features, points, dim, driver)?;
        CoreError::check_len("the functional variance", points * outputs, out.len())?;
        let mut inverse = Buffer::zeros("precisions", outputs * dim)?;
        for (c, line) in inverse.chunks_exact_mut(dim).enumerate() {
            line.iter_mut().zip(self.precisions(c)).for_each(|(v, a)| *v = 1.0 / a);
        }
        let inverse = MatRef::from_row_major_slice(&inverse, outputs, dim);
        let tasks = features.chunks(ROWS * dim).zip(out.chunks_mut(ROWS * outputs));
        driver.for_each(
            tasks,
            (2 * ROWS * dim * (dim + outputs)) as f64,
            2 * ROWS * dim,
            |(features, out), scratch| {
                let rows = features.len() / dim;
                let (wide, rotated) = scratch.split_at_mut(ROWS * dim);
                widen(features, wide);
                for row in wide.chunks_exact_mut(dim).take(rows) {
                    row.iter_mut().zip(&self.basis.inverse_root).for_each(|(v, r)| *v *= r);
                }
                let wide = MatRef::from_row_major_slice(&wide[..rows * dim], rows, dim);
                let rotated = &mut rotated[..rows * dim];
                let target = MatMut::from_row_major_slice_mut(rotated, rows, dim);
                matmul(target, Accum::Replace, wide, self.vectors(), 1.0, Par::Seq);
                for value in rotated.iter_mut() {
                    *value *= *value;
                }
                let rotated = MatRef::from_row_major_slice(rotated, rows, dim);
                let target = MatMut::from_row_major_slice_mut(out, rows, outputs);
                matmul(target, Accum::Replace, rotated, inverse.transpose(), 1.0, Par::Seq);
            },
        )
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
        self.dense(order, out, driver, |a| 1.0 / a, |r| r)
    }

    /// `A`, in the order of [`KroneckerPosterior::covariance`].
    ///
    /// # Errors
    /// As [`KroneckerPosterior::covariance`].
    pub fn precision(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.dense(order, out, driver, |a| a, |r| 1.0 / r)
    }

    /// `diag(outer) U diag(inner(w_c s + scale)) U^T diag(outer)`, a product for some rows of an output.
    fn dense(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
        inner: fn(f64) -> f64,
        outer: fn(f64) -> f64,
    ) -> Result<(), CoreError> {
        let (p, dim) = (self.num_params(), self.num_features());
        CoreError::check_len("order", p, order.len())?;
        let vectors = self.vectors();
        let roots = &self.basis.inverse_root;
        let mut rows = rows_in_order(out, order)?;
        let tasks = rows.chunks_mut(dim).enumerate().flat_map(|(c, rows)| {
            let parts = rows.chunks_mut(DENSE_ROWS).enumerate();
            parts.map(move |(part, rows)| (c, part * DENSE_ROWS, rows))
        });
        let flops = (2 * DENSE_ROWS * dim * dim) as f64;
        driver.for_each(tasks, flops, 2 * DENSE_ROWS * dim, |(c, first, rows), scratch| {
            let (weighted, product) = scratch.split_at_mut(DENSE_ROWS * dim);
            let count = rows.len();
            for (i, line) in (first..).zip(weighted.chunks_exact_mut(dim)).take(count) {
                for (k, (value, a)) in line.iter_mut().zip(self.precisions(c)).enumerate() {
                    *value = vectors[(i, k)] * inner(a);
                }
            }
            let weighted = MatRef::from_row_major_slice(&weighted[..count * dim], count, dim);
            let product = &mut product[..count * dim];
            let target = MatMut::from_row_major_slice_mut(product, count, dim);
            matmul(target, Accum::Replace, weighted, vectors.transpose(), 1.0, Par::Seq);
            for ((i, row), line) in (first..).zip(rows).zip(product.chunks_exact(dim)) {
                row.fill(0.0);
                let own = outer(roots[i]);
                let targets = row[c * dim..(c + 1) * dim].iter_mut();
                for ((target, value), root) in targets.zip(line).zip(roots) {
                    *target = own * value * outer(*root);
                }
            }
        })?;
        driver.for_each(rows, 4.0 * p as f64, p, |row, scratch| scatter(row, order, scratch))
    }
}

impl Stored for KroneckerPosterior {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let (mut content, eigen) = (Content::default(), &self.basis.eigen);
        content.size("", "outputs", self.num_outputs());
        content.size("", "features", self.num_features());
        content.number("", "scale", self.scale);
        content.number("", "rounding", eigen.rounding);
        content.array("", "vectors", &eigen.vectors);
        content.array("", "values", &eigen.values);
        content.array("", "prior", &self.basis.prior);
        content.array("", "output_precision", &self.output_precision);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let (outputs, dim) = (source.size("", "outputs")?, source.size("", "features")?);
        if outputs == 0 || dim == 0 {
            return Err(misfit("the posterior", 0, "outputs or features"));
        }
        let eigen = Eigen {
            vectors: source.array("the eigenvectors", "", "vectors", dim.saturating_mul(dim))?,
            values: source.array("the eigenvalues", "", "values", dim)?,
            rounding: source.number("", "rounding")?,
        };
        let prior = list::copy_of(PRIOR, &source.array(PRIOR, "", "prior", dim)?)?;
        let inverse_root = list::collect(PRIOR, prior.iter().map(|t| 1.0 / t.sqrt()))?;
        let what = "noise precisions";
        let noise = source.array(what, "", "output_precision", outputs)?;
        let scale = source.number("", "scale")?;
        let basis = Arc::new(KroneckerBasis { eigen, prior, inverse_root });
        Ok(Self { basis, output_precision: list::copy_of(what, &noise)?, scale })
    }
}

#[cfg(test)]
mod tests;
