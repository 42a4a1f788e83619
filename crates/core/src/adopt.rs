//! Memory that was the program's before there was an engine: its pages are at their addresses, and no fault brought them.

use crate::addr::PageRange;
use crate::engine::Engine;
use crate::frame::{FrameState, List, Use};
use crate::mmu::Mmu;
use crate::order::{Order, OrderSet};

impl Engine {
    /// Takes over pages that are all at the program's address, though they are empty as far as the tables know. They become
    /// folios of at most order `most`, next to be moved out: nobody knows that they were touched. Answers how many pages
    /// those are, from the start of `range`. They end where the VMA does, before a page that is not empty, and where every
    /// frame is in use or has memory, since the frame of such a page is a hole. The grant does not matter: the memory is in
    /// use already.
    pub fn adopt(&mut self, mmu: &mut impl Mmu, range: PageRange, most: Order) -> u64 {
        let Some(vma) = self.tables.vmas(range.space).at(range.start).copied() else { return 0 };
        let inside = PageRange::between(range.space, range.start, range.end().min(vma.end));
        let end = self.tables.next_used(inside).unwrap_or(inside.end());
        let list = if vma.evictable() { List::Inactive } else { List::None };
        let mut at = range.start;
        while at < end {
            let fits = Order::alignment_of(at.0).min(Order::fitting(end.0 - at.0)).min(most);
            let taken = self.pool.take(OrderSet::up_to(fits), Use::Adopted, u32::MAX);
            let Some((head, order, _)) = taken else { break };
            self.attach(mmu, range.space, at, head, order);
            self.tables.frames.get_mut(head).state = FrameState::Mapped;
            self.tables.frames.enlist(head, list);
            at = at.plus(u64::from(order.pages()));
        }
        let adopted = PageRange::between(range.space, range.start, at);
        self.forget_late(adopted);
        self.stats.adopted += adopted.pages;
        adopted.pages
    }
}
