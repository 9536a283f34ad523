//! Triangular solves with many right-hand sides, each contiguous.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, MatMut, Par};

use crate::blocks::even_width;
use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::threads::Driver;

/// Most right-hand sides that one task solves together. They are shared out evenly: with 128 and
/// 72 of 200 one thread of two would wait for the other.
const RHS: usize = 64;

impl Factor {
    /// First row of the tile row that holds `row`: where a solve may start when all above is zero.
    pub fn tile_floor(&self, row: usize) -> usize {
        row / self.tiles.nb() * self.tiles.nb()
    }

    /// Columns of the identity that one task solves together: enough for products at full speed, and
    /// half a tile, so that no solve starts with many rows that are zero.
    pub fn half_tile(&self) -> usize {
        self.tiles.nb() / 2
    }

    /// `x := L^-1 x` on rows `first ..` (a tile boundary), all rows above being zero; `x` holds those
    /// rows alone. Sequential. Cost: `(n - first)^2` flops a column.
    ///
    /// Each tile of `x` takes all products while it is in cache, and is written once.
    pub fn forward(&self, mut x: MatMut<'_, f64>, first: usize) {
        let (nb, tiles) = (self.tiles.nb(), &self.tiles);
        for k in first / nb..tiles.num_tile_rows() {
            let (above, rest) = x.rb_mut().split_at_row_mut(k * nb - first);
            let mut current = rest.subrows_mut(0, tiles.rows_in(k));
            for i in first / nb..k {
                let solved = above.rb().subrows(i * nb - first, nb);
                matmul(current.rb_mut(), Accum::Add, tiles.tile(k, i), solved, -1.0, Par::Seq);
            }
            solve_lower_triangular_in_place(tiles.tile(k, k), current, Par::Seq);
        }
    }

    /// Rows `first ..` (a tile boundary) of `L^-T x`; `x` holds those rows. Sequential.
    pub fn backward(&self, mut x: MatMut<'_, f64>, first: usize) {
        let (nb, tiles) = (self.tiles.nb(), &self.tiles);
        let count = tiles.num_tile_rows();
        for k in (first / nb..count).rev() {
            let (rest, below) = x.rb_mut().split_at_row_mut(k * nb - first + tiles.rows_in(k));
            let mut current = rest.split_at_row_mut(k * nb - first).1;
            for i in k + 1..count {
                let solved = below.rb().subrows((i - k - 1) * nb, tiles.rows_in(i));
                let tile = tiles.tile(i, k).transpose();
                matmul(current.rb_mut(), Accum::Add, tile, solved, -1.0, Par::Seq);
            }
            solve_upper_triangular_in_place(tiles.tile(k, k).transpose(), current, Par::Seq);
        }
    }

    /// `rhs := A^-1 rhs` for right-hand sides of length `n`, one after the other.
    /// Cost: `2 n^2` flops each.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`].
    pub fn solve(&self, rhs: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        self.in_chunks(rhs, 4.0, driver, |x| {
            self.forward_backward(x);
        })
    }

    /// `rhs := L^-T rhs`, as [`Factor::solve`].
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`].
    pub fn solve_transposed(
        &self,
        rhs: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.in_chunks(rhs, 2.0, driver, |x| self.backward(x, 0))
    }

    /// `rhs := L^-1 rhs`, as [`Factor::solve`].
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`].
    pub fn solve_lower(&self, rhs: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        self.in_chunks(rhs, 2.0, driver, |x| self.forward(x, 0))
    }

    fn forward_backward(&self, mut x: MatMut<'_, f64>) {
        self.forward(x.rb_mut(), 0);
        self.backward(x, 0);
    }

    fn in_chunks(
        &self,
        rhs: &mut [f64],
        half_flops: f64,
        driver: &mut Driver<'_>,
        work: impl Fn(MatMut<'_, f64>) + Sync,
    ) -> Result<(), CoreError> {
        let n = self.n();
        CoreError::check_len("right-hand sides", rhs.len() / n * n, rhs.len())?;
        let width = even_width(rhs.len() / n, RHS);
        let flops = half_flops * 0.5 * (n * n * width) as f64;
        driver.for_each(rhs.chunks_mut(n * width).collect(), flops, 0, |chunk, _| {
            let columns = chunk.len() / n;
            work(MatMut::from_column_major_slice_mut(chunk, n, columns));
        })
    }
}
