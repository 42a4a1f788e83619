//! What is managed, as pure functions of a call's arguments and the arena's bounds.
//!
//! This file stands alone: `tests/decide.rs` takes it in by its path.

use core::ffi::c_int;
use core::ops::Range;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// The first byte that no mapping can reach: the last page below 2^47 stays free.
const USER_END: usize = (1 << 47) - PAGE;

/// Kinds of mapping that stay the kernel's: stacks (a fault on one can't be served while its thread holds a lock of
/// ours), ranges that grow, huge pages of the system's pool, and addresses below 4 GiB.
const NOT_OURS: c_int = libc::MAP_STACK | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB | libc::MAP_32BIT;

/// Who serves an mmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapRoute {
    /// The kernel alone.
    Kernel,
    /// The pager, wherever it has room.
    Managed,
    /// The kernel outside the arena, the pager inside, exactly there.
    Fixed,
    /// The kernel, over a part of the arena that the pager gives up first.
    Foreign,
}

/// Decides on mmap. A hint without `MAP_FIXED` is ignored, as POSIX allows.
pub(crate) fn map(addr: usize, len: usize, flags: c_int, arena: &Range<usize>) -> MapRoute {
    let plain = is_plain_anonymous(flags);
    if arena.is_empty() || len == 0 {
        return MapRoute::Kernel;
    }
    if flags & libc::MAP_FIXED_NOREPLACE == libc::MAP_FIXED_NOREPLACE {
        // The whole arena is mapped, so inside it the kernel says EEXIST: right for memory in use, allowed for the rest.
        return MapRoute::Kernel;
    }
    if flags & libc::MAP_FIXED == 0 {
        return if plain { MapRoute::Managed } else { MapRoute::Kernel };
    }
    if !is_sound(addr, len) || !is_within_reach(addr, len) || !overlaps(addr, len, arena) {
        return MapRoute::Kernel;
    }
    if plain { MapRoute::Fixed } else { MapRoute::Foreign }
}

fn is_plain_anonymous(flags: c_int) -> bool {
    let private = flags & libc::MAP_TYPE == libc::MAP_PRIVATE;
    private && flags & libc::MAP_ANONYMOUS != 0 && flags & NOT_OURS == 0
}

/// Whether the kernel would look at this range at all rather than answer `EINVAL` or `ENOMEM`.
fn is_sound(addr: usize, len: usize) -> bool {
    addr.is_multiple_of(PAGE)
        && addr.checked_add(len).and_then(|end| end.checked_next_multiple_of(PAGE)).is_some()
}

/// Whether a sound range lies where mappings can be. Calls that refuse any other do so before they look at it.
pub(crate) fn is_within_reach(addr: usize, len: usize) -> bool {
    addr + len <= USER_END
}

fn overlaps(addr: usize, len: usize, arena: &Range<usize>) -> bool {
    addr < arena.end && addr + len > arena.start
}

/// A range of pages, as three parts: before the arena, inside, behind. Any may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// What lies below the arena.
    pub(crate) before: Range<usize>,
    /// What is managed.
    pub(crate) inside: Range<usize>,
    /// What lies above the arena.
    pub(crate) behind: Range<usize>,
}

/// Splits a range at the arena's edges, its end rounded up to a page. `None` if none of it is inside, or if the range is
/// one that the kernel refuses: then the call is the kernel's as it stands.
pub(crate) fn split(addr: usize, len: usize, arena: &Range<usize>) -> Option<Parts> {
    if arena.is_empty() || len == 0 || !is_sound(addr, len) || !overlaps(addr, len, arena) {
        return None;
    }
    let end = (addr + len).next_multiple_of(PAGE);
    let inside = addr.max(arena.start)..end.min(arena.end);
    Some(Parts { before: addr..inside.start, behind: inside.end..end, inside })
}

/// As [`split`], for the calls that round their address down to a page (mlock and munlock).
pub(crate) fn split_loosely(addr: usize, len: usize, arena: &Range<usize>) -> Option<Parts> {
    let slack = addr % PAGE;
    split(addr - slack, len.checked_add(slack)?, arena)
}

/// Who serves an mremap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemapRoute {
    /// The kernel alone.
    Kernel,
    /// The pager: the old range is managed.
    Managed,
    /// The kernel, onto a part of the arena that the pager gives up first.
    Foreign,
    /// Nobody: the range crosses the arena's edge, hence is not one mapping.
    Fault,
}

/// Decides on mremap.
pub(crate) fn remap(
    old: usize,
    old_len: usize,
    new: usize,
    new_len: usize,
    flags: c_int,
    arena: &Range<usize>,
) -> RemapRoute {
    // Length 0 doubles a shared mapping; of managed memory there is none to double.
    if let Some(parts) = split(old, old_len.max(1), arena) {
        let whole = parts.before.is_empty() && parts.behind.is_empty();
        return if whole { RemapRoute::Managed } else { RemapRoute::Fault };
    }
    if flags & libc::MREMAP_FIXED != 0 && split(new, new_len, arena).is_some() {
        return RemapRoute::Foreign;
    }
    RemapRoute::Kernel
}

/// Whether a clone with these flags copies the address space, as fork does.
pub(crate) fn copies_memory(clone_flags: u64) -> bool {
    clone_flags & libc::CLONE_VM as u64 == 0
}
