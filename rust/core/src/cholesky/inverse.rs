//! Columns of `A^-1`, a strip at a time: nothing of size `n^2` beside the factor.

use crate::cholesky::Factor;
use crate::cholesky::solve::{subtract, subtract_transposed, triangle, unpack};
use crate::cholesky::triangle::Triangle;
use crate::error::CoreError;
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::threads::Driver;

/// Columns of a strip: five times three lanes.
pub const STRIP: usize = 120;

impl Factor {
    /// First row of the tile row that holds `row`: where a solve may start when all above is zero.
    pub fn tile_floor(&self, row: usize) -> usize {
        row / self.tiles.nb() * self.tiles.nb()
    }

    /// Edge of a tile.
    pub fn nb(&self) -> usize {
        self.tiles.nb()
    }

    /// Values of `groups` lanes of right-hand sides over all rows, and what a solve works in.
    pub fn solve_scratch(&self, groups: usize) -> (usize, usize) {
        let rows = self.tiles.num_tile_rows() * self.tiles.nb();
        (groups * rows * LANE, Triangle::scratch_len(groups))
    }

    /// Values that a strip of `width` columns is solved in.
    pub fn strip_scratch(&self, width: usize) -> usize {
        let (x, scratch) = self.solve_scratch(width.div_ceil(LANE));
        x + scratch
    }

    /// `x := L^-1 x` for lanes of right-hand sides on the rows of tile rows `first ..`, all above
    /// being zero; in tile row `k` all but the first `active(k)` are zero as well. Sequential. Each
    /// tile of `x` takes all products while it is in cache.
    pub fn forward(
        &self,
        x: &mut [Lane],
        groups: usize,
        first: usize,
        active: impl Fn(usize) -> usize,
        scratch: &mut [f64],
    ) {
        let (tiles, nb) = (&self.tiles, self.tiles.nb());
        let inverses = self.inverses.as_chunks::<LANE>().0;
        for k in first..tiles.num_tile_rows() {
            let (solved, current) = x.split_at_mut((k - first) * groups * nb);
            for (i, solved) in (first..k).zip(solved.chunks_exact(groups * nb)) {
                let lanes = active(i) * nb;
                subtract(tiles, k, i, &solved[..lanes], &mut current[..lanes]);
            }
            triangle(tiles, inverses, k).down(&mut current[..active(k) * nb], scratch);
        }
    }

    /// `x := L^-T x` on the rows of tile rows `first ..`, as [`Factor::forward`].
    pub fn backward(&self, x: &mut [Lane], groups: usize, first: usize, scratch: &mut [f64]) {
        let (tiles, size) = (&self.tiles, groups * self.tiles.nb());
        let inverses = self.inverses.as_chunks::<LANE>().0;
        for k in (first..tiles.num_tile_rows()).rev() {
            let (rest, solved) = x.split_at_mut((k - first + 1) * size);
            let current = &mut rest[(k - first) * size..];
            for (i, solved) in (k + 1..tiles.num_tile_rows()).zip(solved.chunks_exact(size)) {
                subtract_transposed(tiles, k, i, solved, current);
            }
            triangle(tiles, inverses, k).up(current, scratch);
        }
    }

