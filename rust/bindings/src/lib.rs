//! Python bindings of `hoarfrost-core`: arrays in, arrays out, typed errors. No mathematics.

mod arrays;
mod block_diagonal;
mod diagonal;
mod dual;
mod errors;
mod full;
mod head;
mod kronecker;
mod layer;
mod output;
mod seam;
mod stored;
mod turn;

use pyo3::prelude::*;

/// The Rust core of Hoarfrost.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::block_diagonal::BlockDiagonalPosterior;
    #[pymodule_export]
    use super::diagonal::{DiagonalCurvature, DiagonalPosterior};
    #[pymodule_export]
    use super::dual::{DualPosterior, RowCurvature, dual_bytes};
    #[pymodule_export]
    use super::full::{FullCurvature, FullPosterior, factor_flops, full_bytes};
    #[pymodule_export]
    use super::head::{HeadCurvature, HeadPosterior, head_bytes};
    #[pymodule_export]
    use super::kronecker::{KroneckerBasis, KroneckerPosterior};
    #[pymodule_export]
    use super::layer::{LayerBasis, LayerPosterior, layer_bytes};
    #[pymodule_export]
    use super::seam::num_threads;
    #[pymodule_export]
    use super::stored::{restored, stored, stored_values};

    #[allow(non_upper_case_globals)]
    #[pymodule_export]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
