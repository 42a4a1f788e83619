//! exec and its kin: they go to libc as they are. Before they do, `quire` is told of a program that will run outside the
//! budget, since most such programs end before anybody could see them; and the caller is excused from the handler's
//! processor until they have failed.
//!
//! The hooks may run in a vfork child, or in a signal handler: they allocate nothing, and leave `errno` and all arguments
//! alone; the one lock, the guest's, is not taken in a vfork child. They are naked functions that pass what they got to a
//! function which looks at it, and then call libc's with the same.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};

use quire_linux::control::outside::Outside;
use quire_linux::control::pattern::base_name;
use quire_linux::{image, probe};

use super::inherit;
use super::libc_exec::{EXECV, EXECVE, EXECVEAT, EXECVP, EXECVPE, FEXECVE, POSIX_SPAWN, POSIX_SPAWNP, next};
use crate::environment;
use crate::{pager_api, raw};

type Strings = *const *const c_char;

unsafe extern "C" {
    static environ: Strings;
}

/// The words that a hook was called with.
struct Arguments(*const usize);

impl Arguments {
    /// Argument `number`, a word.
    ///
    /// # Safety
    ///
    /// The caller passed that many.
    unsafe fn word(&self, number: usize) -> usize {
        // SAFETY: by the caller's promise.
        unsafe { *self.0.add(number) }
    }

    /// Argument `number`, a string.
    ///
    /// # Safety
    ///
    /// The caller passed one there, or null.
    unsafe fn string(&self, number: usize) -> Option<&CStr> {
        // SAFETY: by the caller's promise.
        unsafe {
            let at = self.word(number) as *const c_char;
            (!at.is_null()).then(|| CStr::from_ptr(at))
        }
    }
}

/// Looks at the arguments of function `number`, and answers where to go on. The caller is excused until [`failed`].
unsafe extern "C" fn look(words: *const usize, number: usize) -> usize {
    pager_api::excuse_caller().keep();
    if pager_api::is_counted() {
        let own = raw::getpid();
        // SAFETY: each function was called with its own arguments; environ is libc's.
        unsafe {
            let a = Arguments(words);
            match number {
                EXECVE => announce(own, a.string(0), a.word(2) as Strings),
                EXECV => announce(own, a.string(0), environ),
                EXECVP => announce_found(own, a.string(0), environ),
                EXECVPE => announce_found(own, a.string(0), a.word(2) as Strings),
                FEXECVE => announce_open(own, a.word(0) as c_int, a.word(2) as Strings),
                EXECVEAT => announce_at(own, a.word(0) as c_int, a.string(1), a.word(3) as Strings),
                _ => {}
            }
        }
    }
    inherit::in_place_of(number, next(number))
}

/// Which of the functions with a list it is.
const EXECL: usize = 0;
const EXECLP: usize = 1;
const EXECLE: usize = 2;

/// Such a function: the words that it was called with are a path or a name, and behind it an array as it is.
unsafe extern "C" fn listed(words: *const usize, function: usize) -> c_int {
    // SAFETY: the caller keeps C's rules: the list ends with null, and behind that of execle is an environment. What goes
    // on takes a path, arguments and an environment.
    unsafe {
        let list = words.add(1) as Strings;
        let environment = if function == EXECLE {
            let mut end = list;
            while !(*end).is_null() {
                end = end.add(1);
            }
            *end.add(1) as usize
        } else {
            environ as usize
        };
        let arguments = [*words, list as usize, environment];
        let go_on = look(arguments.as_ptr(), if function == EXECLP { EXECVPE } else { EXECVE });
        let go_on = core::mem::transmute::<usize, unsafe extern "C" fn(usize, usize, usize) -> c_int>(go_on);
        let answer = go_on(arguments[0], arguments[1], arguments[2]);
        failed();
        answer
    }
}

/// The function has come back.
extern "C" fn failed() {
    pager_api::end_excuse();
}

/// The call by number: execve or execveat.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn by_number(is_at: bool, args: &[usize; 6]) {
    if pager_api::is_counted() {
        let arguments = Arguments(args.as_ptr());
        // SAFETY: the arguments are those of the call.
        unsafe {
            let (path, environment) = if is_at { (1, 3) } else { (0, 2) };
            let directory = if is_at { args[0] as c_int } else { libc::AT_FDCWD };
            announce_at(raw::getpid(), directory, arguments.string(path), args[environment] as Strings);
        }
    }
}

/// The program made a userfaultfd: there are things that it can't do with it here.
pub(super) fn tell_own_userfaultfd() {
    if pager_api::is_counted() {
        pager_api::tell_outside(raw::getpid(), Outside::OwnUserfaultfd, b"");
    }
}

