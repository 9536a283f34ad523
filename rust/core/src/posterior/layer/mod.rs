//! The posterior of a Dense layer, from its quarter-size blocks.
//!
//! Parameters are ordered by output, then feature: `k = c D' + i`. For a softmax under a prior that
//! is the same for all classes the factor covers the `C - 1` contrasts alone, and the remaining `D'`
//! directions `(1/sqrt C) 1 (x) e_i` have exactly the prior's precision `T_i`:
//! `Sigma = (Q (x) I) Sigma' (Q (x) I)^T + (1/C) 1 1^T (x) diag(1/T)`.
//! Under any other prior all `C D'` columns are factored. Outputs that do not interact have a
//! factor of edge `D'` each.

mod dense;
pub mod expand;
mod functional;
mod inverse;
mod sample;

use std::sync::{Arc, Mutex};

use crate::assemble::dense_layer::{DenseLayerSum, Outputs};
use crate::blocks::{Pattern, SymmetricBlocks};
use crate::cholesky::{Check, Factor, factor};
use crate::contrast;
use crate::error::{CoreError, check_prior_precision};
use crate::threads::Driver;
use crate::tiles::TileMatrix;

/// How the factored outputs relate to the network's.
#[derive(Debug)]
enum Basis {
    /// They are the network's.
    Identity,
    /// They are the softmax contrasts; `prior[i]` is the precision of `(1/sqrt C) 1 (x) e_i`.
    Contrast { q: Vec<f64>, prior: Vec<f64> },
}

/// `N(mean, A^-1)` over the `C D'` parameters of a Dense layer.
#[derive(Debug)]
pub struct LayerPosterior {
    num_outputs: usize,
    dim: usize,
    basis: Basis,
    /// One factor over all outputs of the basis, or one an output where they do not interact.
    factors: Vec<Factor>,
    /// `Sigma'` in quarter-size form, made when it is first worth it.
    inverse: Mutex<Option<Arc<SymmetricBlocks>>>,
}

impl LayerPosterior {
    /// Factors the curvature plus `diag(prior_precision)` (`C D'` values, output by output). The
    /// curvature is kept. Cost: `((C-1) D')^3 / 3` flops for a softmax, `C D'^3 / 3` for outputs
    /// that do not interact.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`] and [`CoreError::Shape`] before the work,
    /// [`CoreError::NotPositiveDefinite`], [`CoreError::FactorCheck`], [`CoreError::Allocation`],
    /// [`CoreError::Interrupted`].
    pub fn new(
        sum: &mut DenseLayerSum,
        prior_precision: &[f64],
        check: Check,
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        let (num_outputs, dim, outputs) = (sum.num_outputs(), sum.num_features(), sum.outputs());
        CoreError::check_len("prior_precision", num_outputs * dim, prior_precision.len())?;
        check_prior_precision(prior_precision)?;
        let blocks = sum.finish(driver)?;
        let first = &prior_precision[..dim];
        let (basis, factors) = match outputs {
            Outputs::Independent => {
                let factors = prior_precision
                    .chunks_exact(dim)
                    .enumerate()
                    .map(|(c, prior)| {
                        factor_blocks(1, dim, |_, _| blocks.block(c, c), prior, check, driver)
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                (Basis::Identity, factors)
            }
            Outputs::Softmax if prior_precision.chunks_exact(dim).all(|prior| prior == first) => {
                let k = num_outputs - 1;
                let prior = first.repeat(k);
                let factor =
                    factor_blocks(k, dim, |c, d| blocks.block(c, d), &prior, check, driver)?;
                (
                    Basis::Contrast { q: contrast::matrix(num_outputs), prior: first.to_vec() },
                    vec![factor],
                )
            }
            Outputs::Softmax => {
                let all = expand::to_classes(blocks, num_outputs, driver)?;
                let get = |c: usize, d: usize| all.block(c, d);
                (
                    Basis::Identity,
                    vec![factor_blocks(num_outputs, dim, get, prior_precision, check, driver)?],
                )
            }
        };
        Ok(Self { num_outputs, dim, basis, factors, inverse: Mutex::new(None) })
    }

    /// Bytes of the factor for a prior that is the same for all classes.
    pub fn bytes_of(outputs: Outputs, num_outputs: usize, dim: usize) -> usize {
        match outputs {
            Outputs::Softmax => TileMatrix::bytes_of(num_outputs.saturating_sub(1) * dim),
            Outputs::Independent => num_outputs.saturating_mul(TileMatrix::bytes_of(dim)),
        }
    }

    /// Number of parameters `C D'`.
    pub fn num_params(&self) -> usize {
        self.num_outputs * self.dim
    }

    /// Number of outputs `C`.
    pub fn num_outputs(&self) -> usize {
        self.num_outputs
    }

    /// Length of a layer input `D'`.
    pub fn num_features(&self) -> usize {
        self.dim
    }

    /// Outputs of the basis, and which of their pairs interact.
    fn shape(&self) -> (usize, Pattern) {
        match (&self.basis, self.factors.len()) {
            (Basis::Contrast { .. }, _) => (self.num_outputs - 1, Pattern::Full),
            (Basis::Identity, 1) => (self.num_outputs, Pattern::Full),
            (Basis::Identity, _) => (self.num_outputs, Pattern::Diagonal),
        }
    }

    /// `log |A|` over all `C D'` directions.
    pub fn log_det(&self) -> f64 {
        let factored: f64 = self.factors.iter().map(Factor::log_det).sum();
        match &self.basis {
            Basis::Identity => factored,
            Basis::Contrast { prior, .. } => factored + prior.iter().map(|t| t.ln()).sum::<f64>(),
        }
    }
}

fn factor_blocks<'b>(
    outputs: usize,
    dim: usize,
    block: impl Fn(usize, usize) -> &'b [f64] + Sync,
    prior: &[f64],
    check: Check,
    driver: &mut Driver<'_>,
) -> Result<Factor, CoreError> {
    let mut tiles = expand::to_tiles(outputs, dim, block, driver)?;
    tiles.add_to_diagonal(prior);
    factor(tiles, check, driver)
}

#[cfg(test)]
mod tests;
