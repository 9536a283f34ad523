//! Draws from `N(0, A^-1)`: `L^-T z` with `z` standard normal.

use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::normal::fill_standard_normal;
use crate::threads::Driver;

impl Factor {
    /// Fills `out` with draws of length `n`, one after the other; draw `s` uses stream
    /// `first_stream + s` of `seed`.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`].
    pub fn sample(
        &self,
        seed: u64,
        first_stream: u64,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.n();
        CoreError::check_len("draws", out.len() / n * n, out.len())?;
        let draws = out.chunks_exact_mut(n).enumerate();
        driver.for_each(draws, 20.0 * n as f64, 0, |(unit, draw), _| {
            fill_standard_normal(seed, first_stream + unit as u64, draw);
        })?;
        self.solve_transposed(out, driver)
    }
}
