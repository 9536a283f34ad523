//! `A = L L^T` of a tile-packed matrix: one verb, one file.
//!
//! Products are the kernel's, tiles are what runs in parallel, and the order of sums depends on sizes
//! alone. A diagonal tile is factored by faer, sequentially.

mod certainty;
mod factor;
mod inverse;
mod log_det;
mod product;
mod sample;
mod solve;
mod triangle;
mod verify;

pub use certainty::{CLEAR, Certainty, Standing};
pub use factor::{Factorization, factor};
pub use inverse::STRIP;

use crate::error::CoreError;
use crate::storage::buffer::Buffer;
use crate::storage::tiles::TileMatrix;

/// The lower-triangular factor `L`, in the storage of the matrix it was made from.
#[derive(Debug)]
pub struct Factor {
    tiles: TileMatrix,
    /// Inverses of the diagonal blocks of its diagonal tiles.
    inverses: Buffer,
    certainty: Certainty,
}

impl Factor {
    /// Edge of the matrix.
    pub fn n(&self) -> usize {
        self.tiles.n()
    }

    /// Floating-point operations that [`factor`] reports for a matrix of edge `n`, nearly, so that
    /// progress can be shown as a fraction.
    pub fn reported_flops(n: usize) -> f64 {
        let (nb, count) = crate::storage::tiles::grid(n);
        // Each step k solves m = count - 1 - k tiles and updates m (m + 1) / 2: in all count (count
        // - 1) / 2 and (count - 1) count (count + 1) / 6, twice the work each.
        let (count, edge) = (count as f64, nb as f64);
        let tiles = count * (count - 1.0) / 2.0 + (count - 1.0) * count * (count + 1.0) / 3.0;
        // The check of the factor comes on top: four solves with eight right-hand sides.
        tiles * edge.powi(3) + 32.0 * (n as f64).powi(2)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.tiles.nbytes() + self.inverses.nbytes()
    }

    /// Bytes of the factor of a matrix of edge `n`.
    pub fn bytes_of(n: usize) -> usize {
        TileMatrix::bytes_of(n).saturating_add(n.saturating_mul(triangle::BLOCK * size_of::<f64>()))
    }

