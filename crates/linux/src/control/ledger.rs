//! The ledger: one shared memory file that divides the budget among processes and holds their counters.
//!
//! `quire` creates it and hands its descriptor to each process, which takes pages from the budget before it
//! uses memory and gives them back. `quire` alone joins and frees slots. The sum of what was taken never
//! exceeds the budget: it is one word, changed by compare-and-swap. A slot's own share is written so that a
//! process killed between two steps can leave a few pages taken that no slot owns, but never fewer taken than
//! are used.

use super::build_id;
use super::counters::Counters;
use super::notice::Notices;
use super::watched::Watched;
use crate::sys::shared::Shared;
use crate::sys::tally::{self, Call};
use core::fmt;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{self, Errno};
use rustix::thread::futex::{self, Timespec};

/// "QuireLdg": what the first word of a ledger holds.
const MAGIC: u64 = u64::from_be_bytes(*b"QuireLdg");

/// Processes that can be connected at one time.
pub const SLOTS: usize = 1024;

/// The budget of a ledger without one, and the target of a slot without one.
pub const NO_LIMIT: u64 = u64::MAX;

/// The shared memory as a whole. Read and written through [`Ledger`].
#[derive(Debug)]
#[repr(C)]
pub struct Layout {
    header: Header,
    notices: Notices,
    slots: [Slot; SLOTS],
}

/// What belongs to all processes.
#[derive(Debug)]
#[repr(C, align(64))]
struct Header {
    magic: AtomicU64,
    /// [`build_id::build_number`] of the `quire` that made it.
    build: AtomicU64,
    /// Pages that may be taken in all; [`NO_LIMIT`]: as many as are wanted.
    budget_pages: AtomicU64,
    /// Pages taken. On a cache line that every process writes, now and then.
    taken_pages: AtomicU64,
    /// The most pages that were taken.
    peak_taken_pages: AtomicU64,
    /// Rises when pages come back while somebody wants some: a shared futex.
    returned: AtomicU32,
    /// Slots whose demand is unmet.
    wanting: AtomicU32,
}

/// Whether a slot is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum SlotState {
    /// No process.
    Free = 0,
    /// A connected process.
    Joined = 1,
}

/// One process: what it was granted, what it wants, and what it counts.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    state: AtomicU32,
    /// Process id, as `quire` sees it.
    pid: AtomicU32,
    /// Which use of the slot this is, from 1 up.
    generation: AtomicU32,
    /// Rung by `quire`, and by the process's own threads for its service thread: a shared futex.
    doorbell: AtomicU32,
    granted_pages: AtomicU64,
    target_pages: AtomicU64,
    want_pages: AtomicU64,
    /// What its watchdogs know.
    pub watched: Watched,
    /// What the process counts.
    pub counters: Counters,
}

/// Names one use of one slot, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId {
    /// Which slot, below [`SLOTS`].
    pub index: u32,
    /// Which use of it, from 1 up.
    pub generation: u32,
}

impl Slot {
    /// Whether a process is connected.
    pub fn state(&self) -> SlotState {
        if self.state.load(Acquire) == SlotState::Joined as u32 { SlotState::Joined } else { SlotState::Free }
    }

    /// The process, as `quire` sees its id.
    pub fn pid(&self) -> u32 {
        self.pid.load(Relaxed)
    }

    /// Pages the process has taken.
    pub fn granted_pages(&self) -> u64 {
        self.granted_pages.load(Relaxed)
    }

    /// Pages the process should shrink to as soon as it can; [`NO_LIMIT`]: no wish. It stays until it is
    /// changed.
    pub fn target_pages(&self) -> u64 {
        self.target_pages.load(Relaxed)
    }

    /// Pages the process would take if there were any.
    pub fn want_pages(&self) -> u64 {
        self.want_pages.load(Relaxed)
    }

    /// What the doorbell shows now; pass it to [`Slot::wait`] after looking for work.
    pub fn doorbell(&self) -> u32 {
        self.doorbell.load(Acquire)
    }

    /// Rings: whoever waits at the doorbell wakes and looks for work.
    pub fn ring(&self) {
        self.doorbell.fetch_add(1, Release);
        wake_all(&self.doorbell);
    }

    /// Sleeps until the doorbell shows something else than `seen`, or for at most `nanoseconds`.
    pub fn wait(&self, seen: u32, nanoseconds: u64) {
        wait(&self.doorbell, seen, nanoseconds);
    }
}

/// A mapped ledger. Copies refer to the same memory, which stays mapped for the process's life.
#[derive(Clone, Copy)]
pub struct Ledger {
    layout: &'static Layout,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.layout.header;
        write!(f, "Ledger({:?} of {:?} pages)", header.taken_pages, header.budget_pages)
    }
}

