//! The eigendecomposition of a symmetric matrix, in memory that can be refused.
//!
//! `M = U diag(s) U^T` in three steps: Householder's reduction to a tridiagonal matrix, that matrix's
//! own decomposition by divide and conquer (both faer's, each on one thread while this one looks for
//! an interrupt), and the reflections applied to strips of its eigenvectors, side by side.

use faer::diag::{DiagMut, DiagRef};
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::evd::tridiag::{tridiag_in_place, tridiag_in_place_scratch};
use faer::linalg::evd::{
    ComputeEigenvectors, self_adjoint_evd_scratch, tridiagonal_self_adjoint_evd,
};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::qr::no_pivoting::factor::recommended_block_size;
use faer::{Conj, MatMut, MatRef, Par};

use crate::error::CoreError;
use crate::kernel::dot::dot;
use crate::storage::blocks::SymmetricBlocks;
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::threads::Driver;

/// Eigenvectors that one task applies the reflections to.
const STRIP: usize = 96;

/// `M = U diag(s) U^T`, of a positive semi-definite matrix.
#[derive(Debug)]
pub struct Eigen {
    /// `U`, column by column.
    pub vectors: Buffer,
    /// `s`, ascending.
    pub values: Buffer,
    /// The Frobenius norm of `U diag(s) U^T - M`, and of what the sum that made `M` may have lost.
    pub rounding: f64,
}

impl Eigen {
    /// `U`.
    pub fn basis(&self) -> MatRef<'_, f64> {
        MatRef::from_column_major_slice(&self.vectors, self.dim(), self.dim())
    }

    /// Edge of the matrix.
    pub fn dim(&self) -> usize {
        self.values.len()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.vectors.nbytes() + self.values.nbytes()
    }
}

/// `diag(root) M diag(root)` of a packed symmetric matrix, column by column.
///
/// # Errors
/// [`CoreError::Allocation`].
pub fn in_metric(packed: &[f64], root: &[f64]) -> Result<Buffer, CoreError> {
    let dim = root.len();
    let mut matrix = Buffer::zeros("a matrix of products of features", dim * dim)?;
    for (j, column) in matrix.chunks_exact_mut(dim).enumerate() {
        SymmetricBlocks::copy_column(packed, dim, j, 0, column);
        for (value, own) in column.iter_mut().zip(root) {
            *value *= own * root[j];
        }
    }
    Ok(matrix)
}

/// The eigendecomposition of a matrix, column by column, which is overwritten.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Eigen`], [`CoreError::Interrupted`].
pub fn eigen(mut matrix: Buffer, dim: usize, driver: &mut Driver<'_>) -> Result<Eigen, CoreError> {
    let mut vectors = Buffer::zeros("the eigenvectors", dim * dim)?;
    let mut values = Buffer::zeros("the eigenvalues", dim)?;
    // Signs: E |dM v|^2 is the squared Frobenius norm.
    let signs = |i: usize| if i.wrapping_mul(0x9E37_79B9) >> 7 & 1 == 0 { 1.0 } else { -1.0 };
    let mut v = Buffer::zeros("a vector of signs", dim)?;
    v.iter_mut().enumerate().for_each(|(i, v)| *v = signs(i));
    let mut before = Buffer::zeros("a product", dim)?;
    before.iter_mut().zip(matrix.chunks_exact(dim)).for_each(|(y, column)| *y = dot(column, &v));
    let trace: f64 = (0..dim).map(|i| matrix[i * (dim + 1)]).sum();
    if dim == 1 {
        (vectors[0], values[0]) = (1.0, matrix[0].max(0.0));
        return Ok(Eigen { vectors, values, rounding: f64::EPSILON * trace });
    }

    let block = recommended_block_size::<f64>(dim, dim);
    let mut reflections = Buffer::zeros("Householder reflections", block * (dim - 1))?;
    let mut memory =
        memory_for(tridiag_in_place_scratch::<f64>(dim, Par::Seq, Default::default()))?;
    let (matrix, reflections) = driver.aside(4.0 / 3.0 * (dim as f64).powi(3), move || {
        tridiag_in_place(
            MatMut::from_column_major_slice_mut(&mut matrix, dim, dim),
            MatMut::from_column_major_slice_mut(&mut reflections, block, dim - 1),
            Par::Seq,
            MemStack::new(&mut memory),
            Default::default(),
        );
        (matrix, reflections)
    })?;

    let (yes, params) = (ComputeEigenvectors::Yes, Default::default());
    let mut memory = memory_for(self_adjoint_evd_scratch::<f64>(dim, yes, Par::Seq, params))?;
    let mut diagonals = Buffer::zeros("a tridiagonal matrix", 2 * dim)?;
    for i in 0..dim {
        diagonals[i] = matrix[i * (dim + 1)];
        diagonals[dim + i] = if i + 1 < dim { matrix[i * (dim + 1) + 1] } else { 0.0 };
    }
    let (mut vectors, mut values, done) =
        driver.aside(4.0 / 3.0 * (dim as f64).powi(3), move || {
            let (diagonal, beside) = diagonals.split_at(dim);
            let done = tridiagonal_self_adjoint_evd(
                DiagRef::from_slice(diagonal),
                DiagRef::from_slice(beside),
                DiagMut::from_slice_mut(&mut values),
                Some(MatMut::from_column_major_slice_mut(&mut vectors, dim, dim)),
                Par::Seq,
                MemStack::new(&mut memory),
                Default::default(),
            );
            (vectors, values, done)
        })?;
    done.map_err(|_| CoreError::Eigen { size: dim })?;

    let basis =
        MatRef::from_column_major_slice(&matrix, dim, dim).submatrix(1, 0, dim - 1, dim - 1);
    let reflections = MatRef::from_column_major_slice(&reflections, block, dim - 1);
    let scratch =
        apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(dim - 1, block, STRIP);
    let mut tasks = Vec::new();
    list::reserve("strips of eigenvectors", &mut tasks, dim.div_ceil(STRIP))?;
    for strip in vectors.chunks_mut(STRIP * dim) {
        tasks.push((strip, memory_for(scratch)?));
    }
    driver.for_each(tasks, (2 * dim * dim * STRIP) as f64, 0, |(strip, mut memory), _| {
        let columns = strip.len() / dim;
        let strip = MatMut::from_column_major_slice_mut(strip, dim, columns);
        apply_block_householder_sequence_on_the_left_in_place_with_conj(
            basis,
            reflections,
            Conj::No,
            strip.subrows_mut(1, dim - 1),
            Par::Seq,
            MemStack::new(&mut memory),
        );
    })?;
    // The matrix is a sum of squares: what rounding leaves below zero is zero.
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    let mut residual = before;
    for (vector, value) in vectors.chunks_exact(dim).zip(&*values) {
        let weight = value * dot(vector, &v);
        residual.iter_mut().zip(vector).for_each(|(r, u)| *r -= weight * u);
    }
    let rounding = dot(&residual, &residual).sqrt().max(f64::EPSILON * trace);
    Ok(Eigen { vectors, values, rounding })
}

