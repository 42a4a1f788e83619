//! A lock that knows its holder from the moment it is taken to the moment it is free.
//!
//! A signal handler that runs inside must be able to tell that its own thread is in: hence one word, not two.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use quire_linux::sys::futex::{self, Scope};

/// Looks at a held lock before sleeping: most are held for less than a microsecond.
const SPINS: u32 = 256;

/// A mutual exclusion lock that holds its data, for the threads of the program.
pub(super) struct Owned<T> {
    /// What [`thread`](super::thread) says of the holder; 0 when free.
    holder: AtomicUsize,
    sleepers: AtomicU32,
    /// Counts releases that somebody may be waiting for.
    releases: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached only through a guard, and the holder's word lets one guard exist at a time.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    pub(super) const fn new(data: T) -> Owned<T> {
        let (sleepers, releases) = (AtomicU32::new(0), AtomicU32::new(0));
        Owned { holder: AtomicUsize::new(0), sleepers, releases, data: UnsafeCell::new(data) }
    }

    /// The lock, if it is free now.
    pub(super) fn try_enter(&self, me: usize) -> Option<Entered<'_, T>> {
        let taken = self.holder.compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed);
        // Not `then_some`: a guard made in vain would free the lock when dropped.
        taken.is_ok().then(|| Entered { lock: self })
    }

    /// Waits for the lock; `None` if this thread holds it already.
    pub(super) fn enter(&self, me: usize) -> Option<Entered<'_, T>> {
        let mut looks = 0;
        loop {
            match self.holder.load(Ordering::Relaxed) {
                0 => {
                    if let Some(entered) = self.try_enter(me) {
                        return Some(entered);
                    }
                }
                holder if holder == me => return None,
                _ if looks < SPINS => core::hint::spin_loop(),
                _ => self.sleep(),
            }
            looks += 1;
        }
    }

    fn sleep(&self) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let seen = self.releases.load(Ordering::SeqCst);
        // Who frees the lock after this look sees the sleeper, and counts one more release.
        if self.holder.load(Ordering::SeqCst) != 0 {
            futex::wait(&self.releases, seen, None, Scope::Process);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Frees the lock.
    ///
    /// # Safety
    ///
    /// The caller's thread holds it, or is the copy of one that did, and has forgotten its guard.
    pub(super) unsafe fn leave(&self) {
        self.holder.store(0, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            self.releases.fetch_add(1, Ordering::SeqCst);
            // Waking fails only for a bad address, and the word is ours.
            let _ = futex::wake(&self.releases, 1, Scope::Process);
        }
    }
}

/// The right to the data of an [`Owned`]; freed when dropped.
pub(super) struct Entered<'a, T> {
    lock: &'a Owned<T>,
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one, so nobody has a `&mut` to the data.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for Entered<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one and is borrowed mutably, so nobody else has a reference.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the guard was the right to hold it.
        unsafe { self.lock.leave() };
    }
}
