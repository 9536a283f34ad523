//! Sums of `J^T Lambda J` over the data: one file for each way that `J` comes.

pub mod dense_layer;
pub mod diagonal;
pub mod jacobian;
mod kernel;
mod lanes;
pub(crate) mod panel;
mod weighted;

use crate::error::CoreError;

/// A real input type, widened to float64 while it is packed.
pub trait Real: Copy + Send + Sync + Into<f64> {}
impl Real for f32 {}
impl Real for f64 {}

/// Checks that an array is `rows x columns` and finite.
pub(crate) fn check_matrix<T: Real>(
    what: &'static str,
    values: &[T],
    rows: usize,
    columns: usize,
) -> Result<(), CoreError> {
    CoreError::check_len(what, rows * columns, values.len())?;
    // x * 0 is 0 for every finite x and NaN otherwise: one sum without branches.
    let probe = |chunk: &[T]| chunk.iter().map(|v| (*v).into() * 0.0).sum::<f64>() == 0.0;
    if values.chunks(4096).all(probe) {
        return Ok(());
    }
    let index = values.iter().position(|v| !(*v).into().is_finite()).unwrap_or(0);
    let (row, column) = (index / columns.max(1), index % columns.max(1));
    Err(CoreError::NonFinite { what, value: values[index].into(), row, column })
}