impl Ledger {
    /// Creates an empty ledger with a budget in pages, or [`NO_LIMIT`].
    pub fn create(budget_pages: u64) -> io::Result<(OwnedFd, Ledger)> {
        let file = memfd_create("quire-ledger", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, size_of::<Layout>() as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        let layout = Shared::<Layout>::map(&file)?.keep();
        let header = &layout.header;
        header.build.store(build_id::build_number(), Relaxed);
        header.budget_pages.store(budget_pages, Relaxed);
        header.magic.store(MAGIC, Release);
        Ok((file, Ledger { layout }))
    }

    /// Maps the ledger in `file`. `EINVAL` when it is not one, or one of another build.
    pub fn map(file: impl AsFd) -> io::Result<Ledger> {
        let layout = Shared::<Layout>::map(file)?.keep();
        let header = &layout.header;
        if header.magic.load(Acquire) != MAGIC || header.build.load(Relaxed) != build_id::build_number() {
            return Err(Errno::INVAL);
        }
        Ok(Ledger { layout })
    }

    /// The slot with this index, below [`SLOTS`].
    pub fn slot(&self, index: u32) -> &'static Slot {
        &self.layout.slots[index as usize]
    }

    /// Notices of programs that are about to run outside the budget.
    pub fn notices(&self) -> &'static Notices {
        &self.layout.notices
    }

    /// The budget in pages, or [`NO_LIMIT`].
    pub fn budget_pages(&self) -> u64 {
        self.layout.header.budget_pages.load(Relaxed)
    }

    /// Pages taken by all processes together.
    pub fn taken_pages(&self) -> u64 {
        self.layout.header.taken_pages.load(Relaxed)
    }

    /// The most pages that were taken at a time.
    pub fn peak_taken_pages(&self) -> u64 {
        self.layout.header.peak_taken_pages.load(Relaxed)
    }

    /// Slots whose demand is unmet.
    pub fn wanting(&self) -> u32 {
        self.layout.header.wanting.load(Relaxed)
    }

    /// Takes up to `pages` pages from the budget for `slot`. Returns how many were left to take: 0 when the
    /// budget is exhausted. The sum of all that was taken never exceeds the budget.
    pub fn take(&self, slot: &Slot, pages: u64) -> u64 {
        let header = &self.layout.header;
        let budget = header.budget_pages.load(Relaxed);
        let mut taken = header.taken_pages.load(Relaxed);
        loop {
            let granted = pages.min(budget.saturating_sub(taken));
            if granted == 0 {
                return 0;
            }
            match header.taken_pages.compare_exchange_weak(taken, taken + granted, AcqRel, Relaxed) {
                Ok(_) => {
                    // In this order: a process killed in between leaves pages taken, never used but not
                    // taken.
                    slot.granted_pages.fetch_add(granted, Relaxed);
                    header.peak_taken_pages.fetch_max(taken + granted, Relaxed);
                    return granted;
                }
                Err(now) => taken = now,
            }
        }
    }

    /// Gives `pages` pages of `slot` back, at most what it has taken, and wakes who wants some.
    pub fn give_back(&self, slot: &Slot, pages: u64) {
        let header = &self.layout.header;
        let mut had = slot.granted_pages.load(Relaxed);
        let given = loop {
            let given = pages.min(had);
            match slot.granted_pages.compare_exchange_weak(had, had - given, Relaxed, Relaxed) {
                Ok(_) => break given,
                Err(now) => had = now,
            }
        };
        if given == 0 {
            return;
        }
        header.taken_pages.fetch_sub(given, AcqRel);
        if header.wanting.load(Relaxed) > 0 {
            header.returned.fetch_add(1, Release);
            wake_all(&header.returned);
        }
    }

    /// Says how many pages `slot` would take if there were any; 0 ends its demand.
    pub fn set_want(&self, slot: &Slot, pages: u64) {
        let before = slot.want_pages.swap(pages, AcqRel);
        let wanting = &self.layout.header.wanting;
        if before == 0 && pages > 0 {
            wanting.fetch_add(1, Relaxed);
        } else if before > 0 && pages == 0 {
            wanting.fetch_sub(1, Relaxed);
        }
    }

    /// What the word of returned pages shows now; pass it to [`Ledger::wait_returned`] after a vain `take`.
    pub fn returned(&self) -> u32 {
        self.layout.header.returned.load(Acquire)
    }

    /// Sleeps until pages have come back since `seen`, or for at most `nanoseconds`. Only a slot with a
    /// demand is woken early.
    pub fn wait_returned(&self, seen: u32, nanoseconds: u64) {
        wait(&self.layout.header.returned, seen, nanoseconds);
    }

    /// For `quire`: asks the process in `slot` to shrink to `pages` ([`NO_LIMIT`]: no longer), and rings when
    /// that is news.
    pub fn set_target(&self, slot: &Slot, pages: u64) {
        if slot.target_pages.swap(pages, AcqRel) != pages {
            slot.ring();
        }
    }

    /// For `quire`: gives a free slot to process `pid`; `None` when all are used.
    pub fn join(&self, pid: u32) -> Option<SlotId> {
        let index = self.layout.slots.iter().position(|slot| slot.state() == SlotState::Free)?;
        let slot = &self.layout.slots[index];
        slot.counters.clear();
        slot.watched.clear();
        slot.pid.store(pid, Relaxed);
        slot.target_pages.store(NO_LIMIT, Relaxed);
        let generation = slot.generation.load(Relaxed).wrapping_add(1).max(1);
        slot.generation.store(generation, Relaxed);
        slot.state.store(SlotState::Joined as u32, Release);
        Some(SlotId { index: index as u32, generation })
    }

    /// For `quire`: the process in `slot` has ended. Its pages go back to the budget. Read its counters
    /// first.
    pub fn leave(&self, slot: &Slot) {
        self.set_want(slot, 0);
        self.give_back(slot, u64::MAX);
        slot.state.store(SlotState::Free as u32, Release);
    }

    /// Whether `id` is the process that is in its slot now.
    pub fn is_current(&self, id: SlotId) -> bool {
        (id.index as usize) < SLOTS && {
            let slot = self.slot(id.index);
            slot.state() == SlotState::Joined && slot.generation.load(Relaxed) == id.generation
        }
    }
}

