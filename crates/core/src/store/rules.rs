//! The rules: what goes to RAM and what to the file, and when something has to leave.

#[cfg(test)]
mod tests;

use super::{Queue, Store, StoreMemory, is_incompressible};
use crate::addr::PAGE_SIZE;

/// The store in RAM may have one part in so many of gaps.
const MOST_GAPS: u64 = 8;

impl Store {
    /// Most pages of RAM that the store may take, the host's tables included.
    pub(super) fn limit(&self) -> u32 {
        self.division.store_limit(&self.grant, self.index.has_file())
    }

    fn taken(&self) -> u32 {
        self.index.ram_pages() + self.grant.overhead
    }

    /// Whether RAM for the store is nearly used up, so that the oldest of it should go.
    pub(super) fn is_full(&self) -> bool {
        let limit = self.limit();
        self.taken() > limit - limit / 16
    }

    /// Whether the store in RAM takes `bytes` bytes more.
    fn ram_takes(&self, bytes: u64) -> bool {
        let pages = bytes.div_ceil(PAGE_SIZE as u64) as u32;
        self.taken() + pages <= self.limit()
    }

    /// What does not compress is to go to the file, but waits in RAM first: it may be needed again soon, and the file
    /// takes many pages at once better than one.
    pub(super) fn waits_in_ram(&self, pages: u32, bytes: u64) -> bool {
        let fits = self.index.incompressible_pages() + pages <= self.division.waiting_limit(&self.grant)
            && self.ram_takes(bytes);
        self.index.has_file() && is_incompressible(pages, bytes) && fits
    }

    /// What does not compress goes to the file, and everything does while RAM is full.
    pub(super) fn prefers_file(&self, pages: u32, bytes: u64) -> bool {
        self.index.has_file() && (is_incompressible(pages, bytes) || !self.ram_takes(bytes))
    }

    /// Whether some of what waits in RAM for the file should go now.
    pub(super) fn incompressible_is_full(&self) -> bool {
        let limit = self.division.waiting_limit(&self.grant);
        self.index.has_file() && self.index.incompressible_pages() > limit - limit / 8
    }

    /// Which queue spills first. A page that hardly compresses frees more memory for what its return will cost.
    pub(super) fn spill_order(&self) -> [Queue; 2] {
        let many_wait = self.index.incompressible_pages() >= self.division.waiting_limit(&self.grant) / 4;
        if many_wait { [Queue::Incompressible, Queue::Dense] } else { [Queue::Dense, Queue::Incompressible] }
    }

    /// Contents that would take as much RAM in the store as in frames are better left alone.
    pub(super) fn worth_ram(&self, pages: u32, bytes: u64) -> bool {
        bytes * 8 <= u64::from(pages) * PAGE_SIZE as u64 * 7
    }

    /// Moves together what is left of the emptiest segment, where gaps are too large a part of the store in RAM. Whether
    /// anything moved.
    pub(super) fn clean(&mut self, memory: &mut impl StoreMemory) -> bool {
        let (bytes, gaps) = self.index.segments.gaps();
        // To copy three bytes for one that it gains is worth it: a page costs a part of what a fault does.
        let most = self.index.segments.size() / 4 * 3;
        gaps * MOST_GAPS > bytes && self.index.clean(most, memory) > 0
    }

    /// A page of this rank is needed again. From time to time the division follows; without a file nothing is weighed.
    pub(super) fn note_refault(&mut self, rank: u32, resident: u32, only_stored: u32) {
        if self.index.has_file() && self.division.note_refault(&self.grant, rank) {
            self.division.note_density(self.index.blocks_in_ram(), self.index.ram_pages());
            self.division.decide(&self.grant, resident, only_stored);
        }
    }
}
