//! The diagonal of `H` alone: sums of squares, whether rows or a Dense layer's factors come in.

use crate::assemble::{Real, check_matrix};
use crate::buffer::Buffer;
use crate::error::CoreError;

/// The growing diagonal of a curvature.
#[derive(Debug)]
pub struct DiagonalSum {
    values: Buffer,
}

impl DiagonalSum {
    /// `num_params` zeros.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn new(num_params: usize) -> Result<Self, CoreError> {
        Ok(Self { values: Buffer::zeros("the diagonal of the curvature", num_params)? })
    }

    /// The sum so far.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Adds `sum_r rows[r, p]^2`; `rows` is `R x P`, already multiplied by a root of `Lambda`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`] before anything is added.
    pub fn add_rows<T: Real>(&mut self, rows: &[T]) -> Result<(), CoreError> {
        let n = self.values.len().max(1);
        check_matrix("rows", rows, rows.len() / n, n)?;
        for row in rows.chunks_exact(n) {
            for (sum, value) in self.values.iter_mut().zip(row) {
                let value: f64 = (*value).into();
                *sum += value * value;
            }
        }
        Ok(())
    }

    /// Adds `sum_n weights[n, c] features[n, i]^2` to entry `c D' + i`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::NegativeWeight`] before
    /// anything is added.
    pub fn add_layer<T: Real, U: Real>(
        &mut self,
        features: &[T],
        weights: &[U],
        num_outputs: usize,
    ) -> Result<(), CoreError> {
        let d = self.values.len() / num_outputs.max(1);
        let rows = features.len() / d.max(1);
        check_matrix("features", features, rows, d)?;
        check_matrix("weights", weights, rows, num_outputs)?;
        if let Some(i) = weights.iter().position(|w| (*w).into() < 0.0) {
            let (row, column) = (i / num_outputs, i % num_outputs);
            return Err(CoreError::NegativeWeight { row, column, value: weights[i].into() });
        }
        for (a, w) in features.chunks_exact(d.max(1)).zip(weights.chunks_exact(num_outputs.max(1)))
        {
            for (sums, w) in self.values.chunks_exact_mut(d.max(1)).zip(w) {
                let w: f64 = (*w).into();
                for (sum, value) in sums.iter_mut().zip(a) {
                    let value: f64 = (*value).into();
                    *sum += w * value * value;
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
    fn rows_and_layer_agree() {
        // Two outputs, features (1, 2): J rows are sqrt(w_c) (e_c (x) a).
        let mut rows = DiagonalSum::new(4).unwrap();
        rows.add_rows(&[2.0f32, 4.0, 0.0, 0.0, 0.0, 0.0, 3.0, 6.0]).unwrap();
        let mut layer = DiagonalSum::new(4).unwrap();
        layer.add_layer(&[1.0, 2.0], &[4.0, 9.0], 2).unwrap();
        assert_eq!(rows.values(), [4.0, 16.0, 9.0, 36.0]);
        assert_eq!(rows.values(), layer.values());
        assert!(layer.add_layer(&[1.0, 2.0], &[f64::INFINITY, 9.0], 2).is_err());
        assert!(rows.add_rows(&[1.0, 2.0]).is_err());
        assert_eq!(rows.values(), layer.values());
    }
}
