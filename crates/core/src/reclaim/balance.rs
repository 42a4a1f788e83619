//! How memory is divided between frames, the store in RAM, and what waits there to go to the file.
//!
//! Every page that comes back tells what a little more of one of them would have spared: the distance of its refault
//! (pages moved out since it was) says where it would still have been. What that saves is weighed by what a fill costs,
//! from RAM or from a disk. Without a file there is nothing to weigh.

use crate::addr::PAGE_SIZE;
use crate::engine::Engine;
use crate::job::{Place, Stored};

/// How many fills from RAM cost as much as one from a disk.
const READ_WEIGHT: u32 = 6;
/// What waits in RAM to go to the file may always take this part of the grant ...
const LEAST_POOR_SHARE: u32 = 32;
/// ... and never more than this.
const MOST_POOR_SHARE: u32 = 4;

impl Engine {
    /// Most pages of RAM that the store may take, overhead included: frames keep 40 % of the grant.
    pub(super) fn store_limit(&self) -> u32 {
        (u64::from(self.grant) * 3 / 5) as u32
    }

    /// Most pages that wait in RAM to go to the file.
    pub(super) fn poor_limit(&self) -> u32 {
        self.poor_goal.clamp(self.grant / LEAST_POOR_SHARE, self.grant / MOST_POOR_SHARE)
    }

    /// Notes that `pages` pages came back, of which the first one's stored copy is `block`: more room for what waits
    /// would have spared a read of the disk, or without it the page would still have been mapped.
    pub(crate) fn weigh_refault(&mut self, block: u32, pages: u32) {
        let Stored { place, len, .. } = self.swap.stored(block);
        let limit = self.poor_limit();
        self.poor_goal = match place {
            Place::File { .. } if usize::from(len) == PAGE_SIZE && self.belongs_in_ram(block) => {
                limit.saturating_add(pages * READ_WEIGHT)
            }
            Place::Ram { .. }
                if self.refault_distance(block) < self.mapped_pages() + self.swap.poor_pages() =>
            {
                limit.saturating_sub(pages)
            }
            _ => limit,
        };
    }
}
