//! The constructor: it runs before libc's own and before any other library's; with a glibc older than 2.34 libpthread's and libc's
//! come first (docs/live-host.md, Limits).
//!
//! libc is loaded and relocated by then but not set up: `environ` is still null, so that the environment comes from the
//! constructor's arguments. Whatever goes wrong, the program runs: unmanaged, with one line that says so.

use core::ffi::{CStr, c_char, c_int};

use quire_linux::control::client::Client;
use quire_linux::control::outside::Outside;
use quire_linux::pager::StartError;
use quire_linux::probe;
use quire_linux::say;
use quire_linux::sys::futex::Lock;
use std::ffi::CString;

use crate::environment::variable;
use crate::exclude::{self, Named};
use crate::{calls, hooks, pager_api, texts};

type Constructor = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

// A low number: before a constructor of the C code that is in this library too.
#[used]
#[unsafe(link_section = ".init_array.00050")]
static CONSTRUCTOR: Constructor = construct;

// What ends by exit ends here, after its own handlers and destructors.
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destruct;

extern "C" fn destruct() {
    pager_api::check_at_end();
}

unsafe extern "C" fn construct(_argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    // SAFETY: the loader hands the environment as the kernel laid it out.
    let (socket, quiet) = unsafe { (variable(envp, c"QUIRE_SOCKET="), variable(envp, c"QUIRE_QUIET=")) };
    // SAFETY: the same.
    let (inject, excluded) = unsafe { (variable(envp, c"QUIRE_INJECT="), variable(envp, c"QUIRE_EXCLUDE=")) };
    // SAFETY: the same.
    let check = unsafe { variable(envp, c"QUIRE_CHECK=") }.is_some_and(|value| value == c"1");
    // SAFETY: the same.
    let limits = unsafe { variable(envp, calls::limits::VARIABLE) };
    // SAFETY: the same.
    let asleep = unsafe { variable(envp, c"QUIRE_ASLEEP=") }.map_or(b"0".as_slice(), CStr::to_bytes);
    // Before the kernel's names of it could be hidden: some programs change their arguments.
    // SAFETY: arguments and auxiliary vector are as the kernel laid them out.
    let named = unsafe { Named::find(argv, envp) };
    calls::libc_exec::find();
    if let (Some(socket), Some(list)) = (socket, excluded)
        && exclude::fits(list.to_bytes(), &named)
    {
        // Nothing of it is ours.
        tell(socket, Outside::Excluded, &named, quiet);
        return;
    }
    texts::find();
    calls::inherit::find();
    calls::rights::find();
    let managed = socket.is_some_and(|socket| {
        if probe::is_emulated() {
            tell(socket, Outside::Emulated, &named, quiet);
            return false;
        }
        if let Err(cause) = hooks::install() {
            tell(socket, cause, &named, quiet);
            return false;
        }
        let options = pager_api::Start { socket, inject, check };
        // Limits that are there from the start are held from the start.
        if asleep != b"0" && limits.is_none() && !quire_linux::limits::are_set() && pager_api::sleep(&options)
        {
            let quiet = quiet.is_some_and(|value| value == c"1");
            *SELF.lock() = Some((socket.to_owned(), named.shown().to_owned(), quiet));
            if asleep == b"2" {
                quire_linux::pager::sleep::join();
            }
            return true;
        }
        calls::limits::hold(limits);
        start_pager(&options, &named, quiet)
    });
    if managed {
        calls::fork::make_ready();
        hooks::install_in_others();
    } else {
        hooks::remove();
    }
    calls::signals::find();
    calls::threads::find();
}

/// Whether the process is managed now.
fn start_pager(options: &pager_api::Start<'_>, named: &Named, quiet: Option<&CStr>) -> bool {
    let Err(error) = pager_api::start(options) else { return true };
    calls::limits::release();
    if !matches!(error, StartError::Told(_)) {
        tell(options.socket, error.outside(), named, quiet);
    }
    false
}

/// What a process that sleeps would say of itself: the socket, its name, and whether it is to be quiet.
static SELF: Lock<Option<(CString, Vec<u8>, bool)>> = Lock::new(None);

/// It can't be managed, as turns out now.
pub(crate) fn refused(cause: Outside) {
    if let Some((socket, name, quiet)) = &*SELF.lock() {
        tell_as(socket, cause, name, *quiet);
    }
}

/// Tells `quire` that this program runs outside the budget, and why. Where it can't be reached, the user is told; but who
/// started a program behind a filter has told of it.
fn tell(socket: &CStr, cause: Outside, named: &Named, quiet: Option<&CStr>) {
    tell_as(socket, cause, named.shown(), quiet.is_some_and(|value| value == c"1"));
}

fn tell_as(socket: &CStr, cause: Outside, name: &[u8], quiet: bool) {
    let told = Client::tell_outside(socket, cause, name);
    let speaks = !matches!(cause, Outside::Excluded | Outside::Filter | Outside::Emulated);
    if told.is_err() && speaks && !quiet {
        let name = core::str::from_utf8(name).unwrap_or("a program");
        say!("warning: {name} runs outside the budget: {}; {}", cause.cause(), cause.mend());
    }
}
