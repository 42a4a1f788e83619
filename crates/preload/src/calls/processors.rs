//! What threads may run on: asked and told as if nobody were kept on the handler's processor.
//!
//! libc's functions do no more than these system calls.

use core::ffi::c_int;
use core::ptr::NonNull;

use super::Next;
use crate::pager_api;
use crate::raw::{self, Answer};

/// By number, as the kernel has them: `sched_getaffinity` or `sched_setaffinity` of a thread, 0 for the calling one.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn by_number(number: usize, args: [usize; 6]) -> Answer {
    let tid = if args[0] as u32 == 0 { raw::gettid() } else { args[0] as u32 };
    let _excused = pager_api::excuse(tid);
    // SAFETY: by the caller's promise.
    unsafe { raw::forward(number, args) }
}

/// As libc's functions of these names: what the kernel does not write of the set is cleared.
///
/// # Safety
///
/// `set` has `size` bytes, or is a bad address.
unsafe fn get(tid: c_int, size: usize, set: *mut u8) -> Answer {
    // The kernel takes the length as a number of 32 bits.
    let args = [tid as usize, size.min(c_int::MAX as usize), set as usize, 0, 0, 0];
    // SAFETY: by the caller's promise; what the kernel has written is good for the rest too.
    unsafe {
        let written = by_number(libc::SYS_sched_getaffinity as usize, args)?;
        set.add(written).write_bytes(0, size - written);
    }
    Ok(0)
}

/// # Safety
///
/// As for [`get`], to read.
unsafe fn set(tid: c_int, size: usize, set: *const u8) -> Answer {
    // SAFETY: by the caller's promise.
    unsafe { by_number(libc::SYS_sched_setaffinity as usize, [tid as usize, size, set as usize, 0, 0, 0]) }
}

/// Linux's.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn sched_getaffinity(tid: c_int, size: usize, processors: *mut u8) -> c_int {
    // SAFETY: the caller keeps C's rules.
    raw::to_int(unsafe { get(tid, size, processors) })
}

/// Linux's.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn sched_setaffinity(tid: c_int, size: usize, processors: *const u8) -> c_int {
    // SAFETY: the caller keeps C's rules.
    raw::to_int(unsafe { set(tid, size, processors) })
}

/// GNU's. It answers the error.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_getaffinity_np(
    thread: libc::pthread_t,
    size: usize,
    processors: *mut u8,
) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { get(tid_of(thread), size, processors) }.err().unwrap_or(0)
}

/// GNU's. It answers the error.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setaffinity_np(
    thread: libc::pthread_t,
    size: usize,
    processors: *const u8,
) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { set(tid_of(thread), size, processors) }.err().unwrap_or(0)
}

/// A thread's id, by its clock, whose number the kernel makes of it. 0 of a thread that has ended, as libc has it.
///
/// # Safety
///
/// The thread may be asked about.
unsafe fn tid_of(thread: libc::pthread_t) -> c_int {
    let mut clock = 0;
    // SAFETY: by the caller's promise; the place is good.
    match unsafe { libc::pthread_getcpuclockid(thread, &mut clock) } {
        0 => !(clock >> 3),
        _ => 0,
    }
}

static NEXT_GETATTR: Next = Next::new();

/// GNU's. Among the attributes is what the thread may run on; threads may be made with them.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_getattr_np(
    thread: libc::pthread_t,
    attributes: *mut libc::pthread_attr_t,
) -> c_int {
    type GetAttr = unsafe extern "C" fn(libc::pthread_t, *mut libc::pthread_attr_t) -> c_int;
    let Some(next) = NEXT_GETATTR.get(c"pthread_getattr_np") else { return libc::ENOSYS };
    // SAFETY: the caller keeps C's rules, and libc's function of that name has this type.
    unsafe {
        let _excused = pager_api::excuse(tid_of(thread).cast_unsigned());
        core::mem::transmute::<NonNull<core::ffi::c_void>, GetAttr>(next)(thread, attributes)
    }
}
