//! Blocks that are made once for all who ask, and dropped when their memory is wanted.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::CoreError;
use crate::storage::blocks::SymmetricBlocks;
use crate::threads::Driver;

/// Time between two looks whether another thread has made them.
const LOOK: Duration = Duration::from_millis(1);

/// Blocks of a covariance, made when they are first worth it, by one thread.
///
/// No lock is held while they are made or used, so that they can be dropped, or the process forked, at
/// any time.
#[derive(Debug, Default)]
pub struct Cache {
    blocks: Mutex<Option<Arc<SymmetricBlocks>>>,
    /// The process whose thread is making them (0: none).
    maker: AtomicU32,
}

impl Cache {
    /// What is there, or is made now.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get(
        &self,
        driver: &mut Driver<'_>,
        make: impl FnOnce(&mut Driver<'_>) -> Result<SymmetricBlocks, CoreError>,
    ) -> Result<Arc<SymmetricBlocks>, CoreError> {
        let made_by = loop {
            if let Some(blocks) = self.held() {
                return Ok(blocks);
            }
            if let Some(made_by) = Maker::new(&self.maker) {
                break made_by;
            }
            // Another thread is at it: a second copy would take memory that nobody planned.
            std::thread::sleep(LOOK);
            driver.advance(0.0)?;
        };
        let blocks = Arc::new(make(driver)?);
        self.replace(Some(Arc::clone(&blocks)));
        drop(made_by);
        Ok(blocks)
    }

    /// Gives the memory back; the blocks are made again when needed.
    pub fn drop_blocks(&self) {
        self.replace(None);
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.held().map_or(0, |blocks| blocks.nbytes())
    }

    fn held(&self) -> Option<Arc<SymmetricBlocks>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, blocks: Option<Arc<SymmetricBlocks>>) {
        let mut held = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *held, blocks);
        // Memory is given back without the lock.
        drop(held);
        drop(old);
    }
}

/// The right to make the blocks, given back in the end. A forked child takes it from a thread of its
/// parent, which does not live in the child.
struct Maker<'c>(&'c AtomicU32);

impl<'c> Maker<'c> {
    fn new(maker: &'c AtomicU32) -> Option<Self> {
        let (own, seen) = (std::process::id(), maker.load(Ordering::Acquire));
        let taken = seen != own
            && maker.compare_exchange(seen, own, Ordering::AcqRel, Ordering::Acquire).is_ok();
        // Not `then_some`: what that drops would give back a right that is not ours.
        taken.then(|| Self(maker))
    }
}

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::blocks::Pattern;
    use crate::threads::Workers;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn threads_that_ask_at_once_get_one_copy_and_an_error_lets_the_next_try() {
        let (cache, made) = (Cache::default(), AtomicUsize::new(0));
        let workers = Workers::new(1).unwrap();
        let refused = CoreError::Allocation { what: "blocks", bytes: 8 };
        let error = cache.get(&mut Driver::new(&workers, &mut |_| true), |_| Err(refused.clone()));
        assert_eq!(error.unwrap_err(), refused);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut go = |_| true;
                    let blocks = cache.get(&mut Driver::new(&workers, &mut go), |_| {
                        made.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(20 * LOOK);
                        SymmetricBlocks::zeros("blocks", 2, 3, Pattern::Full)
                    });
                    assert_eq!(blocks.unwrap().dim(), 3);
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn who_waits_hears_an_interrupt() {
        let cache = Cache { maker: AtomicU32::new(std::process::id()), ..Cache::default() };
        let workers = Workers::new(1).unwrap();
        let waited = cache.get(&mut Driver::new(&workers, &mut |_| false), |_| unreachable!());
        assert_eq!(waited.unwrap_err(), CoreError::Interrupted);
    }
}
