//! A head's curvature on its way to its posterior, its blocks given back as the factor takes them up.

use crate::assemble::head::HeadSum;
use crate::cholesky::{Factorization, Standing};
use crate::error::CoreError;
use crate::posterior::PRIOR;
use crate::posterior::head::expand::{Expansion, to_classes};
use crate::posterior::head::{Basis, Cache, HeadPosterior};
use crate::storage::blocks::SymmetricBlocks;
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::threads::Driver;

/// How far it came.
#[derive(Debug)]
enum Stage {
    Sum(HeadSum),
    Blocks(SymmetricBlocks, Option<Expansion>),
    Matrix(Factorization),
}

/// A curvature that is given up: at its peak there are the factor and what is left of the blocks.
#[derive(Debug)]
pub struct InPlace {
    num_outputs: usize,
    dim: usize,
    basis: Basis,
    prior_precision: Vec<f64>,
    stage: Option<Stage>,
}

impl InPlace {
    /// Makes ready for a sum, which is not touched yet: nothing is lost where memory is refused.
    ///
    /// # Errors
    /// As [`HeadPosterior::check`]; [`CoreError::Allocation`].
    pub fn new(sum: &HeadSum, prior_precision: &[f64]) -> Result<Self, CoreError> {
        HeadPosterior::check(sum, prior_precision)?;
        let (num_outputs, dim) = (sum.num_outputs(), sum.num_features());
        Ok(Self {
            num_outputs,
            dim,
            basis: Basis::of(prior_precision, num_outputs, dim)?,
            prior_precision: list::copy_of(PRIOR, prior_precision)?,
            stage: None,
        })
    }

    /// Gives up the sum.
    pub fn take(&mut self, sum: HeadSum) {
        self.stage = Some(Stage::Sum(sum));
    }

    /// Goes on to the end.
    ///
    /// # Errors
    /// As [`Factorization::run`]; [`CoreError::Incomplete`] for another prior than it began with.
    pub fn run(&mut self, prior: &[f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if prior != self.prior_precision && !self.is_lost() {
            return Err(CoreError::Incomplete);
        }
        loop {
            match self.stage.as_mut().ok_or(CoreError::Consumed)? {
                Stage::Sum(sum) => {
                    let blocks = sum.finish(driver)?;
                    let blocks = match self.basis {
                        Basis::Contrast { .. } => None,
                        Basis::Identity => Some(to_classes(blocks, self.num_outputs, driver)?),
                    };
                    let Some(Stage::Sum(sum)) = self.stage.take() else { continue };
                    let blocks = blocks.map_or_else(|| sum.into_blocks(), Ok)?;
                    self.stage = Some(Stage::Blocks(blocks, None));
                }
                Stage::Blocks(blocks, expansion) => {
                    let outputs = self.basis.outputs(self.num_outputs);
                    let mut own = match expansion.take() {
                        Some(own) => own,
                        None => Expansion::new(outputs, self.dim)?,
                    };
                    let more = own.step(|c, d| blocks.block(c, d), driver);
                    if let Ok(false) = more {
                        let mut tiles = own.into_tiles();
                        let prior = &self.prior_precision[..outputs * self.dim];
                        tiles.add_to_diagonal(prior);
                        let work = Factorization::new(tiles, Standing::of(prior))?;
                        self.stage = Some(Stage::Matrix(work));
                        continue;
                    }
                    blocks.release_below(own.taken());
                    *expansion = Some(own);
                    more?;
                }
                Stage::Matrix(work) => return work.run(driver),
            }
        }
    }

    fn is_lost(&self) -> bool {
        match &self.stage {
            None => true,
            Some(Stage::Matrix(work)) => work.is_lost(),
            Some(Stage::Sum(_) | Stage::Blocks(..)) => false,
        }
    }

    /// The posterior, once [`InPlace::run`] came to its end.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`].
    pub fn into_posterior(self) -> Result<HeadPosterior, CoreError> {
        let Some(Stage::Matrix(work)) = self.stage else { return Err(CoreError::Incomplete) };
        Ok(HeadPosterior {
            num_outputs: self.num_outputs,
            dim: self.dim,
            basis: self.basis,
            factor: work.into_factor()?,
            inverse: Cache::default(),
        })
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        match &self.stage {
            None => 0,
            Some(Stage::Sum(sum)) => sum.nbytes(),
            Some(Stage::Blocks(blocks, _)) => blocks.nbytes(),
            Some(Stage::Matrix(work)) => work.nbytes(),
        }
    }
}

impl Stored for InPlace {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let Some(Stage::Matrix(work)) = &self.stage else { return Err(CoreError::Incomplete) };
        let mut content = work.content()?;
        content.size("", "outputs", self.num_outputs);
        content.size("", "features", self.dim);
        content.array("", "prior_precision", &self.prior_precision);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let (num_outputs, dim) = (source.size("", "outputs")?, source.size("", "features")?);
        if num_outputs < 2 || dim == 0 {
            return Err(misfit("the factor", num_outputs.min(dim), "outputs or features"));
        }
        let len = num_outputs.saturating_mul(dim);
        let prior = source.array(PRIOR, "", "prior_precision", len)?;
        let basis = Basis::of(&prior, num_outputs, dim)?;
        let n = source.size("", "edge")?;
        if n != basis.outputs(num_outputs).saturating_mul(dim) {
            return Err(misfit("the factor", n, "columns"));
        }
        Ok(Self {
            num_outputs,
            dim,
            basis,
            prior_precision: list::copy_of(PRIOR, &prior)?,
            stage: Some(Stage::Matrix(Factorization::restored(source)?)),
        })
    }
}
