//! Draws from the posterior of a layer.

use crate::buffer::Buffer;
use crate::error::CoreError;
use crate::normal::fill_standard_normal;
use crate::posterior::layer::{Basis, LayerPosterior};
use crate::threads::Driver;

/// Streams of one factor start this far from those of the next.
const STREAMS: u64 = 1 << 40;

impl LayerPosterior {
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
        let draws = out.len() / p;
        if let (Basis::Identity, [factor]) = (&self.basis, &self.factors[..]) {
            return factor.sample(seed, 0, out, driver);
        }
        for (index, factor) in self.factors.iter().enumerate() {
            let n = factor.n();
            let mut z = Buffer::zeros("draws", draws * n)?;
            factor.sample(seed, index as u64 * STREAMS, &mut z, driver)?;
            let tasks: Vec<_> =
                out.chunks_exact_mut(p).zip(z.chunks_exact(n)).enumerate().collect();
            let Basis::Contrast { q, prior } = &self.basis else {
                for (_, (draw, z)) in tasks {
                    draw[index * dim..(index + 1) * dim].copy_from_slice(z);
                }
                continue;
            };
            let k = classes - 1;
            let flops = (2 * classes * k * dim) as f64;
            driver.for_each(tasks, flops, dim, |(unit, (draw, z)), common| {
                fill_standard_normal(seed, STREAMS + unit as u64, common);
                for (value, t) in common.iter_mut().zip(prior) {
                    *value /= (classes as f64 * t).sqrt();
                }
                for (a, values) in draw.chunks_exact_mut(dim).enumerate() {
                    values.copy_from_slice(common);
                    for (c, z) in z.chunks_exact(dim).enumerate() {
                        let weight = q[a * k + c];
                        if weight != 0.0 {
                            for (value, z) in values.iter_mut().zip(z) {
                                *value += weight * z;
                            }
                        }
                    }
                }
            })?;
        }
        Ok(())
    }
}
