//! Everything that copies the address space: fork, `_Fork`, clone without `CLONE_VM`, and the same by number.
//!
//! All go through one sequence, [`prepare`], the kernel's fork, then [`in_parent`] or [`in_child`]. libc's fork (and
//! daemon, forkpty, which call it inside libc) runs them as its atfork handlers. Registered before any other, ours are
//! the last before the fork and the first after it. vfork, `posix_spawn` and exec share the memory or drop it: nothing
//! is done for them. What comes to pass without us, by a system call in assembly or by another libc, the pager hears of
//! from the kernel where that is allowed.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_long, c_void};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use quire_linux::sys::futex;
use quire_linux::sys::wiped::Wiped;

use super::Next;
use super::threads::ClearedWord;
use crate::malloc::exact;
use crate::raw::{self, Answer};
use crate::{decide, heap, libc_heap, pager_api};

/// Who forks. Another thread may be doing it while a child is made behind our back: the child finds nobody.
static TURN: Wiped = Wiped::new();

/// Held from [`prepare`] until the end, so that one thread forks at a time.
fn turn() -> &'static AtomicU32 {
    TURN.half(0)
}

/// The thread that has the turn, as a thread id; 0 if none.
fn forking() -> &'static AtomicU32 {
    TURN.half(1)
}

/// How deep that thread is in forks: a fork inside a fork is part of the outer one. Only it writes here.
fn depth() -> &'static AtomicU32 {
    TURN.half(2)
}

/// Makes our handlers the first of libc's list.
pub(crate) fn register() {
    // Without a page of its own a child that is made behind our back, while a thread forks, can't fork itself.
    let _ = TURN.make();
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
    // SAFETY: flags that say nothing.
    unsafe { prepare_for(0) };
}

/// Before a clone with these flags, of which the lower 32 bits count. Called from assembly too.
unsafe extern "C" fn prepare_for(flags: u64) {
    let me = raw::gettid();
    if forking().load(Ordering::Relaxed) != me {
        futex::take_word(turn());
        forking().store(me, Ordering::Relaxed);
        exact::fork_prepare();
        pager_api::fork_prepare(flags & libc::CLONE_VFORK as u64 != 0);
    }
    depth().store(depth().load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Whether this was the outermost fork.
fn leave() -> bool {
    let left = depth().load(Ordering::Relaxed) - 1;
    depth().store(left, Ordering::Relaxed);
    left == 0
}

/// By the thread that took the turn, or in a child, by that thread's copy.
fn end_turn() {
    forking().store(0, Ordering::Relaxed);
    futex::free_word(turn());
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
    depth().store(0, Ordering::Relaxed);
    if pager_api::is_announced() {
        heap::in_child();
    }
    libc_heap::in_child();
    pager_api::fork_child();
    exact::fork_done();
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
    let answer = around(0, || match unsafe { next() } {
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
    // here, and runs in_child itself. Its stack is the caller's to use; what libc puts on it stays present.
    unsafe {
        prepare_for(u64::from(flags as u32));
        let pid = next(begin_child, stack, flags, child.cast_mut().cast(), parent_tid, tls, child_tid);
        in_parent();
        pid
    }
}

/// glibc's other name for clone.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn __clone(
    main: Option<Main>,
    stack: *mut c_void,
    flags: c_int,
    arg: *mut c_void,
    parent_tid: *mut c_void,
    tls: *mut c_void,
    child_tid: *mut c_void,
) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { clone(main, stack, flags, arg, parent_tid, tls, child_tid) }
}

/// What the child of a clone is to run.
struct Child {
    main: Main,
    arg: *mut c_void,
}

/// Where a child on a stack of its own runs [`in_child`]: that stack may be small, and what of it is not present reads as
/// zeroes until the child has a pager.
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK]>);
const STACK: usize = 64 << 10;
// SAFETY: only a child uses it, before it can have a second thread.
unsafe impl Sync for Stack {}
static STACK_OF_CHILD: Stack = Stack(UnsafeCell::new([0; STACK]));

/// The first function of a clone's child. It uses of its stack only what libc used before the kernel's clone.
#[unsafe(naked)]
unsafe extern "C" fn begin_child(child: *mut c_void) -> c_int {
    naked_asm!(
        "mov r12, rdi",
        "mov r13, rsp",
        "lea rsp, [rip + {stack} + {size}]",
        "call {in_child}",
        "mov rsp, r13",
        "mov rdi, r12",
        "jmp {run}",
        stack = sym STACK_OF_CHILD,
        size = const STACK,
        in_child = sym in_child,
        run = sym run_child,
    )
}

unsafe extern "C" fn run_child(child: *mut c_void) -> c_int {
    // SAFETY: the pointer is the one that clone above gave, and its frame is part of the copy. libc would end this thread
    // only, and with it a process of one thread: Quire's own must not keep it alive.
    unsafe {
        let Child { main, arg } = *child.cast::<Child>();
        libc::_exit(main(arg))
    }
}

/// `syscall()` for a clone whose child gets a stack of its own: it goes on from there as from libc's function of that name,
/// by returning to the address that lies on it.
///
/// # Safety
///
/// As the call itself.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn clone_by_number(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    naked_asm!(
        // The flags are the first argument of clone, and the first word of clone3's.
        "mov rax, rsi",
        "cmp rdi, {clone3}",
        "jne 2f",
        "mov rax, [rsi]",
        "2:",
        "test eax, {clone_vm}",
        "jnz 3f",
        "push r9",
        "push r8",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "sub rsp, 8",
        "mov rdi, rax",
        "call {prepare}",
        "add rsp, 8",
        "pop rax",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop r10",
        "pop r8",
        "mov r9, [rsp + 8]",
        "syscall",
        "test rax, rax",
        "jz 5f",
        "push rax",
        "call {in_parent}",
        "pop rax",
        "jmp 4f",
        // A thread, or a child that borrows the memory.
        "3:",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "4:",
        "cmp rax, -4095",
        "jae 6f",
        "ret",
        // The child with a copy. Nothing of its own stack is touched before it has a pager.
        "5:",
        "mov [rip + {rsp}], rsp",
        "lea rsp, [rip + {stack} + {size}]",
        "call {in_child}",
        "mov rsp, [rip + {rsp}]",
        "xor eax, eax",
        "ret",
        "6:",
        "neg eax",
        "mov edi, eax",
        "push rax",
        "call {set_errno}",
        "pop rcx",
        "mov rax, -1",
        "ret",
        clone3 = const libc::SYS_clone3,
        clone_vm = const libc::CLONE_VM,
        prepare = sym prepare_for,
        in_parent = sym in_parent,
        in_child = sym in_child,
        set_errno = sym set_errno,
        stack = sym STACK_OF_CHILD,
        size = const STACK,
        rsp = sym RSP_OF_CHILD,
    )
}

/// Where the child's stack pointer is while it runs on [`STACK_OF_CHILD`].
static RSP_OF_CHILD: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn set_errno(errno: c_int) {
    raw::set_errno(errno);
}

/// The flags of a fork, clone or clone3 by number that names no stack; `None` for any other call.
///
/// # Safety
///
/// As the call itself: clone3's first argument points to its arguments.
unsafe fn flags_of(number: c_long, args: &[usize; 6]) -> Option<u64> {
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

/// Whether a call by number copies the address space. Those with a stack of their own are [`clone_by_number`]'s.
///
/// # Safety
///
/// As the call itself: clone3's first argument points to its arguments.
pub(super) unsafe fn is_fork(number: c_long, args: &[usize; 6]) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { flags_of(number, args) }.is_some_and(decide::copies_memory)
}
