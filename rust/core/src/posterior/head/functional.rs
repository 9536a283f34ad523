//! Covariance of the outputs at new points, `J Sigma J^T = [a^T Sigma_cd a]_cd`: no Jacobian.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::error::CoreError;
use crate::input::{Real, check_matrix, widen};
use crate::kernel::LANE;
use crate::kernel::dot::dot;
use crate::posterior::head::variance::Columns;
use crate::posterior::head::{Basis, HeadPosterior};
use crate::storage::blocks::{Pattern, SymmetricBlocks, column_start, even_width};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::threads::Driver;

/// Points, and columns of a block, that one product takes together.
const POINTS: usize = 512;
const STRIP: usize = 128;

impl HeadPosterior {
    /// `J Sigma J^T` for each point: `features` is `B x D'`, `out` is `B x C x C`.
    ///
    /// A question about many points (`question`, of which these may be a part) uses blocks of the
    /// covariance, which are kept for later calls (`B D'^2 / 2` flops a pair of outputs); one about
    /// few uses triangular solves from the first row that is not zero, and so does any where the
    /// precision is near the least that rounding carries. What was asked before plays no part.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Allocation`],
    /// [`CoreError::Interrupted`].
    pub fn functional_covariance<T: Real>(
        &self,
        features: &[T],
        question: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let c = self.num_outputs;
        self.functional(features, question, out, c * c, driver, |a, b, value, point| {
            point[a * c + b] = value;
            point[b * c + a] = value;
        })
    }

    /// The diagonals of [`HeadPosterior::functional_covariance`]: `out` is `B x C`.
    ///
    /// # Errors
    /// As [`HeadPosterior::functional_covariance`].
    pub fn functional_variance<T: Real>(
        &self,
        features: &[T],
        question: usize,
        out: &mut [f64],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        self.functional(features, question, out, self.num_outputs, driver, |a, b, value, point| {
            if a == b {
                point[a] = value;
            }
        })
    }

    fn functional<T: Real>(
        &self,
        features: &[T],
        question: usize,
        out: &mut [f64],
        per_point: usize,
        driver: &mut Driver<'_>,
        store: impl Fn(usize, usize, f64, &mut [f64]) + Sync,
    ) -> Result<(), CoreError> {
        let points = features.len() / self.dim;
        check_matrix("features", features, points, self.dim, driver)?;
        CoreError::check_len("the functional covariance", points * per_point, out.len())?;
        let mut wide = Buffer::zeros("features", features.len())?;
        widen(features, &mut wide);
        let pairs = list::collect("pairs of outputs", Pattern::Full.pairs(self.basis_outputs()))?;
        let mut planes = Buffer::zeros("covariances of the basis", points * pairs.len())?;
        if self.goes_by_solves(question.max(points)) {
            let outputs = self.basis_outputs();
            let columns = Columns { factor: &self.factor, dim: self.dim, outputs };
            by_solves(&columns, &wide, &mut planes, driver)?;
        } else {
            let blocks = self.inverse(driver)?;
            by_blocks(&blocks, &wide, &mut planes, driver)?;
        }
        let tasks = out.chunks_exact_mut(per_point).enumerate();
        let flops = (pairs.len() * self.num_outputs) as f64 * 4.0;
        let scratch = 2 * self.num_outputs * self.num_outputs;
        driver.for_each(tasks, flops, scratch, |(point, out), scratch| {
            let value = |pair: usize| planes[pair * points + point];
            match &self.basis {
                Basis::Identity => {
                    for (pair, (c, d)) in pairs.iter().enumerate() {
                        store(*c, *d, value(pair), out);
                    }
                }
                Basis::Contrast { q, prior } => {
                    let a = &wide[point * self.dim..(point + 1) * self.dim];
                    let common: f64 = a.iter().zip(prior).map(|(a, t)| a * a / t).sum();
                    let common = common / self.num_outputs as f64;
                    self.rotate(q, common, &pairs, value, scratch, |c, d, v| store(c, d, v, out));
                }
            }
        })
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

    /// Whether a question about so many points goes by triangular solves: where they cost less than
    /// half of making the blocks, or the blocks would lose too much.
    fn goes_by_solves(&self, points: usize) -> bool {
        let (k, n) = (self.basis_outputs() as f64, self.factor.n() as f64);
        let solve = points as f64 * k * n * n / 3.0;
        self.factor.certainty().is_near() || solve < 0.5 * 2.0 / 3.0 * n * n * n
    }
}

/// `(e_c (x) a)^T A^-1 (e_d (x) a)` for every pair of outputs and point, plane by plane.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn by_solves(
    columns: &Columns<'_>,
    features: &[f64],
    planes: &mut [f64],
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let (k, dim, nb) = (columns.outputs, columns.dim, columns.factor.nb());
    let pairs = list::collect("pairs of outputs", Pattern::Full.pairs(k))?;
    let points = features.len() / dim;
    let (lanes, n) = (columns.lanes(), columns.factor.n());
    let width = lanes * LANE;
    let mut results = Buffer::zeros("covariances of the basis", planes.len())?;
    let tasks = features.chunks(width * dim).zip(results.chunks_mut(width * pairs.len()));
    let flops = (n * n * k * width) as f64 / 3.0;
    driver.for_each(tasks, flops, columns.scratch(lanes), |(features, out), scratch| {
        let count = features.len() / dim;
        let x = columns.solve(lanes, 0, scratch, |lane, feature, values| {
            let own = features.get(lane * LANE * dim..).unwrap_or_default().chunks_exact(dim);
            values.iter_mut().zip(own).for_each(|(value, a)| *value = a[feature]);
        });
        let group = |tile: usize, output: usize, lane: usize| {
            &x[((tile * k + output) * lanes + lane) * nb..][..nb]
        };
        for (pair, (c, d)) in pairs.iter().enumerate() {
            let out = &mut out[pair * count..(pair + 1) * count];
            for (lane, out) in out.chunks_mut(LANE).enumerate() {
                let mut sums = [0.0; LANE];
                for tile in c * dim / nb..n.div_ceil(nb) {
                    for (x, y) in group(tile, *c, lane).iter().zip(group(tile, *d, lane)) {
                        sums.iter_mut().zip(x).zip(y).for_each(|((sum, x), y)| *sum += x * y);
                    }
                }
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
    })?;
    for (chunk, values) in results.chunks(width * pairs.len()).enumerate() {
        let count = values.len() / pairs.len();
        for (pair, values) in values.chunks_exact(count).enumerate() {
            planes[pair * points + chunk * width..][..count].copy_from_slice(values);
        }
    }
    Ok(())
}

/// `a^T S a` for every block and point, from the lower triangle with its strict part doubled.
pub fn by_blocks(
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
    let matrix = MatRef::from_row_major_slice(features, points, dim);
    let most = even_width(dim, STRIP);
    let tasks = planes
        .chunks_exact_mut(points)
        .zip(blocks.pattern().pairs(blocks.outputs()))
        .flat_map(|(plane, pair)| {
            plane.chunks_mut(POINTS).enumerate().map(move |(chunk, out)| (pair, chunk, out))
        });
    let flops = (POINTS.min(points) * dim * dim) as f64;
    driver.for_each(tasks, flops, (dim + POINTS) * STRIP, |((c, d), chunk, out), scratch| {
        let block = blocks.block(c, d);
        let rows = matrix.subrows(chunk * POINTS, out.len());
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
                let own = &features[(chunk * POINTS + n) * dim + first..];
                *sum += dot(line, own);
            }
        }
    })
}
