//! Everything that copies the address space: fork, `_Fork`, clone without `CLONE_VM`, and the same by number.
//!
//! All go through one sequence, [`prepare`], the kernel's fork, then [`in_parent`] or [`in_child`]. libc's fork (and
//! daemon, forkpty, which call it inside libc) runs them as its atfork handlers. Registered before any other, ours are
//! the last before the fork and the first after it. vfork, `posix_spawn` and exec share the memory or drop it: nothing
//! is done for them.

use core::cell::Cell;
use core::ffi::{c_int, c_long, c_void};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use quire_linux::sys::futex::Lock;

use super::Next;
use super::threads::ClearedWord;
use crate::malloc::exact;
use crate::raw::{self, Answer};
use crate::{decide, heap, libc_heap, pager_api};

/// Held from [`prepare`] until the end, so that one thread forks at a time.
static TURN: Lock<()> = Lock::new(());
/// The thread that has the turn, as a thread id; 0 if none.
static FORKING: AtomicU32 = AtomicU32::new(0);
/// How deep that thread is in forks: a fork inside a fork is part of the outer one. Only it writes here.
static DEPTH: Nesting = Nesting(Cell::new(0));

struct Nesting(Cell<u32>);
// SAFETY: used by the thread named in FORKING only, which changes hands under TURN.
unsafe impl Sync for Nesting {}

/// Makes our handlers the first of libc's list.
pub(crate) fn register() {
    // SAFETY: the handlers live as long as the process; without a handle they belong to no library that could go.
    unsafe { __register_atfork(Some(prepare), Some(in_parent), Some(in_child), core::ptr::null_mut()) };
}

type Handler = unsafe extern "C" fn();

unsafe extern "C" {
    /// What `pthread_atfork` calls; that one is not in the shared library.
    fn __register_atfork(
        prepare: Option<Handler>,
        parent: Option<Handler>,
        child: Option<Handler>,
        library: *mut c_void,
    ) -> c_int;
}

unsafe extern "C" fn prepare() {
    let me = raw::gettid();
    if FORKING.load(Ordering::Relaxed) != me {
        // Let go in end_turn.
        core::mem::forget(TURN.lock());
        FORKING.store(me, Ordering::Relaxed);
        exact::fork_prepare();
        pager_api::fork_prepare();
    }
    DEPTH.0.set(DEPTH.0.get() + 1);
}

/// Whether this was the outermost fork.
fn leave() -> bool {
    let depth = DEPTH.0.get() - 1;
    DEPTH.0.set(depth);
    depth == 0
}

fn end_turn() {
    FORKING.store(0, Ordering::Relaxed);
    // SAFETY: this thread took the turn in prepare and forgot its guard; in a child it is that thread's copy.
    unsafe { TURN.force_free() };
}

unsafe extern "C" fn in_parent() {
    if leave() {
        pager_api::fork_parent();
        exact::fork_done();
        end_turn();
    }
}

unsafe extern "C" fn in_child() {
    // However deep the parent was, this is a process of its own with one thread.
    DEPTH.0.set(0);
    heap::in_child();
    libc_heap::in_child();
    pager_api::fork_child();
    exact::fork_done();
    end_turn();
}

/// Runs a fork of the kernel's, which answers 0 in the child, between our handlers.
fn around(fork: impl FnOnce() -> Answer) -> Answer {
    // SAFETY: the three belong together, around one fork.
    unsafe {
        prepare();
        let answer = fork();
        if answer == Ok(0) {
            in_child();
        } else {
            in_parent();
        }
        answer
    }
}

/// fork, clone or clone3 by number, without `CLONE_VM`.
///
/// # Safety
///
/// As the call itself, with no stack of its own: the child goes on here, on its copy of this stack.
pub(super) unsafe fn by_number(number: usize, args: [usize; 6]) -> Answer {
    // SAFETY: by the caller's promise.
    around(|| unsafe { raw::syscall(number, args) })
}

static NEXT_FORK: Next = Next::new();
static NEXT_CLONE: Next = Next::new();

