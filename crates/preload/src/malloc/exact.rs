//! Blocks that mimalloc would round up too far, each as large as it was asked for.
//!
//! mimalloc has four sizes between one power of two and the next: a page of sqlite's takes 5 KiB for 4.3, a bytearray of
//! 64 KiB takes 80. And what is free in one size is of no use to another. Inside a budget that is a sixth of a program's
//! memory. So these sizes come from a few dlmallocs, which pack blocks of all sizes, each with a lock and with addresses
//! of its own. A block goes back to the dlmalloc of its address, whoever frees it.
//!
//! A lock is held while memory that may have to be brought in is touched, like any lock of the program's. Nobody waits
//! for one to allocate: if all are taken, mimalloc serves.
//!
//! # Fork
//!
//! The forking thread takes every lock before the pager comes to rest, and frees them on both sides. A signal handler
//! may fork while its own thread is in here: that lock is left as it is, for the thread to go on on both sides.

mod owned;

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use dlmalloc::{Allocator, Dlmalloc};
use libmimalloc_sys as mi;
use owned::Owned;
use quire_linux::limits;
use quire_linux::sys::futex::Lock;

use super::Block;
use crate::calls;

/// The sizes served, in bytes. Below, mimalloc is exact enough and faster; above, what is lost is pages never touched.
const SMALLEST: usize = 257;
const LARGEST: usize = (128 << 10) + 64;

const SHARDS: usize = 8;
/// Addresses for one shard, in bytes: what is tried, and the least that is any good.
const SHARD: usize = 16 << 30;
const LEAST_SHARD: usize = 1 << 30;

/// Where the shards begin: 0 until the first block, [`REFUSED`] if the addresses can't be had.
static START: AtomicUsize = AtomicUsize::new(0);
const REFUSED: usize = 1;
/// Bytes of one shard.
static SPAN: AtomicUsize = AtomicUsize::new(0);
static RESERVING: Lock<()> = Lock::new(());
static ALL: [Shard; SHARDS] = [const { Owned::new(Dlmalloc::new_with_allocator(Carver::empty())) }; SHARDS];

type Shard = Owned<Dlmalloc<Carver>>;

/// Whether this heap serves such a block: mimalloc would lose more than 1/32 of it. (Whole pages and powers of two stay
/// there, aligned.)
#[inline]
pub(super) fn wants(size: usize) -> bool {
    // SAFETY: arithmetic on a number.
    can_serve(size) && unsafe { mi::mi_good_size(size) } - size > size / 32
}

/// Whether a block that is here already may stay with such a size.
#[inline]
pub(super) fn can_serve(size: usize) -> bool {
    (SMALLEST..=LARGEST).contains(&size)
}

/// Whether `block` is this heap's.
#[inline]
pub(super) fn owns(block: Block) -> bool {
    let start = START.load(Ordering::Relaxed);
    start > REFUSED && (block as usize).wrapping_sub(start) < SHARDS * SPAN.load(Ordering::Relaxed)
}

/// A block of `size` bytes, aligned to 16; null if there is none to be had here at this moment.
pub(super) fn alloc(size: usize) -> Block {
    if !is_reserved() {
        return ptr::null_mut();
    }
    let me = thread();
    // Threads' areas lie a stack apart, mostly of 8 MiB: neighbours get neighbouring shards.
    let first = (me >> 12) ^ (me >> 23);
    for i in 0..SHARDS {
        if let Some(mut dlmalloc) = ALL[(first + i) % SHARDS].try_enter(me) {
            // SAFETY: any size may be asked for.
            return unsafe { dlmalloc.c_malloc(size) }.cast();
        }
    }
    ptr::null_mut()
}

/// Frees a block. One that a signal handler frees while its thread is in this very shard is lost.
///
/// # Safety
///
/// This heap [`owns`] the block, and nobody uses it any more.
pub(super) unsafe fn free(block: Block) {
    if let Some(mut dlmalloc) = shard_of(block).enter(thread()) {
        // SAFETY: by the caller's promise.
        unsafe { dlmalloc.c_free(block.cast()) };
    }
}

/// The block with another size, where it is or elsewhere in its shard; null, and nothing has changed, if that can't be
/// had.
///
/// # Safety
///
/// This heap [`owns`] the block, and the caller gives it up unless the answer is null.
pub(super) unsafe fn realloc(block: Block, size: usize) -> Block {
    let Some(mut dlmalloc) = shard_of(block).enter(thread()) else { return ptr::null_mut() };
    // SAFETY: by the caller's promise.
    unsafe { dlmalloc.c_realloc(block.cast(), size) }.cast()
}

/// The bytes that the program may use of a block: at least as many as it asked for.
///
/// # Safety
///
/// This heap [`owns`] the block, which is in use.
pub(super) unsafe fn usable_size(block: Block) -> usize {
    const WORD: usize = size_of::<usize>();
    // The crate has no call for it, but the layout is dlmalloc's own: the word before a block is the size of its chunk,
    // with flags in the low three bits, and a chunk in use has one word more than the block.
    // SAFETY: that word is there.
    let head = unsafe { block.cast::<usize>().sub(1).read() };
    (head & !7) - WORD
}

