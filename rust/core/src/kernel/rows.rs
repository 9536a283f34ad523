//! Products of rows that lie anywhere, long or many: they are packed into lanes piece by piece.
//!
//! Pieces of an operand are packed again for every task that needs them, which costs a few per cent
//! of the product; no second copy of the rows is held.

use std::ops::Range;

use crate::error::CoreError;
use crate::kernel::lanes::{DEPTH, Layout, Panels, add_block_products};
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::tiles::{TileMatrix, layout_of};
use crate::threads::Driver;

/// Rows of either operand of a task.
const EDGE: usize = 128;

/// Columns after which an interrupt can be noticed.
const SPAN: usize = 1 << 15;

/// Columns of a combination that one task makes.
const STRIP: usize = 512;

/// Some of the columns, in stretches of at most [`DEPTH`] that follow one another.
#[derive(Debug)]
pub struct Columns {
    runs: Vec<Range<usize>>,
}

impl Columns {
    /// All of them.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn all(count: usize) -> Result<Self, CoreError> {
        let runs = (0..count).step_by(DEPTH).map(|start| start..count.min(start + DEPTH));
        Ok(Self { runs: list::collect("stretches of columns", runs)? })
    }

    /// Those with a label.
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn labelled(labels: &[u32], label: u32) -> Result<Self, CoreError> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (index, _) in labels.iter().enumerate().filter(|(_, own)| **own == label) {
            match runs.last_mut() {
                Some(run) if run.end == index && run.len() < DEPTH => run.end += 1,
                _ => list::extend("stretches of columns", &mut runs, Some(index..index + 1))?,
            }
        }
        Ok(Self { runs })
    }

    /// Stretches of at most [`DEPTH`] columns together, up to about [`SPAN`] columns at once.
    fn spans(&self) -> Result<Vec<Vec<&[Range<usize>]>>, CoreError> {
        let (mut spans, mut pieces, mut total) = (Vec::new(), Vec::new(), 0);
        let mut rest = &self.runs[..];
        while !rest.is_empty() {
            let mut depth = 0;
            let fits = |run: &&Range<usize>| {
                depth += run.len();
                depth <= DEPTH
            };
            let (piece, tail) = rest.split_at(rest.iter().take_while(fits).count());
            list::extend("pieces of columns", &mut pieces, [piece])?;
            (total, rest) = (total + DEPTH, tail);
            if total >= SPAN {
                list::extend("spans of columns", &mut spans, [std::mem::take(&mut pieces)])?;
                total = 0;
            }
        }
        if !pieces.is_empty() {
            list::extend("spans of columns", &mut spans, [pieces])?;
        }
        Ok(spans)
    }
}

/// Packs some columns of rows, eight rows to a lane, [`DEPTH`] lanes apart; returns how many columns.
fn pack(
    rows: &[&[f64]],
    piece: &[Range<usize>],
    weights: Option<&[f64]>,
    lanes: &mut [Lane],
) -> usize {
    for (group, lanes) in rows.chunks(LANE).zip(lanes.chunks_exact_mut(DEPTH)) {
        let own: [&[f64]; LANE] = std::array::from_fn(|k| *group.get(k).unwrap_or(&group[0]));
        let mut rest = lanes;
        for run in piece {
            let (lanes, tail) = rest.split_at_mut(run.len());
            let own = own.map(|row| &row[run.clone()]);
            for (place, lane) in lanes.iter_mut().enumerate() {
                *lane = own.map(|row| row[place]);
            }
            if let Some(weights) = weights {
                for (lane, weight) in lanes.iter_mut().zip(&weights[run.clone()]) {
                    *lane = lane.map(|value| value * weight);
                }
            }
            // The first row stood in where the last lane is not full.
            if group.len() < LANE {
                for lane in lanes {
                    lane[group.len()..].fill(0.0);
                }
            }
            rest = tail;
        }
    }
    piece.iter().map(ExactSizeIterator::len).sum()
}

/// Adds `X diag(w) X^T` over some columns of rows `X` to the lower triangle of a matrix.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn add_gram(
    rows: &[&[f64]],
    columns: &Columns,
    weights: Option<&[f64]>,
    matrix: &mut TileMatrix,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let (n, nb, size) = (matrix.n(), matrix.nb(), matrix.tile_lanes());
    let packed = nb / LANE * DEPTH;
    for span in columns.spans()? {
        let tasks = matrix.rows_mut().flat_map(|(i, row)| {
            row.chunks_exact_mut(size).enumerate().map(move |(j, tile)| (i, j, tile))
        });
        let flops = 2.0 * (span.len() * DEPTH) as f64 * (nb * nb) as f64;
        driver.for_each(tasks, flops, 2 * packed * LANE, |(i, j, tile), scratch| {
            let (left, right) = scratch.as_chunks_mut::<LANE>().0.split_at_mut(packed);
            let own = |t: usize| &rows[t * nb..n.min((t + 1) * nb)];
            let squares = tile.as_chunks_mut::<LANE>().0;
            for piece in &span {
                let depth = pack(own(i), piece, weights, left);
                pack(own(j), piece, None, right);
                let panels = |lanes, t: usize| Panels {
                    lanes,
                    stride: DEPTH,
                    depth,
                    count: own(t).len().div_ceil(LANE),
                };
                let (left, right) = (panels(&*left, i), panels(&*right, j));
                add_block_products(left, right, i == j, 1.0, squares, layout_of(nb));
            }
        })?;
    }
    Ok(())
}

