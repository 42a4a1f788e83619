//! The objects that the loader has loaded into this namespace.

use core::ffi::{c_int, c_void};

/// Calls `look` with the address that was added to each object's own, and with its headers, until it answers true. Allocates
/// nothing.
pub(crate) fn find(mut look: impl FnMut(usize, &[libc::Elf64_Phdr]) -> bool) {
    let mut look: &mut dyn FnMut(usize, &[libc::Elf64_Phdr]) -> bool = &mut look;
    // SAFETY: the callback has the type asked for; it gets what it expects, which lives as long as the walk.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut look).cast()) };
}

/// Called for each object; a result other than 0 ends the walk.
unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _size: usize, look: *mut c_void) -> c_int {
    // SAFETY: the loader hands out a structure that is good during the call, with as many headers as it says; `look` is the
    // one of `find`.
    let (base, headers, look) = unsafe {
        let info = &*info;
        let headers = core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (
            info.dlpi_addr as usize,
            headers,
            &mut *look.cast::<&mut dyn FnMut(usize, &[libc::Elf64_Phdr]) -> bool>(),
        )
    };
    c_int::from(look(base, headers))
}
