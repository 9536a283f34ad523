//! `H = sum R^T R` for any parameters: `R` holds rows of `J`, already multiplied by a root of
//! `Lambda`.

use crate::assemble::unfinished::{Identity, Unfinished, print_of};
use crate::error::CoreError;
use crate::input::{Real, check_matrix, check_weight};
use crate::kernel::LANE;
use crate::kernel::lanes::{DEPTH, Lanes, Panels, add_block_products};
use crate::storage::list;
use crate::storage::stored::{Content, Source, Stored, misfit};
use crate::storage::tiles::{TileMatrix, layout_of};
use crate::threads::Driver;

/// Rows that are added at a time, whatever comes at a time: a tile is read and written once for them.
const ROWS: usize = 1024;

/// The growing curvature over any parameters, tile-packed.
#[derive(Debug)]
pub struct FullSum {
    identity: Identity,
    tiles: TileMatrix,
    panel: Lanes,
    /// Tasks of the panel's product that are done.
    tasks: usize,
    unfinished: Unfinished,
    /// What is not known of each diagonal element, where the sum came back from a factor.
    rounding: Vec<f64>,
}

impl FullSum {
    /// An empty sum over `num_params` parameters.
    ///
    /// # Errors
    /// [`CoreError::Shape`] without parameters, [`CoreError::Allocation`].
    pub fn new(num_params: usize) -> Result<Self, CoreError> {
        if num_params == 0 {
            return Err(CoreError::Shape { what: "number of parameters", expected: 1, found: 0 });
        }
        Self::from_tiles(TileMatrix::zeros("the curvature", num_params)?, Vec::new())
    }

    /// A sum that is known already, each element `(i, j)` up to the root of `rounding[i]
    /// rounding[j]` (empty: up to the rounding of a sum).
    ///
    /// # Errors
    /// [`CoreError::Allocation`].
    pub fn from_tiles(tiles: TileMatrix, rounding: Vec<f64>) -> Result<Self, CoreError> {
        Ok(Self {
            identity: Identity::new(),
            panel: Lanes::new("a panel of rows", tiles.n())?,
            tiles,
            tasks: 0,
            unfinished: Unfinished::default(),
            rounding,
        })
    }

    /// Bytes of such a sum, and of a full panel beside it while rows are added.
    pub fn bytes_of(num_params: usize) -> (usize, usize) {
        (TileMatrix::bytes_of(num_params), Lanes::bytes_of(num_params, ROWS))
    }

    /// Number of parameters.
    pub fn num_params(&self) -> usize {
        self.tiles.n()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.tiles.nbytes() + self.panel.nbytes()
    }

    /// Adds `rows^T rows`, `rows` being `R x P`. Cost: `R P^2` flops.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Allocation`] before anything is
    /// added; [`CoreError::Interrupted`], after which the same call goes on, and any other is
    /// [`CoreError::Incomplete`].
    pub fn add_rows<T: Real>(
        &mut self,
        rows: &[T],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.tiles.n();
        let count = rows.len() / n;
        check_matrix("rows", rows, count, n, driver)?;
        let print = || print_of::<T, f64>(rows, &[]);
        let mut taken = self.unfinished.taken(print)?;
        // Twice as much each time, so that few small calls do not take all of a panel.
        let wanted = self.panel.rows() + count - taken;
        self.panel.reserve(ROWS.min(wanted.max(2 * self.panel.rows())))?;
        let outcome = self.take(rows, &mut taken, driver);
        match outcome {
            Ok(()) => self.unfinished.clear(),
            Err(_) => self.unfinished.keep_add(taken, print),
        }
        outcome
    }

    /// Takes rows from `taken` on into the panel, which is added whenever it is full.
    fn take<T: Real>(
        &mut self,
        rows: &[T],
        taken: &mut usize,
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let n = self.tiles.n();
        loop {
            if self.panel.rows() == ROWS {
                self.add_panel(driver)?;
            }
            let left = rows.len() / n - *taken;
            if left == 0 {
                return Ok(());
            }
            let count = left.min(ROWS - self.panel.rows());
            self.panel.push(&rows[*taken * n..(*taken + count) * n], driver)?;
            *taken += count;
        }
    }

