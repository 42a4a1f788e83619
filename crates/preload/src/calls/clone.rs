//! clone with a stack for what it makes: by libc's function, or by number. (`hooks/stubs.rs` has the call itself.)

use core::cell::UnsafeCell;
use core::ffi::c_long;
use core::sync::atomic::{AtomicU32, Ordering};

use super::fork::{flags_of, in_child, in_parent, prepare_for};
use super::threads::{self, ClearedWord};
use crate::{decide, pager_api, raw};

/// Where a child on a stack of its own runs [`in_child`]: that stack may be small, and what of it is not present reads as
/// zeroes until the child has a pager.
#[repr(C, align(16))]
pub(crate) struct Stack(UnsafeCell<[u8; STACK]>);
pub(crate) const STACK: usize = 64 << 10;
// SAFETY: only a child uses it, before it can have a second thread.
unsafe impl Sync for Stack {}
pub(crate) static STACK_OF_CHILD: Stack = Stack(UnsafeCell::new([0; STACK]));

/// In place of the address of a word that is cleared at a thread's end, which it never is: a child with a copy is made.
pub(crate) const COPIES: usize = 1;

/// Before such a clone: [`COPIES`], or the word that the kernel clears at the thread's end, 0 if none.
///
/// # Safety
///
/// As the call itself.
pub(crate) unsafe extern "C" fn before(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> usize {
    let args = [a, b, c, d, e, 0];
    // SAFETY: by the caller's promise.
    let flags = unsafe { flags_of(number, &args) }.unwrap_or(0);
    if decide::copies_memory(flags) {
        // SAFETY: `in_parent` or `in_child` follows.
        unsafe { prepare_for(flags) };
        return COPIES;
    }
    threads::note_clone(flags);
    pager_api::excuse_caller().keep();
    // SAFETY: by the caller's promise.
    unsafe { threads::word_of(number, &args) }.addr()
}

/// After it, in the parent, with what [`before`] gave.
pub(crate) unsafe extern "C" fn after(answer: isize, word: usize) {
    if word == COPIES {
        // SAFETY: `prepare_for` came before.
        unsafe { in_parent() };
    } else {
        pager_api::end_excuse();
        ClearedWord::at(word).belongs_to(u32::try_from(answer).ok());
    }
}

/// In a child with a copy of the memory, on [`STACK_OF_CHILD`].
pub(crate) unsafe extern "C" fn begin_child() {
    CHILD.store(raw::getpid(), Ordering::Relaxed);
    // SAFETY: `before` came before the clone, in the parent.
    unsafe { in_child() };
}

/// The process that such a clone made.
static CHILD: AtomicU32 = AtomicU32::new(0);

/// The number of the call by which a thread ends whose clone's function has returned. libc would end this thread only, and
/// with it a process of one thread: Quire's own must not keep it alive.
pub(crate) fn end_of(exit: usize) -> usize {
    let child = CHILD.load(Ordering::Relaxed);
    if child != 0 && raw::gettid() == child { libc::SYS_exit_group as usize } else { exit }
}

/// Whether a call by number copies the address space. Those with a stack of their own come by [`before`].
///
/// # Safety
///
/// As the call itself: clone3's first argument points to its arguments.
pub(super) unsafe fn is_fork(number: c_long, args: &[usize; 6]) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { flags_of(number, args) }.is_some_and(decide::copies_memory)
}
