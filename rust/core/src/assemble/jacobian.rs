//! `H = sum R^T R` for a general subset: `R` holds rows of `J`, already multiplied by a root of
//! `Lambda`.

use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, MatRef, Par};

use crate::assemble::panel::widen;
use crate::assemble::{Real, check_matrix};
use crate::buffer::Buffer;
use crate::error::CoreError;
use crate::threads::Driver;
use crate::tiles::{TileMatrix, tile_mut};

/// Most rows widened at a time: deep enough that a tile is read and written seldom.
const DEPTH: usize = 1024;

/// The growing curvature of a general subset, tile-packed.
#[derive(Debug)]
pub struct JacobianSum {
    tiles: TileMatrix,
    panel: Buffer,
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
        let tiles = TileMatrix::zeros("the curvature", num_params)?;
        Ok(Self { tiles, panel: Buffer::zeros("a panel of rows", 0)?, incomplete: false })
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
    /// [`CoreError::Shape`], [`CoreError::NonFinite`] before anything is added;
    /// [`CoreError::Interrupted`] leaves a sum that can not be used.
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
        let depth = DEPTH.min(rows.len() / n);
        if self.panel.len() < depth * n {
            self.panel = Buffer::zeros("a panel of rows", depth * n)?;
        }
        self.incomplete = true;
        for piece in rows.chunks(DEPTH * n) {
            widen(piece, &mut self.panel);
            self.add_panel(piece.len() / n, driver)?;
        }
        self.incomplete = false;
        Ok(())
    }

    fn add_panel(&mut self, depth: usize, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let (n, nb) = (self.tiles.n(), self.tiles.nb());
        let rows = MatRef::from_row_major_slice(&self.panel[..depth * n], depth, n);
        let tasks: Vec<_> = self
            .tiles
            .rows_mut()
            .into_iter()
            .flat_map(|(i, row)| {
                row.chunks_exact_mut(nb * nb).enumerate().map(move |(j, tile)| (i, j, tile))
            })
            .collect();
        let flops = (2 * depth * nb * nb) as f64;
        driver.for_each(tasks, flops, 0, |(i, j, tile), _| {
            let columns = |t: usize| rows.subcols(t * nb, nb.min(n - t * nb));
            let (left, right) = (columns(i).transpose(), columns(j));
            let target = tile_mut(tile, left.nrows(), right.ncols(), nb);
            if i == j {
                use triangular::BlockStructure::{Rectangular, TriangularLower};
                triangular::matmul(
                    target,
                    TriangularLower,
                    Accum::Add,
                    left,
                    Rectangular,
                    right,
                    Rectangular,
                    1.0,
                    Par::Seq,
                );
            } else {
                matmul(target, Accum::Add, left, right, 1.0, Par::Seq);
            }
        })
    }

    /// The sum, to be read.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] after an interrupt.
    pub fn tiles(&self) -> Result<&TileMatrix, CoreError> {
        if self.incomplete { Err(CoreError::Incomplete) } else { Ok(&self.tiles) }
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
