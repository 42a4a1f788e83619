//! The engine's lock. Who lets it go makes whole the children that were told of while it was held.

use super::Tables;
use crate::die;
use crate::sys::futex::{self, Guard, Lock};
use crate::sys::leaked::Leaked;
use core::ops::{Deref, DerefMut};
use core::panic::Location;

/// Milliseconds in which the waiting thread could have run, twice which, with nobody moving in the second half, who holds the
/// tables is taken for dead.
const TIMEOUT_MS: u32 = 5_000;

/// The tables, for one thread at a time.
#[derive(Debug)]
pub(super) struct TablesLock {
    lock: Lock<Tables>,
    /// Where they were taken last.
    taken: Leaked<Location<'static>>,
}

impl TablesLock {
    pub(super) const fn new(tables: Tables) -> TablesLock {
        TablesLock { lock: Lock::new(tables), taken: Leaked::empty() }
    }

    /// Waits until the tables are the caller's. The process ends where they never are: both watchdogs wait for them too.
    #[track_caller]
    pub(super) fn lock(&self) -> Held<'_> {
        let mut seen = None;
        let held = self.lock.lock_and_look(|looks| {
            if looks.is_multiple_of(TIMEOUT_MS) {
                self.look_after_holder(&mut seen);
            }
        });
        self.taken.set(Location::caller());
        Held(held)
    }

    /// The process ends where nobody has moved since the last look. While a file is read or written, and while the memory of a
    /// child is brought in, the tables may be held for long.
    fn look_after_holder(&self, seen: &mut Option<(u64, u64)>) {
        let Some(pager) = super::PAGER.get() else { return };
        let before = seen.replace(pager.watchdog.beats());
        if before != *seen || pager.watchdog.is_at_disk() {
            return;
        }
        let (file, line) = self.holder().map_or(("?", 0), |at| (at.file(), at.line()));
        die!(
            "a thread has waited for the tables for {s} s, which were taken at {file}:{line}. Please report this",
            s = 2 * TIMEOUT_MS / 1000
        );
    }

    /// Where the tables were taken that somebody holds now.
    pub(super) fn holder(&self) -> Option<&'static Location<'static>> {
        self.taken.get().filter(|_| self.lock.is_held())
    }

    /// See [`futex::forget_holder`].
    pub(super) fn forget_holder(&self) {
        futex::forget_holder(&self.lock);
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
