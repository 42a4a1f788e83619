//! Mappings of anonymous memory. Addresses and lengths are bytes, multiples of the page size.

use super::tally::{self, Call};
use super::{Errno, Result, raw};
use crate::limits;
use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};
use quire_core::PAGE_SIZE;
use rustix::mm::{self, MapFlags, MlockFlags, MprotectFlags, MremapFlags, ProtFlags};

/// Advice about a range, as `madvise(2)` takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// Drop the contents: pages become holes. Refused (EINVAL) on locked ranges.
    DontNeed,
    /// The same, on locked ranges too.
    DontNeedLocked,
    /// Make every page present and the process's own; fills holes, which faults.
    PopulateWrite,
    /// Never use 2 MiB pages here.
    NoHugepage,
    /// 2 MiB pages are welcome here.
    Hugepage,
    /// Put 2 MiB pages together now.
    Collapse,
    /// A forked child does not get this range.
    DontFork,
    /// Undo [`Advice::DontFork`].
    DoFork,
    /// A forked child gets this range empty.
    WipeOnFork,
    /// Leave the range out of core dumps.
    DontDump,
    /// Undo [`Advice::DontDump`].
    DoDump,
    /// Access is at random: for anonymous memory no more than a mark on the range.
    Random,
    /// Undo [`Advice::Random`].
    Normal,
}

impl Advice {
    fn number(self) -> i32 {
        match self {
            Advice::DontNeed => libc::MADV_DONTNEED,
            Advice::DontNeedLocked => libc::MADV_DONTNEED_LOCKED,
            Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
            Advice::NoHugepage => libc::MADV_NOHUGEPAGE,
            Advice::Hugepage => libc::MADV_HUGEPAGE,
            Advice::Collapse => libc::MADV_COLLAPSE,
            Advice::DontFork => libc::MADV_DONTFORK,
            Advice::DoFork => libc::MADV_DOFORK,
            Advice::WipeOnFork => libc::MADV_WIPEONFORK,
            Advice::DontDump => libc::MADV_DONTDUMP,
            Advice::DoDump => libc::MADV_DODUMP,
            Advice::Random => libc::MADV_RANDOM,
            Advice::Normal => libc::MADV_NORMAL,
        }
    }
}

fn pointer(addr: usize) -> *mut c_void {
    core::ptr::with_exposed_provenance_mut(addr)
}

fn map_at(addr: usize, len: usize, prot: ProtFlags, flags: MapFlags) -> Result<usize> {
    // SAFETY: either the kernel chooses the place (no FIXED), or the caller of this module's `replace` owns it.
    unsafe { mm::mmap_anonymous(pointer(addr), len, prot, flags) }.map(|p| p.expose_provenance())
}

/// Reserves address space without access and without memory behind it.
pub fn reserve(len: usize) -> Result<usize> {
    map_at(0, len, ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE)
}

/// The same at `addr`, in the place of whatever was mapped there.
pub fn reserve_at(addr: usize, len: usize) -> Result<()> {
    map_at(addr, len, ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED)
        .map(|_| ())
}

/// Whether something is mapped in all of a range.
pub fn is_mapped(addr: usize, len: usize) -> bool {
    // SAFETY: takes no pointers to follow, and starts nothing.
    unsafe { raw::syscall(libc::SYS_msync, [addr, len, libc::MS_ASYNC as usize]) }.is_ok()
}

/// The same as [`reserve`], at `addr` if nothing is mapped in that range; else `EEXIST`.
pub fn reserve_free(addr: usize, len: usize) -> Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    map_at(addr, len, ProtFlags::empty(), flags).map(|_| ())
}

/// The same as [`reserve`], the start being a multiple of `align`, a power of two.
pub fn reserve_aligned(len: usize, align: usize) -> Result<usize> {
    let whole = reserve(len + align)?;
    let start = whole.next_multiple_of(align);
    if start > whole {
        unmap(whole, start - whole)?;
    }
    let rest = whole + align - start;
    if rest > 0 {
        unmap(start + len, rest)?;
    }
    Ok(start)
}

