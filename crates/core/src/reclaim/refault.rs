//! What a refault tells: how long ago the page left compared with others, and whether memory should be divided otherwise.

use crate::addr::PAGE_SIZE;
use crate::engine::Engine;
use crate::job::{Place, Stored};

impl Engine {
    /// Most pages of RAM that the store may take, the host's tables included.
    pub(super) fn store_limit(&self) -> u32 {
        self.division.store_limit(&self.grant, self.swap.has_file())
    }

    /// Sets how many thirty-seconds of the grant the store and the host's tables may take, 1..=19. From there the
    /// division follows refaults again.
    pub fn set_division(&mut self, parts: u32) {
        self.division.set_parts(parts);
    }

    /// Tells how long a fault waited for its read of the spill file, in ns.
    pub fn note_read(&mut self, ns: u64) {
        self.division.note_read(ns);
    }

    /// Notes that a page is needed again whose stored copy is `block`. From time to time the division follows; without a file
    /// nothing is weighed.
    pub(crate) fn note_refault(&mut self, block: u32) {
        if !self.swap.has_file() {
            return;
        }
        let rank = self.ranks.rank(self.swap.evicted_at(block));
        if self.division.note_refault(&self.grant, rank) {
            self.divide();
        }
    }

    fn divide(&mut self) {
        self.division.note_density(self.swap.blocks_in_ram(), self.swap.ram_pages());
        self.division.decide(&self.grant, self.pool.in_use(), self.ranks.only_stored());
    }

    /// Notes that `pages` pages came back, of which the first one's stored copy is `block`: more room for what waits
    /// would have spared a read of the disk, or without it the page would still have been mapped.
    pub(crate) fn weigh_refault(&mut self, block: u32, pages: u32) {
        let Stored { place, len, .. } = self.swap.stored(block);
        let (more, less) = match place {
            Place::File { .. } if usize::from(len) == PAGE_SIZE && self.belongs_in_ram(block) => (pages, 0),
            Place::Ram { .. }
                if self.refault_distance(block)
                    < self.tables.mapped_pages() + self.swap.incompressible_pages() =>
            {
                (0, pages)
            }
            _ => (0, 0),
        };
        self.division.weigh_waiting(&self.grant, more, less);
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::Use;
    use crate::swap::Queue;
    use crate::{Config, Engine, Order, OrderSet, PolicyKind};

    fn engine(grant: u32) -> Engine {
        let policy = PolicyKind::Adaptive;
        let mut engine =
            Engine::new(Config { frames: grant, segments: 64, segment_pages: 16, grant, policy });
        engine.open_spill_file(0, 1 << 20);
        engine.swap.segments.reserve(64);
        engine
    }

    #[test]
    fn where_nothing_is_stored_in_ram_no_page_belongs_there() {
        let mut engine = engine(320);
        let extent = engine.swap.new_file_extent(4096).expect("the file is empty");
        let block = engine.swap.new_file_block(extent, 0, 4096, 0, 0);
        assert!(!engine.belongs_in_ram(block));
        assert!(engine.swap.new_ram_block(Queue::Dense, 500, 0, 0).is_some());
        assert!(engine.belongs_in_ram(block), "nothing left after it");
    }

    /// Half of memory is in frames, four times as much is only stored, and what comes back had just left.
    #[test]
    fn a_working_set_that_nearly_fits_gets_frames() {
        let mut engine = engine(1024);
        assert!(engine.pool.take(OrderSet::only(Order::MAX), Use::Zeroes, 1024).is_some());
        (0..4000).for_each(|_| engine.ranks.enter(0));
        (0..12 * 32).for_each(|rank| _ = engine.division.note_refault(&engine.grant, rank));
        let before = engine.store_limit();
        engine.divide();
        assert_eq!((before, engine.store_limit()), (1024 * 19 / 32, 1024 * 17 / 32));
    }

    #[test]
    fn whether_all_fits_follows_from_how_dense_the_store_is() {
        let mut engine = engine(1024);
        (0..4000).for_each(|_| engine.ranks.enter(0));
        engine.divide();
        assert!(!engine.division.fits(), "as far as is known, two and a half pages lie in one");
        (0..1000).for_each(|_| assert!(engine.swap.new_ram_block(Queue::Dense, 500, 0, 0).is_some()));
        engine.divide();
        assert!(engine.division.fits(), "eight do");
    }
}
