//! Parting: a space gives up shared pages, the last one takes them back for itself.

use crate::addr::{Frame, FrameRun, PageRange, SHARED, Space, Vpn};
use crate::engine::Engine;
use crate::folio::SplitWhy;
use crate::frame::{Backing, FrameState, List};
use crate::mmu::{Mmu, Mover};
use crate::tables::Pte;

impl Engine {
    /// The pages from `pages.start` on, as far as they are shared in slots side by side, are empty now; they are holes
    /// already. What nobody names any longer is free. Returns the page after them.
    pub(crate) fn give_up_shared<M: Mover>(&mut self, mmu: &mut M, pages: PageRange) -> Vpn {
        let Some((first, _)) = self.tables.pte(pages.space, pages.start).slot() else { return pages.start };
        let mut count = 0;
        while count < pages.pages {
            let vpn = pages.start.plus(count);
            let Some((slot, _)) = self.tables.pte(pages.space, vpn).slot() else { break };
            if slot != first.plus(count) {
                break;
            }
            self.unlink(pages.space, vpn, slot);
            count += 1;
        }
        self.after_unlinking(mmu, PageRange::new(SHARED, first, count));
        pages.start.plus(count)
    }

    /// A page entry that names a slot is empty.
    pub(super) fn unlink(&mut self, space: Space, vpn: Vpn, slot: Vpn) {
        self.tables.shared.unlink(slot, space, vpn);
        self.set_pte(space, vpn, Pte::EMPTY);
    }

    /// Frees the slots of `slots` that nobody names any longer; folios of the others may be free of a lock.
    pub(crate) fn after_unlinking<M: Mover>(&mut self, mmu: &mut M, slots: PageRange) {
        let mut at = slots.start;
        while at < slots.end() {
            if !self.tables.shared.is_orphan(at) {
                self.tables.relist_shared(at);
                at = at.plus(1);
                continue;
            }
            let mut end = at.plus(1);
            while end < slots.end() && self.tables.shared.is_orphan(end) {
                end = end.plus(1);
            }
            self.free_orphans(mmu, at, end);
            at = end;
        }
    }

    /// Frees slots from `at` to `end`, which nobody names, with what they have. A folio is split at either edge.
    fn free_orphans<M: Mover>(&mut self, mmu: &mut M, mut at: Vpn, end: Vpn) {
        while at < end {
            let Some(frame) = self.tables.pte(SHARED, at).frame() else {
                self.free_slot(mmu, at);
                at = at.plus(1);
                continue;
            };
            let head = self.tables.frames.head_of(frame);
            if self.tables.frames.get(head).state == FrameState::Filling {
                self.revert_fill(mmu, head);
                continue;
            }
            self.take_from_writer(head);
            let folio = self.tables.pages_of(head);
            let stop = end.min(folio.end());
            self.isolate(frame, (stop.0 - at.0) as u32, SplitWhy::Edge);
            while at < stop {
                at = self.free_orphaned_folio(mmu, at);
            }
        }
    }

    /// Frees the folio that begins at slot `at`. Returns the slot after it.
    fn free_orphaned_folio(&mut self, mmu: &mut impl Mmu, at: Vpn) -> Vpn {
        let Some(head) = self.tables.pte(SHARED, at).frame() else { return at.plus(1) };
        let folio = self.tables.pages_of(head);
        self.tables.frames.delist(head);
        for slot in (0..folio.pages).map(|i| at.plus(i)) {
            self.free_slot(mmu, slot);
        }
        self.free_frames(FrameRun::new(head, folio.pages as u32), Backing::Dirty);
        folio.end()
    }

    fn free_slot(&mut self, mmu: &mut impl Mmu, slot: Vpn) {
        self.forget_block(SHARED, slot, mmu);
        self.set_pte(SHARED, slot, Pte::EMPTY);
        self.tables.shared.give(slot);
    }

    /// A shared page has turned out to be all zeroes, and has no frame any longer: it is empty wherever it is named.
    pub(crate) fn dissolve(&mut self, slot: Vpn) {
        while let Some((_, space, vpn)) = self.tables.shared.after(slot, None) {
            self.unlink(space, vpn, slot);
        }
        self.tables.shared.give(slot);
    }

    /// Page `vpn`, which alone names `slot`, gets back what the slot has; with it the rest of its folio, where that is
    /// named side by side by the same space alone. What was mapped is in standby.
    pub(super) fn take_back<M: Mover>(&mut self, mmu: &mut M, space: Space, vpn: Vpn, slot: Vpn) {
        let Some(frame) = self.tables.pte(SHARED, slot).frame() else {
            return self.take_back_page(space, vpn, slot);
        };
        let head = self.tables.frames.head_of(frame);
        self.take_from_writer(head);
        let mut head = self.part_to_take_back(space, vpn, slot, head);
        if self.tables.frames.get(head).state == FrameState::Shared {
            let slots = self.tables.pages_of(head);
            self.unmap_everywhere(mmu, head);
            self.tables.frames.get_mut(head).state = FrameState::Standby;
            self.tables.frames.enlist(head, List::Dirty);
            self.after_unlinking(mmu, slots);
            head = self.part_to_take_back(space, vpn, slot, self.tables.frames.head_of(frame));
        }
        let slots = self.tables.pages_of(head);
        let start = Vpn(vpn.0 - (slot.0 - slots.start.0));
        for i in 0..slots.pages {
            self.take_back_page(space, start.plus(i), slots.start.plus(i));
            let record = self.tables.frames.get_mut(head.plus(i as u32));
            (record.space, record.vpn) = (space, start.plus(i));
        }
    }

    /// The folio at `head`, if all of it is to be taken back; else the page alone, split off.
    fn part_to_take_back(&mut self, space: Space, vpn: Vpn, slot: Vpn, head: Frame) -> Frame {
        if self.takes_back_whole(space, vpn, slot, head) {
            return head;
        }
        let frame = head.plus((slot.0 - self.tables.pages_of(head).start.0) as u32);
        self.isolate(frame, 1, SplitWhy::Edge);
        frame
    }

    fn take_back_page(&mut self, space: Space, vpn: Vpn, slot: Vpn) {
        let pte = self.tables.pte(SHARED, slot);
        self.tables.shared.unlink(slot, space, vpn);
        self.set_pte(SHARED, slot, Pte::EMPTY);
        self.set_pte(space, vpn, pte);
        self.tables.shared.give(slot);
    }

    /// Whether a folio could be one of `space`: aligned there, in one VMA, and nobody else's.
    fn takes_back_whole(&self, space: Space, vpn: Vpn, slot: Vpn, head: Frame) -> bool {
        let slots = self.tables.pages_of(head);
        let order = self.tables.order_of(head);
        let start = order.align_down(vpn.0);
        let Some(vma) = self.tables.vmas(space).at(vpn) else { return false };
        let inside = start >= vma.start.0 && start + slots.pages <= vma.end.0;
        let alone = |i: u64| {
            let there = self.tables.pte(space, Vpn(start + i)).slot().map(|(slot, _)| slot);
            there == Some(slots.start.plus(i)) && self.tables.shared.is_sole(slots.start.plus(i))
        };
        inside && vpn.0 - start == slot.0 - slots.start.0 && (0..slots.pages).all(alone)
    }
}
