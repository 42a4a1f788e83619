//! Whether the calls of a patched libc arrive: each is made once, and comes no further than to us.

use core::mem::transmute;

use super::called::arrives;
use super::object::Object;

/// Functions, and arguments with which they make their call.
const CALLS: [(&str, [usize; 6]); 14] = [
    // Inside libc this calls brk, to learn where its heap begins. The answer 0 means that it does not know yet.
    ("sbrk", [0; 6]),
    ("brk", [0; 6]),
    ("mmap", [0, 0, 0, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize, usize::MAX, 0]),
    ("munmap", [0; 6]),
    ("mprotect", [0; 6]),
    ("mremap", [0; 6]),
    ("madvise", [0; 6]),
    ("posix_madvise", [0; 6]),
    ("mlock", [0; 6]),
    ("mlock2", [0, 0, libc::MLOCK_ONFAULT as usize, 0, 0, 0]),
    ("munlock", [0; 6]),
    ("mlockall", [0; 6]),
    ("pkey_mprotect", [0; 6]),
    ("syscall", [libc::SYS_getpid as usize, 0, 0, 0, 0, 0]),
];

type AnyFunction = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> isize;

/// Whether they all arrive.
pub(super) fn all_arrive(object: &Object) -> bool {
    CALLS.iter().all(|(name, args)| {
        let Some(function) = object.function(name) else { return false };
        let [a, b, c, d, e, f] = *args;
        let arrived = arrives(|| {
            // SAFETY: libc's function of that name, which takes up to six words; its call is not made.
            unsafe { transmute::<usize, AnyFunction>(function)(a, b, c, d, e, f) };
        });
        // Where libc knows already, it does not ask.
        arrived || *name == "sbrk"
    })
}
