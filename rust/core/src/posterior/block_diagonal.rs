//! The posterior of a last layer whose outputs do not interact: one factor an output.
//!
//! Parameters are ordered by output, then feature: `k = c D' + i`.

use std::sync::Arc;

use crate::assemble::head::{HeadSum, Outputs};
use crate::cholesky::{Factor, Factorization, Standing};
use crate::error::{CoreError, check_prior_precision};
use crate::input::{Real, check_matrix, widen};
use crate::posterior::PRIOR;
use crate::posterior::head::expand::to_tiles;
use crate::posterior::head::{Cache, Columns, by_blocks, by_solves, take_inverse};
use crate::posterior::matrix::{FillRows, rows_in_order, scatter};
use crate::storage::blocks::{Pattern, SymmetricBlocks};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::threads::Driver;

/// Streams of one factor start this far from those of the next.
const STREAMS: u64 = 1 << 40;

/// `N(mean, A^-1)` with `A` block-diagonal over `C` outputs.
#[derive(Debug)]
pub struct BlockDiagonalPosterior {
    dim: usize,
    factors: Vec<Factor>,
    inverse: Cache,
}

/// A curvature on its way to its posterior, its blocks given back as the factors take them up.
#[derive(Debug)]
pub struct InPlace {
    prior_precision: Vec<f64>,
    sum: Option<HeadSum>,
    blocks: Option<SymmetricBlocks>,
    factors: Vec<Factor>,
    current: Option<Factorization>,
}

impl InPlace {
    /// Makes ready for a sum, which is not touched yet: nothing is lost where memory is refused.
    ///
    /// # Errors
    /// As [`BlockDiagonalPosterior::check`]; [`CoreError::Allocation`].
    pub fn new(sum: &HeadSum, prior_precision: &[f64]) -> Result<Self, CoreError> {
        BlockDiagonalPosterior::check(sum, prior_precision)?;
        Ok(Self {
            prior_precision: list::copy_of(PRIOR, prior_precision)?,
            factors: room_for(sum.num_outputs())?,
            sum: None,
            blocks: None,
            current: None,
        })
    }

    /// Gives up the sum.
    pub fn take(&mut self, sum: HeadSum) {
        self.sum = Some(sum);
    }

    /// Goes on to the end.
    ///
    /// # Errors
    /// As [`Factorization::run`]; [`CoreError::Incomplete`] for another prior than it began with.
    pub fn run(&mut self, prior: &[f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if prior != self.prior_precision && !self.is_lost() {
            return Err(CoreError::Incomplete);
        }
        if let Some(sum) = &mut self.sum {
            sum.finish(driver)?;
            self.blocks = self.sum.take().map(HeadSum::into_blocks).transpose()?;
        }
        let blocks = self.blocks.as_mut().ok_or(CoreError::Consumed)?;
        let dim = blocks.dim();
        for c in self.factors.len()..blocks.outputs() {
            if self.current.is_none() {
                let prior = &prior[c * dim..(c + 1) * dim];
                self.current = Some(prepare(blocks, c, prior, driver)?);
                // Its own block stays until its factor is there: a file begins it anew.
                blocks.release_below(c);
            }
            if let Some(work) = &mut self.current {
                work.run(driver)?;
            }
            self.factors.extend(self.current.take().map(Factorization::into_factor).transpose()?);
        }
        Ok(())
    }

    fn is_lost(&self) -> bool {
        self.current.as_ref().is_some_and(Factorization::is_lost)
    }

    /// The posterior, once [`InPlace::run`] came to its end.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`].
    pub fn into_posterior(self) -> Result<BlockDiagonalPosterior, CoreError> {
        let Some(blocks) = self.blocks else { return Err(CoreError::Incomplete) };
        if self.factors.len() < blocks.outputs() {
            return Err(CoreError::Incomplete);
        }
        let (dim, factors) = (blocks.dim(), self.factors);
        Ok(BlockDiagonalPosterior { dim, factors, inverse: Cache::default() })
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.sum.as_ref().map_or(0, HeadSum::nbytes)
            + self.blocks.as_ref().map_or(0, SymmetricBlocks::nbytes)
            + self.factors.iter().map(Factor::nbytes).sum::<usize>()
            + self.current.as_ref().map_or(0, Factorization::nbytes)
    }
}

/// The matrix of one output with its prior, ready to be factored.
fn room_for(count: usize) -> Result<Vec<Factor>, CoreError> {
    let mut factors = Vec::new();
    list::reserve("a list of factors", &mut factors, count)?;
    Ok(factors)
}

fn prepare(
    blocks: &SymmetricBlocks,
    output: usize,
    prior: &[f64],
    driver: &mut Driver<'_>,
) -> Result<Factorization, CoreError> {
    let mut tiles = to_tiles(1, blocks.dim(), |_, _| blocks.block(output, output), driver)?;
    tiles.add_to_diagonal(prior);
    Factorization::new(tiles, Standing::of(prior))
}

impl BlockDiagonalPosterior {
    /// Factors the curvature plus `diag(prior_precision)` (`C D'` values, output by output). Cost:
    /// `C D'^3 / 3` flops.
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
        let dim = sum.num_features();
        let blocks = sum.finish(driver)?;
        let mut factors = room_for(blocks.outputs())?;
        for (c, prior) in prior_precision.chunks_exact(dim).enumerate() {
            let mut work = prepare(blocks, c, prior, driver)?;
            work.run(driver)?;
            factors.push(work.into_factor()?);
        }
        Ok(Self { dim, factors, inverse: Cache::default() })
    }

