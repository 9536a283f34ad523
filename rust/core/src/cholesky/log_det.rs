//! `log |A|` from the diagonal of its factor.

use crate::cholesky::Factor;

impl Factor {
    /// `log |A| = 2 sum_i log L_ii`.
    pub fn log_det(&self) -> f64 {
        2.0 * self.tiles.diagonal().map(f64::ln).sum::<f64>()
    }
}
