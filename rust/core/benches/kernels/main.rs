//! `cargo bench -p hoarfrost-core`: every kernel of the core, in GFLOP/s (in GiB/s where it only
//! moves memory).
//!
//! Threads: `RAYON_NUM_THREADS`, else one a core. The ceiling of a kernel is the first group, faer's
//! sequential product on one core, times the threads. `cargo bench -p hoarfrost-core -- Cholesky`
//! runs one group.

mod assembly;
mod factors;
mod gflops;
mod posteriors;
mod problems;
mod shapes;
mod structured;

use std::fmt;
use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::WallTime;
use hoarfrost_core::threads::Workers;

use crate::gflops::FlopTime;
use crate::shapes::Head;

impl fmt::Display for Head {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} x {} x {}", self.rows, self.dim, self.outputs)
    }
}

fn main() {
    let workers = Workers::new(0).expect("worker threads");
    println!("{} threads", workers.num_threads());
    let mut criterion = Criterion::default()
        .with_measurement(FlopTime(WallTime))
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    assembly::products(&mut criterion);
    assembly::softmax_heads(&mut criterion, &workers);
    assembly::binary_heads(&mut criterion, &workers);
    assembly::jacobians(&mut criterion, &workers);
    factors::cholesky(&mut criterion, &workers);
    factors::answers(&mut criterion, &workers);
    posteriors::expand(&mut criterion, &workers);
    posteriors::factor(&mut criterion, &workers);
    posteriors::samples_and_inverse(&mut criterion, &workers);
    posteriors::functional(&mut criterion, &workers);
    structured::gaussian_heads(&mut criterion, &workers);
    structured::diagonals(&mut criterion, &workers);
    criterion.final_summary();
}
