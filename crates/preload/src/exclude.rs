//! Programs that are left alone, by their names (`quire run --exclude`).

use core::ffi::{CStr, c_char};

use quire_linux::control::pattern;
use quire_linux::image;

/// The longest path of a program that is looked at.
const PATH: usize = 512;

/// The names that the kernel and who started it gave to this program.
#[derive(Debug)]
pub(crate) struct Named {
    /// The file that was executed, as it was named: of a script, the script.
    file: Option<&'static CStr>,
    /// The program's name for itself.
    own: Option<&'static CStr>,
    /// Its first argument: to an interpreter, the script.
    first: Option<&'static CStr>,
}

impl Named {
    /// Finds the names.
    ///
    /// # Safety
    ///
    /// The arguments are lists of C strings that end with null, and the auxiliary vector lies behind the environment, as the
    /// kernel laid all of it out.
    pub(crate) unsafe fn find(argv: *const *const c_char, envp: *const *const c_char) -> Named {
        // SAFETY: by the caller's promise; the second argument is looked at only where there is a first.
        unsafe {
            let own = string(argv, 0);
            let first = own.and_then(|_| string(argv, 1));
            Named { file: executed(envp), own, first }
        }
    }

    /// What to call it in messages.
    pub(crate) fn shown(&self) -> &'static [u8] {
        self.file.or(self.own).map_or(b"", CStr::to_bytes)
    }
}

/// # Safety
///
/// `list` is null, or a list of C strings with at least `at` entries that ends with null.
unsafe fn string(list: *const *const c_char, at: usize) -> Option<&'static CStr> {
    // SAFETY: by the caller's promise.
    unsafe { (!list.is_null() && !(*list.add(at)).is_null()).then(|| CStr::from_ptr(*list.add(at))) }
}

/// The file that was executed, by the auxiliary vector.
///
/// # Safety
///
/// As for [`Named::find`].
unsafe fn executed(envp: *const *const c_char) -> Option<&'static CStr> {
    if envp.is_null() {
        return None;
    }
    let mut at = envp;
    // SAFETY: pairs of words follow the null that ends the environment, until one of kind 0.
    unsafe {
        while !(*at).is_null() {
            at = at.add(1);
        }
        let mut pair = at.add(1).cast::<usize>();
        while *pair != 0 {
            if *pair == libc::AT_EXECFN as usize {
                return Some(CStr::from_ptr(*pair.add(1) as *const c_char));
            }
            pair = pair.add(2);
        }
    }
    None
}

/// Whether one of the patterns of `list`, with colons in between, fits a name of the program.
pub(crate) fn fits(list: &[u8], named: &Named) -> bool {
    let fits = |name: Option<&CStr>| name.is_some_and(|name| pattern::any_fits(list, name.to_bytes()));
    let mut space = [0; PATH];
    fits(named.file)
        || fits(named.own)
        || image::running(&mut space).is_some_and(|path| pattern::any_fits(list, path))
        || fits(named.first.filter(|name| !name.to_bytes().starts_with(b"-") && image::is_script(name)))
}
