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

pub use certainty::{CLEAR, Certainty, Standing, sign};
pub use factor::{Factorization, factor};
pub use inverse::{STRIP, strip_of};
pub(crate) use solve::{subtract, subtract_transposed};

use crate::error::CoreError;
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::storage::stored::{Content, Source};
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
        let (nb, count) = crate::storage::tiles::grid(n);
        let inverses = count.saturating_mul(triangle::inverse_lanes(nb) * size_of::<Lane>());
        TileMatrix::bytes_of(n).saturating_add(inverses)
    }

    /// Adds what it is made of.
    pub fn add_to<'a>(&'a self, prefix: &str, content: &mut Content<'a>) {
        self.tiles.add_to(prefix, content);
        content.array(prefix, "inverses", &self.inverses);
        content.number(prefix, "eigenvalue", self.certainty.eigenvalue);
        content.number(prefix, "rounding", self.certainty.rounding);
    }

    /// The factor of a file.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn of_source(prefix: &str, source: &Source) -> Result<Self, CoreError> {
        let tiles = TileMatrix::of_source("the factor", prefix, source)?;
        let len = tiles.num_tile_rows() * triangle::inverse_lanes(tiles.nb()) * LANE;
        let certainty = Certainty {
            eigenvalue: source.number(prefix, "eigenvalue")?,
            rounding: source.number(prefix, "rounding")?,
        };
        let what = "inverses of diagonal blocks";
        Ok(Self { tiles, inverses: source.array(what, prefix, "inverses", len)?, certainty })
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

    /// `rhs := A^-1 rhs`.
    fn solve(l: &Factor, rhs: &mut [f64], driver: &mut Driver<'_>) {
        l.solve_lower(rhs, driver).unwrap();
        l.solve_transposed(rhs, driver).unwrap();
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
            solve(&l, &mut x, &mut driver);
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
            let all = [draws, diagonal.to_vec(), vec![l.log_det()]].concat();
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

    /// A positive definite matrix whose tiles are all different.
    fn irregular(n: usize) -> Mat<f64> {
        let value = |i: usize, j: usize| ((i * 7919 + j * 104_729 + i * j) % 2003) as f64 / 2003.0;
        Mat::from_fn(n, n, |i, j| {
            let (i, j) = (i.max(j), i.min(j));
            if i == j { n as f64 + value(i, j) } else { value(i, j) - 0.5 }
        })
    }

    #[test]
    fn sizes_beyond_every_blocking_constant() {
        // Six tiles: a group of four, and what it updates; more right-hand sides than a panel has.
        let (n, count) = (1_409, 300);
        let a = irregular(n);
        let l = factor_with(2, &a);
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        // Diagonally dominant: condition below four.
        let tolerance = 20.0 * n as f64 * f64::EPSILON;
        let b: Vec<f64> = (0..count * n).map(|i| ((i * 31) % 101) as f64 / 50.0 - 1.0).collect();
        let mut x = b.clone();
        solve(&l, &mut x, &mut driver);
        for r in [0, 7, 8, 95, 96, 287, 288, 299] {
            for i in (0..n).step_by(13).chain([255, 256, 1279, 1280, 1408]) {
                let ax: f64 = (0..n).map(|j| a[(i, j)] * x[r * n + j]).sum();
                assert!((ax - b[r * n + i]).abs() < tolerance, "{r} {i}");
            }
            // Alone or with others, the same bits.
            let mut alone = b[r * n..(r + 1) * n].to_vec();
            solve(&l, &mut alone, &mut driver);
            assert_eq!(alone, x[r * n..(r + 1) * n]);
        }
        let mut dense = vec![0.0; n * n];
        let mut rows: Vec<&mut [f64]> = dense.chunks_exact_mut(n).collect();
        l.product_rows(&mut rows, &mut driver).unwrap();
        assert!((0..n * n).all(|k| (dense[k] - a[(k / n, k % n)]).abs() < tolerance * n as f64));
        let mut rows: Vec<&mut [f64]> = dense.chunks_exact_mut(n).collect();
        l.inverse_rows(&mut rows, &mut driver).unwrap();
        let diagonal = l.inverse_diagonal(&mut driver).unwrap();
        for i in (0..n).step_by(29).chain([119, 120, 255, 256, 1408]) {
            assert!((dense[i * n + i] - diagonal[i]).abs() < tolerance);
            for j in [0, 1, 255, 256, 700, 1408] {
                assert_eq!(dense[i * n + j], dense[j * n + i]);
                let unit: f64 = (0..n).map(|k| dense[i * n + k] * a[(k, j)]).sum();
                assert!((unit - f64::from(u8::from(i == j))).abs() < tolerance);
            }
        }
    }

    #[test]
    fn an_interrupted_factorisation_goes_on_where_it_was() {
        let n = 1_300;
        let a = irregular(n);
        let bits = |l: &Factor| {
            let certainty = l.certainty();
            let mut bits: Vec<u64> = (0..n).map(|i| l.tiles.get(n - 1, i).to_bits()).collect();
            bits.extend([certainty.eigenvalue.to_bits(), certainty.rounding.to_bits()]);
            bits
        };
        let truth = bits(&factor_with(2, &a));
        let workers = Workers::new(2).unwrap();
        let mut k = 1;
        loop {
            let (mut calls, mut stops) = (0, 0);
            let mut monitor = |_| {
                calls += 1;
                let go_on = calls != k;
                stops += usize::from(!go_on);
                go_on
            };
            let mut driver = Driver::new(&workers, &mut monitor).with_round(1.0);
            let mut work = Factorization::new(from_dense(&a), standing()).unwrap();
            while let Err(error) = work.run(&mut driver) {
                assert_eq!(error, CoreError::Interrupted);
            }
            assert_eq!(bits(&work.into_factor().unwrap()), truth, "interrupt {k}");
            if stops == 0 {
                assert!(k > 20);
                return;
            }
            // Every early call, then a sample of the many.
            k += if k < 12 { 1 } else { 7 };
        }
    }

    #[test]
    fn a_prior_that_rounding_swallows_is_an_error() {
        // Equal columns: half of all directions have the prior for an eigenvalue.
        let (n, scale) = (480, 3e4);
        let h = |i: usize, j: usize| {
            let (i, j) = (i / 2, j / 2);
            scale * if i == j { 1.0 } else { (((i * j * 31 + i + j) % 17) as f64 - 8.0) / 4000.0 }
        };
        let with_prior = |tau: f64| {
            let a = Mat::from_fn(n, n, |i, j| h(i, j) + if i == j { tau } else { 0.0 });
            let workers = Workers::new(2).unwrap();
            let mut go = |_| true;
            let mut driver = Driver::new(&workers, &mut go);
            let standing = Standing::of(&[tau, 2.0 * tau]);
            let l = factor(from_dense(&a), standing, &mut driver)?;
            // (1, -1) on a pair of equal columns: its variance is 2 / tau.
            let mut x = vec![0.0; n];
            (x[100], x[101]) = (1.0, -1.0);
            solve(&l, &mut x, &mut driver);
            Ok::<f64, CoreError>((x[100] - x[101]) * tau / 2.0 - 1.0)
        };
        let mut least_that_passes = f64::INFINITY;
        for exponent in -40..0 {
            let tau = 10f64.powf(f64::from(exponent) / 3.0);
            match with_prior(tau) {
                Ok(error) => {
                    assert!(error.abs() < 1e-3, "{tau:e}: {error:e}");
                    least_that_passes = least_that_passes.min(tau);
                }
                Err(CoreError::LostInRounding { prior, directions, size, least, .. }) => {
                    assert_eq!((prior, size), (tau, n));
                    assert!((200..=280).contains(&directions), "{directions}");
                    assert!(with_prior(least).unwrap().abs() < 1e-3);
                    // Not far above what rounding is: n eps times the largest element.
                    let rounding = n as f64 * f64::EPSILON * scale;
                    assert!(tau < 5.0 * rounding && least < 10.0 * rounding, "{tau:e} {least:e}");
                }
                Err(CoreError::NotPositiveDefinite { least, .. }) => {
                    assert!(with_prior(least).unwrap().abs() < 1e-3);
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert!(least_that_passes < 2e-8, "{least_that_passes}");
    }

    #[test]
    fn scales_and_weak_priors_are_no_reason_to_refuse() {
        // Full rank with features over twelve orders of magnitude, and next to no prior.
        let n = 300;
        let size = |i: usize| 10f64.powi(i32::try_from(i % 13).unwrap() - 6);
        let base = with_eigenvalues(&geometric(n, 100.0), 4);
        let a = Mat::from_fn(n, n, |i, j| base[(i, j)] * size(i) * size(j));
        let workers = Workers::new(1).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let l = factor(from_dense(&a), Standing::of(&[1e-30]), &mut driver).unwrap();
        assert!(l.certainty().eigenvalue > 1e-3 && !l.certainty().is_near());
    }
}
