//! What the kernel touches when a thread dies, or where it can't wait for a page, is kept present.
//!
//! A dying thread can't wait for the pager. So the pager is told where such objects lie in managed memory:
//!
//! * mutexes of pthreads that are robust, from init to destroy: the kernel walks them as a list. Those with priority
//!   inheritance too: the kernel writes their words where it can't wait, and says EFAULT otherwise;
//! * the descriptor of a pthread, where it lies on a stack that the program made (libc's own stacks are the kernel's);
//! * words that threads of the program's own making give to clone, `set_tid_address`, `set_robust_list` and rseq.

use core::ffi::{CStr, c_int, c_long, c_uint, c_void};
use core::mem::transmute;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use quire_linux::pager::sleep;
use quire_linux::sys::sched::SignalsBlocked;

use super::Next;
use super::fork::flags_of;
use crate::pager_api::{self, Call};
use crate::raw::{self, Answer};

/// A robust list was registered by number: libc's own is made of mutexes that are known from their init.
static OWN_LISTS: AtomicBool = AtomicBool::new(false);

/// The program has made a thread, which may have ended since.
static HAS_MADE: AtomicBool = AtomicBool::new(false);

/// Whether the program has had one thread only.
pub(super) fn is_single() -> bool {
    !HAS_MADE.load(Ordering::Relaxed)
}

/// A clone with these flags is about to be made.
pub(super) fn note_clone(flags: u64) {
    if flags & libc::CLONE_THREAD as u64 != 0 {
        HAS_MADE.store(true, Ordering::Relaxed);
    }
}

/// Keeps an object if it is managed, until its owner's end where it has one. Memory that can't be had for the mark is no
/// reason to refuse the program's call.
pub(super) fn keep(addr: usize, len: usize, owner: u32) {
    if is_planned(addr) && sleep::keep(addr, len, owner) {
        return;
    }
    if pager_api::is_managed(addr, len) {
        let _ = pager_api::call(Call::Keep { addr, len, owner });
    }
}

/// Whether it may be managed once the process wakes.
fn is_planned(addr: usize) -> bool {
    sleep::planned_arena().contains(&addr)
}

fn let_go(addr: usize, len: usize) {
    if is_planned(addr) && sleep::forget(addr, len) {
        return;
    }
    if pager_api::is_managed(addr, len) {
        let _ = pager_api::call(Call::LetGo { addr, len });
    }
}

/// The word that the kernel clears when the thread of a clone ends, which that has not made yet.
#[derive(Debug)]
pub(super) struct ClearedWord(usize);

impl ClearedWord {
    /// By the clone's flags.
    pub(super) fn of(flags: u64, child_tid: usize) -> ClearedWord {
        const CLEARS: u64 = (libc::CLONE_CHILD_CLEARTID | libc::CLONE_CHILD_SETTID) as u64;
        let word = if flags & CLEARS != 0 { child_tid } else { 0 };
        keep(word, size_of::<c_int>(), 0);
        ClearedWord(word)
    }

    /// One that was made before.
    pub(super) const fn at(addr: usize) -> ClearedWord {
        ClearedWord(addr)
    }

    /// Where it is; 0 if there is none.
    pub(super) const fn addr(&self) -> usize {
        self.0
    }

    /// The clone has been made, or refused.
    pub(super) fn belongs_to(self, tid: Option<u32>) {
        match tid {
            Some(tid) => keep(self.0, size_of::<c_int>(), tid),
            None => let_go(self.0, size_of::<c_int>()),
        }
    }
}

/// That of clone or clone3 by number, of a thread that shares its memory.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn word_of(number: c_long, args: &[usize; 6]) -> ClearedWord {
    if number == libc::SYS_clone {
        return ClearedWord::of(args[0] as u64, args[3]);
    }
    if args[0] == 0 || args[1] < 64 {
        return ClearedWord(0);
    }
    // SAFETY: by the caller's promise this points to the arguments, of which flags and child_tid are the first and third.
    let fields = |at: usize| unsafe { (args[0] as *const u64).add(at).read() };
    ClearedWord::of(fields(0), fields(2) as usize)
}

