//! What a program's handler of SIGSEGV is told.
//!
//! To the kernel the whole arena is mapped, without rights where nothing of the program's is. So a touch of nothing is
//! SEGV_ACCERR to it, where it would be SEGV_MAPERR for kernel memory. In front of a handler that wants to know such things
//! (`SA_SIGINFO`) stands a trampoline which corrects that and jumps to the handler. All else (mask, alternate stack, flags)
//! stays with the kernel; and whoever asks for the action is told of the program's own handler.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};
use core::mem::{self, MaybeUninit};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use quire_linux::pager::sleep;

use super::{Next, arena, look};
use crate::pager_api;
use crate::raw::{self, Answer};

const MOST_HANDLERS: usize = 8;
/// The handlers that have had a trampoline. Entries are taken and never given back: a handler that runs on another
/// thread, or is asked for by a child of vfork, finds what it needs, and there is nothing to lock.
static HANDLERS: [AtomicUsize; MOST_HANDLERS] = [const { AtomicUsize::new(0) }; MOST_HANDLERS];
static TRAMPOLINES: [extern "C" fn(); MOST_HANDLERS] = [
    trampoline::<0>,
    trampoline::<1>,
    trampoline::<2>,
    trampoline::<3>,
    trampoline::<4>,
    trampoline::<5>,
    trampoline::<6>,
    trampoline::<7>,
];

/// Corrects what the handler is told, and goes on as that handler: it finds its arguments and its stack as the kernel laid
/// them out.
#[unsafe(naked)]
extern "C" fn trampoline<const NUMBER: usize>() {
    naked_asm!(
        // The three pushes align the stack for the call.
        "push rdi",
        "push rsi",
        "push rdx",
        "call {correct}",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "jmp qword ptr [rip + {handlers} + 8 * {number}]",
        correct = sym correct,
        handlers = sym HANDLERS,
        number = const NUMBER,
    )
}

const SEGV_MAPERR: c_int = 1;
const SEGV_ACCERR: c_int = 2;

/// # Safety
///
/// `info` is what the kernel gave a handler.
unsafe extern "C" fn correct(_signal: c_int, info: *mut libc::siginfo_t) {
    // SAFETY: the kernel wrote it for this handler alone; the address is there for every code above 0.
    unsafe {
        if (*info).si_code == SEGV_ACCERR {
            let addr = (*info).si_addr() as usize;
            if sleep::planned_arena().contains(&addr) {
                // What is free there is mapped without rights while it wakes.
                sleep::wait_while_waking();
            }
            // Signals may come on a stack that is managed, so it is the pager's affair who looks.
            if pager_api::is_managed(addr, 1) && look::is_gap(addr) {
                (*info).si_code = SEGV_MAPERR;
            }
        }
    }
}

/// The trampoline in front of `handler`, or itself where there is none for it.
fn in_front_of(handler: usize) -> usize {
    if own_handler(handler) != handler {
        return handler;
    }
    for (entry, trampoline) in HANDLERS.iter().zip(TRAMPOLINES) {
        let known = entry.compare_exchange(0, handler, Ordering::AcqRel, Ordering::Acquire);
        if known.is_ok() || known == Err(handler) {
            return trampoline as usize;
        }
    }
    handler
}

/// The program's own handler, where `handler` may be a trampoline.
fn own_handler(handler: usize) -> usize {
    let number = TRAMPOLINES.iter().position(|&trampoline| trampoline as usize == handler);
    number.map_or(handler, |number| HANDLERS[number].load(Ordering::Acquire))
}

fn needs_trampoline(signal: c_int, handler: usize, flags: c_int) -> bool {
    let acts = handler != libc::SIG_DFL && handler != libc::SIG_IGN;
    signal == libc::SIGSEGV
        && flags & libc::SA_SIGINFO != 0
        && acts
        && (!arena().is_empty() || sleep::is_asleep())
}

type Sigaction = unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
type Signal = unsafe extern "C" fn(c_int, usize) -> usize;

static NEXT_SIGACTION: Next = Next::new();

/// Looks libc's function up, since sigaction may be called where a look-up must not be.
pub(crate) fn find() {
    let _ = NEXT_SIGACTION.get(c"sigaction");
}

/// # Safety
///
/// As sigaction.
unsafe fn act(signal: c_int, action: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    let Some(next) = NEXT_SIGACTION.get(c"sigaction") else {
        raw::set_errno(libc::ENOSYS);
        return -1;
    };
    // SAFETY: libc's function of that name has this type. It reads and writes the actions as this does.
    unsafe {
        let next = mem::transmute::<NonNull<c_void>, Sigaction>(next);
        if signal != libc::SIGSEGV {
            return next(signal, action, old);
        }
        let mut changed = MaybeUninit::uninit();
        let mut given = action;
        if !action.is_null() && needs_trampoline(signal, (*action).sa_sigaction, (*action).sa_flags) {
            let changed = changed.write(*action);
            changed.sa_sigaction = in_front_of(changed.sa_sigaction);
            given = changed;
        }
        let answer = next(signal, given, old);
        if answer == 0 && !old.is_null() {
            (*old).sa_sigaction = own_handler((*old).sa_sigaction);
        }
        answer
    }
}

/// The kernel's own form of an action.
#[repr(C)]
#[derive(Clone, Copy)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// `rt_sigaction` by number.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn act_by_number(args: [usize; 6]) -> Answer {
    let [signal, action, old, size, ..] = args;
    // SAFETY: by the caller's promise. The kernel has found both actions to be where they are said to be before they are
    // used here.
    unsafe {
        let answer = raw::call!(libc::SYS_rt_sigaction, signal, action, old, size)?;
        let (action, old) = (action as *const KernelAction, old as *mut KernelAction);
        if signal != libc::SIGSEGV as usize {
            return Ok(answer);
        }
        if !old.is_null() {
            (*old).handler = own_handler((*old).handler);
        }
        if !action.is_null() && needs_trampoline(libc::SIGSEGV, (*action).handler, (*action).flags as c_int) {
            let changed = KernelAction { handler: in_front_of((*action).handler), ..*action };
            raw::call!(libc::SYS_rt_sigaction, signal, &raw const changed, 0usize, size)?;
        }
        Ok(answer)
    }
}

/// POSIX's sigaction.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller keeps sigaction's rules.
    unsafe { act(signal, action, old) }
}

/// The same under glibc's other name.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller keeps sigaction's rules.
    unsafe { act(signal, action, old) }
}

/// Functions that set handlers without `SA_SIGINFO`, which need no trampoline, and answer the one before.
macro_rules! like_signal {
    ($($name:ident, $text:literal;)*) => {$(
        #[doc = concat!("glibc's ", stringify!($name), ".")]
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(signal: c_int, handler: usize) -> usize {
            static NEXT: Next = Next::new();
            let Some(next) = NEXT.get($text) else {
                raw::set_errno(libc::ENOSYS);
                return libc::SIG_ERR;
            };
            // SAFETY: libc's function of that name has this type, and the caller keeps its rules.
            own_handler(unsafe { mem::transmute::<NonNull<c_void>, Signal>(next)(signal, handler) })
        }
    )*};
}

like_signal! {
    signal, c"signal";
    bsd_signal, c"bsd_signal";
    ssignal, c"ssignal";
    sysv_signal, c"sysv_signal";
    __sysv_signal, c"__sysv_signal";
    sigset, c"sigset";
}