/// `Y diag(w) X^T` into `out`, row by row, for rows `Y` and `X` of the same length.
///
/// # Errors
/// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn products(
    y: &[&[f64]],
    x: &[&[f64]],
    weights: Option<&[f64]>,
    out: &mut [f64],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    CoreError::check_len("products of rows", y.len() * x.len(), out.len())?;
    let columns = Columns::all(x.first().map_or(0, |row| row.len()))?;
    let (down, packed, block) = (EDGE / LANE, EDGE / LANE * DEPTH, EDGE * EDGE);
    let across = x.len().div_ceil(EDGE);
    let mut blocks = Buffer::zeros("products of rows", y.len().div_ceil(EDGE) * across * block)?;
    let own = |rows: &[&[f64]], t: usize| t * EDGE..rows.len().min((t + 1) * EDGE);
    for span in columns.spans()? {
        let flops = 2.0 * (span.len() * DEPTH * block) as f64;
        let tasks = blocks.chunks_exact_mut(block).enumerate();
        driver.for_each(tasks, flops, 2 * packed * LANE, |(k, block), scratch| {
            let (left, right) = scratch.as_chunks_mut::<LANE>().0.split_at_mut(packed);
            let (some_y, some_x) = (&y[own(y, k / across)], &x[own(x, k % across)]);
            let squares = block.as_chunks_mut::<LANE>().0.as_chunks_mut::<LANE>().0;
            for piece in &span {
                let depth = pack(some_x, piece, weights, left);
                pack(some_y, piece, None, right);
                let panels = |lanes, rows: &[&[f64]]| Panels {
                    lanes,
                    stride: DEPTH,
                    depth,
                    count: rows.len().div_ceil(LANE),
                };
                let (left, right) = (panels(&*left, some_x), panels(&*right, some_y));
                let layout = Layout { down: 1, across: down };
                add_block_products(left, right, false, 1.0, squares, layout);
            }
        })?;
    }
    let lines = out.chunks_exact_mut(x.len().max(1)).enumerate();
    driver.for_each(lines, x.len() as f64, 0, |(row, line), _| {
        for (k, part) in line.chunks_mut(EDGE).enumerate() {
            let block = &blocks[(row / EDGE * across + k) * block..][..block];
            let squares = block.as_chunks::<LANE>().0.as_chunks::<LANE>().0;
            let squares = &squares[row % EDGE / LANE * down..];
            for (values, square) in part.chunks_mut(LANE).zip(squares) {
                values.copy_from_slice(&square[row % LANE][..values.len()]);
            }
        }
    })
}

/// Adds `diag(w)` times combinations of rows `X` to rows of `out`: `out[s] += w * sum_m y[s, m] x[m]`.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn add_combinations(
    y: &[&[f64]],
    x: &[&[f64]],
    weights: impl Fn(usize) -> f64 + Sync,
    out: &mut [f64],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let length = x.first().map_or(1, |row| row.len());
    let (down, packed) = (STRIP / LANE, STRIP / LANE * DEPTH);
    let parts = out.chunks_mut(length * EDGE).zip(y.chunks(EDGE));
    for (out, y) in parts {
        let across = y.len().div_ceil(LANE);
        let mut lines =
            list::collect("rows", out.chunks_exact_mut(length).map(|l| l.chunks_mut(STRIP)))?;
        let strips = (0..length.div_ceil(STRIP)).map(|strip| {
            (strip * STRIP, lines.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>())
        });
        let sums = down * across * LANE * LANE;
        let scratch = sums + (packed + across * DEPTH) * LANE;
        let flops = 2.0 * (x.len() * STRIP * y.len()) as f64;
        driver.for_each(strips, flops, scratch, |(first, mut lines), scratch| {
            let (sums, operands) = scratch.split_at_mut(sums);
            let (left, right) = operands.as_chunks_mut::<LANE>().0.split_at_mut(packed);
            let squares = sums.as_chunks_mut::<LANE>().0.as_chunks_mut::<LANE>().0;
            squares.fill([[0.0; LANE]; LANE]);
            let width = length.min(first + STRIP) - first;
            for (start, rows) in (0..).step_by(DEPTH).zip(x.chunks(DEPTH)) {
                for (depth, row) in rows.iter().enumerate() {
                    let own = &row[first..first + width];
                    for (group, values) in own.chunks(LANE).enumerate() {
                        left[group * DEPTH + depth][..values.len()].copy_from_slice(values);
                    }
                }
                let piece = start..start + rows.len();
                let depth = pack(y, &[piece], None, right);
                let panels = |lanes, count| Panels { lanes, stride: DEPTH, depth, count };
                let (left, right) = (panels(&*left, width.div_ceil(LANE)), panels(&*right, across));
                let layout = Layout { down: 1, across: down };
                add_block_products(left, right, false, 1.0, squares, layout);
            }
            for (s, line) in lines.iter_mut().enumerate() {
                let squares = &squares[s / LANE * down..];
                for (column, value) in line.iter_mut().enumerate() {
                    let sum = squares[column / LANE][s % LANE][column % LANE];
                    *value += weights(first + column) * sum;
                }
            }
        })?;
    }
    Ok(())
}

