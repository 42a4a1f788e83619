//! What a program may ask of its address space.

/// A call that touches managed memory. Addresses and lengths are in bytes; those of existing memory are multiples
/// of a page and lie in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// New memory wherever there is room. `flags` as mmap's. Answers its address.
    Map {
        /// Bytes.
        len: usize,
        /// As mmap's.
        prot: i32,
        /// As mmap's.
        flags: i32,
    },
    /// The kernel's from now on, with its contents, until `Unmap`.
    Disown {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// Whether the program's limits allow new memory outside the arena.
    Allows {
        /// Bytes that are mapped.
        size: usize,
        /// Those of them that are private and writable.
        data: usize,
    },
    /// New memory exactly there, in place of whatever is there.
    MapFixed {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// As mmap's.
        prot: i32,
        /// As mmap's.
        flags: i32,
    },
    /// New memory exactly there, if nothing is there: else EEXIST.
    MapAt {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// As mmap's.
        prot: i32,
        /// As mmap's.
        flags: i32,
    },
    /// A mapping of the kernel's is about to be put over this range: what is managed there is unmapped, and nobody is
    /// given the addresses until `Unmap`. Mappings of the kernel's stay.
    Claim {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// The same, if nothing is there: else EEXIST.
    ClaimFree {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// As brk, but that it answers where the break is then, in bytes. EOPNOTSUPP: the kernel has one.
    Break {
        /// Where it is to be, in bytes.
        to: usize,
    },
    /// As munmap.
    Unmap {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// As mprotect.
    Protect {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// As mprotect's.
        prot: i32,
    },
    /// As madvise.
    Advise {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// As madvise's.
        advice: i32,
    },
    /// As mlock; with `on_fault` as mlock2 with `MLOCK_ONFAULT`.
    Lock {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// Pages are locked when they come.
        on_fault: bool,
    },
    /// As munlock.
    Unlock {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// As mlockall, for managed memory.
    LockAll {
        /// As mlockall's.
        flags: i32,
    },
    /// As munlockall, for managed memory.
    UnlockAll,
    /// As mremap.
    Remap {
        /// Where it is.
        old: usize,
        /// Bytes now.
        old_len: usize,
        /// Bytes wanted.
        new_len: usize,
        /// As mremap's.
        flags: i32,
        /// With `MREMAP_FIXED`: where it is to be. Outside the arena that is a mapping which may be written over.
        new_addr: usize,
    },
    /// What lies at `addr`, and how far: see `Piece`.
    Piece {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// An object that the kernel touches when a thread dies, or where it can't wait: its pages stay present.
    Keep {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// The thread, by its id, whose end is the last time; 0 for an object that the program ends itself.
        owner: u32,
    },
    /// Such an object is no more.
    LetGo {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// Wait for the end of jobs, walk all tables, and stop where they do not fit.
    Check,
    /// Bring the tables to rest for a fork. Not for programs: see [`fork_prepare`](crate::pager::fork_prepare).
    Freeze,
}
