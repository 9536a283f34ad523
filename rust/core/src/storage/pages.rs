//! Zeroed memory straight from the system, in pages of 2 MiB where it grants them.
//!
//! A matrix of 100 MB is 25,000 pages of 4 KiB: each faults when it is first touched, and together
//! they overrun the processor's table of addresses at every pass. With large pages products over
//! fresh memory run at twice the rate (PERFORMANCE.md).

use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// A large page, and the alignment of a [`Mapping`].
const PAGE: usize = 2 << 20;

/// Anonymous memory of this process alone, given back when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: *mut c_void,
    length: usize,
}

// SAFETY: the mapping owns its memory; it is only a pair of numbers until somebody dereferences.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// At least `bytes` zeros; `None` when the system refuses.
    pub fn zeros(bytes: usize) -> Option<Self> {
        // Room to align: what lies outside is never touched, and takes no memory.
        let length = bytes.checked_add(PAGE)?;
        // SAFETY: a new private mapping at an address of the system's choice touches nobody's memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        let mapping = Self { start, length };
        // Large pages are asked for, not needed: a refusal costs speed alone.
        // SAFETY: the range lies inside the mapping, by its alignment and the room for it.
        unsafe { libc::madvise(mapping.as_ptr().as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        Some(mapping)
    }

    /// The first aligned address.
    pub fn as_ptr(&self) -> NonNull<u8> {
        let start = self.start.cast::<u8>();
        // SAFETY: less than `PAGE` is added, and the mapping is longer than that; an address that
        // the system gave is not null.
        unsafe { NonNull::new_unchecked(start.add(start.align_offset(PAGE))) }
    }
}

impl Mapping {
    /// Gives back the whole pages among the first `bytes`; they read as zeros afterwards.
    pub fn release_front(&self, bytes: usize) {
        let whole = bytes / PAGE * PAGE;
        if whole > 0 {
            // SAFETY: the range lies inside the mapping, which this value owns. A refusal costs
            // memory alone.
            unsafe { libc::madvise(self.as_ptr().as_ptr().cast(), whole, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are those of a mapping that this value alone owns.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_aligned_zeroed_and_writable_to_its_end() {
        let bytes = 3 * PAGE + 17;
        let mapping = Mapping::zeros(bytes).unwrap();
        let start = mapping.as_ptr().as_ptr();
        assert_eq!(start.align_offset(PAGE), 0);
        // SAFETY: `bytes` bytes were asked for.
        let values = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
        assert!(values.iter().all(|v| *v == 0));
        values.fill(1);
    }

    #[test]
    fn an_impossible_size_is_refused() {
        assert!(Mapping::zeros(usize::MAX / 4).is_none());
        assert!(Mapping::zeros(usize::MAX).is_none());
    }
}