/// Maps fresh memory, readable and writable, that is charged when touched.
pub fn map(len: usize) -> Result<usize> {
    own(|| map_at(0, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE))
}

/// Maps something of Quire's own, for which limits of the program's make way.
fn own(map: impl Fn() -> Result<usize>) -> Result<usize> {
    match map() {
        Err(Errno::NOMEM) if limits::make_room() => map(),
        answer => answer,
    }
}

/// The same for a buffer of Quire's own, which is counted by [`buffer_bytes`] as far as it is touched.
pub fn map_buffer(len: usize) -> Result<usize> {
    let addr = map(len)?;
    // It tells nothing about the program, and where that is refused a core dump is larger.
    let _ = advise(addr, len, Advice::DontDump);
    BUFFERS.add(addr, len);
    Ok(addr)
}

/// Ends what [`map_buffer`] began.
pub fn unmap_buffer(addr: usize, len: usize) -> Result<()> {
    BUFFERS.forget(addr);
    unmap(addr, len)
}

/// Bytes of the buffers of Quire's own that have memory behind them.
pub fn buffer_bytes() -> usize {
    BUFFERS.bytes().1
}

/// Bytes of the buffers of Quire's own, touched or not.
pub fn buffers_mapped() -> usize {
    BUFFERS.mapped()
}

/// There is room for the buffers of a process and of several forks of it.
static BUFFERS: Mappings<256> = Mappings::new();

/// Bytes of a range of pages that have memory behind them.
fn touched_bytes(addr: usize, len: usize) -> usize {
    const STEP: usize = 1024;
    let mut present = [0u8; STEP];
    let mut touched = 0;
    for start in (addr..addr + len).step_by(STEP * PAGE_SIZE) {
        let part = (addr + len - start).min(STEP * PAGE_SIZE);
        tally::count(Call::Mincore);
        // SAFETY: the answer has a byte for each page of the part, and there is room for STEP.
        let told = unsafe { raw::syscall(libc::SYS_mincore, [start, part, present.as_mut_ptr().addr()]) };
        if told.is_ok() {
            touched += present[..part.div_ceil(PAGE_SIZE)].iter().filter(|&&page| page & 1 != 0).count();
        }
    }
    touched * PAGE_SIZE
}

/// Where a number of mappings are, so that what is touched of them can be counted. No lock is taken.
#[derive(Debug)]
pub struct Mappings<const N: usize>([(AtomicUsize, AtomicUsize); N]);

impl<const N: usize> Mappings<N> {
    /// None yet.
    pub const fn new() -> Mappings<N> {
        Mappings([const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; N])
    }

    /// Adds a mapping of `len` bytes at `addr`, if there is room.
    pub fn add(&self, addr: usize, len: usize) {
        for (place, length) in &self.0 {
            if place.compare_exchange(0, addr, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                length.store(len, Ordering::Release);
                return;
            }
        }
    }

    /// Forgets the mapping at `addr`.
    pub fn forget(&self, addr: usize) {
        for (place, length) in &self.0 {
            if place.load(Ordering::Acquire) == addr {
                length.store(0, Ordering::Release);
                place.store(0, Ordering::Release);
                return;
            }
        }
    }

    /// Bytes of all that were added.
    pub fn mapped(&self) -> usize {
        self.0.iter().map(|(_, length)| length.load(Ordering::Acquire)).sum()
    }

    /// Bytes of all that were added, and those of them that have memory behind them.
    pub fn bytes(&self) -> (usize, usize) {
        let mut sum = (0, 0);
        for (place, length) in &self.0 {
            let (addr, len) = (place.load(Ordering::Acquire), length.load(Ordering::Acquire));
            if addr != 0 {
                sum = (sum.0 + len, sum.1 + touched_bytes(addr, len));
            }
        }
        sum
    }
}

impl<const N: usize> Default for Mappings<N> {
    fn default() -> Mappings<N> {
        Mappings::new()
    }
}

