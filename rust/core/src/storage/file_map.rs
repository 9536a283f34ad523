//! Pages of a file in memory, read when they are first touched.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// Part of a file. Writing to it changes this process's copy of a page, never the file.
#[derive(Debug)]
pub struct FileMap {
    start: *mut c_void,
    length: usize,
    /// From the start of the first page to the first byte that was asked for.
    skip: usize,
}

// SAFETY: the map owns its memory; it is only numbers until somebody dereferences.
unsafe impl Send for FileMap {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for FileMap {}

impl FileMap {
    /// `bytes` bytes from `first` on; `None` when the system refuses.
    pub fn new(file: &File, first: u64, bytes: usize) -> Option<Self> {
        // SAFETY: asks for a constant of the system.
        let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
        let skip = usize::try_from(first % page).ok()?;
        let offset = i64::try_from(first - first % page).ok()?;
        let length = bytes.checked_add(skip)?;
        // SAFETY: a new private mapping at an address of the system's choice touches nobody's memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                // Few of the pages are ever written to.
                libc::MAP_PRIVATE | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                offset,
            )
        };
        (start != libc::MAP_FAILED).then_some(Self { start, length, skip })
    }

    /// The first byte that was asked for.
    pub fn as_ptr(&self) -> NonNull<u8> {
        // SAFETY: `skip` lies inside the map; an address that the system gave is not null.
        unsafe { NonNull::new_unchecked(self.start.cast::<u8>().add(self.skip)) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are those of a mapping that this value alone owns.
        unsafe { libc::munmap(self.start, self.length) };
    }
}
