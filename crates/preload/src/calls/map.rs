//! mmap, munmap, mremap.

use core::ffi::{c_int, c_void};

use super::{arena, in_parts};
use crate::decide::{self, MapRoute, RemapRoute};
use crate::pager_api::{self, Call};
use crate::raw::{self, Answer};

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
    match decide::map(addr, len, flags, &arena()) {
        // SAFETY: by the caller's promise.
        MapRoute::Kernel => unsafe { kernel_map(request) },
        MapRoute::Managed => match pager_api::call(Call::Map { len, prot, flags }) {
            // SAFETY: by the caller's promise.
            Err(libc::EOPNOTSUPP) => unsafe { kernel_map(request) },
            answer => answer,
        },
        // SAFETY: by the caller's promise.
        MapRoute::Fixed => unsafe { map_fixed(request) },
        // SAFETY: by the caller's promise.
        MapRoute::Foreign => unsafe { over_arena(addr, len, || kernel_map(request)) },
    }
}

/// New private anonymous memory where there is room, for this library's heaps. Its address.
pub(crate) fn map_anonymous(len: usize, prot: c_int) -> Answer {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: nothing that exists is touched.
    unsafe { map(&Request { addr: 0, len, prot, flags, fd: -1, offset: 0 }) }
}

/// # Safety
///
/// As mmap.
unsafe fn kernel_map(request: &Request) -> Answer {
    let Request { addr, len, prot, flags, fd, offset } = *request;
    // SAFETY: by the caller's promise.
    unsafe { raw::call!(libc::SYS_mmap, addr, len, prot, flags, fd as isize, offset) }
}

/// Plain anonymous memory, exactly there, with a part of it inside the arena.
unsafe fn map_fixed(request: &Request) -> Answer {
    let Request { addr, len, prot, flags, .. } = *request;
    let Some(parts) = decide::split(addr, len, &arena()) else { return Err(libc::EINVAL) };
    in_parts(
        &parts,
        // SAFETY: the caller gives the range up, and this is a part of it.
        |part| unsafe { kernel_map(&Request { addr: part.start, len: part.len(), ..*request }) },
        |part| pager_api::call(Call::MapFixed { addr: part.start, len: part.len(), prot, flags }),
    )?;
    Ok(addr)
}

/// Lets the kernel put a mapping over a part of the arena. The pager gives that part up first, so that nothing of it is
/// left in its tables, and learns afterwards that it is in use. If the kernel refuses, the range stays unmapped.
fn over_arena(addr: usize, len: usize, kernel: impl FnOnce() -> Answer) -> Answer {
    let Some(parts) = decide::split(addr, len, &arena()) else { return kernel() };
    let (addr, len) = (parts.inside.start, parts.inside.len());
    pager_api::call(Call::Unmap { addr, len })?;
    let answer = kernel()?;
    pager_api::call(Call::MapForeign { addr, len })?;
    Ok(answer)
}

/// # Safety
///
/// As munmap: nobody uses the range any more.
pub(super) unsafe fn unmap(addr: usize, len: usize) -> Answer {
    // SAFETY: by the caller's promise.
    let kernel = |addr: usize, len: usize| unsafe { raw::call!(libc::SYS_munmap, addr, len) };
    match decide::split(addr, len, &arena()).filter(|_| decide::is_within_reach(addr, len)) {
        None => kernel(addr, len),
        Some(parts) => in_parts(
            &parts,
            |part| kernel(part.start, part.len()),
            |part| pager_api::call(Call::Unmap { addr: part.start, len: part.len() }),
        ),
    }
}

/// # Safety
///
/// As mremap: the old range, and with `MREMAP_FIXED` the new one, are the caller's to change.
pub(super) unsafe fn remap(
    old: usize,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    new_addr: usize,
) -> Answer {
    // SAFETY: by the caller's promise.
    let kernel = || unsafe { raw::call!(libc::SYS_mremap, old, old_len, new_len, flags, new_addr) };
    match decide::remap(old, old_len, new_addr, new_len, flags, &arena()) {
        RemapRoute::Kernel => kernel(),
        RemapRoute::Managed => pager_api::call(Call::Remap { old, old_len, new_len, flags, new_addr }),
        RemapRoute::Foreign => over_arena(new_addr, new_len, kernel),
        RemapRoute::Fault => Err(libc::EFAULT),
    }
}

/// POSIX's mmap.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller keeps mmap's rules.
    raw::to_address(unsafe { map(&Request { addr: addr as usize, len, prot, flags, fd, offset }) })
}

/// The same under its large-file name.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the caller keeps mmap's rules.
    raw::to_address(unsafe { map(&Request { addr: addr as usize, len, prot, flags, fd, offset }) })
}

/// POSIX's munmap.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(addr: *mut c_void, len: usize) -> c_int {
    // SAFETY: the caller keeps munmap's rules.
    raw::to_int(unsafe { unmap(addr as usize, len) })
}

/// Linux's mremap. In C its last argument is optional; in this calling convention it is a register either way, which
/// only counts with `MREMAP_FIXED` or `MREMAP_DONTUNMAP`.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn mremap(
    old: *mut c_void,
    old_len: usize,
    new_len: usize,
    flags: c_int,
    new_addr: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller keeps mremap's rules.
    raw::to_address(unsafe { remap(old as usize, old_len, new_len, flags, new_addr as usize) })
}