/// Puts fresh memory, readable and writable, at `addr` instead of whatever was mapped there.
pub fn replace(addr: usize, len: usize) -> Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    own(|| map_at(addr, len, ProtFlags::READ | ProtFlags::WRITE, flags)).map(|_| ())
}

/// Puts fresh memory with these rights, in the bits of `mmap(2)`, at `addr` instead of whatever was mapped there.
pub fn map_over(addr: usize, len: usize, prot: u32) -> Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    map_at(addr, len, ProtFlags::from_bits_retain(prot), flags).map(|_| ())
}

/// Ends the mapping of a range.
pub fn unmap(addr: usize, len: usize) -> Result<()> {
    // SAFETY: the crate reserved the range and holds no reference into it (module `sys`).
    unsafe { mm::munmap(pointer(addr), len) }
}

/// Sets access rights, in the bits of `mmap(2)`.
pub fn protect(addr: usize, len: usize, prot: u32) -> Result<()> {
    tally::count(Call::Mprotect);
    // SAFETY: as for `unmap`.
    unsafe { mm::mprotect(pointer(addr), len, MprotectFlags::from_bits_retain(prot)) }
}

/// Moves the pages of one VMA to `to`, replacing what is mapped there. The old range stays mapped and empty.
pub fn move_pages(from: usize, len: usize, to: usize) -> Result<()> {
    let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
    // SAFETY: as for `unmap`, for both ranges.
    unsafe { mm::mremap_fixed(pointer(from), len, len, flags, pointer(to)) }.map(|_| ())
}

/// Whether the kernel moves several VMAs with one call, as it does from 6.17 on; before it answers EFAULT. Tried once.
pub fn moves_several() -> bool {
    const NO: usize = 1;
    const YES: usize = 2;
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    if KNOWN.load(Ordering::Relaxed) == 0
        && let Ok(several) = try_to_move_several()
    {
        KNOWN.store(if several { YES } else { NO }, Ordering::Relaxed);
    }
    KNOWN.load(Ordering::Relaxed) != NO
}

fn try_to_move_several() -> Result<bool> {
    let half = 2 * PAGE_SIZE;
    let from = reserve(2 * half)?;
    let (to, flags) = (from + half, MremapFlags::MAYMOVE);
    let moved = protect(from, PAGE_SIZE, 1).and_then(|()| {
        // SAFETY: both ranges were reserved above, and nothing refers to them.
        unsafe { mm::mremap_fixed(pointer(from), half, half, flags, pointer(to)) }
    });
    match moved {
        // Where it was is free for others already.
        Ok(_) => unmap(to, half).map(|()| true),
        Err(errno) => {
            unmap(from, 2 * half)?;
            if errno == Errno::FAULT { Ok(false) } else { Err(errno) }
        }
    }
}

/// Locks pages in memory as they become present; faults nothing in.
pub fn lock_on_fault(addr: usize, len: usize) -> Result<()> {
    // SAFETY: locking changes no contents.
    unsafe { mm::mlock_with(pointer(addr), len, MlockFlags::ONFAULT) }
}

/// Undoes [`lock_on_fault`].
pub fn unlock(addr: usize, len: usize) -> Result<()> {
    // SAFETY: unlocking changes no contents.
    unsafe { mm::munlock(pointer(addr), len) }
}

/// Gives advice about a range; see [`Advice`].
pub fn advise(addr: usize, len: usize, advice: Advice) -> Result<()> {
    tally::count(Call::Madvise);
    // SAFETY: as for `unmap`: the advice that drops contents is given only on memory that Rust does not refer to.
    unsafe { raw::syscall(libc::SYS_madvise, [addr, len, advice.number() as usize]) }.map(|_| ())
}

/// Ranges that [`drop_all`] takes at once.
pub const MOST_DROPPED: usize = 128;

