//! Spaces begin, fork and end.

use crate::addr::{Frame, FrameRun, PageRange, SHARED, Space, Vpn};
use crate::engine::Engine;
use crate::fault::MOST_TRIES;
use crate::folio::SplitWhy;
use crate::frame::{FrameState, List, Use};
use crate::mmu::{Mover, Refusal};
use crate::order::{Order, OrderSet};
use crate::tables::{AddressSpace, Pte};

impl Engine {
    /// Begins an address space in which nothing is mapped; the host knows it already. The number of one that has
    /// ended is used again. [`Refusal::NoMemory`]: there are as many as can be numbered.
    pub fn create_space(&mut self) -> Result<Space, Refusal> {
        if let Some(space) = self.tables.free_spaces.pop() {
            return Ok(space);
        }
        let number = u16::try_from(self.tables.spaces.len()).map_err(|_| Refusal::NoMemory)?;
        self.tables.spaces.push(AddressSpace::default());
        Ok(Space(number))
    }

    /// Forks: the child has what the parent has, shared until one of them writes. Takes time in proportion to what
    /// the parent has. [`Refusal::NoMemory`]: a page that can't be shared found no frame for its copy. After any
    /// refusal there is no child, and the parent has all it had.
    pub fn fork<M: Mover>(&mut self, mmu: &mut M, parent: Space) -> Result<Space, Refusal> {
        if parent == SHARED {
            return Err(Refusal::NoRange);
        }
        let child = self.create_space()?;
        let begun = mmu.fork_space(parent, child).and_then(|()| {
            self.inherit_vmas(parent, child);
            self.share_all(mmu, parent, child)
        });
        match begun {
            Ok(()) => Ok(child),
            Err(refusal) => {
                self.exit(mmu, child);
                Err(refusal)
            }
        }
    }

    /// Ends a space: all that it has is given up, and its number is free for another. Takes time in proportion to what
    /// it has. A space that has ended already stays so.
    pub fn exit<M: Mover>(&mut self, mmu: &mut M, space: Space) {
        if space == SHARED || self.tables.free_spaces.contains(&space) {
            return;
        }
        mmu.end_space(space);
        let all = whole(space);
        self.take_from_jobs(mmu, all);
        self.tables.space_mut(space).vmas.edit(all.start, all.end(), |vma| vma.locked = false);
        self.drop_pages(mmu, all);
        *self.tables.space_mut(space) = AddressSpace::default();
        self.tending.forget(space);
        if self.last_late.0 == space {
            self.last_late.2 = 0;
        }
        self.tables.free_spaces.push(space);
    }

    fn inherit_vmas(&mut self, parent: Space, child: Space) {
        let mut vmas = self.tables.vmas(parent).clone();
        vmas.edit(Vpn(0), whole(child).end(), |vma| vma.locked = false);
        self.tables.space_mut(child).vmas = vmas;
    }

    fn share_all<M: Mover>(&mut self, mmu: &mut M, parent: Space, child: Space) -> Result<(), Refusal> {
        self.revert_fills(mmu, whole(parent));
        let mut at = Vpn(0);
        while let Some(vpn) = self.tables.next_used(PageRange::between(parent, at, whole(parent).end())) {
            let pte = self.tables.pte(parent, vpn);
            at = if let Some((slot, mapped)) = pte.slot() {
                if mapped && !mmu.present(parent, vpn) {
                    self.found_foreign(parent, vpn);
                    self.give_up_shared(mmu, PageRange::new(parent, vpn, 1));
                    vpn.plus(1)
                } else {
                    self.share_again(vpn, slot, child)
                }
            } else if let Some(frame) = pte.frame() {
                self.share_folio(mmu, frame, child)?
            } else {
                self.share_stored(parent, vpn, child)
            };
        }
        self.map_shared_in(mmu, child);
        Ok(())
    }

    /// Fills are as if they had not begun.
    fn revert_fills<M: Mover>(&mut self, mmu: &mut M, range: PageRange) {
        self.each_folio(range, |engine, head| {
            if engine.tables.frames.get(head).state == FrameState::Filling {
                engine.revert_fill(mmu, head);
            }
        });
    }

    /// One more space shares a page.
    fn share_again(&mut self, vpn: Vpn, slot: Vpn, child: Space) -> Vpn {
        self.tables.shared.link(slot, child, vpn);
        self.set_pte(child, vpn, Pte::shared(slot, false));
        vpn.plus(1)
    }

    /// Shares stored pages that lie side by side, in slots as aligned as they are. Returns the page after them.
    fn share_stored(&mut self, parent: Space, vpn: Vpn, child: Space) -> Vpn {
        let most = u64::from(Order::alignment_of(vpn.0).pages());
        let stored = |i: &u64| self.tables.pte(parent, vpn.plus(*i)).only_stored().is_some();
        let run = (1..most).take_while(stored).count() as u64 + 1;
        let order = Order::fitting(run);
        let slot = self.tables.shared.take(order);
        for i in 0..u64::from(order.pages()) {
            self.move_to_slot(parent, vpn.plus(i), slot.plus(i), false, child);
        }
        vpn.plus(u64::from(order.pages()))
    }

