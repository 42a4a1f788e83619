//! Calls by number, as libc's text makes them ([`crate::hooks`]): those on memory go to the pager where it is the pager's.

use core::ffi::{c_int, c_long, c_uint, c_ulong};

use super::map::{self, Request};
use super::{
    asleep, brk, clone, exec, faults, filter, fork, inherit, limits, look, processors, range, remap, rights,
    signals, single, socket, threads, vectors,
};
use crate::decide::Remap;
use crate::pager_api;
use crate::raw::{self, Answer};

/// Makes a system call of the program's.
///
/// # Safety
///
/// As the call itself.
pub(crate) unsafe fn route(number: c_long, args: [usize; 6]) -> Answer {
    let [a, b, c, d, e, f] = args;
    // SAFETY: by the caller's promise.
    unsafe {
        if let Some(answer) = asleep::route(number, args) {
            return answer;
        }
        match number {
            libc::SYS_mmap => map::map(&Request {
                addr: a,
                len: b,
                prot: c as c_int,
                flags: d as c_int,
                fd: e as c_int,
                offset: f as i64,
            }),
            libc::SYS_munmap => map::unmap(a, b),
            libc::SYS_brk => brk::set(a),
            libc::SYS_mremap => {
                remap::remap(&Remap { old: a, old_len: b, new_len: c, flags: d as c_int, new_addr: e })
            }
            libc::SYS_mprotect => range::protect(a, b, c as c_int),
            libc::SYS_pkey_mprotect => range::protect_by_key(a, b, c as c_int, d as c_int),
            libc::SYS_madvise => range::advise(a, b, c as c_int),
            libc::SYS_process_madvise => {
                vectors::advise_ranges(a as c_int, b as *const libc::iovec, c, d as c_int, e as c_uint)
            }
            libc::SYS_mlock => range::lock(a, b, 0),
            libc::SYS_mlock2 => range::lock(a, b, c as c_uint),
            libc::SYS_munlock => range::unlock(a, b),
            libc::SYS_mlockall => range::lock_all(a as c_int),
            libc::SYS_munlockall => range::unlock_all(),
            libc::SYS_mincore => look::resident(a, b, c as *mut u8),
            libc::SYS_msync => look::sync(a, b, c as c_int),
            libc::SYS_rt_sigaction => signals::act_by_number(args),
            libc::SYS_seccomp => filter::by_number(args),
            libc::SYS_prctl => range::control(a as c_int, [b, c, d, e]),
            libc::SYS_futex => threads::futex(args),
            libc::SYS_set_tid_address => threads::set_tid_address(a),
            libc::SYS_set_robust_list => threads::set_robust_list(a, b),
            libc::SYS_rseq => threads::rseq(a, b, c, d),
            libc::SYS_exit => {
                threads::before_exit(a);
                raw::forward(number as usize, args)
            }
            libc::SYS_getrlimit => limits::of_process(0, a as c_uint, core::ptr::null(), b as *mut _),
            libc::SYS_setrlimit => limits::of_process(0, a as c_uint, b as *const _, core::ptr::null_mut()),
            libc::SYS_prlimit64 => limits::of_process(a as c_int, b as c_uint, c as *const _, d as *mut _),
            libc::SYS_unshare => single::unshare(a),
            libc::SYS_setns => single::enter(a, b),
            libc::SYS_sched_getaffinity | libc::SYS_sched_setaffinity => {
                processors::by_number(number as usize, args)
            }
            libc::SYS_ioctl => faults::control(a as c_int, b as c_ulong, c),
            libc::SYS_execve | libc::SYS_execveat => {
                exec::by_number(number == libc::SYS_execveat, &args);
                let _excused = pager_api::excuse_caller();
                inherit::by_number(number as usize, args)
            }
            libc::SYS_userfaultfd => {
                let answer = raw::syscall(number as usize, args);
                if answer.is_ok() {
                    exec::tell_own_userfaultfd();
                }
                answer
            }
            libc::SYS_setsockopt => socket::set_option(a as c_int, (b as c_int, c as c_int), d, e),
            libc::SYS_setuid
            | libc::SYS_setreuid
            | libc::SYS_setresuid
            | libc::SYS_capset
            | libc::SYS_chroot => {
                rights::before_number(number, &args);
                raw::forward(number as usize, args)
            }
            _ if clone::is_fork(number, &args) => fork::by_number(number as usize, args),
            libc::SYS_clone | libc::SYS_clone3 => threads::clone_by_number(number as usize, args),
            _ => raw::forward(number as usize, args),
        }
    }
}
