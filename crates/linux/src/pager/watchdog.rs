//! The watchdogs: the service thread watches the handler, the handler the service thread. A process in which one of them is
//! silent for too long ends with a message: to wait for ever helps nobody.

use super::Pager;
use crate::control::watched::{Watchdogs, file_end};
use crate::sys::clock::now_ns;
use crate::{die, say};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Ticks of a watcher, a second each, after which a silent thread is taken for dead. Ticks count time in which
/// the watcher itself ran: a process that was stopped has not hung.
const TIMEOUT_TICKS: u64 = 10;
const TICK_NS: u64 = 1_000_000_000;

/// How long a thread has been silent, as its watcher knows.
#[derive(Debug)]
struct Silence {
    /// Its beats when the watcher looked last.
    seen: AtomicU64,
    ticks: AtomicU64,
    ticked_at: AtomicU64,
}

impl Silence {
    const fn new() -> Silence {
        Silence { seen: AtomicU64::new(0), ticks: AtomicU64::new(0), ticked_at: AtomicU64::new(0) }
    }

    /// Looks at time `now` at a thread that has beaten `beats` times; `idle`: it has nothing to do. The ticks for which it has
    /// been silent, of which each look counts one at the most.
    fn look(&self, beats: u64, idle: bool, now: u64) -> u64 {
        let beaten = self.seen.swap(beats, Relaxed) != beats;
        if beaten || idle {
            self.ticks.store(0, Relaxed);
            self.ticked_at.store(now, Relaxed);
        } else if now - self.ticked_at.load(Relaxed) >= TICK_NS {
            self.ticks.fetch_add(1, Relaxed);
            self.ticked_at.store(now, Relaxed);
        }
        self.ticks()
    }

    fn ticks(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    fn forget(&self) {
        self.ticks.store(0, Relaxed);
    }
}

/// Who beats, and who waits for whom.
#[derive(Debug)]
pub(super) struct Watchdog {
    handler_beats: AtomicU64,
    service_beats: AtomicU64,
    service_busy: AtomicU32,
    /// Reads and writes of files under way, and whether slow ones have been reported.
    disk: AtomicU32,
    disk_reported: AtomicU32,
    handler: Silence,
    service: Silence,
}

impl Watchdog {
    pub(super) const fn new() -> Watchdog {
        Watchdog {
            handler_beats: AtomicU64::new(0),
            service_beats: AtomicU64::new(0),
            service_busy: AtomicU32::new(0),
            disk: AtomicU32::new(0),
            disk_reported: AtomicU32::new(0),
            handler: Silence::new(),
            service: Silence::new(),
        }
    }

    pub(super) fn handler_beat(&self) {
        self.handler_beats.fetch_add(1, Relaxed);
    }

    pub(super) fn service_beat(&self) {
        self.service_beats.fetch_add(1, Relaxed);
    }

    pub(super) fn service_begins(&self) {
        self.service_busy.store(1, Relaxed);
        self.service_beat();
    }

    pub(super) fn service_rests(&self) {
        self.service_busy.store(0, Relaxed);
    }

    /// Runs a read or write of a file, during which nobody is taken for dead.
    pub(super) fn disk<R>(&self, io: impl FnOnce() -> R) -> R {
        self.disk.fetch_add(1, Relaxed);
        let result = io();
        self.disk.fetch_sub(1, Relaxed);
        result
    }

    /// Whether a file is being read or written.
    pub(super) fn is_at_disk(&self) -> bool {
        self.disk.load(Relaxed) > 0
    }

    pub(super) fn beats(&self) -> (u64, u64) {
        (self.handler_beats.load(Relaxed), self.service_beats.load(Relaxed))
    }

    /// In a forked child everybody begins anew.
    pub(super) fn forget(&self) {
        self.service_busy.store(0, Relaxed);
        self.disk.store(0, Relaxed);
        self.handler.forget();
        self.service.forget();
    }

    /// Whether the handler is dead, by a look at time `now`. `waiting`: faults wait for it.
    fn handler_is_dead(&self, waiting: bool, now: u64) -> bool {
        let ticks = self.handler.look(self.handler_beats.load(Relaxed), !waiting, now);
        !self.disk_is_slow(ticks) && ticks >= TIMEOUT_TICKS
    }

    /// The same of the service thread.
    fn service_is_dead(&self, now: u64) -> bool {
        let busy = self.service_busy.load(Relaxed) != 0;
        let ticks = self.service.look(self.service_beats.load(Relaxed), !busy, now);
        !self.disk_is_slow(ticks) && ticks >= TIMEOUT_TICKS
    }

    /// A wait for a disk is no hang; it is reported once.
    fn disk_is_slow(&self, ticks: u64) -> bool {
        let slow = self.is_at_disk();
        if slow && ticks >= TIMEOUT_TICKS && self.disk_reported.swap(1, Relaxed) == 0 {
            say!(
                "waiting for the disk of the spill file for {TIMEOUT_TICKS} s now; --swap-dir names another"
            );
        }
        slow
    }
}

impl Pager {
    /// On the service thread: the process ends when faults have been unanswered for too long.
    pub(super) fn watch_handler(&self) {
        let waiting =
            self.busy_since.load(Relaxed) != 0 || self.descriptors.get().is_some_and(|d| d.uffd.has_msgs());
        let now = now_ns();
        let dead = self.watchdog.handler_is_dead(waiting, now);
        self.show_watchdogs(now);
        if !dead {
            return;
        }
        let beats = self.watchdog.beats().0;
        let held = self.tables.holder();
        die!(
            "a page fault has been unanswered for {TIMEOUT_TICKS} s: the fault handler does not move (after \
             {beats} rounds, tables locked: {held}, {} jobs wait for a disk). Please report this",
            self.io.waiting(),
            held = held.is_some(),
        );
    }