    /// Adds `weight` times `other`, which stays as it is. What lies in the panels of either is added
    /// first.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the numbers of parameters differ; [`CoreError::Interrupted`], after
    /// which the same call goes on, and any other is [`CoreError::Incomplete`].
    pub fn merge(
        &mut self,
        other: &mut Self,
        weight: f64,
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        check_weight(weight)?;
        CoreError::check_len("parameters of the other sum", self.num_params(), other.num_params())?;
        let mut tasks = self.unfinished.merged(&other.identity)?;
        other.unfinished.check_none()?;
        other.flush(driver)?;
        self.flush(driver)?;
        let missing = other.rounding.len().saturating_sub(self.rounding.len());
        list::extend("rounding", &mut self.rounding, (0..missing).map(|_| 0.0))?;
        let (flops, size) = ((self.tiles.n() * self.tiles.nb()) as f64, self.tiles.tile_lanes());
        let rows = self.tiles.rows_mut();
        let pairs = rows.flat_map(|(i, row)| {
            row.chunks_exact_mut(size).enumerate().map(move |(j, tile)| (i, j, tile))
        });
        let added = &other.tiles;
        let outcome = driver.resume(&mut tasks, pairs, flops, 0, |(i, j, tile), _| {
            for (sum, part) in tile.iter_mut().zip(added.tile(i, j)) {
                sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += weight * value);
            }
        });
        match outcome {
            Ok(()) => {
                self.unfinished.clear();
                let pairs = self.rounding.iter_mut().zip(&other.rounding);
                pairs.for_each(|(sum, value)| *sum += weight * value);
            }
            Err(_) => self.unfinished.keep_merge(&other.identity, tasks),
        }
        outcome
    }

    fn flush(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        if self.panel.rows() > 0 { self.add_panel(driver) } else { Ok(()) }
    }

    fn add_panel(&mut self, driver: &mut Driver<'_>) -> Result<(), CoreError> {
        let (n, nb, panel) = (self.tiles.n(), self.tiles.nb(), &self.panel);
        let size = self.tiles.tile_lanes();
        let rows = self.tiles.rows_mut();
        let tasks = rows.flat_map(|(i, row)| {
            row.chunks_exact_mut(size).enumerate().map(move |(j, tile)| (i, j, tile))
        });
        let flops = (2 * panel.rows() * nb * nb) as f64;
        driver.resume(&mut self.tasks, tasks, flops, 0, |(i, j, tile), _| {
            let squares = tile.as_chunks_mut::<LANE>().0;
            for (rows, chunk) in panel.chunks() {
                // A tile's edge is a multiple of a lane, so that lanes belong to one tile row each.
                let panels = |t: usize| Panels {
                    lanes: &chunk[t * nb / LANE * DEPTH..],
                    stride: DEPTH,
                    depth: rows.len(),
                    count: nb.min(n - t * nb).div_ceil(LANE),
                };
                let layout = layout_of(nb);
                add_block_products(panels(i), panels(j), i == j, 1.0, squares, layout);
            }
        })?;
        self.panel.clear();
        self.tasks = 0;
        Ok(())
    }

    /// The sum with every added row in it; the panel's memory is given back.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`] (the next call goes on), [`CoreError::Incomplete`].
    pub fn finish(&mut self, driver: &mut Driver<'_>) -> Result<&TileMatrix, CoreError> {
        self.unfinished.check_none()?;
        self.flush(driver)?;
        self.panel.release()?;
        Ok(&self.tiles)
    }

    /// What is not known of each diagonal element, beyond the rounding of a sum; empty: nothing.
    pub fn rounding(&self) -> &[f64] {
        &self.rounding
    }

    /// The sum and its rounding, given up to be factored in place.
    ///
    /// # Errors
    /// As [`FullSum::finish`], which must have been called.
    pub fn into_tiles(self) -> Result<(TileMatrix, Vec<f64>), CoreError> {
        self.unfinished.check_none()?;
        CoreError::check_len("rows that are not added yet", 0, self.panel.rows())?;
        Ok((self.tiles, self.rounding))
    }
}

