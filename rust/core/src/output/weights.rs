//! The output curvature of points, as weights of symmetric products: `H_cd = Phi^T diag(w_cd) Phi`.

use crate::error::CoreError;
use crate::output::contrast::{Factors, factors, softmax};
use crate::storage::blocks::Pattern;
use crate::storage::buffer::Buffer;

/// What the outputs of points are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Logits of a softmax over `C` classes; blocks are the `C (C - 1) / 2` of its contrast.
    Softmax,
    /// Curvatures of `C` outputs that do not interact; one block each.
    Independent,
}

/// The weight of each row in one product.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'a> {
    /// As they are.
    Plane(&'a [f64]),
    /// The product of two.
    Product(&'a [f64], &'a [f64]),
}

impl Weights<'_> {
    /// The weight of row `n`.
    pub fn get(self, n: usize) -> f64 {
        match self {
            Self::Plane(values) => values[n],
            Self::Product(left, right) => left[n] * right[n],
        }
    }
}

impl Outputs {
    /// Fewest outputs there can be.
    pub fn least(self) -> usize {
        if self == Self::Softmax { 2 } else { 1 }
    }

    /// Outputs of the basis in which the curvature is kept, and which of their pairs interact.
    pub fn basis(self, num_outputs: usize) -> (usize, Pattern) {
        match self {
            Self::Softmax => (num_outputs.saturating_sub(1), Pattern::Full),
            Self::Independent => (num_outputs, Pattern::Diagonal),
        }
    }

    /// Numbers a point from which the weights of all pairs follow.
    pub fn planes(self, num_outputs: usize) -> usize {
        match self {
            Self::Softmax => num_outputs.saturating_sub(1).saturating_mul(3),
            Self::Independent => num_outputs,
        }
    }
}

/// Planes of factors over the rows of a panel, so that the weights of a pair lie together.
#[derive(Debug)]
pub struct Planes {
    kind: Outputs,
    num_outputs: usize,
    rows: usize,
    values: Buffer,
    /// One point's probabilities and factors.
    point: Buffer,
}

impl Planes {
    /// Room for `rows` points.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn new(kind: Outputs, num_outputs: usize, rows: usize) -> Result<Self, CoreError> {
        let planes = kind.planes(num_outputs);
        let values = Buffer::zeros("output curvatures", rows.saturating_mul(planes))?;
        let point = Buffer::zeros("output curvatures", num_outputs + planes)?;
        Ok(Self { kind, num_outputs, rows, values, point })
    }

    /// Bytes that such planes take.
    pub fn bytes_of(kind: Outputs, num_outputs: usize, rows: usize) -> usize {
        let planes = kind.planes(num_outputs);
        rows.saturating_mul(planes).saturating_add(num_outputs + planes).saturating_mul(8)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.values.nbytes() + self.point.nbytes()
    }

    /// Takes the outputs of points, row by row.
    pub fn fill(&mut self, outputs: &[f64]) {
        let c = self.num_outputs;
        let (p, point) = self.point.split_at_mut(c);
        for (row, outputs) in outputs.chunks_exact(c).enumerate() {
            match self.kind {
                Outputs::Independent => point.copy_from_slice(outputs),
                Outputs::Softmax => {
                    p.copy_from_slice(outputs);
                    softmax(p);
                    let (low, rest) = point.split_at_mut(c - 1);
                    let (high, diagonal) = rest.split_at_mut(c - 1);
                    factors(p, &mut Factors { low, high, diagonal });
                }
            }
            for (plane, value) in point.iter().enumerate() {
                self.values[plane * self.rows + row] = *value;
            }
        }
    }

    /// The weights of outputs `(c, d)` of the basis, `c >= d`, for the first `rows` points.
    pub fn pair(&self, c: usize, d: usize, rows: usize) -> Weights<'_> {
        let plane = |index: usize| &self.values[index * self.rows..][..rows];
        let k = self.num_outputs - 1;
        match self.kind {
            Outputs::Independent => Weights::Plane(plane(c)),
            Outputs::Softmax if c == d => Weights::Plane(plane(2 * k + c)),
            Outputs::Softmax => Weights::Product(plane(d), plane(k + c)),
        }
    }
}
