//! Tile-packed lower triangle: storage of a symmetric `n x n` matrix in half the memory.

use crate::error::CoreError;
use crate::kernel::lanes::{Layout, Panels};
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::storage::stored::{Content, Source, misfit};

/// Largest tile edge. Chosen by measurement (PERFORMANCE.md): deep enough for the product to run at
/// full speed, small enough that the diagonal tile, which one thread factors, is next to nothing.
pub const MAX_TILE: usize = 256;

/// Least tile edge of a matrix that needs several: between the two the speed is the same.
const MIN_TILE: usize = 224;

/// The lower triangle of a symmetric matrix as square tiles.
///
/// Tile `(i, j)` with `i >= j` holds `nb * nb` contiguous values, 64-byte aligned, as the kernel reads
/// them: eight rows at a time, column by column, so that element `(r, c)` of a tile is place `r % 8`
/// of lane `(r / 8) * nb + c`. Tiles lie row by row. Padding is zero. Above the diagonal of a diagonal
/// tile a factor holds zeros, and what a matrix holds there is not live.
///
/// `nb` belongs to the matrix, not to the program: another [`MAX_TILE`] reads an older matrix.
#[derive(Debug)]
pub struct TileMatrix {
    n: usize,
    nb: usize,
    data: Buffer,
}

/// Tile edge and number of tile rows for an `n x n` matrix: of the edges near the largest one, the
/// one that takes the least memory. A multiple of 8 keeps every column of a tile on a cache line.
pub(crate) fn grid(n: usize) -> (usize, usize) {
    let edge = |count: usize| n.div_ceil(count).max(1).next_multiple_of(8);
    let padded =
        |count: &usize| count.saturating_mul(count + 1).saturating_mul(edge(*count).pow(2));
    let least = n.div_ceil(MAX_TILE).max(1);
    // In a large matrix padding is next to nothing, whatever the edge.
    let counts = (least..least + 16).take_while(|&count| count == least || edge(count) >= MIN_TILE);
    let nb = edge(counts.min_by_key(padded).unwrap_or(least));
    (nb, n.div_ceil(nb).max(1))
}

impl TileMatrix {
    /// A zero matrix; `4 n^2` bytes and a little padding.
    ///
    /// # Errors
    /// [`CoreError::Allocation`] when the memory is not there.
    pub fn zeros(what: &'static str, n: usize) -> Result<Self, CoreError> {
        let (nb, _) = grid(n);
        Ok(Self { n, nb, data: Buffer::zeros(what, Self::len_of(n))? })
    }

    fn len_of(n: usize) -> usize {
        let (nb, count) = grid(n);
        // Halved before it is multiplied: one of the two is even.
        let (even, odd) = if count % 2 == 0 { (count, count + 1) } else { (count + 1, count) };
        (even / 2).saturating_mul(odd).saturating_mul(nb * nb)
    }

    /// Bytes that a matrix of edge `n` takes.
    pub fn bytes_of(n: usize) -> usize {
        Self::len_of(n).saturating_mul(size_of::<f64>())
    }

    /// A copy of `self`.
    ///
    /// # Errors
    /// [`CoreError::Allocation`] when the memory is not there.
    pub fn try_clone(&self, what: &'static str) -> Result<Self, CoreError> {
        let mut copy = Self::zeros(what, self.n)?;
        copy.data.copy_from_slice(&self.data);
        Ok(copy)
    }

