//! Triangular solves with many right-hand sides, each contiguous.
//!
//! Inside, eight right-hand sides make a lane: tile row by tile row, lane by lane of right-hand sides,
//! row by row.

use crate::cholesky::Factor;
use crate::cholesky::triangle::{Triangle, inverse_lanes};
use crate::error::CoreError;
use crate::kernel::lanes::add_block_products;
use crate::kernel::{LANE, Lane, Target, add_products_transposed};
use crate::storage::blocks::even_width;
use crate::storage::buffer::Buffer;
use crate::storage::tiles::{TileMatrix, layout_of, panels_of};
use crate::threads::Driver;

/// Most lanes of right-hand sides of a panel, of a task of products, and of one that solves with a
/// diagonal tile, which few tasks share.
const PANEL: usize = 36;
const PRODUCT: usize = 12;
const PIECE: usize = 3;

/// Lanes that are turned into columns at once.
const CACHED: usize = 64;

impl Factor {
    /// `rhs := L^-1 rhs` for right-hand sides of length `n`, one after the other.
    /// Cost: `n^2` flops each.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn solve_lower(&self, rhs: &mut [f64], driver: &mut Driver<'_>) -> Result<(), CoreError> {
        self.by_panels(rhs, driver, down)
    }

    /// `rhs := L^-T rhs`, as [`Factor::solve_lower`].
    ///
    /// # Errors
    /// As [`Factor::solve_lower`].
    pub fn solve_transposed(
        &self,
        rhs: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.by_panels(rhs, driver, up)
    }

    /// All threads work on one panel, tile by tile, so that the factor comes from memory once for
    /// all right-hand sides of the panel, not once for those of each thread.
    fn by_panels(
        &self,
        rhs: &mut [f64],
        driver: &mut Driver<'_>,
        sweep: Sweep,
    ) -> Result<(), CoreError> {
        let (n, nb, count) = (self.n(), self.tiles.nb(), self.tiles.num_tile_rows());
        CoreError::check_len("right-hand sides", rhs.len() / n * n, rhs.len())?;
        let lanes = even_width((rhs.len() / n).div_ceil(LANE), PANEL);
        let mut x = Buffer::zeros("right-hand sides", count * lanes * nb * LANE)?;
        let inverses = self.inverses.as_chunks::<LANE>().0;
        for panel in rhs.chunks_mut(n * lanes * LANE) {
            let groups = (panel.len() / n).div_ceil(LANE);
            let x = &mut x.as_chunks_mut::<LANE>().0[..count * groups * nb];
            pack(panel, n, nb, groups, x, driver)?;
            sweep(&self.tiles, inverses, x, groups, driver)?;
            let flops = (n * LANE) as f64;
            let targets = panel.chunks_mut(n * LANE).enumerate();
            driver.for_each(targets, flops, 0, |(group, targets), _| {
                let (count, mut rest) = (targets.len() / n, targets.chunks_exact_mut(n));
                let mut targets: [&mut [f64]; LANE] =
                    std::array::from_fn(|_| rest.next().unwrap_or_default());
                unpack(x, nb, groups, group, &mut targets[..count]);
            })?;
        }
        Ok(())
    }
}

