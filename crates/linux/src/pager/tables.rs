//! The engine's lock. Who lets it go makes whole the children that were told of while it was held.

use super::Tables;
use crate::sys::futex::{self, Guard, Lock};
use core::ops::{Deref, DerefMut};

/// The tables, for one thread at a time.
#[derive(Debug)]
pub(super) struct TablesLock(Lock<Tables>);

impl TablesLock {
    pub(super) const fn new(tables: Tables) -> TablesLock {
        TablesLock(Lock::new(tables))
    }

    /// Waits until the tables are the caller's.
    pub(super) fn lock(&self) -> Held<'_> {
        Held(self.0.lock())
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// See [`futex::forget_holder`].
    pub(super) fn forget_holder(&self) {
        futex::forget_holder(&self.0);
    }
}

/// The right to the tables.
#[derive(Debug)]
pub(super) struct Held<'a>(Guard<'a, Tables>);

impl Deref for Held<'_> {
    type Target = Tables;
    fn deref(&self) -> &Tables {
        &self.0
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Tables {
        &mut self.0
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // While a thread forks that said so, nothing changes in the tables, and which child is whose is known at its end.
        if let Some(pager) = super::PAGER.get()
            && pager.fork_events.waiting() > 0
            && self.frozen_for == 0
        {
            pager.make_children_whole(&mut self.0);
        }
    }
}
