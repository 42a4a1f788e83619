//! mmap and munmap.

use core::ffi::c_int;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{arena, limits};
use crate::decide::{self, MapRoute};
use crate::pager_api::{self, Call, Kind};
use crate::raw::{self, Answer};
use crate::texts;

/// The arguments of an mmap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) addr: usize,
    pub(super) len: usize,
    pub(super) prot: c_int,
    pub(super) flags: c_int,
    pub(super) fd: c_int,
    /// In bytes.
    pub(super) offset: i64,
}

/// # Safety
///
/// As mmap: with `MAP_FIXED` the range is the caller's to replace.
pub(super) unsafe fn map(request: &Request) -> Answer {
    let Request { addr, len, prot, flags, .. } = *request;
    if !request.offset.unsigned_abs().is_multiple_of(decide::PAGE as u64) {
        // SAFETY: it is refused, whatever the rest is.
        return unsafe { kernel_map(request) };
    }
    let texts = if addr == 0 { Default::default() } else { texts::all() };
    let at = addr - addr % decide::PAGE;
    let grows = flags & libc::MAP_GROWSDOWN != 0;
    // SAFETY: by the caller's promise, in each of them.
    unsafe {
        match decide::map(addr, len, flags, &arena(), &texts) {
            MapRoute::Kernel if grows && addr == 0 && !arena().is_empty() => map_growing(request, &arena()),
            MapRoute::Kernel => kernel_map(request),
            MapRoute::Managed => map_anywhere(request),
            MapRoute::Hinted => match pager_api::call(Call::MapAt { addr: at, len, prot, flags }) {
                Err(libc::EEXIST) => map_anywhere(request),
                answer => answer,
            },
            MapRoute::NearCode => {
                map_exactly(&Request { addr: at, ..*request }).or_else(|_| map_anywhere(request))
            }
            MapRoute::Fixed => map_fixed(request),
            MapRoute::FixedFree => pager_api::call(Call::MapAt { addr, len, prot, flags }),
            MapRoute::Foreign => match refusal(request) {
                Some(errno) => Err(errno),
                None => over_arena(addr, len, || kernel_map(request)),
            },
            MapRoute::ForeignHinted => match map_foreign_free(&Request { addr: at, ..*request }) {
                Err(libc::EEXIST) => kernel_map(request),
                answer => answer,
            },
            MapRoute::ForeignFree => map_foreign_free(request),
        }
    }
}

/// Managed memory wherever there is room. Where the arena has none, it is the kernel's.
unsafe fn map_anywhere(request: &Request) -> Answer {
    let Request { len, prot, flags, .. } = *request;
    match pager_api::call(Call::Map { len, prot, flags }) {
        // SAFETY: by the caller's promise.
        Err(libc::EOPNOTSUPP) => unsafe { kernel_map(request) },
        answer => answer,
    }
}

/// # Safety
///
/// As mmap.
pub(super) unsafe fn kernel_map(request: &Request) -> Answer {
    let Request { addr, len, prot, flags, fd, offset } = *request;
    if flags & libc::MAP_FIXED == 0 {
        let private = flags & libc::MAP_TYPE == libc::MAP_PRIVATE;
        limits::allow(len, if private && prot & libc::PROT_WRITE != 0 { len } else { 0 })?;
    }
    // SAFETY: by the caller's promise.
    unsafe { raw::call!(forward: libc::SYS_mmap, addr, len, prot, flags, fd as isize, offset) }
}

/// The kernel's memory at this address, or none. Filters of system calls (chromium's) know no `MAP_FIXED_NOREPLACE`.
///
/// # Safety
///
/// As mmap with this address as a hint.
pub(super) unsafe fn map_exactly(request: &Request) -> Answer {
    // SAFETY: by the caller's promise.
    let at = unsafe { kernel_map(request) }?;
    if at != request.addr {
        // SAFETY: the kernel has just put it there, and nobody knows of it.
        let _ = unsafe { raw::call!(libc::SYS_munmap, at, request.len) };
        return Err(libc::EEXIST);
    }
    Ok(at)
}

/// How far below the arena a range that grows downwards is put, and how far such ranges are apart.
const BELOW: usize = 1 << 40;
const APART: usize = 1 << 30;
/// Ranges that grow downwards, so far.
static GROWING: AtomicUsize = AtomicUsize::new(0);

/// A range that grows downwards. Left to itself the kernel puts it where it just fits, perhaps right above the arena,
/// and whatever is mapped next, Quire's own memory too, goes right below it. Far from all that it can grow.
pub(super) unsafe fn map_growing(request: &Request, arena: &Range<usize>) -> Answer {
    let number = GROWING.fetch_add(1, Ordering::Relaxed) + 1;
    let reach = request.len.saturating_add(number * APART).saturating_add(BELOW);
    let addr = arena.start.saturating_sub(reach) / decide::PAGE * decide::PAGE;
    let flags = request.flags | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: by the caller's promise; nothing that exists is touched.
    unsafe { kernel_map(&Request { addr, flags, ..*request }).or_else(|_| kernel_map(request)) }
}

