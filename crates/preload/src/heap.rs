//! Quire's own heap: everything that Rust code in this library allocates, on pages of its own.
//!
//! Small blocks come from a dlmalloc behind a futex lock. From [`DIRECT`] on, a block is a mapping of its own: zeroed
//! memory is then whatever the kernel maps, so that a table of gigabytes costs what is touched of it, and freeing gives
//! the pages back at once.
//!
//! # Fork
//!
//! The lock is not taken for a fork: the pager's threads allocate while they serve the forking thread. The pager
//! promises instead that between `fork_prepare` and `fork_parent` or `fork_child` no other thread uses this heap than
//! the one serving the forking thread; that one rests while the forking thread is in the kernel. [`in_child`] checks it.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use dlmalloc::{Allocator, Dlmalloc};
use quire_linux::sys::futex::{self, Lock};
use quire_linux::sys::mmap::Mappings;

use crate::raw;

/// Blocks of this many bytes or more are mappings of their own.
const DIRECT: usize = 128 << 10;
const PAGE: usize = 4096;

/// Bytes mapped for small blocks, in use or not.
static SMALL: AtomicU64 = AtomicU64::new(0);
/// Bytes mapped for blocks of [`DIRECT`] bytes and more, touched or not.
static LARGE: AtomicU64 = AtomicU64::new(0);
/// Where those blocks are. One that finds no room counts as touched whole.
static MAPPINGS: Mappings<64> = Mappings::new();
static BLOCKS: Lock<Dlmalloc<Pages>> = Lock::new(Dlmalloc::new_with_allocator(Pages));

/// Bytes this heap takes: what is mapped for small blocks, and what was touched of large ones. Walks the large ones.
pub(crate) fn resident_bytes() -> (u64, u64) {
    let (known, touched) = MAPPINGS.bytes();
    let unknown = LARGE.load(Ordering::Relaxed).saturating_sub(known as u64);
    (SMALL.load(Ordering::Relaxed), touched as u64 + unknown)
}

/// Bytes mapped for this heap.
pub(crate) fn mapped_bytes() -> u64 {
    SMALL.load(Ordering::Relaxed) + LARGE.load(Ordering::Relaxed)
}

/// In a child after fork, on its only thread: ends it with a message if the pager's promise was not kept, as the heap
/// would then block or corrupt it.
pub(crate) fn in_child() {
    if BLOCKS.is_held() {
        quire_linux::die!("a thread of Quire allocated during a fork; please report this");
    }
}

/// Before a fork of a process that sleeps: its child has threads of its own that use this heap.
pub(crate) fn hold() {
    futex::hold(&BLOCKS);
}

/// After it, in the parent.
pub(crate) fn let_go() {
    futex::let_go(&BLOCKS);
}

/// After it, in the child.
pub(crate) fn forget_holder() {
    futex::forget_holder(&BLOCKS);
}

/// The kernel's pages, for dlmalloc.
#[derive(Debug)]
struct Pages;

