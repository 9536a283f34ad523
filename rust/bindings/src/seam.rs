//! The one way into the core: the GIL released, interrupts noticed, errors mapped, panics caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use hoarfrost_core::error::CoreError;
use hoarfrost_core::threads::{Driver, Workers};
use pyo3::prelude::*;

use crate::errors::{internal, to_python};

/// Least time between two looks for a signal.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Runs `work` without the GIL. Between rounds of tasks, signals are handled (Ctrl-C stops the work
/// with `KeyboardInterrupt`) and `progress` is called with the floating-point operations done.
// What a caller hands over is often all that it has.
#[allow(clippy::needless_pass_by_value)]
pub fn run<R: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&mut Driver<'_>) -> Result<R, CoreError> + Send,
) -> PyResult<R> {
    let mut stopped: Option<PyErr> = None;
    let mut unseen = None;
    let slot = &mut stopped;
    let outcome = py.detach(|| {
        let mut looked: Option<Instant> = None;
        let mut monitor = |done: f64| {
            unseen = Some(done);
            // Taking the GIL costs what small rounds take, and waits for whoever has it.
            if looked.is_some_and(|last| last.elapsed() < BETWEEN_LOOKS) {
                return true;
            }
            (looked, unseen) = (Some(Instant::now()), None);
            Python::attach(|py| {
                let seen = py.check_signals().and_then(|()| match &progress {
                    Some(progress) => progress.call1(py, (done,)).map(|_| ()),
                    None => Ok(()),
                });
                match seen {
                    Ok(()) => true,
                    Err(error) => {
                        *slot = Some(error);
                        false
                    }
                }
            })
        };
        catch_unwind(AssertUnwindSafe(|| {
            let workers = Workers::global()?;
            work(&mut Driver::new(&workers, &mut monitor))
        }))
    });
    match outcome {
        Ok(Ok(result)) => {
            // A bar comes to its end however short the last rounds were.
            if let (Some(progress), Some(done)) = (&progress, unseen) {
                progress.call1(py, (done,))?;
            }
            Ok(result)
        }
        Ok(Err(CoreError::Interrupted)) => {
            Err(stopped.unwrap_or_else(|| to_python(py, &CoreError::Interrupted)))
        }
        Ok(Err(error)) => Err(to_python(py, &error)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("the core panicked");
            Err(internal(py, text))
        }
    }
}

/// Number of worker threads of the core.
#[pyfunction]
pub fn num_threads(py: Python<'_>) -> PyResult<usize> {
    Workers::global().map(|workers| workers.num_threads()).map_err(|error| to_python(py, &error))
}