    /// Adds what it is made of.
    pub fn add_to<'a>(&'a self, prefix: &str, content: &mut Content<'a>) {
        content.size(prefix, "edge", self.n);
        content.size(prefix, "tile_edge", self.nb);
        content.array(prefix, "tiles", &self.data);
    }

    /// The matrix of a file.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn of_source(what: &'static str, prefix: &str, source: &Source) -> Result<Self, CoreError> {
        let (n, nb) = (source.size(prefix, "edge")?, source.size(prefix, "tile_edge")?);
        if n == 0 || nb == 0 || !nb.is_multiple_of(LANE) || nb > MAX_TILE {
            return Err(misfit("tile_edge", nb, "rows"));
        }
        let count = n.div_ceil(nb);
        let len = (count.saturating_mul(count + 1) / 2).saturating_mul(nb * nb);
        Ok(Self { n, nb, data: source.array(what, prefix, "tiles", len)? })
    }

    /// Edge of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Edge of a tile.
    pub fn nb(&self) -> usize {
        self.nb
    }

    /// Number of tile rows.
    pub fn num_tile_rows(&self) -> usize {
        self.n.div_ceil(self.nb)
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.data.nbytes()
    }

    /// Rows of the matrix in tile row `i`.
    pub fn rows_in(&self, i: usize) -> usize {
        self.nb.min(self.n - i * self.nb)
    }

    /// Lanes of eight rows in tile row `i`.
    pub fn panels_in(&self, i: usize) -> usize {
        self.rows_in(i).div_ceil(LANE)
    }

    /// Lanes of one tile.
    pub fn tile_lanes(&self) -> usize {
        self.nb * self.nb / LANE
    }

    /// Tile `(i, j)`, `i >= j`.
    pub fn tile(&self, i: usize, j: usize) -> &[Lane] {
        let size = self.tile_lanes();
        &self.data.as_chunks::<LANE>().0[(i * (i + 1) / 2 + j) * size..][..size]
    }

    /// Tiles `(i, 0) .. (i, i)`, one after the other.
    pub fn row(&self, i: usize) -> &[Lane] {
        let size = self.tile_lanes();
        &self.data.as_chunks::<LANE>().0[i * (i + 1) / 2 * size..][..(i + 1) * size]
    }

    /// Tile `(i, j)`, `i >= j`, as panels of eight rows for the kernel.
    pub fn panels(&self, i: usize, j: usize) -> Panels<'_> {
        panels_of(self.tile(i, j), self.nb, self.rows_in(i), self.rows_in(j))
    }

    /// The tiles of every row, `(i, tiles (i, 0) .. (i, i))`, each row exclusive.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = (usize, &mut [Lane])> {
        self.split_rows(0).1
    }

    /// The tiles of all rows above tile row `first`, one after the other, and those of every row from
    /// there on as [`TileMatrix::rows_mut`] gives them.
    pub fn split_rows(
        &mut self,
        first: usize,
    ) -> (&mut [Lane], impl Iterator<Item = (usize, &mut [Lane])>) {
        let (size, count) = (self.tile_lanes(), self.num_tile_rows());
        let all = self.data.as_chunks_mut::<LANE>().0;
        let (above, mut rest) = all.split_at_mut(first * (first + 1) / 2 * size);
        let rows = (first..count).map(move |i| {
            let (row, tail) = std::mem::take(&mut rest).split_at_mut((i + 1) * size);
            rest = tail;
            (i, row)
        });
        (above, rows)
    }

    /// Every element `(i, i)`.
    pub fn diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.n).map(|i| self.get(i, i))
    }

    /// Adds `values[i]` to element `(i, i)`.
    pub fn add_to_diagonal(&mut self, values: &[f64]) {
        let (nb, size) = (self.nb, self.tile_lanes());
        for (t, row) in self.rows_mut() {
            let tile = &mut row[t * size..];
            for (i, value) in values[t * nb..].iter().take(nb).enumerate() {
                tile[i / LANE * nb + i][i % LANE] += value;
            }
        }
    }

    /// Adds `factor` times a matrix of the same edge.
    pub fn add_scaled(&mut self, other: &Self, factor: f64) {
        self.data.iter_mut().zip(&*other.data).for_each(|(sum, value)| *sum += factor * value);
    }

    /// Element `(i, j)` of the symmetric matrix.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        let (i, j) = (i.max(j), i.min(j));
        let (row, column) = (i % self.nb, j % self.nb);
        self.tile(i / self.nb, j / self.nb)[row / LANE * self.nb + column][row % LANE]
    }
}

/// A tile of edge `nb` with its live rows and columns, as panels of eight rows for the kernel.
pub fn panels_of(tile: &[Lane], nb: usize, rows: usize, columns: usize) -> Panels<'_> {
    Panels { lanes: tile, stride: nb, depth: columns, count: rows.div_ceil(LANE) }
}

/// How the squares of a tile of edge `nb` lie.
pub fn layout_of(nb: usize) -> Layout {
    Layout { down: nb / LANE, across: 1 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use faer::Mat;

    /// Tiles from the lower triangle of a dense matrix.
    pub(crate) fn from_dense(dense: &Mat<f64>) -> TileMatrix {
        let n = dense.nrows();
        let mut tiles = TileMatrix::zeros("test", n).unwrap();
        let nb = tiles.nb();
        for (i, row) in tiles.rows_mut() {
            for (k, lane) in row.iter_mut().enumerate() {
                let (j, panel, c) = (k / (nb * nb / LANE), k / nb % (nb / LANE), k % nb);
                for (place, value) in lane.iter_mut().enumerate() {
                    let (r, c) = (i * nb + panel * LANE + place, j * nb + c);
                    if r < n && c <= r {
                        *value = dense[(r, c)];
                    }
                }
            }
        }
        tiles
    }

    #[test]
    fn grid_covers_the_matrix_with_little_padding() {
        for n in [1, 7, 8, 255, 256, 257, 512, 513, 1_000, 5_130, 10_800, 20_490] {
            let (nb, count) = grid(n);
            assert!(nb * count >= n && nb * (count - 1) < n, "{n}: {nb} x {count}");
            assert!(nb <= MAX_TILE && nb % 8 == 0);
        }
        let full = 5_130.0 * 5_130.0 * 8.0;
        let packed = TileMatrix::bytes_of(5_130) as f64;
        assert!(packed < 0.53 * full);
        assert_eq!(grid(10_800), (240, 45));
    }

    #[test]
    fn elements_and_diagonal_round_trip() {
        let dense = Mat::from_fn(300, 300, |i, j| (i.max(j) * 1_000 + i.min(j)) as f64);
        let mut tiles = from_dense(&dense);
        assert!((0..300).all(|i| (0..300).all(|j| tiles.get(i, j) == dense[(i, j)])));
        tiles.add_to_diagonal(&vec![0.5; 300]);
        assert_eq!(tiles.get(299, 299), dense[(299, 299)] + 0.5);
        assert_eq!(tiles.diagonal().nth(150).unwrap(), dense[(150, 150)] + 0.5);
        assert_eq!(tiles.try_clone("copy").unwrap().get(299, 0), dense[(299, 0)]);
    }
}
