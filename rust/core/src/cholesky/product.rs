//! The matrix back from its factor, `A = L L^T`.

use faer::linalg::matmul::{matmul, triangular};
use faer::prelude::ReborrowMut;
use faer::{Accum, Par};

use crate::buffer::Buffer;
use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::threads::Driver;
use crate::tiles::{TileMatrix, tile_mut, tile_ref};

impl Factor {
    /// `L L^T` again as a packed matrix, in the memory of the factor. Cost: `n^3 / 3` flops, and a
    /// row of tiles beside it.
    ///
    /// # Errors
    /// [`CoreError::Allocation`]; [`CoreError::Interrupted`] loses the factor.
    pub fn into_matrix(self, driver: &mut Driver<'_>) -> Result<TileMatrix, CoreError> {
        use triangular::BlockStructure::{Rectangular, TriangularLower, TriangularUpper};
        let mut tiles = self.tiles;
        let (nb, count) = (tiles.nb(), tiles.num_tile_rows());
        let size = nb * nb;
        let live: Vec<usize> = (0..count).map(|i| tiles.rows_in(i)).collect();
        let mut copy = Buffer::zeros("a row of tiles", count * size)?;
        // Row i needs the factor's rows up to i: from the last row on, each can be overwritten.
        for i in (0..count).rev() {
            let mut rows = tiles.rows_mut();
            let (above, own) = rows.split_at_mut(i);
            let own = &mut own[0].1;
            let copy = &mut copy[..own.len()];
            copy.copy_from_slice(own);
            let copy = &*copy;
            let tasks: Vec<_> = own.chunks_exact_mut(size).enumerate().collect();
            let flops = ((i + 2) * size * nb) as f64;
            driver.for_each(tasks, flops, 0, |(j, target), _| {
                let source = if i == j { copy } else { &above[j].1[..] };
                let mut target = tile_mut(target, live[i], live[j], nb);
                let lower = if i == j { TriangularLower } else { Rectangular };
                for k in 0..=j {
                    // Above the diagonal of a diagonal tile nothing is live.
                    triangular::matmul(
                        target.rb_mut(),
                        lower,
                        if k == 0 { Accum::Replace } else { Accum::Add },
                        tile_ref(&copy[k * size..][..size], live[i], live[k], nb),
                        if k == i { TriangularLower } else { Rectangular },
                        tile_ref(&source[k * size..][..size], live[j], live[k], nb).transpose(),
                        if k == j { TriangularUpper } else { Rectangular },
                        1.0,
                        Par::Seq,
                    );
                }
            })?;
        }
        Ok(tiles)
    }

    /// Writes row `i` of `L L^T` into the front of `rows[i]`. Cost: `2 n^3 / 3` flops.
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
        // Above the diagonal of a diagonal tile nothing is live: those tiles are cleaned first.
        let diagonal: Vec<faer::Mat<f64>> = (0..tiles.num_tile_rows())
            .map(|k| {
                let tile = tiles.tile(k, k);
                faer::Mat::from_fn(tile.nrows(), tile.ncols(), |i, j| {
                    if i >= j { tile[(i, j)] } else { 0.0 }
                })
            })
            .collect();
        let clean =
            |i: usize, k: usize| if i == k { diagonal[k].as_ref() } else { tiles.tile(i, k) };
        let slabs: Vec<_> = rows.chunks_mut(nb).enumerate().collect();
        driver.for_each(slabs, 2.0 / 3.0 * (n * n * nb) as f64, nb * nb, |(i, slab), scratch| {
            for j in 0..tiles.num_tile_rows() {
                let (height, width) = (tiles.rows_in(i), tiles.rows_in(j));
                let mut sum = faer::MatMut::from_row_major_slice_mut(
                    &mut scratch[..height * width],
                    height,
                    width,
                );
                for k in 0..=i.min(j) {
                    let accum = if k == 0 { Accum::Replace } else { Accum::Add };
                    matmul(
                        sum.rb_mut(),
                        accum,
                        clean(i, k),
                        clean(j, k).transpose(),
                        1.0,
                        Par::Seq,
                    );
                }
                for (row, values) in slab.iter_mut().zip(scratch.chunks_exact(width)) {
                    row[j * nb..j * nb + width].copy_from_slice(values);
                }
            }
        })
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
