//! What is managed, as pure functions of a call's arguments and the arena's bounds.
//!
//! This file stands alone: `tests/decide.rs` takes it in by its path.

use core::ffi::c_int;
use core::ops::Range;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// The first byte that no mapping can reach: the last page below 2^47 stays free.
pub(crate) const USER_END: usize = (1 << 47) - PAGE;

/// Kinds of mapping that stay the kernel's: stacks (a fault on one can't be served while its thread holds a lock of
/// ours), ranges that grow, huge pages of the system's pool, and addresses below 4 GiB.
const NOT_OURS: c_int = libc::MAP_STACK | libc::MAP_GROWSDOWN | libc::MAP_HUGETLB | libc::MAP_32BIT;

/// How far apart code and what it jumps to directly may lie.
const JUMP: usize = 1 << 31;

/// Who serves an mmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapRoute {
    /// The kernel alone.
    Kernel,
    /// The pager, wherever it has room.
    Managed,
    /// The pager, at the hint if nothing is there, else wherever it has room.
    Hinted,
    /// The kernel at the hint if nothing is there: code in the making that has to lie near other code. Else the pager,
    /// wherever it has room.
    NearCode,
    /// The kernel outside the arena, the pager inside, exactly there.
    Fixed,
    /// The pager, exactly there if nothing is there.
    FixedFree,
    /// The kernel, over a part of the arena that the pager gives up first.
    Foreign,
    /// The kernel, over a part of the arena if nothing is there; else wherever it likes.
    ForeignHinted,
    /// The kernel, over a part of the arena if nothing is there.
    ForeignFree,
}

/// Decides on mmap. `texts` is where the program's code lies.
///
/// Hints that name neither the arena nor the neighbourhood of code are ignored, as POSIX allows: several runtimes give
/// one for their whole heap, and the kernel's memory is not managed.
pub(crate) fn map(
    addr: usize,
    len: usize,
    flags: c_int,
    arena: &Range<usize>,
    texts: &[Range<usize>],
) -> MapRoute {
    if arena.is_empty() || len == 0 {
        return MapRoute::Kernel;
    }
    let plain = is_plain_anonymous(flags);
    let free = flags & libc::MAP_FIXED_NOREPLACE != 0;
    if free || flags & libc::MAP_FIXED != 0 {
        let ours = is_sound(addr, len) && is_within_reach(addr, len) && overlaps(addr, len, arena);
        return match (ours, free, plain) {
            (false, ..) => MapRoute::Kernel,
            (true, false, true) => MapRoute::Fixed,
            (true, false, false) => MapRoute::Foreign,
            // Across the edge of the arena something is mapped anyway.
            (true, true, _) if !is_inside(addr, len, arena) => MapRoute::Kernel,
            (true, true, true) => MapRoute::FixedFree,
            (true, true, false) => MapRoute::ForeignFree,
        };
    }
    let hint = addr - addr % PAGE;
    if hint > 0 && is_sound(hint, len) && is_inside(hint, len, arena) {
        let anywhere = flags & (libc::MAP_GROWSDOWN | libc::MAP_HUGETLB | libc::MAP_32BIT) == 0;
        return match (plain, anywhere) {
            (true, _) => MapRoute::Hinted,
            (false, true) => MapRoute::ForeignHinted,
            (false, false) => MapRoute::Kernel,
        };
    }
    if !plain {
        return MapRoute::Kernel;
    }
    let near = |text: &Range<usize>| !text.is_empty() && is_near(hint, len, text);
    if hint > 0 && is_sound(hint, len) && texts.iter().any(near) {
        MapRoute::NearCode
    } else {
        MapRoute::Managed
    }
}

/// Whether code anywhere in one of the two ranges can jump anywhere in the other.
fn is_near(addr: usize, len: usize, text: &Range<usize>) -> bool {
    let (start, end) = (addr.min(text.start), (addr + len).max(text.end));
    end - start < JUMP
}

