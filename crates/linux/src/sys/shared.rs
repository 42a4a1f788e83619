//! Memory shared between processes, as a reference to a structure of atomics.

use core::fmt;
use core::mem;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64};
use rustix::fd::AsFd;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::{self, Errno};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A type that may lie in memory which other processes write at any time. Structures become one by `shared_layout!`.
///
/// # Safety
///
/// It is an atomic integer, an array of such types or a `repr(C)` structure whose fields are such types (so that any bit pattern
/// is valid and any concurrent write is an atomic one), and it needs at most the alignment of a page.
pub unsafe trait SharedLayout: Sync + 'static {}

// SAFETY: an atomic integer.
unsafe impl SharedLayout for AtomicU32 {}

// SAFETY: the same.
unsafe impl SharedLayout for AtomicU64 {}

// SAFETY: an array of what may lie there.
unsafe impl<T: SharedLayout, const N: usize> SharedLayout for [T; N] {}

/// Lets a structure lie in shared memory. It is `repr(C)`, so that all who map it agree where its fields are. All of
/// them are named here; one that may not lie there, or is left out, is an error.
macro_rules! shared_layout {
    ($name:ident { $($field:ident),+ $(,)? }) => {
        const _: fn(&$name) = |all| {
            let $name { $($field),+ } = all;
            $($crate::sys::shared::may_be_shared($field);)+
        };
        const _: () = {
            assert!(align_of::<$name>() <= quire_core::PAGE_SIZE);
            // As `repr(C)` has them: in the order in which they are written.
            let offsets = [$(std::mem::offset_of!($name, $field)),+];
            let mut at = 1;
            while at < offsets.len() {
                assert!(offsets[at - 1] < offsets[at]);
                at += 1;
            }
        };
        // SAFETY: each field may lie there, and the alignment fits, or this does not compile.
        unsafe impl $crate::sys::shared::SharedLayout for $name {}
    };
}
pub(crate) use shared_layout;

/// Compiles for what may lie in shared memory.
pub(crate) const fn may_be_shared<T: SharedLayout>(_: &T) {}

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
