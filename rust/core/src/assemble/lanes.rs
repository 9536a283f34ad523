//! Rows packed for the kernel, widened to float64 on the way in.
//!
//! Rows come in chunks of [`DEPTH`]; in a chunk, each eight columns lie together, row after row. One
//! copy serves as both operands of a symmetric product.

use std::ops::Range;

use crate::assemble::Real;
use crate::assemble::kernel::{LANE, Lane, Square, add_products};
use crate::buffer::Buffer;
use crate::error::CoreError;
use crate::threads::Driver;

/// Rows of a chunk: 16 KiB for each eight columns, half of a first-level cache.
pub const DEPTH: usize = 256;

/// Lanes of the left operand that are used for all of the right one while they are in the
/// second-level cache.
const SLICE: usize = 48;

/// Up to a fixed number of rows, in lanes.
#[derive(Debug)]
pub struct Lanes {
    columns: usize,
    rows: usize,
    data: Buffer,
}

impl Lanes {
    /// Room for `capacity` rows.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn new(what: &'static str, columns: usize, capacity: usize) -> Result<Self, CoreError> {
        let len = Self::bytes_of(columns, capacity) / size_of::<f64>();
        Ok(Self { columns, rows: 0, data: Buffer::zeros(what, len)? })
    }

    /// Bytes that such lanes take.
    pub fn bytes_of(columns: usize, capacity: usize) -> usize {
        let lane = DEPTH * size_of::<Lane>();
        capacity.div_ceil(DEPTH).saturating_mul(columns.div_ceil(LANE)).saturating_mul(lane)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.data.nbytes()
    }

    /// Number of rows held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that there is room for.
    pub fn capacity(&self) -> usize {
        self.data.len() / (self.columns.div_ceil(LANE) * LANE).max(1)
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of lanes of a row.
    pub fn width(&self) -> usize {
        self.columns.div_ceil(LANE)
    }

    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.rows = 0;
    }

    /// Takes rows, for which there must be room.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`].
    pub fn push<T: Real>(
        &mut self,
        values: &[T],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (columns, start) = (self.columns, self.rows);
        let end = start + values.len() / columns;
        let chunk = self.width() * DEPTH * LANE;
        let tasks: Vec<_> = self
            .data
            .chunks_exact_mut(chunk)
            .enumerate()
            .map(|(c, lanes)| (c, start.max(c * DEPTH)..end.min((c + 1) * DEPTH), lanes))
            .filter(|(_, rows, _)| !rows.is_empty())
            .collect();
        let flops = (DEPTH * columns) as f64;
        driver.for_each(tasks, flops, 0, |(c, rows, lanes), _| {
            let lanes = lanes.as_chunks_mut::<LANE>().0;
            let own = &values[(rows.start - start) * columns..(rows.end - start) * columns];
            for (n, row) in (rows.start - c * DEPTH..).zip(own.chunks_exact(columns)) {
                for (block, part) in row.chunks(LANE).enumerate() {
                    for (target, value) in lanes[block * DEPTH + n].iter_mut().zip(part) {
                        *target = (*value).into();
                    }
                }
            }
        })?;
        self.rows = end;
        Ok(())
    }

    /// The rows of each chunk, and its lanes: those of column block `k` start at `k * DEPTH`.
    pub fn chunks(&self) -> impl Iterator<Item = (Range<usize>, &[Lane])> {
        let chunk = self.width() * DEPTH * LANE;
        self.data.chunks_exact(chunk.max(1)).enumerate().map_while(|(c, lanes)| {
            let rows = c * DEPTH..self.rows.min((c + 1) * DEPTH);
            (!rows.is_empty()).then_some((rows, lanes.as_chunks::<LANE>().0))
        })
    }
}

/// Adds to `sum` the products of the lanes `left` of a chunk with those of `right`, all of `depth`
/// rows and laid out as in a chunk. Square `(i, j)` is `sum[j * left.len() + i]`; with `lower` those
/// above the diagonal are left out, `right` standing for the lanes from `left.start` on.
pub fn add_block_products(
    chunk: &[Lane],
    left: Range<usize>,
    right: &[Lane],
    depth: usize,
    lower: bool,
    sum: &mut [Square],
) {
    let height = left.len();
    for start in left.clone().step_by(SLICE) {
        let end = left.end.min(start + SLICE);
        for (j, right) in right.chunks_exact(DEPTH).enumerate() {
            let first = if lower { start.max(left.start + j) } else { start };
            if first < end {
                let out = &mut sum[j * height..][first - left.start..end - left.start];
                add_products(&chunk[first * DEPTH..], DEPTH, &right[..depth], out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    #[test]
    fn rows_come_back_from_their_lanes() {
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let (columns, rows) = (19, 600);
        let values: Vec<f32> = (0..rows * columns).map(|k| k as f32).collect();
        let mut lanes = Lanes::new("test", columns, 700).unwrap();
        assert_eq!((lanes.capacity(), lanes.width()), (768, 3));
        for part in values.chunks(77 * columns) {
            lanes.push(part, &mut driver).unwrap();
        }
        assert_eq!(lanes.rows(), rows);
        let mut seen = 0;
        for (range, chunk) in lanes.chunks() {
            for (n, row) in range.enumerate() {
                for column in 0..24 {
                    let expected =
                        if column < columns { values[row * columns + column] } else { 0.0 };
                    let lane = chunk[column / LANE * DEPTH + n];
                    assert_eq!(lane[column % LANE], f64::from(expected));
                }
                seen += 1;
            }
        }
        assert_eq!(seen, rows);
    }
}
