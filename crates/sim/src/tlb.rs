//! TLB models: which accesses find their translation, and in which level.
//!
//! A [`Tlb`] is asked about every access and is told what the page table says of the page ([`Mapping`]). It looks
//! its own entries up as hardware does, in every size and level, and walks only when none is found. What an entry
//! covers is where the models differ:
//!
//! | [`Model`] | covers more than one page by |
//! |---|---|
//! | [`Model::None`] | nothing is modelled: each access hits |
//! | [`Model::Zen3`] | 4 pages that happen to lie side by side, found by the hardware itself; 2 MiB by a PMD entry |
//! | [`Model::NeoverseN1`] | 16 pages that the kernel marked as contiguous (contpte); 2 MiB by a block entry |
//! | [`Model::Skylake`] | 2 MiB by a PMD entry, with entries of its own in the first level |
//!
//! The numbers behind them, and where they are published, are in `machines.rs`; one level each is in `level.rs`.
//!
//! Left out: instruction TLBs, paging-structure caches (what a walk costs is a matter of the cost table), 1 GiB
//! entries, and the replacement that a maker does not publish: each set is exactly LRU.

mod level;
mod machines;
mod mapping;
#[cfg(test)]
mod tests;
mod two_level;

pub use machines::{Model, UnknownModel, UseTlb};
pub use mapping::Mapping;

use core::fmt;
use quire_core::{Order, PageRange, Space, Vpn};

/// Where an access found its translation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lookup {
    /// In the first level.
    L1,
    /// In the second level.
    L2,
    /// Nowhere: the page table was walked.
    Miss,
}

/// One core's data TLB. Equal calls give equal answers.
pub trait Tlb: fmt::Debug {
    /// An access to page `vpn` of `space`, which the page table maps as `mapping`. Allocates nothing.
    ///
    /// `vpn` is below 2^45, so that addresses of 57 bits fit.
    fn access(&mut self, space: Space, vpn: Vpn, mapping: Mapping) -> Lookup;

    /// The order of the entry that a walk makes for a page that the page table maps as `mapping`.
    fn covers(&self, mapping: Mapping) -> Order;

    /// Drops every entry that covers a page of `range`, as one shootdown does. An entry for several pages goes
    /// even if `range` has only one of them.
    fn flush(&mut self, range: PageRange);

    /// Drops everything, of all spaces.
    fn flush_all(&mut self);

    /// What has been counted so far.
    fn counts(&self) -> &Counts;
}

/// What a TLB counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counts {
    /// Accesses that the first level answered.
    pub l1_hits: u64,
    /// Accesses that the second level answered.
    pub l2_hits: u64,
    /// Accesses that walked the page table.
    pub misses: u64,
    /// Hits on an entry for another frame than the page table names: somebody forgot to flush. They are in
    /// `l1_hits` and `l2_hits` too. Has to stay 0.
    pub stale: u64,
    /// Calls of [`Tlb::flush`].
    pub flushes: u64,
    /// Calls of [`Tlb::flush_all`].
    pub full_flushes: u64,
    /// Entries that flushes dropped, those of both levels.
    pub dropped: u64,
}

impl Counts {
    /// Accesses of all kinds.
    pub const fn accesses(&self) -> u64 {
        self.l1_hits + self.l2_hits + self.misses
    }
}

/// No TLB at all: translation is free, and each access counts as a hit of the first level. It shows what
/// everything else costs. Flushes are counted all the same.
#[derive(Clone, Debug, Default)]
pub struct NoTlb {
    counts: Counts,
}

impl Tlb for NoTlb {
    #[inline]
    fn access(&mut self, _: Space, _: Vpn, _: Mapping) -> Lookup {
        self.counts.l1_hits += 1;
        Lookup::L1
    }

    fn covers(&self, _: Mapping) -> Order {
        Order::BASE
    }

    fn flush(&mut self, _: PageRange) {
        self.counts.flushes += 1;
    }

    fn flush_all(&mut self) {
        self.counts.full_flushes += 1;
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}
