//! What libc and the loader allocate for themselves, outside managed memory.
//!
//! Thread descriptors' DTVs, dynamic TLS, link maps, FILEs, NSS state, atfork lists: all of it comes from the
//! interposed malloc, and much of it is used where a fault can't be served, between the kernel's fork and the first
//! handler above all. So it lives in one reserved range outside the arena, the loader's part in its first half and
//! libc's in the second; by its address free, realloc and `malloc_usable_size` know a block of this heap.
//!
//! libc also allocates for the program (strdup, getline, asprintf). That must not escape the budget: libc gets blocks
//! up to [`LIBC_LARGEST`] bytes and no more than [`LIBC_CAP`] bytes in all. The rest goes to mimalloc.
//!
//! # Fork
//!
//! The locks are not taken for a fork. After our handler libc takes locks of its own (NSS, the list of FILEs), and
//! another thread may hold one of these while it waits for this heap: that would be a deadlock. So the child may find a
//! half as some thread left it in the middle of a change, with its lock held. It then leaves that half's blocks where
//! they are for good, and begins anew behind them: at most a few megabytes, once per such fork.

use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dlmalloc::{Allocator, Dlmalloc};
use quire_linux::sys::futex::Lock;

use crate::callers::Caller;
use crate::raw;

/// The largest block libc gets from here, in bytes.
const LIBC_LARGEST: usize = 4096;
/// The most bytes libc has here at a time.
const LIBC_CAP: u64 = 4 << 20;
/// Bytes of address space for each of the two.
const HALF: usize = 32 << 20;
const RANGE: usize = 2 * HALF;

/// Where the range begins; 0 before [`reserve`] and when it was refused.
static START: AtomicUsize = AtomicUsize::new(0);
static LOADER: Half = Half::new(0);
static LIBC: Half = Half::new(HALF);

/// Reserves the range. Where the address space is too narrow, this heap stays empty and mimalloc serves all.
pub(crate) fn reserve() {
    if let Some(at) = raw::map_pages(RANGE) {
        START.store(at as usize, Ordering::Release);
    }
}

/// Bytes mapped for this heap.
pub(crate) fn mapped_bytes() -> u64 {
    if START.load(Ordering::Relaxed) == 0 { 0 } else { RANGE as u64 }
}

/// Bytes in use by the loader, and by libc.
pub(crate) fn live_bytes() -> (u64, u64) {
    (LOADER.live.load(Ordering::Relaxed), LIBC.live.load(Ordering::Relaxed))
}

/// Whether `block` is this heap's.
#[inline]
pub(crate) fn owns(block: *mut u8) -> bool {
    let start = START.load(Ordering::Relaxed);
    start != 0 && (block as usize).wrapping_sub(start) < RANGE
}

/// A block of `size` bytes, aligned to 16, if this heap serves such a caller; null if not, or when it is full.
pub(crate) fn alloc(caller: Caller, size: usize) -> *mut u8 {
    match caller {
        Caller::Program => ptr::null_mut(),
        Caller::Loader => LOADER.alloc(size, u64::MAX),
        Caller::Libc if size <= LIBC_LARGEST => LIBC.alloc(size, LIBC_CAP),
        Caller::Libc => ptr::null_mut(),
    }
}

/// Frees a block of this heap.
///
/// # Safety
///
/// This heap [`owns`] the block, and nobody uses it any more.
pub(crate) unsafe fn free(block: *mut u8) {
    // SAFETY: by the caller's promise.
    unsafe { half_of(block).free(block) };
}

/// The bytes asked for when `block` was allocated.
///
/// # Safety
///
/// This heap [`owns`] the block.
pub(crate) unsafe fn usable_size(block: *mut u8) -> usize {
    // SAFETY: each block has its header in front.
    unsafe { *header_of(block) }
}

/// Makes this heap usable in a child after fork, on its only thread.
pub(crate) fn in_child() {
    LOADER.in_child();
    LIBC.in_child();
}

