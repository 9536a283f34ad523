//! Columns of `A^-1`, a strip at a time: nothing of size `n^2` beside the factor.

use faer::MatMut;
use faer::prelude::ReborrowMut;

use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::threads::Driver;

impl Factor {
    /// Columns `first .. first + width` of the identity on rows `tile_floor(first) ..`.
    fn unit_columns<'x>(&self, first: usize, width: usize, x: &'x mut [f64]) -> MatMut<'x, f64> {
        let floor = self.tile_floor(first);
        let height = self.n() - floor;
        let x = &mut x[..height * width];
        x.fill(0.0);
        for j in 0..width {
            x[j * height + first - floor + j] = 1.0;
        }
        MatMut::from_column_major_slice_mut(x, height, width)
    }

    /// Rows `tile_floor(first) ..` of columns `first .. first + width` of `A^-1`, column by column,
    /// into the front of `x`. Sequential; `x` needs `n * width` values.
    pub fn inverse_columns(&self, first: usize, width: usize, x: &mut [f64]) {
        let floor = self.tile_floor(first);
        let mut columns = self.unit_columns(first, width, x);
        self.forward(columns.rb_mut(), floor);
        self.backward(columns, floor);
    }

    /// The diagonal of `A^-1`: `sum_k (L^-1)_ki^2`. Cost: `n^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn inverse_diagonal(&self, driver: &mut Driver<'_>) -> Result<Vec<f64>, CoreError> {
        let n = self.n();
        let mut diagonal = vec![0.0; n];
        let width = self.half_tile();
        let strips: Vec<_> = diagonal.chunks_mut(width).enumerate().collect();
        let flops = (n * n * width) as f64 / 3.0;
        driver.for_each(strips, flops, n * width, |(strip, out), x| {
            let first = strip * width;
            let floor = self.tile_floor(first);
            let mut columns = self.unit_columns(first, out.len(), x);
            self.forward(columns.rb_mut(), floor);
            for (value, column) in out.iter_mut().zip(x.chunks_exact(n - floor)) {
                *value = column.iter().map(|v| v * v).sum();
            }
        })?;
        Ok(diagonal)
    }

    /// Writes row `i` of `A^-1` into the front of `rows[i]`. Cost: `4 n^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn inverse_rows(
        &self,
        rows: &mut [&mut [f64]],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.n();
        CoreError::check_len("rows of the inverse", n, rows.len())?;
        let width = self.half_tile();
        let strips: Vec<_> = rows.chunks_mut(width).enumerate().collect();
        driver.for_each(
            strips,
            4.0 / 3.0 * (n * n * width) as f64,
            n * width,
            |(strip, rows), x| {
                let first = strip * width;
                let floor = self.tile_floor(first);
                let mut columns = self.unit_columns(first, rows.len(), x);
                self.forward(columns.rb_mut(), floor);
                // Above `floor` the right-hand side of the second solve is zero but the answer is not.
                let height = n - floor;
                for (j, row) in rows.iter_mut().enumerate() {
                    row[..floor].fill(0.0);
                    row[floor..n].copy_from_slice(&x[j * height..(j + 1) * height]);
                }
                let full = &mut x[..n * rows.len()];
                for (column, row) in full.chunks_exact_mut(n).zip(rows.iter()) {
                    column.copy_from_slice(&row[..n]);
                }
                self.backward(MatMut::from_column_major_slice_mut(full, n, rows.len()), 0);
                for (column, row) in full.chunks_exact(n).zip(rows.iter_mut()) {
                    row[..n].copy_from_slice(column);
                }
            },
        )
    }
}