// SAFETY: alloc gives fresh zeroed pages of at least the size asked for, remap and free act on these only.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let Some(at) = raw::map_pages(size) else { return (ptr::null_mut(), 0, 0) };
        leave_out_of_dumps(at as usize, size);
        SMALL.fetch_add(size as u64, Ordering::Relaxed);
        (at, size, 0)
    }

    fn remap(&self, _at: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, at: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: dlmalloc gives up the tail of its own segment.
        self.free(unsafe { at.add(new) }, old - new)
    }

    fn free(&self, at: *mut u8, size: usize) -> bool {
        // SAFETY: dlmalloc gives up pages that alloc gave it, and uses them no more.
        let freed = unsafe { raw::unmap_pages(at, size) };
        if freed {
            SMALL.fetch_sub(size as u64, Ordering::Relaxed);
        }
        freed
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

/// The allocator of all Rust code in this library.
#[derive(Debug)]
pub(crate) struct QuireHeap;

// SAFETY: small blocks are dlmalloc's under its lock, large ones mappings of their own; which of the two a block is
// follows from its layout alone, so that every block goes back where it came from.
unsafe impl GlobalAlloc for QuireHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_direct(layout) {
            return map_direct(layout);
        }
        // SAFETY: the lock is held; any size and alignment may be asked for.
        unsafe { BLOCKS.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_direct(layout) {
            return map_direct(layout);
        }
        // SAFETY: the lock is held; any size and alignment may be asked for.
        unsafe { BLOCKS.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if is_direct(layout) {
            // SAFETY: a direct block is a mapping of its own, and its owner gives it up.
            unsafe { unmap_direct(at, layout.size()) };
            return;
        }
        // SAFETY: the lock is held, the block came from dlmalloc with this layout.
        unsafe { BLOCKS.lock().free(at, layout.size(), layout.align()) };
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for the new size with the old alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (is_direct(layout), is_direct(new)) {
            // SAFETY: the lock is held, the block came from dlmalloc with this layout.
            (false, false) => unsafe { BLOCKS.lock().realloc(at, layout.size(), layout.align(), new_size) },
            // SAFETY: a direct block of page alignment is one mapping; its owner holds the only pointer to it.
            (true, true) if layout.align() <= PAGE => unsafe { remap_direct(at, layout.size(), new_size) },
            // SAFETY: both layouts are sound and the old block is the caller's to give up.
            _ => unsafe { self.copy_over(at, layout, new) },
        }
    }
}

impl QuireHeap {
    /// # Safety
    ///
    /// `at` is a block of layout `old` that the caller gives up.
    unsafe fn copy_over(&self, at: *mut u8, old: Layout, new: Layout) -> *mut u8 {
        // SAFETY: the new block is fresh, hence no overlap; both are at least as long as what is copied.
        unsafe {
            let to = self.alloc(new);
            if !to.is_null() {
                ptr::copy_nonoverlapping(at, to, old.size().min(new.size()));
                self.dealloc(at, old);
            }
            to
        }
    }
}

fn is_direct(layout: Layout) -> bool {
    layout.size() >= DIRECT
}

fn pages(size: usize) -> usize {
    size.next_multiple_of(PAGE)
}

/// Maps a block of its own. Zeroed by nature.
fn map_direct(layout: Layout) -> *mut u8 {
    let len = pages(layout.size());
    // The kernel aligns to a page; for more than that, map more and give the ends back.
    let slack = layout.align().saturating_sub(PAGE);
    let Some(at) = len.checked_add(slack).and_then(raw::map_pages) else { return ptr::null_mut() };
    let start = (at as usize).next_multiple_of(layout.align());
    let head = start - at as usize;
    // SAFETY: head and tail are parts of the fresh mapping outside the block.
    unsafe {
        unmap_if_any(at, head);
        unmap_if_any((start + len) as *mut u8, slack - head);
    }
    keep_small_pages(start, len);
    leave_out_of_dumps(start, len);
    LARGE.fetch_add(len as u64, Ordering::Relaxed);
    MAPPINGS.add(start, len);
    start as *mut u8
}

/// A sparse table must not be filled up by 2 MiB pages, which count against the budget.
fn keep_small_pages(at: usize, len: usize) {
    // SAFETY: advice on a mapping of ours that changes no contents. A kernel without huge pages refuses; fine.
    let _ = unsafe { raw::call!(libc::SYS_madvise, at, len, libc::MADV_NOHUGEPAGE) };
}

/// A core dump is about the program.
fn leave_out_of_dumps(at: usize, len: usize) {
    // SAFETY: advice on a mapping of ours that changes no contents. Where it is refused, a dump is larger.
    let _ = unsafe { raw::call!(libc::SYS_madvise, at, len, libc::MADV_DONTDUMP) };
}

/// # Safety
///
/// Nobody uses these pages.
unsafe fn unmap_if_any(at: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: by the caller's promise.
        unsafe { raw::unmap_pages(at, len) };
    }
}

/// # Safety
///
/// `at` is a direct block of `size` bytes that nobody uses any more.
unsafe fn unmap_direct(at: *mut u8, size: usize) {
    MAPPINGS.forget(at as usize);
    // SAFETY: by the caller's promise.
    if unsafe { raw::unmap_pages(at, pages(size)) } {
        LARGE.fetch_sub(pages(size) as u64, Ordering::Relaxed);
    }
}

/// # Safety
///
/// `at` is a direct block of `old` bytes, aligned to no more than a page, with no other pointer to it in use.
unsafe fn remap_direct(at: *mut u8, old: usize, new: usize) -> *mut u8 {
    // SAFETY: by the caller's promise; the old address is given up.
    let remap = || unsafe { raw::call!(libc::SYS_mremap, at, pages(old), pages(new), libc::MREMAP_MAYMOVE) };
    let Ok(to) = raw::own_memory(remap) else { return ptr::null_mut() };
    MAPPINGS.forget(at as usize);
    MAPPINGS.add(to, pages(new));
    LARGE.fetch_add(pages(new) as u64, Ordering::Relaxed);
    LARGE.fetch_sub(pages(old) as u64, Ordering::Relaxed);
    to as *mut u8
}
