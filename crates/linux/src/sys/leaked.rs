//! A place for one value that lives as long as the process.

use core::fmt;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Holds nothing, or a reference that lives for ever. Set once, or again by a forked child.
pub struct Leaked<T: 'static>(AtomicPtr<T>);

impl<T: Sync + 'static> Leaked<T> {
    /// One that holds nothing.
    pub const fn empty() -> Leaked<T> {
        Leaked(AtomicPtr::new(core::ptr::null_mut()))
    }

    /// Puts a value there for all threads to see.
    pub fn set(&self, value: &'static T) {
        self.0.store(core::ptr::from_ref(value).cast_mut(), Ordering::Release);
    }

    /// Takes it away again. Who has it keeps it.
    pub fn clear(&self) {
        self.0.store(core::ptr::null_mut(), Ordering::Release);
    }

    /// The value.
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: the pointer is null or was made from a `&'static T` by `set`, and only shared references
        // are ever made from it.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

impl<T> fmt::Debug for Leaked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leaked").field(&self.0).finish()
    }
}
