//! The posterior of more parameters than rows of curvature, in the space of the rows.
//!
//! `A = T + R^T R` with `M` rows and `B = I + R T^-1 R^T = L L^T`, of edge `M`:
//! `A^-1 = T^-1 - T^-1 R^T B^-1 R T^-1` (Woodbury) and `|A| = |T| |B|`. A draw is one of the prior,
//! corrected by what a draw of the data under it misses (Matheron's rule).

mod metric;

use std::sync::Arc;

use crate::assemble::rows::{Held, RowSum};
use crate::cholesky::{CLEAR, Factor, Standing, factor};
use crate::error::{CoreError, check_prior_precision};
use crate::input::check_matrix;
use crate::kernel::dot::dot;
use crate::kernel::rows::{add_combinations, products, transpose};
use crate::normal::fill_standard_normal;
use crate::posterior::PRIOR;
use crate::posterior::dual::metric::{Partition, gram, of_prior};
use crate::posterior::eigen::eigen;
use crate::posterior::matrix::{mirror_each, rows_in_order, scatter};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored};
use crate::threads::Driver;

/// Values of columns of the rows that are held at once, turned.
const TURNED: usize = 1 << 22;

/// `N(mean, A^-1)` with `A = R^T R + diag(prior_precision)`.
#[derive(Debug)]
pub struct DualPosterior {
    held: Arc<Held>,
    variances: Vec<f64>,
    factor: Factor,
}