/// clone or clone3 by number, of a thread that shares its memory and has no stack of its own.
///
/// # Safety
///
/// As the call itself.
pub(super) unsafe fn clone_by_number(number: usize, args: [usize; 6]) -> Answer {
    // SAFETY: by the caller's promise.
    let word = unsafe { word_of(number as c_long, &args) };
    // SAFETY: the same.
    note_clone(unsafe { flags_of(number as c_long, &args) }.unwrap_or(0));
    pager_api::excuse_caller().keep();
    // SAFETY: the same.
    let answer = unsafe { raw::syscall(number, args) };
    if answer != Ok(0) {
        pager_api::end_excuse();
        word.belongs_to(answer.ok().map(|tid| tid as u32));
    }
    answer
}

/// `set_tid_address`, which answers the thread's id.
pub(super) fn set_tid_address(word: usize) -> Answer {
    keep(word, size_of::<c_int>(), raw::gettid());
    // SAFETY: the kernel only stores the address, and finds out at the thread's end whether it is good.
    unsafe { raw::call!(libc::SYS_set_tid_address, word) }
}

/// `set_robust_list`: the list's head. What is on it is looked at in [`before_exit`].
pub(super) fn set_robust_list(head: usize, len: usize) -> Answer {
    keep(head, len.min(size_of::<RobustHead>()), raw::gettid());
    OWN_LISTS.store(true, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { raw::call!(libc::SYS_set_robust_list, head, len) }
}

/// rseq: the area that a thread registers.
pub(super) fn rseq(area: usize, len: usize, flags: usize, signature: usize) -> Answer {
    keep(area, len.min(4096), raw::gettid());
    // SAFETY: as above, and its alignment and size are checked there.
    unsafe { raw::call!(libc::SYS_rseq, area, len, flags, signature) }
}

/// As the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RobustHead {
    next: usize,
    /// From an entry to its futex, in bytes.
    offset: isize,
    pending: usize,
}

/// As many entries as the kernel looks at.
const MOST_ENTRIES: u32 = 2048;

/// The calling thread may make next to no calls any longer.
static IS_STRICT: AtomicBool = AtomicBool::new(false);

/// Calls are about to be restricted to a few, of this thread.
pub(super) fn note_strict() {
    IS_STRICT.store(true, Ordering::Relaxed);
}

/// The calling thread is about to end by number: what the kernel will walk is kept, if it is a list of the program's own.
pub(super) fn before_exit(status: usize) {
    pager_api::leaves(status as c_int, IS_STRICT.load(Ordering::Relaxed));
    if !OWN_LISTS.load(Ordering::Relaxed) {
        return;
    }
    let (mut list, mut len) = (0usize, 0usize);
    // SAFETY: both places are good.
    let asked = unsafe {
        raw::call!(libc::SYS_get_robust_list, 0usize, (&raw mut list).addr(), (&raw mut len).addr())
    };
    let Some(head) = asked.ok().filter(|_| list != 0).and_then(|_| peek::<RobustHead>(list)) else { return };
    let keep_entry = |entry: usize| {
        keep(entry, size_of::<usize>(), 0);
        keep(entry.wrapping_add_signed(head.offset), size_of::<c_uint>(), 0);
    };
    if head.pending != 0 {
        keep_entry(head.pending & !1);
    }
    let mut entry = head.next & !1;
    for _ in 0..MOST_ENTRIES {
        if entry == list {
            return;
        }
        keep_entry(entry);
        let Some(next) = peek::<usize>(entry) else { return };
        entry = next & !1;
    }
}

/// What is at an address, which may be a bad one, as with the kernel.
pub(super) fn peek<T: Copy + Default>(addr: usize) -> Option<T> {
    let mut value = T::default();
    // SAFETY: `value` is good for so many bytes of any kind.
    unsafe { peek_into(addr, (&raw mut value).cast(), size_of::<T>()) }.then_some(value)
}

/// Copies `len` bytes from an address that may be a bad one. Whether all could be read.
///
/// # Safety
///
/// `into` is good for so many bytes of any kind, which nobody else uses.
pub(super) unsafe fn peek_into(addr: usize, into: *mut u8, len: usize) -> bool {
    let to = libc::iovec { iov_base: into.cast(), iov_len: len };
    let from = libc::iovec { iov_base: addr as *mut c_void, iov_len: len };
    // SAFETY: by the caller's promise; the kernel finds out what is at `addr`.
    let read = unsafe {
        raw::call!(
            libc::SYS_process_vm_readv,
            raw::getpid(),
            (&raw const to).addr(),
            1usize,
            (&raw const from).addr(),
            1usize,
            0usize
        )
    };
    read == Ok(len)
}

