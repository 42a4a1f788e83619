//! `process_madvise`: madvise for several ranges at once, of a process named by a descriptor.

use core::ffi::{c_int, c_uint};

use super::{range, route};
use crate::raw::{self, Answer};

/// # Safety
///
/// `ranges` are `count` iovecs.
pub(super) unsafe fn advise_ranges(
    process: c_int,
    ranges: *const libc::iovec,
    count: usize,
    advice: c_int,
    flags: c_uint,
) -> Answer {
    // SAFETY: the kernel finds out itself whether the ranges are to be read.
    let kernel = |ranges: *const libc::iovec, count: usize, advice: c_int| unsafe {
        raw::call!(libc::SYS_process_madvise, process as isize, ranges, count, advice, flags)
    };
    // No other process's contents are dropped at the caller's word, so this tells whether it is the caller's own.
    let own = kernel(core::ptr::null(), 0, libc::MADV_DONTNEED).is_ok();
    if !own || count > libc::UIO_MAXIOV as usize {
        return kernel(ranges, count, advice);
    }
    let mut done = 0;
    for i in 0..count {
        // SAFETY: by the caller's promise.
        let libc::iovec { iov_base, iov_len } = unsafe { ranges.add(i).read() };
        match range::advise(iov_base as usize, iov_len, advice) {
            Ok(_) => done += iov_len,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Linux's `process_madvise`.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn process_madvise(
    process: c_int,
    ranges: *const libc::iovec,
    count: usize,
    advice: c_int,
    flags: c_uint,
) -> isize {
    let args = [process as usize, ranges as usize, count, advice as usize, flags as usize, 0];
    // SAFETY: the caller keeps the rules of process_madvise.
    raw::to_long(unsafe { route(libc::SYS_process_madvise, args) }) as isize
}