impl DualPosterior {
    /// Factors `B`. Cost: `M^2 P + M^3 / 3` flops; the first is paid once for all priors that are
    /// alike for the same parameters.
    ///
    /// # Errors
    /// [`CoreError::PriorPrecision`] and [`CoreError::Shape`] before the work,
    /// [`CoreError::LostInRounding`] where rounding would decide a variance,
    /// [`CoreError::FactorCheck`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn new(
        sum: &RowSum,
        prior_precision: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        CoreError::check_len("prior_precision", sum.num_params(), prior_precision.len())?;
        check_prior_precision(prior_precision)?;
        let held = Arc::clone(sum.held());
        let count = held.rows().count();
        if count == 0 {
            return Err(CoreError::Shape { what: "number of rows", expected: 1, found: 0 });
        }
        let variances = list::collect(PRIOR, prior_precision.iter().map(|t| 1.0 / t))?;
        let mut matrix = gram(&held, prior_precision, &variances, driver)?;
        matrix.add_to_diagonal(&list::collect("ones", (0..count).map(|_| 1.0))?);
        let largest = matrix.diagonal().fold(0.0, f64::max);
        let standing = Standing::of(prior_precision);
        let smallest = standing.prior;
        let factor = factor(matrix, standing, driver).map_err(|error| of_prior(error, smallest))?;
        let rounding = factor.certainty().rounding;
        // No variance is a smaller part of what it is under the prior than about one over the largest
        // element; rounding is a part of the latter.
        if CLEAR * rounding * largest > 1.0 {
            return Err(CoreError::LostInRounding {
                size: count,
                prior: smallest,
                eigenvalue: 1.0 / largest,
                rounding,
                directions: count,
                least: 2.0 * CLEAR * rounding * largest * smallest,
            });
        }
        Ok(Self { held, variances, factor })
    }

    /// What `progress` counts up to, nearly, where no Gram matrix is kept.
    pub fn reported_flops(num_params: usize, num_rows: usize) -> f64 {
        (num_rows as f64).powi(2) * num_params as f64 + Factor::reported_flops(num_rows)
    }

    /// The curvature, with the same rows.
    pub fn curvature(&self) -> RowSum {
        RowSum::of(&self.held)
    }

    /// Number of parameters `P`.
    pub fn num_params(&self) -> usize {
        self.variances.len()
    }

    /// Number of rows `M`.
    pub fn num_rows(&self) -> usize {
        self.factor.n()
    }

    /// The variance of each parameter under the prior.
    pub fn prior_variance(&self) -> &[f64] {
        &self.variances
    }

    /// Bytes held, the rows included.
    pub fn nbytes(&self) -> usize {
        self.held.nbytes() + self.factor.nbytes() + size_of_val(&*self.variances)
    }

    /// `log |A|`.
    pub fn log_det(&self) -> f64 {
        self.factor.log_det() - self.variances.iter().map(|v| v.ln()).sum::<f64>()
    }

    /// `v^T A v`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn quadratic(&self, v: &[f64], driver: &mut Driver<'_>) -> Result<f64, CoreError> {
        CoreError::check_len("the vector", self.num_params(), v.len())?;
        let mut seen = Buffer::zeros("a product", self.num_rows())?;
        products(&[v], &self.held.rows().slices()?, None, &mut seen, driver)?;
        let prior: f64 = v.iter().zip(&self.variances).map(|(x, variance)| x * x / variance).sum();
        Ok(prior + dot(&seen, &seen))
    }

    /// The diagonal of `A^-1`, into `out`. Cost: `M^2 P` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn variance(&self, out: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        CoreError::check_len("the variance", self.num_params(), out.len())?;
        let (m, rows) = (self.num_rows(), self.held.rows().slices()?);
        let step = (TURNED / m).clamp(1, out.len());
        let mut turned = Buffer::zeros("columns of the rows", step * m)?;
        for (start, out) in (0..).step_by(step).zip(out.chunks_mut(step)) {
            let turned = &mut turned[..out.len() * m];
            transpose(&rows, start..start + out.len(), turned, driver)?;
            self.factor.solve_lower(turned, driver)?;
            let tasks = turned.chunks_exact(m).zip(out).zip(&self.variances[start..]);
            driver.for_each(tasks, (2 * m) as f64, 0, |((column, out), variance), _| {
                *out = variance - variance * variance * dot(column, column);
            })?;
        }
        Ok(())
    }

    /// `sum_{i in g} T_i Sigma_ii = P_g - tr(B^-1 K_g)` for each group of a partition, into `out`;
    /// `false` where the prior differs within a group, or there are too many of them. Cost: `M^3`
    /// flops, and `M^2 P` the first time.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn prior_traces(
        &self,
        groups: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<bool, CoreError> {
        CoreError::check_len("groups", self.num_params(), groups.len())?;
        if out.len() > self.held.most_groups() {
            return Ok(false);
        }
        let Some(partition) = Partition::new(groups, &self.variances, out.len())? else {
            return Ok(false);
        };
        let m = self.num_rows();
        let grams = self.held.grams(&partition.labels, driver)?;
        let mut inverse = Buffer::zeros("an inverse", m * m)?;
        let mut rows = list::collect("rows", inverse.chunks_exact_mut(m))?;
        self.factor.inverse_rows(&mut rows, driver)?;
        out.fill(0.0);
        for ((matrix, group), (variance, size)) in
            grams.matrices().iter().zip(&partition.groups).zip(&partition.values)
        {
            let mut sums = Buffer::zeros("traces", m)?;
            let tasks = sums.iter_mut().enumerate();
            driver.for_each(tasks, (2 * m) as f64, 0, |(i, sum), _| {
                let row = &inverse[i * m..(i + 1) * m];
                *sum = row.iter().enumerate().map(|(j, v)| v * matrix.get(i, j)).sum();
            })?;
            out[*group] = *size as f64 - variance * sums.iter().sum::<f64>();
        }
        Ok(true)
    }

    /// `A^-1` with entry `(i, j)` at `out[order[i], order[j]]`. Cost: `2 P^2 M` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn covariance(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let mut turned = self.turned(driver)?;
        self.factor.solve_lower(&mut turned, driver)?;
        let scale = |i: usize| self.variances[i];
        dense(&turned, self.num_rows(), order, out, driver, |i, j, product| {
            let prior = if i == j { scale(i) } else { 0.0 };
            prior - scale(i) * scale(j) * product
        })
    }

    /// `A` in the order of [`DualPosterior::covariance`]. Cost: `2 P^2 M` flops.
    ///
    /// # Errors
    /// As [`DualPosterior::covariance`].
    pub fn precision(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let turned = self.turned(driver)?;
        dense(&turned, self.num_rows(), order, out, driver, |i, j, product| {
            if i == j { 1.0 / self.variances[i] + product } else { product }
        })
    }

    /// Fills `out` with draws of length `P`: `e - T^-1 R^T B^-1 (R e + z)` with `e` of the prior and
    /// `z` standard normal. Draw `s` uses streams `2 s` and `2 s + 1` of `seed`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn sample(
        &self,
        seed: u64,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, m, rows) = (self.num_params(), self.num_rows(), self.held.rows().slices()?);
        CoreError::check_len("draws", out.len() / n * n, out.len())?;
        let draws = out.chunks_exact_mut(n).enumerate();
        driver.for_each(draws, 20.0 * n as f64, 0, |(unit, draw), _| {
            fill_standard_normal(seed, 2 * unit as u64, draw);
            for (value, variance) in draw.iter_mut().zip(&self.variances) {
                *value *= variance.sqrt();
            }
        })?;
        let count = out.len() / n;
        let mut missed = Buffer::zeros("what draws miss", count * m)?;
        let prior = list::collect("draws", out.chunks_exact(n))?;
        products(&prior, &rows, None, &mut missed, driver)?;
        let draws = missed.chunks_exact_mut(m).enumerate();
        driver.for_each(draws, 20.0 * m as f64, m, |(unit, missed), noise| {
            fill_standard_normal(seed, 2 * unit as u64 + 1, noise);
            missed.iter_mut().zip(noise).for_each(|(value, z)| *value += *z);
        })?;
        self.factor.solve_lower(&mut missed, driver)?;
        self.factor.solve_transposed(&mut missed, driver)?;
        let missed = list::collect("draws", missed.chunks_exact(m))?;
        add_combinations(&missed, &rows, |i| -self.variances[i], out, driver)
    }

    /// `J A^-1 J^T` for each point: `jacobian` is `B x C x P`, `out` is `B x C x C`. Cost: `2 M P +
    /// M^2` flops a row.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn functional_covariance(
        &self,
        jacobian: &[f64],
        num_outputs: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, m, c) = (self.num_params(), self.num_rows(), num_outputs);
        if c == 0 {
            return Err(CoreError::Shape { what: "number of outputs", expected: 1, found: 0 });
        }
        let points = jacobian.len() / (c * n);
        CoreError::check_len("the functional covariance", points * c * c, out.len())?;
        let seen = self.seen(jacobian, points * c, driver)?;
        let rows = out.chunks_exact_mut(c).enumerate();
        driver.for_each(rows, ((c + 1) * (n + m)) as f64, n, |(row, v), scaled| {
            let own = jacobian[row * n..(row + 1) * n].iter().zip(&self.variances);
            scaled.iter_mut().zip(own).for_each(|(scaled, (x, variance))| *scaled = x * variance);
            let first = row / c * c;
            for (k, v) in v.iter_mut().enumerate().take(row % c + 1) {
                let other = &jacobian[(first + k) * n..(first + k + 1) * n];
                let known = &seen[(first + k) * m..(first + k + 1) * m];
                *v = dot(scaled, other) - dot(&seen[row * m..(row + 1) * m], known);
            }
        })?;
        mirror_each(out, c, driver)
    }

    /// The diagonals of [`DualPosterior::functional_covariance`]: `out` is `B x C`.
    ///
    /// # Errors
    /// As [`DualPosterior::functional_covariance`].
    pub fn functional_variance(
        &self,
        jacobian: &[f64],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, m) = (self.num_params(), self.num_rows());
        let seen = self.seen(jacobian, out.len(), driver)?;
        let tasks = jacobian.chunks_exact(n).zip(seen.chunks_exact(m)).zip(out);
        driver.for_each(tasks, (2 * (n + m)) as f64, n, |((row, known), v), scaled| {
            let own = row.iter().zip(&self.variances);
            scaled.iter_mut().zip(own).for_each(|(scaled, (x, variance))| *scaled = x * variance);
            *v = dot(scaled, row) - dot(known, known);
        })
    }

    /// `G` (`M x P`, row by row) with `A^-1 = S S^T`, `S = T^-1/2 (I - G^T G)`. Cost: `2 M^2 P` flops
    /// and an eigendecomposition of edge `M`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Eigen`],
    /// [`CoreError::Interrupted`].
    pub fn root(&self, out: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let m = self.num_rows();
        CoreError::check_len("the root", m * self.num_params(), out.len())?;
        let mut matrix = Buffer::zeros("a matrix of the rows", m * m)?;
        let mut lines = list::collect("rows", matrix.chunks_exact_mut(m))?;
        self.factor.product_rows(&mut lines, driver)?;
        let mut found = eigen(matrix, m, driver)?;
        // I - X^T B^-1 X for X = R T^-1/2 is (I - X^T Z X)^2 with Z = U diag(z) U^T: in 1 + k, an
        // eigenvalue of B, z = (1 - (1 + k)^-1/2) / k = 1 / (1 + k + (1 + k)^1/2).
        for (vector, value) in found.vectors.chunks_exact_mut(m).zip(&*found.values) {
            let value = value.max(1.0);
            let weight = (value + value.sqrt()).sqrt().recip();
            for x in vector {
                *x *= weight;
            }
        }
        out.fill(0.0);
        let vectors = list::collect("vectors", found.vectors.chunks_exact(m))?;
        let rows = self.held.rows().slices()?;
        add_combinations(&vectors, &rows, |i| self.variances[i].sqrt(), out, driver)
    }

    /// `L^-1 R T^-1 J^T`, of each row of `J` one after the other.
    fn seen(
        &self,
        jacobian: &[f64],
        count: usize,
        driver: &mut Driver<'_>,
    ) -> Result<Buffer, CoreError> {
        let n = self.num_params();
        check_matrix("jacobian", jacobian, count, n, driver)?;
        let asked = list::collect("rows of the jacobian", jacobian.chunks_exact(n))?;
        let mut seen = Buffer::zeros("products with the rows", count * self.num_rows())?;
        let rows = self.held.rows().slices()?;
        products(&asked, &rows, Some(&self.variances), &mut seen, driver)?;
        self.factor.solve_lower(&mut seen, driver)?;
        Ok(seen)
    }

    /// Every column of the rows.
    fn turned(&self, driver: &mut Driver<'_>) -> Result<Buffer, CoreError> {
        let rows = self.held.rows().slices()?;
        let mut turned = Buffer::zeros("columns of the rows", rows.len() * self.num_params())?;
        transpose(&rows, 0..self.num_params(), &mut turned, driver)?;
        Ok(turned)
    }
}

