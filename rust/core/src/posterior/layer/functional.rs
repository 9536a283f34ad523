//! Covariance of the outputs at new points, `J Sigma J^T = [a^T Sigma_cd a]_cd`: no Jacobian.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::assemble::panel::widen;
use crate::assemble::{Real, check_matrix};
use crate::blocks::{Pattern, SymmetricBlocks, column_start, even_width};
use crate::buffer::Buffer;
use crate::error::CoreError;
use crate::posterior::layer::{Basis, LayerPosterior};
use crate::threads::Driver;

/// Points, and columns of a block, that one product takes together.
const POINTS: usize = 512;
const STRIP: usize = 128;
/// Points that one task of triangular solves takes together.
const SOLVED: usize = 64;

impl LayerPosterior {
    /// `J Sigma J^T` for each point: `features` is `B x D'`, `out` is `B x C x C`.
    ///
    /// Many points use blocks of the covariance, which are cached for later calls (`B D'^2 / 2`
    /// flops a pair of outputs); few points use triangular solves from the first row that is not
    /// zero.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Allocation`],
    /// [`CoreError::Interrupted`].
    pub fn functional_covariance<T: Real>(
        &self,
        features: &[T],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let c = self.num_outputs;
        self.functional(features, out, c * c, driver, |a, b, value, point| {
            point[a * c + b] = value;
            point[b * c + a] = value;
        })
    }

    /// The diagonals of [`LayerPosterior::functional_covariance`]: `out` is `B x C`.
    ///
    /// # Errors
    /// As [`LayerPosterior::functional_covariance`].
    pub fn functional_variance<T: Real>(
        &self,
        features: &[T],
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.functional(features, out, self.num_outputs, driver, |a, b, value, point| {
            if a == b {
                point[a] = value;
            }
        })
    }

    fn functional<T: Real>(
        &self,
        features: &[T],
        out: &mut [f64],
        per_point: usize,
        driver: &mut Driver<'_>,
        store: impl Fn(usize, usize, f64, &mut [f64]) + Sync,
    ) -> Result<(), CoreError> {
        let points = features.len() / self.dim;
        check_matrix("features", features, points, self.dim)?;
        CoreError::check_len("the functional covariance", points * per_point, out.len())?;
        let mut wide = Buffer::zeros("features", features.len())?;
        widen(features, &mut wide);
        let (k, pattern) = self.shape();
        let pairs = pattern.pairs(k);
        let mut planes = Buffer::zeros("covariances of the basis", points * pairs.len())?;
        if self.solves_are_cheaper(points) {
            self.by_solves(&wide, &mut planes, driver)?;
        } else {
            let blocks = self.inverse(driver)?;
            by_blocks(&blocks, &wide, &mut planes, driver)?;
        }
        let tasks: Vec<_> = out.chunks_exact_mut(per_point).enumerate().collect();
        let flops = (pairs.len() * self.num_outputs) as f64 * 4.0;
        driver.for_each(
            tasks,
            flops,
            2 * self.num_outputs * self.num_outputs,
            |(point, out), scratch| {
                let value = |pair: usize| planes[pair * points + point];
                out.fill(0.0);
                match &self.basis {
                    Basis::Identity => {
                        for (pair, (c, d)) in pairs.iter().enumerate() {
                            store(*c, *d, value(pair), out);
                        }
                    }
                    Basis::Contrast { q, prior } => {
                        let a = &wide[point * self.dim..(point + 1) * self.dim];
                        let common: f64 = a.iter().zip(prior).map(|(a, t)| a * a / t).sum();
                        self.rotate(
                            q,
                            common / self.num_outputs as f64,
                            &pairs,
                            value,
                            scratch,
                            |c, d, v| store(c, d, v, out),
                        );
                    }
                }
            },
        )
    }

    /// `Q V' Q^T + common` for one point.
    fn rotate(
        &self,
        q: &[f64],
        common: f64,
        pairs: &[(usize, usize)],
        value: impl Fn(usize) -> f64,
        scratch: &mut [f64],
        mut store: impl FnMut(usize, usize, f64),
    ) {
        let (classes, k) = (self.num_outputs, self.num_outputs - 1);
        let (full, left) = scratch.split_at_mut(classes * classes);
        for (pair, (c, d)) in pairs.iter().enumerate() {
            full[c * k + d] = value(pair);
            full[d * k + c] = value(pair);
        }
        for a in 0..classes {
            for d in 0..k {
                left[a * k + d] = (0..k).map(|c| q[a * k + c] * full[c * k + d]).sum();
            }
            for b in 0..=a {
                let v: f64 = (0..k).map(|d| left[a * k + d] * q[b * k + d]).sum();
                store(a, b, v + common);
            }
        }
    }

    /// Whether triangular solves for these points cost less than half of making the cache.
    fn solves_are_cheaper(&self, points: usize) -> bool {
        if self.cached_bytes() > 0 {
            return false;
        }
        let (k, pattern) = self.shape();
        let (points, n) = (points as f64, self.factors[0].n() as f64);
        let solve = match pattern {
            Pattern::Full => points * k as f64 * n * n / 3.0,
            Pattern::Diagonal => points * k as f64 * n * n,
        };
        solve < 0.5 * self.factors.len() as f64 * 2.0 / 3.0 * n * n * n
    }

