//! The malloc family, as the program and its libraries call it.
//!
//! What libc and the loader allocate for themselves comes from [`crate::libc_heap`]. The rest comes from mimalloc and
//! [`exact`] ([`own`]), unless the program brings a malloc of its own ([`backend`]): then that one keeps its place, as a
//! mixture of two would end in one freeing what the other allocated.
//!
//! [`entry`] has the exported functions, which only add the caller's address.

pub(crate) mod backend;
mod entry;
pub(crate) mod exact;
pub(crate) mod own;
pub(crate) mod within;

use core::ffi::{c_int, c_void};
use core::ptr;

use crate::{callers, libc_heap, raw};

type Block = *mut c_void;

#[inline]
fn or_enomem(block: Block) -> Block {
    if block.is_null() {
        raw::set_errno(libc::ENOMEM);
    }
    block
}

/// A block from the heap of libc and the loader, if `caller` is one of them and has room there.
#[inline]
fn for_libc(size: usize, caller: usize) -> Block {
    libc_heap::alloc(callers::of(caller), size).cast()
}

unsafe extern "C" fn malloc_for(size: usize, caller: usize) -> Block {
    let own = for_libc(size, caller);
    if !own.is_null() {
        return own;
    }
    // SAFETY: any size may be asked for.
    or_enomem(unsafe { backend::malloc(size) })
}

unsafe extern "C" fn calloc_for(count: usize, size: usize, caller: usize) -> Block {
    let Some(total) = count.checked_mul(size) else { return or_enomem(ptr::null_mut()) };
    let own = for_libc(total, caller);
    if !own.is_null() {
        // SAFETY: a fresh block of `total` bytes.
        unsafe { ptr::write_bytes(own.cast::<u8>(), 0, total) };
        return own;
    }
    // SAFETY: any sizes may be asked for.
    or_enomem(unsafe { backend::calloc(count, size) })
}

unsafe extern "C" fn realloc_for(block: Block, size: usize, caller: usize) -> Block {
    if block.is_null() {
        // SAFETY: as malloc.
        return unsafe { malloc_for(size, caller) };
    }
    if size == 0 {
        // As glibc has it, and programs rely on: the block is freed.
        // SAFETY: the caller gives the block up.
        unsafe { free(block) };
        return ptr::null_mut();
    }
    if libc_heap::owns(block.cast()) {
        // SAFETY: the block is of that heap and the caller gives it up.
        return unsafe { realloc_for_libc(block, size, caller) };
    }
    // SAFETY: the block came from the backend: all that did not was dealt with above.
    or_enomem(unsafe { backend::realloc(block, size) })
}

/// Moves a block out of the heap of libc and the loader, or within it: a new block, which heap serves it as malloc
/// decides anew.
unsafe fn realloc_for_libc(block: Block, size: usize, caller: usize) -> Block {
    // SAFETY: both blocks are at least as long as what is copied, and the new one is fresh.
    unsafe {
        let old = libc_heap::usable_size(block.cast());
        let to = malloc_for(size, caller);
        if !to.is_null() {
            ptr::copy_nonoverlapping(block.cast::<u8>(), to.cast::<u8>(), old.min(size));
            libc_heap::free(block.cast());
        }
        to
    }
}

unsafe extern "C" fn reallocarray_for(block: Block, count: usize, size: usize, caller: usize) -> Block {
    match count.checked_mul(size) {
        // SAFETY: as realloc.
        Some(total) => unsafe { realloc_for(block, total, caller) },
        None => or_enomem(ptr::null_mut()),
    }
}

unsafe fn free(block: Block) {
    if libc_heap::owns(block.cast()) {
        // SAFETY: the block is of that heap and the caller gives it up.
        unsafe { libc_heap::free(block.cast()) };
    } else if !block.is_null() {
        // SAFETY: the block came from the backend.
        unsafe { backend::free(block) };
    }
}

unsafe fn usable_size(block: Block) -> usize {
    if block.is_null() {
        return 0;
    }
    if libc_heap::owns(block.cast()) {
        // SAFETY: the block is of that heap.
        return unsafe { libc_heap::usable_size(block.cast()) };
    }
    // SAFETY: the block came from the backend.
    unsafe { backend::usable_size(block) }
}

/// As glibc's: an alignment that is no power of two is rounded up to one.
unsafe fn memalign(alignment: usize, size: usize) -> Block {
    match alignment.checked_next_power_of_two() {
        // SAFETY: any size may be asked for.
        Some(alignment) => or_enomem(unsafe { backend::memalign(alignment, size) }),
        None => {
            raw::set_errno(libc::EINVAL);
            ptr::null_mut()
        }
    }
}

unsafe fn posix_memalign(out: *mut Block, alignment: usize, size: usize) -> c_int {
    if !alignment.is_power_of_two() || !alignment.is_multiple_of(size_of::<usize>()) {
        return libc::EINVAL;
    }
    // SAFETY: any size may be asked for.
    let block = unsafe { backend::memalign(alignment, size) };
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller gives a place for the answer; on failure it stays as it was.
    unsafe { *out = block };
    0
}

const PAGE: usize = 4096;

unsafe fn pvalloc(size: usize) -> Block {
    match size.checked_next_multiple_of(PAGE) {
        // SAFETY: as memalign.
        Some(size) => unsafe { memalign(PAGE, size.max(PAGE)) },
        None => or_enomem(ptr::null_mut()),
    }
}
