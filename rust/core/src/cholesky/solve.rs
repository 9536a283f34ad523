//! Triangular solves with many right-hand sides, each contiguous.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{
    solve_lower_triangular_in_place, solve_upper_triangular_in_place,
};
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, MatMut, MatRef, Par};

use crate::blocks::even_width;
use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::threads::Driver;

/// Most right-hand sides of a panel, and of a task that solves with a diagonal tile.
const RHS: usize = 256;
const PIECE: usize = 64;

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
        self.solve_lower(rhs, driver)?;
        self.solve_transposed(rhs, driver)
    }

    /// `rhs := L^-1 rhs`, as [`Factor::solve`].
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`].
    pub fn solve_lower(&self, rhs: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        self.by_panels(rhs, driver, Direction::Down)
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
        self.by_panels(rhs, driver, Direction::Up)
    }

    /// All threads work on one panel, tile by tile, so that the factor comes from memory once for
    /// all right-hand sides of the panel, not once for those of each thread.
    fn by_panels(
        &self,
        rhs: &mut [f64],
        driver: &mut Driver<'_>,
        direction: Direction,
    ) -> Result<(), CoreError> {
        let (n, count) = (self.n(), self.tiles.num_tile_rows());
        CoreError::check_len("right-hand sides", rhs.len() / n * n, rhs.len())?;
        let width = even_width(rhs.len() / n, RHS);
        for panel in rhs.chunks_mut(n * width) {
            let columns = panel.len() / n;
            let mut rest = MatMut::from_column_major_slice_mut(panel, n, columns);
            let mut rows = Vec::with_capacity(count);
            for k in 0..count {
                let (own, below) = rest.split_at_row_mut(self.tiles.rows_in(k));
                rows.push(own);
                rest = below;
            }
            for step in 0..count {
                match direction {
                    Direction::Down => {
                        let (solved, open) = rows.split_at_mut(step + 1);
                        let mut current = solved[step].rb_mut();
                        self.solve_tile(step, current.rb_mut(), driver, direction)?;
                        self.subtract(step, current.rb(), step + 1, open, driver)?;
                    }
                    Direction::Up => {
                        let k = count - 1 - step;
                        let (open, solved) = rows.split_at_mut(k);
                        let mut current = solved[0].rb_mut();
                        self.solve_tile(k, current.rb_mut(), driver, direction)?;
                        self.subtract(k, current.rb(), 0, open, driver)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Solves with a diagonal tile, a few right-hand sides a task.
    fn solve_tile(
        &self,
        k: usize,
        mut x: MatMut<'_, f64>,
        driver: &mut Driver<'_>,
        direction: Direction,
    ) -> Result<(), CoreError> {
        let tile = self.tiles.tile(k, k);
        let width = even_width(x.ncols(), PIECE);
        let flops = (tile.nrows() * tile.nrows() * width) as f64;
        let mut pieces = Vec::new();
        while x.ncols() > 0 {
            let end = width.min(x.ncols());
            let (piece, rest) = x.split_at_col_mut(end);
            pieces.push(piece);
            x = rest;
        }
        driver.for_each(pieces, flops, 0, |piece, _| match direction {
            Direction::Down => solve_lower_triangular_in_place(tile, piece, Par::Seq),
            Direction::Up => solve_upper_triangular_in_place(tile.transpose(), piece, Par::Seq),
        })
    }

    /// Takes the products with solved rows `k` from the open ones, of which the first is `first`.
    fn subtract(
        &self,
        k: usize,
        solved: MatRef<'_, f64>,
        first: usize,
        open: &mut [MatMut<'_, f64>],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let nb = self.tiles.nb();
        let tasks: Vec<_> = open.iter_mut().enumerate().collect();
        let flops = (2 * nb * nb * solved.ncols()) as f64;
        driver.for_each(tasks, flops, 0, |(offset, target), _| {
            let i = first + offset;
            let tile =
                if i > k { self.tiles.tile(i, k) } else { self.tiles.tile(k, i).transpose() };
            matmul(target.rb_mut(), Accum::Add, tile, solved, -1.0, Par::Seq);
        })
    }
}

/// Which way a triangular solve goes through the rows.
#[derive(Clone, Copy)]
enum Direction {
    /// `L^-1`: from the first row on.
    Down,
    /// `L^-T`: from the last row on.
    Up,
}