    /// Refuses a curvature whose outputs interact, and a prior that does not fit it.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`], [`CoreError::Shape`].
    pub fn check(sum: &HeadSum, prior_precision: &[f64]) -> Result<(), CoreError> {
        let num_params = sum.num_outputs() * sum.num_features();
        CoreError::check_len("prior_precision", num_params, prior_precision.len())?;
        check_prior_precision(prior_precision)?;
        if sum.outputs() == Outputs::Independent {
            Ok(())
        } else {
            Err(CoreError::Shape { what: "outputs that do not interact", expected: 1, found: 0 })
        }
    }

    /// Bytes of the factors.
    pub fn bytes_of(num_outputs: usize, dim: usize) -> usize {
        num_outputs.saturating_mul(Factor::bytes_of(dim))
    }

    /// Bytes that the cached blocks take once they are made.
    pub fn cache_bytes_of(num_outputs: usize, dim: usize) -> usize {
        SymmetricBlocks::bytes_of(num_outputs, dim, Pattern::Diagonal)
    }

    /// Bytes held: the factors and the cached blocks.
    pub fn nbytes(&self) -> usize {
        self.factors.iter().map(Factor::nbytes).sum::<usize>() + self.inverse.nbytes()
    }

    /// Gives back the memory of the cached blocks; they are made again when needed.
    pub fn drop_cache(&self) {
        self.inverse.drop_blocks();
    }

    /// Number of parameters `C D'`.
    pub fn num_params(&self) -> usize {
        self.num_outputs() * self.dim
    }

    /// Number of outputs `C`.
    pub fn num_outputs(&self) -> usize {
        self.factors.len()
    }

    /// Length of a layer input `D'`.
    pub fn num_features(&self) -> usize {
        self.dim
    }

    /// `log |A|`.
    pub fn log_det(&self) -> f64 {
        self.factors.iter().map(Factor::log_det).sum()
    }

