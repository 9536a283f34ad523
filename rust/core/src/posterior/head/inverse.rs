//! `Sigma'` in quarter-size form, for functional covariances of many points.
//!
//! A quadratic form `a^T S a` sees the symmetric part of `S` alone, so the off-diagonal blocks of
//! `Sigma'`, which are not symmetric, are kept as their symmetric parts: a quarter of `P^2`.

use std::sync::Arc;

use crate::cholesky::{Factor, STRIP, strip_of};
use crate::error::CoreError;
use crate::posterior::head::HeadPosterior;
use crate::storage::blocks::{Pattern, SymmetricBlocks, column_start};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::threads::Driver;

impl HeadPosterior {
    /// Bytes of the cached blocks of the covariance, if they were made.
    pub fn cached_bytes(&self) -> usize {
        self.inverse.nbytes()
    }

    /// Bytes that the cached blocks take once they are made.
    pub fn cache_bytes_of(num_outputs: usize, dim: usize, shared_prior: bool) -> usize {
        let outputs = num_outputs.saturating_sub(usize::from(shared_prior));
        SymmetricBlocks::bytes_of(outputs, dim, Pattern::Full)
    }

    /// Bytes held: the factor and the cached blocks.
    pub fn nbytes(&self) -> usize {
        self.factor.nbytes() + self.cached_bytes()
    }

    /// Gives back the memory of the cached blocks; they are made again when needed.
    pub fn drop_cache(&self) {
        self.inverse.drop_blocks();
    }

    /// The cached blocks, which are made first if they are not there.
    pub(super) fn inverse(
        &self,
        driver: &mut Driver<'_>,
    ) -> Result<Arc<SymmetricBlocks>, CoreError> {
        self.inverse.get(driver, |driver| {
            let outputs = self.basis_outputs();
            let what = "the covariance of a layer";
            let mut blocks = SymmetricBlocks::zeros(what, outputs, self.dim, Pattern::Full)?;
            let mut parts = list::collect("blocks of a layer", blocks.blocks_mut())?;
            take_inverse(&self.factor, self.dim, &mut parts, driver)?;
            drop(parts);
            Ok(blocks)
        })
    }
}

/// Takes the inverse of the matrix of `factor` into its blocks: a few strips of columns at a time, each
/// solved by one thread, then stored block by block. Cost: `2 n^3 / 3` flops.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn take_inverse(
    factor: &Factor,
    dim: usize,
    blocks: &mut [((usize, usize), &mut [f64])],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let n = factor.n();
    let strips = (0..n).step_by(STRIP).map(|first| first..n.min(first + STRIP));
    let strips = list::collect("strips of columns", strips)?;
    let group = 2 * driver.num_threads();
    let mut panels = Buffer::zeros("columns of the inverse", group * STRIP * n)?;
    for group in strips.chunks(group) {
        let tasks = group.iter().cloned().zip(panels.chunks_exact_mut(STRIP * n));
        let height = (n - group[0].start) as f64;
        let flops = 2.0 * height * height * STRIP as f64;
        driver.for_each(tasks, flops, factor.strip_scratch(STRIP), |(strip, panel), scratch| {
            let height = n - factor.tile_floor(strip.start);
            let columns = panel.chunks_exact_mut(height).take(strip.len());
            factor.inverse_columns(strip.start, &mut strip_of(columns)[..strip.len()], scratch);
        })?;
        driver.for_each(
            blocks.iter_mut(),
            (group.len() * STRIP) as f64,
            0,
            |((c, d), block), _| {
                let (row, column) = (*c * dim, *d * dim);
                for (strip, panel) in group.iter().zip(panels.chunks_exact(STRIP * n)) {
                    let floor = factor.tile_floor(strip.start);
                    for (s, values) in strip.clone().zip(panel.chunks_exact(n - floor)) {
                        if (column..column + dim).contains(&s) {
                            let value = |i: usize| values[row + i - floor];
                            store_column(block, dim, s - column, c == d, value);
                        }
                    }
                }
            },
        )?;
    }
    Ok(())
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
