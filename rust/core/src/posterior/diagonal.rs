//! The posterior with a diagonal precision: every answer is a loop.

use crate::error::{CoreError, check_prior_precision};
use crate::input::check_matrix;
use crate::kernel::dot::dot;
use crate::normal::fill_standard_normal;
use crate::posterior::matrix::mirror_each;
use crate::storage::buffer::Buffer;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::threads::Driver;

/// `N(mean, A^-1)` with `A = diag(h + prior_precision)`.
#[derive(Debug)]
pub struct DiagonalPosterior {
    precision: Buffer,
}

impl DiagonalPosterior {
    /// From the diagonal `h` of the curvature.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::PriorPrecision`], [`CoreError::Allocation`].
    pub fn new(curvature: &[f64], prior_precision: &[f64]) -> Result<Self, CoreError> {
        CoreError::check_len("prior_precision", curvature.len(), prior_precision.len())?;
        check_prior_precision(prior_precision)?;
        let mut precision = Buffer::zeros("a diagonal precision", curvature.len())?;
        let sums = curvature.iter().zip(prior_precision).map(|(h, t)| h + t);
        precision.iter_mut().zip(sums).for_each(|(a, sum)| *a = sum);
        Ok(Self { precision })
    }

    /// The diagonal of `A`.
    pub fn precision(&self) -> &[f64] {
        &self.precision
    }

    /// `log |A|`.
    pub fn log_det(&self) -> f64 {
        self.precision.iter().map(|a| a.ln()).sum()
    }

    /// `v^T A v`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn quadratic(&self, v: &[f64]) -> Result<f64, CoreError> {
        CoreError::check_len("the vector", self.precision.len(), v.len())?;
        Ok(v.iter().zip(&*self.precision).map(|(x, a)| a * x * x).sum())
    }

    /// The diagonal of `A^-1`, into `out`.
    ///
    /// # Errors
    /// [`CoreError::Shape`].
    pub fn variance(&self, out: &mut [f64]) -> Result<(), CoreError> {
        CoreError::check_len("the variance", self.precision.len(), out.len())?;
        out.iter_mut().zip(&*self.precision).for_each(|(v, a)| *v = 1.0 / a);
        Ok(())
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
        let draws = out.chunks_exact_mut(n.max(1)).enumerate();
        driver.for_each(draws, 20.0 * n as f64, 0, |(unit, draw), _| {
            fill_standard_normal(seed, unit as u64, draw);
            for (value, a) in draw.iter_mut().zip(&*self.precision) {
                *value /= a.sqrt();
            }
        })
    }

    /// `J A^-1 J^T` for each point: `jacobian` is `B x C x P`, `out` is `B x C x C`.
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
        let (n, c) = (self.precision.len(), num_outputs);
        if c == 0 {
            return Err(CoreError::Shape { what: "number of outputs", expected: 1, found: 0 });
        }
        let points = jacobian.len() / (c * n).max(1);
        CoreError::check_len("the functional covariance", points * c * c, out.len())?;
        check_matrix("jacobian", jacobian, points * c, n, driver)?;
        let rows = out.chunks_exact_mut(c).enumerate();
        driver.for_each(rows, ((c + 1) * n) as f64, n, |(row, v), scaled| {
            let x = jacobian[row * n..(row + 1) * n].iter().zip(&*self.precision);
            scaled.iter_mut().zip(x).for_each(|(scaled, (x, a))| *scaled = x / a);
            let point = jacobian[row / c * c * n..].chunks_exact(n);
            for (v, other) in v.iter_mut().zip(point).take(row % c + 1) {
                *v = dot(scaled, other);
            }
        })?;
        mirror_each(out, c, driver)
    }
}

impl Stored for DiagonalPosterior {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = Content::default();
        content.size("", "edge", self.precision.len());
        content.array("", "precision", &self.precision);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let n = source.size("", "edge")?;
        if n == 0 {
            return Err(misfit("the precision", n, "values"));
        }
        Ok(Self { precision: source.array("a diagonal precision", "", "precision", n)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let posterior = DiagonalPosterior::new(&[1.0, 3.0], &[1.0, 1.0]).unwrap();
        let workers = crate::threads::Workers::new(1).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let mut variance = [0.0; 2];
        posterior.variance(&mut variance).unwrap();
        assert_eq!(variance, [0.5, 0.25]);
        assert!((posterior.log_det() - 8f64.ln()).abs() < 1e-15);
        let mut v = [0.0; 4];
        posterior.functional_covariance(&[1.0, 2.0, 0.0, 2.0], 2, &mut v, &mut driver).unwrap();
        assert_eq!(v, [1.5, 1.0, 1.0, 1.0]);
        let none = posterior.functional_covariance(&[], 0, &mut [], &mut driver);
        assert!(matches!(none, Err(CoreError::Shape { .. })));
        assert!(DiagonalPosterior::new(&[1.0], &[0.0]).is_err());
    }
}
