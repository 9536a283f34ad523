//! `H = sum R^T R` for a general subset: `R` holds rows of `J`, already multiplied by a root of
//! `Lambda`.

use crate::assemble::kernel::LANE;
use crate::assemble::lanes::{DEPTH, Lanes, add_block_products};
use crate::assemble::{Real, check_matrix};
use crate::error::CoreError;
use crate::threads::Driver;
use crate::tiles::TileMatrix;

/// Most rows packed at a time: deep enough that a tile is read and written seldom.
const ROWS: usize = 1024;

/// The growing curvature of a general subset, tile-packed.
#[derive(Debug)]
pub struct JacobianSum {
    tiles: TileMatrix,
    panel: Lanes,
    incomplete: bool,
}

impl JacobianSum {
    /// An empty sum over `num_params` parameters.
    ///
    /// # Errors
    /// [`CoreError::Shape`] without parameters, [`CoreError::Allocation`].
    pub fn new(num_params: usize) -> Result<Self, CoreError> {
        if num_params == 0 {
            return Err(CoreError::Shape { what: "number of parameters", expected: 1, found: 0 });
        }
        Self::from_tiles(TileMatrix::zeros("the curvature", num_params)?)
    }

    /// A sum that is known already.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn from_tiles(tiles: TileMatrix) -> Result<Self, CoreError> {
        Ok(Self { panel: Self::panel(tiles.n(), 0)?, tiles, incomplete: false })
    }

    fn panel(num_params: usize, rows: usize) -> Result<Lanes, CoreError> {
        Lanes::new("a panel of rows", num_params, rows)
    }

    /// Number of parameters.
    pub fn num_params(&self) -> usize {
        self.tiles.n()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.tiles.nbytes() + self.panel.nbytes()
    }

    /// Adds `rows^T rows`, `rows` being `R x P`. Cost: `R P^2` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Allocation`],
    /// [`CoreError::Incomplete`] before anything is added; [`CoreError::Interrupted`] leaves a sum
    /// that can not be used.
    pub fn add_rows<T: Real>(
        &mut self,
        rows: &[T],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        if self.incomplete {
            return Err(CoreError::Incomplete);
        }
        let n = self.tiles.n();
        check_matrix("rows", rows, rows.len() / n, n)?;
        let depth = ROWS.min(rows.len() / n);
        if self.panel.capacity() < depth {
            self.panel = Self::panel(n, depth)?;
        }
        self.incomplete = true;
        for piece in rows.chunks(ROWS * n) {
            self.panel.push(piece, driver)?;
            self.add_panel(driver)?;
            self.panel.clear();
        }
        self.incomplete = false;
        Ok(())
    }

    fn add_panel(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let (n, nb, panel) = (self.tiles.n(), self.tiles.nb(), &self.panel);
        let tasks: Vec<_> = self
            .tiles
            .rows_mut()
            .into_iter()
            .flat_map(|(i, row)| {
                row.chunks_exact_mut(nb * nb).enumerate().map(move |(j, tile)| (i, j, tile))
            })
            .collect();
        let flops = (2 * panel.rows() * nb * nb) as f64;
        driver.for_each(tasks, flops, nb * nb, |(i, j, tile), sum| {
            // A tile's edge is a multiple of a lane, so that lanes belong to one tile row each.
            let lanes = |t: usize| t * nb / LANE..n.min((t + 1) * nb).div_ceil(LANE);
            let (left, right) = (lanes(i), lanes(j));
            let height = left.len();
            let sum = sum.as_chunks_mut::<LANE>().0.as_chunks_mut::<LANE>().0;
            let sum = &mut sum[..height * right.len()];
            sum.fill([[0.0; LANE]; LANE]);
            for (rows, chunk) in panel.chunks() {
                let right = &chunk[right.start * DEPTH..right.end * DEPTH];
                add_block_products(chunk, left.clone(), right, rows.len(), i == j, sum);
            }
            for (column, target) in tile.chunks_exact_mut(nb).take(right.len() * LANE).enumerate() {
                let squares = &sum[column / LANE * height..][..height];
                for (square, target) in squares.iter().zip(target.chunks_exact_mut(LANE)) {
                    for (target, value) in target.iter_mut().zip(square[column % LANE]) {
                        *target += value;
                    }
                }
            }
        })
    }

    /// A copy of the sum, for a factor; the panel's memory is given back first.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] after an interrupt, [`CoreError::Allocation`].
    pub fn copy(&mut self) -> Result<TileMatrix, CoreError> {
        if self.incomplete {
            return Err(CoreError::Incomplete);
        }
        self.panel = Self::panel(self.tiles.n(), 0)?;
        self.tiles.try_clone("the factor")
    }

    /// The sum, given up to be factored in place.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] after an interrupt.
    pub fn into_tiles(self) -> Result<TileMatrix, CoreError> {
        if self.incomplete { Err(CoreError::Incomplete) } else { Ok(self.tiles) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    #[test]
    fn sums_of_rows_for_sizes_that_straddle_tiles() {
        for (rows, n) in [(1, 1), (3, 255), (1025, 257), (40, 600)] {
            let values: Vec<f32> =
                (0..rows * n).map(|i| ((i * 31) % 97) as f32 / 97.0 - 0.5).collect();
            let mut first = None;
            for threads in 1..=3 {
                let workers = Workers::new(threads).unwrap();
                let mut go = |_| true;
                let mut sum = JacobianSum::new(n).unwrap();
                sum.add_rows(&values, &mut Driver::new(&workers, &mut go)).unwrap();
                let tiles = sum.into_tiles().unwrap();
                for (i, j) in [(0, 0), (n - 1, 0), (n - 1, n - 1), (n / 2, n / 3)] {
                    let dense: f64 = (0..rows)
                        .map(|r| f64::from(values[r * n + i]) * f64::from(values[r * n + j]))
                        .sum();
                    let tolerance = 2.0 * (rows * rows) as f64 * f64::EPSILON;
                    assert!((tiles.get(i, j) - dense).abs() <= tolerance);
                }
                let bits: Vec<u64> = (0..n).map(|i| tiles.get(n - 1, i).to_bits()).collect();
                assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits);
            }
        }
    }
}
