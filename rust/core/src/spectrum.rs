//! What the spectrum of a curvature is like, by Lanczos' method from eight vectors of random signs.
//!
//! In the metric of a prior, `S = T^-1/2 H T^-1/2`; each vector gives a tridiagonal matrix whose
//! eigenvalues and first components are a Gauss quadrature of the spectrum's density (Golub and
//! Welsch, 1969; Ubaru, Chen and Saad, 2017). Traces of functions of `S` follow to a percent or so, for
//! a few products with `S`: enough to know where to look for the maximum of the evidence.

use std::cmp::Ordering;

use crate::assemble::full::FullSum;
use crate::assemble::head::HeadSum;
use crate::cholesky::{sign, subtract, subtract_transposed};
use crate::error::{CoreError, check_prior_precision};
use crate::kernel::{LANE, Lane};
use crate::storage::blocks::{Pattern, SymmetricBlocks, column_start};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::tiles::TileMatrix;
use crate::threads::Driver;

/// The tridiagonal matrices of eight vectors.
#[derive(Debug)]
pub struct Tridiagonals {
    /// Edge of the matrix whose spectrum this is.
    pub size: usize,
    /// The diagonals, a lane a step.
    pub alpha: Vec<Lane>,
    /// What stands beside them, a lane a step; the last one is left over.
    pub beta: Vec<Lane>,
}

/// Of a head in its basis, under a prior precision (`D'` values) that outputs share.
///
/// # Errors
/// [`CoreError::Shape`], [`CoreError::PriorPrecision`], [`CoreError::Allocation`],
/// [`CoreError::Interrupted`], [`CoreError::Incomplete`].
pub fn of_head(
    sum: &mut HeadSum,
    prior_precision: &[f64],
    steps: usize,
    driver: &mut Driver<'_>,
) -> Result<Tridiagonals, CoreError> {
    let dim = sum.num_features();
    CoreError::check_len("prior_precision (one a feature)", dim, prior_precision.len())?;
    let blocks = sum.finish(driver)?;
    let repeated = (0..blocks.outputs()).flat_map(|_| prior_precision);
    let prior = list::collect("a prior precision", repeated.copied())?;
    lanczos(&prior, 0, steps, driver, |x, y, driver| multiply_blocks(blocks, x, y, driver))
}

/// Of any parameters, under a prior precision (`P` values).
///
/// # Errors
/// As [`of_head`].
pub fn of_full(
    sum: &mut FullSum,
    prior_precision: &[f64],
    steps: usize,
    driver: &mut Driver<'_>,
) -> Result<Tridiagonals, CoreError> {
    CoreError::check_len("prior_precision", sum.num_params(), prior_precision.len())?;
    let tiles = sum.finish(driver)?;
    lanczos(prior_precision, tiles.num_tile_rows() * tiles.nb(), steps, driver, |x, y, driver| {
        multiply_tiles(tiles, x, y, driver)
    })
}

