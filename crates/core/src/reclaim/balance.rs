//! How memory is divided between frames, the store in RAM, and what waits there to go to the file.
//!
//! Every page that comes back tells what a little more of one of them would have spared: the distance of its refault
//! (pages moved out since it was) says where it would still have been. What that saves is weighed by what a fill costs,
//! from RAM or from a disk, and the division moves to where more is saved. Without a file there is nothing to weigh.

use crate::addr::PAGE_SIZE;
use crate::engine::Engine;
use crate::frame::List;
use crate::job::{Place, Stored};

/// How many fills from RAM cost as much as one from a disk.
const READ_WEIGHT: u32 = 6;
/// The store's share of the grant, in 1/256: at most 60 %, at least 6 %.
const MOST_STORE: u32 = 154;
const LEAST_STORE: u32 = 16;
/// By how much the share moves at a time, and after how many pages that came back.
const STORE_STEP: u32 = 4;
const WEIGHED: u32 = 512;
/// What waits in RAM to go to the file may always take this part of the grant ...
const LEAST_POOR_SHARE: u32 = 32;
/// ... and never more than this.
const MOST_POOR_SHARE: u32 = 4;

/// The division, as far as has paid so far.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    /// Pages that may wait in RAM to go to the file.
    poor: u32,
    /// The store's share of the grant, in 1/256.
    store: u32,
    /// What more frames, or a larger store, would have saved lately, in fills from RAM.
    by_frames: u32,
    by_store: u32,
    weighed: u32,
}

impl Balance {
    pub(crate) fn new(grant: u32) -> Balance {
        Balance { poor: grant / 8, store: MOST_STORE, by_frames: 0, by_store: 0, weighed: 0 }
    }

    /// Moves the store's share when enough has been weighed.
    fn settle(&mut self) {
        if self.weighed < WEIGHED {
            return;
        }
        if self.by_frames > self.by_store + self.by_store / 4 {
            self.store = self.store.saturating_sub(STORE_STEP).max(LEAST_STORE);
        } else if self.by_store > self.by_frames + self.by_frames / 4 {
            self.store = (self.store + STORE_STEP).min(MOST_STORE);
        }
        (self.by_frames, self.by_store, self.weighed) = (0, 0, 0);
    }
}

impl Engine {
    /// Most pages of RAM that the store may take, overhead included.
    pub(crate) fn store_limit(&self) -> u32 {
        let share = if self.swap.has_file() { self.balance.store } else { MOST_STORE };
        let limit = |share| (u64::from(self.grant) * u64::from(share) / 256) as u32;
        // However little it keeps, what goes to the file passes through it, many pages at once.
        limit(share).max((self.overhead + limit(LEAST_STORE)).min(limit(MOST_STORE)))
    }

    /// Most pages that wait in RAM to go to the file.
    pub(super) fn poor_limit(&self) -> u32 {
        self.balance.poor.clamp(self.grant / LEAST_POOR_SHARE, self.grant / MOST_POOR_SHARE)
    }

    /// Notes that `pages` pages came back, of which the first one's stored copy is `block`.
    pub(crate) fn weigh_refault(&mut self, block: u32, pages: u32) {
        let Stored { place, len, .. } = self.swap.stored(block);
        let mapped = self.frames.pages_on(List::Active) + self.frames.pages_on(List::Inactive);
        let distance = self.refault_distance(block);
        let from_file = matches!(place, Place::File { .. });
        let poor = self.poor_limit();
        self.balance.poor = match from_file {
            true if usize::from(len) == PAGE_SIZE && self.belongs_in_ram(block) => poor + pages * READ_WEIGHT,
            false if distance < mapped + self.swap.poor_pages() => poor.saturating_sub(pages),
            _ => poor,
        };
        let blocks = self.swap.blocks_in_ram();
        let more = mapped / 4;
        // The same memory holds more pages in the store.
        let more_stored = u64::from(more) * u64::from(blocks) / u64::from(self.swap.ram_pages().max(1));
        if distance < mapped + more {
            self.balance.by_frames += if from_file { READ_WEIGHT } else { 1 };
        } else if from_file && u64::from(distance) < u64::from(mapped + blocks) + more_stored {
            // What more frames would have spared, they would have spared for good: it does not count here as well.
            self.balance.by_store += READ_WEIGHT - 1;
        }
        self.balance.weighed += 1;
        self.balance.settle();
    }
}