impl Stored for FullSum {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        self.unfinished.check_none()?;
        if self.tasks > 0 {
            return Err(CoreError::Incomplete);
        }
        let mut content = Content::default();
        self.tiles.add_to("", &mut content);
        content.size("", "panel_rows", self.panel.rows());
        self.panel.add_to("panel", &mut content);
        if !self.rounding.is_empty() {
            content.array("", "rounding", &self.rounding);
        }
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        let tiles = TileMatrix::of_source("the curvature", "", source)?;
        let (n, rows) = (tiles.n(), source.size("", "panel_rows")?);
        if rows > ROWS {
            return Err(misfit("the panel", rows, "rows"));
        }
        let rounding = if source.holds("", "rounding") {
            list::copy_of("rounding", &source.array("rounding", "", "rounding", n)?)?
        } else {
            Vec::new()
        };
        let panel = Lanes::of_source("a panel of rows", n, rows, "panel", source)?;
        Ok(Self { panel, ..Self::from_tiles(tiles, rounding)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    #[test]
    fn sums_of_rows_for_sizes_that_straddle_tiles() {
        for (rows, n) in [(1, 1), (3, 255), (1025, 257), (40, 600)] {
            let values: Vec<f32> =
                (0..rows * n).map(|i| ((i * 31) % 97) as f32 / 97.0 - 0.5).collect();
            let mut first = None;
            for threads in 1..=3 {
                let workers = Workers::new(threads).unwrap();
                let mut go = |_| true;
                let mut sum = FullSum::new(n).unwrap();
                let mut driver = Driver::new(&workers, &mut go);
                // In pieces that fill no panel, with the same bits as all at once.
                let piece = if threads == 1 { rows } else { 37 * threads };
                values.chunks(piece * n).for_each(|rows| sum.add_rows(rows, &mut driver).unwrap());
                let tiles = sum.finish(&mut driver).unwrap();
                for (i, j) in [(0, 0), (n - 1, 0), (n - 1, n - 1), (n / 2, n / 3)] {
                    let dense: f64 = (0..rows)
                        .map(|r| f64::from(values[r * n + i]) * f64::from(values[r * n + j]))
                        .sum();
                    let tolerance = 2.0 * (rows * rows) as f64 * f64::EPSILON;
                    assert!((tiles.get(i, j) - dense).abs() <= tolerance);
                }
                let bits: Vec<u64> = (0..n).map(|i| tiles.get(n - 1, i).to_bits()).collect();
                assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits);
            }
        }
    }

    #[test]
    fn an_interrupted_call_goes_on_where_it_was() {
        let workers = Workers::new(2).unwrap();
        let (rows, n) = (2_500, 300);
        let values: Vec<f32> = (0..rows * n).map(|i| ((i * 31) % 97) as f32 / 97.0 - 0.5).collect();
        let (first, second) = values.split_at(1_400 * n);
        let mut truth = Vec::new();
        for k in 0.. {
            let mut calls = 0;
            let mut monitor = |_| {
                calls += 1;
                calls != k
            };
            let mut driver = Driver::new(&workers, &mut monitor).with_round(1.0);
            let (mut sum, mut other) = (FullSum::new(n).unwrap(), FullSum::new(n).unwrap());
            for (sum, part) in [(&mut sum, first), (&mut other, second)] {
                while sum.add_rows(part, &mut driver).is_err() {}
            }
            while sum.merge(&mut other, 1.0, &mut driver).is_err() {}
            if sum.finish(&mut driver).is_err() {
                sum.finish(&mut driver).unwrap();
            }
            let (tiles, rounding) = sum.into_tiles().unwrap();
            assert!(rounding.is_empty());
            let bits: Vec<u64> = (0..n)
                .flat_map(|i| (0..=i).map(move |j| (i, j)))
                .map(|(i, j)| tiles.get(i, j).to_bits())
                .collect();
            if k == 0 {
                truth = bits;
            } else {
                assert_eq!(bits, truth, "interrupt {k}");
            }
            if k > 0 && calls < k {
                assert!(k > 10);
                return;
            }
        }
    }

    #[test]
    fn another_batch_does_not_take_the_place_of_an_interrupted_one() {
        let workers = Workers::new(1).unwrap();
        let values = vec![0.5; 2_000 * 40];
        let mut calls = 0;
        let mut monitor = |_| {
            calls += 1;
            calls != 7
        };
        let mut driver = Driver::new(&workers, &mut monitor).with_round(1.0);
        let mut sum = FullSum::new(40).unwrap();
        assert_eq!(sum.add_rows(&values, &mut driver), Err(CoreError::Interrupted));
        assert_eq!(sum.add_rows(&values[40..], &mut driver), Err(CoreError::Incomplete));
        assert_eq!(sum.finish(&mut driver).unwrap_err(), CoreError::Incomplete);
        sum.add_rows(&values, &mut driver).unwrap();
        assert_eq!(sum.finish(&mut driver).unwrap().get(3, 1), 500.0);
    }
}
