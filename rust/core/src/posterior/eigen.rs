//! The eigendecomposition of a symmetric matrix, in memory that can be refused.

use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{MatMut, MatRef, Par};

use crate::buffer::Buffer;
use crate::error::CoreError;

/// Eigenvectors, column by column, and eigenvalues of a positive semi-definite matrix.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Eigen`].
pub fn eigen(matrix: &[f64], dim: usize) -> Result<(Buffer, Vec<f64>), CoreError> {
    let (par, params) = (Par::Seq, Default::default());
    let scratch = self_adjoint_evd_scratch::<f64>(dim, ComputeEigenvectors::Yes, par, params);
    let mut memory = MemBuffer::try_new(scratch).map_err(|_| CoreError::Allocation {
        what: "the eigendecomposition",
        bytes: scratch.unaligned_bytes_required(),
    })?;
    let mut vectors = Buffer::zeros("the eigenvectors", dim * dim)?;
    let mut values = vec![0.0; dim];
    self_adjoint_evd(
        MatRef::from_column_major_slice(matrix, dim, dim),
        DiagMut::from_slice_mut(&mut values),
        Some(MatMut::from_column_major_slice_mut(&mut vectors, dim, dim)),
        par,
        MemStack::new(&mut memory),
        params,
    )
    .map_err(|_| CoreError::Eigen { size: dim })?;
    // The matrix is a sum of squares: what rounding leaves below zero is zero.
    for value in &mut values {
        *value = value.max(0.0);
    }
    Ok((vectors, values))
}
