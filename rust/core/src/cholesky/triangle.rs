//! Solves with one diagonal tile, by products alone: its diagonal blocks are inverted once.
//!
//! Right-hand sides come eight to a lane, row after row, which is also how the rows of a tile lie: the
//! step of the factorisation that solves `X L^T = A` is the same function.

use crate::kernel::lanes::{Layout, Panels, add_block_products};
use crate::kernel::{LANE, Lane, Target, add_products, add_products_transposed};

/// Edge of the diagonal blocks that are inverted.
pub const BLOCK: usize = 64;

/// Lanes that hold the inverses of the diagonal blocks of a tile of edge `nb`.
pub const fn inverse_lanes(nb: usize) -> usize {
    nb / LANE * BLOCK
}

/// A diagonal tile of a factor, with the inverses of its diagonal blocks.
#[derive(Clone, Copy)]
pub struct Triangle<'a> {
    /// The tile.
    pub tile: &'a [Lane],
    /// For each eight rows the columns of their block's inverse, [`BLOCK`] lanes.
    pub inverses: &'a [Lane],
    /// Edge of the tile, and from one eight of right-hand sides to the next.
    pub nb: usize,
    /// Live rows.
    pub rows: usize,
}

/// Inverts the diagonal blocks of the lower-triangular tile.
pub fn invert_blocks(tile: &[Lane], nb: usize, rows: usize, inverses: &mut [Lane]) {
    for first in (0..rows).step_by(BLOCK) {
        let end = rows.min(first + BLOCK);
        let panels = &mut inverses[first / LANE * BLOCK..];
        for column in first..end {
            // Forward substitution with a column of the identity, eight rows at a time.
            for panel in first / LANE..end.div_ceil(LANE) {
                let own = &tile[panel * nb..];
                let mut sums = [0.0; LANE];
                for n in column..panel * LANE {
                    let x = panels[(n / LANE - first / LANE) * BLOCK + column - first][n % LANE];
                    for (sum, l) in sums.iter_mut().zip(&own[n]) {
                        *sum -= l * x;
                    }
                }
                let mut x = [0.0; LANE];
                for place in 0..LANE.min(end - panel * LANE) {
                    let row = panel * LANE + place;
                    let mut value = sums[place] + f64::from(u8::from(row == column));
                    for (before, x) in x.iter().enumerate().take(place) {
                        value -= own[panel * LANE + before][place] * x;
                    }
                    x[place] = if row < column { 0.0 } else { value / own[row][place] };
                }
                panels[(panel - first / LANE) * BLOCK + column - first] = x;
            }
        }
    }
}

impl Triangle<'_> {
    /// Values that [`Triangle::down`] and [`Triangle::up`] work in for `groups` lanes of right-hand
    /// sides.
    pub const fn scratch_len(groups: usize) -> usize {
        groups * BLOCK * LANE
    }

    /// `x := L^-1 x`; `x` holds lanes of right-hand sides, `nb` rows each.
    pub fn down(self, x: &mut [Lane], scratch: &mut [f64]) {
        for first in (0..self.rows).step_by(BLOCK) {
            let (groups, block) = self.take_block(x, first, scratch);
            let panels = |lanes, stride, depth, count| Panels { lanes, stride, depth, count };
            let right = panels(&self.tile[first / LANE * self.nb..], self.nb, first, block / LANE);
            let squares = scratch.as_chunks_mut::<LANE>().0.as_chunks_mut::<LANE>().0;
            let layout = Layout { down: BLOCK / LANE, across: 1 };
            let left = panels(&x[..], self.nb, first, groups);
            add_block_products(left, right, false, -1.0, squares, layout);
            let scratch = scratch.as_chunks::<LANE>().0;
            for panel in 0..block / LANE {
                let inverse = &self.inverses[(first / LANE + panel) * BLOCK..];
                let target = self.emptied(x, first / LANE + panel, groups);
                // The inverse is lower triangular as well.
                let right = &inverse[..(panel + 1) * LANE];
                add_products(scratch, BLOCK, right, LANE, target);
            }
        }
    }

    /// `x := L^-T x`, as [`Triangle::down`].
    pub fn up(self, x: &mut [Lane], scratch: &mut [f64]) {
        let tile = self.tile.as_chunks::<LANE>().0;
        let inverses = self.inverses.as_chunks::<LANE>().0;
        let step = self.nb / LANE;
        let live = self.rows.next_multiple_of(LANE);
        for first in (0..self.rows).step_by(BLOCK).rev() {
            let (groups, block) = self.take_block(x, first, scratch);
            let end = first + block;
            let squares = scratch.as_chunks_mut::<LANE>().0.as_chunks_mut::<LANE>().0;
            for panel in 0..if end < live { block / LANE } else { 0 } {
                let column = first / LANE + panel;
                let right =
                    &tile[end / LANE * step + column..][..=((live - end) / LANE - 1) * step];
                let to = (groups - 1) * (BLOCK / LANE) + panel + 1;
                let target =
                    Target { squares: &mut squares[panel..to], step: BLOCK / LANE, sign: -1.0 };
                add_products_transposed(&x[end..], self.nb, right, step, target);
            }
            let scratch = scratch.as_chunks::<LANE>().0;
            for panel in 0..block / LANE {
                let across = BLOCK / LANE;
                let from = (first / LANE + panel) * across + panel;
                let right = &inverses[from..][..=(block / LANE - panel - 1) * across];
                let target = self.emptied(x, first / LANE + panel, groups);
                add_products_transposed(&scratch[panel * LANE..], BLOCK, right, across, target);
            }
        }
    }

    /// Copies a block of rows of `x`; returns how many lanes of right-hand sides and rows it has.
    fn take_block(self, x: &[Lane], first: usize, scratch: &mut [f64]) -> (usize, usize) {
        let block = BLOCK.min((self.rows - first).next_multiple_of(LANE));
        let scratch = scratch.as_chunks_mut::<LANE>().0;
        let groups = x.chunks_exact(self.nb);
        let count = groups.len();
        for (group, copy) in groups.zip(scratch.chunks_exact_mut(BLOCK)) {
            copy[..block].copy_from_slice(&group[first..first + block]);
        }
        (count, block)
    }

    /// Eight rows of all right-hand sides, set to zero.
    fn emptied(self, x: &mut [Lane], panel: usize, groups: usize) -> Target<'_> {
        let step = self.nb / LANE;
        let squares = &mut x.as_chunks_mut::<LANE>().0[panel..=(groups - 1) * step + panel];
        squares.iter_mut().step_by(step).for_each(|square| *square = [[0.0; LANE]; LANE]);
        Target { squares, step, sign: 1.0 }
    }
}
