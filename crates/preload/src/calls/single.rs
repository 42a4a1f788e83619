//! unshare and setns. The kernel lets a process of one thread only enter a user namespace, and take a memory of its own; one that
//! sleeps has no thread of Quire's then.

use core::ffi::c_int;

use quire_linux::control::outside::Outside;
use quire_linux::filter::NS_GET_NSTYPE;
use quire_linux::pager::sleep;

use crate::raw::{self, Answer};
use crate::start;

/// What the kernel refuses to a process of several threads.
const SINGLE: c_int = libc::CLONE_NEWUSER | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VM;

fn be_single() {
    sleep::be_single(|| start::refused(Outside::Single));
}

/// # Safety
///
/// As the call itself.
pub(super) unsafe fn unshare(flags: usize) -> Answer {
    if flags as c_int & SINGLE != 0 {
        be_single();
    }
    // SAFETY: by the caller's promise.
    unsafe { raw::call!(forward: libc::SYS_unshare, flags) }
}

/// setns. The program need not say of what kind the namespace is.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn enter(fd: usize, kind: usize) -> Answer {
    let user = libc::CLONE_NEWUSER as usize;
    // SAFETY: the request has no argument.
    let is_user = || unsafe { raw::call!(libc::SYS_ioctl, fd, NS_GET_NSTYPE as usize) } == Ok(user);
    if kind & user != 0 || kind == 0 && is_user() {
        be_single();
    }
    // SAFETY: by the caller's promise.
    unsafe { raw::call!(forward: libc::SYS_setns, fd, kind) }
}

/// Linux's.
///
/// # Safety
///
/// As in C.
#[unsafe(export_name = "unshare")]
unsafe extern "C" fn c_unshare(flags: c_int) -> c_int {
    // SAFETY: the caller keeps C's rules.
    raw::to_int(unsafe { unshare(flags as usize) })
}

/// Linux's.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn setns(fd: c_int, kind: c_int) -> c_int {
    // SAFETY: the caller keeps C's rules.
    raw::to_int(unsafe { enter(fd as usize, kind as usize) })
}