/// Futexes by number. The kernel writes the words of some where it can't wait for a page.
///
/// # Safety
///
/// As futex.
pub(super) unsafe fn futex(args: [usize; 6]) -> Answer {
    let [word, operation, _, _, second, _] = args;
    let len = size_of::<c_uint>();
    match operation as c_int & libc::FUTEX_CMD_MASK {
        libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 | libc::FUTEX_TRYLOCK_PI | libc::FUTEX_UNLOCK_PI => {
            keep(word, len, 0);
        }
        libc::FUTEX_WAIT_REQUEUE_PI | libc::FUTEX_CMP_REQUEUE_PI => keep(second, len, 0),
        libc::FUTEX_WAKE_OP => keep(second, len, 0),
        _ => {}
    }
    // SAFETY: by the caller's promise.
    unsafe { raw::forward(libc::SYS_futex as usize, args) }
}

type Mutex = *mut libc::pthread_mutex_t;
type MutexAttr = *const libc::pthread_mutexattr_t;
type MutexInit = unsafe extern "C" fn(Mutex, MutexAttr) -> c_int;
type MutexDestroy = unsafe extern "C" fn(Mutex) -> c_int;
type Start = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Option<Start>,
    *mut c_void,
) -> c_int;

type C11Start = unsafe extern "C" fn(*mut c_void) -> c_int;
type C11Create = unsafe extern "C" fn(*mut libc::pthread_t, Option<C11Start>, *mut c_void) -> c_int;

static NEXT_MUTEX_INIT: Next = Next::new();
static NEXT_MUTEX_DESTROY: Next = Next::new();
static NEXT_CREATE: Next = Next::new();
static NEXT_THRD_CREATE: Next = Next::new();

/// In glibc's `threads.h`.
const THRD_ERROR: c_int = 2;

/// glibc's `__data.__kind` of a mutex: where it is, and its bits for robust and for priority inheritance.
const KIND_AT: usize = 16;
const ROBUST_OR_PI: c_int = 16 | 32;

fn is_robust_or_pi(mutex: Mutex) -> bool {
    let managed = is_planned(mutex as usize)
        || pager_api::is_managed(mutex as usize, size_of::<libc::pthread_mutex_t>());
    // SAFETY: the caller's mutex is initialised, and aligned.
    managed && unsafe { mutex.byte_add(KIND_AT).cast::<c_int>().read() } & ROBUST_OR_PI != 0
}

/// POSIX's.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_init(mutex: Mutex, attributes: MutexAttr) -> c_int {
    let Some(next) = NEXT_MUTEX_INIT.get(c"pthread_mutex_init") else { return libc::ENOSYS };
    // SAFETY: libc's function of that name has this type, and the caller keeps its rules.
    let answer = unsafe { transmute::<NonNull<c_void>, MutexInit>(next)(mutex, attributes) };
    // Without attributes it is neither robust nor has it priority inheritance.
    if answer == 0 && !attributes.is_null() && is_robust_or_pi(mutex) {
        keep(mutex as usize, size_of::<libc::pthread_mutex_t>(), 0);
    }
    answer
}

/// POSIX's.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_mutex_destroy(mutex: Mutex) -> c_int {
    let Some(next) = NEXT_MUTEX_DESTROY.get(c"pthread_mutex_destroy") else { return libc::ENOSYS };
    let marked = is_robust_or_pi(mutex);
    // SAFETY: libc's function of that name has this type, and the caller keeps its rules.
    let answer = unsafe { transmute::<NonNull<c_void>, MutexDestroy>(next)(mutex) };
    if answer == 0 && marked {
        let_go(mutex as usize, size_of::<libc::pthread_mutex_t>());
    }
    answer
}

/// POSIX's. A thread whose stack is managed keeps its descriptor, which libc puts at the top of the stack.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Option<Start>,
    argument: *mut c_void,
) -> c_int {
    let Some(next) = NEXT_CREATE.get(c"pthread_create") else { return libc::ENOSYS };
    let _excused = pager_api::excuse_caller();
    // SAFETY: libc's function of that name has this type.
    let next = unsafe { transmute::<NonNull<c_void>, Create>(next) };
    // SAFETY: the caller keeps the rules of pthread_create.
    let (Some(main), Some(stack_end)) = (start, unsafe { managed_stack(attributes) }) else {
        // SAFETY: the same.
        return unsafe { next(thread, attributes, start, argument) };
    };
    let task = Task { main, argument, stack_end }.keep();
    // SAFETY: the same; the new thread takes the task over, and where there is none it is still ours.
    unsafe {
        let answer = next(thread, attributes, Some(run_task), task.cast());
        if answer != 0 {
            Task::take(task);
        }
        answer
    }
}