    /// On the handler thread: the same for the service thread.
    pub(super) fn watch_service(&self) {
        let now = now_ns();
        let dead = self.watchdog.service_is_dead(now);
        self.show_watchdogs(now);
        if dead {
            let beats = self.watchdog.beats().1;
            die!("the service thread does not move any more (after {beats} rounds). Please report this");
        }
    }

    /// Shows what the watchdogs know at time `now` to who asks `quire`. Takes no lock that anybody holds for long.
    fn show_watchdogs(&self, now: u64) {
        let Some(account) = self.account() else { return };
        let watchdog = &self.watchdog;
        let (handler_beats, service_beats) = watchdog.beats();
        account.watched.show(&Watchdogs {
            looked_at_ns: now,
            fault_since_ns: self.busy_since.load(Relaxed),
            handler_beats,
            handler_ticks: watchdog.handler.ticks(),
            service_beats,
            service_ticks: watchdog.service.ticks(),
            service_busy: watchdog.service_busy.load(Relaxed) != 0,
            aside: u64::from(self.aside.load(Relaxed)),
            disk_waiting: u64::from(self.io.waiting()),
            disk_under_way: u64::from(watchdog.disk.load(Relaxed)),
            calls: self.exchange.waiting() as u64,
            held_by: self.tables.holder().map(|at| (file_end(at.file()), at.line())),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second, from second 1 on; the first second at which somebody is dead.
    fn first_death(mut dead_at: impl FnMut(u64) -> bool) -> Option<u64> {
        (1..=40).find(|&second| dead_at(second * TICK_NS))
    }

    #[test]
    fn a_silent_handler_is_dead_after_ten_seconds() {
        let watchdog = Watchdog::new();
        watchdog.handler_beat();
        // The first look sees the beat.
        assert_eq!(first_death(|now| watchdog.handler_is_dead(true, now)), Some(11));
    }

    #[test]
    fn a_handler_that_beats_or_has_nothing_to_do_lives() {
        let watchdog = Watchdog::new();
        let beats = first_death(|now| {
            if now / TICK_NS % 10 == 9 {
                watchdog.handler_beat();
            }
            watchdog.handler_is_dead(true, now)
        });
        assert_eq!(beats, None);
        let idle = Watchdog::new();
        assert_eq!(first_death(|now| idle.handler_is_dead(false, now)), None);
        // What it did not do while there was nothing does not count later.
        assert!(!idle.handler_is_dead(true, 41 * TICK_NS));
    }

    #[test]
    fn a_service_thread_is_dead_in_the_middle_of_a_round_only() {
        let watchdog = Watchdog::new();
        assert_eq!(first_death(|now| watchdog.service_is_dead(now)), None);
        watchdog.service_begins();
        let from = 40 * TICK_NS;
        assert_eq!(first_death(|now| watchdog.service_is_dead(from + now)), Some(11));
        watchdog.service_beat();
        assert!(!watchdog.service_is_dead(from + 12 * TICK_NS));
        watchdog.service_rests();
        assert_eq!(first_death(|now| watchdog.service_is_dead(from + 12 * TICK_NS + now)), None);
    }

    #[test]
    fn looks_close_to_each_other_count_once() {
        let silence = Silence::new();
        silence.look(1, false, TICK_NS);
        for look in 0..100 {
            assert_eq!(silence.look(1, false, TICK_NS + look * TICK_NS / 100), 0);
        }
        assert_eq!(silence.look(1, false, 2 * TICK_NS), 1);
        assert_eq!(silence.look(1, false, 60 * TICK_NS), 2, "a process that was stopped has not hung");
        silence.forget();
        assert_eq!(silence.ticks(), 0);
    }

    #[test]
    fn who_waits_for_a_disk_lives() {
        let watchdog = Watchdog::new();
        watchdog.service_begins();
        watchdog.disk(|| {
            assert!(watchdog.is_at_disk());
            assert_eq!(first_death(|now| watchdog.handler_is_dead(true, now)), None);
            assert_eq!(first_death(|now| watchdog.service_is_dead(now)), None);
        });
        assert_eq!(watchdog.disk_reported.load(Relaxed), 1);
        assert!(!watchdog.is_at_disk());
        assert!(watchdog.handler_is_dead(true, 41 * TICK_NS) && watchdog.service_is_dead(41 * TICK_NS));
    }

    #[test]
    fn a_forked_child_begins_anew() {
        let watchdog = Watchdog::new();
        watchdog.service_begins();
        watchdog.disk.store(1, Relaxed);
        watchdog.handler.ticks.store(9, Relaxed);
        watchdog.service.ticks.store(9, Relaxed);
        watchdog.forget();
        assert!(!watchdog.is_at_disk() && watchdog.service_busy.load(Relaxed) == 0);
        assert_eq!((watchdog.handler.ticks(), watchdog.service.ticks()), (0, 0));
    }
}
