//! A softmax head's posterior: made from its blocks, sampled, inverted, asked for covariances.

use criterion::{BatchSize, Criterion, Throughput};
use hoarfrost_core::posterior::head::{HeadPosterior, expand};
use hoarfrost_core::storage::tiles::TileMatrix;
use hoarfrost_core::threads::Workers;

use crate::assembly::group;
use crate::gflops::FlopTime;
use crate::problems::{drive, normal, posterior, sum};
use crate::shapes::{DRAWS, FEW_POINTS, Head, MANY_POINTS, POSTERIORS};

fn edge(head: Head) -> usize {
    (head.outputs - 1) * head.dim
}

/// From quarter-size blocks to the packed matrix, in bytes of that matrix a second; and from
/// contrasts to classes, for a prior that classes do not share: a multiply-add for each element of
/// each block over the contrasts, as often as there are blocks over the classes.
pub fn expand(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "expand a softmax head");
    for head in POSTERIORS {
        let mut sum = sum(head, workers);
        let (dim, classes) = (head.dim, head.outputs);
        drive(workers, |driver| {
            let blocks = sum.finish(driver).expect("complete");
            let bytes = TileMatrix::bytes_of(edge(head));
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(format!("to tiles/{head}"), |bencher| {
                bencher.iter_with_large_drop(|| {
                    expand::to_tiles(classes - 1, dim, |c, d| blocks.block(c, d), driver)
                });
            });
            let (pairs, targets) = (classes * (classes - 1) / 2, classes * (classes + 1) / 2);
            let flops = pairs * targets * dim * (dim + 1);
            group.throughput(Throughput::Elements(flops as u64));
            group.bench_function(format!("to classes/{head}"), |bencher| {
                bencher.iter_with_large_drop(|| expand::to_classes(blocks, classes, driver));
            });
        });
    }
}

/// Expansion of the blocks and Cholesky, as a new prior costs: `n^3 / 3` flops.
pub fn factor(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "expand and factor a softmax head");
    for head in POSTERIORS {
        let mut sum = sum(head, workers);
        let prior = vec![1.0; head.outputs * head.dim];
        group.throughput(Throughput::Elements((edge(head).pow(3) / 3) as u64));
        group.bench_function(head.to_string(), |bencher| {
            bencher.iter_with_large_drop(|| {
                drive(workers, |driver| {
                    HeadPosterior::new(&mut sum, &prior, driver).expect("positive definite")
                })
            });
        });
    }
}

/// Samples: `n^2` flops each. Marginal variances: `n^3 / 3`. Blocks of the inverse: `2 n^3 / 3`.
pub fn samples_and_inverse(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "from a softmax head");
    for head in POSTERIORS {
        let posterior = posterior(head, workers);
        let n = edge(head);
        let mut draws = vec![0.0; DRAWS * posterior.num_params()];
        group.throughput(Throughput::Elements((DRAWS * n * n) as u64));
        group.bench_function(format!("{DRAWS} samples/{head}"), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| posterior.sample(1, &mut draws, driver)).expect("draws");
            });
        });
        let mut variances = vec![0.0; posterior.num_params()];
        group.throughput(Throughput::Elements((n.pow(3) / 3) as u64));
        group.bench_function(format!("marginal variances/{head}"), |bencher| {
            bencher.iter(|| drive(workers, |driver| posterior.variance(&mut variances, driver)));
        });
        let (point, mut out) = (vec![1.0; head.dim], vec![0.0; head.outputs]);
        group.throughput(Throughput::Elements((2 * n.pow(3) / 3) as u64));
        group.bench_function(format!("blocks of the inverse/{head}"), |bencher| {
            bencher.iter_batched(
                || posterior.drop_cache(),
                |()| {
                    drive(workers, |driver| {
                        posterior.functional_variance(&point, MANY_POINTS, &mut out, driver)
                    })
                },
                BatchSize::PerIteration,
            );
        });
    }
}

/// Few points by triangular solves from the first row that is not zero (`n^2 / 3` flops a point
/// and contrast), many from cached blocks (`D'^2` flops a point and pair of contrasts).
pub fn functional(criterion: &mut Criterion<FlopTime>, workers: &Workers) {
    let mut group = group(criterion, "functional covariance of a softmax head");
    for head in POSTERIORS {
        let posterior = posterior(head, workers);
        let (n, contrasts) = (edge(head), head.outputs - 1);
        let features = normal(MANY_POINTS * head.dim, 8);
        let size = head.outputs * head.outputs;
        let mut out = vec![0.0; MANY_POINTS * size];
        let few = &features[..FEW_POINTS * head.dim];
        group.throughput(Throughput::Elements((FEW_POINTS * contrasts * n * n / 3) as u64));
        group.bench_function(format!("{FEW_POINTS} points by solves/{head}"), |bencher| {
            bencher.iter(|| {
                let out = &mut out[..FEW_POINTS * size];
                drive(workers, |driver| posterior.functional_covariance(few, 0, out, driver))
                    .expect("finite points");
            });
        });
        let pairs = contrasts * (contrasts + 1) / 2;
        group.throughput(Throughput::Elements((MANY_POINTS * pairs * head.dim.pow(2)) as u64));
        group.bench_function(format!("{MANY_POINTS} points from the cache/{head}"), |bencher| {
            bencher.iter(|| {
                drive(workers, |driver| {
                    posterior.functional_covariance(&features, MANY_POINTS, &mut out, driver)
                })
                .expect("finite points");
            });
        });
    }
}
