//! The program's malloc while its address space or its data is limited.
//!
//! A heap that has no room asks for access to more of its addresses, and the pager refuses what is beyond the limit. But
//! mimalloc does not take a refusal well where it needs much at once: it crashes over a block of 16 MiB and more, and tries
//! one segment after the other for a large one. So for these the pager is asked before, and again after the heaps have
//! given up what they keep.

use libmimalloc_sys as mi;

use super::{Block, exact, own};
use crate::calls::limits;

/// From this size on the pager is asked before, in bytes.
const ASKED: usize = 64 << 10;
/// From this size on a block counts whole before it is used, in bytes. (From about 16 MiB on mimalloc asks for access to
/// whole blocks of 32 MiB, which is never refused.)
const PLEDGED: usize = 1 << 20;

#[cold]
pub(super) fn malloc(size: usize) -> Block {
    within(size, || own::plain_malloc(size))
}

#[cold]
pub(super) fn calloc(size: usize) -> Block {
    within(size, || own::plain_calloc(size))
}

#[cold]
pub(super) fn memalign(alignment: usize, size: usize) -> Block {
    within(size.saturating_add(alignment), || own::plain_memalign(alignment, size))
}

fn within(size: usize, alloc: impl Fn() -> Block) -> Block {
    let block = attempt(size, &alloc);
    if !block.is_null() {
        return block;
    }
    relieve();
    attempt(size, &alloc)
}

fn attempt(size: usize, alloc: &impl Fn() -> Block) -> Block {
    if size >= ASKED && limits::allow(size, size).is_err() {
        return core::ptr::null_mut();
    }
    let block = alloc();
    if size >= PLEDGED && !block.is_null() {
        limits::pledge(block as usize, size);
    }
    block
}

/// Lets the heaps give up what they keep and don't use. For calls of the program's only: a heap that asks for memory is
/// in the middle of its work.
#[cold]
pub(crate) fn relieve() {
    exact::trim();
    // SAFETY: a heap may be told so at any time by its own thread.
    unsafe { mi::mi_collect(true) };
}
