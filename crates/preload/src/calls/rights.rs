//! The calls by which a program gives rights away, as a server does that was started by root. What a pager needs is got before:
//! a process that sleeps joins `quire` first. Ids are changed by libc, which has all of its threads do it.

use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::mem;

use quire_linux::pager::sleep::before_rights_go;

use super::Next;
use crate::raw::{self, Answer};

/// An id that stays as it is.
const SAME: c_uint = c_uint::MAX;

/// The process will have one of these user ids, if any of them is not root's.
fn before_user(ids: &[c_uint]) {
    if ids.iter().any(|id| !matches!(*id, 0 | SAME)) {
        before_rights_go();
    }
}

/// libc's functions.
const NAMES: [&CStr; 4] = [c"setuid", c"seteuid", c"setreuid", c"setresuid"];
static NEXT: [Next; NAMES.len()] = [const { Next::new() }; NAMES.len()];

/// Finds them. Later, in a vfork child, nobody could.
pub(crate) fn find() {
    for (next, name) in NEXT.iter().zip(NAMES) {
        next.get(name);
    }
}

/// Whether a call gives rights away, and what has to come before it then.
pub(super) fn before_number(number: c_long, args: &[usize; 6]) {
    let ids = args.map(|arg| arg as c_uint);
    match number {
        libc::SYS_setuid => before_user(&ids[..1]),
        libc::SYS_setreuid => before_user(&ids[..2]),
        libc::SYS_setresuid => before_user(&ids[..3]),
        libc::SYS_capset | libc::SYS_chroot => before_rights_go(),
        _ => {}
    }
}

/// Goes on to libc's function of that number among [`NAMES`].
macro_rules! go_on {
    ($number:literal, $($id:ident),*) => {
        match NEXT[$number].get(NAMES[$number]) {
            // SAFETY: it is libc's function of this name, and takes these ids as they came.
            Some(next) => unsafe {
                mem::transmute::<*mut c_void, unsafe extern "C" fn($(go_on!(@ $id)),*) -> c_int>(next.as_ptr())($($id),*)
            },
            None => {
                raw::set_errno(libc::ENOSYS);
                -1
            }
        }
    };
    (@ $id:ident) => { c_uint };
}

/// POSIX's.
///
/// # Safety
///
/// As in C.
#[unsafe(export_name = "setuid")]
unsafe extern "C" fn c_setuid(user: c_uint) -> c_int {
    before_user(&[user]);
    go_on!(0, user)
}

/// POSIX's.
///
/// # Safety
///
/// As in C.
#[unsafe(export_name = "seteuid")]
unsafe extern "C" fn c_seteuid(user: c_uint) -> c_int {
    before_user(&[user]);
    go_on!(1, user)
}

/// POSIX's.
///
/// # Safety
///
/// As in C.
#[unsafe(export_name = "setreuid")]
unsafe extern "C" fn c_setreuid(real: c_uint, effective: c_uint) -> c_int {
    before_user(&[real, effective]);
    go_on!(2, real, effective)
}

/// Linux's.
///
/// # Safety
///
/// As in C.
#[unsafe(export_name = "setresuid")]
unsafe extern "C" fn c_setresuid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int {
    before_user(&[real, effective, saved]);
    go_on!(3, real, effective, saved)
}

/// Linux's, of which libc has no more than the call.
///
/// # Safety
///
/// As in C.
#[unsafe(export_name = "capset")]
unsafe extern "C" fn c_capset(header: usize, data: usize) -> c_int {
    before_rights_go();
    // SAFETY: the caller keeps C's rules.
    raw::to_int(unsafe { raw::call!(forward: libc::SYS_capset, header, data) })
}

/// Linux's, of which libc has no more than the call.
///
/// # Safety
///
/// As in C.
#[unsafe(export_name = "chroot")]
unsafe extern "C" fn c_chroot(path: *const c_char) -> c_int {
    before_rights_go();
    // SAFETY: the caller keeps C's rules.
    let answer: Answer = unsafe { raw::call!(forward: libc::SYS_chroot, path) };
    raw::to_int(answer)
}
