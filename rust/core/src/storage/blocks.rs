//! The quarter-size form of a head's curvature: symmetric `D' x D'` blocks, one a pair of outputs.

use crate::error::CoreError;
use crate::storage::buffer::Buffer;
use crate::storage::stored::Source;

/// Which pairs of outputs `(c, d)`, `c >= d`, have a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every pair: `K (K + 1) / 2` blocks, ordered `(0,0), (1,0), (1,1), (2,0), ...`
    Full,
    /// Pairs `(c, c)` alone: outputs do not interact.
    Diagonal,
}

impl Pattern {
    /// The pairs in storage order.
    pub fn pairs(self, outputs: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let first = move |c: usize| if self == Self::Full { 0 } else { c };
        (0..outputs).flat_map(move |c| (first(c)..=c).map(move |d| (c, d)))
    }

    /// How many pairs there are.
    pub fn num_blocks(self, outputs: usize) -> usize {
        match self {
            Self::Full => outputs.saturating_mul(outputs.saturating_add(1)) / 2,
            Self::Diagonal => outputs,
        }
    }
}

/// Symmetric blocks of edge `dim`, each the columns of its lower triangle one after the other.
#[derive(Debug)]
pub struct SymmetricBlocks {
    dim: usize,
    outputs: usize,
    pattern: Pattern,
    data: Buffer,
}

/// Where column `j` of a packed lower triangle of edge `dim` starts (its first element is `(j, j)`).
pub fn column_start(dim: usize, j: usize) -> usize {
    j * dim - j * j.saturating_sub(1) / 2
}

/// Width of the pieces when `total` columns are cut into as few as possible of at most `most`, all
/// of nearly one width: 513 columns in pieces of 128 would leave a piece of one column.
pub fn even_width(total: usize, most: usize) -> usize {
    total.div_ceil(total.div_ceil(most).max(1)).max(1)
}

/// Values in one packed block.
pub fn packed_len(dim: usize) -> usize {
    dim.saturating_mul(dim.saturating_add(1)) / 2
}

impl SymmetricBlocks {
    /// Zero blocks; `4 D'^2` bytes each.
    ///
    /// # Errors
    /// [`CoreError::Allocation`] when the memory is not there.
    pub fn zeros(
        what: &'static str,
        outputs: usize,
        dim: usize,
        pattern: Pattern,
    ) -> Result<Self, CoreError> {
        let len = pattern.num_blocks(outputs).saturating_mul(packed_len(dim));
        Ok(Self { dim, outputs, pattern, data: Buffer::zeros(what, len)? })
    }

    /// The blocks of a file.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn of_source(
        what: &'static str,
        outputs: usize,
        dim: usize,
        pattern: Pattern,
        source: &Source,
    ) -> Result<Self, CoreError> {
        let len = pattern.num_blocks(outputs).saturating_mul(packed_len(dim));
        Ok(Self { dim, outputs, pattern, data: source.array(what, "", "blocks", len)? })
    }

    /// Bytes that such blocks take.
    pub fn bytes_of(outputs: usize, dim: usize, pattern: Pattern) -> usize {
        pattern.num_blocks(outputs).saturating_mul(packed_len(dim)).saturating_mul(size_of::<f64>())
    }

    /// Edge of a block.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of outputs `K`.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        self.pattern.num_blocks(self.outputs)
    }

    /// Which pairs have a block.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.data.nbytes()
    }

    /// The packed block of outputs `(c, d)`, `c >= d`.
    pub fn block(&self, c: usize, d: usize) -> &[f64] {
        let index = match self.pattern {
            Pattern::Full => c * (c + 1) / 2 + d,
            Pattern::Diagonal => c,
        };
        let len = packed_len(self.dim);
        &self.data[index * len..(index + 1) * len]
    }

    /// Gives back the memory of all blocks of outputs below `c`, which are not read again.
    pub fn release_below(&mut self, c: usize) {
        let blocks = self.pattern.num_blocks(c.min(self.outputs));
        self.data.release_front(blocks * packed_len(self.dim));
    }

    /// All values, block after block.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.data
    }

    /// All values, block after block.
    pub fn values(&self) -> &[f64] {
        &self.data
    }

    /// Every block with its pair, each exclusive.
    pub fn blocks_mut(&mut self) -> impl Iterator<Item = ((usize, usize), &mut [f64])> {
        let len = packed_len(self.dim);
        self.pattern.pairs(self.outputs).zip(self.data.chunks_exact_mut(len.max(1)))
    }

    /// Copies rows `first .. first + out.len()` of column `j` of the symmetric block into `out`.
    pub fn copy_column(block: &[f64], dim: usize, j: usize, first: usize, out: &mut [f64]) {
        let above = j.saturating_sub(first).min(out.len());
        let (upper, lower) = out.split_at_mut(above);
        for (offset, value) in upper.iter_mut().enumerate() {
            let i = first + offset;
            *value = block[column_start(dim, i) + j - i];
        }
        if !lower.is_empty() {
            let start = column_start(dim, j) + (first + above - j);
            lower.copy_from_slice(&block[start..start + lower.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_columns_are_contiguous_and_complete() {
        for dim in [1, 2, 5, 17] {
            let mut next = 0;
            for j in 0..dim {
                assert_eq!(column_start(dim, j), next);
                next += dim - j;
            }
            assert_eq!(next, packed_len(dim));
        }
    }

    #[test]
    fn copy_column_reads_the_symmetric_matrix() {
        let dim = 7;
        let value = |i: usize, j: usize| (10 * i.max(j) + i.min(j)) as f64;
        let block: Vec<f64> = (0..dim).flat_map(|j| (j..dim).map(move |i| value(i, j))).collect();
        for j in 0..dim {
            for first in 0..dim {
                for len in 0..=dim - first {
                    let mut out = vec![0.0; len];
                    SymmetricBlocks::copy_column(&block, dim, j, first, &mut out);
                    assert!((0..len).all(|k| out[k] == value(first + k, j)), "{j} {first} {len}");
                }
            }
        }
    }

    #[test]
    fn pieces_are_even() {
        assert_eq!([0, 1, 128, 129, 513].map(|total| even_width(total, 128)), [1, 1, 128, 65, 103]);
    }

    #[test]
    fn pairs_index_their_blocks() {
        let mut blocks = SymmetricBlocks::zeros("test", 4, 3, Pattern::Full).unwrap();
        for (index, ((c, d), block)) in blocks.blocks_mut().enumerate() {
            assert_eq!(index, c * (c + 1) / 2 + d);
            block.fill(index as f64);
        }
        assert_eq!(blocks.block(3, 1)[0], 7.0);
        assert_eq!(blocks.nbytes(), SymmetricBlocks::bytes_of(4, 3, Pattern::Full));
    }
}
