//! The posterior of a softmax's last layer, from its quarter-size blocks.
//!
//! Parameters are ordered by output, then feature: `k = c D' + i`. Under a prior that is the same for
//! all classes the factor covers the `C - 1` contrasts alone, and the remaining `D'` directions
//! `(1/sqrt C) 1 (x) e_i` have exactly the prior's precision `T_i`:
//! `Sigma = (Q (x) I) Sigma' (Q (x) I)^T + (1/C) 1 1^T (x) diag(1/T)`.
//! Under any other prior all `C D'` columns are factored.

mod cache;
pub mod expand;
mod functional;
mod in_place;
mod inverse;
mod matrix;
mod sample;
mod variance;

pub use cache::Cache;
pub use functional::{by_blocks, by_solves};
pub use in_place::InPlace;
pub use inverse::take_inverse;
pub use variance::Columns;

use crate::assemble::head::{HeadSum, Outputs};
use crate::cholesky::{Factor, Standing, factor};
use crate::error::{CoreError, check_prior_precision};
use crate::output::contrast;
use crate::posterior::PRIOR;
use crate::storage::blocks::{Pattern, SymmetricBlocks};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::threads::Driver;

/// How the factored outputs relate to the network's.
#[derive(Debug)]
enum Basis {
    /// They are the network's.
    Identity,
    /// They are the softmax contrasts; `prior[i]` is the precision of `(1/sqrt C) 1 (x) e_i`.
    Contrast { q: Buffer, prior: Vec<f64> },
}

impl Basis {
    /// The smaller one where the prior allows it.
    fn of(prior_precision: &[f64], num_outputs: usize, dim: usize) -> Result<Self, CoreError> {
        let first = &prior_precision[..dim];
        if prior_precision.chunks_exact(dim).all(|prior| prior == first) {
            let prior = list::copy_of(PRIOR, first)?;
            Ok(Self::Contrast { q: contrast::matrix(num_outputs)?, prior })
        } else {
            Ok(Self::Identity)
        }
    }

    /// Outputs that are factored.
    fn outputs(&self, num_outputs: usize) -> usize {
        match self {
            Self::Identity => num_outputs,
            Self::Contrast { .. } => num_outputs - 1,
        }
    }
}

/// `N(mean, A^-1)` over the `C D'` parameters of a softmax's last layer.
#[derive(Debug)]
pub struct HeadPosterior {
    num_outputs: usize,
    dim: usize,
    basis: Basis,
    factor: Factor,
    /// `Sigma'` in quarter-size form, made when it is first worth it.
    inverse: Cache,
}

impl HeadPosterior {
    /// Factors the curvature plus `diag(prior_precision)` (`C D'` values, output by output). Cost:
    /// `((C-1) D')^3 / 3` flops under a prior that classes share.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`] and [`CoreError::Shape`] before the work,
    /// [`CoreError::NotPositiveDefinite`], [`CoreError::LostInRounding`],
    /// [`CoreError::FactorCheck`], [`CoreError::Allocation`], [`CoreError::Interrupted`]; the
    /// curvature stays in each case.
    pub fn new(
        sum: &mut HeadSum,
        prior_precision: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        Self::check(sum, prior_precision)?;
        let (num_outputs, dim) = (sum.num_outputs(), sum.num_features());
        let basis = Basis::of(prior_precision, num_outputs, dim)?;
        let (blocks, outputs) = (sum.finish(driver)?, basis.outputs(num_outputs));
        let prior = &prior_precision[..outputs * dim];
        let mut tiles = match basis {
            Basis::Contrast { .. } => {
                expand::to_tiles(outputs, dim, |c, d| blocks.block(c, d), driver)?
            }
            Basis::Identity => {
                let classes = expand::to_classes(blocks, num_outputs, driver)?;
                expand::to_tiles(outputs, dim, |c, d| classes.block(c, d), driver)?
            }
        };
        tiles.add_to_diagonal(prior);
        let factor = factor(tiles, Standing::of(prior), driver)?;
        Ok(Self { num_outputs, dim, basis, factor, inverse: Cache::default() })
    }

    /// Refuses a curvature that is no softmax's, and a prior that does not fit it.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`], [`CoreError::Shape`].
    pub fn check(sum: &HeadSum, prior_precision: &[f64]) -> Result<(), CoreError> {
        let num_params = sum.num_outputs() * sum.num_features();
        CoreError::check_len("prior_precision", num_params, prior_precision.len())?;
        check_prior_precision(prior_precision)?;
        if sum.outputs() == Outputs::Softmax {
            Ok(())
        } else {
            Err(CoreError::Shape {
                what: "outputs that depend on each other",
                expected: 1,
                found: 0,
            })
        }
    }

    /// Bytes of the factor, under a prior that classes share or any other.
    pub fn bytes_of(num_outputs: usize, dim: usize, shared_prior: bool) -> usize {
        let outputs = num_outputs.saturating_sub(usize::from(shared_prior));
        Factor::bytes_of(outputs.saturating_mul(dim))
    }

    /// Bytes of the blocks that stand between the curvature and the factor under a prior that
    /// classes do not share.
    pub fn class_bytes_of(num_outputs: usize, dim: usize) -> usize {
        SymmetricBlocks::bytes_of(num_outputs, dim, Pattern::Full)
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

    /// Outputs of the basis.
    fn basis_outputs(&self) -> usize {
        self.basis.outputs(self.num_outputs)
    }

    /// `log |A|` over all `C D'` directions.
    pub fn log_det(&self) -> f64 {
        let factored = self.factor.log_det();
        match &self.basis {
            Basis::Identity => factored,
            Basis::Contrast { prior, .. } => factored + prior.iter().map(|t| t.ln()).sum::<f64>(),
        }
    }
}

impl Stored for HeadPosterior {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = Content::default();
        content.size("", "outputs", self.num_outputs);
        content.size("", "features", self.dim);
        self.factor.add_to("", &mut content);
        if let Basis::Contrast { prior, .. } = &self.basis {
            content.array("", "prior", prior);
        }
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let (num_outputs, dim) = (source.size("", "outputs")?, source.size("", "features")?);
        if num_outputs < 2 || dim == 0 {
            return Err(misfit("the factor", num_outputs.min(dim), "outputs or features"));
        }
        let basis = if source.holds("", "prior") {
            let prior = list::copy_of(PRIOR, &source.array(PRIOR, "", "prior", dim)?)?;
            Basis::Contrast { q: contrast::matrix(num_outputs)?, prior }
        } else {
            Basis::Identity
        };
        let factor = Factor::of_source("", source)?;
        if factor.n() != basis.outputs(num_outputs).saturating_mul(dim) {
            return Err(misfit("the factor", factor.n(), "columns"));
        }
        Ok(Self { num_outputs, dim, basis, factor, inverse: Cache::default() })
    }
}

#[cfg(test)]
mod tests;
