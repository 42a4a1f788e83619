//! Calls that change a range of existing memory: its protection, its use, its place in RAM, its name.

use core::ffi::{c_int, c_uint};
use core::ops::Range;

use quire_linux::pager::sleep;

use super::{AtGap, arena, filter, in_pieces};
use crate::decide::{self, Parts};
use crate::pager_api::{self, Call, Kind};
use crate::raw::{self, Answer};

pub(crate) fn protect(addr: usize, len: usize, prot: c_int) -> Answer {
    // SAFETY: takes no pointers to follow; what the program does to its own memory is its affair.
    let kernel = |addr: usize, len: usize| unsafe { raw::call!(libc::SYS_mprotect, addr, len, prot) };
    match decide::split(addr, len, &arena()) {
        None => kernel(addr, len),
        Some(parts) if decide::are_rights(prot) => in_pieces(
            &parts,
            AtGap::Stop,
            |part| kernel(part.start, part.len()),
            |part| pager_api::call(Call::Protect { addr: part.start, len: part.len(), prot }),
        ),
        Some(parts) => Err(refusal(&parts, prot)),
    }
}

/// What the kernel says of rights that there are not, and of the flags by which a range of memory grows: of memory that
/// does not, or of none.
fn refusal(parts: &Parts, prot: c_int) -> c_int {
    let inside = &parts.inside;
    let gap = pager_api::piece(inside.start, inside.len());
    let known = decide::are_rights(prot & !(libc::PROT_GROWSDOWN | libc::PROT_GROWSUP));
    let both = prot & libc::PROT_GROWSDOWN != 0 && prot & libc::PROT_GROWSUP != 0;
    // Downwards, what grows is the first mapping of the range, wherever it begins.
    let nothing = gap.kind == Kind::Gap && (prot & libc::PROT_GROWSDOWN == 0 || gap.end == inside.end);
    if known && !both && nothing { libc::ENOMEM } else { libc::EINVAL }
}

/// Protection keys: memory with one can't be managed, since frames have none. -1 and 0 mean none.
pub(super) fn protect_by_key(addr: usize, len: usize, prot: c_int, key: c_int) -> Answer {
    if decide::split(addr, len, &arena()).is_none() {
        // SAFETY: as mprotect.
        return unsafe { raw::call!(libc::SYS_pkey_mprotect, addr, len, prot, key as isize) };
    }
    if key > 0 {
        return Err(libc::EINVAL);
    }
    protect(addr, len, prot)
}

pub(crate) fn advise(addr: usize, len: usize, advice: c_int) -> Answer {
    // SAFETY: takes no pointers to follow; what the program does to its own memory is its affair.
    let kernel = |addr: usize, len: usize| unsafe { raw::call!(libc::SYS_madvise, addr, len, advice) };
    let populates = advice == libc::MADV_POPULATE_READ || advice == libc::MADV_POPULATE_WRITE;
    let at_gap = if populates { AtGap::Stop } else { AtGap::GoOn };
    match decide::split(addr, len, &arena()) {
        None => kernel(addr, len),
        Some(parts) => {
            // What is no advice to this kernel it refuses for any length, before it looks at memory.
            if !matches!(advice, libc::MADV_DONTNEED | libc::MADV_FREE) {
                kernel(addr, 0)?;
            }
            in_pieces(
                &parts,
                at_gap,
                |part| kernel(part.start, part.len()),
                |part| pager_api::call(Call::Advise { addr: part.start, len: part.len(), advice }),
            )
        }
    }
}

pub(super) fn lock(addr: usize, len: usize, flags: c_uint) -> Answer {
    // mlock2 is the newer of the two, and 0 makes it mlock.
    // SAFETY: takes no pointers to follow.
    let kernel = |addr: usize, len: usize| unsafe { raw::call!(libc::SYS_mlock2, addr, len, flags) };
    match managed_to_lock(addr, len, flags) {
        None => kernel(addr, len),
        Some(parts) => {
            // All of a range is locked before any of it is filled, which may fail.
            if pager_api::has_foreign() {
                lock_pieces(&parts, libc::MLOCK_ONFAULT)?;
            }
            lock_pieces(&parts, flags)
        }
    }
}

