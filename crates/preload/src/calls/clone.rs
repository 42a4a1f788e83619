//! clone without `CLONE_VM`, by its names in libc and by number, with a stack of its own or without.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_long, c_void};
use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;

use super::Next;
use super::fork::{flags_of, in_child, in_parent, prepare_for};
use super::threads::{self, ClearedWord};
use crate::{decide, pager_api, raw};

static NEXT_CLONE: Next = Next::new();

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
        let _excused = pager_api::excuse_caller();
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
        "push r9",
        "push r8",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "sub rsp, 8",
        "call {before}",
        "mov [rsp], rax",
        "mov rax, [rsp + 8]",
        "mov rdi, [rsp + 16]",
        "mov rsi, [rsp + 24]",
        "mov rdx, [rsp + 32]",
        "mov r10, [rsp + 40]",
        "mov r8, [rsp + 48]",
        "mov r9, [rsp + 64]",
        "cmp qword ptr [rsp], {copies}",
        "je 3f",
        // A thread, or a child that borrows the memory.
        "syscall",
        "test rax, rax",
        "jnz 4f",
        "ret",
        "3:",
        "syscall",
        "test rax, rax",
        "jz 5f",
        "4:",
        "mov rdi, rax",
        "mov rsi, [rsp]",
        "mov [rsp], rax",
        "call {after}",
        "pop rax",
        "add rsp, 48",
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
        copies = const COPIES,
        before = sym before,
        after = sym after,
        in_child = sym in_child,
        set_errno = sym set_errno,
        stack = sym STACK_OF_CHILD,
        size = const STACK,
        rsp = sym RSP_OF_CHILD,
    )
}

/// In place of the address of a word that is cleared at a thread's end, which it never is: a child with a copy is made.
const COPIES: usize = 1;

/// Before such a clone: [`COPIES`], or the word that the kernel clears at the thread's end, 0 if none.
///
/// # Safety
///
/// As the call itself.
unsafe extern "C" fn before(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> usize {
    let args = [a, b, c, d, e, 0];
    // SAFETY: by the caller's promise.
    let flags = unsafe { flags_of(number, &args) }.unwrap_or(0);
    if decide::copies_memory(flags) {
        // SAFETY: `in_parent` or `in_child` follows.
        unsafe { prepare_for(flags) };
        return COPIES;
    }
    pager_api::excuse_caller().keep();
    // SAFETY: by the caller's promise.
    unsafe { threads::word_of(number, &args) }.addr()
}

/// After it, in the parent, with what [`before`] gave.
unsafe extern "C" fn after(answer: isize, word: usize) {
    if word == COPIES {
        // SAFETY: `prepare_for` came before.
        unsafe { in_parent() };
    } else {
        pager_api::end_excuse();
        ClearedWord::at(word).belongs_to(u32::try_from(answer).ok());
    }
}

/// Where the child's stack pointer is while it runs on [`STACK_OF_CHILD`].
static RSP_OF_CHILD: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn set_errno(errno: c_int) {
    raw::set_errno(errno);
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
