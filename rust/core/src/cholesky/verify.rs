//! A factor is verified: `y = A v` before, `|L (L^T v) - y|` small after. `O(n^2)`.

use crate::cholesky::Factor;
use crate::cholesky::certainty::sign;
use crate::error::CoreError;
use crate::kernel::dot::total;
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source};
use crate::storage::tiles::{MAX_TILE, TileMatrix};
use crate::threads::Driver;

/// What is kept of `A` while it is overwritten by its factor.
#[derive(Debug)]
pub struct Witness {
    /// Signs over the roots of the diagonal, so that each row and column counts alike.
    v: Vec<f64>,
    y: Buffer,
    diagonal: Vec<f64>,
}

impl Witness {
    /// `A v` for a fixed `v`; `unknown` is what is not known of each diagonal element (or empty), and
    /// makes the scale of its row as large as if rounding were all of that.
    ///
    /// # Errors
    /// [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn new(
        tiles: &TileMatrix,
        unknown: &[f64],
        driver: &mut Driver<'_>,
    ) -> Result<Self, CoreError> {
        // A diagonal that is not positive has no root; the factorisation will say so.
        let mut diagonal = list::collect("a diagonal", tiles.diagonal())?;
        for a in diagonal.iter_mut().filter(|a| **a <= 0.0) {
            *a = 1.0;
        }
        let rounding = rounding_floor(tiles.n());
        diagonal.iter_mut().zip(unknown).for_each(|(a, unknown)| *a = a.max(unknown / rounding));
        let signs = diagonal.iter().enumerate().map(|(i, a)| sign(i) / a.sqrt());
        let v = list::collect("a vector of signs", signs)?;
        let mut y = below(tiles, &v, driver)?;
        let above = above(tiles, &v, true, driver)?;
        y.iter_mut().zip(above.iter()).for_each(|(y, part)| *y += part);
        Ok(Self { v, y, diagonal })
    }

    /// Adds what it is made of.
    pub fn add_to<'a>(&'a self, content: &mut Content<'a>) {
        content.array("", "witness_signs", &self.v);
        content.array("", "witness_product", &self.y);
        content.array("", "witness_diagonal", &self.diagonal);
    }

    /// The witness of a file, of a matrix of edge `n`.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn of_source(n: usize, source: &Source) -> Result<Self, CoreError> {
        let what = "a vector";
        let list = |name| list::copy_of(what, &source.array(what, "", name, n)?);
        let y = source.array(what, "", "witness_product", n)?;
        Ok(Self { v: list("witness_signs")?, y, diagonal: list("witness_diagonal")? })
    }

    /// The squares `D^2` of the scales of rows: the diagonal of `A`, where that is known.
    pub fn diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        self.diagonal.iter().copied()
    }

    /// What the sums that made `A` round by, at the least: a quarter of `eps` for each element.
    pub fn floor(&self) -> f64 {
        rounding_floor(self.v.len())
    }

    /// Compares `L (L^T v)` with `A v`; gives the Frobenius norm of `D^-1 (L L^T - A) D^-1`, which
    /// is the expected length of the residual under random signs.
    ///
    /// The bound is Cholesky's own: `|L L^T - A| <= (n + 1) eps |L| |L^T|`, and by Cauchy-Schwarz
    /// `(|L| |L^T|)_ij <= sqrt(a_ii a_jj)`; four times that leaves room for the two products here.
    ///
    /// # Errors
    /// [`CoreError::FactorCheck`] with the first row that is off, [`CoreError::Allocation`],
    /// [`CoreError::Interrupted`].
    pub fn verify(&self, tiles: &TileMatrix, driver: &mut Driver<'_>) -> Result<f64, CoreError> {
        let n = tiles.n();
        let w = above(tiles, &self.v, false, driver)?;
        let product = below(tiles, &w, driver)?;
        let most = 4.0 * (n + 2) as f64 * f64::EPSILON * n as f64;
        let mut squares = 0.0;
        for (row, (ours, truth)) in product.iter().zip(self.y.iter()).enumerate() {
            let (residual, root) = ((ours - truth).abs(), self.diagonal[row].sqrt());
            let bound = most * root;
            if residual > bound || residual.is_nan() {
                return Err(CoreError::FactorCheck { row, residual, bound });
            }
            squares += (residual / root).powi(2);
        }
        Ok(squares.sqrt())
    }
}

fn rounding_floor(n: usize) -> f64 {
    0.25 * n as f64 * f64::EPSILON
}

/// The lane of rows `row ..` of column `s`, without what lies above the diagonal; on it too with
/// `strict`.
fn live(lane: &Lane, row: usize, s: usize, strict: bool) -> Lane {
    let first = s + usize::from(strict);
    if row >= first {
        return *lane;
    }
    std::array::from_fn(|place| if row + place >= first { lane[place] } else { 0.0 })
}