/// C11's.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn thrd_create(
    thread: *mut libc::pthread_t,
    start: Option<C11Start>,
    argument: *mut c_void,
) -> c_int {
    let Some(next) = NEXT_THRD_CREATE.get(c"thrd_create") else { return THRD_ERROR };
    let _excused = pager_api::excuse_caller();
    // SAFETY: libc's function of that name has this type, and the caller keeps its rules.
    unsafe { transmute::<NonNull<c_void>, C11Create>(next)(thread, start, argument) }
}

/// The end of the stack that these attributes name, if it is managed.
///
/// # Safety
///
/// They are null or initialised.
unsafe fn managed_stack(attributes: *const libc::pthread_attr_t) -> Option<usize> {
    if attributes.is_null() {
        return None;
    }
    let (mut stack, mut len) = (ptr::null_mut::<c_void>(), 0);
    // SAFETY: by the caller's promise; both places are good.
    if unsafe { libc::pthread_attr_getstack(attributes, &mut stack, &mut len) } != 0 {
        return None;
    }
    // Without a stack of its own there is none at address 0, whose end would be the length.
    let end = (stack as usize).wrapping_add(len);
    (end != 0 && (is_planned(end - 1) || pager_api::is_managed(end - 1, 1))).then_some(end)
}

/// What a thread on a managed stack is to run.
struct Task {
    main: Start,
    argument: *mut c_void,
    stack_end: usize,
}

// A handler of the program's that ran while Quire's heap is locked could make a call, whose answer needs that heap.
impl Task {
    fn keep(self) -> *mut Task {
        let _blocked = SignalsBlocked::new();
        Box::into_raw(Box::new(self))
    }

    /// # Safety
    ///
    /// What [`Task::keep`] gave, once.
    unsafe fn take(kept: *mut Task) -> Task {
        let _blocked = SignalsBlocked::new();
        // SAFETY: by the caller's promise.
        *unsafe { Box::from_raw(kept) }
    }
}

/// In two registers, as C returns it.
#[repr(C)]
struct Begin {
    main: Start,
    argument: *mut c_void,
}

/// The thread's first function. It leaves no frame behind: whoever unwinds the stack finds it as it would be without.
#[unsafe(naked)]
unsafe extern "C" fn run_task(task: *mut c_void) -> *mut c_void {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {begin}",
        "add rsp, 8",
        "mov rdi, rdx",
        "jmp rax",
        begin = sym begin,
    )
}

/// In the new thread: keeps its descriptor, and where rseq's area lies outside of it that too.
extern "C" fn begin(task: *mut Task) -> Begin {
    // SAFETY: what pthread_create kept for this thread.
    let Task { main, argument, stack_end } = unsafe { Task::take(task) };
    // SAFETY: takes nothing, and every thread of libc's has one.
    let descriptor = unsafe { libc::pthread_self() } as usize;
    let tid = raw::gettid();
    if descriptor < stack_end && stack_end - descriptor <= MOST_DESCRIPTOR {
        keep(descriptor, stack_end - descriptor, tid);
    }
    let offset = RSEQ_OFFSET.load(Ordering::Relaxed);
    if offset != NO_RSEQ {
        keep(descriptor.wrapping_add_signed(offset), RSEQ_BYTES, tid);
    }
    Begin { main, argument }
}

/// More than any libc's thread descriptor has, in bytes.
const MOST_DESCRIPTOR: usize = 16 << 10;
/// What the kernel's first rseq area has, in bytes.
const RSEQ_BYTES: usize = 32;

/// Where rseq's area lies from the thread pointer, in a libc that registers one; else [`NO_RSEQ`].
static RSEQ_OFFSET: AtomicIsize = AtomicIsize::new(NO_RSEQ);
const NO_RSEQ: isize = isize::MIN;

/// Looks up what a new thread needs: it may begin while another loads a library, which holds the loader's lock.
pub(crate) fn find() {
    let name: &CStr = c"__rseq_offset";
    // SAFETY: a C string; the symbol is a constant of type ptrdiff_t.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()).cast::<isize>().as_ref().copied() };
    RSEQ_OFFSET.store(found.unwrap_or(NO_RSEQ), Ordering::Relaxed);
}
