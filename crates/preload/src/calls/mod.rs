//! The interposed calls. Each touches managed memory, and goes to the pager; or does not, and goes to the kernel as it
//! is; or lies across the arena's edge, and is cut there.
//!
//! * [`map`]: mmap, munmap, mremap.
//! * [`range`]: mprotect, madvise, the mlock family, and names of mappings.
//! * [`fork`]: all that copies the address space.
//! * [`raw_call`]: `syscall()`, which reaches all of these by number.
//!
//! `brk` and `sbrk` are not interposed: what they give is unmanaged.
//!
//! A vfork child runs these on its parent's memory and by its parent's pager, which tells it by the process id and
//! carries the call out on a thread of its own rather than let the child take its locks.

pub(crate) mod fork;
mod map;
mod range;
mod raw_call;

pub(crate) use map::map_anonymous;
pub(crate) use range::{advise, protect};

use core::ops::Range;

use crate::decide::Parts;
use crate::pager_api;
use crate::raw::Answer;

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
