//! Limits on address space and data: what a program sets and reads is kept by [`quire_linux::limits`] while its memory is
//! managed. Limits of other resources, and those of other processes, are the kernel's.

use core::ffi::{CStr, c_int, c_uint};

use quire_linux::limits::{self, Kind};
use quire_linux::sys::rlimit::Limit;

use super::arena;
use crate::pager_api::{self, Call};
use crate::raw::{self, Answer};

/// The variable by which a program tells the next one its limits: of address space, soft and hard, and of data, in bytes.
pub(crate) const VARIABLE: &CStr = c"QUIRE_LIMITS=";

/// Takes the limits over, before there is a pager. `told`: the value of [`VARIABLE`].
pub(crate) fn hold(told: Option<&CStr>) {
    limits::hold(told.and_then(|told| parse(told.to_bytes())));
}

fn parse(told: &[u8]) -> Option<[Limit; 2]> {
    let mut numbers = core::str::from_utf8(told).ok()?.split(',').map(|number| number.parse().ok());
    let mut limit = || Some(Limit { soft: numbers.next()??, hard: numbers.next()?? });
    Some([limit()?, limit()?])
}

/// Gives them back, where none could be started.
pub(crate) fn release() {
    limits::release();
}

/// ENOMEM if so much memory of the kernel's would be more than the program may have.
pub(crate) fn allow(size: usize, data: usize) -> Result<(), i32> {
    if !limits::is_limited() {
        return Ok(());
    }
    match pager_api::call(Call::Allows { size, data }) {
        // Nobody is there to hold the process to it: it came from a fork, and has no pager.
        Ok(_) | Err(libc::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// prlimit of the calling process, with the pointers of the call; `None`: the kernel's to answer.
///
/// # Safety
///
/// Each pointer is null or good for a limit.
unsafe fn own_limit(resource: c_uint, new: *const Limit, old: *mut Limit) -> Option<Answer> {
    let kind = Kind::of(resource)?;
    if arena().is_empty() {
        // A child of fork without a pager.
        limits::forked();
    }
    let before = limits::get(kind)?;
    // SAFETY: by the caller's promise.
    if let Some(&new) = unsafe { new.as_ref() }
        && let Err(errno) = limits::set(kind, new)?
    {
        return Some(Err(errno.raw_os_error()));
    }
    if !old.is_null() {
        // SAFETY: the same.
        unsafe { old.write(before) };
    }
    Some(Ok(0))
}

/// # Safety
///
/// As prlimit.
pub(super) unsafe fn of_process(pid: c_int, resource: c_uint, new: *const Limit, old: *mut Limit) -> Answer {
    let is_own = pid == 0 || raw::getpid() == pid as u32;
    // SAFETY: by the caller's promise.
    let answer = if is_own { unsafe { own_limit(resource, new, old) } } else { None };
    // SAFETY: the same.
    answer.unwrap_or_else(|| unsafe {
        raw::call!(forward: libc::SYS_prlimit64, pid as isize, resource, new, old)
    })
}

/// Exports the calls under both of their names, which mean the same where a long has 64 bits.
macro_rules! export {
    ($($doc:literal $name:ident, $large:ident($($arg:ident: $kind:ty),*) = $body:expr;)*) => {$(
        #[doc = $doc]
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $kind),*) -> c_int {
            // SAFETY: the caller keeps the rules of the call.
            raw::to_int(unsafe { $body })
        }

        #[doc = $doc]
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $large($($arg: $kind),*) -> c_int {
            // SAFETY: the caller keeps the rules of the call.
            raw::to_int(unsafe { $body })
        }
    )*};
}

export! {
    "POSIX's getrlimit." getrlimit, getrlimit64(resource: c_uint, old: *mut Limit)
        = of_process(0, resource, core::ptr::null(), old);
    "POSIX's setrlimit." setrlimit, setrlimit64(resource: c_uint, new: *const Limit)
        = of_process(0, resource, new, core::ptr::null_mut());
    "Linux's prlimit." prlimit, prlimit64(pid: c_int, resource: c_uint, new: *const Limit, old: *mut Limit)
        = of_process(pid, resource, new, old);
}

/// brk of the kernel's, whose memory counts like any other.
pub(super) fn set_kernels_break(to: usize) -> Answer {
    // SAFETY: takes no pointers to follow; what lies above the new break the program has given up.
    let kernel = |to: usize| unsafe { raw::call!(libc::SYS_brk, to) };
    if to != 0 && limits::is_limited() {
        let now = kernel(0)?;
        if to > now && allow(to - now, to - now).is_err() {
            return Ok(now);
        }
    }
    kernel(to)
}
