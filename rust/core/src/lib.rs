//! The mathematics of Hoarfrost: exact Laplace posteriors in float64, without Python.
//!
//! A posterior precision `A = H + T` is the curvature `H = sum_n J_n^T Lambda_n J_n` plus the prior
//! precision `T`. [`assemble`] sums `H`, [`cholesky`] factors `A`, [`posterior`] answers questions
//! about `A^-1`. Storage is half of a symmetric matrix ([`tiles`]) or a quarter ([`blocks`]).

pub mod assemble;
pub mod blocks;
pub mod buffer;
pub mod cholesky;
pub mod contrast;
pub mod error;
pub mod normal;
#[cfg(target_os = "linux")]
mod pages;
pub mod posterior;
pub mod threads;
pub mod tiles;
