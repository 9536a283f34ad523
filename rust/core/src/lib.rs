//! The mathematics of Hoarfrost: exact Laplace posteriors in float64, without Python.
//!
//! A posterior precision `A = H + T` is the curvature `H = sum_n J_n^T Lambda_n J_n` plus the prior
//! precision `T`. [`assemble`] sums `H`, [`cholesky`] factors `A`, [`posterior`] answers questions
//! about `A^-1`. [`storage`] holds half of a symmetric matrix, or a quarter; [`kernel`] has the
//! products that all of them share; [`output`] what a network's outputs contribute, [`spectrum`] what a curvature is like as a whole.

pub mod assemble;
pub mod cholesky;
pub mod error;
pub mod input;
pub mod kernel;
pub mod normal;
pub mod output;
pub mod posterior;
pub mod spectrum;
pub mod storage;
pub mod threads;
