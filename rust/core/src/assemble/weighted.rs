//! A weighted symmetric product `Phi^T diag(w) Phi`, added to a packed block strip by strip.
//!
//! A strip is a few lanes of columns. They are scaled by `w` in a piece that stays in cache, never as
//! a scaled copy of the features, and multiplied with all lanes on or below the diagonal. A last lane
//! of a few columns (a bias, after features by the power of two) is the right operand instead, which
//! costs as much as it has columns.

use std::ops::Range;

use crate::kernel::lanes::{DEPTH, Lanes, Layout, Panels, add_block_products};
use crate::kernel::{LANE, Target, add_products};
use crate::output::weights::Weights;
use crate::storage::blocks::{column_start, even_width};

/// Most lanes of a strip (PERFORMANCE.md).
const STRIP: usize = 8;

/// Columns of a last lane from which on it pays to treat it as all others.
const RAGGED: usize = 5;

/// Some lanes of a product, and their columns of the packed lower triangle.
pub struct Strip<'b> {
    lanes: Range<usize>,
    columns: &'b mut [f64],
}

/// A packed block, cut into strips.
pub fn strips<'b>(
    features: &Lanes,
    block: &'b mut [f64],
) -> impl Iterator<Item = Strip<'b>> + use<'b> {
    let (dim, width) = (features.columns(), features.width());
    let most = even_width(width, STRIP);
    let mut rest = block;
    (0..width).step_by(most).map(move |first| {
        let lanes = first..width.min(first + most);
        let start = |lane: usize| column_start(dim, dim.min(lane * LANE));
        let (columns, tail) =
            std::mem::take(&mut rest).split_at_mut(start(lanes.end) - start(lanes.start));
        rest = tail;
        Strip { lanes, columns }
    })
}

/// How many strips there are.
pub fn num_strips(features: &Lanes) -> usize {
    features.width().div_ceil(even_width(features.width(), STRIP))
}

/// Values that [`add_strip`] works in: the scaled lanes of a chunk, and the sums.
pub fn scratch_len(features: &Lanes) -> usize {
    even_width(features.width(), STRIP) * LANE * (DEPTH + (features.width() + 1) * LANE)
        + LANE * LANE
}

/// Lanes that are treated alike: all, but for a last one of few columns.
fn regular_lanes(features: &Lanes) -> usize {
    let live = features.columns() % LANE;
    if (1..RAGGED).contains(&live) { features.width() - 1 } else { features.width() }
}

/// Adds the strip of the lower triangle of `Phi^T diag(w) Phi`.
pub fn add_strip(features: &Lanes, weights: Weights<'_>, strip: Strip<'_>, scratch: &mut [f64]) {
    let Strip { lanes, columns } = strip;
    let (width, regular) = (features.width(), regular_lanes(features));
    let (first, own) = (lanes.start, lanes.end.min(regular).saturating_sub(lanes.start));
    let height = regular.saturating_sub(first);
    let (scaled, sums) = scratch.as_chunks_mut::<LANE>().0.split_at_mut(lanes.len() * DEPTH);
    // The lower part of the regular lanes; each of them with the last lane; that with itself.
    let sums = &mut sums.as_chunks_mut::<LANE>().0[..=own * height + own];
    sums.fill([[0.0; LANE]; LANE]);
    let (inner, rest) = sums.split_at_mut(own * height);
    let (last, corner) = rest.split_at_mut(own);
    for (rows, chunk) in features.chunks() {
        for (lane, target) in lanes.clone().zip(scaled.chunks_exact_mut(DEPTH)) {
            for ((n, target), source) in rows.clone().zip(target).zip(&chunk[lane * DEPTH..]) {
                let w = weights.get(n);
                *target = source.map(|value| w * value);
            }
        }
        let depth = rows.len();
        let panels = |lanes, count| Panels { lanes, stride: DEPTH, depth, count };
        if own > 0 {
            let left = panels(&chunk[first * DEPTH..], height);
            let layout = Layout { down: 1, across: height };
            add_block_products(left, panels(scaled, own), true, 1.0, inner, layout);
        }
        if regular < width {
            let right = &chunk[regular * DEPTH..][..depth];
            let live = features.columns() - regular * LANE;
            let target = |squares| Target { squares, step: 1, sign: 1.0 };
            add_products(scaled, DEPTH, right, live, target(&mut *last));
            if lanes.end == width {
                add_products(&scaled[own * DEPTH..], DEPTH, right, live, target(&mut *corner));
            }
        }
    }
    let mut rest = columns;
    let mut from = first * LANE;
    while from < features.columns().min(lanes.end * LANE) {
        let (column, tail) = std::mem::take(&mut rest).split_at_mut(features.columns() - from);
        let (j, place) = (from / LANE - first, from % LANE);
        let (above, below) =
            column.split_at_mut((regular * LANE).saturating_sub(from).min(column.len()));
        for (target, i) in above.iter_mut().zip(from - first * LANE..) {
            *target += inner[j * height + i / LANE][place][i % LANE];
        }
        let skip = from.saturating_sub(regular * LANE);
        let square = if j < own { &last[j] } else { &corner[0] };
        for (target, lane) in below.iter_mut().zip(&square[skip..]) {
            *target += lane[place];
        }
        (rest, from) = (tail, from + 1);
    }
}
