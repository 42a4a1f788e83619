//! The calls that come to us: those on memory by the hooks in libc's text ([`by_number`] has them all), others by their names,
//! which this library takes over. Each touches managed memory, and goes to the pager; or does not, and goes to the kernel as it
//! is; or lies across the arena's edge, and is cut there.
//!
//! * [`map`]: mmap, munmap. [`remap`]: mremap.
//! * [`brk`]: the program's break.
//! * [`asleep`]: all of them in a process that sleeps.
//! * [`range`]: mprotect, madvise, the mlock family, and names of mappings. [`vectors`]: advice for several ranges.
//! * [`look`]: mincore, msync, which change nothing but have to know what is mapped.
//! * [`exec`]: exec and its kin, which only tell `quire` of programs that will run outside the budget. [`libc_exec`]:
//!   libc's functions of these names.
//! * [`limits`]: limits on address space and data.
//! * [`inherit`]: what another program inherits.
//! * [`faults`]: ioctl, for a program with a userfaultfd of its own.
//! * [`filter`]: seccomp filters, behind which Quire's own calls go on.
//! * [`fork`]: all that copies the address space; [`clone`]: clone with a stack for what it makes.
//! * [`signals`]: what a handler of SIGSEGV is told.
//! * [`threads`]: what the kernel touches when a thread dies.
//! * [`processors`]: what threads may run on.
//! * [`rights`]: setuid and its kin, after which less can be had.
//! * [`single`]: unshare and setns, for a process of one thread.
//! * [`socket`]: setsockopt, for memory that is pinned.
//!
//! A vfork child runs these on its parent's memory and by its parent's pager, which tells it by the process id and
//! carries the call out on a thread of its own rather than let the child take its locks.

mod asleep;
pub(crate) mod brk;
mod by_number;
pub(crate) mod clone;
mod exec;
mod faults;
mod filter;
pub(crate) mod fork;
pub(crate) mod inherit;
pub(crate) mod libc_exec;
pub(crate) mod limits;
mod look;
mod map;
mod processors;
mod range;
mod remap;
pub(crate) mod rights;
pub(crate) mod signals;
mod single;
mod socket;
pub(crate) mod threads;
mod vectors;

pub(crate) use by_number::route;

use core::ffi::{CStr, c_void};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::decide::Parts;
use crate::pager_api::{self, Kind};
use crate::raw::Answer;

/// The next definition of a function, looked up once.
pub(crate) struct Next(AtomicUsize);

impl Next {
    pub(crate) const fn new() -> Next {
        Next(AtomicUsize::new(0))
    }

    pub(crate) fn get(&self, name: &CStr) -> Option<NonNull<c_void>> {
        if let Some(known) = NonNull::new(self.0.load(Ordering::Relaxed) as *mut c_void) {
            return Some(known);
        }
        let found = next(name)?;
        self.0.store(found.as_ptr() as usize, Ordering::Relaxed);
        Some(found)
    }
}

/// The definition of `name` that the program would have without this library.
fn next(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: a C string; the loader takes the library that calls from the return address, which lies in this function.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) })
}

fn arena() -> Range<usize> {
    let (start, end) = pager_api::arena();
    start..end
}

/// What comes of a call that meets a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtGap {
    /// It ends with ENOMEM.
    Stop,
    /// It goes on, and says ENOMEM at the end.
    GoOn,
}

/// Carries out a call on a range, piece by piece from the lowest address, as the kernel does: by `kernel` what is outside
/// the arena and the mappings of the kernel's that the program put into it, by `pager` what is managed. The first error
/// ends it, but for gaps that it goes on across.
fn in_pieces(
    parts: &Parts,
    at_gap: AtGap,
    kernel: impl Fn(&Range<usize>) -> Answer,
    pager: impl Fn(&Range<usize>) -> Answer,
) -> Answer {
    let mut gap = false;
    let mut each = |kind: Kind, part: &Range<usize>| {
        let answer = match kind {
            _ if part.is_empty() => Ok(0),
            Kind::Managed => pager(part),
            Kind::Foreign => kernel(part),
            Kind::Gap => Err(libc::ENOMEM),
        };
        gap |= answer == Err(libc::ENOMEM);
        if answer == Err(libc::ENOMEM) && at_gap == AtGap::GoOn { Ok(0) } else { answer }
    };
    each(Kind::Foreign, &parts.before)?;
    if pager_api::has_foreign() {
        let mut at = parts.inside.start;
        while at < parts.inside.end {
            let piece = pager_api::piece(at, parts.inside.end - at);
            each(piece.kind, &(at..piece.end))?;
            at = piece.end;
        }
    } else {
        each(Kind::Managed, &parts.inside)?;
    }
    each(Kind::Foreign, &parts.behind)?;
    if gap { Err(libc::ENOMEM) } else { Ok(0) }
}