/// Columns of rows `X`, each contiguous, into `out`.
///
/// # Errors
/// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn transpose(
    x: &[&[f64]],
    columns: Range<usize>,
    out: &mut [f64],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    CoreError::check_len("columns of rows", columns.len() * x.len(), out.len())?;
    let tasks = out.chunks_mut(x.len().max(1) * LANE).enumerate();
    driver.for_each(tasks, (x.len() * LANE) as f64, 0, |(group, out), _| {
        let first = columns.start + group * LANE;
        for (m, row) in x.iter().enumerate() {
            for (target, value) in out[m..].iter_mut().step_by(x.len()).zip(&row[first..]) {
                *target = *value;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    fn value(i: usize, j: usize, salt: usize) -> f64 {
        ((i * 7919 + j * 104_729 + salt * 31 + i * j) % 2003) as f64 / 1000.0 - 1.0
    }

    fn matrix(rows: usize, columns: usize, salt: usize) -> Vec<f64> {
        (0..rows * columns).map(|k| value(k / columns, k % columns, salt)).collect()
    }

    fn lines(values: &[f64], columns: usize) -> Vec<&[f64]> {
        values.chunks_exact(columns).collect()
    }

    #[test]
    fn every_product_agrees_with_its_sum_and_with_any_number_of_threads() {
        for (m, q, p) in [(1, 1, 1), (9, 3, 300), (130, 140, 40_000), (270, 5, 513)] {
            let (x, y, w) = (matrix(m, p, 1), matrix(q, p, 2), matrix(1, p, 3));
            let (x, y, a) = (lines(&x, p), lines(&y, p), matrix(q, m, 4));
            let labels: Vec<u32> = (0..p).map(|k| u32::from(k % 3 == 0 || k > p / 2)).collect();
            let bound = 4.0 * (p + m) as f64 * f64::EPSILON * (p + m) as f64;
            let mut bits = Vec::new();
            for threads in 1..=3 {
                let workers = Workers::new(threads).unwrap();
                let mut go = |_| true;
                let mut driver = Driver::new(&workers, &mut go);
                let mut cross = vec![0.0; q * m];
                products(&y, &x, Some(&w), &mut cross, &mut driver).unwrap();
                let mut gram = TileMatrix::zeros("test", m).unwrap();
                for label in [0, 1] {
                    let columns = Columns::labelled(&labels, label).unwrap();
                    add_gram(&x, &columns, Some(&w), &mut gram, &mut driver).unwrap();
                }
                let mut combined = matrix(q, p, 5);
                add_combinations(&lines(&a, m), &x, |k| w[k], &mut combined, &mut driver).unwrap();
                for (i, j) in [(0, 0), (q - 1, m - 1), (q / 2, m / 3)] {
                    let dense: f64 = (0..p).map(|k| y[i][k] * w[k] * x[j][k]).sum();
                    assert!((cross[i * m + j] - dense).abs() <= bound);
                    let (i, j) = (m - 1 - i.min(m - 1), j);
                    let dense: f64 = (0..p).map(|k| x[i][k] * w[k] * x[j][k]).sum();
                    assert!((gram.get(i, j) - dense).abs() <= bound);
                }
                for (s, k) in [(0, 0), (q - 1, p - 1), (q / 2, p / 2), (0, p.min(512) - 1)] {
                    let sum: f64 = (0..m).map(|i| a[s * m + i] * x[i][k]).sum();
                    assert!((combined[s * p + k] - value(s, k, 5) - w[k] * sum).abs() <= bound);
                }
                let columns = p / 3..p;
                let mut turned = vec![0.0; columns.len() * m];
                transpose(&x, columns.clone(), &mut turned, &mut driver).unwrap();
                for (c, k) in columns.enumerate() {
                    assert!((0..m).all(|i| turned[c * m + i] == x[i][k]));
                }
                cross.extend(combined);
                cross.extend(gram.diagonal());
                bits.push(cross.into_iter().map(f64::to_bits).collect::<Vec<_>>());
            }
            assert!(bits.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
