//! Sums of the curvature, and the ceiling: faer's plain sequential product.

use criterion::{BenchmarkGroup, Criterion, Throughput};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use hoarfrost_core::assemble::full::FullSum;
use hoarfrost_core::assemble::head::{HeadSum, Outputs};
use hoarfrost_core::threads::Workers;

use crate::gflops::FlopTime;
use crate::problems::{drive, normal, points};
use crate::shapes::{HEADS, JACOBIANS, PRODUCTS};

/// A group with a few samples: one call of most kernels takes a good part of a second.
pub fn group<'c>(
    criterion: &'c mut Criterion<FlopTime>,
    name: &str,
) -> BenchmarkGroup<'c, FlopTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    group
}

/// One core's ceiling: `2 n^3` flops.
pub fn products(criterion: &mut Criterion<FlopTime>) {
    let mut group = group(criterion, "faer matmul, one core");
    for n in PRODUCTS {
        let left = Mat::from_fn(n, n, |i, j| ((i * 7 + j * 3) % 17) as f64 - 8.0);
        let right = Mat::from_fn(n, n, |i, j| ((i * 5 + j * 11) % 13) as f64 - 6.0);
        let mut out = Mat::<f64>::zeros(n, n);
        group.throughput(Throughput::Elements(2 * (n * n * n) as u64));
        group.bench_function(n.to_string(), |bencher| {
            bencher.iter(|| {
                matmul(
                    out.as_mut(),
                    Accum::Replace,
                    left.as_ref(),
                    right.as_ref().transpose(),
                    1.0,
                    Par::Seq,
                );
            });
        });
    }
}

/// `rows D'^2` flops for each of `C (C - 1) / 2` blocks.
pub fn softmax_heads(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "assemble a softmax head");
    for head in HEADS {
        let (features, logits) = points(head);
        let mut sum = HeadSum::new(Outputs::Softmax, head.outputs, head.dim).expect("memory");
        let blocks = head.outputs * (head.outputs - 1) / 2;
        group.throughput(Throughput::Elements((blocks * head.rows * head.dim * head.dim) as u64));
        group.bench_function(head.to_string(), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| {
                    sum.add(&features, &logits, driver).expect("finite points");
                    sum.finish(driver).expect("complete");
                });
            });
        });
    }
}

/// `rows D'^2` flops: one output, as in a binary head.
pub fn binary_heads(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "assemble a binary head");
    for head in HEADS {
        let (features, _) = points(head);
        let weights: Vec<f64> = normal(head.rows, 4).into_iter().map(f64::abs).collect();
        let mut sum = HeadSum::new(Outputs::Independent, 1, head.dim).expect("memory");
        group.throughput(Throughput::Elements((head.rows * head.dim * head.dim) as u64));
        group.bench_function(format!("{} x {}", head.rows, head.dim), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| {
                    sum.add(&features, &weights, driver).expect("finite points");
                    sum.finish(driver).expect("complete");
                });
            });
        });
    }
}

/// `R P^2` flops, from rows in float32 as JAX gives them.
pub fn jacobians(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "assemble Jacobian rows");
    for (rows, params) in JACOBIANS {
        #[allow(clippy::cast_possible_truncation)]
        let values: Vec<f32> = normal(rows * params, 5).into_iter().map(|v| v as f32).collect();
        let mut sum = FullSum::new(params).expect("memory");
        group.throughput(Throughput::Elements((rows * params * params) as u64));
        group.bench_function(format!("{rows} x {params}"), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| sum.add_rows(&values, driver)).expect("finite rows");
            });
        });
    }
}
