//! A heap for processes that have a pager without the preload library: it works on threads that libc does not
//! know. libc's own malloc and mutexes take such a process for one with fewer threads than it has.

use dlmalloc::Dlmalloc;
use quire_linux::sys::futex::Lock;
use std::alloc::{GlobalAlloc, Layout};

static BLOCKS: Lock<Dlmalloc> = Lock::new(Dlmalloc::new());

pub(crate) struct Heap;

// SAFETY: every block is dlmalloc's, which is used by one thread at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the lock is held.
        unsafe { BLOCKS.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the lock is held, and the block came from `alloc` with this layout.
        unsafe { BLOCKS.lock().free(at, layout.size(), layout.align()) }
    }
}
