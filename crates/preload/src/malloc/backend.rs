//! Who serves the program: our own heaps ([`own`]), or the malloc that it brought.
//!
//! # Why mimalloc 2
//!
//! Both major versions worked in front of python, sort, sqlite, redis, perl and gcc. Version 3 takes locks on ordinary
//! paths (arena reservation, page map, per-heap lists); one that another thread holds at fork is held for ever in the
//! child, and nothing from outside can take them first. Version 2 does the same work by atomics; the one lock left
//! guards segments outside its arenas.
//!
//! # A malloc of the program's own
//!
//! jemalloc, tcmalloc and the like come as libraries with malloc among their symbols; programs then also call
//! functions only they have (`mallctl`, `sdallocx`, ..) on the same blocks. Being loaded first we would take their
//! malloc's place. So if the next malloc in the search order is not libc's, we hand the whole family to it. (A malloc
//! inside the executable itself comes before ours anyway.) Its mmap calls are ours all the same.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use libmimalloc_sys as mi;

use super::{Block, own};
use crate::callers::{self, Caller};

/// mimalloc's option for what is done at exit. Its number in `mimalloc.h`, as the bindings don't name it.
const DESTROY_ON_EXIT: mi::mi_option_t = 22;
/// "The end of the process is the business of others": mimalloc then does nothing at exit.
const LEAVE_ALL_AT_EXIT: core::ffi::c_long = 2;

/// A malloc family that is not ours. Functions that the library lacks are libc's, as they would be without us.
#[derive(Debug)]
struct Family {
    malloc: unsafe extern "C" fn(usize) -> Block,
    free: unsafe extern "C" fn(Block),
    calloc: unsafe extern "C" fn(usize, usize) -> Block,
    realloc: unsafe extern "C" fn(Block, usize) -> Block,
    posix_memalign: unsafe extern "C" fn(*mut Block, usize, usize) -> c_int,
    usable_size: unsafe extern "C" fn(Block) -> usize,
}

/// The program's own family, or null while ours serves.
static FOREIGN: AtomicPtr<Family> = AtomicPtr::new(ptr::null_mut());

#[inline]
fn foreign() -> Option<&'static Family> {
    // SAFETY: null, or a leaked box that never changes.
    unsafe { FOREIGN.load(Ordering::Acquire).as_ref() }
}

/// Finds out who serves, and sets mimalloc up. Called once, before the program's first allocation. A program that is
/// `left_alone` has the malloc that it would have without us.
pub(crate) fn choose(left_alone: bool) {
    if let Some(family) = find_foreign(left_alone) {
        FOREIGN.store(Box::into_raw(Box::new(family)), Ordering::Release);
        return;
    }
    own::set_up();
    // At exit mimalloc would walk its heap to free what it can: that would bring evicted memory back in for nothing.
    // SAFETY: an option of the version built in, set before any thread exists.
    unsafe { mi::mi_option_set(DESTROY_ON_EXIT, LEAVE_ALL_AT_EXIT) };
}

fn find_foreign(left_alone: bool) -> Option<Family> {
    let malloc = next(c"malloc")?;
    if !left_alone && callers::of(malloc.as_ptr() as usize) == Caller::Libc {
        return None;
    }
    // SAFETY: these names have these types, in every library that defines them.
    unsafe {
        Some(Family {
            malloc: core::mem::transmute::<ptr::NonNull<c_void>, unsafe extern "C" fn(usize) -> Block>(
                malloc,
            ),
            free: core::mem::transmute::<ptr::NonNull<c_void>, unsafe extern "C" fn(Block)>(next(c"free")?),
            calloc: core::mem::transmute::<ptr::NonNull<c_void>, unsafe extern "C" fn(usize, usize) -> Block>(
                next(c"calloc")?,
            ),
            realloc: core::mem::transmute::<ptr::NonNull<c_void>, unsafe extern "C" fn(Block, usize) -> Block>(
                next(c"realloc")?,
            ),
            posix_memalign: core::mem::transmute::<
                ptr::NonNull<c_void>,
                unsafe extern "C" fn(*mut Block, usize, usize) -> c_int,
            >(next(c"posix_memalign")?),
            usable_size: core::mem::transmute::<ptr::NonNull<c_void>, unsafe extern "C" fn(Block) -> usize>(
                next(c"malloc_usable_size")?,
            ),
        })
    }
}

/// The definition of `name` that the program would have without this library.
pub(crate) fn next(name: &CStr) -> Option<ptr::NonNull<c_void>> {
    let name: *const c_char = name.as_ptr();
    // SAFETY: a C string; the loader takes the library that calls from the return address, which lies in this function.
    ptr::NonNull::new(unsafe { libc::dlsym(libc::RTLD_NEXT, name) })
}

macro_rules! forward {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) -> $result:ty, $field:ident, $own:path) => {
        $(#[$doc])*
        #[inline]
        pub(super) unsafe fn $name($($arg: $kind),*) -> $result {
            match foreign() {
                // SAFETY: the caller keeps C's rules for this function.
                Some(family) => unsafe { (family.$field)($($arg),*) },
                // SAFETY: the same.
                None => unsafe { $own($($arg),*) },
            }
        }
    };
}

forward!(malloc(size: usize) -> Block, malloc, own::malloc);
forward!(calloc(count: usize, size: usize) -> Block, calloc, own::calloc);
forward!(realloc(block: Block, size: usize) -> Block, realloc, own::realloc);
forward!(free(block: Block) -> (), free, own::free);
forward!(usable_size(block: Block) -> usize, usable_size, own::usable_size);

/// A block aligned to `alignment`, a power of two.
pub(super) unsafe fn memalign(alignment: usize, size: usize) -> Block {
    match foreign() {
        Some(family) => {
            let mut block = ptr::null_mut();
            // posix_memalign is the one aligned allocation that every such library has.
            // SAFETY: the place for the answer is good, the alignment as POSIX wants it.
            unsafe { (family.posix_memalign)(&mut block, alignment.max(size_of::<usize>()), size) };
            block
        }
        // SAFETY: a power of two.
        None => unsafe { own::memalign(alignment, size) },
    }
}
