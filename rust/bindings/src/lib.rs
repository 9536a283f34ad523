//! Python bindings of `hoarfrost-core`: arrays in, arrays out, typed errors. No mathematics.

mod arrays;
mod dense;
mod diagonal;
mod errors;
mod kronecker;
mod layer;
mod output;
mod seam;

use pyo3::prelude::*;

/// The Rust core of Hoarfrost.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::dense::{DenseCurvature, DensePosterior, dense_bytes, factor_flops};
    #[pymodule_export]
    use super::diagonal::{DiagonalCurvature, DiagonalPosterior};
    #[pymodule_export]
    use super::kronecker::KroneckerPosterior;
    #[pymodule_export]
    use super::layer::{HeadCurvature, HeadPosterior, head_bytes};
    #[pymodule_export]
    use super::seam::num_threads;

    #[allow(non_upper_case_globals)]
    #[pymodule_export]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