/// Gives up what is free at the end of each shard that no thread is in.
pub(super) fn trim() {
    for shard in &ALL {
        if let Some(mut dlmalloc) = shard.try_enter(thread()) {
            // SAFETY: nothing in use is given up.
            unsafe { dlmalloc.trim(0) };
        }
    }
}

/// Takes every lock, on the thread that is about to fork, before anything comes to rest.
pub(crate) fn fork_prepare() {
    let mut taken = 0;
    for (number, shard) in ALL.iter().enumerate() {
        if let Some(entered) = shard.enter(thread()) {
            core::mem::forget(entered);
            taken |= 1 << number;
        }
    }
    TAKEN.store(taken, Ordering::Relaxed);
}

/// Frees the locks that [`fork_prepare`] took, in the parent and in the child.
pub(crate) fn fork_done() {
    let taken = TAKEN.swap(0, Ordering::Relaxed);
    for (number, shard) in ALL.iter().enumerate() {
        if taken & 1 << number != 0 {
            // SAFETY: this thread, or the one that it is the copy of, forgot the guard above.
            unsafe { shard.leave() };
        }
    }
}

/// The shards whose locks the forking thread took, as bits.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A number for the calling thread: where its thread area is, which that area's first word says.
fn thread() -> usize {
    let area: usize;
    // SAFETY: on x86-64 the word at fs:0 is the area's own address, for every thread that libc made.
    unsafe { asm!("mov {}, fs:0", out(reg) area, options(nostack, readonly, preserves_flags)) };
    area
}

/// Whether there are addresses for this heap. Reserves them when it is asked first.
fn is_reserved() -> bool {
    match START.load(Ordering::Acquire) {
        0 => reserve(),
        start => start != REFUSED,
    }
}

#[cold]
fn reserve() -> bool {
    let Some(_only) = RESERVING.try_lock() else { return false };
    if START.load(Ordering::Acquire) != 0 {
        return true;
    }
    let got = [SHARD, LEAST_SHARD].into_iter().find_map(|span| {
        let start = calls::map_heap(SHARDS * span, libc::PROT_NONE).ok()?;
        Some((start, span))
    });
    let Some((start, span)) = got else {
        START.store(REFUSED, Ordering::Release);
        return false;
    };
    for (number, shard) in ALL.iter().enumerate() {
        let at = start + number * span;
        if let Some(mut dlmalloc) = shard.try_enter(thread()) {
            *dlmalloc.allocator_mut() = Carver { next: at.into(), open: at.into(), end: at + span };
        }
    }
    SPAN.store(span, Ordering::Relaxed);
    START.store(start, Ordering::Release);
    true
}

fn shard_of(block: Block) -> &'static Shard {
    let offset = block as usize - START.load(Ordering::Relaxed);
    &ALL[offset / SPAN.load(Ordering::Relaxed)]
}

/// Gives dlmalloc one piece of its shard's addresses after the other. They are made accessible some way ahead.
struct Carver {
    /// Where the next piece begins.
    next: AtomicUsize,
    /// Up to where there is access.
    open: AtomicUsize,
    end: usize,
}

/// Access is given for this many bytes at a time.
const OPEN: usize = 4 << 20;
const OPEN_UNDER_LIMITS: usize = 64 << 10;

impl Carver {
    /// One that has no addresses yet.
    const fn empty() -> Carver {
        Carver { next: AtomicUsize::new(0), open: AtomicUsize::new(0), end: 0 }
    }

    /// Whether there is access up to `to`, after making it so.
    fn open_up_to(&self, to: usize) -> bool {
        let open = self.open.load(Ordering::Relaxed);
        if to <= open {
            return true;
        }
        let ahead = if limits::is_limited() { OPEN_UNDER_LIMITS } else { OPEN };
        let target = (to + ahead).min(self.end);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        if to > self.end || calls::protect(open, target - open, access).is_err() {
            return false;
        }
        self.open.store(target, Ordering::Relaxed);
        true
    }
}

// SAFETY: alloc gives each piece of the shard once, fresh or discarded, and it stays. Called with the shard's lock
// held.
unsafe impl Allocator for Carver {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let at = self.next.load(Ordering::Relaxed);
        if at == 0 || !self.open_up_to(at + size) {
            return (ptr::null_mut(), 0, 0);
        }
        self.next.store(at + size, Ordering::Relaxed);
        (at as *mut u8, size, 0)
    }

    fn remap(&self, _at: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    /// Takes back the end of what was carved, and gives its memory back.
    fn free_part(&self, at: *mut u8, old: usize, new: usize) -> bool {
        let (start, end) = (at as usize + new, at as usize + old);
        if end != self.next.load(Ordering::Relaxed)
            || calls::advise(start, end - start, libc::MADV_DONTNEED).is_err()
        {
            return false;
        }
        self.next.store(start, Ordering::Relaxed);
        if limits::is_limited() {
            // Access is asked for again, and counted then.
            self.open.store(start.next_multiple_of(super::PAGE), Ordering::Relaxed);
        }
        true
    }

    fn free(&self, _at: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        super::PAGE
    }
}
