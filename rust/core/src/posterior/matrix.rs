//! Dense `P x P` output in the caller's order of parameters, without a second `P x P`.

use crate::cholesky::Factor;
use crate::error::CoreError;
use crate::storage::list;
use crate::threads::Driver;

/// What the list of rows is called.
const ROWS: &str = "rows of a dense matrix";

/// Writes each row of a matrix known by its factor into the front of a row of output.
pub type FillRows = fn(&Factor, &mut [&mut [f64]], &mut Driver<'_>) -> Result<(), CoreError>;

/// The rows of `out` (`P x P`, row by row) such that row `order[k]` of `out` comes as row `k`.
pub fn rows_in_order<'o>(
    out: &'o mut [f64],
    order: &[usize],
) -> Result<Vec<&'o mut [f64]>, CoreError> {
    let n = order.len();
    CoreError::check_len("a dense matrix", n * n, out.len())?;
    let mut rows = list::collect(ROWS, out.chunks_exact_mut(n.max(1)).map(Some))?;
    let picked = order.iter().filter_map(|&row| rows.get_mut(row).and_then(Option::take));
    let picked = list::collect(ROWS, picked)?;
    CoreError::check_len("order (it must be a permutation)", n, picked.len())?;
    Ok(picked)
}

/// Moves element `k` of a row to `order[k]`.
pub fn scatter(row: &mut [f64], order: &[usize], scratch: &mut [f64]) {
    scratch.copy_from_slice(row);
    for (value, target) in scratch.iter().zip(order) {
        row[*target] = *value;
    }
}

/// Copies the lower triangle of each `n x n` matrix, one after the other, above its diagonal.
pub fn mirror_each(out: &mut [f64], n: usize, driver: &mut Driver<'_>) -> Result<(), CoreError> {
    driver.for_each(out.chunks_exact_mut(n * n), (n * n) as f64, 0, |matrix, _| {
        for a in 1..n {
            for b in 0..a {
                matrix[b * n + a] = matrix[a * n + b];
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_must_be_a_permutation() {
        let mut out = vec![0.0; 9];
        assert!(rows_in_order(&mut out, &[0, 0, 1]).is_err());
        assert!(rows_in_order(&mut out, &[0, 1, 3]).is_err());
        rows_in_order(&mut out, &[2, 0, 1]).unwrap()[0][0] = 5.0;
        assert_eq!(out[6], 5.0);
        let mut row = [1.0, 2.0, 3.0];
        scatter(&mut row, &[2, 0, 1], &mut [0.0; 3]);
        assert_eq!(row, [2.0, 3.0, 1.0]);
    }
}
