//! The one pool, and the one seam through which parallel work enters it.
//!
//! Work is cut into tasks whose number and order depend on sizes alone, each task writes memory of
//! its own, and every product inside a task is sequential: the same bits for any number of threads.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::error::CoreError;
use crate::storage::buffer::Buffer;
use crate::storage::list;

/// Work of one round per thread: rounds are where progress is shown and an interrupt is noticed.
const ROUND_FLOPS: f64 = 1.0e10;

/// What the memory of each thread is called.
const SCRATCH: &str = "per-thread scratch";

/// Address space that a thread's products take at most; what is not written takes no memory.
const PACKING: usize = 256 << 20;

/// Time between two looks for an interrupt while a worker can not stop.
const LOOK: Duration = Duration::from_millis(50);

/// A handle to a pool of worker threads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Workers {
    pool: Arc<rayon::ThreadPool>,
}

/// The pool of a process, and the process: threads do not survive a fork.
struct Owned {
    pid: u32,
    workers: Workers,
}

/// The pool of this process, never freed. A pointer and no lock: another thread may hold a lock at
/// the moment of a fork, and the child would wait for it for ever.
static GLOBAL: AtomicPtr<Owned> = AtomicPtr::new(ptr::null_mut());

impl Workers {
    /// A pool of its own with `num_threads` threads (0: one a core, or `RAYON_NUM_THREADS`).
    ///
    /// # Errors
    /// [`CoreError::Threads`] when the system refuses to start them, [`CoreError::Allocation`] when it
    /// refuses what each needs to work.
    pub fn new(num_threads: usize) -> Result<Self, CoreError> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(num_threads)
            .thread_name(|index| format!("hoarfrost-{index}"))
            .build()
            .map_err(|error| CoreError::Threads { reason: error.to_string() })
            .and_then(|pool| {
                take_packing(&pool)?;
                Ok(Self { pool: Arc::new(pool) })
            })
    }

    /// The shared pool of this process, started at the first call and again after a fork.
    ///
    /// # Errors
    /// As [`Workers::new`].
    pub fn global() -> Result<Self, CoreError> {
        let pid = std::process::id();
        loop {
            let seen = GLOBAL.load(Ordering::Acquire);
            // SAFETY: what is published here is a leaked box, valid for as long as the process is.
            if let Some(owned) = unsafe { seen.as_ref() }
                && owned.pid == pid
            {
                return Ok(owned.workers.clone());
            }
            // A forked child inherits the pool's memory but not its threads: joining them would
            // hang, so the parent's pool stays where it is.
            let made = Box::into_raw(Box::new(Owned { pid, workers: Self::new(0)? }));
            if GLOBAL.compare_exchange(seen, made, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: `made` was not published, so nobody else has it.
                drop(unsafe { Box::from_raw(made) });
            }
        }
    }

    /// Number of threads.
    pub fn num_threads(&self) -> usize {
        self.pool.current_num_threads()
    }
}

