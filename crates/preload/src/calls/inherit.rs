//! What another program inherits, here or in a child: the limits that this program has set itself, which the kernel does
//! not have while memory is managed ([`quire_linux::limits`]).
//!
//! They are set in the process that is about to become another. libc's `system` and `popen` make their child inside libc,
//! and so does `posix_spawn`, after they have mapped memory for it: there they are told by the environment alone, and so
//! are hard limits that could not be raised again. A managed program heeds that; another one has the kernel's.

use core::ffi::{c_char, c_int, c_void};
use core::fmt::Write;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use quire_linux::limits;
use quire_linux::sys::rlimit::Limit;

use super::libc_exec::{self, EXECV, EXECVE, EXECVEAT, EXECVP, EXECVPE, FEXECVE};
use super::limits::VARIABLE;
use crate::pager_api;
use crate::raw::{self, Answer};

type Path = *const c_char;
type List = *const *const c_char;

/// Where to go on instead of libc's function `number`, at `next`.
pub(super) fn in_place_of(number: usize, next: usize) -> usize {
    if !limits::are_told() {
        return next;
    }
    match number {
        EXECVE => execve as *const () as usize,
        EXECV => execv as *const () as usize,
        EXECVP => execvp as *const () as usize,
        EXECVPE => execvpe as *const () as usize,
        FEXECVE => fexecve as *const () as usize,
        EXECVEAT => execveat as *const () as usize,
        _ => next,
    }
}

/// Runs what makes this process another program, with the environment that it is to have. It returns if that fails.
fn becoming<T>(env: List, go: impl FnOnce(List) -> T) -> T {
    let handed_on = limits::hand_on();
    let answer = telling(env, go);
    if handed_on {
        limits::take_back();
    }
    answer
}

/// Runs one of libc's functions that make a child with the environment of libc's own variable.
fn telling_all<T>(go: impl FnOnce() -> T) -> T {
    let _excused = pager_api::excuse_caller();
    if !limits::are_told() {
        return go();
    }
    // SAFETY: libc's variable. It is put back before this frame ends, and what it names meanwhile lives as long.
    unsafe {
        let own = libc::environ;
        telling(own.cast(), |env| {
            libc::environ = env.cast_mut().cast();
            let answer = go();
            libc::environ = own;
            answer
        })
    }
}

/// Variables of an environment that can be told anything, and bytes of what it is told.
const MOST: usize = 1500;
const TEXT: usize = 128;

/// Calls `go` with the environment, and in it the limits where they have to be told. It must work between vfork and exec,
/// so all is on this stack.
pub(super) fn telling<T>(env: List, go: impl FnOnce(List) -> T) -> T {
    if env.is_null() || !limits::are_told() {
        return go(env);
    }
    let told = limits::to_tell();
    // SAFETY: the environment is a list of C strings that ends with null, as C has it.
    let (count, has) = unsafe { count(env) };
    if told.is_none() && !has || count > MOST {
        return go(env);
    }
    let (mut text, mut words) = ([0u8; TEXT], [ptr::null::<c_char>(); MOST + 2]);
    let own = told.filter(|&told| write_text(&mut text, told)).map(|_| text.as_ptr().cast());
    // SAFETY: the list has `count` entries.
    let others = (0..count).map(|at| unsafe { *env.add(at) }).filter(|&word| !is_ours(word));
    for (place, word) in words.iter_mut().zip(own.into_iter().chain(others)) {
        *place = word;
    }
    go(words.as_ptr())
}

fn is_ours(word: *const c_char) -> bool {
    // SAFETY: a C string of the environment.
    unsafe { libc::strncmp(word, VARIABLE.as_ptr(), VARIABLE.to_bytes().len()) == 0 }
}

/// How many variables an environment has, and whether ours is among them.
///
/// # Safety
///
/// `env` is a list of C strings that ends with null.
unsafe fn count(env: List) -> (usize, bool) {
    let (mut count, mut has) = (0, false);
    // SAFETY: the walk ends at the null.
    while let word = unsafe { *env.add(count) }
        && !word.is_null()
    {
        has |= is_ours(word);
        count += 1;
    }
    (count, has)
}

/// Writes the variable and its value, and says whether there was room; what follows is zeroes.
fn write_text(text: &mut [u8; TEXT], [size, data]: [Limit; 2]) -> bool {
    let mut line = Line { text, len: 0 };
    let name = VARIABLE.to_str().unwrap_or_default();
    write!(line, "{name}{},{},{},{}", size.soft, size.hard, data.soft, data.hard).is_ok()
}

