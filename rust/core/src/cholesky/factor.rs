//! Right-looking tiled Cholesky: factor a diagonal tile, solve the tiles below it, update the rest.
//!
//! The work is a list of steps; a step that is broken off goes on at the task where it was.

use std::ops::Range;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltError, cholesky_in_place, cholesky_in_place_scratch};
use faer::{MatMut, Par};

use crate::cholesky::Factor;
use crate::cholesky::certainty::{Certainty, Standing};
use crate::cholesky::triangle::{Triangle, inverse_lanes, invert_blocks};
use crate::cholesky::verify::Witness;
use crate::error::CoreError;
use crate::kernel::lanes::add_block_products;
use crate::kernel::{LANE, Lane};
use crate::storage::buffer::Buffer;
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::storage::tiles::{TileMatrix, layout_of, panels_of};
use crate::threads::Driver;

/// Tile columns that are factored before the rest of the matrix is updated by all of them: a tile
/// comes from memory once for that many products.
const GROUP: usize = 4;

/// One step. Each reads what those before it have written.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Factors diagonal tile `k`.
    Diagonal(usize),
    /// Solves the tiles below it.
    Column(usize),
    /// Updates the columns of its group that are left.
    Group(usize),
    /// Updates what is behind the group that begins here.
    Rest(usize),
}

/// The steps for a number of tile columns.
fn steps(count: usize) -> impl Iterator<Item = Step> {
    (0..count).step_by(GROUP).flat_map(move |first| {
        let within = (first..count.min(first + GROUP))
            .flat_map(|k| [Step::Diagonal(k), Step::Column(k), Step::Group(k)]);
        within.chain([Step::Rest(first)])
    })
}

/// Factors `A = L L^T` in place. Cost: `n^3 / 3` flops, no memory of size `n^2`.
///
/// # Errors
/// As [`Factorization::run`]; the matrix is lost in each case.
pub fn factor(
    tiles: TileMatrix,
    standing: Standing,
    driver: &mut Driver<'_>,
) -> Result<Factor, CoreError> {
    let mut factorization = Factorization::new(tiles, standing)?;
    factorization.run(driver)?;
    factorization.into_factor()
}

/// A matrix on its way to its factor.
#[derive(Debug)]
pub struct Factorization {
    tiles: TileMatrix,
    inverses: Buffer,
    standing: Standing,
    witness: Option<Witness>,
    certainty: Option<Certainty>,
    /// Whether the matrix turned out to have no factor.
    lost: bool,
    /// Steps that are done, and tasks of the one after them.
    steps: usize,
    tasks: usize,
}

/// What the lists of tiles are called.
const TASKS: &str = "a list of tasks";

impl Factorization {
    /// Takes the matrix; memory for what comes beside it is taken by [`Factorization::run`].
    ///
    /// # Errors
    /// [`CoreError::Allocation`] never: an empty buffer can always be had.
    pub fn new(tiles: TileMatrix, standing: Standing) -> Result<Self, CoreError> {
        let inverses = Buffer::zeros("inverses of diagonal blocks", 0)?;
        let (witness, certainty) = (None, None);
        Ok(Self { tiles, inverses, standing, witness, certainty, lost: false, steps: 0, tasks: 0 })
    }

    /// Goes on to the end, where the factor is verified.
    ///
    /// # Errors
    /// [`CoreError::NotPositiveDefinite`] with the pivot, [`CoreError::LostInRounding`],
    /// [`CoreError::FactorCheck`], each of which leaves nothing to go on with
    /// ([`CoreError::Consumed`]); [`CoreError::Allocation`] and [`CoreError::Interrupted`], after
    /// which the next call goes on.
    pub fn run(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if self.lost {
            return Err(CoreError::Consumed);
        }
        let outcome = self.go_on(driver);
        self.lost =
            !matches!(outcome, Ok(()) | Err(CoreError::Interrupted | CoreError::Allocation { .. }));
        outcome
    }

