//! Checks of all tables in a live process, where that is asked for (`QUIRE_CHECK=1`): the invariants that the simulator checks
//! after each event.

use super::calls::Call;
use super::{Pager, Tables};
use crate::die;
use crate::sys::clock::now_ns;
use crate::sys::futex;
use core::sync::atomic::Ordering;

/// Between two checks there is so many times as long as one took.
const TIMES: u64 = 30;
/// How long jobs may take to end when the process does, in ns.
const JOBS_NS: u64 = 10_000_000_000;
/// So long after a process woke, `quire` may still have counted it as one that sleeps, in ns. The service thread's next round
/// follows what the ledger knows.
const SETTLING_NS: u64 = 1_000_000_000;
/// Time between two looks at them, in ns.
const LOOK_NS: u64 = 1_000_000;

/// At the orderly end of the process: checks its tables once more, at rest.
pub fn check_at_end() {
    let Some(pager) = super::pager().filter(|pager| pager.options.check) else { return };
    // Not in a child that borrows the memory, nor in one that is not whole.
    if pager.is_here() {
        // Where it failed, the process has ended.
        let _ = super::call(Call::Check);
    }
}

impl Pager {
    /// On the service thread, each round: a check if the last one is long enough ago.
    pub(super) fn check_now_and_then(&self, next: &mut u64) {
        if !self.options.check {
            return;
        }
        let begun = now_ns();
        if begun < *next {
            return;
        }
        self.check(&self.tables_behind());
        let now = now_ns();
        *next = now + (now - begun) * TIMES;
    }

    /// A check when all jobs have ended.
    pub(super) fn check_at_rest(&self) {
        let until = now_ns() + JOBS_NS;
        loop {
            self.watchdog.service_beat();
            let tables = self.tables_behind();
            let jobs = tables.engine.jobs();
            if jobs == 0 {
                return self.check(&tables);
            }
            drop(tables);
            if now_ns() > until {
                die!("the tables do not fit: {jobs} jobs never end. Please report this");
            }
            futex::sleep(LOOK_NS);
        }
    }

    /// The process ends where the tables do not fit each other or the ledger.
    fn check(&self, tables: &Tables) {
        if let Err(what) = tables.engine.validate(&self.store.lock()) {
            die!("the tables do not fit: {what}. Please report this");
        }
        let budgeted = self.link().filter(|link| link.welcome.evict);
        let Some(account) = budgeted.and_then(|_| self.account()) else { return };
        if now_ns() < self.first_grant_at.load(Ordering::Relaxed) + SETTLING_NS {
            return;
        }
        let (grant, granted) = (u64::from(tables.engine.grant()), account.granted_pages());
        if grant > granted {
            die!(
                "the tables do not fit: {grant} pages are granted, the ledger knows of {granted}. Please report this"
            );
        }
    }
}