struct Line<'a> {
    text: &'a mut [u8; TEXT],
    len: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, part: &str) -> core::fmt::Result {
        let end = self.len + part.len();
        // The last byte stays zero.
        let to = self.text[..TEXT - 1].get_mut(self.len..end).ok_or(core::fmt::Error)?;
        to.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

type Exec = unsafe extern "C" fn(Path, List, List) -> c_int;

/// # Safety
///
/// As execve or execvpe, whose number is given.
unsafe fn exec_by(number: usize, path: Path, args: List, env: List) -> c_int {
    // SAFETY: by the caller's promise; libc's functions of these names have this type.
    unsafe {
        let next = core::mem::transmute::<usize, Exec>(libc_exec::next(number));
        becoming(env, |env| next(path, args, env))
    }
}

unsafe extern "C" fn execve(path: Path, args: List, env: List) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { exec_by(EXECVE, path, args, env) }
}

/// Not by libc's, which takes the environment from a variable that a vfork child shares with its parent.
unsafe extern "C" fn execv(path: Path, args: List) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { exec_by(EXECVE, path, args, libc::environ.cast()) }
}

/// In the same way.
unsafe extern "C" fn execvp(file: Path, args: List) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { exec_by(EXECVPE, file, args, libc::environ.cast()) }
}

unsafe extern "C" fn execvpe(file: Path, args: List, env: List) -> c_int {
    // SAFETY: the caller keeps C's rules.
    unsafe { exec_by(EXECVPE, file, args, env) }
}

unsafe extern "C" fn fexecve(fd: c_int, args: List, env: List) -> c_int {
    type Next = unsafe extern "C" fn(c_int, List, List) -> c_int;
    // SAFETY: the caller keeps C's rules, and libc's function of that name has this type.
    unsafe {
        let next = core::mem::transmute::<usize, Next>(libc_exec::next(FEXECVE));
        becoming(env, |env| next(fd, args, env))
    }
}

unsafe extern "C" fn execveat(dir: c_int, path: Path, args: List, env: List, flags: c_int) -> c_int {
    type Next = unsafe extern "C" fn(c_int, Path, List, List, c_int) -> c_int;
    // SAFETY: the caller keeps C's rules, and libc's function of that name has this type.
    unsafe {
        let next = core::mem::transmute::<usize, Next>(libc_exec::next(EXECVEAT));
        becoming(env, |env| next(dir, path, args, env, flags))
    }
}

/// execve or execveat by number.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn by_number(number: usize, args: [usize; 6]) -> Answer {
    let at = if number == libc::SYS_execve as usize { 2 } else { 3 };
    becoming(args[at] as List, |env| {
        let mut args = args;
        args[at] = env as usize;
        // SAFETY: by the caller's promise; the environment is as good as the caller's.
        unsafe { raw::syscall(number, args) }
    })
}

/// libc's system and popen.
static NEXT_SYSTEM: AtomicUsize = AtomicUsize::new(0);
static NEXT_POPEN: AtomicUsize = AtomicUsize::new(0);

/// Looks both up.
pub(crate) fn find() {
    for (place, name) in [(&NEXT_SYSTEM, c"system"), (&NEXT_POPEN, c"popen")] {
        place.store(super::next(name).map_or(0, |at| at.as_ptr() as usize), Ordering::Relaxed);
    }
}

/// C's system.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn system(command: Path) -> c_int {
    type Next = Option<unsafe extern "C" fn(Path) -> c_int>;
    // SAFETY: null, or libc's function of that name, which has this type; the caller keeps C's rules.
    unsafe {
        match core::mem::transmute::<usize, Next>(NEXT_SYSTEM.load(Ordering::Relaxed)) {
            Some(next) => telling_all(|| next(command)),
            None => raw::to_int(Err(libc::ENOSYS)),
        }
    }
}

/// POSIX's popen.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn popen(command: Path, mode: Path) -> *mut c_void {
    type Next = Option<unsafe extern "C" fn(Path, Path) -> *mut c_void>;
    // SAFETY: null, or libc's function of that name, which has this type; the caller keeps C's rules.
    unsafe {
        match core::mem::transmute::<usize, Next>(NEXT_POPEN.load(Ordering::Relaxed)) {
            Some(next) => telling_all(|| next(command, mode)),
            None => {
                raw::set_errno(libc::ENOSYS);
                ptr::null_mut()
            }
        }
    }
}
