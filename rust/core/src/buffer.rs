//! Large float64 storage: zeroed, 64-byte aligned, and an error instead of an abort when refused.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::error::CoreError;

/// Alignment of every buffer: one cache line, one AVX-512 register.
const ALIGN: usize = 64;

/// A fixed-length, zero-initialised, 64-byte aligned array of `f64`.
#[derive(Debug)]
pub struct Buffer {
    ptr: NonNull<f64>,
    len: usize,
}

// SAFETY: the buffer owns its memory and hands it out only through `&self` and `&mut self`.
unsafe impl Send for Buffer {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`CoreError::Allocation`] when the system refuses, or the size overflows.
    pub fn zeros(what: &'static str, len: usize) -> Result<Self, CoreError> {
        let bytes = len.saturating_mul(size_of::<f64>());
        let refused = CoreError::Allocation { what, bytes };
        if len == 0 {
            return Ok(Self { ptr: NonNull::dangling(), len });
        }
        let Ok(layout) = Layout::from_size_align(bytes, ALIGN) else { return Err(refused) };
        // SAFETY: the layout has a non-zero size; all-zero bytes are valid f64 values, and the
        // layout asks for more than the alignment of f64.
        #[allow(clippy::cast_ptr_alignment)]
        let ptr = unsafe { alloc_zeroed(layout) }.cast::<f64>();
        NonNull::new(ptr).map_or(Err(refused), |ptr| Ok(Self { ptr, len }))
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.len * size_of::<f64>()
    }
}

impl Deref for Buffer {
    type Target = [f64];
    fn deref(&self) -> &[f64] {
        // SAFETY: `ptr` is aligned and points to `len` initialised values (dangling only if len = 0).
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f64] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeros` with this very layout, which was valid there.
            unsafe {
                let layout = Layout::from_size_align_unchecked(self.len * size_of::<f64>(), ALIGN);
                dealloc(self.ptr.as_ptr().cast(), layout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_aligned_and_writable() {
        let mut buffer = Buffer::zeros("test", 1_001).unwrap();
        assert_eq!(buffer.as_ptr().align_offset(ALIGN), 0);
        assert!(buffer.iter().all(|v| *v == 0.0));
        buffer[1_000] = 2.0;
        assert_eq!(buffer[1_000], 2.0);
        assert!(Buffer::zeros("test", 0).unwrap().is_empty());
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        let error = Buffer::zeros("a matrix", usize::MAX / 64).unwrap_err();
        assert!(matches!(error, CoreError::Allocation { what: "a matrix", .. }));
        assert!(Buffer::zeros("a matrix", usize::MAX).is_err());
    }
}
