//! A weighted symmetric product `Phi^T diag(w) Phi`, added to a packed block strip by strip.
//!
//! A strip is a few lanes of columns. They are scaled by `w` in a piece that stays in cache, never as
//! a scaled copy of the features, and multiplied with all lanes on or below the diagonal.

use std::ops::Range;

use crate::assemble::kernel::LANE;
use crate::assemble::lanes::{DEPTH, Lanes, add_block_products};
use crate::blocks::{column_start, even_width};

/// Most lanes of a strip (PERFORMANCE.md).
const STRIP: usize = 8;

/// Some lanes of a product, and their columns of the packed lower triangle.
pub struct Strip<'b> {
    lanes: Range<usize>,
    columns: &'b mut [f64],
}

/// A packed block, cut into strips.
pub fn strips<'b>(features: &Lanes, block: &'b mut [f64]) -> Vec<Strip<'b>> {
    let (dim, width) = (features.columns(), features.width());
    let most = even_width(width, STRIP);
    let mut rest = block;
    (0..width)
        .step_by(most)
        .map(|first| {
            let lanes = first..width.min(first + most);
            let start = |lane: usize| column_start(dim, dim.min(lane * LANE));
            let (columns, tail) =
                std::mem::take(&mut rest).split_at_mut(start(lanes.end) - start(lanes.start));
            rest = tail;
            Strip { lanes, columns }
        })
        .collect()
}

/// Values that [`add_strip`] works in: the scaled lanes of a chunk, and the sums.
pub fn scratch_len(features: &Lanes) -> usize {
    even_width(features.width(), STRIP) * LANE * (DEPTH + features.width() * LANE)
}

/// Adds the strip of the lower triangle of `Phi^T diag(w w2) Phi`.
pub fn add_strip(
    features: &Lanes,
    weights: &[f64],
    second: Option<&[f64]>,
    strip: Strip<'_>,
    scratch: &mut [f64],
) {
    let Strip { lanes, columns } = strip;
    let below = lanes.start..features.width();
    let (scaled, sums) = scratch.as_chunks_mut::<LANE>().0.split_at_mut(lanes.len() * DEPTH);
    let sums = &mut sums.as_chunks_mut::<LANE>().0[..lanes.len() * below.len()];
    sums.fill([[0.0; LANE]; LANE]);
    for (rows, chunk) in features.chunks() {
        for (lane, target) in lanes.clone().zip(scaled.chunks_exact_mut(DEPTH)) {
            for ((n, target), source) in rows.clone().zip(target).zip(&chunk[lane * DEPTH..]) {
                let w = second.map_or(weights[n], |second| weights[n] * second[n]);
                *target = source.map(|value| w * value);
            }
        }
        add_block_products(chunk, below.clone(), scaled, rows.len(), true, sums);
    }
    let mut rest = columns;
    let mut height = features.columns() - lanes.start * LANE;
    for j in 0..height.min(lanes.len() * LANE) {
        let (column, tail) = std::mem::take(&mut rest).split_at_mut(height);
        (rest, height) = (tail, height - 1);
        let squares = &sums[j / LANE * below.len()..];
        for (target, i) in column.iter_mut().zip(j..) {
            *target += squares[i / LANE][j % LANE][i % LANE];
        }
    }
}