/// POSIX's `_Fork`, which runs no handlers but ours.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn _Fork() -> c_int {
    let Some(next) = NEXT_FORK.get(c"_Fork") else {
        raw::set_errno(libc::ENOSYS);
        return -1;
    };
    // SAFETY: libc's function of that name has this type.
    let next = unsafe { core::mem::transmute::<NonNull<c_void>, unsafe extern "C" fn() -> c_int>(next) };
    // SAFETY: the caller keeps the rules of _Fork. libc sets errno, which is left as it is.
    let answer = around(|| match unsafe { next() } {
        -1 => Err(libc::EAGAIN),
        pid => Ok(pid as usize),
    });
    answer.map_or(-1, |pid| pid as c_int)
}

type Main = unsafe extern "C" fn(*mut c_void) -> c_int;
type CloneFn = unsafe extern "C" fn(
    Main,
    *mut c_void,
    c_int,
    *mut c_void,
    *mut c_void,
    *mut c_void,
    *mut c_void,
) -> c_int;

/// Linux's clone, in C with a variable number of arguments, which arrive here as the convention has it.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn clone(
    main: Option<Main>,
    stack: *mut c_void,
    flags: c_int,
    arg: *mut c_void,
    parent_tid: *mut c_void,
    tls: *mut c_void,
    child_tid: *mut c_void,
) -> c_int {
    let (Some(next), Some(main)) = (NEXT_CLONE.get(c"clone"), main) else {
        raw::set_errno(libc::EINVAL);
        return -1;
    };
    // SAFETY: libc's function of that name has this type.
    let next = unsafe { core::mem::transmute::<NonNull<c_void>, CloneFn>(next) };
    if !decide::copies_memory(u64::from(flags as u32)) || stack.is_null() {
        let word = ClearedWord::of(u64::from(flags as u32), child_tid as usize);
        // SAFETY: the caller keeps the rules of clone.
        let tid = unsafe { next(main, stack, flags, arg, parent_tid, tls, child_tid) };
        word.belongs_to(u32::try_from(tid).ok());
        return tid;
    }
    let child = Child { main, arg };
    let child: *const Child = &child;
    // SAFETY: prepare and in_parent belong together; the child, on its copy of all memory, finds `child` where it is
    // here, and runs in_child itself. Its stack is the caller's to use.
    unsafe {
        prepare();
        touch_top(stack);
        let pid = next(run_child, stack, flags, child.cast_mut().cast(), parent_tid, tls, child_tid);
        in_parent();
        pid
    }
}

/// What the child of a clone is to run.
struct Child {
    main: Main,
    arg: *mut c_void,
}

unsafe extern "C" fn run_child(child: *mut c_void) -> c_int {
    // SAFETY: the pointer is the one that clone above gave, and its frame is part of the copy.
    unsafe {
        let Child { main, arg } = *child.cast::<Child>();
        in_child();
        // libc would end this thread only, and with it a process of one thread. Quire's own must not keep it alive.
        libc::_exit(main(arg))
    }
}

/// Bytes at the top of a clone's stack that the child may use before its pager runs.
const EARLY_STACK: usize = 4 * decide::PAGE;

/// Makes the top of the child's stack present. Nothing is evicted after [`prepare`], so it stays.
///
/// # Safety
///
/// `stack` is the end of memory that may be written to.
unsafe fn touch_top(stack: *mut c_void) {
    let top = stack as usize - 1;
    for page in (top.saturating_sub(EARLY_STACK) / decide::PAGE..=top / decide::PAGE).rev() {
        let byte = (page * decide::PAGE) as *mut u8;
        if pager_api::is_managed(byte as usize, 1) {
            // SAFETY: a page of the caller's stack, or one next to it that is managed; read only.
            unsafe { byte.read_volatile() };
        }
    }
}

/// Whether a call by number copies the address space.
///
/// # Safety
///
/// As the call itself: clone3's first argument points to its arguments.
pub(super) unsafe fn is_fork(number: c_long, args: &[usize; 6]) -> bool {
    match number {
        libc::SYS_fork => true,
        libc::SYS_clone => decide::copies_memory(args[0] as u64) && args[1] == 0,
        libc::SYS_clone3 => {
            let flags = args[0] as *const u64;
            // SAFETY: the flags are the first field; the kernel refuses a size below 64.
            !flags.is_null() && args[1] >= 64 && decide::copies_memory(unsafe { flags.read() })
        }
        _ => false,
    }
}
