//! How well a factored precision is known: its least eigenvalue against its rounding.
//!
//! Scaled to a unit diagonal, `S = D^-1 A D^-1` with `D^2 = diag(A)`, a factorisation rounds by
//! some `dS` whatever the scales of the features, and the relative error of any variance is at most
//! `|dS| / lambda_min(S)`. The Frobenius norm of `dS` is measured (`verify`), `lambda_min` comes from
//! two inverse iterations on eight vectors, `O(n^2)`. A direction whose curvature is rounding has
//! the prior for an eigenvalue; where that is not clearly more than the rounding, the numbers that
//! would come out look like any others and are wrong.

use crate::cholesky::Factor;
use crate::cholesky::solve::{down, up};
use crate::cholesky::verify::Witness;
use crate::error::CoreError;
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::tiles::TileMatrix;
use crate::threads::Driver;

/// How many times its rounding the least eigenvalue must be. The norm above is that of all errors at
/// once, of which one direction sees about a hundredth: beyond this, variances are good to 1e-3.
pub const CLEAR: f64 = 10.0;

/// Below this many times what is needed, answers come by solves, which lose least.
const NEAR: f64 = 1e3;

/// What a matrix brings along: the prior precision in it, and what is not known of its diagonal.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The smallest prior precision.
    pub prior: f64,
    /// Of each diagonal element, beyond rounding; empty: nothing.
    pub unknown: Vec<f64>,
}

impl Standing {
    /// Of a prior precision alone.
    pub fn of(prior_precision: &[f64]) -> Self {
        let prior = prior_precision.iter().copied().fold(f64::INFINITY, f64::min);
        Self { prior, unknown: Vec::new() }
    }

    /// The prior precision that surely does: with it `lambda_min(S)` is at least `tau / max D_ii^2`.
    pub fn least(&self, witness: &Witness, rounding: f64) -> f64 {
        2.0 * CLEAR * rounding * witness.diagonal().fold(0.0, f64::max)
    }
}

/// The least eigenvalue of the scaled matrix, and its rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certainty {
    /// `lambda_min(S)`.
    pub eigenvalue: f64,
    /// The Frobenius norm of what is not known of `S`.
    pub rounding: f64,
}

impl Certainty {
    /// Of a factor whose rounding was measured.
    ///
    /// # Errors
    /// [`CoreError::LostInRounding`] where the least eigenvalue is not clearly above it,
    /// [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn new(
        tiles: &TileMatrix,
        inverses: &[Lane],
        witness: &Witness,
        rounding: f64,
        standing: &Standing,
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        // The scales make what is not known of the diagonal as large as this floor.
        let floors = if standing.unknown.is_empty() { 1.0 } else { 2.0 };
        let rounding = rounding.max(floors * witness.floor());
        let eigenvalue = least_eigenvalue(tiles, inverses, witness, driver)?;
        let certainty = Self { eigenvalue, rounding };
        if eigenvalue >= CLEAR * rounding {
            return Ok(certainty);
        }
        // The pivot of a direction is a few times its eigenvalue.
        let lost = |(l, a): (f64, f64)| l * l <= 4.0 * CLEAR * rounding * a;
        let pivots = tiles.diagonal().zip(witness.diagonal());
        Err(CoreError::LostInRounding {
            size: tiles.n(),
            prior: standing.prior,
            eigenvalue,
            rounding,
            directions: pivots.filter(|pair| lost(*pair)).count().max(1),
            least: standing.least(witness, rounding),
        })
    }

    /// Whether solves should be preferred to blocks of the inverse, which lose more.
    pub fn is_near(self) -> bool {
        self.eigenvalue < NEAR * CLEAR * self.rounding
    }
}

/// `lambda_min(D^-1 A D^-1)` by inverse iteration, as a bound from above.
fn least_eigenvalue(
    tiles: &TileMatrix,
    inverses: &[Lane],
    witness: &Witness,
    driver: &mut Driver<'_>,
) -> Result<f64, CoreError> {
    let rows = tiles.num_tile_rows() * tiles.nb();
    let mut x = Buffer::zeros("vectors of an inverse iteration", rows * LANE)?;
    let roots = list::collect("scales of rows", witness.diagonal().map(f64::sqrt))?;
    let x = x.as_chunks_mut::<LANE>().0;
    for (row, lane) in x.iter_mut().enumerate().take(tiles.n()) {
        *lane = std::array::from_fn(|column| sign(row * LANE + column));
    }
    let scaled_solve = |x: &mut [Lane], driver: &mut Driver<'_>| {
        let scale = |x: &mut [Lane]| {
            x.iter_mut()
                .zip(&roots)
                .for_each(|(lane, root)| lane.iter_mut().for_each(|v| *v *= root));
        };
        scale(x);
        down(tiles, inverses, x, 1, driver)?;
        up(tiles, inverses, x, 1, driver)?;
        scale(x);
        Ok(())
    };
    scaled_solve(x, driver)?;
    let before = squares(x);
    // Large numbers would overflow when they are squared again.
    let size = before.iter().copied().fold(0.0, f64::max).sqrt();
    x.iter_mut().flatten().for_each(|v| *v /= size);
    scaled_solve(x, driver)?;
    let after = squares(x);
    let ratios = before.iter().zip(after).map(|(b, a)| b.sqrt() / size / a.sqrt());
    Ok(ratios.fold(f64::INFINITY, f64::min))
}

/// The squared length of each of eight vectors.
fn squares(x: &[Lane]) -> Lane {
    let mut sums = [0.0; LANE];
    for lane in x {
        sums.iter_mut().zip(lane).for_each(|(sum, v)| *sum += v * v);
    }
    sums
}

/// A sign from a multiplicative hash: no structure of a real matrix lines up with them.
pub fn sign(i: usize) -> f64 {
    let hash = (i as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 63 == 0 { 1.0 } else { -1.0 }
}

impl Factor {
    /// How well the matrix is known.
    pub fn certainty(&self) -> Certainty {
        self.certainty
    }
}
