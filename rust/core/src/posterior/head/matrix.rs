//! The covariance and the precision of a head as dense `P x P` matrices, rotated in place.

use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::posterior::head::{Basis, HeadPosterior};
use crate::posterior::matrix::{FillRows, rows_in_order, scatter};
use crate::storage::blocks::{Pattern, SymmetricBlocks};
use crate::storage::list;
use crate::threads::Driver;

/// What the lists of rows that turn into each other are called.
const GROUPS: &str = "groups of rows";

impl HeadPosterior {
    /// `A^-1` with entry `(i, j)` at `out[order[i], order[j]]`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn covariance(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.dense(order, out, driver, Factor::inverse_rows, |t| 1.0 / t)
    }

    /// `A`, in the order of [`HeadPosterior::covariance`].
    ///
    /// # Errors
    /// As [`HeadPosterior::covariance`].
    pub fn precision(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.dense(order, out, driver, Factor::product_rows, |t| t)
    }

    /// The covariance of the parameters of output `c` with one another (`D' x D'`) into `out`: with
    /// row `c` of the contrast `q`, `sum_kl q_k q_l Sigma'_kl + diag(1 / T) / C`. Cost: that of the
    /// cached blocks once, and `C^2 D'^2` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn output_covariance(
        &self,
        c: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (dim, classes) = (self.dim, self.num_outputs);
        if c >= classes {
            return Err(CoreError::Shape { what: "output", expected: classes - 1, found: c });
        }
        CoreError::check_len("the covariance of an output", dim * dim, out.len())?;
        let blocks = self.inverse(driver)?;
        let pairs = list::collect("pairs of outputs", Pattern::Full.pairs(blocks.outputs()))?;
        let weight = |k: usize, l: usize| match &self.basis {
            Basis::Identity => f64::from(u8::from(k == c && l == c)),
            Basis::Contrast { q, .. } => {
                let twice = if k == l { 1.0 } else { 2.0 };
                twice * q[c * (classes - 1) + k] * q[c * (classes - 1) + l]
            }
        };
        let flops = (2 * pairs.len() * dim) as f64;
        driver.for_each(out.chunks_exact_mut(dim).enumerate(), flops, dim, |(j, row), column| {
            row.fill(0.0);
            for (k, l) in &pairs {
                let own = weight(*k, *l);
                if own != 0.0 {
                    SymmetricBlocks::copy_column(blocks.block(*k, *l), dim, j, 0, column);
                    row.iter_mut().zip(&*column).for_each(|(sum, value)| *sum += own * value);
                }
            }
            if let Basis::Contrast { prior, .. } = &self.basis {
                row[j] += 1.0 / (classes as f64 * prior[j]);
            }
        })
    }

    fn dense(
        &self,
        order: &[usize],
        out: &mut [f64],
        driver: &mut Driver<'_>,
        fill: FillRows,
        common: fn(f64) -> f64,
    ) -> Result<(), CoreError> {
        let p = self.num_params();
        CoreError::check_len("order", p, order.len())?;
        let mut rows = rows_in_order(out, order)?;
        let n = self.factor.n();
        let (own, rest) = rows.split_at_mut(n);
        fill(&self.factor, own, driver)?;
        for row in own {
            row[n..].fill(0.0);
        }
        for row in rest {
            row.fill(0.0);
        }
        if let Basis::Contrast { q, prior } = &self.basis {
            self.rotate_rows(&mut rows, q, prior, driver, common)?;
        }
        driver.for_each(rows, 4.0 * p as f64, p, |row, scratch| scatter(row, order, scratch))
    }

    /// `(Q (x) I) M (Q (x) I)^T + (1/C) 1 1^T (x) diag(common(T))` in the memory that holds `M`.
    fn rotate_rows(
        &self,
        rows: &mut [&mut [f64]],
        q: &[f64],
        prior: &[f64],
        driver: &mut Driver<'_>,
        common: fn(f64) -> f64,
    ) -> Result<(), CoreError> {
        let (p, dim, classes) = (self.num_params(), self.dim, self.num_outputs);
        let k = classes - 1;
        // Rows c D' + i for all c belong together: they turn into each other.
        let mut groups: Vec<Vec<&mut [f64]>> = Vec::new();
        list::reserve(GROUPS, &mut groups, dim)?;
        for (index, row) in rows.iter_mut().enumerate() {
            if index < dim {
                groups.push(Vec::new());
                list::reserve(GROUPS, &mut groups[index], classes)?;
            }
            groups[index % dim].push(row);
        }
        let tasks = groups.into_iter().enumerate();
        let flops = (2 * classes * k * (k * dim + p)) as f64;
        driver.for_each(tasks, flops, k * dim + k, |(i, mut rows), scratch| {
            let (line, column) = scratch.split_at_mut(k * dim);
            for row in rows.iter_mut().take(k) {
                line.copy_from_slice(&row[..k * dim]);
                for (b, values) in row.chunks_exact_mut(dim).enumerate() {
                    values.fill(0.0);
                    for (d, source) in line.chunks_exact(dim).enumerate() {
                        let weight = q[b * k + d];
                        for (value, source) in values.iter_mut().zip(source) {
                            *value += weight * source;
                        }
                    }
                }
            }
            for s in 0..p {
                for (c, value) in column.iter_mut().enumerate() {
                    *value = rows[c][s];
                }
                for (a, row) in rows.iter_mut().enumerate() {
                    row[s] = column.iter().enumerate().map(|(c, value)| q[a * k + c] * value).sum();
                }
            }
            let shared = common(prior[i]) / classes as f64;
            for row in &mut rows {
                for b in 0..classes {
                    row[b * dim + i] += shared;
                }
            }
        })
    }
}