    /// The marginal variances, `C D'` values, output by output, into `out`. Cost: `C D'^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance(&self, out: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        CoreError::check_len("the variance", self.num_params(), out.len())?;
        for (factor, out) in self.factors.iter().zip(out.chunks_exact_mut(self.dim)) {
            out.copy_from_slice(&factor.inverse_diagonal(driver)?);
        }
        Ok(())
    }

    /// The marginal variances of each feature summed over the outputs, `D'` values.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance_by_feature(&self, driver: &mut Driver<'_>) -> Result<Buffer, CoreError> {
        let mut sums = Buffer::zeros("variances", self.dim)?;
        for factor in &self.factors {
            let values = factor.inverse_diagonal(driver)?;
            sums.iter_mut().zip(values.iter()).for_each(|(sum, value)| *sum += value);
        }
        Ok(sums)
    }

    /// `v^T A v`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn quadratic(&self, v: &[f64], driver: &mut Driver<'_>) -> Result<f64, CoreError> {
        CoreError::check_len("the vector", self.num_params(), v.len())?;
        let parts = self.factors.iter().zip(v.chunks_exact(self.dim));
        parts.map(|(factor, own)| factor.quadratic(own, driver)).sum()
    }

    /// Fills `out` with zero-mean draws of length `C D'`, one after the other.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn sample(
        &self,
        seed: u64,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (p, dim) = (self.num_params(), self.dim);
        CoreError::check_len("draws", out.len() / p * p, out.len())?;
        let mut z = Buffer::zeros("draws", out.len() / p * dim)?;
        for (index, factor) in self.factors.iter().enumerate() {
            factor.sample(seed, index as u64 * STREAMS, &mut z, driver)?;
            for (draw, z) in out.chunks_exact_mut(p).zip(z.chunks_exact(dim)) {
                draw[index * dim..(index + 1) * dim].copy_from_slice(z);
            }
        }
        Ok(())
    }

    /// The variance of every output at each point: `features` is `B x D'`, `out` is `B x C`; outputs
    /// do not covary. By solves or by blocks as the number of points of the whole question says; see
    /// [`crate::posterior::head::HeadPosterior::functional_covariance`].
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Allocation`],
    /// [`CoreError::Interrupted`].
    pub fn functional_variance<T: Real>(
        &self,
        features: &[T],
        question: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (dim, outputs, points) = (self.dim, self.num_outputs(), features.len() / self.dim);
        check_matrix("features", features, points, dim, driver)?;
        CoreError::check_len("the functional variance", points * outputs, out.len())?;
        let mut wide = Buffer::zeros("features", features.len())?;
        widen(features, &mut wide);
        let mut planes = Buffer::zeros("variances", points * outputs)?;
        if self.goes_by_solves(question.max(points)) {
            for (factor, plane) in self.factors.iter().zip(planes.chunks_mut(points.max(1))) {
                let columns = Columns { factor, dim, outputs: 1 };
                by_solves(&columns, &wide, plane, driver)?;
            }
        } else {
            let blocks = self.inverse(driver)?;
            by_blocks(&blocks, &wide, &mut planes, driver)?;
        }
        for (point, out) in out.chunks_exact_mut(outputs).enumerate() {
            for (c, value) in out.iter_mut().enumerate() {
                *value = planes[c * points + point];
            }
        }
        Ok(())
    }

    /// Where a solve costs less than half of what a block of the inverse does, or blocks would lose
    /// too much.
    fn goes_by_solves(&self, points: usize) -> bool {
        let near = self.factors.iter().any(|factor| factor.certainty().is_near());
        near || 3 * points < self.dim
    }

    fn inverse(&self, driver: &mut Driver<'_>) -> Result<Arc<SymmetricBlocks>, CoreError> {
        self.inverse.get(driver, |driver| {
            let (what, outputs) = ("the covariance of a layer", self.num_outputs());
            let mut blocks = SymmetricBlocks::zeros(what, outputs, self.dim, Pattern::Diagonal)?;
            for (factor, (_, block)) in self.factors.iter().zip(blocks.blocks_mut()) {
                take_inverse(factor, self.dim, &mut [((0, 0), block)], driver)?;
            }
            Ok(blocks)
        })
    }

    /// `A^-1` with entry `(i, j)` at `out[order[i], order[j]]`. Cost: `2 C D'^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn covariance(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.matrix(order, out, driver, Factor::inverse_rows)
    }

    /// `A`, in the order of [`BlockDiagonalPosterior::covariance`].
    ///
    /// # Errors
    /// As [`BlockDiagonalPosterior::covariance`].
    pub fn precision(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.matrix(order, out, driver, Factor::product_rows)
    }

    /// The covariance of the parameters of output `c` with one another (`D' x D'`) into `out`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn output_covariance(
        &self,
        c: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let last = self.num_outputs() - 1;
        let Some(factor) = self.factors.get(c) else {
            return Err(CoreError::Shape { what: "output", expected: last, found: c });
        };
        CoreError::check_len("the covariance of an output", self.dim * self.dim, out.len())?;
        let mut rows = list::collect("rows of a covariance", out.chunks_exact_mut(self.dim))?;
        factor.inverse_rows(&mut rows, driver)
    }

    fn matrix(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
        fill: FillRows,
    ) -> Result<(), CoreError> {
        let (p, dim) = (self.num_params(), self.dim);
        CoreError::check_len("order", p, order.len())?;
        let mut rows = rows_in_order(out, order)?;
        for (c, (factor, own)) in self.factors.iter().zip(rows.chunks_mut(dim)).enumerate() {
            fill(factor, own, driver)?;
            for row in own {
                row.copy_within(..dim, c * dim);
                row[..c * dim].fill(0.0);
                row[(c + 1) * dim..].fill(0.0);
            }
        }
        driver.for_each(rows, 4.0 * p as f64, p, |row, scratch| scatter(row, order, scratch))
    }
}