fn lock_pieces(parts: &Parts, flags: c_uint) -> Answer {
    let on_fault = flags & libc::MLOCK_ONFAULT != 0;
    in_pieces(
        parts,
        AtGap::Stop,
        // SAFETY: takes no pointers to follow.
        |part| unsafe { raw::call!(libc::SYS_mlock2, part.start, part.len(), flags) },
        |part| pager_api::call(Call::Lock { addr: part.start, len: part.len(), on_fault }),
    )
}

fn managed_to_lock(addr: usize, len: usize, flags: c_uint) -> Option<Parts> {
    // With flags that mlock2 does not know, the kernel says EINVAL.
    if flags & !libc::MLOCK_ONFAULT != 0 { None } else { decide::split_loosely(addr, len, &arena()) }
}

pub(super) fn unlock(addr: usize, len: usize) -> Answer {
    // SAFETY: takes no pointers to follow.
    let kernel = |addr: usize, len: usize| unsafe { raw::call!(libc::SYS_munlock, addr, len) };
    match decide::split_loosely(addr, len, &arena()) {
        None => kernel(addr, len),
        Some(parts) => in_pieces(
            &parts,
            AtGap::Stop,
            |part| kernel(part.start, part.len()),
            |part| pager_api::call(Call::Unlock { addr: part.start, len: part.len() }),
        ),
    }
}

/// The kernel's mlockall would fill the whole arena: with one, it is the pager's to carry out for all memory.
pub(super) fn lock_all(flags: c_int) -> Answer {
    if arena().is_empty() {
        // SAFETY: takes no pointers.
        return unsafe { raw::call!(libc::SYS_mlockall, flags) };
    }
    const WHAT: c_int = libc::MCL_CURRENT | libc::MCL_FUTURE;
    if flags & WHAT == 0 || flags & !(WHAT | libc::MCL_ONFAULT) != 0 {
        return Err(libc::EINVAL);
    }
    pager_api::call(Call::LockAll { flags })
}

/// What is locked of the kernel's, in the arena and elsewhere, is unlocked by the kernel.
pub(super) fn unlock_all() -> Answer {
    if !arena().is_empty() {
        pager_api::call(Call::UnlockAll)?;
    }
    // SAFETY: takes no pointers.
    unsafe { raw::call!(libc::SYS_munlockall, 0) }
}

/// prctl. Names of managed mappings are looked at and swallowed (mimalloc names all of its own): mappings with different names
/// don't merge, and a MOVE must find one mapping on each side.
///
/// # Safety
///
/// As prctl.
pub(super) unsafe fn control(option: c_int, args: [usize; 4]) -> Answer {
    let [what, addr, len, name] = args;
    // SAFETY: by the caller's promise.
    let kernel =
        |addr: usize, len: usize| unsafe { raw::call!(libc::SYS_prctl, option, what, addr, len, name) };
    if option == libc::PR_SET_VMA
        && let Some(parts) = decide::split(addr, len, &arena())
    {
        // A bad name, and any for a kernel that has none, it refuses for any length, before it looks at memory.
        kernel(addr, 0)?;
        return in_pieces(&parts, AtGap::GoOn, |part| kernel(part.start, part.len()), whole);
    }
    if option == libc::PR_SET_DUMPABLE && what == 0 {
        sleep::before_rights_go();
    }
    if option == libc::PR_SET_SECCOMP {
        // SAFETY: by the caller's promise.
        return unsafe { filter::by_control(args) };
    }
    kernel(addr, len)
}

/// Whether a part of the arena without mappings of the kernel's has no gap.
fn whole(part: &Range<usize>) -> Answer {
    let has_gap = decide::has_gap(part, |at, len| {
        let piece = pager_api::piece(at, len);
        (piece.kind == Kind::Gap, piece.end)
    });
    if has_gap { Err(libc::ENOMEM) } else { Ok(0) }
}

/// Linux's prctl, in C with a variable number of arguments, which are registers here.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn prctl(option: c_int, a: usize, b: usize, c: usize, d: usize) -> c_int {
    // SAFETY: the caller keeps prctl's rules.
    raw::to_int(unsafe { control(option, [a, b, c, d]) })
}