/// Gives the memory of up to [`MOST_DROPPED`] ranges back, by address and length, with one flush of the processors' TLBs
/// where the kernel can do that (6.13).
pub fn drop_all(ranges: impl Iterator<Item = (usize, usize)> + Clone) -> Result<()> {
    /// Stands for the calling process where a descriptor of one is asked for.
    const OWN_PROCESS: isize = -10001;
    let mut vector = [[0_usize; 2]; MOST_DROPPED];
    let mut count = 0;
    for (addr, len) in ranges.clone().take(MOST_DROPPED) {
        vector[count] = [addr, len];
        count += 1;
    }
    let bytes: usize = vector[..count].iter().map(|[_, len]| len).sum();
    let advice = Advice::DontNeedLocked.number() as usize;
    let args = [OWN_PROCESS as usize, vector.as_ptr().addr(), count, advice, 0];
    tally::count(Call::ProcessMadvise);
    // SAFETY: the kernel reads `count` pairs of address and length; as for `advise`.
    if unsafe { raw::syscall(libc::SYS_process_madvise, args) } == Ok(bytes) {
        return Ok(());
    }
    for (addr, len) in ranges {
        advise(addr, len, Advice::DontNeedLocked)?;
    }
    Ok(())
}

/// `madvise(2)` by number, for advice that only passes through.
pub fn advise_by_number(addr: usize, len: usize, advice: i32) -> Result<()> {
    tally::count(Call::Madvise);
    // SAFETY: the caller passes on advice about its own pages that changes no contents.
    unsafe { raw::syscall(libc::SYS_madvise, [addr, len, advice as usize]) }.map(|_| ())
}

/// Keeps 2 MiB pages out of a range, on kernels that have them.
pub fn no_huge_pages(addr: usize, len: usize) -> Result<()> {
    match advise(addr, len, Advice::NoHugepage) {
        // A kernel built without them knows no advice about them.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// Whether the page at `addr` is in memory now. A page in the kernel's own swap is not.
pub fn in_core(addr: usize) -> Result<bool> {
    let mut state = 0u8;
    tally::count(Call::Mincore);
    // SAFETY: one page was asked about, so the kernel writes one byte, which `state` is.
    unsafe { raw::syscall(libc::SYS_mincore, [addr, 1, (&raw mut state).addr()]) }?;
    Ok(state & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_reservations_are_aligned_and_trimmed() {
        let addr = reserve_aligned(6 << 20, 2 << 20).unwrap();
        assert_eq!(addr % (2 << 20), 0);
        protect(addr, 6 << 20, 3).unwrap();
        assert_eq!(in_core(addr), Ok(false));
        advise(addr, 4096, Advice::PopulateWrite).unwrap();
        assert_eq!(in_core(addr), Ok(true));
        unmap(addr, 6 << 20).unwrap();
        assert!(in_core(addr).is_err());
    }

    #[test]
    fn what_is_dropped_at_once_is_gone_and_no_more() {
        let addr = map(6 * 4096).unwrap();
        advise(addr, 6 * 4096, Advice::PopulateWrite).unwrap();
        drop_all([(addr, 4096), (addr + 2 * 4096, 2 * 4096)].into_iter()).unwrap();
        let there: Vec<bool> = (0..6).map(|i| in_core(addr + i * 4096).unwrap()).collect();
        assert_eq!(there, [false, true, false, false, true, true]);
        unmap(addr, 6 * 4096).unwrap();
    }

    #[test]
    fn several_mappings_move_from_linux_6_17_on() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        assert_eq!(try_to_move_several(), Ok(version >= (6, 17)));
        assert_eq!(moves_several(), version >= (6, 17));
    }

    #[test]
    fn moved_pages_leave_an_empty_mapping() {
        let from = map(2 * 4096).unwrap();
        let to = reserve(2 * 4096).unwrap();
        advise(from, 4096, Advice::PopulateWrite).unwrap();
        move_pages(from, 2 * 4096, to).unwrap();
        assert_eq!((in_core(from), in_core(to)), (Ok(false), Ok(true)));
        unmap(from, 2 * 4096).unwrap();
        unmap(to, 2 * 4096).unwrap();
    }
}
