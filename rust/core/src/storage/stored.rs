//! What a sum or a factor is made of, by name: written to a file, it comes back with the same bits.
//!
//! Who writes the file is not said here. A [`Content`] borrows what is there, so that nothing is
//! copied before it is written; a [`Source`] maps large arrays instead of reading them, so that a
//! factor of any size is there at once.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::error::CoreError;
use crate::storage::buffer::Buffer;

/// Values below which an array is read: a map of its own is not worth it.
const READ: usize = 1 << 17;

/// Bytes that are read at a time.
const AT_ONCE: usize = 1 << 13;

/// Numbers and arrays by name.
#[derive(Debug, Default)]
pub struct Content<'a> {
    /// Each number, sizes too, which are exact up to `2^53`.
    pub numbers: Vec<(String, f64)>,
    /// Each array.
    pub arrays: Vec<(String, &'a [f64])>,
}

impl<'a> Content<'a> {
    /// Adds a number.
    pub fn number(&mut self, prefix: &str, name: &str, value: f64) {
        self.numbers.push((format!("{prefix}{name}"), value));
    }

    /// Adds a size.
    pub fn size(&mut self, prefix: &str, name: &str, value: usize) {
        self.number(prefix, name, value as f64);
    }

    /// Adds an array.
    pub fn array(&mut self, prefix: &str, name: &str, values: &'a [f64]) {
        self.arrays.push((format!("{prefix}{name}"), values));
    }
}

/// What can be written to a file and comes back.
pub trait Stored: Sized {
    /// What it is made of.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] while a call that changes it is broken off.
    fn content(&self) -> Result<Content<'_>, CoreError>;

    /// The same again.
    ///
    /// # Errors
    /// [`CoreError::Stored`] where the file does not hold such a thing, [`CoreError::Allocation`].
    fn restored(source: &Source) -> Result<Self, CoreError>;
}

/// Numbers, and arrays of a file.
#[derive(Debug)]
pub struct Source {
    file: File,
    numbers: Vec<(String, f64)>,
    /// Name, first byte, and how many values.
    arrays: Vec<(String, u64, usize)>,
}

impl Source {
    /// Of a file that is open for reading; what an array is said to hold must lie within it.
    ///
    /// # Errors
    /// [`CoreError::Stored`] of an array that ends beyond the file.
    pub fn new(
        file: File,
        numbers: Vec<(String, f64)>,
        arrays: Vec<(String, u64, usize)>,
    ) -> Result<Self, CoreError> {
        let total = file.metadata().map_err(|error| unreadable("the file", &error))?.len();
        for (name, first, len) in &arrays {
            let bytes = (*len as u64).saturating_mul(size_of::<f64>() as u64);
            if first.saturating_add(bytes) > total {
                return Err(misfit(name, *len, "values within the file"));
            }
        }
        Ok(Self { file, numbers, arrays })
    }

    /// A number.
    ///
    /// # Errors
    /// [`CoreError::Stored`].
    pub fn number(&self, prefix: &str, name: &str) -> Result<f64, CoreError> {
        let mut found = self.numbers.iter().filter(|(known, _)| is(known, prefix, name));
        found.next().map(|(_, value)| *value).ok_or_else(|| missing(prefix, name))
    }

    /// A number that is a size.
    ///
    /// # Errors
    /// [`CoreError::Stored`].
    pub fn size(&self, prefix: &str, name: &str) -> Result<usize, CoreError> {
        let value = self.number(prefix, name)?;
        // Beyond this no float is a size of anything that memory holds.
        if value >= 0.0 && value < 2f64.powi(48) && value.fract() == 0.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            return Ok(value as usize);
        }
        let reason = format!("{prefix}{name} is {value}, no size");
        Err(CoreError::Stored { reason })
    }

    /// Whether there is such an array.
    pub fn holds(&self, prefix: &str, name: &str) -> bool {
        self.arrays.iter().any(|(known, ..)| is(known, prefix, name))
    }

    /// An array of `len` values.
    ///
    /// # Errors
    /// [`CoreError::Stored`], [`CoreError::Allocation`].
    pub fn array(
        &self,
        what: &'static str,
        prefix: &str,
        name: &str,
        len: usize,
    ) -> Result<Buffer, CoreError> {
        let mut found = self.arrays.iter().filter(|(known, ..)| is(known, prefix, name));
        let (_, first, stored) = found.next().ok_or_else(|| missing(prefix, name))?;
        if *stored != len {
            return Err(misfit(name, *stored, &format!("values, not {len}")));
        }
        if len >= READ
            && let Some(buffer) = Buffer::of_file(&self.file, *first, len)
        {
            return Ok(buffer);
        }
        let mut buffer = Buffer::zeros(what, len)?;
        self.read(*first, &mut buffer).map_err(|error| unreadable(name, &error))?;
        Ok(buffer)
    }

    fn read(&self, first: u64, values: &mut [f64]) -> std::io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(first))?;
        let mut bytes = [0; AT_ONCE];
        for part in values.chunks_mut(AT_ONCE / size_of::<f64>()) {
            let bytes = &mut bytes[..size_of_val(part)];
            file.read_exact(bytes)?;
            for (value, bytes) in part.iter_mut().zip(bytes.as_chunks().0) {
                *value = f64::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }
}

/// A mistake in what a file holds.
pub fn misfit(name: &str, found: usize, what: &str) -> CoreError {
    CoreError::Stored { reason: format!("{name} holds {found} {what}") }
}

fn missing(prefix: &str, name: &str) -> CoreError {
    CoreError::Stored { reason: format!("{prefix}{name} is missing") }
}

fn unreadable(name: &str, error: &std::io::Error) -> CoreError {
    CoreError::Stored { reason: format!("{name} cannot be read: {error}") }
}

fn is(known: &str, prefix: &str, name: &str) -> bool {
    known.strip_prefix(prefix) == Some(name)
}

#[cfg(test)]
mod tests;
