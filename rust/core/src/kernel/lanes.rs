//! Rows packed for the kernel, widened to float64 on the way in.
//!
//! Rows come in chunks of [`DEPTH`]; in a chunk, each eight columns lie together, row after row. One
//! copy serves as both operands of a symmetric product.

use std::ops::Range;

use crate::error::CoreError;
use crate::input::Real;
use crate::kernel::{LANE, Lane, Square, Target, add_products};
use crate::storage::buffer::Buffer;
use crate::storage::stored::{Content, Source};
use crate::threads::Driver;

/// Rows of a chunk: 16 KiB for each eight columns, half of a first-level cache.
pub const DEPTH: usize = 256;

/// Lanes of the left operand that are used for all of the right one while they are in the
/// second-level cache.
const SLICE: usize = 48;

/// Rows in lanes, in memory that is there before they come.
#[derive(Debug)]
pub struct Lanes {
    what: &'static str,
    columns: usize,
    rows: usize,
    data: Buffer,
}

impl Lanes {
    /// No rows, and room for none.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn new(what: &'static str, columns: usize) -> Result<Self, CoreError> {
        Ok(Self { what, columns, rows: 0, data: Buffer::zeros(what, 0)? })
    }

    /// Adds the rows held, under a name of their own.
    pub fn add_to<'a>(&'a self, name: &str, content: &mut Content<'a>) {
        if self.rows > 0 {
            let len = Self::bytes_of(self.columns, self.rows) / size_of::<f64>();
            content.array("", name, &self.data[..len]);
        }
    }

    /// The rows of a file; none where it holds none.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn of_source(
        what: &'static str,
        columns: usize,
        rows: usize,
        name: &str,
        source: &Source,
    ) -> Result<Self, CoreError> {
        let len = Self::bytes_of(columns, rows) / size_of::<f64>();
        let data = match rows {
            0 => Buffer::zeros(what, 0)?,
            _ => source.array(what, "", name, len)?,
        };
        Ok(Self { what, columns, rows, data })
    }

    /// Makes room for `capacity` rows in all; those that are held stay.
    ///
    /// # Errors
    /// [`CoreError::Allocation`], before anything is changed.
    pub fn reserve(&mut self, capacity: usize) -> Result<(), CoreError> {
        if capacity > self.capacity() {
            let len = Self::bytes_of(self.columns, capacity) / size_of::<f64>();
            let mut data = Buffer::zeros(self.what, len)?;
            data[..self.data.len()].copy_from_slice(&self.data);
            self.data = data;
        }
        Ok(())
    }

    /// Gives back the memory, which must hold no rows.
    ///
    /// # Errors
    /// None: an empty buffer can always be had.
    pub fn release(&mut self) -> Result<(), CoreError> {
        if self.rows == 0 {
            self.data = Buffer::zeros(self.what, 0)?;
        }
        Ok(())
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
        let tasks = self
            .data
            .chunks_exact_mut(chunk)
            .enumerate()
            .map(|(c, lanes)| (c, start.max(c * DEPTH)..end.min((c + 1) * DEPTH), lanes))
            .filter(|(_, rows, _)| !rows.is_empty());
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

/// An operand: lanes of `depth` places, one every `stride` of them.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    /// From the first on.
    pub lanes: &'a [Lane],
    /// From one to the next.
    pub stride: usize,
    /// Places of each that count.
    pub depth: usize,
    /// How many there are.
    pub count: usize,
}

impl<'a> Panels<'a> {
    fn get(self, index: usize) -> &'a [Lane] {
        &self.lanes[index * self.stride..][..self.depth]
    }
}

/// Where squares of a product go: `(i, j)` at `start + i * down + j * across`.
#[derive(Clone, Copy)]
pub struct Layout {
    /// From one panel of the left operand to the next.
    pub down: usize,
    /// From one panel of the right operand to the next.
    pub across: usize,
}

/// Adds `sign` times the products of all panels of `left` with those of `right`; with `lower` those
/// above the diagonal are left out, both operands beginning at the same place.
pub fn add_block_products(
    left: Panels<'_>,
    right: Panels<'_>,
    lower: bool,
    sign: f64,
    squares: &mut [Square],
    layout: Layout,
) {
    for start in (0..left.count).step_by(SLICE) {
        let end = left.count.min(start + SLICE);
        for j in 0..right.count {
            let first = if lower { start.max(j) } else { start };
            if first < end {
                let from = first * layout.down + j * layout.across;
                let to = (end - 1) * layout.down + j * layout.across + 1;
                let target = Target { squares: &mut squares[from..to], step: layout.down, sign };
                let lanes = &left.lanes[first * left.stride..];
                add_products(lanes, left.stride, right.get(j), LANE, target);
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
        let mut lanes = Lanes::new("test", columns).unwrap();
        for part in values.chunks(77 * columns) {
            lanes.reserve(lanes.rows() + 77).unwrap();
            lanes.push(part, &mut driver).unwrap();
        }
        assert_eq!((lanes.rows(), lanes.capacity(), lanes.width()), (rows, 768, 3));
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
