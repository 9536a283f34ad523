//! `H = R^T R` kept as its rows: where there are fewer of them than parameters, all that is asked of
//! `H + T` is answered in their space, by the Gram matrix `R T^-1 R^T`.
//!
//! A Gram matrix costs as much as an assembly; those of stretches of parameters that share a prior
//! are kept, so that another precision for each costs nothing of that size.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::CoreError;
use crate::input::{Real, check_matrix, check_weight};
use crate::kernel::rows::{Columns, add_gram};
use crate::storage::list;
use crate::storage::rows::Rows;
use crate::storage::stored::{Content, Source, Stored};
use crate::storage::tiles::TileMatrix;
use crate::threads::Driver;

/// Most groups whose Gram matrices are kept.
const GROUPS: usize = 64;

/// Partitions whose Gram matrices are kept at a time.
const KEPT: usize = 2;

/// A partition of the parameters, labelled in the order of their first members.
pub type Labels = Vec<u32>;

/// The rows of a curvature, and the Gram matrices that were asked for.
#[derive(Debug)]
pub struct Held {
    rows: Rows,
    grams: Mutex<Vec<Arc<Grams>>>,
}

/// `R_g R_g^T` for each group `g` of a partition.
#[derive(Debug)]
pub struct Grams {
    labels: Labels,
    matrices: Vec<TileMatrix>,
}

impl Grams {
    /// Of each group.
    pub fn matrices(&self) -> &[TileMatrix] {
        &self.matrices
    }
}

impl Held {
    fn new(rows: Rows) -> Arc<Self> {
        Arc::new(Self { rows, grams: Mutex::new(Vec::new()) })
    }

    /// The rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Bytes of rows and Gram matrices.
    pub fn nbytes(&self) -> usize {
        let kept = self.grams.lock().unwrap_or_else(PoisonError::into_inner);
        let matrices = kept.iter().flat_map(|grams| &grams.matrices);
        self.rows.nbytes() + matrices.map(TileMatrix::nbytes).sum::<usize>()
    }

    /// Groups of a partition that may be kept: together their matrices take less than the rows.
    pub fn most_groups(&self) -> usize {
        GROUPS.min(self.rows.columns() / self.rows.count().max(1)).max(1)
    }

    /// The Gram matrix of each group. Cost: `M^2 P` flops for `M` rows, unless they are kept.
    ///
    /// # Errors
    /// [`CoreError::Allocation`], [`CoreError::Interrupted`].
    pub fn grams(&self, labels: &Labels, driver: &mut Driver<'_>) -> Result<Arc<Grams>, CoreError> {
        let kept = self.grams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|grams| grams.labels == *labels) {
            return Ok(Arc::clone(found));
        }
        drop(kept);
        let groups = labels.iter().max().map_or(0, |last| last + 1);
        let (rows, mut matrices) = (self.rows.slices()?, Vec::new());
        list::reserve("Gram matrices", &mut matrices, groups as usize)?;
        for label in 0..groups {
            let mut matrix = TileMatrix::zeros("a Gram matrix", rows.len())?;
            let columns = Columns::labelled(labels, label)?;
            add_gram(&rows, &columns, None, &mut matrix, driver)?;
            matrices.push(matrix);
        }
        let labels = list::collect("labels", labels.iter().copied())?;
        let made = Arc::new(Grams { labels, matrices });
        let mut kept = self.grams.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        list::extend("kept Gram matrices", &mut kept, [Arc::clone(&made)])?;
        Ok(made)
    }
}

/// The partition by equal values, where it has at most so many groups.
///
/// # Errors
/// [`CoreError::Allocation`].
pub fn by_value(values: &[f64], most: usize) -> Result<Option<(Labels, Vec<f64>)>, CoreError> {
    let (mut labels, mut known) = (Vec::new(), Vec::<f64>::new());
    list::reserve("labels", &mut labels, values.len())?;
    for value in values {
        let place = known.iter().position(|other| other.to_bits() == value.to_bits());
        if place.is_none() {
            if known.len() == most {
                return Ok(None);
            }
            list::extend("values", &mut known, [*value])?;
        }
        #[allow(clippy::cast_possible_truncation)]
        labels.push(place.unwrap_or(known.len() - 1) as u32);
    }
    Ok(Some((labels, known)))
}

/// The growing curvature as its rows.
#[derive(Debug)]
pub struct RowSum {
    held: Arc<Held>,
}

