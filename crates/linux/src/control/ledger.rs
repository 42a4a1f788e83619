//! The ledger: one shared memory file that divides the budget among processes and holds their counters.
//!
//! `quire` creates it and hands its descriptor to each process, which takes pages from the budget before it
//! uses memory and gives them back. `quire` alone joins and frees accounts. The sum of what was taken never
//! exceeds the budget: it is one word, changed by compare-and-swap. An account's own share is written so that a
//! process killed between two steps can leave a few pages taken that no account owns, but never fewer taken than
//! are used.

use super::build_id;
use super::counters::Counters;
use super::notice::Notices;
use super::watched::Watched;
use crate::sys::shared::{Shared, shared_layout};
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
pub const ACCOUNTS: usize = 1024;

/// The budget of a ledger without one, and the target of an account without one.
pub const NO_LIMIT: u64 = u64::MAX;

/// The shared memory as a whole. Read and written through [`Ledger`].
#[derive(Debug)]
#[repr(C)]
pub struct LedgerMemory {
    header: Header,
    notices: Notices,
    accounts: [Account; ACCOUNTS],
}

shared_layout!(LedgerMemory { header, notices, accounts });

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
    /// Accounts whose demand is unmet.
    wanting: AtomicU32,
}

shared_layout!(Header { magic, build, budget_pages, taken_pages, peak_taken_pages, returned, wanting });

/// Whether an account is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum AccountState {
    /// No process.
    Free = 0,
    /// A connected process.
    Joined = 1,
}

/// One process: what it was granted, what it wants, and what it counts.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Account {
    state: AtomicU32,
    /// Process id, as `quire` sees it.
    pid: AtomicU32,
    /// Which use of the account this is, from 1 up.
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

shared_layout!(Account {
    state,
    pid,
    generation,
    doorbell,
    granted_pages,
    target_pages,
    want_pages,
    watched,
    counters
});

/// Names one use of one account, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountId {
    /// Which account, below [`ACCOUNTS`].
    pub index: u32,
    /// Which use of it, from 1 up.
    pub generation: u32,
}

impl Account {
    /// Whether a process is connected.
    pub fn state(&self) -> AccountState {
        if self.state.load(Acquire) == AccountState::Joined as u32 {
            AccountState::Joined
        } else {
            AccountState::Free
        }
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

    /// What the doorbell shows now; pass it to [`Account::wait`] after looking for work.
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
    memory: &'static LedgerMemory,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.memory.header;
        write!(f, "Ledger({:?} of {:?} pages)", header.taken_pages, header.budget_pages)
    }
}

impl Ledger {
    /// Creates an empty ledger with a budget in pages, or [`NO_LIMIT`].
    pub fn create(budget_pages: u64) -> io::Result<(OwnedFd, Ledger)> {
        let file = memfd_create("quire-ledger", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, size_of::<LedgerMemory>() as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        let memory = Shared::<LedgerMemory>::map(&file)?.keep();
        let header = &memory.header;
        header.build.store(build_id::build_number(), Relaxed);
        header.budget_pages.store(budget_pages, Relaxed);
        header.magic.store(MAGIC, Release);
        Ok((file, Ledger { memory }))
    }

    /// Maps the ledger in `file`. `EINVAL` when it is not one, or one of another build.
    pub fn map(file: impl AsFd) -> io::Result<Ledger> {
        let memory = Shared::<LedgerMemory>::map(file)?.keep();
        let header = &memory.header;
        if header.magic.load(Acquire) != MAGIC || header.build.load(Relaxed) != build_id::build_number() {
            return Err(Errno::INVAL);
        }
        Ok(Ledger { memory })
    }

    /// The account with this index, below [`ACCOUNTS`].
    pub fn account(&self, index: u32) -> &'static Account {
        &self.memory.accounts[index as usize]
    }