/// Lets every worker take the memory in which faer packs its operands: it does so once for a thread,
/// and would abort where that is refused.
fn take_packing(pool: &rayon::ThreadPool) -> Result<(), CoreError> {
    list::check_reserve()?;
    // One after the other, so that what was looked for is still there when it is taken.
    let outcome = Mutex::new(Ok(()));
    pool.broadcast(|_| {
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.is_ok() {
            *outcome = list::reserve::<u8>("a worker's products", &mut Vec::new(), PACKING)
                .map(|()| pack_once());
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A product large enough to be packed.
fn pack_once() {
    const EDGE: usize = 40;
    let (values, mut out) = ([1.0; EDGE * EDGE], [0.0; EDGE * EDGE]);
    let values = MatRef::from_column_major_slice(&values, EDGE, EDGE);
    let out = MatMut::from_column_major_slice_mut(&mut out, EDGE, EDGE);
    matmul(out, Accum::Replace, values, values, 1.0, Par::Seq);
}

/// Drives one long computation: hands tasks to the workers, and between rounds tells a monitor how
/// many floating-point operations are done. The monitor answers whether to go on.
pub struct Driver<'a> {
    workers: &'a Workers,
    monitor: &'a mut dyn FnMut(f64) -> bool,
    done: f64,
    round: f64,
}

impl<'a> Driver<'a> {
    /// A driver whose monitor runs on the calling thread.
    pub fn new(workers: &'a Workers, monitor: &'a mut dyn FnMut(f64) -> bool) -> Self {
        Self { workers, monitor, done: 0.0, round: ROUND_FLOPS }
    }

    /// The same with other work a round and thread: with next to none, every task is a round.
    #[cfg(test)]
    #[must_use]
    pub fn with_round(self, flops: f64) -> Self {
        Self { round: flops, ..self }
    }

    /// Number of worker threads.
    pub fn num_threads(&self) -> usize {
        self.workers.num_threads()
    }

    /// Adds `flops` to what is done and asks the monitor whether to go on.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`] when the monitor says stop.
    pub fn advance(&mut self, flops: f64) -> Result<(), CoreError> {
        self.done += flops;
        if (self.monitor)(self.done) { Ok(()) } else { Err(CoreError::Interrupted) }
    }

    /// Runs `work` on one worker: who calls has no memory for faer's products.
    pub fn on_worker<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.workers.pool.install(work)
    }

    /// Runs `work`, which can not stop half way, on one worker; this thread looks for an interrupt
    /// meanwhile. After one the worker comes to its end by itself, and what it made is dropped.
    ///
    /// # Errors
    /// [`CoreError::Interrupted`].
    pub fn aside<R: Send + 'static>(
        &mut self,
        flops: f64,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, CoreError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.workers.pool.spawn(move || {
            // Nobody listens any more after an interrupt.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        });
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(Ok(result)) => {
                    self.advance(flops)?;
                    return Ok(result);
                }
                Ok(Err(panic)) => resume_unwind(panic),
                Err(mpsc::RecvTimeoutError::Timeout) => self.advance(0.0)?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(CoreError::Threads { reason: "a worker went away".to_owned() });
                }
            }
        }
    }

    /// Runs `work` on every task; `flops` is the cost of one, `scratch` the number of float64 each
    /// thread needs beside it (contents on entry: whatever an earlier task left).
    ///
    /// # Errors
    /// [`CoreError::Interrupted`] between rounds, [`CoreError::Allocation`] for the scratch.
    pub fn for_each<T: Send>(
        &mut self,
        tasks: impl IntoIterator<Item = T>,
        flops: f64,
        scratch: usize,
        work: impl Fn(T, &mut [f64]) + Sync,
    ) -> Result<(), CoreError> {
        self.resume(&mut 0, tasks, flops, scratch, work)
    }

    /// The same from task number `completed` on, which counts the tasks of completed rounds: after an
    /// interrupt the same tasks can be given again.
    ///
    /// # Errors
    /// As [`Driver::for_each`]; the scratch is taken before any task runs, the list of a round's tasks
    /// before that round.
    pub fn resume<T: Send>(
        &mut self,
        completed: &mut usize,
        tasks: impl IntoIterator<Item = T>,
        flops: f64,
        scratch: usize,
        work: impl Fn(T, &mut [f64]) + Sync,
    ) -> Result<(), CoreError> {
        let threads = self.workers.num_threads();
        let mut buffers = Vec::new();
        list::reserve(SCRATCH, &mut buffers, threads)?;
        for _ in 0..threads {
            buffers.push(Mutex::new(Buffer::zeros(SCRATCH, scratch)?));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let per_round = ((self.round * threads as f64 / flops.max(1.0)) as usize).max(threads);
        let mut tasks = tasks.into_iter().skip(*completed);
        let mut round = Vec::new();
        loop {
            list::extend("a list of tasks", &mut round, tasks.by_ref().take(per_round))?;
            if round.is_empty() {
                return Ok(());
            }
            let (count, cost) = (round.len(), flops * round.len() as f64);
            list::check_reserve()?;
            self.workers.pool.install(|| {
                round.par_drain(..).with_max_len(1).for_each(|task| {
                    let index = rayon::current_thread_index().unwrap_or(0);
                    let mut buffer = buffers[index].lock().unwrap_or_else(PoisonError::into_inner);
                    work(task, &mut buffer);
                });
            });
            *completed += count;
            self.advance(cost)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_and_the_monitor_sees_the_work() {
        let workers = Workers::new(3).unwrap();
        let mut seen = 0.0;
        let mut values = vec![0.0; 100];
        let mut monitor = |done| {
            seen = done;
            true
        };
        let tasks: Vec<(usize, &mut f64)> = values.iter_mut().enumerate().collect();
        Driver::new(&workers, &mut monitor)
            .for_each(tasks, 1.0e9, 4, |(i, v), scratch| {
                scratch[0] = 1.0;
                let i = i as f64;
                *v += i + scratch[0];
            })
            .unwrap();
        assert!(values.iter().enumerate().all(|(i, v)| *v == (i + 1) as f64));
        assert_eq!(seen, 1.0e11);
    }

    #[test]
    fn a_monitor_that_says_stop_stops_between_rounds() {
        let workers = Workers::new(2).unwrap();
        let mut rounds = 0;
        let mut monitor = |_| {
            rounds += 1;
            rounds < 2
        };
        let result =
            Driver::new(&workers, &mut monitor).for_each(vec![(); 100], 1.0e10, 0, |(), _| {});
        assert_eq!(result, Err(CoreError::Interrupted));
        assert_eq!(rounds, 2);
    }

    #[test]
    fn the_global_pool_is_one() {
        let (a, b) = (Workers::global().unwrap(), Workers::global().unwrap());
        assert!(Arc::ptr_eq(&a.pool, &b.pool));
    }
}
