//! ioctl, for the one request that matters here: a program registers memory with a userfaultfd of its own. One range can
//! have one userfaultfd, so managed memory is given back to the kernel first.

use core::ffi::{c_int, c_ulong};

use super::arena;
use crate::decide;
use crate::pager_api::{self, Call};
use crate::raw::{self, Answer};

/// `UFFDIO_REGISTER`: an address and a length in bytes come first in what it takes.
const REGISTER: u32 = 0xc020_aa00;

/// # Safety
///
/// As ioctl.
pub(super) unsafe fn control(fd: c_int, request: c_ulong, arg: usize) -> Answer {
    if request as u32 == REGISTER {
        // SAFETY: by the caller's promise.
        unsafe { give_back(arg) };
    }
    // SAFETY: by the caller's promise.
    unsafe { raw::call!(forward: libc::SYS_ioctl, fd as isize, request, arg) }
}

/// # Safety
///
/// `arg` is null or what the request takes.
#[cold]
unsafe fn give_back(arg: usize) {
    // SAFETY: by the caller's promise; the two words are the first of four.
    let Some(&[addr, len]) = (unsafe { (arg as *const [usize; 2]).as_ref() }) else { return };
    let aligned = addr.is_multiple_of(decide::PAGE) && len.is_multiple_of(decide::PAGE);
    if let Some(parts) = decide::split(addr, len, &arena()).filter(|_| aligned) {
        // Where that is refused, so is the request.
        let _ = pager_api::call(Call::Disown { addr: parts.inside.start, len: parts.inside.len() });
    }
}

/// Linux's ioctl, in C with a variable number of arguments, of which no request takes more than one.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int {
    // SAFETY: the caller keeps ioctl's rules.
    raw::to_int(unsafe { control(fd, request, arg) })
}
