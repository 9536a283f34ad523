//! Draws from the posterior of a head, and the density of one.

use crate::error::CoreError;
use crate::normal::fill_standard_normal;
use crate::posterior::head::{Basis, HeadPosterior};
use crate::storage::buffer::Buffer;
use crate::threads::Driver;

/// The first stream of the directions that the factor does not cover.
const COMMON: u64 = 1 << 40;

impl HeadPosterior {
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
        let (p, dim, classes) = (self.num_params(), self.dim, self.num_outputs);
        CoreError::check_len("draws", out.len() / p * p, out.len())?;
        let Basis::Contrast { q, prior } = &self.basis else {
            return self.factor.sample(seed, 0, out, driver);
        };
        let (k, n) = (classes - 1, self.factor.n());
        let mut z = Buffer::zeros("draws", out.len() / p * n)?;
        self.factor.sample(seed, 0, &mut z, driver)?;
        let tasks = out.chunks_exact_mut(p).zip(z.chunks_exact(n)).enumerate();
        let flops = (2 * classes * k * dim) as f64;
        driver.for_each(tasks, flops, dim, |(unit, (draw, z)), common| {
            fill_standard_normal(seed, COMMON + unit as u64, common);
            for (value, t) in common.iter_mut().zip(prior) {
                *value /= (classes as f64 * t).sqrt();
            }
            for (a, values) in draw.chunks_exact_mut(dim).enumerate() {
                values.copy_from_slice(common);
                for (c, z) in z.chunks_exact(dim).enumerate() {
                    let weight = q[a * k + c];
                    if weight != 0.0 {
                        values.iter_mut().zip(z).for_each(|(value, z)| *value += weight * z);
                    }
                }
            }
        })
    }

    /// `v^T A v`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn quadratic(&self, v: &[f64], driver: &mut Driver<'_>) -> Result<f64, CoreError> {
        let (dim, classes) = (self.dim, self.num_outputs);
        CoreError::check_len("the vector", self.num_params(), v.len())?;
        let Basis::Contrast { q, prior } = &self.basis else {
            return self.factor.quadratic(v, driver);
        };
        let k = classes - 1;
        let mut rotated = Buffer::zeros("a rotated vector", self.factor.n())?;
        let mut common = Buffer::zeros("a vector", dim)?;
        for (a, values) in v.chunks_exact(dim).enumerate() {
            common.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            for (c, sums) in rotated.chunks_exact_mut(dim).enumerate() {
                let weight = q[a * k + c];
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
            }
        }
        let shared: f64 = common.iter().zip(prior).map(|(x, t)| t * x * x).sum();
        Ok(self.factor.quadratic(&rotated, driver)? + shared / classes as f64)
    }
}
