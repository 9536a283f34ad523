//! What an interrupted call has done to a sum, so that the same call goes on from there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::CoreError;
use crate::input::Real;

/// A sum's name for others, for as long as the process runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// One that no other sum has.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A call that was broken off.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    /// The first `taken` rows of a batch are in; `print` tells the batch from others.
    Add { taken: usize, print: u64 },
    /// The first `tasks` tasks of another sum are in.
    Merge { other: u64, tasks: usize },
}

/// The broken-off call of a sum, if there is one.
#[derive(Debug, Default)]
pub struct Unfinished(Option<Call>);

impl Unfinished {
    /// Refuses what needs a whole sum.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] while a call is broken off.
    pub fn check_none(&self) -> Result<(), CoreError> {
        if self.0.is_none() { Ok(()) } else { Err(CoreError::Incomplete) }
    }

    /// Rows of this batch that are in already.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] when it was another call that was broken off.
    pub fn taken(&self, print: impl FnOnce() -> u64) -> Result<usize, CoreError> {
        match self.0 {
            None => Ok(0),
            Some(Call::Add { taken, print: known }) if known == print() => Ok(taken),
            Some(_) => Err(CoreError::Incomplete),
        }
    }

    /// Keeps how far an addition came; where it did nothing there is nothing to keep.
    pub fn keep_add(&mut self, taken: usize, print: impl FnOnce() -> u64) {
        self.0 = (taken > 0).then(|| Call::Add { taken, print: print() });
    }

    /// Tasks of this other sum that are in already.
    ///
    /// # Errors
    /// [`CoreError::Incomplete`] when it was another call that was broken off.
    pub fn merged(&self, other: &Identity) -> Result<usize, CoreError> {
        match self.0 {
            None => Ok(0),
            Some(Call::Merge { other: known, tasks }) if known == other.0 => Ok(tasks),
            Some(_) => Err(CoreError::Incomplete),
        }
    }

    /// Keeps how far a merge came.
    pub fn keep_merge(&mut self, other: &Identity, tasks: usize) {
        self.0 = (tasks > 0).then_some(Call::Merge { other: other.0, tasks });
    }

    /// Nothing is broken off any more.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

/// A number that tells one batch from another.
pub fn print_of<T: Real, U: Real>(values: &[T], others: &[U]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (values.len(), others.len()).hash(&mut hasher);
    for value in values {
        (*value).into().to_bits().hash(&mut hasher);
    }
    for value in others {
        (*value).into().to_bits().hash(&mut hasher);
    }
    hasher.finish()
}