    /// Notices of programs that are about to run outside the budget.
    pub fn notices(&self) -> &'static Notices {
        &self.memory.notices
    }

    /// The budget in pages, or [`NO_LIMIT`].
    pub fn budget_pages(&self) -> u64 {
        self.memory.header.budget_pages.load(Relaxed)
    }

    /// Pages taken by all processes together.
    pub fn taken_pages(&self) -> u64 {
        self.memory.header.taken_pages.load(Relaxed)
    }

    /// The most pages that were taken at a time.
    pub fn peak_taken_pages(&self) -> u64 {
        self.memory.header.peak_taken_pages.load(Relaxed)
    }

    /// Accounts whose demand is unmet.
    pub fn wanting(&self) -> u32 {
        self.memory.header.wanting.load(Relaxed)
    }

    /// Takes up to `pages` pages from the budget for `account`. Returns how many were left to take: 0 when the
    /// budget is exhausted. The sum of all that was taken never exceeds the budget.
    pub fn take(&self, account: &Account, pages: u64) -> u64 {
        let header = &self.memory.header;
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
                    account.granted_pages.fetch_add(granted, Relaxed);
                    header.peak_taken_pages.fetch_max(taken + granted, Relaxed);
                    return granted;
                }
                Err(now) => taken = now,
            }
        }
    }

    /// Gives `pages` pages of `account` back, at most what it has taken, and wakes who wants some.
    pub fn give_back(&self, account: &Account, pages: u64) {
        let header = &self.memory.header;
        let mut had = account.granted_pages.load(Relaxed);
        let given = loop {
            let given = pages.min(had);
            match account.granted_pages.compare_exchange_weak(had, had - given, Relaxed, Relaxed) {
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

    /// For `quire`: `account`, of a process that sleeps, has `pages` pages of the budget from now on, or as many as are left
    /// of it.
    pub fn set_share(&self, account: &Account, pages: u64) {
        let had = account.granted_pages();
        if pages > had {
            self.take(account, pages - had);
        } else {
            self.give_back(account, had - pages);
        }
    }

    /// Says how many pages `account` would take if there were any; 0 ends its demand.
    pub fn set_want(&self, account: &Account, pages: u64) {
        let before = account.want_pages.swap(pages, AcqRel);
        let wanting = &self.memory.header.wanting;
        if before == 0 && pages > 0 {
            wanting.fetch_add(1, Relaxed);
        } else if before > 0 && pages == 0 {
            wanting.fetch_sub(1, Relaxed);
        }
    }

    /// What the word of returned pages shows now; pass it to [`Ledger::wait_returned`] after a vain `take`.
    pub fn returned(&self) -> u32 {
        self.memory.header.returned.load(Acquire)
    }

    /// Sleeps until pages have come back since `seen`, or for at most `nanoseconds`. Only an account with a
    /// demand is woken early.
    pub fn wait_returned(&self, seen: u32, nanoseconds: u64) {
        wait(&self.memory.header.returned, seen, nanoseconds);
    }

    /// For `quire`: asks the process in `account` to shrink to `pages` ([`NO_LIMIT`]: no longer), and rings when
    /// that is news.
    pub fn set_target(&self, account: &Account, pages: u64) {
        if account.target_pages.swap(pages, AcqRel) != pages {
            account.ring();
        }
    }

    /// For `quire`: gives a free account to process `pid`; `None` when all are used.
    pub fn join(&self, pid: u32) -> Option<AccountId> {
        let index = self.memory.accounts.iter().position(|account| account.state() == AccountState::Free)?;
        let account = &self.memory.accounts[index];
        account.counters.clear();
        account.watched.clear();
        account.pid.store(pid, Relaxed);
        account.target_pages.store(NO_LIMIT, Relaxed);
        let generation = account.generation.load(Relaxed).wrapping_add(1).max(1);
        account.generation.store(generation, Relaxed);
        account.state.store(AccountState::Joined as u32, Release);
        Some(AccountId { index: index as u32, generation })
    }

    /// For `quire`: the process in `account` has ended. Its pages go back to the budget. Read its counters
    /// first.
    pub fn leave(&self, account: &Account) {
        self.set_want(account, 0);
        self.give_back(account, u64::MAX);
        account.state.store(AccountState::Free as u32, Release);
    }

    /// Whether `id` is the process that is in its account now.
    pub fn is_current(&self, id: AccountId) -> bool {
        (id.index as usize) < ACCOUNTS && {
            let account = self.account(id.index);
            account.state() == AccountState::Joined && account.generation.load(Relaxed) == id.generation
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
        let granted: u64 = (0..4).map(|index| ledger.account(index).granted_pages()).sum();
        assert_eq!(granted, ledger.taken_pages());
        assert!(ledger.peak_taken_pages() <= 1000);
        for index in 0..4 {
            ledger.leave(ledger.account(index));
        }
        assert_eq!((ledger.taken_pages(), ledger.wanting()), (0, 0));
    }

    /// Takes and gives back, by a fixed sequence of its own.
    fn churn(ledger: Ledger, id: AccountId, seed: u64) {
        let account = ledger.account(id.index);
        let mut state = seed;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pages = (state >> 33) % 400;
            if state >> 63 == 0 {
                let got = ledger.take(account, pages);
                ledger.set_want(account, pages - got);
            } else {
                ledger.give_back(account, pages);
            }
            assert!(ledger.taken_pages() <= 1000);
        }
    }

    #[test]
    fn a_ledger_without_budget_grants_all() {
        let (file, ledger) = Ledger::create(NO_LIMIT).unwrap();
        let other = Ledger::map(&file).unwrap();
        let id = ledger.join(7).unwrap();
        assert_eq!(other.take(other.account(id.index), 1 << 40), 1 << 40);
        assert_eq!(ledger.account(id.index).granted_pages(), 1 << 40);
        assert_eq!(other.account(id.index).pid(), 7);
    }

    #[test]
    fn an_account_is_used_again_under_another_name() {
        let (_file, ledger) = Ledger::create(10).unwrap();
        let first = ledger.join(1).unwrap();
        ledger.account(first.index).counters.waits.store(3, Relaxed);
        assert_eq!(ledger.take(ledger.account(first.index), 30), 10);
        ledger.leave(ledger.account(first.index));
        assert!(!ledger.is_current(first));
        let second = ledger.join(2).unwrap();
        assert_eq!(second.index, first.index);
        assert_ne!(second, first);
        assert_eq!(ledger.account(second.index).counters.waits.load(Relaxed), 0);
        assert_eq!(ledger.account(second.index).target_pages(), NO_LIMIT);
    }

    #[test]
    fn a_file_that_is_no_ledger_is_refused() {
        let file = memfd_create("other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(Ledger::map(&file).unwrap_err(), Errno::INVAL);
        ftruncate(&file, size_of::<LedgerMemory>() as u64).unwrap();
        assert_eq!(Ledger::map(&file).unwrap_err(), Errno::INVAL);
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        assert_eq!(Ledger::map(&file).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn the_doorbell_wakes_a_sleeper() {
        let (_file, ledger) = Ledger::create(10).unwrap();
        let account = ledger.account(0);
        let seen = account.doorbell();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| account.wait(seen, 20_000_000_000));
            ledger.set_target(account, 3);
            sleeper.join().unwrap();
        });
        assert_eq!(account.target_pages(), 3);
    }
}