    /// A copy of `self`.
    ///
    /// # Errors
    /// [`CoreError::Allocation`] when the memory is not there.
    pub fn try_clone(&self, what: &'static str) -> Result<Self, CoreError> {
        let mut inverses = Buffer::zeros(what, self.inverses.len())?;
        inverses.copy_from_slice(&self.inverses);
        Ok(Self { tiles: self.tiles.try_clone(what)?, inverses, certainty: self.certainty })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::storage::tiles::tests::from_dense;
    use crate::threads::{Driver, Workers};
    use faer::Mat;
    use proptest::prelude::*;

    /// A symmetric matrix with the given eigenvalues: Householder reflections of a diagonal.
    pub(crate) fn with_eigenvalues(values: &[f64], salt: usize) -> Mat<f64> {
        let n = values.len();
        let mut a = Mat::from_fn(n, n, |i, j| if i == j { values[i] } else { 0.0 });
        for round in 0..2 {
            let v: Vec<f64> = (0..n)
                .map(|i| ((i * 7919 + salt * 31 + round * 17) % 1009) as f64 / 504.5 - 1.0)
                .collect();
            let norm: f64 = v.iter().map(|x| x * x).sum::<f64>().max(1e-300);
            let av: Vec<f64> = (0..n).map(|i| (0..n).map(|j| a[(i, j)] * v[j]).sum()).collect();
            let vav: f64 = v.iter().zip(&av).map(|(x, y)| x * y).sum();
            for i in 0..n {
                for j in 0..=i {
                    let value = a[(i, j)] - 2.0 / norm * (v[i] * av[j] + av[i] * v[j])
                        + 4.0 / norm / norm * vav * v[i] * v[j];
                    a[(i, j)] = value;
                    a[(j, i)] = value;
                }
            }
        }
        a
    }

    /// A prior that errors speak of.
    pub(crate) fn standing() -> Standing {
        Standing::of(&[1.0])
    }

    pub(crate) fn factor_with(threads: usize, a: &Mat<f64>) -> Factor {
        let workers = Workers::new(threads).unwrap();
        let mut go = |_| true;
        factor(from_dense(a), standing(), &mut Driver::new(&workers, &mut go)).unwrap()
    }

    fn geometric(n: usize, condition: f64) -> Vec<f64> {
        (0..n).map(|i| condition.powf(-(i as f64) / (n.max(2) - 1) as f64)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn factor_solve_inverse_and_log_det_agree_with_dense_algebra(
            n in prop::sample::select(vec![1usize, 2, 7, 8, 9, 129, 255, 256, 257, 385, 513]),
            exponent in 0.0..9.0f64,
            salt in 0usize..50,
        ) {
            let condition = 10f64.powf(exponent);
            let eigenvalues = geometric(n, condition);
            let a = with_eigenvalues(&eigenvalues, salt);
            let l = factor_with(2, &a);
            let workers = Workers::new(2).unwrap();
            let mut go = |_| true;
            let mut driver = Driver::new(&workers, &mut go);
            let eps = n as f64 * f64::EPSILON;

            // log|A| moves by at most tr(A^-1 dA) <= sum 1/lambda * |dA|.
            let log_det: f64 = eigenvalues.iter().map(|v| v.ln()).sum();
            let spread: f64 = eigenvalues.iter().map(|v| 1.0 / v).sum();
            prop_assert!((l.log_det() - log_det).abs() <= 20.0 * eps * spread + 1e-13 * n as f64);

            let mut x: Vec<f64> = (0..3 * n).map(|i| (i % 11) as f64 - 5.0).collect();
            let b = x.clone();
            l.solve(&mut x, &mut driver).unwrap();
            for r in 0..3 {
                let size: f64 = x[r * n..(r + 1) * n].iter().map(|v| v.abs()).sum();
                for i in 0..n {
                    let ax: f64 = (0..n).map(|j| a[(i, j)] * x[r * n + j]).sum();
                    prop_assert!((ax - b[r * n + i]).abs() <= 20.0 * eps * (size + 5.0));
                }
            }

            let diagonal = l.inverse_diagonal(&mut driver).unwrap();
            let mut dense = vec![0.0; n * n];
            {
                let mut rows: Vec<&mut [f64]> = dense.chunks_exact_mut(n).collect();
                l.inverse_rows(&mut rows, &mut driver).unwrap();
            }
            for i in 0..n {
                let row: f64 = (0..n).map(|j| dense[i * n + j].abs()).sum();
                prop_assert!((dense[i * n + i] - diagonal[i]).abs() <= 20.0 * eps * condition * diagonal[i].max(row));
                for j in [0, n / 2, n - 1] {
                    let unit: f64 = (0..n).map(|k| dense[i * n + k] * a[(k, j)]).sum();
                    prop_assert!((unit - f64::from(u8::from(i == j))).abs() <= 20.0 * eps * condition.sqrt() * row.max(1.0));
                }
            }
        }
    }

    #[test]
    fn same_bits_for_any_thread_count() {
        let a = with_eigenvalues(&geometric(600, 1e6), 3);
        let bits = |threads| {
            let l = factor_with(threads, &a);
            let workers = Workers::new(threads).unwrap();
            let mut go = |_| true;
            let mut driver = Driver::new(&workers, &mut go);
            let mut draws = vec![0.0; 600 * 150];
            l.sample(7, 0, &mut draws, &mut driver).unwrap();
            let diagonal = l.inverse_diagonal(&mut driver).unwrap();
            let all = [draws, diagonal, vec![l.log_det()]].concat();
            all.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        let one = bits(1);
        assert_eq!(one, bits(2));
        assert_eq!(one, bits(3));
    }

    #[test]
    fn reported_flops_are_those_of_the_tiles() {
        let n = 900;
        let a = with_eigenvalues(&geometric(n, 10.0), 1);
        let workers = Workers::new(1).unwrap();
        let mut seen = 0.0;
        let mut monitor = |done| {
            seen = done;
            true
        };
        factor(from_dense(&a), standing(), &mut Driver::new(&workers, &mut monitor)).unwrap();
        let reported = Factor::reported_flops(n);
        assert!((seen / reported - 1.0).abs() < 0.05, "{seen} {reported}");
        assert!(reported > (n * n * n) as f64 / 3.0);
    }

    #[test]
    fn an_indefinite_matrix_names_its_pivot() {
        let n = 300;
        let mut a = Mat::<f64>::identity(n, n);
        a[(270, 270)] = -1.0;
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let error =
            factor(from_dense(&a), standing(), &mut Driver::new(&workers, &mut go)).unwrap_err();
        match error {
            crate::error::CoreError::NotPositiveDefinite { size, pivot, least } => {
                assert_eq!((size, pivot), (300, 270));
                assert!((least / (20.0 * 300.0 * f64::EPSILON) - 1.0).abs() < 1e-12);
            }
            other => panic!("{other}"),
        }
    }
}
