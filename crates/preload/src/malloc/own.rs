//! Our own heaps for the program: mimalloc, and [`exact`] for the sizes that mimalloc would round up too far.

use core::ptr;

use libmimalloc_sys as mi;
use quire_linux::limits;

use super::{Block, exact, within};
use crate::pager_api;

/// Only of larger blocks it is asked whether there is memory for them.
const LARGE: usize = 1 << 30;

/// Whether the kernel would refuse so large a block at once. mimalloc maps without asking it.
fn is_refused(size: usize) -> bool {
    size > LARGE && !pager_api::may_commit(size)
}

/// mimalloc's options, by their numbers in `mimalloc.h` where the bindings don't name them: whether it asks for access to
/// segments as a whole, to arenas as a whole, and from which segment of a thread on.
const EAGER_COMMIT: mi::mi_option_t = 3;
const ARENA_EAGER_COMMIT: mi::mi_option_t = 4;

/// Sets mimalloc up, before its first block: it takes 1 GiB of addresses at a time, and asks for access to each segment
/// when it begins to use it. So limits can be held, and `mlockall` locks no more than what is in use.
pub(super) fn set_up() {
    // SAFETY: options of the version built in, set before any thread exists.
    unsafe {
        mi::mi_option_set(ARENA_EAGER_COMMIT, 0);
        mi::mi_option_set(mi::mi_option_eager_commit_delay, 0);
    }
    heed_limits();
}

/// For how long mimalloc keeps what is freed, in ms: otherwise, and under a limit.
const PURGE_DELAY: mi::mi_option_t = 15;
const PURGE_AFTER: core::ffi::c_long = 10;

/// Under a limit mimalloc asks for access to what it needs and no more, and gives back at once what is freed: what it
/// keeps would count.
pub(crate) fn heed_limits() {
    let limited = limits::is_limited();
    // SAFETY: options may be set, and the calling thread's heap told to give up what it keeps, at any time.
    unsafe {
        let was = mi::mi_option_get(EAGER_COMMIT) == 0;
        if limited == was {
            return;
        }
        if limited {
            mi::mi_collect(true);
        }
        mi::mi_option_set(EAGER_COMMIT, core::ffi::c_long::from(!limited));
        mi::mi_option_set(PURGE_DELAY, if limited { 0 } else { PURGE_AFTER });
    }
}

pub(super) unsafe fn malloc(size: usize) -> Block {
    if limits::is_limited() {
        return within::malloc(size);
    }
    plain_malloc(size)
}

#[inline]
pub(super) fn plain_malloc(size: usize) -> Block {
    if exact::wants(size) {
        let block = exact::alloc(size);
        if !block.is_null() {
            return block;
        }
    }
    if is_refused(size) {
        return ptr::null_mut();
    }
    // SAFETY: any size may be asked for.
    unsafe { mi::mi_malloc(size) }
}

pub(super) unsafe fn calloc(count: usize, size: usize) -> Block {
    // The product was found to be sound.
    let total = count * size;
    if limits::is_limited() {
        return within::calloc(total);
    }
    plain_calloc(total)
}

#[inline]
pub(super) fn plain_calloc(total: usize) -> Block {
    if exact::wants(total) {
        let block = exact::alloc(total);
        if !block.is_null() {
            // SAFETY: a fresh block of `total` bytes.
            unsafe { ptr::write_bytes(block.cast::<u8>(), 0, total) };
            return block;
        }
    }
    if is_refused(total) {
        return ptr::null_mut();
    }
    // SAFETY: any size may be asked for.
    unsafe { mi::mi_calloc(1, total) }
}

pub(super) unsafe fn memalign(alignment: usize, size: usize) -> Block {
    if limits::is_limited() {
        return within::memalign(alignment, size);
    }
    plain_memalign(alignment, size)
}

pub(super) fn plain_memalign(alignment: usize, size: usize) -> Block {
    if is_refused(size) {
        return ptr::null_mut();
    }
    // SAFETY: the alignment is a power of two.
    unsafe { mi::mi_malloc_aligned(size, alignment) }
}

/// Each heap changes its blocks in place where it can. A block that grows into the other's sizes, or out of its own,
/// moves.
pub(super) unsafe fn realloc(block: Block, size: usize) -> Block {
    if is_refused(size) {
        return ptr::null_mut();
    }
    // SAFETY: the block is in use.
    let old = unsafe { usable_size(block) };
    if exact::owns(block) {
        if exact::can_serve(size) {
            // SAFETY: a block of that heap.
            let same = unsafe { exact::realloc(block, size) };
            if !same.is_null() {
                return same;
            }
        }
    } else if (old / 2..=old).contains(&size) || !limits::is_limited() && !exact::wants(size) {
        // SAFETY: a block of mimalloc's.
        return unsafe { mi::mi_realloc(block, size) };
    }
    // SAFETY: both blocks are at least as long as what is copied, and the new one is fresh.
    unsafe {
        let to = malloc(size);
        if !to.is_null() {
            ptr::copy_nonoverlapping(block.cast::<u8>(), to.cast::<u8>(), old.min(size));
            free(block);
        }
        to
    }
}

pub(super) unsafe fn free(block: Block) {
    if exact::owns(block) {
        // SAFETY: the block is of that heap and the caller gives it up.
        unsafe { exact::free(block) };
    } else {
        // SAFETY: the block is mimalloc's and the caller gives it up.
        unsafe { mi::mi_free(block) };
    }
}

pub(super) unsafe fn usable_size(block: Block) -> usize {
    if exact::owns(block) {
        // SAFETY: the block is of that heap.
        return unsafe { exact::usable_size(block) };
    }
    // SAFETY: a block of mimalloc's.
    unsafe { mi::mi_usable_size(block) }
}
