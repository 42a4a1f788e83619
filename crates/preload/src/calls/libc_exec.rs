//! libc's exec and its kin, which those in front of them go on to.

use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::raw;

/// The functions that run on in libc, by number. Those that take a list of arguments run on in those that take an array.
const NAMES: [&CStr; 8] =
    [c"execve", c"execv", c"execvp", c"execvpe", c"fexecve", c"execveat", c"posix_spawn", c"posix_spawnp"];
pub(super) const EXECVE: usize = 0;
pub(super) const EXECV: usize = 1;
pub(super) const EXECVP: usize = 2;
pub(super) const EXECVPE: usize = 3;
pub(super) const FEXECVE: usize = 4;
pub(super) const EXECVEAT: usize = 5;
pub(super) const POSIX_SPAWN: usize = 6;
pub(super) const POSIX_SPAWNP: usize = 7;

/// Where libc's functions are, by number.
static NEXT: [AtomicUsize; NAMES.len()] = [const { AtomicUsize::new(0) }; NAMES.len()];

/// Finds libc's functions. Later, in a vfork child, nobody could.
pub(crate) fn find() {
    for (next, name) in NEXT.iter().zip(NAMES) {
        let found = super::next(name).map_or(missing as *const () as usize, |at| at.as_ptr() as usize);
        next.store(found, Ordering::Relaxed);
    }
}

/// In place of a function that this libc does not have, or before the constructor.
unsafe extern "C" fn missing() -> c_int {
    raw::set_errno(libc::ENOSYS);
    -1
}

/// Where libc's function `number` is.
pub(super) fn next(number: usize) -> usize {
    match NEXT[number].load(Ordering::Relaxed) {
        0 => missing as *const () as usize,
        at => at,
    }
}
