//! Inputs of the benchmarks, and a driver that never stops.

use hoarfrost_core::assemble::full::FullSum;
use hoarfrost_core::assemble::head::{HeadSum, Outputs};
use hoarfrost_core::normal::fill_standard_normal;
use hoarfrost_core::posterior::head::HeadPosterior;
use hoarfrost_core::storage::tiles::TileMatrix;
use hoarfrost_core::threads::{Driver, Workers};

use crate::shapes::Head;

/// Runs `work` with a driver over `workers`.
pub fn drive<R>(workers: &Workers, work: impl FnOnce(&mut Driver<'_>) -> R) -> R {
    let mut go_on = |_| true;
    work(&mut Driver::new(workers, &mut go_on))
}

/// Standard normal numbers, the same at every run.
pub fn normal(len: usize, seed: u64) -> Vec<f64> {
    let mut values = vec![0.0; len];
    fill_standard_normal(seed, 0, &mut values);
    values
}

/// Features and logits of a head.
pub fn points(head: Head) -> (Vec<f64>, Vec<f64>) {
    (normal(head.rows * head.dim, 1), normal(head.rows * head.outputs, 2))
}

/// The curvature of a softmax head.
pub fn sum(head: Head, workers: &Workers) -> HeadSum {
    let (features, logits) = points(head);
    let mut sum = HeadSum::new(Outputs::Softmax, head.outputs, head.dim).expect("memory");
    drive(workers, |driver| sum.add(&features, &logits, driver)).expect("finite points");
    sum
}

/// A softmax head's posterior.
pub fn posterior(head: Head, workers: &Workers) -> HeadPosterior {
    let (mut sum, prior) = (sum(head, workers), vec![1.0; head.outputs * head.dim]);
    drive(workers, |driver| HeadPosterior::new(&mut sum, &prior, driver))
        .expect("positive definite")
}

/// A positive definite matrix of edge `n`: a few rows' product and a large diagonal.
pub fn positive_definite(n: usize, workers: &Workers) -> TileMatrix {
    let mut sum = FullSum::new(n).expect("memory");
    let rows = normal(64 * n, 3);
    drive(workers, |driver| sum.add_rows(&rows, driver)).expect("finite rows");
    drive(workers, |driver| sum.finish(driver).map(|_| ())).expect("complete");
    let (mut tiles, _) = sum.into_tiles().expect("complete");
    tiles.add_to_diagonal(&vec![n as f64; n]);
    tiles
}
