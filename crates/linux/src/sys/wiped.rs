//! A page of words that a child with a copy of the address space finds empty.
//!
//! What a process knows of its own threads is not true of a child that did not inherit them. The kernel wipes this page in
//! any child that gets a copy of the memory, whatever made it; a child that shares the memory sees what is there.

use super::{Result, mmap};
use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use quire_core::PAGE_SIZE;

/// How many words there are.
pub const WORDS: usize = 8;

type Words = [AtomicUsize; WORDS];

/// Words that are 0 until they are written, and in every child that has a copy of them.
pub struct Wiped {
    page: AtomicPtr<Words>,
    /// Used while there is no page. A child has a true copy of them.
    own: Words,
}

impl Wiped {
    /// Words without a page yet.
    pub const fn new() -> Wiped {
        Wiped { page: AtomicPtr::new(core::ptr::null_mut()), own: [const { AtomicUsize::new(0) }; WORDS] }
    }

    /// Makes the page, once, before anything is written. ENOMEM where the process may have no more memory.
    pub fn make(&self) -> Result<()> {
        if !self.page.load(Ordering::Acquire).is_null() {
            return Ok(());
        }
        let addr = mmap::map(PAGE_SIZE)?;
        mmap::advise(addr, PAGE_SIZE, mmap::Advice::WipeOnFork)?;
        self.page.store(core::ptr::with_exposed_provenance_mut(addr), Ordering::Release);
        Ok(())
    }

    /// Word `number`.
    #[inline]
    pub fn word(&self, number: usize) -> &AtomicUsize {
        let page = self.page.load(Ordering::Acquire);
        // SAFETY: null, or a page of our own that is never unmapped; zeroes are words like any others, and they are
        // only used as atomics.
        let words = unsafe { page.as_ref() }.unwrap_or(&self.own);
        &words[number]
    }
}

impl Wiped {
    /// Half of word `number`, to be waited on.
    #[inline]
    pub fn half(&self, number: usize) -> &AtomicU32 {
        let word = core::ptr::from_ref(self.word(number)).cast::<AtomicU32>();
        // SAFETY: the first half of a word that lives as long as `self`, aligned, and an atomic like it.
        unsafe { &*word }
    }
}

impl Default for Wiped {
    fn default() -> Wiped {
        Wiped::new()
    }
}

impl fmt::Debug for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiped").field("page", &self.page).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_here_and_empty_in_a_copy() {
        static WIPED: Wiped = Wiped::new();
        assert_eq!(WIPED.word(1).load(Ordering::Relaxed), 0);
        WIPED.make().unwrap();
        WIPED.word(1).store(77, Ordering::Relaxed);
        // SAFETY: the child only reads a word and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let empty = WIPED.word(1).load(Ordering::Relaxed) == 0;
            // SAFETY: ends the child without libc's exit handlers, which are the parent's.
            unsafe { libc::_exit(if empty { 42 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: the place for the status is good.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(libc::WEXITSTATUS(status), 42);
        assert_eq!(WIPED.word(1).load(Ordering::Relaxed), 77);
    }
}
