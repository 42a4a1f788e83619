//! The environment, as the kernel or libc has it.

use core::ffi::{CStr, c_char};

/// The value of a variable, whose name is given as `NAME=`.
///
/// # Safety
///
/// `envp` is null, or a list of C strings that ends with null and outlives the process's use of it.
pub(crate) unsafe fn variable(envp: *const *const c_char, name: &CStr) -> Option<&'static CStr> {
    let name = name.to_bytes();
    let mut at = envp;
    // SAFETY: the walk ends at the null that ends the list; each entry is a C string, and so is its tail.
    unsafe {
        while !at.is_null() && !(*at).is_null() {
            if CStr::from_ptr(*at).to_bytes().starts_with(name) {
                return Some(CStr::from_ptr((*at).add(name.len())));
            }
            at = at.add(1);
        }
    }
    None
}