/// `M v` for the lower triangle `M`, diagonal included.
fn below(tiles: &TileMatrix, v: &[f64], driver: &mut Driver<'_>) -> Result<Buffer, CoreError> {
    let (n, nb) = (tiles.n(), tiles.nb());
    let mut y = Buffer::zeros("a product", n)?;
    driver.for_each(y.chunks_mut(nb).enumerate(), (n * nb) as f64, 0, |(i, out), _| {
        for (panel, out) in out.chunks_mut(LANE).enumerate() {
            let row = i * nb + panel * LANE;
            let mut sums = [0.0; LANE];
            for j in 0..=i {
                let lanes = &tiles.tile(i, j)[panel * nb..][..tiles.rows_in(j)];
                for ((s, lane), v) in (j * nb..).zip(lanes).zip(&v[j * nb..]) {
                    let lane = live(lane, row, s, false);
                    sums.iter_mut().zip(lane).for_each(|(sum, a)| *sum += a * v);
                }
            }
            out.copy_from_slice(&sums[..out.len()]);
        }
    })?;
    Ok(y)
}

/// `M^T v` for the lower triangle `M`, with `strict` without its diagonal.
fn above(
    tiles: &TileMatrix,
    v: &[f64],
    strict: bool,
    driver: &mut Driver<'_>,
) -> Result<Buffer, CoreError> {
    let (n, nb, count) = (tiles.n(), tiles.nb(), tiles.num_tile_rows());
    // Each tile row's part, added up in order afterwards.
    let ends = |i: usize| n.min((i + 1) * nb);
    let mut parts = Buffer::zeros("sums of tile rows", (0..count).map(ends).sum())?;
    let mut rest: &mut [f64] = &mut parts;
    let tasks = (0..count).map(|i| {
        let (own, tail) = std::mem::take(&mut rest).split_at_mut(ends(i));
        rest = tail;
        (i, own)
    });
    driver.for_each(tasks, (n * nb) as f64, 0, |(i, out), _| {
        for (j, out) in out.chunks_mut(nb).enumerate() {
            let (tile, mut sums) = (tiles.tile(i, j), [[0.0; LANE]; MAX_TILE]);
            for panel in 0..tiles.panels_in(i) {
                let row = i * nb + panel * LANE;
                let mut own = [0.0; LANE];
                own.iter_mut().zip(&v[row..]).for_each(|(own, v)| *own = *v);
                let lanes = tile[panel * nb..].iter().zip(j * nb..);
                for ((lane, s), sums) in lanes.zip(sums.iter_mut().take(out.len())) {
                    let lane = live(lane, row, s, strict);
                    for ((sum, a), v) in sums.iter_mut().zip(lane).zip(own) {
                        *sum += a * v;
                    }
                }
            }
            out.iter_mut().zip(&sums).for_each(|(out, sums)| *out = total(sums));
        }
    })?;
    let (mut y, mut start) = (Buffer::zeros("a product", n)?, 0);
    for i in 0..count {
        y.iter_mut().zip(&parts[start..start + ends(i)]).for_each(|(y, part)| *y += part);
        start += ends(i);
    }
    Ok(y)
}

impl Factor {
    /// `v^T A v`, as `|L^T v|^2`. Cost: `n^2` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn quadratic(&self, v: &[f64], driver: &mut Driver<'_>) -> Result<f64, CoreError> {
        CoreError::check_len("the vector", self.n(), v.len())?;
        Ok(above(&self.tiles, v, false, driver)?.iter().map(|x| x * x).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cholesky::tests::{factor_with, with_eigenvalues};
    use crate::storage::tiles::tests::from_dense;
    use crate::threads::Workers;

    #[test]
    fn a_damaged_factor_is_found_out() {
        let n = 300;
        let a = with_eigenvalues(
            &vec![1.0; n].iter().enumerate().map(|(i, _)| 1.0 + i as f64).collect::<Vec<_>>(),
            1,
        );
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let witness = Witness::new(&from_dense(&a), &[], &mut driver).unwrap();
        for row in [0, 7, 255, 256, 299] {
            let dense: f64 = (0..n).map(|j| a[(row, j)] * witness.v[j]).sum();
            assert!((witness.y[row] - dense).abs() < 1e-9);
            assert_eq!(witness.diagonal[row], a[(row, row)]);
        }

        let mut factor = factor_with(1, &a);
        let rounding = witness.verify(&factor.tiles, &mut driver).unwrap();
        assert!(rounding > 0.0 && rounding < 4.0 * n as f64 * f64::EPSILON, "{rounding}");
        let nb = factor.tiles.nb();
        factor.tiles.rows_mut().next().unwrap().1[nb + 9][1] *= 1.0 + 1e-6;
        let error = witness.verify(&factor.tiles, &mut driver).unwrap_err();
        assert!(matches!(error, CoreError::FactorCheck { .. }));
    }
}