    /// What a page has, its slot has from now on, and parent and child name that.
    fn move_to_slot(&mut self, parent: Space, vpn: Vpn, slot: Vpn, mapped: bool, child: Space) {
        let pte = self.tables.pte(parent, vpn);
        self.set_pte(parent, vpn, Pte::shared(slot, mapped));
        self.set_pte(SHARED, slot, pte);
        self.tables.shared.link(slot, parent, vpn);
        self.share_again(vpn, slot, child);
    }

    /// Shares a folio, but for pages of it that the host refuses: the child gets copies of those. Returns the page
    /// after it.
    fn share_folio<M: Mover>(&mut self, mmu: &mut M, head: Frame, child: Space) -> Result<Vpn, Refusal> {
        let pages = self.tables.pages_of(head);
        if self.tables.frames.get(head).state != FrameState::Mapped {
            self.folio_to_slots(head, child);
            return Ok(pages.end());
        }
        let done = mmu.share(pages.space, pages.start, self.tables.frames.folio(head));
        if done.refusal.is_none() {
            self.folio_to_slots(head, child);
            return Ok(pages.end());
        }
        if done.pages > 0 {
            self.isolate(head, done.pages, SplitWhy::Refused);
        }
        let mut at = 0;
        while at < done.pages {
            let piece = head.plus(at);
            at += self.tables.order_of(piece).pages();
            self.folio_to_slots(piece, child);
        }
        for frame in (done.pages..pages.pages as u32).map(|i| head.plus(i)) {
            self.isolate(frame, 1, SplitWhy::Refused);
            self.share_page(mmu, frame, child)?;
        }
        Ok(pages.end())
    }

    /// Shares a folio of one page that was refused together with others.
    fn share_page<M: Mover>(&mut self, mmu: &mut M, frame: Frame, child: Space) -> Result<(), Refusal> {
        let page = self.tables.pages_of(frame);
        for _ in 0..3 {
            let Some(refusal) = mmu.share(page.space, page.start, FrameRun::new(frame, 1)).refusal else {
                self.folio_to_slots(frame, child);
                return Ok(());
            };
            self.refused(refusal);
            match refusal {
                // The slot of a mapped page is a hole, but for the zero page that a reader left there.
                Refusal::Exists => mmu.release(FrameRun::new(frame, 1)),
                Refusal::Absent => {
                    self.found_foreign(page.space, page.start);
                    self.drop_mapped_page(mmu, page.space, page.start);
                    return Ok(());
                }
                Refusal::Again => {}
                Refusal::Busy | Refusal::Denied | Refusal::NoRange | Refusal::NoMemory => break,
            }
        }
        self.copy_for_child(mmu, page, child)
    }

    /// Writes the tables of a folio that is shared from now on. One that was mapped is in its slots of the pool
    /// already, and mapped for the parent.
    fn folio_to_slots(&mut self, head: Frame, child: Space) {
        let pages = self.tables.pages_of(head);
        let order = self.tables.order_of(head);
        let mapped = self.tables.frames.get(head).state == FrameState::Mapped;
        let slot = self.tables.shared.take(order);
        for i in 0..pages.pages {
            self.move_to_slot(pages.space, pages.start.plus(i), slot.plus(i), mapped, child);
            let record = self.tables.frames.get_mut(head.plus(i as u32));
            (record.space, record.vpn) = (SHARED, slot.plus(i));
        }
        if mapped {
            self.tables.frames.get_mut(head).state = FrameState::Shared;
            self.tables.relist_shared(slot);
        }
    }

    /// The child gets a copy of a page, in standby.
    fn copy_for_child<M: Mover>(
        &mut self,
        mmu: &mut M,
        page: PageRange,
        child: Space,
    ) -> Result<(), Refusal> {
        let taken = self.take_frames(mmu, OrderSet::only(Order::BASE), Use::Contents);
        let (frame, order, backing) = taken.ok_or(Refusal::NoMemory)?;
        let run = FrameRun::new(frame, order.pages());
        for _ in 0..MOST_TRIES {
            let Some(refusal) = mmu.copy_out(page.space, page.start, run).refusal else {
                self.attach(mmu, child, page.start, frame, order);
                self.tables.frames.get_mut(frame).state = FrameState::Standby;
                self.tables.frames.enlist(frame, List::Dirty);
                return Ok(());
            };
            self.refused(refusal);
        }
        self.pool.give(run, backing);
        Err(Refusal::NoMemory)
    }

    /// Maps in a new child what is in frames. What is refused, a touch will bring.
    fn map_shared_in<M: Mover>(&mut self, mmu: &mut M, child: Space) {
        let mut at = Vpn(0);
        while let Some(vpn) = self.tables.next_used(PageRange::between(child, at, whole(child).end())) {
            at = vpn.plus(1);
            let Some((slot, false)) = self.tables.pte(child, vpn).slot() else { continue };
            let Some(frame) = self.tables.pte(SHARED, slot).frame() else { continue };
            let head = self.tables.frames.head_of(frame);
            if self.tables.frames.get(head).state == FrameState::Shared {
                let most = self.tables.pages_of(head).end().0 - slot.0;
                at = vpn.plus(self.map_once(mmu, frame, PageRange::new(child, vpn, most), slot));
            }
        }
    }
}

/// All pages of a space.
fn whole(space: Space) -> PageRange {
    PageRange::new(space, Vpn(0), u64::MAX)
}
