//! One error type for the whole core; every variant carries the numbers that explain it.

use thiserror::Error;

/// What can go wrong in the core. Fields are the numbers of the message.
#[allow(missing_docs)]
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CoreError {
    /// An array has a length or a shape that the other arguments rule out.
    #[error("{what}: expected {expected}, got {found}")]
    Shape { what: &'static str, expected: usize, found: usize },

    /// A NaN or an infinity in an input, before anything is done with it.
    #[error(
        "{what} holds a non-finite value ({value}) in row {row}, column {column}; nothing was done with it"
    )]
    NonFinite { what: &'static str, value: f64, row: usize, column: usize },

    /// A prior precision that is not a positive finite number.
    #[error("prior_precision must be positive and finite, got {value} for parameter {index}")]
    PriorPrecision { index: usize, value: f64 },

    /// A weight of a weighted product that is negative.
    #[error("the output curvature must not be negative, got {value} in row {row}, output {column}")]
    NegativeWeight { row: usize, column: usize, value: f64 },

    /// The matrix is not positive definite to working accuracy.
    #[error(
        "the posterior precision ({size} x {size}) is not positive definite: pivot {pivot} is not \
         positive"
    )]
    NotPositiveDefinite { size: usize, pivot: usize, least: f64 },

    /// A direction of the precision is not known: its curvature is lost in rounding, and the prior
    /// is too small to take its place.
    #[error(
        "the least eigenvalue of the posterior precision ({size} x {size}, scaled to a unit diagonal) \
         is {eigenvalue:.1e}, not clearly above its rounding of {rounding:.1e}"
    )]
    LostInRounding {
        size: usize,
        prior: f64,
        eigenvalue: f64,
        rounding: f64,
        directions: usize,
        least: f64,
    },

    /// A factor does not reproduce the matrix that it was made from.
    #[error(
        "the Cholesky factor failed its check: residual {residual:.3e} in row {row} exceeds the \
         rounding bound {bound:.3e}"
    )]
    FactorCheck { row: usize, residual: f64, bound: f64 },

    /// An eigendecomposition did not converge.
    #[error("the eigendecomposition of a {size} x {size} matrix did not converge")]
    Eigen { size: usize },

    /// The system refused an allocation.
    #[error("could not allocate {bytes} bytes for {what}")]
    Allocation { what: &'static str, bytes: usize },

    /// A file does not hold what it should.
    #[error("the file does not hold what it should: {reason}")]
    Stored { reason: String },

    /// Work was stopped from outside.
    #[error("interrupted")]
    Interrupted,

    /// A call was broken off, and something else was asked for before it was made again.
    #[error(
        "a call that changes this curvature was interrupted: make the same call again, with the same \
         arguments, and it goes on from there"
    )]
    Incomplete,

    /// The curvature was given up when it was factored in place.
    #[error("this curvature was given up when it was factored; make a new pass over the data")]
    Consumed,

    /// The worker threads could not be started.
    #[error("could not start the worker threads: {reason}")]
    Threads { reason: String },
}

impl CoreError {
    /// `Ok` when `found == expected`, else [`CoreError::Shape`].
    pub fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Shape { what, expected, found }) }
    }
}

/// Checks that every prior precision is positive and finite.
///
/// # Errors
/// [`CoreError::PriorPrecision`] with the first offending index.
pub fn check_prior_precision(values: &[f64]) -> Result<(), CoreError> {
    match values.iter().position(|v| !(v.is_finite() && *v > 0.0)) {
        None => Ok(()),
        Some(index) => Err(CoreError::PriorPrecision { index, value: values[index] }),
    }
}
