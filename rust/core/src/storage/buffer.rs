//! Large float64 storage: zeroed, 64-byte aligned, and an error instead of an abort when refused.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::error::CoreError;
#[cfg(all(target_os = "linux", target_endian = "little"))]
use crate::storage::file_map::FileMap;
#[cfg(target_os = "linux")]
use crate::storage::pages::Mapping;

/// Alignment of every buffer: one cache line, one AVX-512 register.
const ALIGN: usize = 64;

/// Bytes from which on memory comes in large pages.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

/// Who gets the memory back.
#[derive(Debug)]
enum Owner {
    Nobody,
    Allocator(Layout),
    #[cfg(target_os = "linux")]
    System {
        mapping: Mapping,
    },
    /// Pages of a file; what is written to them stays in this process.
    #[cfg(all(target_os = "linux", target_endian = "little"))]
    File {
        // Held for its drop alone.
        #[allow(dead_code)]
        map: FileMap,
    },
}

/// A fixed-length, zero-initialised, 64-byte aligned array of `f64`.
#[derive(Debug)]
pub struct Buffer {
    ptr: NonNull<f64>,
    len: usize,
    owner: Owner,
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
            return Ok(Self { ptr: NonNull::dangling(), len, owner: Owner::Nobody });
        }
        let Ok(layout) = Layout::from_size_align(bytes, ALIGN) else { return Err(refused) };
        #[cfg(target_os = "linux")]
        if bytes >= LARGE {
            let mapping = Mapping::zeros(bytes).ok_or(refused)?;
            let ptr = mapping.as_ptr().cast::<f64>();
            return Ok(Self { ptr, len, owner: Owner::System { mapping } });
        }
        // SAFETY: the layout has a non-zero size; all-zero bytes are valid f64 values, and the
        // layout asks for more than the alignment of f64.
        #[allow(clippy::cast_ptr_alignment)]
        let ptr = unsafe { alloc_zeroed(layout) }.cast::<f64>();
        let ptr = NonNull::new(ptr).ok_or(refused)?;
        Ok(Self { ptr, len, owner: Owner::Allocator(layout) })
    }

    /// `len` values of a file from byte `first` on, not read before they are asked for; `None` where
    /// the system does not map them, or they do not lie as a buffer's do.
    ///
    /// The file must not be changed or cut while the buffer lives.
    #[cfg(all(target_os = "linux", target_endian = "little"))]
    pub fn of_file(file: &File, first: u64, len: usize) -> Option<Self> {
        let map = FileMap::new(file, first, len.checked_mul(size_of::<f64>())?)?;
        let ptr = map.as_ptr().cast::<f64>();
        if len == 0 || ptr.as_ptr().align_offset(ALIGN) != 0 {
            return None;
        }
        Some(Self { ptr, len, owner: Owner::File { map } })
    }

    /// Elsewhere values are read.
    #[cfg(not(all(target_os = "linux", target_endian = "little")))]
    pub fn of_file(_: &File, _: u64, _: usize) -> Option<Self> {
        None
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        self.len * size_of::<f64>()
    }

    /// Gives the memory of the first `len` values back, where the system takes parts of a buffer;
    /// what they hold afterwards is left open.
    pub fn release_front(&mut self, len: usize) {
        #[cfg(target_os = "linux")]
        if let Owner::System { mapping } = &self.owner {
            mapping.release_front(len.min(self.len) * size_of::<f64>());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = len;
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
        if let Owner::Allocator(layout) = self.owner {
            // SAFETY: allocated in `zeros` with this very layout.
            unsafe { dealloc(self.ptr.as_ptr().cast(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_aligned_and_writable() {
        for len in [1_001, 1_000_001] {
            let mut buffer = Buffer::zeros("test", len).unwrap();
            assert_eq!(buffer.as_ptr().align_offset(ALIGN), 0);
            assert!(buffer.iter().all(|v| *v == 0.0));
            buffer[len - 1] = 2.0;
            assert_eq!(buffer[len - 1], 2.0);
        }
        assert!(Buffer::zeros("test", 0).unwrap().is_empty());
    }

    #[test]
    fn the_front_goes_and_the_rest_stays() {
        for len in [1_001, 2_000_001] {
            let mut buffer = Buffer::zeros("test", len).unwrap();
            buffer.fill(3.0);
            buffer.release_front(len / 2);
            assert!(buffer[len / 2..].iter().all(|v| *v == 3.0));
            buffer.release_front(2 * len);
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        let error = Buffer::zeros("a matrix", usize::MAX / 64).unwrap_err();
        assert!(matches!(error, CoreError::Allocation { what: "a matrix", .. }));
        assert!(Buffer::zeros("a matrix", usize::MAX).is_err());
    }
}
