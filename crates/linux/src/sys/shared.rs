//! Memory shared between processes, as a reference to a structure of atomics.

use core::ptr::{self, NonNull};
use rustix::fd::AsFd;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::{self, Errno};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// A structure that may lie in memory which other processes write at any time.
///
/// # Safety
///
/// The type is `repr(C)`, every field is an atomic integer, an array of them or another such structure (so
/// that any bit pattern is valid and any concurrent write is an atomic one), and it needs at most the
/// alignment of a page.
pub unsafe trait SharedLayout: Sync + 'static {}

// SAFETY: `Layout` is `repr(C)` and made of `AtomicU64`, `AtomicU32`, arrays of them and structures of the
// same kind, aligned to 64 bytes.
unsafe impl SharedLayout for crate::control::ledger::Layout {}

/// Maps the start of a sealed memory file for the rest of the process's life.
///
/// The file must hold at least the structure and be sealed against shrinking: `EINVAL` otherwise.
pub fn map_shared<T: SharedLayout>(file: impl AsFd) -> io::Result<&'static T> {
    let file = file.as_fd();
    if !fcntl_get_seals(file)?.contains(SealFlags::SHRINK) || fstat(file)?.st_size < size_of::<T>() as i64 {
        return Err(Errno::INVAL);
    }
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
    let start = unsafe {
        mmap(ptr::null_mut(), size_of::<T>(), ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
    };
    let start = NonNull::new(start.cast::<T>()).ok_or(Errno::NOMEM)?;
    // SAFETY: (1) the mapping is page-aligned, `size_of::<T>()` long and never unmapped; (2) the file covers
    // it and cannot shrink, so no access raises SIGBUS; (3) any contents are a valid `T`, and all access by
    // this and other processes is atomic, by the contract of `SharedLayout`.
    Ok(unsafe { start.as_ref() })
}
