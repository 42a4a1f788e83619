//! All that this library wants of the pager, in one place.
//!
//! This build has no pager: [`start`] refuses and nothing is managed.

/// A call that touches managed memory, for the pager to carry out. Addresses and lengths are in bytes; addresses and
/// lengths of existing memory are multiples of a page, and lie wholly inside the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// New memory of `len` bytes wherever there is room. `flags` as mmap's. Answers its address, or `EOPNOTSUPP` if the
    /// pager leaves this one to the kernel.
    Map { len: usize, prot: i32, flags: i32 },
    /// New zeroed memory exactly there, in place of whatever is there.
    MapFixed { addr: usize, len: usize, prot: i32, flags: i32 },
    /// This range, unmapped just before, now holds a mapping of the kernel's: nobody may be given it until `Unmap`.
    MapForeign { addr: usize, len: usize },
    /// As munmap.
    Unmap { addr: usize, len: usize },
    /// As mprotect.
    Protect { addr: usize, len: usize, prot: i32 },
    /// As madvise.
    Advise { addr: usize, len: usize, advice: i32 },
    /// As mlock; with `on_fault` as mlock2 with `MLOCK_ONFAULT`.
    Lock { addr: usize, len: usize, on_fault: bool },
    /// As munlock.
    Unlock { addr: usize, len: usize },
    /// As mlockall, for managed and other memory alike.
    LockAll { flags: i32 },
    /// As munlockall, for managed and other memory alike.
    UnlockAll,
    /// As mremap. `new_addr` counts with `MREMAP_FIXED` only, and may then lie outside the arena.
    Remap { old: usize, old_len: usize, new_len: usize, flags: i32, new_addr: usize },
}

/// What the pager is started with.
#[derive(Debug)]
#[allow(dead_code, reason = "read by the pager")]
pub(crate) struct Start<'a> {
    /// The path of `quire`'s socket.
    pub(crate) socket: &'a [u8],
    /// Bytes that this library holds outside managed memory, to be asked for at any time from any thread.
    pub(crate) usage: fn() -> crate::start::Usage,
}

/// Whether the range has a byte in managed memory.
#[inline]
pub(crate) fn is_managed(addr: usize, len: usize) -> bool {
    let (start, end) = arena();
    len != 0 && addr < end && addr.saturating_add(len) > start
}

/// Where managed memory lies, first byte and end; empty while there is none.
#[inline]
pub(crate) fn arena() -> (usize, usize) {
    (0, 0)
}

/// Carries the call out; the error is an errno.
pub(crate) fn call(_call: Call) -> Result<usize, i32> {
    Err(libc::ENOSYS)
}

/// Starts Quire's threads; the error is an errno.
pub(crate) fn start(_options: &Start<'_>) -> Result<(), i32> {
    Err(libc::ENOSYS)
}

/// Before the kernel's fork, on the thread that forks: from here on nothing is evicted.
pub(crate) fn fork_prepare() {}

/// After the kernel's fork (or its failure), in the parent.
pub(crate) fn fork_parent() {}

/// After the kernel's fork, in the child.
pub(crate) fn fork_child() {}