    /// Columns `first .. first + width` of the identity in lanes, on the rows of the tile row of
    /// `first` and below; and the rest of the scratch.
    fn unit_columns<'x>(
        &self,
        first: usize,
        width: usize,
        scratch: &'x mut [f64],
    ) -> (&'x mut [Lane], &'x mut [f64]) {
        let (nb, groups) = (self.tiles.nb(), width.div_ceil(LANE));
        let tile_rows = self.tiles.num_tile_rows() - first / nb;
        let (x, rest) = scratch.split_at_mut(tile_rows * groups * nb * LANE);
        let x = x.as_chunks_mut::<LANE>().0;
        x.fill([0.0; LANE]);
        for column in 0..width {
            let row = first % nb + column;
            x[(row / nb * groups + column / LANE) * nb + row % nb][column % LANE] = 1.0;
        }
        (x, rest)
    }

    /// Rows `tile_floor(first) ..` of columns `first ..` of `A^-1` into `columns`. Sequential;
    /// `scratch` needs [`Factor::strip_scratch`] values.
    pub fn inverse_columns(&self, first: usize, columns: &mut [&mut [f64]], scratch: &mut [f64]) {
        let (nb, groups) = (self.tiles.nb(), columns.len().div_ceil(LANE));
        let (x, rest) = self.unit_columns(first, columns.len(), scratch);
        self.forward(x, groups, first / nb, |_| groups, rest);
        self.backward(x, groups, first / nb, rest);
        for (group, columns) in columns.chunks_mut(LANE).enumerate() {
            unpack(x, nb, groups, group, columns);
        }
    }

    /// The diagonal of `A^-1`: `sum_k (L^-1)_ki^2`. Cost: `n^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn inverse_diagonal(&self, driver: &mut Driver<'_>) -> Result<Buffer, CoreError> {
        let (n, nb) = (self.n(), self.tiles.nb());
        let mut diagonal = Buffer::zeros("variances", n)?;
        let strips = diagonal.chunks_mut(STRIP).enumerate();
        let flops = (n * n * STRIP) as f64 / 3.0;
        driver.for_each(strips, flops, self.strip_scratch(STRIP), |(strip, out), scratch| {
            let (first, groups) = (strip * STRIP, out.len().div_ceil(LANE));
            let (x, rest) = self.unit_columns(first, out.len(), scratch);
            self.forward(x, groups, first / nb, |_| groups, rest);
            for (index, lanes) in x.chunks_exact(nb).enumerate() {
                let own = &mut out[index % groups * LANE..];
                let mut sums = [0.0; LANE];
                for lane in lanes {
                    sums.iter_mut().zip(lane).for_each(|(sum, v)| *sum += v * v);
                }
                own.iter_mut().zip(sums).for_each(|(value, sum)| *value += sum);
            }
        })?;
        Ok(diagonal)
    }

    /// Writes row `i` of `A^-1` into the front of `rows[i]`: the lower part is solved for, the upper
    /// one mirrored. Cost: `2 n^3 / 3` flops.
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
        let strips = rows.chunks_mut(STRIP).enumerate();
        let flops = 2.0 / 3.0 * (n * n * STRIP) as f64;
        driver.for_each(strips, flops, self.strip_scratch(STRIP), |(strip, rows), scratch| {
            let first = strip * STRIP;
            let floor = self.tile_floor(first);
            // The matrix is symmetric: its columns are its rows.
            let count = rows.len();
            let mut columns = strip_of(rows.iter_mut().map(|row| &mut row[floor..n]));
            self.inverse_columns(first, &mut columns[..count], scratch);
        })?;
        mirror(rows, STRIP, driver)
    }
}

/// The columns of a strip, where they lie; past the last one there is nothing.
pub fn strip_of<'c>(mut columns: impl Iterator<Item = &'c mut [f64]>) -> [&'c mut [f64]; STRIP] {
    std::array::from_fn(|_| columns.next().unwrap_or_default())
}

/// Copies the part above the diagonal of a symmetric matrix below it, strip by strip.
pub fn mirror(
    rows: &mut [&mut [f64]],
    strip: usize,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let n = rows.len();
    for first in (0..n).step_by(strip) {
        let (above, own) = rows.split_at_mut(first);
        let end = own.len().min(strip);
        let above = &*above;
        let tasks = own[..end].chunks_mut(LANE).enumerate();
        driver.for_each(tasks, (above.len() * LANE) as f64, 0, |(task, rows), _| {
            let row = first + task * LANE;
            for (column, source) in above.iter().enumerate() {
                for (target, value) in rows.iter_mut().zip(&source[row..]) {
                    target[column] = *value;
                }
            }
        })?;
        for row in 1..end {
            let (before, rest) = own.split_at_mut(row);
            for (column, source) in before.iter().enumerate() {
                rest[0][first + column] = source[first + row];
            }
        }
    }
    Ok(())
}
