//! Counters. Each only grows; a host copies them where people can read them.

use crate::folio::SplitWhy;
use crate::mmu::Refusal;
use crate::order::Order;
use crate::policy::Shortfall;

/// What the engine has done so far. Counts are of events unless a name says pages or bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stats {
    /// Faults filled with zeroes, by the order of the folio.
    pub zero_fills: [u64; Order::COUNT],
    /// Faults filled from the store, by the order of the folio.
    pub swap_ins: [u64; Order::COUNT],
    /// Folios found intact in standby, by order.
    pub rescues: [u64; Order::COUNT],
    /// Folios moved out of the program, by order.
    pub evictions: [u64; Order::COUNT],
    /// Folios whose contents were stored as a unit, by order.
    pub swap_outs: [u64; Order::COUNT],
    /// Pages moved out by reclaim that no fault waited for.
    pub evicted_behind: u64,
    /// Pages moved out while a fault waited for a frame.
    pub evicted_direct: u64,
    /// Pages whose stored copy was still good at eviction.
    pub pages_same: u64,
    /// Pages found to be all zeroes at eviction.
    pub pages_zero: u64,
    /// Pages stored.
    pub pages_stored: u64,
    /// Bytes they take in the store.
    pub bytes_stored: u64,
    /// Pages that went from RAM to a spill file, or directly there.
    pub pages_spilled: u64,
    /// Writes to shared pages that copied, by the order of the copy.
    pub cow_copies: [u64; Order::COUNT],
    /// Writes to shared pages that nobody else shared any longer: nothing was copied.
    pub cow_reuses: u64,
    /// Faults on shared pages that were in frames for somebody else already.
    pub shared_maps: u64,
    /// Faults that joined a fill already under way.
    pub joined: u64,
    /// Pages taken over by [`Engine::adopt`](crate::Engine::adopt).
    pub adopted: u64,
    /// Faults on pages that were present already.
    pub late: u64,
    /// Faults where nothing is mapped.
    pub outside: u64,
    /// Faults that found no frame at once.
    pub no_frame: u64,
    /// Jobs whose folio changed under them.
    pub void_jobs: u64,
    /// Folios split into smaller ones, by reason.
    pub splits: [u64; SplitWhy::COUNT],
    /// Folios found sparse, and split for it.
    pub sparse_folios: u64,
    /// Pages of them that were given back: moved out, or dropped as zeroes.
    pub sparse_pages: u64,
    /// Runs of small folios that became one, by its order.
    pub collapses: [u64; Order::COUNT],
    /// Runs that could not, since no free run of frames was long enough.
    pub collapses_without_run: u64,
    /// Mapped pages that were given other frames, so that long runs of frames become free.
    pub compacted_pages: u64,
    /// Verbs of the host refused, by reason.
    pub refusals: [u64; Refusal::COUNT],
    /// Faults that got less than their policy wanted, by reason.
    pub shortfalls: [u64; Shortfall::COUNT],
    /// Pages that had vanished or appeared behind the engine's back.
    pub foreign: u64,
    /// The most pages ever held above the grant.
    pub most_over: u64,
    /// Folios left resident because no store could take them.
    pub unstorable: u64,
}

impl Stats {
    pub(crate) fn refused(&mut self, refusal: Refusal) {
        self.refusals[refusal.index()] += 1;
    }
}
