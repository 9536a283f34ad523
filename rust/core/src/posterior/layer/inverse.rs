//! `Sigma'` in quarter-size form, for marginal variances and functional covariances of many points.
//!
//! A quadratic form `a^T S a` sees the symmetric part of `S` alone, so the off-diagonal blocks of
//! `Sigma'`, which are not symmetric, are kept as their symmetric parts: a quarter of `P^2`.

use std::sync::{Arc, PoisonError};

use crate::assemble::dense_layer::Outputs;
use crate::blocks::{Pattern, SymmetricBlocks, column_start};
use crate::buffer::Buffer;
use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::posterior::layer::{Basis, LayerPosterior};
use crate::threads::Driver;

impl LayerPosterior {
    /// Bytes of the cached blocks of the covariance, if they were made.
    pub fn cached_bytes(&self) -> usize {
        self.cached().map_or(0, |blocks| blocks.nbytes())
    }

    /// Bytes that the cached blocks take once they are made.
    pub fn cache_bytes_of(outputs: Outputs, num_outputs: usize, dim: usize) -> usize {
        match outputs {
            Outputs::Softmax => {
                SymmetricBlocks::bytes_of(num_outputs.saturating_sub(1), dim, Pattern::Full)
            }
            Outputs::Independent => SymmetricBlocks::bytes_of(num_outputs, dim, Pattern::Diagonal),
        }
    }

    /// Bytes held: the factor and the cached blocks.
    pub fn nbytes(&self) -> usize {
        self.factors.iter().map(Factor::nbytes).sum::<usize>() + self.cached_bytes()
    }

    /// Gives back the memory of the cached blocks; they are made again when needed.
    pub fn drop_cache(&self) {
        self.replace_cached(None);
    }

    /// The cached blocks, which are made first if they are not there. No lock is held while they
    /// are made or used, so that they can be dropped, or the process forked, at any time.
    pub(super) fn inverse(
        &self,
        driver: &mut Driver<'_>,
    ) -> Result<Arc<SymmetricBlocks>, CoreError> {
        if let Some(blocks) = self.cached() {
            return Ok(blocks);
        }
        let blocks = Arc::new(self.inverse_blocks(driver)?);
        self.replace_cached(Some(Arc::clone(&blocks)));
        Ok(blocks)
    }

    fn replace_cached(&self, blocks: Option<Arc<SymmetricBlocks>>) {
        let mut cached = self.inverse.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *cached, blocks);
        // Memory is given back without the lock.
        drop(cached);
        drop(old);
    }

    fn cached(&self) -> Option<Arc<SymmetricBlocks>> {
        self.inverse.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cost: two thirds of `n^3` flops for each factor of edge `n`.
    fn inverse_blocks(&self, driver: &mut Driver<'_>) -> Result<SymmetricBlocks, CoreError> {
        let (k, pattern) = self.shape();
        let mut blocks = SymmetricBlocks::zeros("the covariance of a layer", k, self.dim, pattern)?;
        let mut targets = blocks.blocks_mut();
        if let [factor] = &self.factors[..] {
            self.take_inverse(factor, 0, &mut targets, driver)?;
        } else {
            for (output, (factor, target)) in self.factors.iter().zip(&mut targets).enumerate() {
                self.take_inverse(factor, output, std::slice::from_mut(target), driver)?;
            }
        }
        Ok(blocks)
    }

    /// Takes the inverse of the matrix of `factor`, whose first output is `output`, into its blocks:
    /// a few strips of columns at a time, each solved by one thread, then stored block by block.
    fn take_inverse(
        &self,
        factor: &Factor,
        output: usize,
        blocks: &mut [((usize, usize), &mut [f64])],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, dim) = (factor.n(), self.dim);
        let width = factor.half_tile();
        let strips: Vec<_> =
            (0..n).step_by(width).map(|first| first..n.min(first + width)).collect();
        let group = 2 * driver.num_threads();
        let mut panels = Buffer::zeros("columns of the inverse", group * width * n)?;
        for group in strips.chunks(group) {
            let tasks = group.iter().cloned().zip(panels.chunks_exact_mut(width * n)).collect();
            let height = (n - group[0].start) as f64;
            driver.for_each(
                tasks,
                2.0 * height * height * width as f64,
                0,
                |(strip, panel), _| {
                    factor.inverse_columns(strip.start, strip.len(), panel);
                },
            )?;
            let targets = blocks.iter_mut().collect();
            driver.for_each(targets, (group.len() * width) as f64, 0, |((c, d), block), _| {
                let (row, column) = ((*c - output) * dim, (*d - output) * dim);
                for (strip, panel) in group.iter().zip(panels.chunks_exact(width * n)) {
                    let floor = factor.tile_floor(strip.start);
                    for (s, values) in strip.clone().zip(panel.chunks_exact(n - floor)) {
                        if (column..column + dim).contains(&s) {
                            let value = |i: usize| values[row + i - floor];
                            store_column(block, dim, s - column, c == d, value);
                        }
                    }
                }
            })?;
        }
        Ok(())
    }

    /// The marginal variances of each feature summed over the outputs, `D'` values: all that the
    /// evidence's gradient needs under a prior that is the same for all outputs. The sum does not
    /// see the contrast's rotation, so the diagonal of `Sigma'` is enough: `n^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance_by_feature(&self, driver: &mut Driver<'_>) -> Result<Vec<f64>, CoreError> {
        let mut sums: Vec<f64> = match &self.basis {
            Basis::Contrast { prior, .. } => prior.iter().map(|t| 1.0 / t).collect(),
            Basis::Identity => vec![0.0; self.dim],
        };
        for factor in &self.factors {
            for values in factor.inverse_diagonal(driver)?.chunks_exact(self.dim) {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(sums)
    }

    /// The marginal variances, `C D'` values, output by output.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance(&self, driver: &mut Driver<'_>) -> Result<Vec<f64>, CoreError> {
        let (dim, classes) = (self.dim, self.num_outputs);
        let Basis::Contrast { q, prior } = &self.basis else {
            let mut all = Vec::with_capacity(self.num_params());
            for factor in &self.factors {
                all.extend(factor.inverse_diagonal(driver)?);
            }
            return Ok(all);
        };
        let k = classes - 1;
        let mut out = vec![0.0; classes * dim];
        let blocks = self.inverse(driver)?;
        for (c, d) in blocks.pattern().pairs(k) {
            let block = blocks.block(c, d);
            for (a, values) in out.chunks_exact_mut(dim).enumerate() {
                let weight = q[a * k + c] * q[a * k + d] * if c == d { 1.0 } else { 2.0 };
                if weight != 0.0 {
                    for (i, value) in values.iter_mut().enumerate() {
                        *value += weight * block[column_start(dim, i)];
                    }
                }
            }
        }
        for values in out.chunks_exact_mut(dim) {
            for (value, t) in values.iter_mut().zip(prior) {
                *value += 1.0 / (classes as f64 * t);
            }
        }
        Ok(out)
    }
}

/// Takes column `j` of a `dim x dim` block into its packed symmetric part. A diagonal block is
/// symmetric and its column is known from row `j` down.
fn store_column(
    block: &mut [f64],
    dim: usize,
    j: usize,
    diagonal: bool,
    value: impl Fn(usize) -> f64,
) {
    let below = column_start(dim, j);
    if diagonal {
        for i in j..dim {
            block[below + i - j] = value(i);
        }
        return;
    }
    for i in 0..j {
        block[column_start(dim, i) + j - i] += 0.5 * value(i);
    }
    block[below] += value(j);
    for i in j + 1..dim {
        block[below + i - j] += 0.5 * value(i);
    }
}