impl RowSum {
    /// An empty sum over `num_params` parameters.
    ///
    /// # Errors
    /// [`CoreError::Shape`] without parameters.
    pub fn new(num_params: usize) -> Result<Self, CoreError> {
        if num_params == 0 {
            return Err(CoreError::Shape { what: "number of parameters", expected: 1, found: 0 });
        }
        Ok(Self { held: Held::new(Rows::new(num_params)) })
    }

    /// A sum of what is held elsewhere, too.
    pub fn of(held: &Arc<Held>) -> Self {
        Self { held: Arc::clone(held) }
    }

    /// Bytes of such a sum, and of a Gram matrix.
    pub fn bytes_of(num_params: usize, num_rows: usize) -> (usize, usize) {
        let rows = num_params.saturating_mul(num_rows).saturating_mul(size_of::<f64>());
        (rows, TileMatrix::bytes_of(num_rows))
    }

    /// What it holds.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Number of parameters.
    pub fn num_params(&self) -> usize {
        self.held.rows.columns()
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.held.nbytes()
    }

    /// Adds `rows^T rows`, `rows` being `R x P`: they are kept.
    ///
    /// # Errors
    /// [`CoreError::Shape`], [`CoreError::NonFinite`], [`CoreError::Allocation`],
    /// [`CoreError::Interrupted`], each before anything is changed.
    pub fn add_rows<T: Real>(
        &mut self,
        rows: &[T],
        driver: &mut Driver<'_>,
    ) -> Result<(), CoreError> {
        let columns = self.num_params();
        check_matrix("rows", rows, rows.len() / columns, columns, driver)?;
        self.change(|held| held.push(rows))
    }

    /// Adds `weight` times `other`, which stays as it is; at 1 its rows are shared.
    ///
    /// # Errors
    /// [`CoreError::Shape`] when the numbers of parameters differ, [`CoreError::NegativeWeight`],
    /// [`CoreError::Allocation`]: before anything is changed.
    pub fn merge(&mut self, other: &Self, weight: f64) -> Result<(), CoreError> {
        check_weight(weight)?;
        CoreError::check_len("parameters of the other sum", self.num_params(), other.num_params())?;
        self.change(|held| held.append(&other.held.rows, weight.sqrt()))
    }

    /// Changes the rows; whoever shares them keeps those that there were.
    fn change(
        &mut self,
        work: impl FnOnce(&mut Rows) -> Result<(), CoreError>,
    ) -> Result<(), CoreError> {
        if let Some(own) = Arc::get_mut(&mut self.held) {
            own.grams.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
            return work(&mut own.rows);
        }
        let mut rows = self.held.rows.clone();
        work(&mut rows)?;
        self.held = Held::new(rows);
        Ok(())
    }
}

impl Stored for RowSum {
    fn content(&self) -> Result<Content<'_>, CoreError> {
        let mut content = Content::default();
        self.held.rows.add_to(&mut content);
        Ok(content)
    }

    fn restored(source: &Source) -> Result<Self, CoreError> {
        Ok(Self { held: Held::new(Rows::of_source(source)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    #[test]
    fn a_partition_is_labelled_by_first_members() {
        let (labels, values) = by_value(&[2.0, 1.0, 2.0, 3.0], 3).unwrap().unwrap();
        assert_eq!((labels, values), (vec![0, 1, 0, 2], vec![2.0, 1.0, 3.0]));
        assert!(by_value(&[2.0, 1.0, 3.0], 2).unwrap().is_none());
    }

    #[test]
    fn gram_matrices_are_kept_until_rows_come() {
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let mut sum = RowSum::new(4).unwrap();
        sum.add_rows(&[1.0f32, 2.0, 3.0, 4.0, 0.5, 0.0, -1.0, 1.0], &mut driver).unwrap();
        let labels = vec![0, 1, 0, 1];
        let first = sum.held().grams(&labels, &mut driver).unwrap();
        assert!(Arc::ptr_eq(&first, &sum.held().grams(&labels, &mut driver).unwrap()));
        let [even, odd] = [0, 1].map(|g| first.matrices()[g].get(1, 0));
        assert_eq!((even, odd), (-2.5, 4.0));
        let shared = RowSum::of(sum.held());
        let other = RowSum::of(sum.held());
        sum.merge(&other, 4.0).unwrap();
        assert_eq!((shared.held().rows().count(), sum.held().rows().count()), (2, 4));
        let again = sum.held().grams(&labels, &mut driver).unwrap();
        assert_eq!(again.matrices()[0].get(3, 2), -10.0);
        assert!(sum.add_rows(&[f64::NAN; 4], &mut driver).is_err());
        assert!(sum.merge(&RowSum::new(3).unwrap(), 1.0).is_err());
    }
}