fn lanczos(
    prior: &[f64],
    room: usize,
    steps: usize,
    driver: &mut Driver<'_>,
    multiply: impl Fn(&[Lane], &mut [Lane], &mut Driver<'_>) -> Result<(), CoreError>,
) -> Result<Tridiagonals, CoreError> {
    check_prior_precision(prior)?;
    let size = prior.len();
    // Room for whole tiles; what is beyond the last row stays zero.
    let vectors = || Buffer::zeros("vectors of Lanczos' method", room.max(size) * LANE);
    let (mut before, mut now, mut next) = (vectors()?, vectors()?, vectors()?);
    let mut scaled = vectors()?;
    let start = 1.0 / (size as f64).sqrt();
    let rows = now[..size * LANE].iter_mut().enumerate();
    rows.for_each(|(i, v)| *v = start * sign(i));
    let (mut alpha, mut beta) = (Vec::new(), Vec::new());
    list::reserve("a tridiagonal matrix", &mut alpha, steps)?;
    list::reserve("a tridiagonal matrix", &mut beta, steps)?;
    let mut last: Lane = [0.0; LANE];
    for _ in 0..steps {
        let (x, y) = (lanes(&mut scaled), lanes(&mut next));
        let (v, w) = (lanes(&mut now), lanes(&mut before));
        for ((x, v), t) in x.iter_mut().zip(&*v).zip(prior) {
            *x = v.map(|v| v / t.sqrt());
        }
        multiply(x, y, driver)?;
        let mut own: Lane = [0.0; LANE];
        for ((y, v), t) in y.iter_mut().zip(&*v).zip(prior) {
            for ((y, v), own) in y.iter_mut().zip(v).zip(&mut own) {
                *y /= t.sqrt();
                *own += *y * v;
            }
        }
        let mut squares: Lane = [0.0; LANE];
        for ((y, v), w) in y.iter_mut().zip(&*v).zip(&*w) {
            for c in 0..LANE {
                y[c] -= own[c] * v[c] + last[c] * w[c];
                squares[c] += y[c] * y[c];
            }
        }
        last = squares.map(f64::sqrt);
        // A vector that is used up stays zero, and its matrix ends here.
        let inverse = last.map(|b| if b > 0.0 { 1.0 / b } else { 0.0 });
        for y in y.iter_mut() {
            y.iter_mut().zip(inverse).for_each(|(y, inverse)| *y *= inverse);
        }
        alpha.push(own);
        beta.push(last);
        std::mem::swap(&mut before, &mut now);
        std::mem::swap(&mut now, &mut next);
    }
    Ok(Tridiagonals { size, alpha, beta })
}

fn lanes(buffer: &mut Buffer) -> &mut [Lane] {
    buffer.as_chunks_mut::<LANE>().0
}

/// `y = H x`, a task an output.
fn multiply_blocks(
    blocks: &SymmetricBlocks,
    x: &[Lane],
    y: &mut [Lane],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let (dim, outputs) = (blocks.dim(), blocks.outputs());
    let tasks = y[..outputs * dim].chunks_exact_mut(dim).enumerate();
    let flops = (4 * outputs * dim * dim * LANE) as f64;
    driver.for_each(tasks, flops, 0, |(c, y), _| {
        y.fill([0.0; LANE]);
        let partners = match blocks.pattern() {
            Pattern::Full => 0..outputs,
            Pattern::Diagonal => c..c + 1,
        };
        for d in partners {
            let (block, x) = (blocks.block(c.max(d), c.min(d)), &x[d * dim..(d + 1) * dim]);
            for j in 0..dim {
                let column = &block[column_start(dim, j)..][..dim - j];
                let (own, rest) = y[j..].split_at_mut(1);
                add_column(column, &x[j..], &mut own[0], rest);
            }
        }
    })
}

/// Column `j` of a symmetric matrix from its diagonal down, with `x` and `y` from row `j` on:
/// `y_j += a_jj x_j + sum_i a_ij x_i` and `y_i += a_ij x_j`.
fn add_column(column: &[f64], x: &[Lane], own: &mut Lane, rest: &mut [Lane]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: this processor has the instructions.
            return unsafe { add_column_avx512(column, x, own, rest) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { add_column_avx2(column, x, own, rest) };
        }
    }
    add_column_by::<{ cfg!(target_arch = "aarch64") }>(column, x, own, rest);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn add_column_avx512(column: &[f64], x: &[Lane], own: &mut Lane, rest: &mut [Lane]) {
    add_column_by::<true>(column, x, own, rest);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_column_avx2(column: &[f64], x: &[Lane], own: &mut Lane, rest: &mut [Lane]) {
    add_column_by::<true>(column, x, own, rest);
}

// Inlined so that it is compiled for the instructions of its caller.
#[allow(clippy::inline_always)]
#[inline(always)]
fn add_column_by<const FUSED: bool>(column: &[f64], x: &[Lane], own: &mut Lane, rest: &mut [Lane]) {
    let fused = |a: f64, b: f64, sum: f64| if FUSED { a.mul_add(b, sum) } else { a * b + sum };
    let (first, mut sum) = (x[0], *own);
    for c in 0..LANE {
        sum[c] = fused(column[0], first[c], sum[c]);
    }
    for ((a, y), x) in column[1..].iter().zip(rest).zip(&x[1..]) {
        for c in 0..LANE {
            y[c] = fused(*a, first[c], y[c]);
            sum[c] = fused(*a, x[c], sum[c]);
        }
    }
    *own = sum;
}

/// `y = H x`, a task a tile row: its own tiles, and those below its diagonal one, transposed.
fn multiply_tiles(
    tiles: &TileMatrix,
    x: &[Lane],
    y: &mut [Lane],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let (n, nb, count) = (tiles.n(), tiles.nb(), tiles.num_tile_rows());
    driver.for_each(
        y.chunks_exact_mut(nb).enumerate(),
        (2 * n * nb * LANE) as f64,
        0,
        |(t, y), _| {
            y.fill([0.0; LANE]);
            for (other, x) in x.chunks_exact(nb).enumerate().take(count) {
                match other.cmp(&t) {
                    Ordering::Less => subtract(tiles, t, other, x, y),
                    Ordering::Equal => {
                        let tile = tiles.tile(t, t);
                        for s in 0..tiles.rows_in(t) {
                            for r in s..tiles.rows_in(t) {
                                // Above the diagonal nothing is live.
                                let a = tile[r / LANE * nb + s][r % LANE];
                                take(&mut y[r], a, &x[s]);
                                if r > s {
                                    take(&mut y[s], a, &x[r]);
                                }
                            }
                        }
                    }
                    Ordering::Greater => subtract_transposed(tiles, t, other, x, y),
                }
            }
            // The products were taken away.
            y.iter_mut().flatten().for_each(|y| *y = -*y);
        },
    )
}

fn take(y: &mut Lane, a: f64, x: &Lane) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y -= a * x);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::head::Outputs;
    use crate::threads::Workers;

    /// `sum_n lambda_n^power` from the moments of the tridiagonal matrices: exact for `power = 1`.
    fn first_moment(found: &Tridiagonals) -> Lane {
        found.alpha[0].map(|a| a * found.size as f64)
    }

    #[test]
    fn products_are_those_of_the_curvature() {
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let (points, dim, c) = (60, 131, 3);
        let value = |i: usize| ((i * 7919) % 2003) as f64 / 1000.0 - 1.0;
        let x: Vec<f64> = (0..points * dim).map(value).collect();
        let f: Vec<f64> = (0..points * c).map(|i| value(i + 5).abs()).collect();
        for outputs in [Outputs::Softmax, Outputs::Independent] {
            let mut sum = HeadSum::new(outputs, c, dim).unwrap();
            sum.add(&x, &f, &mut driver).unwrap();
            let prior: Vec<f64> = (0..dim).map(|i| 1.0 + (i % 3) as f64).collect();
            let found = of_head(&mut sum, &prior, 5, &mut driver).unwrap();
            // v^T S v for signs v, element by element.
            let blocks = sum.finish(&mut driver).unwrap();
            let k = blocks.outputs();
            let mut exact = [0.0; LANE];
            for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
                if blocks.pattern() == Pattern::Diagonal && a != b {
                    continue;
                }
                let block = blocks.block(a.max(b), a.min(b));
                for (i, j) in (0..dim).flat_map(|i| (0..dim).map(move |j| (i, j))) {
                    let h = block[column_start(dim, i.min(j)) + i.abs_diff(j)];
                    let h = h / (prior[i] * prior[j]).sqrt();
                    for (lane, exact) in exact.iter_mut().enumerate() {
                        let at = |row: usize| sign(row * LANE + lane);
                        *exact += h * at(a * dim + i) * at(b * dim + j);
                    }
                }
            }
            for (ours, exact) in first_moment(&found).iter().zip(exact) {
                assert!((ours / exact - 1.0).abs() < 1e-10, "{ours} {exact}");
            }
        }
    }

    #[test]
    fn a_matrix_with_few_eigenvalues_is_known_exactly() {
        // H = diag(1, .., 1, 4, .., 4) over several tiles: two steps find both.
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let n = 600;
        let rows: Vec<f64> = (0..n * n)
            .map(|k| if k % (n + 1) == 0 { if k / n < 200 { 1.0 } else { 2.0 } } else { 0.0 })
            .collect();
        let mut sum = FullSum::new(n).unwrap();
        sum.add_rows(&rows, &mut driver).unwrap();
        let found = of_full(&mut sum, &vec![0.5; n], 4, &mut driver).unwrap();
        for lane in 0..LANE {
            // A third of the density at 2, two thirds at 8: mean 6, variance 8.
            assert!((found.alpha[0][lane] - 6.0).abs() < 1e-12);
            assert!((found.beta[0][lane] - 8f64.sqrt()).abs() < 1e-12);
            assert!((found.alpha[1][lane] - 4.0).abs() < 1e-10);
            assert!(found.beta[1][lane] < 1e-6);
        }
        assert!(of_full(&mut sum, &vec![0.0; n], 4, &mut driver).is_err());
    }
}
