//! Measuring where the time of a fault goes: a stopwatch for each thread that answers faults.
//!
//! A fault is in one phase at a time, and each change of the phase charges the time since the last one to the phase before.
//! So the phases of a fault never come to more than its time. Where nobody asked for a profile the stopwatch never runs, and
//! a change of the phase is a branch.

use super::Pager;
use crate::control::counters::Counters;
use crate::control::profile::{PHASES, Phase, Spent};
use crate::sys::clock::unseen_ns;
use crate::sys::tally;
use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

/// Measures one fault at a time, for one thread.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    runs: Cell<bool>,
    /// When the fault began, and its phase, in ns.
    began: Cell<u64>,
    since: Cell<u64>,
    phase: Cell<Phase>,
    spent: [Cell<u64>; PHASES],
}

/// A fault on its way from one thread to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    began: u64,
    since: u64,
    spent: [u64; PHASES],
}

impl Stopwatch {
    pub(super) const fn new() -> Stopwatch {
        Stopwatch {
            runs: Cell::new(false),
            began: Cell::new(0),
            since: Cell::new(0),
            phase: Cell::new(Phase::Other),
            spent: [const { Cell::new(0) }; PHASES],
        }
    }

    /// A fault is taken up that has waited since `came_at`.
    pub(super) fn begin(&self, came_at: u64) {
        self.take_up(Some(Handed { began: came_at, since: came_at, spent: [0; PHASES] }));
    }

    /// A fault that another thread has begun is taken up, if it is measured; it waited meanwhile.
    pub(super) fn take_up(&self, handed: Option<Handed>) {
        let Some(Handed { began, since, spent }) = handed else { return };
        self.began.set(began);
        self.since.set(since);
        self.spent.iter().zip(spent).for_each(|(mine, theirs)| mine.set(theirs));
        self.phase.set(Phase::Wait);
        self.runs.set(true);
        self.change(Phase::Other, unseen_ns());
    }

    /// Another thread goes on with the fault.
    pub(super) fn hand_over(&self) -> Option<Handed> {
        self.runs.get().then(|| self.stop(unseen_ns()))
    }

    fn stop(&self, now: u64) -> Handed {
        self.change(Phase::Other, now);
        self.runs.set(false);
        let spent = core::array::from_fn(|phase| self.spent[phase].get());
        Handed { began: self.began.get(), since: self.since.get(), spent }
    }

    /// The fault is taken up again later, as if it had never been.
    pub(super) fn forget(&self) {
        self.runs.set(false);
    }

    /// Goes to a phase, and gives the one before, for [`Stopwatch::leave`]. Whatever reclaim does but to wait is its own.
    #[inline]
    pub(crate) fn enter(&self, to: Phase) -> Phase {
        let from = self.phase.get();
        if self.runs.get() && from != to && (from != Phase::Evict || to == Phase::Wait) {
            self.change(to, unseen_ns());
        }
        from
    }

    /// Goes back to the phase `to`.
    #[inline]
    pub(crate) fn leave(&self, to: Phase) {
        if self.runs.get() && self.phase.get() != to {
            self.change(to, unseen_ns());
        }
    }

    /// The same as [`Stopwatch::enter`], and goes back when what this gives is dropped.
    pub(crate) fn lap(&self, phase: Phase) -> Lap<'_> {
        Lap { stopwatch: self, before: self.enter(phase) }
    }

    /// The fault has been answered by `now`.
    pub(super) fn end(&self, now: u64) -> Option<Spent> {
        self.runs.get().then(|| {
            let Handed { began, spent, .. } = self.stop(now);
            Spent { total: now.saturating_sub(began), phases: spent }
        })
    }

    fn change(&self, to: Phase, now: u64) {
        if let Some(spent) = self.spent.get(self.phase.get() as usize) {
            spent.set(spent.get() + now.saturating_sub(self.since.get()));
        }
        self.since.set(now);
        self.phase.set(to);
    }
}

/// A phase that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Lap<'a> {
    stopwatch: &'a Stopwatch,
    before: Phase,
}

impl Drop for Lap<'_> {
    fn drop(&mut self) {
        self.stopwatch.leave(self.before);
    }
}

impl Pager {
    /// Whether a profile is asked for.
    pub(super) fn is_profiled(&self) -> bool {
        self.profiled.load(Relaxed) != 0
    }

    /// Begins the profile if it is asked for by the process that this one has just joined.
    pub(super) fn begin_profile(&self) {
        let account = self.account().filter(|_| self.link().is_some_and(|link| link.welcome.profile));
        self.profiled.store(u32::from(account.is_some()), Relaxed);
        tally::count_in(account.map(|account| &account.counters.calls));
    }

    /// In a forked child, which counts nowhere before it has joined.
    pub(super) fn end_profile(&self) {
        self.profiled.store(0, Relaxed);
        tally::count_in(None);
    }

