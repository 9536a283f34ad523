//! From quarter-size blocks to the packed matrix that is factored.

use crate::error::CoreError;
use crate::kernel::LANE;
use crate::output::contrast::scale;
use crate::storage::blocks::{Pattern, SymmetricBlocks};
use crate::storage::list;
use crate::storage::tiles::TileMatrix;
use crate::threads::Driver;

/// Tile rows between two looks for an interrupt.
const ROWS: usize = 8;

/// Elements of all blocks that one task turns from contrasts to classes.
const ELEMENTS: usize = 512;

/// What the lists of such parts are called.
const PARTS: &str = "parts of blocks";

/// The square matrix of some blocks on its way, tile row by tile row. Memory traffic only.
#[derive(Debug)]
pub struct Expansion {
    tiles: TileMatrix,
    dim: usize,
    /// Tile rows that are filled.
    rows: usize,
}

impl Expansion {
    /// Memory for blocks of edge `dim` over so many outputs.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn new(outputs: usize, dim: usize) -> Result<Self, CoreError> {
        let tiles = TileMatrix::zeros("the posterior precision", outputs * dim)?;
        Ok(Self { tiles, dim, rows: 0 })
    }

    /// Fills the next tile rows from `block(c, d)`; false when there are none left.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`]: they are filled again by the next call.
    pub fn step<'b>(
        &mut self,
        block: impl Fn(usize, usize) -> &'b [f64] + Sync,
        driver: &mut Driver<'_>,
    ) -> Result<bool, CoreError> {
        let (n, nb, size) = (self.tiles.n(), self.tiles.nb(), self.tiles.tile_lanes());
        let dim = self.dim;
        let count = ROWS.min(self.tiles.num_tile_rows() - self.rows);
        let rows = self.tiles.split_rows(self.rows).1.take(count);
        driver.for_each(rows, (4 * n * nb) as f64, nb, |(i, row), scratch| {
            let end = n.min((i + 1) * nb);
            // Columns of the last tile are padded; rows above the diagonal are not live.
            for s in 0..end {
                let (d, j) = (s / dim, s % dim);
                let first = s.max(i * nb) / LANE * LANE;
                let column = &mut scratch[..(end - first).next_multiple_of(LANE)];
                column.fill(0.0);
                let mut r = s.max(i * nb);
                while r < end {
                    let c = r / dim;
                    let stop = end.min((c + 1) * dim);
                    let out = &mut column[r - first..stop - first];
                    SymmetricBlocks::copy_column(block(c, d), dim, j, r - c * dim, out);
                    r = stop;
                }
                let tile = &mut row[s / nb * size..][..size];
                let panels = (first - i * nb) / LANE..;
                for (panel, lane) in panels.zip(column.as_chunks::<LANE>().0) {
                    tile[panel * nb + s % nb] = *lane;
                }
            }
        })?;
        self.rows += count;
        Ok(count > 0)
    }

    /// Outputs whose blocks, with all before them, are not read any more.
    pub fn taken(&self) -> usize {
        self.rows * self.tiles.nb() / self.dim
    }

    /// The matrix, once [`Expansion::step`] says that there are no rows left.
    pub fn into_tiles(self) -> TileMatrix {
        self.tiles
    }
}

/// The `outputs * dim` square matrix whose block `(c, d)` is `block(c, d)`.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn to_tiles<'b>(
    outputs: usize,
    dim: usize,
    block: impl Fn(usize, usize) -> &'b [f64] + Sync,
    driver: &mut Driver<'_>,
) -> Result<TileMatrix, CoreError> {
    let mut expansion = Expansion::new(outputs, dim)?;
    while expansion.step(&block, driver)? {}
    Ok(expansion.into_tiles())
}

/// Blocks over the classes from blocks over the contrasts: `H_ab = sum_cd Q_ac Q_bd H'_cd`.
///
/// Row `a` of `Q` is `h_k` for every contrast `k > a` and `-a h_a` for `k = a`, so a product with `Q`
/// is a sum over what comes after, from the last class to the first: twice, `O(C^2 D'^2)` in all.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn to_classes(
    contrasts: &SymmetricBlocks,
    classes: usize,
    driver: &mut Driver<'_>,
) -> Result<SymmetricBlocks, CoreError> {
    let k = classes - 1;
    let mut out =
        SymmetricBlocks::zeros("the curvature by class", classes, contrasts.dim(), Pattern::Full)?;
    // Every task has the same elements of every block, in the order of the blocks.
    let mut tasks: Vec<Vec<&mut [f64]>> = Vec::new();
    for (_, block) in out.blocks_mut() {
        for (task, part) in block.chunks_mut(ELEMENTS).enumerate() {
            if task == tasks.len() {
                let mut parts = Vec::new();
                list::reserve(PARTS, &mut parts, Pattern::Full.num_blocks(classes))?;
                list::extend(PARTS, &mut tasks, [parts])?;
            }
            tasks[task].push(part);
        }
    }
    let flops = (4 * classes * k * ELEMENTS) as f64;
    let tasks = tasks.into_iter().enumerate();
    driver.for_each(
        tasks,
        flops,
        (k + 2) * ELEMENTS,
        |(task, mut out): (_, Vec<_>), scratch| {
            let len = out[0].len();
            // Contrasts count from one, as in the formula; blocks from zero.
            let source = |c: usize, d: usize| {
                &contrasts.block(c.max(d) - 1, c.min(d) - 1)[task * ELEMENTS..][..len]
            };
            let (after, rest) = scratch.split_at_mut(k * ELEMENTS);
            let (sum, own) = rest.split_at_mut(ELEMENTS);
            let (sum, own) = (&mut sum[..len], &mut own[..len]);
            after.fill(0.0);
            for a in (0..classes).rev() {
                sum.fill(0.0);
                for b in (0..classes).rev() {
                    if b > 0 {
                        // Element (a, b) of Q H'.
                        own.copy_from_slice(&after[(b - 1) * ELEMENTS..][..len]);
                        if a > 0 {
                            add_scaled(own, -(a as f64) * scale(a), source(a, b));
                        }
                    }
                    if b <= a {
                        let target = &mut *out[a * (a + 1) / 2 + b];
                        target.copy_from_slice(sum);
                        if b > 0 {
                            add_scaled(target, -(b as f64) * scale(b), own);
                        }
                    }
                    if b > 0 {
                        add_scaled(sum, scale(b), own);
                    }
                }
                if a > 0 {
                    for b in 1..classes {
                        let after = &mut after[(b - 1) * ELEMENTS..][..len];
                        add_scaled(after, scale(a), source(a, b));
                    }
                }
            }
        },
    )?;
    Ok(out)
}

fn add_scaled(target: &mut [f64], weight: f64, values: &[f64]) {
    target.iter_mut().zip(values).for_each(|(target, value)| *target += weight * value);
}
