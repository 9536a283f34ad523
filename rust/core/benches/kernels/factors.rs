//! Cholesky and what is asked of a factor.

use criterion::{BatchSize, Criterion, Throughput};
use hoarfrost_core::cholesky::{Standing, factor};
use hoarfrost_core::threads::Workers;

use crate::assembly::group;
use crate::gflops::FlopTime;
use crate::problems::{drive, normal, positive_definite};
use crate::shapes::{DRAWS, EDGES};

/// A prior that errors would speak of.
fn standing() -> Standing {
    Standing::of(&[1.0])
}

/// `n^3 / 3` flops, in place, the check of the factor among them.
pub fn cholesky(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "Cholesky");
    for n in EDGES {
        let tiles = positive_definite(n, workers);
        group.throughput(Throughput::Elements((n * n * n / 3) as u64));
        group.bench_function(n.to_string(), |bencher| {
            bencher.iter_batched(
                || tiles.try_clone("a matrix to factor").expect("memory"),
                |tiles| drive(workers, |driver| factor(tiles, standing(), driver)).expect("factor"),
                BatchSize::PerIteration,
            );
        });
    }
}

/// `n^2` flops a draw, `2 n^2` a solve, `n^3 / 3` for the diagonal of the inverse; as dense rows
/// `2 n^3 / 3` for the inverse and `n^3 / 3` for the matrix itself, as much for that in the factor's
/// own memory.
pub fn answers(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    for n in EDGES {
        let tiles = positive_definite(n, workers);
        let factor = drive(workers, |driver| factor(tiles, standing(), driver)).expect("factor");
        let mut values = normal(DRAWS * n, 6);
        let mut group = group(criterion, "from a factor");
        group.throughput(Throughput::Elements((DRAWS * n * n) as u64));
        group.bench_function(format!("{DRAWS} samples/{n}"), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| factor.sample(1, 0, &mut values, driver)).expect("draws");
            });
        });
        group.throughput(Throughput::Elements((2 * DRAWS * n * n) as u64));
        group.bench_function(format!("{DRAWS} solves/{n}"), |bencher| {
            bencher.iter_batched_ref(
                || normal(DRAWS * n, 7),
                |rhs| {
                    drive(workers, |driver| {
                        factor.solve_lower(rhs, driver)?;
                        factor.solve_transposed(rhs, driver)
                    })
                    .expect("solutions");
                },
                BatchSize::PerIteration,
            );
        });
        group.throughput(Throughput::Elements((n * n * n / 3) as u64));
        group.bench_function(format!("diagonal of the inverse/{n}"), |bencher| {
            bencher.iter(|| drive(workers, |driver| factor.inverse_diagonal(driver)));
        });
        let mut dense = vec![0.0; n * n];
        group.throughput(Throughput::Elements((2 * n * n * n / 3) as u64));
        group.bench_function(format!("rows of the inverse/{n}"), |bencher| {
            bencher.iter(|| {
                let mut rows: Vec<&mut [f64]> = dense.chunks_exact_mut(n).collect();
                drive(workers, |driver| factor.inverse_rows(&mut rows, driver)).expect("memory");
            });
        });
        group.throughput(Throughput::Elements((n * n * n / 3) as u64));
        group.bench_function(format!("rows of the matrix/{n}"), |bencher| {
            bencher.iter(|| {
                let mut rows: Vec<&mut [f64]> = dense.chunks_exact_mut(n).collect();
                drive(workers, |driver| factor.product_rows(&mut rows, driver)).expect("memory");
            });
        });
        group.throughput(Throughput::Elements((n * n * n / 3) as u64));
        group.bench_function(format!("matrix in the factor's memory/{n}"), |bencher| {
            bencher.iter_batched(
                || factor.try_clone("a factor").expect("memory"),
                |factor| drive(workers, |driver| factor.into_matrix(driver)).expect("memory"),
                BatchSize::PerIteration,
            );
        });
    }
}
