//! Gaussian posteriors with precision `A = H + T`, one file (or folder) for each structure of `A`.

pub mod block_diagonal;
pub mod diagonal;
pub mod dual;
mod eigen;
pub mod full;
pub mod head;
pub mod kronecker;
pub mod layer;
mod matrix;

/// What copies of a prior precision are called.
const PRIOR: &str = "a prior precision";