/// Tells `quire` if process `pid` is about to become a program outside the budget.
///
/// # Safety
///
/// The environment is null, or a list of C strings that ends with null.
unsafe fn announce(pid: u32, path: Option<&CStr>, environment: Strings) {
    let Some(path) = path else { return };
    // SAFETY: by the caller's promise.
    if let Some(cause) = unsafe { outside(path, environment) } {
        pager_api::tell_outside(pid, cause, path.to_bytes());
    }
}

/// The same for a name that is looked for as execvp does.
///
/// # Safety
///
/// As for [`announce`].
unsafe fn announce_found(pid: u32, name: Option<&CStr>, environment: Strings) {
    let mut space = [0; PATH];
    // SAFETY: environ is libc's list.
    let found = name.and_then(|name| unsafe { search(name, &mut space) });
    // SAFETY: by the caller's promise.
    unsafe { announce(pid, found, environment) };
}

/// The same for an open file.
///
/// # Safety
///
/// As for [`announce`].
unsafe fn announce_open(pid: u32, fd: c_int, environment: Strings) {
    let mut space = [0; 32];
    let Some(path) = descriptor_path(fd, &mut space) else { return };
    // SAFETY: by the caller's promise.
    if let Some(cause) = unsafe { outside(path, environment) } {
        pager_api::tell_outside(pid, cause, b"");
    }
}

/// The same for a path in a directory. What lies in another than the current one is left to the samples.
///
/// # Safety
///
/// As for [`announce`].
unsafe fn announce_at(pid: u32, directory: c_int, path: Option<&CStr>, environment: Strings) {
    // SAFETY: by the caller's promise.
    unsafe {
        match path {
            Some(path) if path.is_empty() => announce_open(pid, directory, environment),
            Some(path) if directory == libc::AT_FDCWD || path.to_bytes()[0] == b'/' => {
                announce(pid, Some(path), environment);
            }
            _ => {}
        }
    }
}

/// Why the program at `path` will run outside the budget with that environment; `None` if it won't, or won't run.
///
/// # Safety
///
/// As for [`announce`].
unsafe fn outside(path: &CStr, environment: Strings) -> Option<Outside> {
    if !can_run(path) {
        return None;
    }
    // SAFETY: by the caller's promise.
    let named = unsafe { names_us(environment) };
    image::outside(path).or_else(|| match named {
        false => Some(Outside::NoPreload),
        true => probe::is_kept_from_uffd().then_some(Outside::Filter),
    })
}

/// Whether the file is one that the kernel may execute.
fn can_run(path: &CStr) -> bool {
    // SAFETY: a C string that outlives the call.
    unsafe { raw::call!(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK) }.is_ok()
        && image::is_file(path)
}

/// Whether an environment brings the library into a program, and the way to `quire`.
///
/// # Safety
///
/// As for [`announce`].
unsafe fn names_us(environment: Strings) -> bool {
    let (mut library, mut socket) = (false, false);
    let mut at = environment;
    // SAFETY: the walk ends at the null that ends the list; each entry is a C string.
    unsafe {
        while !at.is_null() && !(*at).is_null() {
            let entry = CStr::from_ptr(*at).to_bytes();
            socket |= entry.starts_with(b"QUIRE_SOCKET=");
            library |= entry.starts_with(b"LD_PRELOAD=") && contains(entry, b"libquire_preload");
            at = at.add(1);
        }
    }
    library && socket
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// The longest path that is looked at.
const PATH: usize = 512;

/// Where execvp finds `name`.
///
/// # Safety
///
/// `environ` is as libc has it.
unsafe fn search<'a>(name: &'a CStr, space: &'a mut [u8; PATH]) -> Option<&'a CStr> {
    if name.to_bytes().contains(&b'/') {
        return Some(name);
    }
    // SAFETY: by the caller's promise.
    let path =
        unsafe { environment::variable(environ, c"PATH=") }.map_or(&b"/bin:/usr/bin"[..], CStr::to_bytes);
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let parts = [directory, b"/", name.to_bytes_with_nul()];
        if write_path(space, &parts).is_some_and(can_run) {
            return CStr::from_bytes_until_nul(space).ok();
        }
    }
    None
}

fn write_path<'a>(space: &'a mut [u8; PATH], parts: &[&[u8]]) -> Option<&'a CStr> {
    let mut at = 0;
    for part in parts {
        space.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    CStr::from_bytes_until_nul(space).ok()
}

