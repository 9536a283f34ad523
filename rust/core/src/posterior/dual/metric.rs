//! The prior in the space of the rows: `R T^-1 R^T`, and the parameters by the prior that they share.

use crate::assemble::rows::{Held, Labels, by_value};
use crate::error::CoreError;
use crate::kernel::rows::{Columns, add_gram};
use crate::storage::list;
use crate::storage::tiles::TileMatrix;
use crate::threads::Driver;

/// Parameters by what they have in common, labelled by first members.
pub struct Partition {
    /// One a parameter.
    pub labels: Labels,
    /// The caller's number of each group.
    pub groups: Vec<usize>,
    /// The variance under the prior that a group shares, and how many share it.
    pub values: Vec<(f64, usize)>,
}

impl Partition {
    /// `None` where the variance differs within a group.
    ///
    /// # Errors
    /// [`CoreError::Shape`] of a group beyond `count`, [`CoreError::Allocation`].
    pub fn new(
        groups: &[usize],
        variances: &[f64],
        count: usize,
    ) -> Result<Option<Self>, CoreError> {
        let mut places = list::collect("groups", (0..count).map(|_| None))?;
        let mut found = Self { labels: Vec::new(), groups: Vec::new(), values: Vec::new() };
        list::reserve("labels", &mut found.labels, groups.len())?;
        list::reserve("groups", &mut found.groups, count)?;
        list::reserve("groups", &mut found.values, count)?;
        for (group, variance) in groups.iter().zip(variances) {
            let Some(place) = places.get_mut(*group) else {
                return Err(CoreError::Shape { what: "groups", expected: count, found: *group });
            };
            let label = *place.get_or_insert(found.groups.len());
            if label == found.groups.len() {
                found.groups.push(*group);
                found.values.push((*variance, 0));
            }
            let (known, size) = &mut found.values[label];
            if known.to_bits() != variance.to_bits() {
                return Ok(None);
            }
            *size += 1;
            #[allow(clippy::cast_possible_truncation)]
            found.labels.push(label as u32);
        }
        Ok(Some(found))
    }
}

/// `R T^-1 R^T`, from kept matrices where the prior is shared by groups.
///
/// # Errors
/// [`CoreError::Allocation`], [`CoreError::Interrupted`].
pub fn gram(
    held: &Held,
    prior: &[f64],
    variances: &[f64],
    driver: &mut Driver<'_>,
) -> Result<TileMatrix, CoreError> {
    let count = held.rows().count();
    let mut total = TileMatrix::zeros("the factor", count)?;
    let Some((labels, values)) = by_value(prior, held.most_groups())? else {
        let columns = Columns::all(prior.len())?;
        add_gram(&held.rows().slices()?, &columns, Some(variances), &mut total, driver)?;
        return Ok(total);
    };
    let grams = held.grams(&labels, driver)?;
    for (matrix, value) in grams.matrices().iter().zip(values) {
        total.add_scaled(matrix, 1.0 / value);
    }
    Ok(total)
}

/// An error of the factor of `B`, whose least prior is a multiple of the one that there is.
pub fn of_prior(error: CoreError, smallest: f64) -> CoreError {
    match error {
        CoreError::LostInRounding { size, prior, eigenvalue, rounding, directions, least } => {
            let least = least * smallest;
            CoreError::LostInRounding { size, prior, eigenvalue, rounding, directions, least }
        }
        CoreError::NotPositiveDefinite { size, pivot, least } => {
            CoreError::NotPositiveDefinite { size, pivot, least: least * smallest }
        }
        other => other,
    }
}
