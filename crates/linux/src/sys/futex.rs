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

/// Ends all work of the calling thread, but not the thread.
pub fn sleep_for_ever() -> ! {
    let never = AtomicU32::new(0);
    loop {
        wait(&never, 0, None, Scope::Process);
    }
}

/// Sleeps for about `ns` nanoseconds.
pub fn sleep(ns: u64) {
    let never = AtomicU32::new(0);
    wait(&never, 0, Some(ns), Scope::Process);
}

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and perhaps somebody sleeps. Only a lock that is nothing but a word needs it.
const WANTED: u32 = 2;
/// Looks at a held lock before sleeping, about ten microseconds: the engine's lock is mostly held for one or two, or for
/// one move of pages, and to be woken on another processor takes longer.
const SPINS: u32 = 512;

/// A mutual exclusion lock that holds its data, for the threads of one process.
///
/// Who sleeps is counted beside the word, and not in it: then who is woken would have to take the lock as wanted, since
/// it can't know whether others sleep. So the next one would sleep at once instead of spinning, and two threads that
/// take the lock by turns would put each other to sleep again and again.
pub struct Lock<T> {
    word: AtomicU32,
    /// Threads that sleep or are about to.
    sleepers: AtomicU32,
    /// One of them was woken and has not run yet: it is enough to wake one.
    waking: AtomicU32,
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
        Lock {
            word: AtomicU32::new(FREE),
            sleepers: AtomicU32::new(0),
            waking: AtomicU32::new(0),
            data: UnsafeCell::new(data),
        }
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
        let left = || Some(end.saturating_sub(clock::now_ns())).filter(|&left| left > 0);
        self.sleep_until_taken(left, |_| ()).then(|| Guard { lock: self })
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

    /// Frees the lock whoever holds it, and forgets who waits.
    ///
    /// # Safety
    /// No thread may be using the data or waiting for it: its holder has ended, as in a forked child, or has forgotten its
    /// guard.
    pub unsafe fn force_free(&self) {
        self.sleepers.store(0, Ordering::Relaxed);
        self.waking.store(0, Ordering::Relaxed);
        self.free();
    }

    /// Frees the lock, as its guard would that was forgotten.
    ///
    /// # Safety
    /// The guard was forgotten by the calling thread.
    pub unsafe fn free_forgotten(&self) {
        drop(Guard { lock: self });
    }

    fn take_free(&self) -> bool {
        self.word.compare_exchange(FREE, HELD, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    #[cold]
    fn sleep(&self, mut look: impl FnMut(u32)) {
        let (mut lent, mut looks) = (None, 0);
        let _taken = self.sleep_until_taken(
            || Some(urge::LEND_AFTER_NS),
            |woken| {
                if woken == Woken::TimedOut {
                    lent = urge::waits_for_long().or(lent.take());
                    looks += 1;
                    look(looks);
                }
            },
        );
    }

    /// Sleeps until the lock is the caller's. `timeout`: how long to sleep at most, in ns; none: no longer. `after` is
    /// called after each sleep.
    ///
    /// No wake is lost: who frees the lock looks for sleepers after that, and who sleeps has itself counted before it looks
    /// whether the lock is free, which the kernel does once more before it puts it to sleep. Where several free the lock at the
    /// moment in which one lies down, each may rely on another's wake: so it looks again after a millisecond in any case.
    fn sleep_until_taken(&self, timeout: impl Fn() -> Option<u64>, mut after: impl FnMut(Woken)) -> bool {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let taken = loop {
            if self.take_free() {
                break true;
            }
            let Some(ns) = timeout() else { break false };
            let woken = wait(&self.word, HELD, Some(ns.min(urge::LEND_AFTER_NS)), Scope::Process);
            self.waking.store(0, Ordering::SeqCst);
            after(woken);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        taken
    }

    fn spin(&self) -> bool {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            if self.word.load(Ordering::Relaxed) == FREE && self.take_free() {
                return true;
            }
        }
        false
    }

    fn free(&self) {
        self.word.store(FREE, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake_one();
        }
    }

    /// Wakes one of those who sleep, unless one is on its way.
    #[cold]
    fn wake_one(&self) {
        // The second time, for who lay down meanwhile and was passed over by who freed the lock in between.
        for _ in 0..2 {
            let on_its_way = self.waking.swap(1, Ordering::SeqCst) != 0;
            if on_its_way || wake(&self.word, 1, Scope::Process) == Ok(1) {
                return;
            }
            self.waking.store(0, Ordering::SeqCst);
            if self.word.load(Ordering::SeqCst) != FREE {
                return;
            }
        }
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

/// Takes a lock round a fork, until [`let_go`] or, in the child, [`forget_holder`].
pub fn hold<T>(lock: &Lock<T>) {
    core::mem::forget(lock.lock());
}

/// Ends what [`hold`] began, on the same thread.
pub fn let_go<T>(lock: &Lock<T>) {
    // SAFETY: `hold` has forgotten the guard.
    unsafe { lock.free_forgotten() }
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
    fn who_sleeps_is_woken_by_whoever_frees_the_lock() {
        let lock = Arc::new(Lock::new(0u64));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let lock = lock.clone();
                std::thread::spawn(move || {
                    for _ in 0..500 {
                        let mut held = lock.lock_timeout(10_000_000_000).expect("a wake was lost");
                        *held += 1;
                        // Longer than others spin.
                        std::thread::sleep(std::time::Duration::from_micros(100));
                        drop(held);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*lock.lock(), 1500);
        assert_eq!([&lock.sleepers, &lock.waking].map(|count| count.load(Ordering::Relaxed)), [0; 2]);
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
