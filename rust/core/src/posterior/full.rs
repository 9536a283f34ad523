//! The posterior of any parameters: one packed factor of all `P` of them.

use crate::assemble::full::FullSum;
use crate::cholesky::{Factor, Factorization, Standing, factor};
use crate::error::{CoreError, check_prior_precision};
use crate::input::check_matrix;
use crate::kernel::dot::dot;
use crate::posterior::PRIOR;
use crate::posterior::matrix::{mirror_each, rows_in_order, scatter};
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored};
use crate::storage::tiles::TileMatrix;
use crate::threads::Driver;

/// `N(mean, A^-1)` with `A = H + diag(prior_precision)`, factored.
#[derive(Debug)]
pub struct FullPosterior {
    factor: Factor,
}

/// A curvature on its way to its posterior in its own memory.
#[derive(Debug)]
pub struct InPlace {
    prior_precision: Vec<f64>,
    work: Option<Factorization>,
}

impl InPlace {
    /// Makes ready for a sum, which is not touched yet: nothing is lost where memory is refused.
    ///
    /// # Errors
    /// As [`FullPosterior::check`]; [`CoreError::Allocation`].
    pub fn new(sum: &FullSum, prior_precision: &[f64]) -> Result<Self, CoreError> {
        FullPosterior::check(sum, prior_precision)?;
        Ok(Self { prior_precision: list::copy_of(PRIOR, prior_precision)?, work: None })
    }

    /// Gives up the sum, which is finished ([`FullSum::finish`]).
    ///
    /// # Errors
    /// [`CoreError::Incomplete`], [`CoreError::Shape`] of a sum that is not finished.
    pub fn take(&mut self, sum: FullSum) -> Result<(), CoreError> {
        let (tiles, unknown) = sum.into_tiles()?;
        self.work = Some(prepare(tiles, &self.prior_precision, unknown)?);
        Ok(())
    }

    /// Goes on to the end.
    ///
    /// # Errors
    /// As [`Factorization::run`]; [`CoreError::Incomplete`] for another prior than it began with.
    pub fn run(&mut self, prior: &[f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if prior != self.prior_precision && !self.is_lost() {
            return Err(CoreError::Incomplete);
        }
        self.work.as_mut().ok_or(CoreError::Consumed)?.run(driver)
    }

    fn is_lost(&self) -> bool {
        self.work.as_ref().is_none_or(Factorization::is_lost)
    }

    /// The posterior, once [`InPlace::run`] came to its end.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`].
    pub fn into_posterior(self) -> Result<FullPosterior, CoreError> {
        Ok(FullPosterior { factor: self.work.ok_or(CoreError::Incomplete)?.into_factor()? })
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.work.as_ref().map_or(0, Factorization::nbytes)
    }
}

fn prepare(
    mut tiles: TileMatrix,
    prior_precision: &[f64],
    unknown: Vec<f64>,
) -> Result<Factorization, CoreError> {
    tiles.add_to_diagonal(prior_precision);
    Factorization::new(tiles, Standing { unknown, ..Standing::of(prior_precision) })
}

impl FullPosterior {
    /// Factors a copy of the curvature plus `diag(prior_precision)`. Cost: `P^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`] and [`CoreError::Shape`] before the work,
    /// [`CoreError::NotPositiveDefinite`], [`CoreError::LostInRounding`],
    /// [`CoreError::FactorCheck`], [`CoreError::Allocation`], [`CoreError::Interrupted`]; the
    /// curvature stays in each case.
    pub fn new(
        sum: &mut FullSum,
        prior_precision: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        Self::check(sum, prior_precision)?;
        let mut tiles = sum.finish(driver)?.try_clone("the factor")?;
        tiles.add_to_diagonal(prior_precision);
        let unknown = list::copy_of("rounding", sum.rounding())?;
        let standing = Standing { unknown, ..Standing::of(prior_precision) };
        Ok(Self { factor: factor(tiles, standing, driver)? })
    }

    /// Refuses a prior that does not fit a curvature.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`], [`CoreError::Shape`].
    pub fn check(sum: &FullSum, prior_precision: &[f64]) -> Result<(), CoreError> {
        CoreError::check_len("prior_precision", sum.num_params(), prior_precision.len())?;
        check_prior_precision(prior_precision)
    }