    fn go_on(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if self.inverses.is_empty() {
            let lanes = self.tiles.num_tile_rows() * inverse_lanes(self.tiles.nb());
            self.inverses = Buffer::zeros("inverses of diagonal blocks", lanes * LANE)?;
        }
        if self.witness.is_none() {
            self.witness = Some(Witness::new(&self.tiles, &self.standing.unknown, driver)?);
        }
        let count = self.tiles.num_tile_rows();
        for step in steps(count).skip(self.steps) {
            match step {
                Step::Diagonal(k) => driver.on_worker(|| self.factor_diagonal_tile(k))?,
                Step::Column(k) => self.solve_column(k, driver)?,
                Step::Group(k) => {
                    let end = count.min(k / GROUP * GROUP + GROUP);
                    self.update(k..k + 1, k + 1..end, driver)?;
                }
                Step::Rest(first) => {
                    let end = count.min(first + GROUP);
                    self.update(first..end, end..count, driver)?;
                }
            }
            (self.steps, self.tasks) = (self.steps + 1, 0);
        }
        if let (Some(witness), None) = (&self.witness, &self.certainty) {
            let (tiles, inverses) = (&self.tiles, self.inverses.as_chunks::<LANE>().0);
            let rounding = witness.verify(tiles, driver)?;
            let certainty =
                Certainty::new(tiles, inverses, witness, rounding, &self.standing, driver)?;
            self.certainty = Some(certainty);
        }
        Ok(())
    }

    /// Whether the rest is to come: a matrix that has begun to be a factor.
    pub fn has_begun(&self) -> bool {
        self.steps > 0 && !self.lost && self.certainty.is_none()
    }

    /// Whether there is nothing to go on with.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The factor.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] before [`Factorization::run`] came to its end.
    pub fn into_factor(self) -> Result<Factor, CoreError> {
        let Some(certainty) = self.certainty else { return Err(CoreError::Incomplete) };
        Ok(Factor { tiles: self.tiles, inverses: self.inverses, certainty })
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.tiles.nbytes() + self.inverses.nbytes()
    }

    fn factor_diagonal_tile(&mut self, k: usize) -> Result<(), CoreError> {
        let (nb, rows) = (self.tiles.nb(), self.tiles.rows_in(k));
        let scratch = cholesky_in_place_scratch::<f64>(rows, Par::Seq, Default::default());
        let mut memory = MemBuffer::try_new(scratch).map_err(|_| CoreError::Allocation {
            what: "a diagonal tile",
            bytes: scratch.unaligned_bytes_required(),
        })?;
        let mut square = Buffer::zeros("a diagonal tile", rows * rows)?;
        let size = self.tiles.tile_lanes();
        let Some((_, row)) = self.tiles.split_rows(k).1.next() else { return Ok(()) };
        let tile = &mut row[k * size..];
        for (c, column) in square.chunks_exact_mut(rows).enumerate() {
            for (r, value) in column.iter_mut().enumerate().skip(c) {
                *value = tile[r / LANE * nb + c][r % LANE];
            }
        }
        let matrix = MatMut::from_column_major_slice_mut(&mut square, rows, rows);
        let stack = MemStack::new(&mut memory);
        let params = Default::default();
        if let Err(LltError::NonPositivePivot { index }) =
            cholesky_in_place(matrix, Default::default(), Par::Seq, stack, params)
        {
            let (size, pivot) = (self.tiles.n(), k * nb + index);
            let least =
                self.witness.as_ref().map_or(0.0, |w| self.standing.least(w, 4.0 * w.floor()));
            return Err(CoreError::NotPositiveDefinite { size, pivot, least });
        }
        for (c, column) in square.chunks_exact(rows).enumerate() {
            for (r, value) in column.iter().enumerate() {
                tile[r / LANE * nb + c][r % LANE] = if r < c { 0.0 } else { *value };
            }
        }
        let inverses = self.inverses.as_chunks_mut::<LANE>().0;
        let own = &mut inverses[k * inverse_lanes(nb)..][..inverse_lanes(nb)];
        invert_blocks(tile, nb, rows, own);
        Ok(())
    }