    fn by_solves(
        &self,
        features: &[f64],
        planes: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (k, pattern) = self.shape();
        let (dim, pairs) = (self.dim, pattern.pairs(k));
        let points = features.len() / dim;
        let start = |c: usize| if self.factors.len() == 1 { c * dim } else { 0 };
        let factor =
            |c: usize| if self.factors.len() == 1 { &self.factors[0] } else { &self.factors[c] };
        let heights: Vec<usize> =
            (0..k).map(|c| factor(c).n() - factor(c).tile_floor(start(c))).collect();
        let ends: Vec<usize> = heights
            .iter()
            .scan(0, |end, h| {
                *end += h;
                Some(*end)
            })
            .collect();
        let mut results = Buffer::zeros("covariances of the basis", planes.len())?;
        let tasks: Vec<_> =
            features.chunks(SOLVED * dim).zip(results.chunks_mut(SOLVED * pairs.len())).collect();
        let scratch = SOLVED * ends.last().copied().unwrap_or(0);
        let flops = heights.iter().map(|h| (h * h * SOLVED) as f64).sum();
        driver.for_each(tasks, flops, scratch, |(features, out), scratch| {
            let count = features.len() / dim;
            let range = |c: usize| {
                SOLVED * (ends[c] - heights[c])
                    ..SOLVED * (ends[c] - heights[c]) + count * heights[c]
            };
            for c in 0..k {
                let (height, floor) = (heights[c], factor(c).tile_floor(start(c)));
                let x = &mut scratch[range(c)];
                x.fill(0.0);
                for (column, a) in x.chunks_exact_mut(height).zip(features.chunks_exact(dim)) {
                    column[start(c) - floor..][..dim].copy_from_slice(a);
                }
                factor(c).forward(MatMut::from_column_major_slice_mut(x, height, count), floor);
            }
            for (pair, (c, d)) in pairs.iter().enumerate() {
                let (low, high) = (&scratch[range(*d)], &scratch[range(*c)]);
                for n in 0..count {
                    let x = &high[n * heights[*c]..(n + 1) * heights[*c]];
                    let y = &low[(n + 1) * heights[*d] - heights[*c]..(n + 1) * heights[*d]];
                    out[pair * count + n] = x.iter().zip(y).map(|(x, y)| x * y).sum();
                }
            }
        })?;
        for (chunk, values) in results.chunks(SOLVED * pairs.len()).enumerate() {
            let count = values.len() / pairs.len();
            for (pair, values) in values.chunks_exact(count).enumerate() {
                planes[pair * points + chunk * SOLVED..][..count].copy_from_slice(values);
            }
        }
        Ok(())
    }
}

/// `a^T S a` for every block and point, from the lower triangle with its strict part doubled.
fn by_blocks(
    blocks: &SymmetricBlocks,
    features: &[f64],
    planes: &mut [f64],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let dim = blocks.dim();
    let points = features.len() / dim;
    if points == 0 {
        return Ok(());
    }
    let features = MatRef::from_row_major_slice(features, points, dim);
    let most = even_width(dim, STRIP);
    let tasks: Vec<_> = planes
        .chunks_exact_mut(points)
        .zip(blocks.pattern().pairs(blocks.outputs()))
        .flat_map(|(plane, pair)| {
            plane.chunks_mut(POINTS).enumerate().map(move |(chunk, out)| (pair, chunk, out))
        })
        .collect();
    let flops = (POINTS.min(points) * dim * dim) as f64;
    driver.for_each(tasks, flops, (dim + POINTS) * STRIP, |((c, d), chunk, out), scratch| {
        let block = blocks.block(c, d);
        let rows = features.subrows(chunk * POINTS, out.len());
        out.fill(0.0);
        for first in (0..dim).step_by(most) {
            let (width, height) = (most.min(dim - first), dim - first);
            let (strip, product) = scratch.split_at_mut(dim * STRIP);
            let strip = &mut strip[..height * width];
            for (j, column) in strip.chunks_exact_mut(height).enumerate() {
                let start = column_start(dim, first + j);
                column[..j].fill(0.0);
                column[j] = block[start];
                for (target, value) in column[j + 1..].iter_mut().zip(&block[start + 1..]) {
                    *target = 2.0 * value;
                }
            }
            let strip = MatRef::from_column_major_slice(strip, height, width);
            let product = &mut product[..out.len() * width];
            let target = MatMut::from_row_major_slice_mut(product, out.len(), width);
            matmul(target, Accum::Replace, rows.subcols(first, height), strip, 1.0, Par::Seq);
            for (n, (sum, line)) in out.iter_mut().zip(product.chunks_exact(width)).enumerate() {
                *sum += line.iter().enumerate().map(|(j, t)| t * rows[(n, first + j)]).sum::<f64>();
            }
        }
    })
}
