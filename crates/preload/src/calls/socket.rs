//! Options of sockets that give the kernel memory to pin.
//!
//! Most calls that pin memory wait for pages that are not there, as a touch does. The one that registers the memory of an
//! AF_XDP socket can't wait, and answers EFAULT: for it, all of that memory is brought in first.

use core::ffi::{c_int, c_void};

use super::arena;
use super::threads::peek;
use crate::decide;
use crate::raw::{self, Answer};

/// What the libc crate has no name for: the option `XDP_UMEM_REG` of the level `SOL_XDP`.
const UMEM_REG: (c_int, c_int) = (libc::SOL_XDP, libc::XDP_UMEM_REG);
/// How often memory is brought in that may be moved out again before the kernel has pinned it.
const TRIES: u32 = 16;

/// setsockopt.
///
/// # Safety
///
/// As setsockopt.
pub(super) unsafe fn set_option(fd: c_int, option: (c_int, c_int), value: usize, len: usize) -> Answer {
    let (level, name) = option;
    // SAFETY: by the caller's promise.
    let call = || unsafe { raw::call!(libc::SYS_setsockopt, fd, level, name, value, len) };
    let mut answer = call();
    if option != UMEM_REG || answer != Err(libc::EFAULT) {
        return answer;
    }
    let Some((addr, bytes)) = memory_named(value, len) else { return answer };
    for _ in 0..TRIES {
        if decide::split_loosely(addr, bytes, &arena()).is_none() || bring_in(addr, bytes).is_err() {
            break;
        }
        answer = call();
        if answer != Err(libc::EFAULT) {
            break;
        }
    }
    answer
}

/// Address and length, with which the option's value begins. `None` where the value itself can't be read.
fn memory_named(value: usize, len: usize) -> Option<(usize, usize)> {
    if len < size_of::<[usize; 2]>() {
        return None;
    }
    peek::<[usize; 2]>(value).map(|[addr, bytes]| (addr, bytes))
}

/// Touches all pages of a range, for writing, and waits for what has to be brought in.
fn bring_in(addr: usize, len: usize) -> Answer {
    // SAFETY: changes no contents.
    unsafe { raw::call!(libc::SYS_madvise, addr, len, libc::MADV_POPULATE_WRITE) }
}

/// POSIX's setsockopt.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: libc::socklen_t,
) -> c_int {
    // SAFETY: the caller keeps setsockopt's rules.
    raw::to_int(unsafe { set_option(fd, (level, name), value as usize, len as usize) })
}
