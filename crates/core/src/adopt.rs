//! Memory that was the program's before there was an engine: its pages are at their addresses, and no fault brought them.

use crate::addr::{FrameRun, PageRange};
use crate::engine::Engine;
use crate::frame::{Backing, FrameState, List, Use};
use crate::order::{Order, OrderSet};

impl Engine {
    /// Takes over pages of one VMA that are all at the program's address, and empty as far as the tables know. They become
    /// folios of at most order `most`, which nobody has touched lately. Answers how many pages those are, from the start
    /// of `range`: fewer only where no frame is left, whose number such a page needs to be moved out to. The grant does not
    /// matter: the memory is in use already.
    pub fn adopt(&mut self, range: PageRange, most: Order) -> u64 {
        let Some(vma) = self.tables.vmas(range.space).at(range.start).copied() else { return 0 };
        let list = if vma.evictable() { List::Inactive } else { List::None };
        let mut at = range.start;
        while at < range.end() {
            let fits = Order::alignment_of(at.0).min(Order::fitting(range.end().0 - at.0)).min(most);
            let taken = self.pool.take(OrderSet::up_to(fits), Use::Contents, u32::MAX);
            let Some((head, order, backing)) = taken else { break };
            if backing != Backing::Hole {
                // Contents would be in the way of those that are to be moved there.
                self.pool.give(FrameRun::new(head, order.pages()), backing);
                break;
            }
            self.attach(range.space, at, head, order);
            self.tables.frames.get_mut(head).state = FrameState::Mapped;
            self.tables.frames.enlist(head, list);
            at = at.plus(u64::from(order.pages()));
        }
        let pages = at.0 - range.start.0;
        self.stats.adopted += pages;
        pages
    }
}
