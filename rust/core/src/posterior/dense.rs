//! The posterior of a general subset: one packed factor of all `P` parameters.

use crate::assemble::jacobian::JacobianSum;
use crate::cholesky::{Check, Factor, factor};
use crate::error::{CoreError, check_prior_precision};
use crate::posterior::output::{rows_in_order, scatter};
use crate::threads::Driver;
use crate::tiles::TileMatrix;

/// `N(mean, A^-1)` with `A = H + diag(prior_precision)`, factored.
#[derive(Debug)]
pub struct DensePosterior {
    factor: Factor,
}

impl DensePosterior {
    /// Factors `curvature + diag(prior_precision)` in place. Cost: `P^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`] and [`CoreError::Shape`] before the work,
    /// [`CoreError::NotPositiveDefinite`], [`CoreError::FactorCheck`], [`CoreError::Interrupted`].
    pub fn new(
        mut curvature: TileMatrix,
        prior_precision: &[f64],
        check: Check,
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        CoreError::check_len("prior_precision", curvature.n(), prior_precision.len())?;
        check_prior_precision(prior_precision)?;
        curvature.add_to_diagonal(prior_precision);
        Ok(Self { factor: factor(curvature, check, driver)? })
    }

    /// The curvature again, `L L^T - diag(prior_precision)`, with the prior that the factor was made
    /// with; it carries the rounding of the precision, `P eps |A|`. Cost: `P^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn curvature(
        &self,
        prior_precision: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<JacobianSum, CoreError> {
        CoreError::check_len("prior_precision", self.num_params(), prior_precision.len())?;
        let mut tiles = self.factor.try_clone("the curvature")?.into_matrix(driver)?;
        let negative: Vec<f64> = prior_precision.iter().map(|t| -t).collect();
        tiles.add_to_diagonal(&negative);
        JacobianSum::from_tiles(tiles)
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

    /// `A^-1` with entry `(i, j)` at `out[order[i], order[j]]`. Cost: `4 P^3 / 3` flops.
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

    /// `A` in the order of [`DensePosterior::covariance`]. Cost: `2 P^3 / 3` flops.
    ///
    /// # Errors
    /// As [`DensePosterior::covariance`].
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
    /// [`CoreError::Shape`], [`CoreError::Interrupted`].
    pub fn functional_covariance(
        &self,
        jacobian: &mut [f64],
        num_outputs: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, c) = (self.num_params(), num_outputs);
        CoreError::check_len(
            "the functional covariance",
            jacobian.len() / (c * n).max(1) * c * c,
            out.len(),
        )?;
        self.factor.solve_lower(jacobian, driver)?;
        for (point, v) in jacobian.chunks_exact(c * n).zip(out.chunks_exact_mut(c * c)) {
            for a in 0..c {
                for b in 0..=a {
                    let (x, y) = (&point[a * n..(a + 1) * n], &point[b * n..(b + 1) * n]);
                    let value = x.iter().zip(y).map(|(x, y)| x * y).sum();
                    v[a * c + b] = value;
                    v[b * c + a] = value;
                }
            }
        }
        Ok(())
    }

    /// The diagonals of [`DensePosterior::functional_covariance`]: `out` is `B x C`.
    ///
    /// # Errors
    /// As [`DensePosterior::functional_covariance`].
    pub fn functional_variance(
        &self,
        jacobian: &mut [f64],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.num_params();
        CoreError::check_len("the functional variance", jacobian.len() / n, out.len())?;
        self.factor.solve_lower(jacobian, driver)?;
        for (row, v) in jacobian.chunks_exact(n).zip(out) {
            *v = row.iter().map(|x| x * x).sum();
        }
        Ok(())
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
