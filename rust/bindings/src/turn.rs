//! One call at a time on what calls change; the others wait, without the GIL and open to Ctrl-C.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::in_use_at_fork;

/// Time between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// Nobody's number.
const NOBODY: u64 = 0;

/// A value that one thread at a time changes.
pub struct Turn<T> {
    value: Mutex<T>,
    /// Who has it.
    holder: AtomicU64,
}

/// The value, until this is dropped.
pub struct Held<'t, T> {
    value: MutexGuard<'t, T>,
    holder: &'t AtomicU64,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.holder.store(NOBODY, Ordering::Release);
    }
}

/// The number of this thread of this process.
fn caller() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed) & u64::from(u32::MAX);
    }
    u64::from(std::process::id()) << 32 | NUMBER.with(|number| *number)
}

impl<T> Turn<T> {
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), holder: AtomicU64::new(NOBODY) }
    }

    /// The value, when its turn has come.
    ///
    /// Raises what a signal handler raises; `ValueError` where this thread has the value already (a
    /// callback of a call on it); `CurvatureStateError` in a child that was forked while a thread of
    /// its parent had it.
    pub fn take(&self, py: Python<'_>) -> PyResult<Held<'_, T>> {
        loop {
            if let Some(held) = self.try_take(py)? {
                return Ok(held);
            }
            wait(py)?;
        }
    }

    /// Both values, in whichever order they can be had.
    pub fn take_both<'t>(
        &'t self,
        other: &'t Self,
        py: Python<'_>,
    ) -> PyResult<(Held<'t, T>, Held<'t, T>)> {
        if std::ptr::eq(self, other) {
            return Err(PyValueError::new_err("a curvature cannot be merged with itself"));
        }
        loop {
            let own = self.take(py)?;
            if let Some(other) = other.try_take(py)? {
                return Ok((own, other));
            }
            // Another thread may have that one and wait for this one.
            drop(own);
            wait(py)?;
        }
    }

    fn try_take(&self, py: Python<'_>) -> PyResult<Option<Held<'_, T>>> {
        let value = match self.value.try_lock() {
            Ok(value) => value,
            // A call that panicked; what it left can be told by the value itself.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let holder = self.holder.load(Ordering::Acquire);
                if holder == caller() {
                    return Err(PyValueError::new_err(
                        "a curvature cannot be used by the callback of a call on it",
                    ));
                }
                if holder != NOBODY && holder >> 32 != caller() >> 32 {
                    return Err(in_use_at_fork(py));
                }
                return Ok(None);
            }
        };
        self.holder.store(caller(), Ordering::Release);
        Ok(Some(Held { value, holder: &self.holder }))
    }
}

/// Lets others go on, and handles signals.
fn wait(py: Python<'_>) -> PyResult<()> {
    py.detach(|| std::thread::sleep(BETWEEN_TRIES));
    py.check_signals()
}