fn is_inside(addr: usize, len: usize, arena: &Range<usize>) -> bool {
    addr >= arena.start && (addr + len).next_multiple_of(PAGE) <= arena.end
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

/// Whether a range lies where mappings can be. Calls that refuse any other do so before they look at it.
pub(crate) fn is_within_reach(addr: usize, len: usize) -> bool {
    addr.checked_add(len).is_some_and(|end| end <= USER_END)
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

/// Whether mprotect knows all of these rights.
pub(crate) fn are_rights(prot: c_int) -> bool {
    /// For semaphores, which x86 takes and forgets.
    const PROT_SEM: c_int = 8;
    prot & !(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC | PROT_SEM) == 0
}

/// Who serves an mremap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemapRoute {
    /// The kernel alone.
    Kernel,
    /// The old range is in the arena.
    Inside,
    /// The kernel, onto a part of the arena that the pager gives up first.
    Foreign,
    /// The old range begins in the arena and has no length, or one that no mapping has.
    Unsized,
    /// Nobody: the range crosses the arena's edge, hence is not one mapping.
    Fault,
}

/// The arguments of an mremap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remap {
    pub(crate) old: usize,
    /// In bytes.
    pub(crate) old_len: usize,
    /// In bytes.
    pub(crate) new_len: usize,
    pub(crate) flags: c_int,
    /// Only with `MREMAP_FIXED`; a hint with `MREMAP_DONTUNMAP`.
    pub(crate) new_addr: usize,
}

impl Remap {
    pub(crate) fn is_fixed(&self) -> bool {
        self.flags & libc::MREMAP_FIXED != 0
    }

    /// Whether the old range stays mapped.
    pub(crate) fn keeps(&self) -> bool {
        self.flags & libc::MREMAP_DONTUNMAP != 0
    }

    pub(crate) fn may_move(&self) -> bool {
        self.flags & libc::MREMAP_MAYMOVE != 0
    }

    /// The same with lengths of whole pages. As in the kernel, the longest become 0.
    pub(crate) fn in_pages(&self) -> Remap {
        let pages = |len: usize| len.checked_next_multiple_of(PAGE).unwrap_or(0);
        Remap { old_len: pages(self.old_len), new_len: pages(self.new_len), ..*self }
    }

    /// Whether the kernel would look at the ranges at all rather than answer `EINVAL`. Lengths are of whole pages.
    fn is_sound(&self) -> bool {
        let known = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        let moves = self.is_fixed() || self.keeps();
        self.flags & !known == 0
            && self.old.is_multiple_of(PAGE)
            && self.new_len > 0
            && self.new_len <= USER_END
            && (!moves || self.may_move())
            && (!self.keeps() || self.new_len == self.old_len)
            // With MREMAP_DONTUNMAP alone the address is a hint, and looked at all the same.
            && (!moves || self.new_addr.is_multiple_of(PAGE) && is_within_reach(self.new_addr, self.new_len))
            && (!moves || !self.overlaps_itself())
    }

    fn overlaps_itself(&self) -> bool {
        self.old < self.new_addr + self.new_len && self.new_addr < self.old.saturating_add(self.old_len)
    }
}

/// Decides on mremap. What the kernel refuses for its arguments alone is the kernel's.
pub(crate) fn remap(call: &Remap, arena: &Range<usize>) -> RemapRoute {
    let call = call.in_pages();
    if !call.is_sound() {
        return RemapRoute::Kernel;
    }
    if arena.contains(&call.old) && (call.old_len == 0 || !is_within_reach(call.old, call.old_len)) {
        return RemapRoute::Unsized;
    }
    if call.old_len > 0
        && let Some(parts) = split(call.old, call.old_len, arena)
    {
        let whole = parts.before.is_empty() && parts.behind.is_empty();
        return if whole { RemapRoute::Inside } else { RemapRoute::Fault };
    }
    if call.is_fixed() && split(call.new_addr, call.new_len, arena).is_some() {
        return RemapRoute::Foreign;
    }
    RemapRoute::Kernel
}

/// Whether a clone with these flags copies the address space, as fork does.
pub(crate) fn copies_memory(clone_flags: u64) -> bool {
    clone_flags & libc::CLONE_VM as u64 == 0
}

/// Whether any part of a range is a gap. `piece` tells of so many bytes at an address whether they begin with one, and where
/// what they begin with ends.
pub(crate) fn has_gap(range: &Range<usize>, piece: impl Fn(usize, usize) -> (bool, usize)) -> bool {
    let mut at = range.start;
    while at < range.end {
        let (gap, end) = piece(at, range.end - at);
        if gap {
            return true;
        }
        at = end;
    }
    false
}
