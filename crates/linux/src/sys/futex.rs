//! Waiting on a word, and a lock made of it.
//!
//! The lock works on any thread, known to libc or not, and can stand in a `static`. It has no poisoning:
//! the process ends on panic.

use super::tally::{self, Call};
use super::{Errno, Result, clock, urge};
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::futex::{self, Flags, Timespec};

/// Who can wait on a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Threads of this process.
    Process,
    /// Every process that maps the memory the word is in.
    Shared,
}

impl Scope {
    fn flags(self) -> Flags {
        match self {
            Scope::Process => Flags::PRIVATE,
            Scope::Shared => Flags::empty(),
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// Woken, or the word had changed already, or for no reason: look again.
    LookAgain,
    /// The time was up.
    TimedOut,
}

/// Sleeps while `*word == expected`, for at most `timeout_ns` nanoseconds where given.
pub fn wait(word: &AtomicU32, expected: u32, timeout_ns: Option<u64>, scope: Scope) -> Woken {
    let time = timeout_ns
        .map(|ns| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 });
    tally::count(Call::FutexWait);
    match futex::wait(word, scope.flags(), expected, time.as_ref()) {
        Err(Errno::TIMEDOUT) => Woken::TimedOut,
        _ => Woken::LookAgain,
    }
}

/// Wakes at most `count` threads that wait on `word`; says how many.
pub fn wake(word: &AtomicU32, count: u32, scope: Scope) -> Result<usize> {
    tally::count(Call::FutexWake);
    // The kernel takes the count as a signed number.
    futex::wake(word, scope.flags(), count.min(i32::MAX as u32))
}

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and perhaps somebody sleeps.
const WANTED: u32 = 2;
/// Looks at a held lock before sleeping, about ten microseconds: the engine's lock is mostly held for one or two, or for
/// one move of pages, and to be woken on another processor takes longer.
const SPINS: u32 = 512;

/// A mutual exclusion lock that holds its data, for the threads of one process.
pub struct Lock<T> {
    word: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached only through a guard, and the word lets one guard exist at a time; so a shared
// lock gives its data to one thread after the other, which is sending it.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Waits until a lock that is only a word is the caller's. It is free while the word is 0.
pub fn take_word(word: &AtomicU32) {
    if word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
        while word.swap(WANTED, Ordering::Acquire) != FREE {
            wait(word, WANTED, None, Scope::Process);
        }
    }
}

/// Frees such a lock.
pub fn free_word(word: &AtomicU32) {
    if word.swap(FREE, Ordering::Release) == WANTED {
        // Waking fails only for a bad address, and the word is ours.
        let _ = wake(word, 1, Scope::Process);
    }
}

impl<T> Lock<T> {
    /// A free lock round `data`.
    pub const fn new(data: T) -> Lock<T> {
        Lock { word: AtomicU32::new(FREE), data: UnsafeCell::new(data) }
    }

    /// Waits until the lock is the caller's.
    pub fn lock(&self) -> Guard<'_, T> {
        self.lock_and_look(|_| ())
    }

    /// The same. `look` is called again and again while the caller waits, with the number of the call: about once a
    /// millisecond in which it could have run.
    pub fn lock_and_look(&self, look: impl FnMut(u32)) -> Guard<'_, T> {
        if !self.take_free() && !self.spin() {
            self.sleep(look);
        }
        Guard { lock: self }
    }

    /// The lock, if it can be had within `timeout_ns` nanoseconds.
    pub fn lock_timeout(&self, timeout_ns: u64) -> Option<Guard<'_, T>> {
        if self.take_free() || self.spin() {
            return Some(Guard { lock: self });
        }
        let end = clock::now_ns().saturating_add(timeout_ns);
        while self.word.swap(WANTED, Ordering::Acquire) != FREE {
            let left = end.saturating_sub(clock::now_ns());
            if left == 0 {
                return None;
            }
            wait(&self.word, WANTED, Some(left), Scope::Process);
        }
        Some(Guard { lock: self })
    }

    /// The lock, if it is free now.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Not `then_some`: a guard made in vain would free the lock when dropped.
        self.take_free().then(|| Guard { lock: self })
    }

    /// Whether somebody holds the lock at this moment.
    pub fn is_held(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }

    /// Frees the lock whoever holds it.
    ///
    /// # Safety
    /// No thread may be using the data: its holder has ended, as in a forked child, or has forgotten its guard.
    pub unsafe fn force_free(&self) {
        self.free();
    }

    fn take_free(&self) -> bool {
        self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn sleep(&self, mut look: impl FnMut(u32)) {
        let (mut lent, mut looks) = (None, 0);
        while self.word.swap(WANTED, Ordering::Acquire) != FREE {
            if wait(&self.word, WANTED, Some(urge::PATIENCE_NS), Scope::Process) == Woken::TimedOut {
                lent = urge::waits_for_long().or(lent);
                looks += 1;
                look(looks);
            }
        }
    }

    fn spin(&self) -> bool {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            match self.word.load(Ordering::Relaxed) {
                FREE if self.take_free() => return true,
                // Others sleep already: it takes longer than spinning pays for.
                WANTED => return false,
                _ => {}
            }
        }
        false
    }

    fn free(&self) {
        free_word(&self.word);
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("held", &self.is_held()).finish_non_exhaustive()
    }
}

/// Frees a lock in a forked child, where the thread that held it, if any, does not exist. Only for a process
/// with one thread, right after the fork, and for data that was at rest at the fork.
pub fn forget_holder<T>(lock: &Lock<T>) {
    // SAFETY: the caller is the only thread of the process, and holds no guard itself.
    unsafe { lock.force_free() }
}

/// The right to the data of a [`Lock`]; freed when dropped.
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one, so nobody has a `&mut` to the data.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one and is borrowed mutably, so nobody else has a reference.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.free();
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_thread_at_a_time_is_in() {
        let lock = Arc::new(Lock::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        *lock.lock() += 1;
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*lock.lock(), 80_000);
        assert!(!lock.is_held());
    }

    #[test]
    fn a_held_lock_is_refused_when_the_time_is_up() {
        let lock = Lock::new(());
        let held = lock.lock();
        let before = clock::now_ns();
        assert!(lock.try_lock().is_none());
        assert!(lock.lock_timeout(5_000_000).is_none());
        assert!(clock::now_ns() - before >= 5_000_000);
        drop(held);
        assert!(lock.lock_timeout(0).is_some());
    }

    #[test]
    fn a_forgotten_guard_can_be_forced() {
        let lock = Lock::new(1);
        core::mem::forget(lock.lock());
        assert!(lock.try_lock().is_none());
        // SAFETY: the only guard was forgotten by this thread.
        unsafe { lock.force_free() };
        assert_eq!(*lock.lock(), 1);
    }
}
