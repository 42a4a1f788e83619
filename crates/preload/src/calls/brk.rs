//! brk. The program's break is in the arena, unless libc had one of the kernel's before this library began.
//!
//! Like the kernel it answers where the break is then, also where it could not be moved.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{arena, limits};
use crate::pager_api::{self, Call};
use crate::raw::Answer;

/// Where the pager last had it: a forked child without a pager keeps it there.
static LAST: AtomicUsize = AtomicUsize::new(0);
/// It is the kernel's.
static KERNELS: AtomicBool = AtomicBool::new(false);

/// libc has a break of the kernel's.
pub(crate) fn leave_to_kernel() {
    KERNELS.store(true, Ordering::Relaxed);
}

/// The break of a process that sleeps is there.
pub(super) fn note(to: usize) {
    LAST.store(to, Ordering::Relaxed);
}

/// brk.
pub(super) fn set(to: usize) -> Answer {
    let last = LAST.load(Ordering::Relaxed);
    if KERNELS.load(Ordering::Relaxed) || last == 0 && arena().is_empty() {
        return limits::set_kernels_break(to);
    }
    if arena().is_empty() {
        return Ok(last);
    }
    match pager_api::call(Call::Break { to }) {
        Ok(end) => {
            LAST.store(end, Ordering::Relaxed);
            Ok(end)
        }
        Err(libc::EOPNOTSUPP) => {
            leave_to_kernel();
            limits::set_kernels_break(to)
        }
        Err(_) => Ok(last),
    }
}
