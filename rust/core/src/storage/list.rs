//! Lists that grow with an input: an error instead of an abort when the system refuses.

use crate::error::CoreError;

/// What a call into the pool may need beside its own buffers: queues, and what an error is told in.
const RESERVE: usize = 1 << 20;

/// Makes room for `additional` more elements.
///
/// # Errors
/// [`CoreError::Allocation`].
pub fn reserve<T>(
    what: &'static str,
    list: &mut Vec<T>,
    additional: usize,
) -> Result<(), CoreError> {
    let bytes = additional.saturating_add(list.len()).saturating_mul(size_of::<T>());
    list.try_reserve(additional).map_err(|_| CoreError::Allocation { what, bytes })
}

/// Appends `items`.
///
/// # Errors
/// [`CoreError::Allocation`]; what was appended before stays.
pub fn extend<T>(
    what: &'static str,
    list: &mut Vec<T>,
    items: impl IntoIterator<Item = T>,
) -> Result<(), CoreError> {
    let items = items.into_iter();
    reserve(what, list, items.size_hint().0)?;
    for item in items {
        if list.len() == list.capacity() {
            reserve(what, list, 1)?;
        }
        list.push(item);
    }
    Ok(())
}

/// `items` as a list.
///
/// # Errors
/// [`CoreError::Allocation`].
pub fn collect<T>(
    what: &'static str,
    items: impl IntoIterator<Item = T>,
) -> Result<Vec<T>, CoreError> {
    let mut list = Vec::new();
    extend(what, &mut list, items)?;
    Ok(list)
}

/// A copy of `values`.
///
/// # Errors
/// [`CoreError::Allocation`].
pub fn copy_of(what: &'static str, values: &[f64]) -> Result<Vec<f64>, CoreError> {
    collect(what, values.iter().copied())
}

/// Whether the little that libraries take without asking is there; the check gives it back.
///
/// # Errors
/// [`CoreError::Allocation`].
pub fn check_reserve() -> Result<(), CoreError> {
    reserve::<u8>("a reserve for small things", &mut Vec::new(), RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_what_they_are_given_and_refuse_what_can_not_be() {
        assert_eq!(collect("numbers", (0..1_000).filter(|i| i % 3 == 0)).unwrap().len(), 334);
        let refused = reserve("numbers", &mut vec![0u64], usize::MAX / 8);
        assert!(matches!(refused, Err(CoreError::Allocation { what: "numbers", .. })));
        check_reserve().unwrap();
    }
}