fn memory_for(scratch: StackReq) -> Result<MemBuffer, CoreError> {
    MemBuffer::try_new(scratch).map_err(|_| CoreError::Allocation {
        what: "the eigendecomposition",
        bytes: scratch.unaligned_bytes_required(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    #[test]
    fn the_matrix_comes_back_from_orthonormal_vectors() {
        for dim in [1, 2, 5, 97, 200] {
            let value = |i: usize, j: usize| ((i * 31 + j * 17) % 23) as f64 / 11.0 - 1.0;
            let gram =
                |i: usize, j: usize| (0..dim + 3).map(|n| value(n, i) * value(n, j)).sum::<f64>();
            let mut bits: Option<Vec<u64>> = None;
            for threads in 1..=3 {
                let workers = Workers::new(threads).unwrap();
                let mut go = |_| true;
                let mut driver = Driver::new(&workers, &mut go);
                let mut matrix = Buffer::zeros("test", dim * dim).unwrap();
                (0..dim * dim).for_each(|k| matrix[k] = gram(k / dim, k % dim));
                let found = eigen(matrix, dim, &mut driver).unwrap();
                let u = |i: usize, k: usize| found.vectors[k * dim + i];
                let size = *found.values.last().unwrap();
                let tolerance = 20.0 * dim as f64 * f64::EPSILON;
                assert!(found.rounding < tolerance * size * dim as f64);
                for i in 0..dim {
                    for j in 0..dim {
                        let back: f64 = (0..dim).map(|k| u(i, k) * found.values[k] * u(j, k)).sum();
                        assert!((back - gram(i, j)).abs() < tolerance * size);
                        let one: f64 = (0..dim).map(|k| u(k, i) * u(k, j)).sum();
                        assert!((one - f64::from(u8::from(i == j))).abs() < tolerance);
                    }
                }
                let own: Vec<u64> = found.vectors.iter().map(|v| v.to_bits()).collect();
                assert_eq!(bits.get_or_insert_with(|| own.clone()), &own);
            }
        }
    }

    #[test]
    fn an_interrupt_is_heard_in_every_step() {
        let workers = Workers::new(2).unwrap();
        let dim = 40;
        for k in 1..20 {
            let mut calls = 0;
            let mut monitor = |_| {
                calls += 1;
                calls != k
            };
            let mut driver = Driver::new(&workers, &mut monitor).with_round(1.0);
            let mut matrix = Buffer::zeros("test", dim * dim).unwrap();
            (0..dim).for_each(|i| matrix[i * (dim + 1)] = 1.0 + i as f64);
            if let Err(error) = eigen(matrix, dim, &mut driver) {
                assert_eq!(error, CoreError::Interrupted);
            } else {
                assert!(k > 3 && calls < k);
                return;
            }
        }
        panic!("never came to an end");
    }
}
