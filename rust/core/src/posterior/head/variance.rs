//! Marginal variances: from `L^-1` alone, in `n^3 / 3` flops and no memory of size `n^2`.

use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::kernel::{LANE, Lane};
use crate::posterior::head::{Basis, HeadPosterior};
use crate::storage::buffer::Buffer;
use crate::threads::Driver;

/// Lanes of right-hand sides that a task solves together, nearly.
const GROUPS: usize = 27;

/// Unit vectors or features, eight to a lane, for each output of a basis in turn.
pub struct Columns<'a> {
    /// The factor over all outputs.
    pub factor: &'a Factor,
    /// Length of a feature vector.
    pub dim: usize,
    /// Outputs of the basis.
    pub outputs: usize,
}

impl Columns<'_> {
    /// Lanes for each output that a task takes, so that all outputs fit together.
    pub fn lanes(&self) -> usize {
        (GROUPS / self.outputs).max(1)
    }

    /// Values that [`Columns::solve`] works in.
    pub fn scratch(&self, lanes: usize) -> usize {
        let (x, rest) = self.factor.solve_scratch(lanes * self.outputs);
        x + rest
    }

    /// `L^-1 (e_c (x) a)` for every output `c` and every `a` of some lanes; `fill` writes those of
    /// one lane from the given row on, `place` being where that is. Gives lanes by tile row, then by
    /// output, then by lane: what is above the tile row of `(c, first)` is zero.
    pub fn solve<'x>(
        &self,
        lanes: usize,
        first: usize,
        scratch: &'x mut [f64],
        mut fill: impl FnMut(usize, usize, &mut Lane),
    ) -> &'x [Lane] {
        let (nb, groups) = (self.factor.nb(), lanes * self.outputs);
        let (size, _) = self.factor.solve_scratch(groups);
        let (x, rest) = scratch.split_at_mut(size);
        let start = first / nb;
        let x = &mut x.as_chunks_mut::<LANE>().0[..size / LANE - start * groups * nb];
        x.fill([0.0; LANE]);
        for output in 0..self.outputs {
            for lane in 0..lanes {
                for feature in first..self.dim {
                    let row = output * self.dim + feature;
                    let group = output * lanes + lane;
                    fill(
                        lane,
                        feature,
                        &mut x[((row / nb - start) * groups + group) * nb + row % nb],
                    );
                }
            }
        }
        let begins = |tile: usize| (tile + 1) * nb;
        let active = |tile: usize| {
            let outputs = (0..self.outputs).filter(|c| c * self.dim + first < begins(tile));
            outputs.count() * lanes
        };
        self.factor.forward(x, groups, start, active, rest);
        x
    }
}

impl HeadPosterior {
    /// The marginal variances of each feature summed over the outputs, `D'` values: all that the
    /// evidence's gradient needs under a prior that is the same for all outputs. The sum does not
    /// see the contrast's rotation, so the diagonal of `Sigma'` is enough: `n^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance_by_feature(&self, driver: &mut Driver<'_>) -> Result<Buffer, CoreError> {
        let mut sums = Buffer::zeros("variances", self.dim)?;
        if let Basis::Contrast { prior, .. } = &self.basis {
            sums.iter_mut().zip(prior).for_each(|(sum, t)| *sum = 1.0 / t);
        }
        for values in self.factor.inverse_diagonal(driver)?.chunks_exact(self.dim) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        Ok(sums)
    }

    /// The marginal variances, `C D'` values, output by output, into `out`.
    ///
    /// Under a prior that classes share, `Sigma_(a,i) = |L^-1 (Q^T e_a (x) e_i)|^2 + 1 / (C T_i)`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn variance(&self, out: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        CoreError::check_len("the variance", self.num_params(), out.len())?;
        let Basis::Contrast { q, prior } = &self.basis else {
            out.copy_from_slice(&self.factor.inverse_diagonal(driver)?);
            return Ok(());
        };
        let (dim, classes, k) = (self.dim, self.num_outputs, self.num_outputs - 1);
        let columns = Columns { factor: &self.factor, dim, outputs: k };
        let (lanes, nb) = (columns.lanes(), self.factor.nb());
        let width = lanes * LANE;
        // By features, so that each task has its own; turned at the end.
        let mut by_feature = Buffer::zeros("variances", dim * classes)?;
        let tasks = by_feature.chunks_mut(width * classes).enumerate();
        let n = self.factor.n();
        let flops = (n * n * k * width) as f64 / 3.0;
        driver.for_each(tasks, flops, columns.scratch(lanes), |(task, out), scratch| {
            let first = task * width;
            let x = columns.solve(lanes, first, scratch, |lane, feature, values| {
                let place = feature - first;
                if place / LANE == lane {
                    values[place % LANE] = 1.0;
                }
            });
            for rows in x.chunks_exact(k * lanes * nb) {
                for (lane, out) in out.chunks_mut(LANE * classes).enumerate() {
                    for row in 0..nb {
                        for a in 0..classes {
                            let mut sum = [0.0; LANE];
                            for (c, weight) in q[a * k..(a + 1) * k].iter().enumerate() {
                                let x = &rows[(c * lanes + lane) * nb + row];
                                sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * x);
                            }
                            for (out, sum) in out[a..].iter_mut().step_by(classes).zip(sum) {
                                *out += sum * sum;
                            }
                        }
                    }
                }
            }
        })?;
        for (index, value) in out.iter_mut().enumerate() {
            let (a, i) = (index / dim, index % dim);
            *value = by_feature[i * classes + a] + 1.0 / (classes as f64 * prior[i]);
        }
        Ok(())
    }
}