/// A dense matrix whose entries follow from products of vectors of length `m`, one a parameter.
fn dense(
    vectors: &[f64],
    m: usize,
    order: &[usize],
    out: &mut [f64],
    driver: &mut Driver<'_>,
    entry: impl Fn(usize, usize, f64) -> f64 + Sync,
) -> Result<(), CoreError> {
    const SLAB: usize = 256;
    let n = order.len();
    let rows = rows_in_order(out, order)?;
    let vectors = list::collect("vectors", vectors.chunks_exact(m))?;
    let mut rows = rows.into_iter().enumerate();
    let mut slab = Buffer::zeros("rows of a dense matrix", SLAB.min(n) * n)?;
    for own in vectors.chunks(SLAB) {
        let slab = &mut slab[..own.len() * n];
        products(own, &vectors, None, slab, driver)?;
        let tasks = rows.by_ref().take(own.len()).zip(slab.chunks_exact(n));
        driver.for_each(tasks, 4.0 * n as f64, n, |((i, row), products), scratch| {
            for ((j, value), product) in row.iter_mut().enumerate().zip(products) {
                *value = entry(i, j, *product);
            }
            scatter(row, order, scratch);
        })?;
    }
    Ok(())
}

impl Stored for DualPosterior {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = Content::default();
        self.held.rows().add_to(&mut content);
        content.array("", "variances", &self.variances);
        self.factor.add_to("", &mut content);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let sum = RowSum::restored(source)?;
        let variances = source.array(PRIOR, "", "variances", sum.num_params())?;
        let factor = Factor::of_source("", source)?;
        CoreError::check_len("rows of the factor", sum.held().rows().count(), factor.n())?;
        let variances = list::copy_of(PRIOR, &variances)?;
        Ok(Self { held: Arc::clone(sum.held()), variances, factor })
    }
}

#[cfg(test)]
mod tests;
