//! The matrix back from its factor, `A = L L^T`.

use faer::linalg::matmul::matmul;
use faer::prelude::ReborrowMut;
use faer::{Accum, Par};

use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::threads::Driver;

impl Factor {
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
