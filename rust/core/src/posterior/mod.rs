//! Gaussian posteriors with precision `A = H + T`, one file (or folder) for each structure of `A`.

pub mod dense;
pub mod diagonal;
mod eigen;
pub mod kronecker;
pub mod layer;
mod output;