/// Wakes all that wait on a word shared between processes.
fn wake_all(word: &AtomicU32) {
    tally::count(Call::FutexWake);
    // A wake on a valid address cannot fail, and nobody may be waiting.
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

/// Waits on a word shared between processes. Returns early on a signal: callers look again anyway.
fn wait(word: &AtomicU32, seen: u32, nanoseconds: u64) {
    let timeout = Timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as i64,
        tv_nsec: (nanoseconds % 1_000_000_000) as i64,
    };
    tally::count(Call::FutexWait);
    let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&timeout));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn what_is_taken_never_exceeds_the_budget() {
        let (_file, ledger) = Ledger::create(1000).unwrap();
        thread::scope(|scope| {
            for thread in 0..4u64 {
                let id = ledger.join(thread as u32 + 1).unwrap();
                scope.spawn(move || churn(ledger, id, thread));
            }
        });
        let granted: u64 = (0..4).map(|index| ledger.slot(index).granted_pages()).sum();
        assert_eq!(granted, ledger.taken_pages());
        assert!(ledger.peak_taken_pages() <= 1000);
        for index in 0..4 {
            ledger.leave(ledger.slot(index));
        }
        assert_eq!((ledger.taken_pages(), ledger.wanting()), (0, 0));
    }

    /// Takes and gives back, by a fixed sequence of its own.
    fn churn(ledger: Ledger, id: SlotId, seed: u64) {
        let slot = ledger.slot(id.index);
        let mut state = seed;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pages = (state >> 33) % 400;
            if state >> 63 == 0 {
                let got = ledger.take(slot, pages);
                ledger.set_want(slot, pages - got);
            } else {
                ledger.give_back(slot, pages);
            }
            assert!(ledger.taken_pages() <= 1000);
        }
    }

    #[test]
    fn a_ledger_without_budget_grants_all() {
        let (file, ledger) = Ledger::create(NO_LIMIT).unwrap();
        let other = Ledger::map(&file).unwrap();
        let id = ledger.join(7).unwrap();
        assert_eq!(other.take(other.slot(id.index), 1 << 40), 1 << 40);
        assert_eq!(ledger.slot(id.index).granted_pages(), 1 << 40);
        assert_eq!(other.slot(id.index).pid(), 7);
    }

    #[test]
    fn a_slot_is_used_again_under_another_name() {
        let (_file, ledger) = Ledger::create(10).unwrap();
        let first = ledger.join(1).unwrap();
        ledger.slot(first.index).counters.waits.store(3, Relaxed);
        assert_eq!(ledger.take(ledger.slot(first.index), 30), 10);
        ledger.leave(ledger.slot(first.index));
        assert!(!ledger.is_current(first));
        let second = ledger.join(2).unwrap();
        assert_eq!(second.index, first.index);
        assert_ne!(second, first);
        assert_eq!(ledger.slot(second.index).counters.waits.load(Relaxed), 0);
        assert_eq!(ledger.slot(second.index).target_pages(), NO_LIMIT);
    }

    #[test]
    fn a_file_that_is_no_ledger_is_refused() {
        let file = memfd_create("other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(Ledger::map(&file).unwrap_err(), Errno::INVAL);
        ftruncate(&file, size_of::<Layout>() as u64).unwrap();
        assert_eq!(Ledger::map(&file).unwrap_err(), Errno::INVAL);
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        assert_eq!(Ledger::map(&file).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn the_doorbell_wakes_a_sleeper() {
        let (_file, ledger) = Ledger::create(10).unwrap();
        let slot = ledger.slot(0);
        let seen = slot.doorbell();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| slot.wait(seen, 20_000_000_000));
            ledger.set_target(slot, 3);
            sleeper.join().unwrap();
        });
        assert_eq!(slot.target_pages(), 3);
    }
}
