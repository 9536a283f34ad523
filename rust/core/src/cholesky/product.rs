//! The matrix back from its factor, `A = L L^T`.

use crate::cholesky::Factor;
use crate::cholesky::inverse::mirror;
use crate::error::CoreError;
use crate::kernel::lanes::add_block_products;
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::tiles::{TileMatrix, layout_of, panels_of};
use crate::threads::Driver;

impl Factor {
    /// `L L^T` again as a packed matrix, in the memory of the factor. Cost: `n^3 / 3` flops, and a
    /// row of tiles beside it.
    ///
    /// # Errors
    /// [`CoreError::Allocation`]; [`CoreError::Interrupted`] loses the factor.
    pub fn into_matrix(self, driver: &mut Driver<'_>) -> Result<TileMatrix, CoreError> {
        let mut tiles = self.tiles;
        let (nb, count, size) = (tiles.nb(), tiles.num_tile_rows(), tiles.tile_lanes());
        let live = list::collect("rows of tiles", (0..count).map(|i| tiles.rows_in(i)))?;
        let mut copy = Buffer::zeros("a row of tiles", count * size * LANE)?;
        let copy = copy.as_chunks_mut::<LANE>().0;
        // Row i needs the factor's rows up to i: from the last row on, each can be overwritten.
        for i in (0..count).rev() {
            let (above, mut rows) = tiles.split_rows(i);
            let Some((_, own)) = rows.next() else { break };
            let above = &*above;
            let copy = &mut copy[..own.len()];
            copy.copy_from_slice(own);
            let copy = &*copy;
            let flops = ((i + 2) * nb * nb * nb) as f64;
            driver.for_each(
                own.chunks_exact_mut(size).enumerate(),
                flops,
                0,
                |(j, target), _| {
                    let before = j * (j + 1) / 2 * size;
                    let source =
                        if i == j { copy } else { &above[before..before + (j + 1) * size] };
                    target.fill([0.0; LANE]);
                    add_tile([copy, source], j, [live[i], live[j]], &live, i == j, nb, target);
                },
            )?;
        }
        Ok(tiles)
    }

    /// Writes row `i` of `L L^T` into the front of `rows[i]`. Cost: `n^3 / 3` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Interrupted`], [`CoreError::Allocation`].
    pub fn product_rows(
        &self,
        rows: &mut [&mut [f64]],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, nb, tiles) = (self.n(), self.tiles.nb(), &self.tiles);
        CoreError::check_len("rows of the product", n, rows.len())?;
        let (count, size) = (tiles.num_tile_rows(), tiles.tile_lanes());
        let live = list::collect("rows of tiles", (0..count).map(|i| tiles.rows_in(i)))?;
        let flops = (n * n * nb) as f64 / 3.0;
        driver.for_each(
            rows.chunks_mut(nb).enumerate(),
            flops,
            size * LANE,
            |(i, slab), scratch| {
                let scratch = scratch.as_chunks_mut::<LANE>().0;
                for j in i..count {
                    scratch.fill([0.0; LANE]);
                    // The tiles of a row lie together.
                    let (left, right) = (tiles.row(i), tiles.row(j));
                    add_tile([left, right], i, [live[i], live[j]], &live, false, nb, scratch);
                    for (r, row) in slab.iter_mut().enumerate() {
                        let lanes = &scratch[r / LANE * nb..];
                        for (value, lane) in row[j * nb..].iter_mut().zip(lanes).take(live[j]) {
                            *value = lane[r % LANE];
                        }
                    }
                }
            },
        )?;
        mirror(rows, nb, driver)
    }
}

/// Adds `sum_k L_ik L_jk^T`, `k <= last`; of `left` and `right` come whole rows of tiles, and the live
/// sizes of `i`, `j` and all `k`. Above the diagonal of a factor's diagonal tile there are zeros.
fn add_tile(
    [left, right]: [&[Lane]; 2],
    last: usize,
    [rows, columns]: [usize; 2],
    live: &[usize],
    lower: bool,
    nb: usize,
    target: &mut [Lane],
) {
    let size = nb * nb / LANE;
    let squares = target.as_chunks_mut::<LANE>().0;
    for (k, depth) in live.iter().enumerate().take(last + 1) {
        let a = panels_of(&left[k * size..][..size], nb, rows, *depth);
        let b = panels_of(&right[k * size..][..size], nb, columns, *depth);
        add_block_products(a, b, lower, 1.0, squares, layout_of(nb));
    }
}

#[cfg(test)]
mod tests {
    use crate::cholesky::tests::{factor_with, with_eigenvalues};
    use crate::threads::{Driver, Workers};

    #[test]
    fn the_matrix_comes_back_in_the_memory_of_its_factor() {
        for n in [1, 9, 255, 257, 600] {
            let a = with_eigenvalues(&(0..n).map(|i| 1.0 + i as f64).collect::<Vec<_>>(), 5);
            let mut bits = Vec::new();
            for threads in 1..=3 {
                let workers = Workers::new(threads).unwrap();
                let mut go = |_| true;
                let matrix =
                    factor_with(2, &a).into_matrix(&mut Driver::new(&workers, &mut go)).unwrap();
                for i in 0..n {
                    for j in 0..=i {
                        // (n + 1) eps sqrt(a_ii a_jj), twice: a factorisation and a product.
                        let bound = 2.0 * (n + 1) as f64 * f64::EPSILON * (n + 1) as f64;
                        assert!((matrix.get(i, j) - a[(i, j)]).abs() <= bound, "{n} {i} {j}");
                    }
                }
                bits.push((0..n).map(|i| matrix.get(n - 1, i).to_bits()).collect::<Vec<_>>());
            }
            assert!(bits.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn the_matrix_comes_back() {
        let n = 270;
        let a = with_eigenvalues(&(0..n).map(|i| 1.0 + i as f64).collect::<Vec<_>>(), 5);
        let l = factor_with(2, &a);
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut out = vec![0.0; n * n];
        let mut rows: Vec<&mut [f64]> = out.chunks_exact_mut(n).collect();
        l.product_rows(&mut rows, &mut Driver::new(&workers, &mut go)).unwrap();
        let off = (0..n * n).map(|k| (out[k] - a[(k / n, k % n)]).abs()).fold(0.0, f64::max);
        assert!(off < 4.0 * n as f64 * f64::EPSILON * n as f64, "{off}");
    }
}