fn half_of(block: *mut u8) -> &'static Half {
    let offset = (block as usize).wrapping_sub(START.load(Ordering::Relaxed));
    if offset < HALF { &LOADER } else { &LIBC }
}

/// In front of each block: its size, and padding that keeps the block aligned to 16.
const HEADER: usize = 16;

fn header_of(block: *mut u8) -> *mut usize {
    block.wrapping_sub(HEADER).cast()
}

/// One half of the range, and the heap in it.
struct Half {
    heap: Lock<Dlmalloc<Carver>>,
    /// Bytes of blocks in use; changed with the lock held.
    live: AtomicU64,
    /// Blocks below this address are left alone: they are of a heap that was given up in [`Half::in_child`].
    floor: AtomicUsize,
}

impl Half {
    const fn new(offset: usize) -> Half {
        Half {
            heap: Lock::new(Dlmalloc::new_with_allocator(Carver::new(offset))),
            live: AtomicU64::new(0),
            floor: AtomicUsize::new(0),
        }
    }

    fn alloc(&self, size: usize, cap: u64) -> *mut u8 {
        let Some(gross) = size.checked_add(HEADER) else { return ptr::null_mut() };
        let mut heap = self.heap.lock();
        if self.live.load(Ordering::Relaxed).saturating_add(size as u64) > cap {
            return ptr::null_mut();
        }
        // SAFETY: the lock is held; any size may be asked for.
        let at = unsafe { heap.malloc(gross, HEADER) };
        if at.is_null() {
            return at;
        }
        self.live.fetch_add(size as u64, Ordering::Relaxed);
        let block = at.wrapping_add(HEADER);
        // SAFETY: the header is the first part of the fresh allocation, and aligned as it is.
        unsafe { *header_of(block) = size };
        block
    }

    /// # Safety
    ///
    /// `block` is in use and of this half, and nobody uses it any more.
    unsafe fn free(&self, block: *mut u8) {
        if (block as usize) < self.floor.load(Ordering::Relaxed) {
            return;
        }
        let mut heap = self.heap.lock();
        // SAFETY: the header says what was asked for in alloc, and the allocation begins with it.
        unsafe {
            let size = *header_of(block);
            self.live.fetch_sub(size as u64, Ordering::Relaxed);
            heap.free(header_of(block).cast(), size + HEADER, HEADER);
        }
    }

    fn in_child(&self) {
        if !self.heap.is_held() {
            return;
        }
        // SAFETY: this process has one thread; who held the lock is not in it, and the half-changed heap behind the
        // lock is replaced below, unused.
        unsafe { self.heap.force_free() };
        let mut heap = self.heap.lock();
        let (offset, carved) = heap.allocator().position();
        *heap = Dlmalloc::new_with_allocator(Carver { offset, carved: AtomicUsize::new(carved) });
        self.live.store(0, Ordering::Relaxed);
        self.floor.store(START.load(Ordering::Relaxed) + offset + carved, Ordering::Relaxed);
    }
}

/// Gives dlmalloc one piece of the half after the other. Nothing comes back: both are small.
struct Carver {
    /// Where this half begins within the range.
    offset: usize,
    carved: AtomicUsize,
}

impl Carver {
    const fn new(offset: usize) -> Carver {
        Carver { offset, carved: AtomicUsize::new(0) }
    }

    fn position(&self) -> (usize, usize) {
        (self.offset, self.carved.load(Ordering::Relaxed))
    }
}

// SAFETY: alloc gives each piece of the reserved range once; the mapping is fresh, hence zeroed, and stays.
unsafe impl Allocator for Carver {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let start = START.load(Ordering::Acquire);
        let carved = self.carved.load(Ordering::Relaxed);
        if start == 0 || size > HALF - carved {
            return (ptr::null_mut(), 0, 0);
        }
        self.carved.store(carved + size, Ordering::Relaxed);
        ((start + self.offset + carved) as *mut u8, size, 0)
    }

    fn remap(&self, _at: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _at: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, _at: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}