/// A triangular solve of all lanes of right-hand sides.
type Sweep = fn(&TileMatrix, &[Lane], &mut [Lane], usize, &mut Driver<'_>) -> Result<(), CoreError>;

/// Lays contiguous right-hand sides out in lanes.
fn pack(
    rhs: &[f64],
    n: usize,
    nb: usize,
    groups: usize,
    x: &mut [Lane],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let rows = x.chunks_exact_mut(groups * nb).enumerate();
    driver.for_each(rows, (groups * nb * LANE) as f64, 0, |(k, x), _| {
        let rows = k * nb..n.min((k + 1) * nb);
        for (group, x) in x.chunks_exact_mut(nb).enumerate() {
            // Where the last lane is not full, its first column stands in, and is never read.
            let column = |c: usize| {
                let first = (group * LANE + c) * n;
                let first = if first < rhs.len() { first } else { group * LANE * n };
                &rhs[first..][rows.clone()]
            };
            let columns: [&[f64]; LANE] = std::array::from_fn(column);
            let (live, padding) = x.split_at_mut(rows.len());
            for (row, lane) in live.iter_mut().enumerate() {
                *lane = std::array::from_fn(|c| columns[c][row]);
            }
            padding.fill([0.0; LANE]);
        }
    })
}

/// Lays a lane of right-hand sides out as contiguous ones, from the first row of `x` on.
pub fn unpack(x: &[Lane], nb: usize, groups: usize, group: usize, targets: &mut [&mut [f64]]) {
    let height = targets.first().map_or(0, |target| target.len());
    for (k, first) in (0..height).step_by(nb).enumerate() {
        let lanes = &x[(k * groups + group) * nb..][..nb.min(height - first)];
        // A few rows at a time, which stay in cache for all columns.
        for (rows, lanes) in lanes.chunks(CACHED).enumerate() {
            for (column, target) in targets.iter_mut().enumerate() {
                let target = &mut target[first + rows * CACHED..];
                for (value, lane) in target.iter_mut().zip(lanes) {
                    *value = lane[column];
                }
            }
        }
    }
}

/// A diagonal tile, and its inverses among those of all.
pub fn triangle<'a>(tiles: &'a TileMatrix, inverses: &'a [Lane], k: usize) -> Triangle<'a> {
    let nb = tiles.nb();
    let inverses = &inverses[k * inverse_lanes(nb)..][..inverse_lanes(nb)];
    Triangle { tile: tiles.tile(k, k), inverses, nb, rows: tiles.rows_in(k) }
}

/// `x_i -= L_ik x_k`, `i > k`, for lanes of right-hand sides.
pub fn subtract(tiles: &TileMatrix, i: usize, k: usize, solved: &[Lane], x: &mut [Lane]) {
    let nb = tiles.nb();
    let left = panels_of(solved, nb, solved.len() / nb * LANE, tiles.rows_in(k));
    let squares = x.as_chunks_mut::<LANE>().0;
    add_block_products(left, tiles.panels(i, k), false, -1.0, squares, layout_of(nb));
}

/// `x_i -= L_ki^T x_k`, `i < k`, for lanes of right-hand sides.
pub fn subtract_transposed(
    tiles: &TileMatrix,
    i: usize,
    k: usize,
    solved: &[Lane],
    x: &mut [Lane],
) {
    let (nb, step) = (tiles.nb(), tiles.nb() / LANE);
    let tile = tiles.tile(k, i).as_chunks::<LANE>().0;
    let squares = x.as_chunks_mut::<LANE>().0;
    for column in 0..tiles.panels_in(i) {
        let right = &tile[column..=(tiles.panels_in(k) - 1) * step + column];
        let target = Target { squares: &mut squares[column..], step, sign: -1.0 };
        add_products_transposed(solved, nb, right, step, target);
    }
}

/// `x := L^-1 x`, tile by tile.
pub fn down(
    tiles: &TileMatrix,
    inverses: &[Lane],
    x: &mut [Lane],
    groups: usize,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let size = groups * tiles.nb();
    for k in 0..tiles.num_tile_rows() {
        let (solved, open) = x.split_at_mut((k + 1) * size);
        let solved = &mut solved[k * size..];
        let triangle = triangle(tiles, inverses, k);
        solve_tile(triangle, solved, groups, driver, Triangle::down)?;
        products(tiles, solved, open, groups, driver, |solved, row, x| {
            subtract(tiles, k + 1 + row, k, solved, x);
        })?;
    }
    Ok(())
}

/// `x := L^-T x`, tile by tile.
pub fn up(
    tiles: &TileMatrix,
    inverses: &[Lane],
    x: &mut [Lane],
    groups: usize,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let size = groups * tiles.nb();
    for k in (0..tiles.num_tile_rows()).rev() {
        let (open, solved) = x.split_at_mut(k * size);
        let solved = &mut solved[..size];
        let triangle = triangle(tiles, inverses, k);
        solve_tile(triangle, solved, groups, driver, Triangle::up)?;
        products(tiles, solved, open, groups, driver, |solved, row, x| {
            subtract_transposed(tiles, row, k, solved, x);
        })?;
    }
    Ok(())
}

/// Solves with a diagonal tile, a few lanes of right-hand sides a task.
fn solve_tile<'t>(
    triangle: Triangle<'t>,
    x: &mut [Lane],
    groups: usize,
    driver: &mut Driver<'_>,
    solve: fn(Triangle<'t>, &mut [Lane], &mut [f64]),
) -> Result<(), CoreError> {
    let width = even_width(groups, PIECE);
    let flops = (triangle.rows * triangle.rows * width * LANE) as f64;
    let pieces = x.chunks_mut(width * triangle.nb);
    driver.for_each(pieces, flops, Triangle::scratch_len(width), |piece, scratch| {
        solve(triangle, piece, scratch);
    })
}

/// Takes the products with solved rows from the open tile rows, by tiles and right-hand sides.
fn products(
    tiles: &TileMatrix,
    solved: &[Lane],
    open: &mut [Lane],
    groups: usize,
    driver: &mut Driver<'_>,
    subtract: impl Fn(&[Lane], usize, &mut [Lane]) + Sync,
) -> Result<(), CoreError> {
    let (nb, width) = (tiles.nb(), even_width(groups, PRODUCT));
    let tasks = open.chunks_mut(groups * nb).enumerate().flat_map(|(row, x)| {
        let pieces = solved.chunks(width * nb).zip(x.chunks_mut(width * nb));
        pieces.map(move |(solved, x)| (row, solved, x))
    });
    let flops = (2 * nb * nb * width * LANE) as f64;
    driver.for_each(tasks, flops, 0, |(row, solved, x), _| subtract(solved, row, x))
}
