//! What a refault tells the store: how long ago the page left compared with others, and whether memory should be divided
//! otherwise.

use crate::addr::PAGE_SIZE;
use crate::engine::Engine;
use crate::job::{Place, Stored};
use crate::mmu::Mmu;
use crate::store::{Block, Message};

impl Engine {
    /// Notes that a page is needed again, if it was only stored: it was moved out at `evicted_at`.
    pub(crate) fn note_refault(&mut self, mmu: &mut impl Mmu, evicted_at: Option<u32>) {
        // Without a file nothing is weighed.
        let Some(evicted_at) = evicted_at.filter(|_| self.store.has_file) else { return };
        let (resident, only_stored) = (self.pool.in_use(), self.ranks.only_stored());
        mmu.tell(Message::Refault { rank: self.ranks.rank(evicted_at), resident, only_stored });
    }

    /// Notes that `pages` pages came back, one of which was moved out at `evicted_at`, and the first of which is `first`:
    /// more room for what waits would have spared a read of the disk, or without it the page would still have been mapped.
    pub(crate) fn weigh_refault(&mut self, mmu: &mut impl Mmu, evicted_at: u32, first: Block, pages: u32) {
        let Some(Stored { place, len, .. }) = mmu.look(first) else { return };
        let (more, less) = match place {
            Place::File { .. } if usize::from(len) == PAGE_SIZE && self.belongs_in_ram(evicted_at) => {
                (pages, 0)
            }
            Place::Ram { .. }
                if self.ranks.distance(evicted_at)
                    < self.tables.mapped_pages() + self.store.incompressible_pages =>
            {
                (0, pages)
            }
            _ => return,
        };
        mmu.tell(Message::Waiting { more, less });
    }
}
