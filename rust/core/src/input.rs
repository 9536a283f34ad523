//! What comes in: real types, widened to float64, and checked before anything is touched.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::CoreError;
use crate::kernel::LANE;
use crate::kernel::dot::total;
use crate::threads::Driver;

/// Values that one task checks.
const CHECKED: usize = 1 << 16;

/// A real input type, widened to float64 while it is packed.
pub trait Real: Copy + Send + Sync + Into<f64> {}
impl Real for f32 {}
impl Real for f64 {}

/// Copies `values` to the front of `out`, widened.
pub fn widen<T: Real>(values: &[T], out: &mut [f64]) {
    for (target, value) in out.iter_mut().zip(values) {
        *target = (*value).into();
    }
}

/// Number of rows of an array that must be `rows x columns` and finite.
///
/// # Errors
/// [`CoreError::Shape`], [`CoreError::NonFinite`] with the first such value,
/// [`CoreError::Interrupted`].
pub fn check_matrix<T: Real>(
    what: &'static str,
    values: &[T],
    rows: usize,
    columns: usize,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    CoreError::check_len(what, rows.saturating_mul(columns), values.len())?;
    match first_where(values, finite, |value| !value.is_finite(), driver)? {
        None => Ok(()),
        Some((index, value)) => {
            let (row, column) = (index / columns.max(1), index % columns.max(1));
            Err(CoreError::NonFinite { what, value, row, column })
        }
    }
}

/// Checks that no weight, `columns` a row, is negative.
///
/// # Errors
/// [`CoreError::NegativeWeight`] with the first one, [`CoreError::Interrupted`].
pub fn check_weights<T: Real>(
    weights: &[T],
    columns: usize,
    driver: &mut Driver<'_>,
) -> Result<(), CoreError> {
    let sound = |part: &[T]| !part.iter().any(|w| (*w).into() < 0.0);
    match first_where(weights, sound, |w| w < 0.0, driver)? {
        None => Ok(()),
        Some((index, value)) => {
            let (row, column) = (index / columns.max(1), index % columns.max(1));
            Err(CoreError::NegativeWeight { row, column, value })
        }
    }
}

/// x * 0 is 0 for every finite x and NaN otherwise: sums without branches.
fn finite<T: Real>(values: &[T]) -> bool {
    let (lanes, rest) = values.as_chunks::<LANE>();
    let mut sums = [0.0; LANE];
    for lane in lanes {
        for (sum, value) in sums.iter_mut().zip(lane) {
            *sum += (*value).into() * 0.0;
        }
    }
    let rest: f64 = rest.iter().map(|v| (*v).into() * 0.0).sum();
    total(&sums) + rest == 0.0
}

/// The first value that is `bad`, looked for where a part of the values is not `sound`.
fn first_where<T: Real>(
    values: &[T],
    sound: impl Fn(&[T]) -> bool + Sync,
    bad: impl Fn(f64) -> bool,
    driver: &mut Driver<'_>,
) -> Result<Option<(usize, f64)>, CoreError> {
    let all_sound = if values.len() <= CHECKED {
        sound(values)
    } else {
        let all = AtomicBool::new(true);
        driver.for_each(values.chunks(CHECKED), CHECKED as f64, 0, |part, _| {
            if !sound(part) {
                all.store(false, Ordering::Relaxed);
            }
        })?;
        all.into_inner()
    };
    if all_sound {
        return Ok(None);
    }
    let wide = values.iter().map(|value| (*value).into());
    Ok(wide.enumerate().find(|(_, value)| bad(*value)))
}

/// Checks that what a sum is multiplied by is positive and finite.
///
/// # Errors
/// [`CoreError::NegativeWeight`].
pub fn check_weight(weight: f64) -> Result<(), CoreError> {
    if weight.is_finite() && weight > 0.0 {
        Ok(())
    } else {
        Err(CoreError::NegativeWeight { row: 0, column: 0, value: weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Workers;

    #[test]
    fn the_first_bad_value_is_named_wherever_it_is() {
        let workers = Workers::new(2).unwrap();
        let mut go = |_| true;
        let mut driver = Driver::new(&workers, &mut go);
        let (rows, columns) = (30_000, 7);
        let mut values = vec![1.0f32; rows * columns];
        check_matrix("x", &values, rows, columns, &mut driver).unwrap();
        check_weights(&values, columns, &mut driver).unwrap();
        for (row, column) in [(29_999, 6), (20_000, 3), (2, 5), (0, 0)] {
            values[row * columns + column] = f32::NEG_INFINITY;
            let seen = check_matrix("x", &values, rows, columns, &mut driver).unwrap_err();
            let value = f64::NEG_INFINITY;
            assert_eq!(seen, CoreError::NonFinite { what: "x", value, row, column });
            let seen = check_weights(&values, columns, &mut driver).unwrap_err();
            assert_eq!(seen, CoreError::NegativeWeight { row, column, value });
        }
        assert!(check_matrix("x", &values, rows, 8, &mut driver).is_err());
        assert!(check_matrix("x", &values, usize::MAX, 8, &mut driver).is_err());
    }
}
