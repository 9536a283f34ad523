//! A factor is verified: `y = A v` before, `|L (L^T v) - y|` small after. `O(n^2)`.

use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::threads::Driver;
use crate::tiles::TileMatrix;

/// What is kept of `A` while it is overwritten by its factor.
pub struct Witness {
    v: Vec<f64>,
    y: Vec<f64>,
    root_diagonal: Vec<f64>,
    norm: f64,
}

impl Witness {
    /// `A v` for a fixed vector of signs, and the infinity norm of `A`.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`].
    pub fn new(tiles: &TileMatrix, driver: &mut Driver<'_>) -> Result<Self, CoreError> {
        // Signs from a multiplicative hash: no structure of a real matrix lines up with them.
        let sign = |i: usize| {
            let hash = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            if hash >> 63 == 0 { 1.0 } else { -1.0 }
        };
        let n = tiles.n();
        let v: Vec<f64> = (0..n).map(sign).collect();
        let partial = by_tile_row(tiles, driver, |i| {
            let end = i * tiles.nb() + tiles.rows_in(i);
            let (mut y, mut sums) = (vec![0.0; end], vec![0.0; end]);
            for_each_column(tiles, i, |top, column, j| {
                // The element on the diagonal, where the column has it, counts once; others twice.
                let below = usize::from(top == j);
                if below == 1 {
                    y[j] += column[0] * v[j];
                    sums[j] += column[0].abs();
                }
                let (mut dot, mut sum) = (0.0, 0.0);
                for (i, a) in (top + below..).zip(&column[below..]) {
                    dot += a * v[i];
                    sum += a.abs();
                    y[i] += a * v[j];
                    sums[i] += a.abs();
                }
                y[j] += dot;
                sums[j] += sum;
            });
            (y, sums)
        })?;
        let (mut y, mut sums) = (vec![0.0; n], vec![0.0; n]);
        for (part, part_sums) in &partial {
            y.iter_mut().zip(part).for_each(|(y, part)| *y += part);
            sums.iter_mut().zip(part_sums).for_each(|(sum, part)| *sum += part);
        }
        let norm = sums.into_iter().fold(0.0, f64::max);
        let root_diagonal = tiles.diagonal().into_iter().map(|a| a.max(0.0).sqrt()).collect();
        Ok(Self { v, y, root_diagonal, norm })
    }

    /// `n eps |A|`: the prior precision below which rounding alone can make `A` indefinite.
    pub fn least_prior_precision(&self) -> f64 {
        self.v.len() as f64 * f64::EPSILON * self.norm
    }

    /// Compares `L (L^T v)` with `A v`.
    ///
    /// The bound is Cholesky's own: `|L L^T - A| <= (n + 1) eps |L| |L^T|`, and by Cauchy-Schwarz
    /// `(|L| |L^T|)_ij <= sqrt(a_ii a_jj)`; four times that leaves room for the two products here.
    ///
    /// # Errors
    /// [`CoreError::FactorCheck`] with the first row that is off, [`CoreError::Interrupted`].
    pub fn verify(&self, factor: &Factor, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let tiles = &factor.tiles;
        let n = tiles.n();
        let partial = by_tile_row(tiles, driver, |i| {
            let mut w = vec![0.0; i * tiles.nb() + tiles.rows_in(i)];
            for_each_column(tiles, i, |top, column, j| {
                w[j] += column.iter().zip(&self.v[top..]).map(|(l, v)| l * v).sum::<f64>();
            });
            w
        })?;
        let mut w = vec![0.0; n];
        for part in &partial {
            w.iter_mut().zip(part).for_each(|(w, part)| *w += part);
        }
        let product = by_tile_row(tiles, driver, |i| {
            let first = i * tiles.nb();
            let mut rows = vec![0.0; tiles.rows_in(i)];
            for_each_column(tiles, i, |top, column, j| {
                for (sum, l) in rows[top - first..].iter_mut().zip(column) {
                    *sum += l * w[j];
                }
            });
            rows
        })?
        .concat();
        let total: f64 = self.root_diagonal.iter().sum();
        for (row, (ours, truth)) in product.iter().zip(&self.y).enumerate() {
            let residual = (ours - truth).abs();
            let bound = 4.0 * (n + 2) as f64 * f64::EPSILON * self.root_diagonal[row] * total;
            if residual > bound || residual.is_nan() {
                return Err(CoreError::FactorCheck { row, residual, bound });
            }
        }
        Ok(())
    }
}

/// What `work` makes of each tile row, in order.
fn by_tile_row<R: Send>(
    tiles: &TileMatrix,
    driver: &mut Driver<'_>,
    work: impl Fn(usize) -> R + Sync,
) -> Result<Vec<R>, CoreError> {
    let mut slots: Vec<Option<R>> = (0..tiles.num_tile_rows()).map(|_| None).collect();
    let flops = (4 * tiles.n() * tiles.nb()) as f64;
    driver.for_each(slots.iter_mut().enumerate().collect(), flops, 0, |(i, slot), _| {
        *slot = Some(work(i));
    })?;
    Ok(slots.into_iter().flatten().collect())
}

/// Visits the live piece of each column in each tile of a tile row: first row, values, column.
fn for_each_column(tiles: &TileMatrix, i: usize, mut visit: impl FnMut(usize, &[f64], usize)) {
    let nb = tiles.nb();
    for j in 0..=i {
        let tile = tiles.tile(i, j);
        for c in 0..tile.ncols() {
            let skip = if i == j { c } else { 0 };
            if let Some(column) = tile.col(c).try_as_col_major() {
                visit(i * nb + skip, &column.as_slice()[skip..], j * nb + c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cholesky::tests::{factor_with, with_eigenvalues};
    use crate::threads::Workers;
    use crate::tiles::tests::from_dense;

    #[test]
    fn a_damaged_factor_is_found_out() {
        let n = 300;
        let a = with_eigenvalues(
            &vec![1.0; n].iter().enumerate().map(|(i, _)| 1.0 + i as f64).collect::<Vec<_>>(),
            1,
        );
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let witness = Witness::new(&from_dense(&a), &mut driver).unwrap();
        let dense: f64 = (0..n).map(|j| a[(7, j)] * witness.v[j]).sum();
        assert!((witness.y[7] - dense).abs() < 1e-9);
        let norm = (0..n).map(|i| (0..n).map(|j| a[(i, j)].abs()).sum::<f64>()).fold(0.0, f64::max);
        assert!((witness.norm / norm - 1.0).abs() < 1e-12);

        let mut factor = factor_with(1, &a);
        witness.verify(&factor, &mut driver).unwrap();
        let nb = factor.tiles.nb();
        factor.tiles.rows_mut()[0].1[5 * (nb + 1)] *= 1.0 + 1e-6;
        assert!(matches!(witness.verify(&factor, &mut driver), Err(CoreError::FactorCheck { .. })));
    }
}