    /// The curvature again, `L L^T - diag(prior_precision)`, with the prior that the factor was made
    /// with; it carries the rounding of the precision. Cost: `P^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn curvature(
        &self,
        prior_precision: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<FullSum, CoreError> {
        CoreError::check_len("prior_precision", self.num_params(), prior_precision.len())?;
        let mut tiles = self.factor.try_clone("the curvature")?.into_matrix(driver)?;
        let relative = self.factor.certainty().rounding;
        let rounding = list::collect("rounding", tiles.diagonal().map(|a| relative * a))?;
        let negative = list::collect(PRIOR, prior_precision.iter().map(|t| -t))?;
        tiles.add_to_diagonal(&negative);
        FullSum::from_tiles(tiles, rounding)
    }

    /// Number of parameters `P`.
    pub fn num_params(&self) -> usize {
        self.factor.n()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.factor.nbytes()
    }

    /// The factor.
    pub fn factor(&self) -> &Factor {
        &self.factor
    }

    /// `A^-1` with entry `(i, j)` at `out[order[i], order[j]]`. Cost: `2 P^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn covariance(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let mut rows = rows_in_order(out, order)?;
        self.factor.inverse_rows(&mut rows, driver)?;
        permute(rows, order, driver)
    }

    /// `A` in the order of [`FullPosterior::covariance`]. Cost: `P^3 / 3` flops.
    ///
    /// # Errors
    /// As [`FullPosterior::covariance`].
    pub fn precision(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let mut rows = rows_in_order(out, order)?;
        self.factor.product_rows(&mut rows, driver)?;
        permute(rows, order, driver)
    }

    /// `J A^-1 J^T` for each point: `jacobian` is `B x C x P`, `out` is `B x C x C`; the Jacobian is
    /// overwritten. Cost: `P^2` flops a row.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn functional_covariance(
        &self,
        jacobian: &mut [f64],
        num_outputs: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, c) = (self.num_params(), num_outputs);
        if c == 0 {
            return Err(CoreError::Shape { what: "number of outputs", expected: 1, found: 0 });
        }
        let points = jacobian.len() / (c * n);
        CoreError::check_len("the functional covariance", points * c * c, out.len())?;
        check_matrix("jacobian", jacobian, points * c, n, driver)?;
        self.factor.solve_lower(jacobian, driver)?;
        let solved = &*jacobian;
        let rows = out.chunks_exact_mut(c).enumerate();
        driver.for_each(rows, (c * n) as f64, 0, |(row, v), _| {
            let own = &solved[row * n..(row + 1) * n];
            let point = solved[row / c * c * n..].chunks_exact(n);
            for (v, other) in v.iter_mut().zip(point).take(row % c + 1) {
                *v = dot(own, other);
            }
        })?;
        mirror_each(out, c, driver)
    }

    /// The diagonals of [`FullPosterior::functional_covariance`]: `out` is `B x C`.
    ///
    /// # Errors
    /// As [`FullPosterior::functional_covariance`].
    pub fn functional_variance(
        &self,
        jacobian: &mut [f64],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.num_params();
        let rows = jacobian.len() / n;
        CoreError::check_len("the functional variance", rows, out.len())?;
        check_matrix("jacobian", jacobian, rows, n, driver)?;
        self.factor.solve_lower(jacobian, driver)?;
        let tasks = jacobian.chunks_exact(n).zip(out);
        driver.for_each(tasks, (2 * n) as f64, 0, |(row, v), _| *v = dot(row, row))
    }
}

impl Stored for InPlace {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = self.work.as_ref().ok_or(CoreError::Incomplete)?.content()?;
        content.array("", "prior_precision", &self.prior_precision);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let work = Factorization::restored(source)?;
        let prior = source.array(PRIOR, "", "prior_precision", source.size("", "edge")?)?;
        Ok(Self { prior_precision: list::copy_of(PRIOR, &prior)?, work: Some(work) })
    }
}

impl Stored for FullPosterior {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = Content::default();
        self.factor.add_to("", &mut content);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        Ok(Self { factor: Factor::of_source("", source)? })
    }
}

/// Puts the columns of dense rows into the caller's order.
fn permute(
    rows: Vec<&mut [f64]>,
    order: &[usize],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let n = order.len();
    driver.for_each(rows, 4.0 * n as f64, n, |row, scratch| scatter(row, order, scratch))
}