impl Stored for InPlace {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        // A factor that has begun is begun again.
        let Some(blocks) = &self.blocks else { return Err(CoreError::Incomplete) };
        let mut content = Content::default();
        content.size("", "outputs", blocks.outputs());
        content.size("", "features", blocks.dim());
        content.size("", "factors", self.factors.len());
        content.array("", "prior_precision", &self.prior_precision);
        content.array("", "blocks", blocks.values());
        for (c, factor) in self.factors.iter().enumerate() {
            factor.add_to(&format!("{c}."), &mut content);
        }
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let (outputs, dim) = (source.size("", "outputs")?, source.size("", "features")?);
        let (done, what) = (source.size("", "factors")?, "the curvature of a layer");
        if outputs == 0 || dim == 0 || done > outputs {
            return Err(misfit("the factor", done, "outputs"));
        }
        let prior = source.array(PRIOR, "", "prior_precision", outputs.saturating_mul(dim))?;
        let mut factors = room_for(outputs)?;
        for c in 0..done {
            factors.push(Factor::of_source(&format!("{c}."), source)?);
        }
        let pattern = Pattern::Diagonal;
        Ok(Self {
            prior_precision: list::copy_of(PRIOR, &prior)?,
            sum: None,
            blocks: Some(SymmetricBlocks::of_source(what, outputs, dim, pattern, source)?),
            factors,
            current: None,
        })
    }
}

impl Stored for BlockDiagonalPosterior {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = Content::default();
        content.size("", "outputs", self.num_outputs());
        content.size("", "features", self.dim);
        for (c, factor) in self.factors.iter().enumerate() {
            factor.add_to(&format!("{c}."), &mut content);
        }
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let (outputs, dim) = (source.size("", "outputs")?, source.size("", "features")?);
        if outputs == 0 || dim == 0 {
            return Err(misfit("the factor", 0, "outputs or features"));
        }
        let mut factors = room_for(outputs)?;
        for c in 0..outputs {
            let factor = Factor::of_source(&format!("{c}."), source)?;
            if factor.n() != dim {
                return Err(misfit("a factor", factor.n(), "columns"));
            }
            factors.push(factor);
        }
        Ok(Self { dim, factors, inverse: Cache::default() })
    }
}