/// Plain anonymous memory, exactly there, with a part of it inside the arena.
unsafe fn map_fixed(request: &Request) -> Answer {
    let Request { addr, len, prot, flags, .. } = *request;
    let Some(parts) = decide::split(addr, len, &arena()) else { return Err(libc::EINVAL) };
    for part in [&parts.before, &parts.behind].into_iter().filter(|part| !part.is_empty()) {
        // SAFETY: the caller gives the range up, and this is a part of it.
        unsafe { kernel_map(&Request { addr: part.start, len: part.len(), ..*request }) }?;
    }
    let (start, len) = (parts.inside.start, parts.inside.len());
    // SAFETY: the same.
    unsafe { end_foreign(&parts.inside) }?;
    pager_api::call(Call::MapFixed { addr: start, len, prot, flags })?;
    Ok(addr)
}

/// Lets the kernel put a mapping over a part of the arena. The pager gives that part up first, so that nothing of it is
/// left in its tables, and gives its addresses to nobody. If the kernel refuses, the range is unmapped.
///
/// # Safety
///
/// The range is the caller's to replace.
pub(super) unsafe fn over_arena(addr: usize, len: usize, kernel: impl FnOnce() -> Answer) -> Answer {
    let Some(parts) = decide::split(addr, len, &arena()) else { return kernel() };
    pager_api::call(Call::Claim { addr: parts.inside.start, len: parts.inside.len() })?;
    let answer = kernel();
    if answer.is_err() {
        // SAFETY: by the caller's promise.
        unsafe { unmap_inside(&parts.inside) }?;
    }
    answer
}

/// A mapping of the kernel's over a part of the arena where nothing is mapped; else EEXIST.
unsafe fn map_foreign_free(request: &Request) -> Answer {
    let Request { addr, len, flags, .. } = *request;
    pager_api::call(Call::ClaimFree { addr, len })?;
    let flags = flags & !libc::MAP_FIXED_NOREPLACE | libc::MAP_FIXED;
    // SAFETY: nothing of the program's is there.
    unsafe {
        let answer = kernel_map(&Request { flags, ..*request });
        if answer.is_err() {
            unmap_inside(&(addr..addr + len))?;
        }
        answer
    }
}

/// Whether the kernel would refuse such a mapping whatever the place. It is to be found out before the program's memory is
/// given up, which natively stays then. Devices are not tried: to map some of them is to begin something.
unsafe fn refusal(request: &Request) -> Option<i32> {
    if request.flags & libc::MAP_ANONYMOUS != 0 {
        let kind = request.flags & libc::MAP_TYPE;
        if (kind == libc::MAP_PRIVATE || kind == libc::MAP_SHARED) && request.flags & libc::MAP_HUGETLB == 0 {
            return None;
        }
    } else {
        match kind_of(request.fd) {
            Err(errno) => return Some(errno),
            Ok(kind) if kind != libc::S_IFREG => return None,
            Ok(_) => {}
        }
    }
    let flags = request.flags & !(libc::MAP_FIXED | libc::MAP_POPULATE | libc::MAP_LOCKED);
    // SAFETY: nothing that exists is touched, and what is mapped is unmapped again.
    unsafe {
        match kernel_map(&Request { addr: 0, flags, ..*request }) {
            Ok(at) => raw::call!(libc::SYS_munmap, at, request.len).err(),
            // There may be memory enough once the old mapping is gone.
            Err(libc::ENOMEM) => None,
            Err(errno) => Some(errno),
        }
    }
}

/// The type of a descriptor's file, as `st_mode` has it.
fn kind_of(fd: c_int) -> Result<libc::mode_t, i32> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel fills a structure of this type, for which all zeroes are good too.
    let stat = unsafe {
        raw::call!(libc::SYS_fstat, fd as isize, stat.as_mut_ptr())?;
        stat.assume_init()
    };
    Ok(stat.st_mode & libc::S_IFMT)
}

/// Replaces the mappings of the kernel's in a part of the arena by addresses without anything, which the pager then takes
/// back. It is done here, not on a thread of the pager's, since the end of a mapping may wait for a file.
///
/// # Safety
///
/// As munmap.
pub(super) unsafe fn end_foreign(range: &Range<usize>) -> Answer {
    if !pager_api::has_foreign() {
        return Ok(0);
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    let mut at = range.start;
    while at < range.end {
        let piece = pager_api::piece(at, range.end - at);
        if piece.kind == Kind::Foreign {
            let (addr, len) = (at, piece.end - at);
            // SAFETY: by the caller's promise.
            unsafe { kernel_map(&Request { addr, len, prot: libc::PROT_NONE, flags, fd: -1, offset: 0 }) }?;
        }
        at = piece.end;
    }
    Ok(0)
}

/// # Safety
///
/// As munmap: nobody uses the range any more, which lies in the arena.
pub(super) unsafe fn unmap_inside(range: &Range<usize>) -> Answer {
    // SAFETY: by the caller's promise.
    unsafe { end_foreign(range) }?;
    pager_api::call(Call::Unmap { addr: range.start, len: range.len() })
}

/// # Safety
///
/// As munmap: nobody uses the range any more.
pub(super) unsafe fn unmap(addr: usize, len: usize) -> Answer {
    // SAFETY: by the caller's promise.
    let kernel = |addr: usize, len: usize| unsafe { raw::call!(libc::SYS_munmap, addr, len) };
    let parts = decide::split(addr, len, &arena()).filter(|_| decide::is_within_reach(addr, len));
    let Some(parts) = parts else { return kernel(addr, len) };
    // SAFETY: the same.
    unsafe { unmap_inside(&parts.inside) }?;
    for part in [&parts.before, &parts.behind].into_iter().filter(|part| !part.is_empty()) {
        kernel(part.start, part.len())?;
    }
    Ok(0)
}
