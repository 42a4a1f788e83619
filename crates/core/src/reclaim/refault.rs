//! What a refault tells the store: how long ago the page left compared with others, and whether memory should be divided
//! otherwise.

use crate::addr::PAGE_SIZE;
use crate::engine::Engine;
use crate::job::{Place, Stored};
use crate::mmu::Mmu;
use crate::store::Message;
use crate::tables::Pte;

impl Engine {
    /// Notes that a page is needed again, if it was only stored.
    pub(crate) fn note_refault(&mut self, mmu: &mut impl Mmu, pte: Pte) {
        // Without a file nothing is weighed.
        if pte.only_stored().is_some() && self.store.has_file {
            let (resident, only_stored) = (self.pool.in_use(), self.ranks.only_stored());
            mmu.tell(Message::Refault { rank: self.ranks.rank(pte.evicted_at()), resident, only_stored });
        }
    }

    /// Notes that `pages` pages came back, of which the first one's entry is `first`: more room for what waits would have
    /// spared a read of the disk, or without it the page would still have been mapped.
    pub(crate) fn weigh_refault(&mut self, mmu: &mut impl Mmu, first: Pte, pages: u32) {
        let Some(Stored { place, len, .. }) = first.placed().and_then(|block| mmu.look(block)) else {
            return;
        };
        let (more, less) = match place {
            Place::File { .. } if usize::from(len) == PAGE_SIZE && self.belongs_in_ram(first) => (pages, 0),
            Place::Ram { .. }
                if self.refault_distance(first)
                    < self.tables.mapped_pages() + self.store.incompressible_pages =>
            {
                (0, pages)
            }
            _ => return,
        };
        mmu.tell(Message::Waiting { more, less });
    }
}
