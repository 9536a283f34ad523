//! Posteriors that need no factor of edge `P`: a Gaussian head's, exactly Kronecker, and a diagonal.

use std::sync::Arc;

use criterion::{Criterion, Throughput};
use hoarfrost_core::assemble::diagonal::DiagonalSum;
use hoarfrost_core::assemble::head::{HeadSum, Outputs};
use hoarfrost_core::posterior::diagonal::DiagonalPosterior;
use hoarfrost_core::posterior::kronecker::{KroneckerBasis, KroneckerPosterior};
use hoarfrost_core::threads::Workers;

use crate::assembly::group;
use crate::gflops::FlopTime;
use crate::problems::{drive, normal};
use crate::shapes::{DRAWS, GAUSSIAN_HEADS, HEADS, JACOBIANS, MANY_POINTS};

/// The eigendecomposition, counted as `4 D'^3` flops; then samples (`2 C D'^2` flops each), marginal
/// variances (`2 C D'^2`) and variances of outputs (`2 D'^2 + 2 C D'` a point).
pub fn gaussian_heads(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "Gaussian head");
    for head in GAUSSIAN_HEADS {
        let (d, c) = (head.dim, head.outputs);
        let (prior, noise) = (vec![1.0; d], vec![4.0; c]);
        let mut sum = HeadSum::new(Outputs::Independent, 1, d).expect("memory");
        drive(workers, |driver| {
            sum.add(&normal(head.rows * d, 1), &vec![1.0; head.rows], driver)
                .expect("finite points");
            let mut make = |driver: &mut _| {
                Arc::new(KroneckerBasis::new(&mut sum, &prior, driver).expect("converges"))
            };
            group.throughput(Throughput::Elements(4 * d.pow(3) as u64));
            group.bench_function(format!("eigendecomposition/{head}"), |bencher| {
                bencher.iter_with_large_drop(|| make(driver));
            });
            let posterior = KroneckerPosterior::new(make(driver), 1.0, &noise).expect("well known");
            let mut variances = vec![0.0; c * d];
            let mut draws = vec![0.0; DRAWS * c * d];
            group.throughput(Throughput::Elements((2 * DRAWS * c * d * d) as u64));
            group.bench_function(format!("{DRAWS} samples/{head}"), |bencher| {
                bencher.iter(|| posterior.sample(1, &mut draws, driver).expect("draws"));
            });
            group.throughput(Throughput::Elements((2 * c * d * d) as u64));
            group.bench_function(format!("marginal variances/{head}"), |bencher| {
                bencher.iter(|| posterior.variance(&mut variances, driver).expect("memory"));
            });
            if c * d < 10_000 {
                let order: Vec<usize> = (0..c * d).collect();
                let mut dense = vec![0.0; (c * d).pow(2)];
                group.throughput(Throughput::Elements((2 * c * d.pow(3)) as u64));
                group.bench_function(format!("covariance/{head}"), |bencher| {
                    bencher
                        .iter(|| posterior.covariance(&order, &mut dense, driver).expect("memory"));
                });
            }
            let points = normal(MANY_POINTS * d, 8);
            let mut out = vec![0.0; MANY_POINTS * c];
            group.throughput(Throughput::Elements((2 * MANY_POINTS * d * (d + c)) as u64));
            group.bench_function(format!("variances of {MANY_POINTS} points/{head}"), |bencher| {
                bencher.iter(|| {
                    posterior
                        .functional_variance(&points, &mut out, driver)
                        .expect("finite points");
                });
            });
        });
    }
}

/// Sums of squares: three flops for each number of a layer (`C` times each feature), two for each
/// of a row. Then samples, a division each.
pub fn diagonals(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "diagonal");
    for head in HEADS {
        let (d, c) = (head.dim, head.outputs);
        let features = normal(head.rows * d, 1);
        let weights: Vec<f64> = normal(head.rows * c, 4).into_iter().map(f64::abs).collect();
        let mut sum = DiagonalSum::new(c * d).expect("memory");
        group.throughput(Throughput::Elements((3 * head.rows * c * d) as u64));
        group.bench_function(format!("add a layer/{head}"), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| sum.add_head(&features, &weights, c, driver))
                    .expect("finite");
            });
        });
        let posterior = DiagonalPosterior::new(sum.values().expect("complete"), &vec![1.0; c * d])
            .expect("positive");
        let mut draws = vec![0.0; DRAWS * c * d];
        group.throughput(Throughput::Elements((DRAWS * c * d) as u64));
        group.bench_function(format!("{DRAWS} samples/{head}"), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| posterior.sample(1, &mut draws, driver)).expect("draws");
            });
        });
    }
    for (rows, params) in JACOBIANS {
        let values = normal(rows * params, 5);
        let mut sum = DiagonalSum::new(params).expect("memory");
        group.throughput(Throughput::Elements((2 * rows * params) as u64));
        group.bench_function(format!("add rows/{rows} x {params}"), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| sum.add_rows(&values, driver)).expect("finite rows");
            });
        });
    }
}
