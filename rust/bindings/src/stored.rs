//! What a sum or a factor is made of, for files that Python writes.

use std::collections::HashMap;
use std::fs::File;

use hoarfrost_core::error::CoreError;
use hoarfrost_core::storage::stored::{Content, Source};
use pyo3::exceptions::{PyIndexError, PyKeyError, PyTypeError};
use pyo3::prelude::*;

use crate::block_diagonal::BlockDiagonalPosterior;
use crate::diagonal::{DiagonalCurvature, DiagonalPosterior};
use crate::dual::{DualPosterior, RowCurvature};
use crate::errors::to_python;
use crate::full::{FullCurvature, FullPosterior};
use crate::head::{HeadCurvature, HeadPosterior};
use crate::kronecker::KroneckerPosterior;
use crate::layer::LayerPosterior;
use crate::output::{Array, vector};

/// Numbers by name, and how many values each array holds.
type Listed = (Vec<(String, f64)>, Vec<(String, usize)>);

/// A class whose contents can be written to a file and come back.
pub trait Saved: Sized {
    /// Reads what it is made of, which stays as it is meanwhile.
    fn read<R>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&Content<'_>) -> PyResult<R>,
    ) -> PyResult<R>;

    /// The same again.
    fn again(source: &Source) -> Result<Self, CoreError>;
}

/// [`Saved`] for a class that holds one `posterior`, which nothing changes.
macro_rules! saved_posterior {
    ($class:ident) => {
        impl $crate::stored::Saved for $class {
            fn read<R>(
                &self,
                py: Python<'_>,
                read: impl FnOnce(&hoarfrost_core::storage::stored::Content<'_>) -> PyResult<R>,
            ) -> PyResult<R> {
                use hoarfrost_core::storage::stored::Stored;
                let content = self.posterior.content();
                read(&content.map_err(|error| $crate::errors::to_python(py, &error))?)
            }

            fn again(
                source: &hoarfrost_core::storage::stored::Source,
            ) -> Result<Self, hoarfrost_core::error::CoreError> {
                use hoarfrost_core::storage::stored::Stored;
                Stored::restored(source).map(|posterior| Self { posterior })
            }
        }
    };
}
pub(crate) use saved_posterior;

/// Does `$body` with every class of the core that can be saved: `$class`, and its name in Python.
macro_rules! each_class {
    (|$class:ident, $name:ident| $body:block) => {
        each_class!(@ $body, $class, $name: DiagonalCurvature, DiagonalPosterior, FullCurvature,
            FullPosterior, HeadCurvature, HeadPosterior, BlockDiagonalPosterior,
            KroneckerPosterior, LayerPosterior, RowCurvature, DualPosterior);
    };
    (@ $body:block, $class:ident, $name:ident: $($one:ident),*) => {
        $({
            type $class = $one;
            let $name = stringify!($one);
            $body
        })*
    };
}

/// Does something with the contents of an object of the core.
fn read<R>(
    object: &Bound<'_, PyAny>,
    mut work: impl FnMut(&Content<'_>) -> PyResult<R>,
) -> PyResult<R> {
    each_class!(|Class, _name| {
        if let Ok(known) = object.cast::<Class>() {
            return known.get().read(object.py(), &mut work);
        }
    });
    Err(PyTypeError::new_err("this is no object of the core that can be saved"))
}

/// Numbers by name, and how many values each array of an object holds.
#[pyfunction]
pub fn stored(object: &Bound<'_, PyAny>) -> PyResult<Listed> {
    read(object, |content| {
        let arrays = content.arrays.iter().map(|(name, values)| (name.clone(), values.len()));
        Ok((content.numbers.clone(), arrays.collect()))
    })
}

/// A copy of some values of an array of an object.
#[pyfunction]
pub fn stored_values<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
    start: usize,
    stop: usize,
) -> PyResult<Array<'py>> {
    read(object, |content| {
        let Some((_, values)) = content.arrays.iter().find(|(known, _)| known == name) else {
            return Err(PyKeyError::new_err(name.to_owned()));
        };
        let Some(part) = values.get(start..stop) else {
            let text = format!("{name} holds {} values, none from {start} to {stop}", values.len());
            return Err(PyIndexError::new_err(text));
        };
        vector(object.py(), part)
    })
}

/// An object of a class of the core again, from an open file's descriptor, its numbers, and where
/// each of its arrays begins and how many values it holds.
#[pyfunction]
pub fn restored<'py>(
    py: Python<'py>,
    name: &str,
    file: isize,
    numbers: HashMap<String, f64>,
    arrays: HashMap<String, (u64, usize)>,
) -> PyResult<Bound<'py, PyAny>> {
    let numbers = numbers.into_iter().collect();
    let arrays = arrays.into_iter().map(|(name, (first, len))| (name, first, len)).collect();
    let failed = |error| to_python(py, &error);
    let source = opened(file)
        .map_err(|error| CoreError::Stored { reason: format!("file {file}: {error}") })
        .and_then(|file| Source::new(file, numbers, arrays))
        .map_err(failed)?;
    each_class!(|Class, known| {
        if name == known {
            let object = Class::again(&source).map_err(failed)?;
            return Ok(Bound::new(py, object)?.into_any());
        }
    });
    Err(failed(CoreError::Stored { reason: format!("{name} is no class of the core") }))
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
