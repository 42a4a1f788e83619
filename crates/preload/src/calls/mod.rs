//! The interposed calls. Each touches managed memory, and goes to the pager; or does not, and goes to the kernel as it
//! is; or lies across the arena's edge, and is cut there.
//!
//! * [`map`]: mmap, munmap, mremap.
//! * [`range`]: mprotect, madvise, the mlock family, and names of mappings.
//! * [`look`]: mincore, msync, which change nothing but have to know what is mapped.
//! * [`fork`]: all that copies the address space; [`clone`]: clone under its names and numbers.
//! * [`signals`]: what a handler of SIGSEGV is told.
//! * [`threads`]: what the kernel touches when a thread dies.
//! * [`socket`]: setsockopt, for memory that is pinned.
//! * [`raw_call`]: `syscall()`, which reaches all of these by number.
//!
//! `brk` and `sbrk` are not interposed: what they give is unmanaged.
//!
//! A vfork child runs these on its parent's memory and by its parent's pager, which tells it by the process id and
//! carries the call out on a thread of its own rather than let the child take its locks.

mod clone;
pub(crate) mod fork;
mod look;
mod map;
mod range;
mod raw_call;
pub(crate) mod signals;
mod socket;
mod threads;

pub(crate) use map::map_anonymous;
pub(crate) use range::{advise, protect};

use core::ffi::{CStr, c_void};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::decide::Parts;
use crate::malloc::backend;
use crate::pager_api;
use crate::raw::Answer;

/// The next definition of a function, looked up once.
struct Next(AtomicUsize);

impl Next {
    const fn new() -> Next {
        Next(AtomicUsize::new(0))
    }

    fn get(&self, name: &CStr) -> Option<NonNull<c_void>> {
        if let Some(known) = NonNull::new(self.0.load(Ordering::Relaxed) as *mut c_void) {
            return Some(known);
        }
        let found = backend::next(name)?;
        self.0.store(found.as_ptr() as usize, Ordering::Relaxed);
        Some(found)
    }
}

fn arena() -> Range<usize> {
    let (start, end) = pager_api::arena();
    start..end
}

/// Carries out a call on the three parts of a range: by `kernel` outside the arena, by `pager` inside. The first error
/// ends it, as it would in the kernel, which works its way up from the lowest address too.
fn in_parts(
    parts: &Parts,
    kernel: impl Fn(&Range<usize>) -> Answer,
    pager: impl Fn(&Range<usize>) -> Answer,
) -> Answer {
    if !parts.before.is_empty() {
        kernel(&parts.before)?;
    }
    let answer = pager(&parts.inside)?;
    if !parts.behind.is_empty() {
        kernel(&parts.behind)?;
    }
    Ok(answer)
}
