//! Right-looking tiled Cholesky: factor a diagonal tile, solve the tiles below it, update the rest.

use std::ops::Range;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltError, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::matmul::{matmul, triangular};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::prelude::{IntoConst, ReborrowMut};
use faer::{Accum, Par};

use crate::cholesky::Factor;
use crate::cholesky::verify::Witness;
use crate::error::CoreError;
use crate::threads::Driver;
use crate::tiles::{TileMatrix, tile_mut, tile_ref};

/// Tile columns that are factored before the rest of the matrix is updated by all of them: a tile
/// comes from memory once for that many products.
const GROUP: usize = 4;

/// Whether the factor is checked against the matrix it came from (`O(n^2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Compare `L (L^T v)` with `A v`.
    Verify,
    /// Trust the factorisation.
    Skip,
}

/// Factors `A = L L^T` in place. Cost: `n^3 / 3` flops, no memory of size `n^2`.
///
/// # Errors
/// [`CoreError::NotPositiveDefinite`] with the pivot, [`CoreError::FactorCheck`],
/// [`CoreError::Interrupted`]; the matrix is lost in each case.
pub fn factor(
    mut tiles: TileMatrix,
    check: Check,
    driver: &mut Driver<'_>,
) -> Result<Factor, CoreError> {
    let witness = Witness::new(&tiles, driver)?;
    let count = tiles.num_tile_rows();
    let mut memory =
        MemBuffer::new(cholesky_in_place_scratch::<f64>(tiles.nb(), Par::Seq, Default::default()));
    for first in (0..count).step_by(GROUP) {
        let group = first..count.min(first + GROUP);
        for k in group.clone() {
            if let Err(index) = factor_diagonal_tile(&mut tiles, k, MemStack::new(&mut memory)) {
                let (size, pivot) = (tiles.n(), k * tiles.nb() + index);
                return Err(CoreError::NotPositiveDefinite {
                    size,
                    pivot,
                    least: witness.least_prior_precision(),
                });
            }
            solve_column(&mut tiles, k, driver)?;
            update(&mut tiles, k..k + 1, k + 1..group.end, driver)?;
        }
        update(&mut tiles, group.clone(), group.end..count, driver)?;
    }
    let factor = Factor { tiles };
    if check == Check::Verify {
        witness.verify(&factor, driver)?;
    }
    Ok(factor)
}

fn factor_diagonal_tile(
    tiles: &mut TileMatrix,
    k: usize,
    stack: &mut MemStack,
) -> Result<(), usize> {
    let (nb, rows) = (tiles.nb(), tiles.rows_in(k));
    let mut all = tiles.rows_mut();
    let tile = tile_mut(&mut all[k].1[k * nb * nb..], rows, rows, nb);
    match cholesky_in_place(tile, Default::default(), Par::Seq, stack, Default::default()) {
        Ok(_) => Ok(()),
        Err(LltError::NonPositivePivot { index }) => Err(index),
    }
}

/// `L_ik = A_ik L_kk^-T` for every tile below the diagonal one.
fn solve_column(
    tiles: &mut TileMatrix,
    k: usize,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let (n, nb) = (tiles.n(), tiles.nb());
    let size = nb * nb;
    let columns = tiles.rows_in(k);
    let mut rows = tiles.rows_mut();
    let (upper, below) = rows.split_at_mut(k + 1);
    let diagonal = tile_mut(&mut upper[k].1[k * size..], columns, columns, nb).into_const();
    let tasks: Vec<_> =
        below.iter_mut().map(|(i, row)| (*i, &mut row[k * size..(k + 1) * size])).collect();
    driver.for_each(tasks, (nb * nb * nb) as f64, 0, |(i, tile), _| {
        let tile = tile_mut(tile, nb.min(n - i * nb), columns, nb);
        solve_lower_triangular_in_place(diagonal, tile.transpose_mut(), Par::Seq);
    })
}

/// `A_ij -= sum_k L_ik L_jk^T`, `k` in `depth`, for every tile of the columns `targets` behind them.
fn update(
    tiles: &mut TileMatrix,
    depth: Range<usize>,
    targets: Range<usize>,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let (n, nb) = (tiles.n(), tiles.nb());
    let size = nb * nb;
    let live = |i: usize| nb.min(n - i * nb);
    let mut panel = Vec::new();
    let mut tasks = Vec::new();
    for (i, row) in tiles.rows_mut().into_iter().skip(targets.start) {
        let (done, rest) = row.split_at_mut(targets.start * size);
        panel.push(&done[depth.start * size..depth.end * size]);
        let columns = targets.clone().zip(rest.chunks_exact_mut(size));
        tasks.extend(columns.map(|(j, tile)| (i, j, tile)));
    }
    let solved = |i: usize, k: usize| {
        let tile = &panel[i - targets.start][(k - depth.start) * size..][..size];
        tile_ref(tile, live(i), live(k), nb)
    };
    let flops = (2 * depth.len() * size * nb) as f64;
    driver.for_each(tasks, flops, 0, |(i, j, tile), _| {
        use triangular::BlockStructure::{Rectangular, TriangularLower};
        let mut target = tile_mut(tile, live(i), live(j), nb);
        for k in depth.clone() {
            let (left, right) = (solved(i, k), solved(j, k).transpose());
            if i == j {
                triangular::matmul(
                    target.rb_mut(),
                    TriangularLower,
                    Accum::Add,
                    left,
                    Rectangular,
                    right,
                    Rectangular,
                    -1.0,
                    Par::Seq,
                );
            } else {
                matmul(target.rb_mut(), Accum::Add, left, right, -1.0, Par::Seq);
            }
        }
    })
}