/// `/proc/self/fd/FD`.
fn descriptor_path(fd: c_int, space: &mut [u8; 32]) -> Option<&CStr> {
    let start = b"/proc/self/fd/";
    space[..start.len()].copy_from_slice(start);
    let mut rest = u32::try_from(fd).ok()?;
    let mut at = space.len() - 1;
    space[at] = 0;
    let end = at;
    loop {
        at -= 1;
        space[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    space.copy_within(at..=end, start.len());
    CStr::from_bytes_until_nul(space).ok()
}

/// A function that lets [`look`] see its arguments, and calls libc's with all of them as they were.
macro_rules! hook {
    ($($doc:literal $name:ident = $number:ident;)*) => {$(
        #[doc = $doc]
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $name() -> c_int {
            naked_asm!(
                "endbr64",
                "push rbp",
                "mov rbp, rsp",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "push rdi",
                "mov rdi, rsp",
                "mov esi, {number}",
                "call {look}",
                "mov r11, rax",
                "mov rdi, [rbp - 48]",
                "mov rsi, [rbp - 40]",
                "mov rdx, [rbp - 32]",
                "mov rcx, [rbp - 24]",
                "mov r8, [rbp - 16]",
                "mov r9, [rbp - 8]",
                "call r11",
                "mov [rbp - 48], rax",
                "call {failed}",
                "mov rax, [rbp - 48]",
                "leave",
                "ret",
                number = const $number,
                look = sym look,
                failed = sym failed,
            )
        }
    )*};
}

hook! {
    "C's execve." execve = EXECVE;
    "C's execv." execv = EXECV;
    "C's execvp." execvp = EXECVP;
    "GNU's execvpe." execvpe = EXECVPE;
    "C's fexecve." fexecve = FEXECVE;
    "GNU's execveat." execveat = EXECVEAT;
}

/// A function with a list of arguments. What came in registers is put in front of what came on the stack, where the
/// return address was: so the list is an array.
macro_rules! hook_list {
    ($($doc:literal $name:ident = $number:ident;)*) => {$(
        #[doc = $doc]
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $name() -> c_int {
            naked_asm!(
                "endbr64",
                "pop r11",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "push rdi",
                "mov rdi, rsp",
                "mov esi, {number}",
                "push r11",
                // The stack's alignment.
                "sub rsp, 8",
                "call {listed}",
                "mov r11, [rsp + 8]",
                "add rsp, 64",
                "push r11",
                "ret",
                number = const $number,
                listed = sym listed,
            )
        }
    )*};
}

hook_list! {
    "C's execl." execl = EXECL;
    "C's execlp." execlp = EXECLP;
    "C's execle." execle = EXECLE;
}

type Spawn = unsafe extern "C" fn(
    *mut c_int,
    *const c_char,
    *const c_void,
    *const c_void,
    *const *mut c_char,
    Strings,
) -> c_int;

/// What the two forms of `posix_spawn` share: only afterwards the child's process id is known.
///
/// # Safety
///
/// As in C.
unsafe fn spawn(
    number: usize,
    pid: *mut c_int,
    path: *const c_char,
    rest: (*const c_void, *const c_void, *const *mut c_char),
    environment: Strings,
) -> c_int {
    let mut child = 0;
    let mut space = [0; PATH];
    // SAFETY: the caller keeps the rules of posix_spawn, and libc's function of that name has this type.
    unsafe {
        let next = core::mem::transmute::<usize, Spawn>(next(number));
        let cause = if pager_api::is_counted() && !path.is_null() {
            let name = CStr::from_ptr(path);
            let found = if number == POSIX_SPAWNP { search(name, &mut space) } else { Some(name) };
            found.and_then(|path| outside(path, environment))
        } else {
            None
        };
        let _excused = pager_api::excuse_caller();
        let error = inherit::telling(environment, |environment| {
            next(&raw mut child, path, rest.0, rest.1, rest.2, environment)
        });
        if error == 0 {
            if !pid.is_null() {
                *pid = child;
            }
            if let Some(cause) = cause {
                pager_api::tell_outside(
                    child.cast_unsigned(),
                    cause,
                    base_name(CStr::from_ptr(path).to_bytes()),
                );
            }
        }
        error
    }
}

/// POSIX's `posix_spawn`.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_spawn(
    pid: *mut c_int,
    path: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: *const *mut c_char,
    environment: Strings,
) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { spawn(POSIX_SPAWN, pid, path, (actions, attributes, argv), environment) }
}

/// POSIX's `posix_spawnp`.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_spawnp(
    pid: *mut c_int,
    file: *const c_char,
    actions: *const c_void,
    attributes: *const c_void,
    argv: *const *mut c_char,
    environment: Strings,
) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { spawn(POSIX_SPAWNP, pid, file, (actions, attributes, argv), environment) }
}
