//! Calls that ask about memory. To the kernel the whole arena is mapped, so that it finds no gap there: where the first
//! gap is, the pager says; all else is the kernel's to answer, also for managed memory. What was moved out is not resident,
//! as what was swapped out.

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use super::{Next, arena};
use crate::decide;
use crate::pager_api::{self, Kind};
use crate::raw::{self, Answer};

/// mincore.
///
/// # Safety
///
/// `vector` is the caller's to write, a byte for each page; or the kernel finds that it is not.
pub(super) unsafe fn resident(addr: usize, len: usize, vector: *mut u8) -> Answer {
    // SAFETY: by the caller's promise.
    let kernel = |len: usize| unsafe { raw::call!(libc::SYS_mincore, addr, len, vector) };
    // The kernel has filled the vector up to the gap when it finds it.
    match gap(addr, len) {
        None => kernel(len),
        Some(0) => Err(libc::ENOMEM),
        Some(before) => kernel(before).and(Err(libc::ENOMEM)),
    }
}

/// msync.
pub(super) fn sync(addr: usize, len: usize, flags: c_int) -> Answer {
    // SAFETY: takes no pointers to follow.
    let answer = unsafe { raw::call!(libc::SYS_msync, addr, len, flags) }?;
    // The kernel goes on behind a gap, and tells of it in the end.
    if gap(addr, len).is_some() { Err(libc::ENOMEM) } else { Ok(answer) }
}

/// How many bytes of a range lie before the first gap in the arena, where there is one. `None` also for ranges that the
/// kernel refuses as they stand.
fn gap(addr: usize, len: usize) -> Option<usize> {
    let inside = decide::split(addr, len, &arena()).filter(|_| decide::is_within_reach(addr, len))?.inside;
    let mut at = inside.start;
    while at < inside.end {
        let piece = pager_api::piece(at, inside.end - at);
        if piece.kind == Kind::Gap {
            return Some(at - addr);
        }
        at = piece.end;
    }
    None
}

/// Whether nothing is mapped at `addr`, which lies in the arena.
pub(super) fn is_gap(addr: usize) -> bool {
    pager_api::piece(addr - addr % decide::PAGE, decide::PAGE).kind == Kind::Gap
}

/// Linux's mincore.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn mincore(addr: *mut c_void, len: usize, vector: *mut u8) -> c_int {
    // SAFETY: the caller keeps mincore's rules.
    raw::to_int(unsafe { resident(addr as usize, len, vector) })
}

static NEXT_MSYNC: Next = Next::new();

/// POSIX's msync. Where nothing is managed it is libc's own, at which a thread can be cancelled.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn msync(addr: *mut c_void, len: usize, flags: c_int) -> c_int {
    type Msync = unsafe extern "C" fn(*mut c_void, usize, c_int) -> c_int;
    if decide::split(addr as usize, len, &arena()).is_none()
        && let Some(next) = NEXT_MSYNC.get(c"msync")
    {
        // SAFETY: libc's function of that name has this type, and the caller keeps its rules.
        return unsafe { core::mem::transmute::<NonNull<c_void>, Msync>(next)(addr, len, flags) };
    }
    raw::to_int(sync(addr as usize, len, flags))
}
