//! Memory shared between processes, as a reference to a structure of atomics.

use core::fmt;
use core::mem;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use rustix::fd::AsFd;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::{self, Errno};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A structure that may lie in memory which other processes write at any time.
///
/// # Safety
///
/// The type is `repr(C)`, every field is an atomic integer, an array of them or another such structure (so
/// that any bit pattern is valid and any concurrent write is an atomic one), and it needs at most the
/// alignment of a page.
pub unsafe trait SharedLayout: Sync + 'static {}

// SAFETY: `LedgerMemory` is `repr(C)` and made of `AtomicU64`, `AtomicU32`, arrays of them and structures of the
// same kind, aligned to 64 bytes.
unsafe impl SharedLayout for crate::control::ledger::LedgerMemory {}

// SAFETY: the same.
unsafe impl SharedLayout for crate::control::ring::RingMemory {}

/// A structure in a memory file that is mapped as long as this exists.
pub struct Shared<T: SharedLayout>(NonNull<T>);

// SAFETY: it gives out shared references to a `T` that any thread may use (`SharedLayout` is `Sync`), and its mapping
// belongs to no thread.
unsafe impl<T: SharedLayout> Send for Shared<T> {}
// SAFETY: the same.
unsafe impl<T: SharedLayout> Sync for Shared<T> {}

impl<T: SharedLayout> Shared<T> {
    /// Maps the start of a sealed memory file.
    ///
    /// The file must hold at least the structure and be sealed against shrinking: `EINVAL` otherwise.
    pub fn map(file: impl AsFd) -> io::Result<Shared<T>> {
        let file = file.as_fd();
        if !fcntl_get_seals(file)?.contains(SealFlags::SHRINK) || fstat(file)?.st_size < size_of::<T>() as i64
        {
            return Err(Errno::INVAL);
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                size_of::<T>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        NonNull::new(start.cast::<T>()).map(Shared).ok_or(Errno::NOMEM)
    }

    /// Keeps the mapping for the rest of the process's life.
    pub fn keep(self) -> &'static T {
        let start = self.0;
        mem::forget(self);
        // SAFETY: as in `deref`, and as `self` is never dropped the memory is never unmapped.
        unsafe { start.as_ref() }
    }
}

impl<T: SharedLayout> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: (1) the mapping is page-aligned, `size_of::<T>()` long and not unmapped before `self` is dropped;
        // (2) the file covers it and cannot shrink, so no access raises SIGBUS; (3) any contents are a valid `T`, and
        // all access by this and other processes is atomic, by the contract of `SharedLayout`.
        unsafe { self.0.as_ref() }
    }
}

impl<T: SharedLayout> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference outlives it.
        let unmapped = unsafe { munmap(self.0.as_ptr().cast(), size_of::<T>()) };
        debug_assert!(unmapped.is_ok());
    }
}

impl<T: SharedLayout> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0).finish()
    }
}
