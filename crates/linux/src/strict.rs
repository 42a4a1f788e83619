//! Strict overcommit (`vm.overcommit_memory=2`): the kernel charges every private page that may be written, touched or not,
//! `MAP_NORESERVE` or not, and refuses what is above its limit.
//!
//! The arena is charged as the program would be without us, since it has no rights but where the program has mapped. Pool and
//! store have room for far more than is ever used; so they become writable as they come into use, from the start on. An arena
//! that was mapped in another mode keeps `MAP_NORESERVE` for good, and is charged for nothing.

use crate::sys::bytes::Stretch;
use crate::sys::{Result, file, mmap};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use quire_core::PAGE_SIZE;

/// What becomes writable bit by bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// The frames.
    Pool,
    /// What is compressed.
    Store,
}

/// How much becomes writable at once, in bytes.
const STEP: usize = 4 << 20;

/// The addresses up to which the parts can be written.
static ENDS: [AtomicUsize; 2] = [const { AtomicUsize::new(usize::MAX) }; 2];
/// Whether the kernel charges what the program maps in the arena.
static CHARGES: AtomicBool = AtomicBool::new(false);

/// Whether the kernel charges strictly now.
fn is_strict() -> bool {
    file::first_byte(c"/proc/sys/vm/overcommit_memory") == Some(b'2')
}

/// Whether the kernel charges what the program maps in the arena.
pub(crate) fn charges() -> bool {
    CHARGES.load(Ordering::Relaxed)
}

/// Before the arena is mapped.
pub(crate) fn begin() {
    CHARGES.store(is_strict(), Ordering::Relaxed);
}

/// Maps a part of `len` bytes.
pub(crate) fn map(part: Part, len: usize) -> Result<usize> {
    if !charges() {
        return mmap::map(len);
    }
    let base = mmap::reserve(len)?;
    ENDS[part as usize].store(base, Ordering::Release);
    Ok(base)
}

/// The same in the place of what is there, which was [`map`]ped. The kernel may have come to charge strictly since.
pub(crate) fn renew(part: Part, base: usize, len: usize) -> Result<()> {
    if !charges() && mmap::replace(base, len).is_ok() {
        return Ok(());
    }
    ENDS[part as usize].store(base, Ordering::Release);
    mmap::reserve_at(base, len)
}

/// Before the bytes of `place`, which is that part, are written up to offset `end`.
pub(crate) fn open(part: Part, place: Stretch, end: usize) -> Result<()> {
    let (opened, end) = (ENDS[part as usize].load(Ordering::Acquire), place.base() + end);
    if end <= opened {
        return Ok(());
    }
    let most = place.base() + place.len();
    let write = |to: usize| mmap::protect(opened, to - opened, RIGHTS).map(|()| to);
    // Where not so much is left, as much as is needed.
    let to =
        write(end.next_multiple_of(STEP).min(most)).or_else(|_| write(end.next_multiple_of(PAGE_SIZE)))?;
    ENDS[part as usize].fetch_max(to, Ordering::AcqRel);
    Ok(())
}

/// How many bytes mremap moves at once where both places are charged: a program that has all it may have can move what it has.
pub(crate) const MOST_MOVED: usize = 2 << 20;

/// Whether the kernel would charge so many bytes more.
pub(crate) fn may_charge(len: usize) -> Result<()> {
    if !charges() {
        return Ok(());
    }
    mmap::map(len).and_then(|at| mmap::unmap(at, len))
}

/// Read and write, in the bits of `mmap(2)`.
const RIGHTS: u32 = 3;
