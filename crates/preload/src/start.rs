//! The constructor: it runs before libc's own and before any other library's.
//!
//! libc is loaded and relocated by then but not set up: `environ` is still null, so that the environment comes from the
//! constructor's arguments. Whatever goes wrong, the program runs: unmanaged, with one line that says so.

use core::ffi::{CStr, c_char, c_int};

use quire_linux::control::client::JoinError;
use quire_linux::control::wire::Refusal;
use quire_linux::pager::StartError;
use quire_linux::say;
use quire_linux::sys::Cause;
use quire_linux::sys::Errno;

use crate::{callers, calls, libc_heap, malloc, pager_api};

type Constructor = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

// A low number: before mimalloc's own constructor, which is in this library too.
#[used]
#[unsafe(link_section = ".init_array.00050")]
static CONSTRUCTOR: Constructor = construct;

unsafe extern "C" fn construct(_argc: c_int, _argv: *const *const c_char, envp: *const *const c_char) {
    callers::find();
    libc_heap::reserve();
    // SAFETY: the loader hands the environment as the kernel laid it out.
    let (socket, quiet) = unsafe { (variable(envp, c"QUIRE_SOCKET="), variable(envp, c"QUIRE_QUIET=")) };
    // SAFETY: the same.
    let inject = unsafe { variable(envp, c"QUIRE_INJECT=") };
    if let Some(socket) = socket {
        start_pager(&pager_api::Start { socket, inject }, quiet);
    }
    malloc::backend::choose();
    calls::signals::find();
    calls::fork::register();
}

fn start_pager(options: &pager_api::Start<'_>, quiet: Option<&'static CStr>) {
    let Err(error) = pager_api::start(options) else { return };
    if quiet.is_none_or(|value| value != c"1") {
        warn(error);
    }
    if let Some(value) = quiet.filter(|value| value == &c"0") {
        // One line is enough: the programs that this one starts inherit the variable.
        // SAFETY: the environment is the process's own writable memory, and no other thread of the program exists.
        unsafe { value.as_ptr().cast_mut().write(b'1' as c_char) };
    }
}

/// The one line about a program that runs unmanaged: the cause, and what to do.
fn warn(error: StartError) {
    match error {
        StartError::System(Errno::PERM | Errno::ACCESS) => {
            say!("a program runs unmanaged: it has no right to use userfaultfd; see quire doctor");
        }
        StartError::System(Errno::NOMEM) => {
            say!("a program runs unmanaged: its address space is limited; raise ulimit -v");
        }
        StartError::System(Errno::NOSYS) => {
            say!("a program runs unmanaged: this kernel has no userfaultfd; see quire doctor");
        }
        StartError::System(errno) => {
            say!("a program runs unmanaged: {errno}; see quire doctor", errno = Cause(errno));
        }
        StartError::Join(JoinError::Socket(Errno::PERM | Errno::ACCESS)) => {
            say!("a program runs unmanaged: it is another user's; start quire run as that user");
        }
        StartError::Join(JoinError::Refused(Refusal::OtherBuild)) => {
            say!(
                "a program runs unmanaged: quire and its library are of different builds; install both anew"
            );
        }
        StartError::Join(JoinError::Refused(Refusal::TooManyProcesses)) => {
            say!("a program runs unmanaged: too many processes at once for this quire run");
        }
        StartError::Join(JoinError::Socket(errno) | JoinError::Ledger(errno)) => {
            say!(
                "a program runs unmanaged: quire can't be reached: {errno}; start it anew with quire run",
                errno = Cause(errno)
            );
        }
        StartError::Join(JoinError::Refused(_) | JoinError::Answer) => {
            say!("a program runs unmanaged: quire gave no sound answer; please report this");
        }
    }
}

/// The value of a variable, whose name is given as `NAME=`.
///
/// # Safety
///
/// `envp` is null, or a list of C strings that ends with null and outlives the process's use of it.
unsafe fn variable(envp: *const *const c_char, name: &CStr) -> Option<&'static CStr> {
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
