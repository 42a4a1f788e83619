//! The constructor: it runs before libc's own and before any other library's.
//!
//! libc is loaded and relocated by then but not set up: `environ` is still null, so that the environment comes from the
//! constructor's arguments. Whatever goes wrong, the program runs: unmanaged, with one line that says so.

use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{callers, calls, heap, libc_heap, malloc, pager_api, raw};

/// Bytes that this library holds outside managed memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(dead_code, reason = "read by the pager")]
pub(crate) struct Usage {
    /// Mapped for Quire's small blocks.
    pub(crate) small: u64,
    /// Mapped for Quire's tables; only what was touched of them costs memory.
    pub(crate) tables: u64,
    /// In use by the loader.
    pub(crate) loader: u64,
    /// In use by libc.
    pub(crate) libc: u64,
    /// Whether the program keeps a malloc of its own.
    pub(crate) own_malloc: bool,
}

/// What this library holds just now. Takes no lock and calls nobody.
pub(crate) fn usage() -> Usage {
    let (small, tables) = heap::mapped_bytes();
    let (loader, libc) = libc_heap::live_bytes();
    Usage { small, tables, loader, libc, own_malloc: malloc::backend::is_foreign() }
}

/// The process whose memory this is; another id means that a vfork child borrows it.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Whether the caller is a child that borrows its parent's memory (vfork, `posix_spawn`), and has no pager of its own.
#[allow(dead_code, reason = "asked by the pager")]
pub(crate) fn in_vfork_child() -> bool {
    raw::getpid() != PROCESS.load(Ordering::Relaxed)
}

/// Notes that this process owns its memory: at start, and in a child after fork.
pub(crate) fn note_process() {
    PROCESS.store(raw::getpid(), Ordering::Relaxed);
}

type Constructor = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

// A low number: before mimalloc's own constructor, which is in this library too.
#[used]
#[unsafe(link_section = ".init_array.00050")]
static CONSTRUCTOR: Constructor = construct;

unsafe extern "C" fn construct(_argc: c_int, _argv: *const *const c_char, envp: *const *const c_char) {
    note_process();
    callers::find();
    libc_heap::reserve();
    // SAFETY: the loader hands the environment as the kernel laid it out.
    let (socket, quiet) = unsafe { (variable(envp, c"QUIRE_SOCKET="), variable(envp, c"QUIRE_QUIET=")) };
    // SAFETY: the same.
    let inject = unsafe { variable(envp, c"QUIRE_INJECT=") };
    if let Some(socket) = socket {
        let inject = inject.map(CStr::to_bytes);
        start_pager(&pager_api::Start { socket: socket.to_bytes(), inject }, quiet);
    }
    malloc::backend::choose();
    calls::fork::register();
}

fn start_pager(options: &pager_api::Start<'_>, quiet: Option<&'static CStr>) {
    let Err(errno) = pager_api::start(options) else { return };
    if quiet.is_none_or(|value| value != c"1") {
        raw::complain(unmanaged_because(errno));
    }
    if let Some(value) = quiet.filter(|value| value == &c"0") {
        // One line is enough: the programs that this one starts inherit the variable.
        // SAFETY: the environment is the process's own writable memory, and no other thread exists.
        unsafe { value.as_ptr().cast_mut().write(b'1' as c_char) };
    }
}

/// The one line about a program that runs unmanaged: the cause, and what to do.
fn unmanaged_because(errno: i32) -> &'static [u8] {
    match errno {
        libc::EPERM | libc::EACCES => {
            b"quire: this process runs unmanaged: no right to use userfaultfd or quire's socket; see quire doctor\n"
        }
        libc::ENOMEM => {
            b"quire: this process runs unmanaged: its address space is limited; raise ulimit -v\n"
        }
        libc::ENOSYS => b"quire: this process runs unmanaged: the kernel has no userfaultfd; see quire doctor\n",
        libc::ECONNREFUSED | libc::ENOENT => {
            b"quire: this process runs unmanaged: quire itself is gone; start the program with quire run\n"
        }
        _ => b"quire: this process runs unmanaged: the pager did not start; see quire doctor\n",
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