    /// `L_ik = A_ik L_kk^-T` for every tile below the diagonal one.
    fn solve_column(&mut self, k: usize, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let (n, nb, size) = (self.tiles.n(), self.tiles.nb(), self.tiles.tile_lanes());
        let (upper, below) = self.tiles.split_rows(k + 1);
        let inverses = &self.inverses.as_chunks::<LANE>().0[k * inverse_lanes(nb)..];
        let tile = &upper[upper.len() - size..];
        let triangle = Triangle { tile, inverses, nb, rows: nb.min(n - k * nb) };
        let tasks =
            below.map(|(i, row)| &mut row[k * size..][..(n - i * nb).min(nb).div_ceil(LANE) * nb]);
        let (flops, scratch) = ((nb * nb * nb) as f64, Triangle::scratch_len(nb / LANE));
        driver.resume(&mut self.tasks, tasks, flops, scratch, |tile, scratch| {
            triangle.down(tile, scratch);
        })
    }

    /// `A_ij -= sum_k L_ik L_jk^T`, `k` in `depth`, for every tile of the columns `targets` behind
    /// them.
    fn update(
        &mut self,
        depth: Range<usize>,
        targets: Range<usize>,
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let (n, nb, size) = (self.tiles.n(), self.tiles.nb(), self.tiles.tile_lanes());
        let mut panel: Vec<&[Lane]> = Vec::new();
        let mut tasks = Vec::new();
        for (i, row) in self.tiles.split_rows(targets.start).1 {
            let (done, rest) = row.split_at_mut(targets.start * size);
            list::extend(TASKS, &mut panel, [&done[depth.start * size..depth.end * size]])?;
            let columns = targets.clone().zip(rest.chunks_exact_mut(size));
            list::extend(TASKS, &mut tasks, columns.map(|(j, tile)| (i, j, tile)))?;
        }
        let live = |i: usize| nb.min(n - i * nb);
        let solved = |i: usize, k: usize| {
            let tile = &panel[i - targets.start][(k - depth.start) * size..][..size];
            panels_of(tile, nb, live(i), live(k))
        };
        let flops = (2 * depth.len() * nb * nb * nb) as f64;
        driver.resume(&mut self.tasks, tasks, flops, 0, |(i, j, tile), _| {
            let squares = tile.as_chunks_mut::<LANE>().0;
            for k in depth.clone() {
                add_block_products(
                    solved(i, k),
                    solved(j, k),
                    i == j,
                    -1.0,
                    squares,
                    layout_of(nb),
                );
            }
        })
    }
}

impl Stored for Factorization {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let Some(witness) = self.witness.as_ref().filter(|_| self.has_begun()) else {
            return Err(CoreError::Incomplete);
        };
        let mut content = Content::default();
        self.tiles.add_to("", &mut content);
        content.array("", "inverses", &self.inverses);
        content.size("", "steps", self.steps);
        content.size("", "tasks", self.tasks);
        content.number("", "least_prior", self.standing.prior);
        if !self.standing.unknown.is_empty() {
            content.array("", "rounding", &self.standing.unknown);
        }
        witness.add_to(&mut content);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let tiles = TileMatrix::of_source("the factor", "", source)?;
        let (n, count) = (tiles.n(), tiles.num_tile_rows());
        let len = count * inverse_lanes(tiles.nb()) * LANE;
        let unknown = if source.holds("", "rounding") {
            list::copy_of("rounding", &source.array("rounding", "", "rounding", n)?)?
        } else {
            Vec::new()
        };
        let (done, tasks) = (source.size("", "steps")?, source.size("", "tasks")?);
        if done > steps(count).count() {
            return Err(misfit("the factorisation", done, "steps"));
        }
        Ok(Self {
            inverses: source.array("inverses of diagonal blocks", "", "inverses", len)?,
            standing: Standing { prior: source.number("", "least_prior")?, unknown },
            witness: Some(Witness::of_source(n, source)?),
            certainty: None,
            lost: false,
            steps: done,
            tasks,
            tiles,
        })
    }
}
