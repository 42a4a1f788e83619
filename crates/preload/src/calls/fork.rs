//! Everything that copies the address space: libc's fork and clone without `CLONE_VM`, and the same by number.
//!
//! All go through one sequence around the system call itself: [`prepare_for`], the kernel's fork, then [`in_parent`] or
//! [`in_child`]. So it begins when libc has taken its own locks, and the child's first instructions are ours: whatever libc
//! allocated may be moved out meanwhile. Clones with a stack for the child are in [`super::clone`]. vfork, `posix_spawn` and
//! exec share the memory or drop it: for them the caller is only excused from the handler's processor, as everywhere here.
//! What comes to pass without us, by a system call in assembly, the pager hears of from the kernel where that is allowed.

use core::arch::naked_asm;
use core::ffi::{c_int, c_long};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use quire_linux::pager::sleep;
use quire_linux::sys::futex;
use quire_linux::sys::sched::SignalsBlocked;
use quire_linux::sys::wiped::Wiped;

use crate::raw::{self, Answer};
use crate::{heap, pager_api};

/// Who forks. Another thread may be doing it while a child is made behind our back: the child finds nobody.
static TURN: Wiped = Wiped::new();

/// Held from [`prepare_for`] until the end, so that one thread forks at a time.
fn turn() -> &'static AtomicU32 {
    TURN.half(0)
}

/// What was blocked in that thread before. A handler that ran between [`prepare_for`] and the end could make a call, or wait
/// for a lock, and nobody is there to answer it.
static BLOCKED_BEFORE: AtomicU64 = AtomicU64::new(0);

/// The process that forks sleeps.
static ASLEEP: AtomicBool = AtomicBool::new(false);

/// Makes ready for forks.
pub(crate) fn make_ready() {
    // Without a page of its own a child that is made behind our back, while a thread forks, can't fork itself.
    let _ = TURN.make();
}

/// Before a clone with these flags, of which the lower 32 bits count. Called from assembly too.
pub(super) unsafe extern "C" fn prepare_for(flags: u64) {
    pager_api::excuse_caller().keep();
    let blocked = SignalsBlocked::new();
    futex::take_word(turn());
    BLOCKED_BEFORE.store(blocked.keep(), Ordering::Relaxed);
    if let Some(held) = sleep::hold() {
        // Its child sleeps too, and nothing has to come to rest.
        sleep::hold_for_fork(held);
        heap::hold();
        ASLEEP.store(true, Ordering::Relaxed);
        return;
    }
    pager_api::fork_prepare(flags & libc::CLONE_VFORK as u64 != 0);
}

/// By the thread that took the turn, or in a child, by that thread's copy.
fn end_turn() {
    let before = BLOCKED_BEFORE.load(Ordering::Relaxed);
    futex::free_word(turn());
    SignalsBlocked::unblock(before);
}

pub(super) unsafe extern "C" fn in_parent() {
    if ASLEEP.swap(false, Ordering::Relaxed) {
        heap::let_go();
        sleep::in_parent();
        end_turn();
        pager_api::end_excuse();
        return;
    }
    pager_api::fork_parent();
    end_turn();
    pager_api::end_excuse();
}

pub(super) unsafe extern "C" fn in_child() {
    if ASLEEP.swap(false, Ordering::Relaxed) {
        heap::forget_holder();
        sleep::in_child();
        end_turn();
        return;
    }
    if pager_api::is_announced() {
        heap::in_child();
    }
    pager_api::fork_child();
    end_turn();
}

/// Runs a fork of the kernel's, which answers 0 in the child, between our handlers.
fn around(flags: u64, fork: impl FnOnce() -> Answer) -> Answer {
    // SAFETY: the three belong together, around one fork.
    unsafe {
        prepare_for(flags);
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
    let flags = unsafe { flags_of(number as c_long, &args) };
    // SAFETY: the same.
    around(flags.unwrap_or(0), || unsafe { raw::syscall(number, args) })
}

/// The flags of a fork, clone or clone3 by number that names no stack; `None` for any other call.
///
/// # Safety
///
/// As the call itself: clone3's first argument points to its arguments.
pub(super) unsafe fn flags_of(number: c_long, args: &[usize; 6]) -> Option<u64> {
    match number {
        libc::SYS_fork => Some(0),
        libc::SYS_clone => Some(args[0] as u64),
        libc::SYS_clone3 => {
            let flags = args[0] as *const u64;
            // SAFETY: the flags are the first field; the kernel refuses a size below 64.
            (!flags.is_null() && args[1] >= 64).then(|| unsafe { flags.read() })
        }
        _ => None,
    }
}

/// POSIX's vfork. Its child has its parent's memory and needs nothing of us, but it inherits what its parent may run on.
/// It returns from here on its parent's stack, and spoils what lies there: the parent's address is kept in a register.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn vfork() -> c_int {
    naked_asm!(
        "endbr64",
        "sub rsp, 8",
        "call {before}",
        "add rsp, 8",
        "pop rdi",
        "mov eax, {vfork}",
        "syscall",
        "push rdi",
        "test rax, rax",
        "jz 2f",
        "mov rdi, rax",
        "jmp {after}",
        "2:",
        "ret",
        before = sym before_vfork,
        after = sym after_vfork,
        vfork = const libc::SYS_vfork,
    )
}

/// glibc's other name for vfork.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn __vfork() -> c_int {
    naked_asm!("endbr64", "jmp {vfork}", vfork = sym vfork)
}

extern "C" fn before_vfork() {
    pager_api::excuse_caller().keep();
}

/// In the parent, with the kernel's answer. What it returns is vfork's.
extern "C" fn after_vfork(answer: isize) -> c_int {
    pager_api::end_excuse();
    raw::to_int(if answer < 0 { Err(-answer as i32) } else { Ok(answer as usize) })
}