    /// The time at which faults that are read now have come, for [`Stopwatch::begin`].
    pub(super) fn came_at(&self) -> u64 {
        if self.is_profiled() { unseen_ns() } else { 0 }
    }

    /// Counts a read of `bytes` bytes of a spill file.
    pub(super) fn count_disk_read(&self, bytes: usize) {
        if let Some(account) = self.account().filter(|_| self.is_profiled()) {
            account.counters.disk_reads.fetch_add(1, Relaxed);
            account.counters.disk_read_bytes.fetch_add(bytes as u64, Relaxed);
        }
    }
}

impl Counters {
    /// Counts what a fault took, if that was measured.
    pub(super) fn count_spent(&self, spent: Option<Spent>) {
        let Some(Spent { total, phases }) = spent else { return };
        self.profiled_faults.fetch_add(1, Relaxed);
        // First: wherever a process is killed, its phases come to no more than this.
        self.profiled_ns.fetch_add(total, Relaxed);
        for (counter, ns) in self.phase_ns.iter().zip(phases).filter(|(_, ns)| *ns > 0) {
            counter.fetch_add(ns, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::futex::sleep;

    const MS: u64 = 1_000_000;

    fn of(spent: &Spent, phase: Phase) -> u64 {
        spent.phases[phase as usize]
    }

    /// What is left for no phase.
    fn other(spent: &Spent) -> u64 {
        spent.total.checked_sub(spent.phases.iter().sum()).expect("more in the phases than there is")
    }

    #[test]
    fn every_moment_is_of_one_phase() {
        let stopwatch = Stopwatch::new();
        let began = unseen_ns();
        sleep(MS);
        stopwatch.begin(began);
        sleep(2 * MS);
        assert_eq!(stopwatch.enter(Phase::Lock), Phase::Other);
        assert_eq!(stopwatch.enter(Phase::Decide), Phase::Lock);
        {
            let _lap = stopwatch.lap(Phase::Place);
            sleep(3 * MS);
        }
        sleep(MS);
        stopwatch.leave(Phase::Other);
        let now = unseen_ns();
        let spent = stopwatch.end(now).unwrap();
        assert_eq!(spent.total, now - began);
        assert!(of(&spent, Phase::Wait) >= MS && other(&spent) >= 2 * MS, "{spent:?}");
        assert!(of(&spent, Phase::Place) >= 3 * MS && of(&spent, Phase::Decide) >= MS, "{spent:?}");
        assert_eq!((of(&spent, Phase::Read), of(&spent, Phase::Evict)), (0, 0));
        assert_eq!(stopwatch.end(now), None, "it is over");
    }

    #[test]
    fn reclaim_keeps_what_it_does_for_itself_but_not_its_waits() {
        let stopwatch = Stopwatch::new();
        stopwatch.begin(unseen_ns());
        stopwatch.enter(Phase::Evict);
        let inner = stopwatch.enter(Phase::Lock);
        assert_eq!(inner, Phase::Evict);
        sleep(MS);
        stopwatch.leave(inner);
        let inner = stopwatch.enter(Phase::Wait);
        sleep(2 * MS);
        stopwatch.leave(inner);
        drop(stopwatch.lap(Phase::Wake));
        stopwatch.leave(Phase::Other);
        let spent = stopwatch.end(unseen_ns()).unwrap();
        assert!(of(&spent, Phase::Evict) >= MS && of(&spent, Phase::Wait) >= 2 * MS, "{spent:?}");
        assert_eq!((of(&spent, Phase::Lock), of(&spent, Phase::Wake)), (0, 0));
        other(&spent);
    }

    #[test]
    fn a_fault_keeps_its_time_on_another_thread() {
        let (first, second) = (Stopwatch::new(), Stopwatch::new());
        let began = unseen_ns();
        first.begin(began);
        let before = first.enter(Phase::Decide);
        sleep(MS);
        first.leave(before);
        let handed = first.hand_over();
        assert!(first.end(unseen_ns()).is_none());
        sleep(2 * MS);
        second.take_up(handed);
        let now = unseen_ns();
        let spent = second.end(now).unwrap();
        assert_eq!(spent.total, now - began);
        assert!(of(&spent, Phase::Decide) >= MS && of(&spent, Phase::Wait) >= 2 * MS, "{spent:?}");
        other(&spent);
    }

    #[test]
    fn what_does_not_run_measures_nothing() {
        let stopwatch = Stopwatch::new();
        let before = stopwatch.enter(Phase::Read);
        assert_eq!(before, Phase::Other);
        stopwatch.leave(before);
        stopwatch.take_up(None);
        assert!(stopwatch.hand_over().is_none() && stopwatch.end(unseen_ns()).is_none());
        stopwatch.begin(unseen_ns());
        stopwatch.forget();
        assert!(stopwatch.end(unseen_ns()).is_none());
    }
}
