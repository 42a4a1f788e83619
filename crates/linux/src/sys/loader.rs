//! What the loader of this process makes of a path.
//!
//! As [`child`](super::child), for `quire` itself only: libc and `std` are around it.

use std::ffi::CStr;

/// Whether the loader finds a file at `path` once it has replaced what it replaces (`$LIB`). Nothing is loaded.
pub fn finds(path: &CStr) -> bool {
    // SAFETY: with RTLD_NOLOAD the file is opened and compared with those that are loaded, and no more. The handle of one
    // that is loaded is given back. dlerror's text is not kept.
    unsafe {
        libc::dlerror();
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if !handle.is_null() {
            libc::dlclose(handle);
            return true;
        }
        libc::dlerror().is_null()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_found() {
        assert!(finds(c"/proc/self/exe") || !finds(c"/nonexistent/library.so"));
        assert!(!finds(c"/nonexistent/library.so"));
        assert!(!finds(c"/nonexistent/$LIB/library.so"));
    }
}
