//! The posterior with a diagonal precision: every answer is a loop.

use crate::error::{CoreError, check_prior_precision};
use crate::normal::fill_standard_normal;
use crate::threads::Driver;

/// `N(mean, A^-1)` with `A = diag(h + prior_precision)`.
#[derive(Debug)]
pub struct DiagonalPosterior {
    precision: Vec<f64>,
}

impl DiagonalPosterior {
    /// From the diagonal `h` of the curvature.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::PriorPrecision`].
    pub fn new(curvature: &[f64], prior_precision: &[f64]) -> Result<Self, CoreError> {
        CoreError::check_len("prior_precision", curvature.len(), prior_precision.len())?;
        check_prior_precision(prior_precision)?;
        Ok(Self { precision: curvature.iter().zip(prior_precision).map(|(h, t)| h + t).collect() })
    }

    /// The diagonal of `A`.
    pub fn precision(&self) -> &[f64] {
        &self.precision
    }

    /// `log |A|`.
    pub fn log_det(&self) -> f64 {
        self.precision.iter().map(|a| a.ln()).sum()
    }

    /// The diagonal of `A^-1`.
    pub fn variance(&self) -> Vec<f64> {
        self.precision.iter().map(|a| 1.0 / a).collect()
    }

    /// Fills `out` with draws of length `P`; draw `s` uses stream `s` of `seed`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`].
    pub fn sample(
        &self,
        seed: u64,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.precision.len();
        CoreError::check_len("draws", out.len() / n.max(1) * n, out.len())?;
        let draws: Vec<_> = out.chunks_exact_mut(n.max(1)).enumerate().collect();
        driver.for_each(draws, 20.0 * n as f64, 0, |(unit, draw), _| {
            fill_standard_normal(seed, unit as u64, draw);
            for (value, a) in draw.iter_mut().zip(&self.precision) {
                *value /= a.sqrt();
            }
        })
    }

    /// `J A^-1 J^T` for each point: `jacobian` is `B x C x P`, `out` is `B x C x C`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn functional_covariance(
        &self,
        jacobian: &[f64],
        num_outputs: usize,
        out: &mut [f64],
    ) -> Result<(), CoreError> {
        let (n, c) = (self.precision.len(), num_outputs);
        CoreError::check_len(
            "the functional covariance",
            jacobian.len() / (c * n).max(1) * c * c,
            out.len(),
        )?;
        for (point, v) in jacobian.chunks_exact(c * n).zip(out.chunks_exact_mut(c * c)) {
            for a in 0..c {
                for b in 0..=a {
                    let (x, y) = (&point[a * n..(a + 1) * n], &point[b * n..(b + 1) * n]);
                    let value =
                        x.iter().zip(y).zip(&self.precision).map(|((x, y), a)| x * y / a).sum();
                    v[a * c + b] = value;
                    v[b * c + a] = value;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let posterior = DiagonalPosterior::new(&[1.0, 3.0], &[1.0, 1.0]).unwrap();
        assert_eq!(posterior.variance(), [0.5, 0.25]);
        assert!((posterior.log_det() - 8f64.ln()).abs() < 1e-15);
        let mut v = [0.0; 4];
        posterior.functional_covariance(&[1.0, 2.0, 0.0, 2.0], 2, &mut v).unwrap();
        assert_eq!(v, [1.5, 1.0, 1.0, 1.0]);
        assert!(DiagonalPosterior::new(&[1.0], &[0.0]).is_err());
    }
}
