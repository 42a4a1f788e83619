//! Further libcs: those that dlmopen loads, and the one of libraries for LD_AUDIT.

use core::ffi::{c_char, c_int, c_long, c_void};
use core::ptr::NonNull;

use super::object::Object;
use crate::calls::Next;

/// The beginning of glibc's `struct link_map` (`link.h`), which is fixed.
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const c_char,
    dynamic: *const c_void,
    next: *const LinkMap,
    previous: *const LinkMap,
}

/// glibc's `struct r_debug` and what follows it since 2.35 (`link.h`).
#[repr(C)]
struct Debug {
    version: c_int,
    first: *const LinkMap,
    brk: usize,
    state: c_int,
    loader: usize,
    /// The next namespace's, from version 2 on.
    next: *const Debug,
}

/// Calls `look` for each loaded libc of each namespace that the loader tells of, and says whether it answered true for all.
pub(super) fn each_libc(mut look: impl FnMut(&Object) -> bool) -> bool {
    let mut all = true;
    // SAFETY: a C string; the symbol is the loader's, of this type.
    let mut namespace = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_r_debug".as_ptr()) } as *const Debug;
    // SAFETY: the loader's lists end with null, and who loads or unloads meanwhile is not this thread. The last field is read
    // only where there is one.
    unsafe {
        while let Some(debug) = namespace.as_ref() {
            all &= each_of(debug.first, &mut look);
            namespace = if debug.version >= 2 { debug.next } else { core::ptr::null() };
        }
    }
    all
}

/// # Safety
///
/// A list of the loader's.
unsafe fn each_of(first: *const LinkMap, look: &mut impl FnMut(&Object) -> bool) -> bool {
    let (mut all, mut at) = (true, first);
    // SAFETY: by the caller's promise; the objects in it are loaded.
    unsafe {
        while let Some(map) = at.as_ref() {
            if let Some(object) = Object::at(map.base)
                && object.is_libc()
            {
                all &= look(&object);
            }
            at = map.next;
        }
    }
    all
}

static NEXT_DLMOPEN: Next = Next::new();

/// GNU's dlmopen, which may load another libc.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn dlmopen(namespace: c_long, file: *const c_char, flags: c_int) -> *mut c_void {
    type Dlmopen = unsafe extern "C" fn(c_long, *const c_char, c_int) -> *mut c_void;
    let Some(next) = NEXT_DLMOPEN.get(c"dlmopen") else { return core::ptr::null_mut() };
    // SAFETY: libc's function of that name has this type, and the caller keeps its rules.
    let handle = unsafe { core::mem::transmute::<NonNull<c_void>, Dlmopen>(next)(namespace, file, flags) };
    if !handle.is_null() && namespace != libc::LM_ID_BASE && super::are_installed() {
        super::install_in_others();
    }
    handle
}
