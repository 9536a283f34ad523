//! From quarter-size blocks to the packed matrix that is factored.

use crate::blocks::{Pattern, SymmetricBlocks};
use crate::contrast;
use crate::error::CoreError;
use crate::threads::Driver;
use crate::tiles::TileMatrix;

/// Tile rows between two looks for an interrupt.
const ROWS: usize = 8;

/// The `outputs * dim` square matrix whose block `(c, d)` is `block(c, d)`. Memory traffic only.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn to_tiles<'b>(
    outputs: usize,
    dim: usize,
    block: impl Fn(usize, usize) -> &'b [f64] + Sync,
    driver: &mut Driver<'_>,
) -> Result<TileMatrix, CoreError> {
    let mut tiles = TileMatrix::zeros("the posterior precision", outputs * dim)?;
    let (n, nb) = (tiles.n(), tiles.nb());
    let fill = |(i, row): (usize, &mut [f64]), _: &mut [f64]| {
        let end = n.min((i + 1) * nb);
        for (s, column) in row.chunks_exact_mut(nb).enumerate() {
            // Columns of the last tile are padded; rows above the diagonal are not live.
            if s >= n.min(end) {
                continue;
            }
            let (d, j) = (s / dim, s % dim);
            let mut r = s.max(i * nb);
            while r < end {
                let c = r / dim;
                let stop = end.min((c + 1) * dim);
                let out = &mut column[r - i * nb..stop - i * nb];
                SymmetricBlocks::copy_column(block(c, d), dim, j, r - c * dim, out);
                r = stop;
            }
        }
    };
    // Few operations and much memory: an interrupt is looked for every few rows.
    let mut rows = tiles.rows_mut().into_iter();
    loop {
        let group: Vec<_> = rows.by_ref().take(ROWS).collect();
        if group.is_empty() {
            break;
        }
        driver.for_each(group, (4 * n * nb) as f64, 0, fill)?;
    }
    Ok(tiles)
}

/// Blocks over the classes from blocks over the contrasts: `H_ab = sum_cd Q_ac Q_bd H'_cd`.
/// Cost: `C^2 (C-1)^2 D'^2 / 8` multiply-adds.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn to_classes(
    contrasts: &SymmetricBlocks,
    classes: usize,
    driver: &mut Driver<'_>,
) -> Result<SymmetricBlocks, CoreError> {
    let (q, k) = (contrast::matrix(classes), classes - 1);
    let mut out =
        SymmetricBlocks::zeros("the curvature by class", classes, contrasts.dim(), Pattern::Full)?;
    let flops = (k * k * contrasts.dim() * contrasts.dim()) as f64 / 2.0;
    driver.for_each(out.blocks_mut(), flops, 0, |((a, b), target), _| {
        for (c, d) in contrasts.pattern().pairs(k) {
            let (ac, ad, bc, bd) = (q[a * k + c], q[a * k + d], q[b * k + c], q[b * k + d]);
            let weight = if c == d { ac * bc } else { ac * bd + ad * bc };
            if weight != 0.0 {
                for (sum, value) in target.iter_mut().zip(contrasts.block(c, d)) {
                    *sum += weight * value;
                }
            }
        }
    })?;
    Ok(out)
}
