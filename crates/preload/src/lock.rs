//! A futex lock for the heaps: no libc, no poisoning, and of use to a child after fork.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::raw;

const FREE: u32 = 0;
const HELD: u32 = 1;
const AWAITED: u32 = 2;

/// A lock that can be taken in one function and let go in another, as fork handlers must.
#[derive(Debug)]
pub(crate) struct Lock(AtomicU32);

impl Lock {
    pub(crate) const fn new() -> Lock {
        Lock(AtomicU32::new(FREE))
    }

    /// Takes the lock, asleep while another thread has it.
    #[inline]
    pub(crate) fn acquire(&self) {
        if self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.acquire_slowly();
        }
    }

    #[cold]
    fn acquire_slowly(&self) {
        while self.0.swap(AWAITED, Ordering::Acquire) != FREE {
            self.sleep();
        }
    }

    fn sleep(&self) {
        let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word outlives the call; a null timeout waits without end. Every reason to wake up is fine.
        let _ = unsafe { raw::call!(libc::SYS_futex, self.0.as_ptr(), op, AWAITED, 0) };
    }

    /// Lets the lock go. Only for who holds it, and for the one thread of a child whose parent's thread held it.
    #[inline]
    pub(crate) fn release(&self) {
        if self.0.swap(FREE, Ordering::Release) == AWAITED {
            self.wake();
        }
    }

    /// Whether anybody holds it. Of meaning only where nobody else runs: in a child just after fork.
    pub(crate) fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed) != FREE
    }

    #[cold]
    fn wake(&self) {
        let op = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is ours; waking nobody is fine.
        let _ = unsafe { raw::call!(libc::SYS_futex, self.0.as_ptr(), op, 1) };
    }
}

/// A value behind a [`Lock`].
#[derive(Debug)]
pub(crate) struct Locked<T> {
    lock: Lock,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only by a Guard, and there is one Guard at a time.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) const fn new(value: T) -> Locked<T> {
        Locked { lock: Lock::new(), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.lock.acquire();
        Guard { locked: self }
    }

    /// The lock alone, for fork handlers.
    pub(crate) fn bare(&self) -> &Lock {
        &self.lock
    }
}

/// The right to use a [`Locked`] value.
#[derive(Debug)]
pub(crate) struct Guard<'a, T> {
    locked: &'a Locked<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held while the guard lives.
        unsafe { &*self.locked.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held while the guard lives, and the guard is borrowed uniquely.
        unsafe { &mut *self.locked.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.locked.lock.release();
    }
}
