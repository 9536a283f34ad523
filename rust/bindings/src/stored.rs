//! What a sum or a factor is made of, for files that Python writes.

use std::collections::HashMap;
use std::fs::File;

use hoarfrost_core::error::CoreError;
use hoarfrost_core::storage::stored::{Content, Source, Stored};
use pyo3::exceptions::{PyIndexError, PyKeyError};
use pyo3::prelude::*;

use crate::errors::to_python;
use crate::output::{Array, vector};

/// Numbers by name, and how many values each array holds.
pub type Listed = (Vec<(String, f64)>, Vec<(String, usize)>);

/// Where each array of a file begins, and how many values it holds.
pub type Places = HashMap<String, (u64, usize)>;

/// What there is to write.
pub fn listed(py: Python<'_>, value: &impl Stored) -> PyResult<Listed> {
    let Content { numbers, arrays } = value.content().map_err(|error| to_python(py, &error))?;
    Ok((numbers, arrays.into_iter().map(|(name, values)| (name, values.len())).collect()))
}

/// A copy of some values of an array.
pub fn values<'py>(
    py: Python<'py>,
    value: &impl Stored,
    name: &str,
    start: usize,
    stop: usize,
) -> PyResult<Array<'py>> {
    let content = value.content().map_err(|error| to_python(py, &error))?;
    let Some((_, values)) = content.arrays.into_iter().find(|(known, _)| known == name) else {
        return Err(PyKeyError::new_err(name.to_owned()));
    };
    let Some(part) = values.get(start..stop) else {
        let text = format!("{name} holds {} values, none from {start} to {stop}", values.len());
        return Err(PyIndexError::new_err(text));
    };
    vector(py, part)
}

/// The same again, from a file that is open for reading.
pub fn restored<T: Stored>(
    py: Python<'_>,
    file: isize,
    numbers: HashMap<String, f64>,
    arrays: Places,
) -> PyResult<T> {
    let numbers = numbers.into_iter().collect();
    let arrays = arrays.into_iter().map(|(name, (first, len))| (name, first, len)).collect();
    opened(file)
        .map_err(|error| CoreError::Stored { reason: format!("file {file}: {error}") })
        .and_then(|file| Source::new(file, numbers, arrays))
        .and_then(|source| T::restored(&source))
        .map_err(|error| to_python(py, &error))
}

/// The file of a descriptor, which stays its owner's.
#[cfg(unix)]
fn opened(descriptor: isize) -> std::io::Result<File> {
    use std::os::fd::BorrowedFd;
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0);
    let Some(descriptor) = descriptor else { return Err(std::io::ErrorKind::InvalidInput.into()) };
    // SAFETY: a descriptor that is not open is refused by the system when it is copied.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    borrowed.try_clone_to_owned().map(File::from)
}

/// The file of a handle (`msvcrt.get_osfhandle`), which stays its owner's.
#[cfg(windows)]
fn opened(handle: isize) -> std::io::Result<File> {
    use std::os::windows::io::{BorrowedHandle, RawHandle};
    // SAFETY: a handle that is not open is refused by the system when it is copied.
    let borrowed = unsafe { BorrowedHandle::borrow_raw(handle as RawHandle) };
    borrowed.try_clone_to_owned().map(File::from)
}
