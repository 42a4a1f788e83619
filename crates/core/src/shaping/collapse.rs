//! Collapse: a run of small mapped folios becomes one folio.
//!
//! While a page is mapped, its frame is a hole: a number and nothing else. So its folio is given other frames,
//! side by side, by writing tables; no page moves and no TLB is flushed. (A host for which that is not so is told, by
//! [`Mmu::relocated`].)

use crate::addr::{Frame, FrameRun, PageRange, Space, Vpn};
use crate::engine::Engine;
use crate::frame::{Backing, FrameRecord, FrameState, List};
use crate::log::Decision;
use crate::mmu::Mmu;
use crate::order::Order;

impl Engine {
    /// Makes the folios that fill the aligned range of `order` at `start` one. All of its pages are mapped, in one VMA,
    /// used by no job and can be moved out; a run of frames is free for them. False, and nothing has changed, otherwise.
    /// The new folio is active if any of them was.
    pub fn collapse<M: Mmu>(&mut self, mmu: &mut M, space: Space, start: Vpn, order: Order) -> bool {
        let range = PageRange::new(space, start, u64::from(order.pages()));
        if order.align_down(start.0) != start.0 || !self.can_collapse(range) {
            return false;
        }
        let Some(head) = self.frames_for(range, order) else {
            self.stats.collapses_without_run += 1;
            self.log.note(Decision::NoRun { space, vpn: start, order });
            return false;
        };
        let mut list = List::Inactive;
        self.each_folio(range, |engine, old| {
            let FrameRecord { vpn, list: on, .. } = *engine.tables.frames.get(old);
            let new = head.plus((vpn.0 - start.0) as u32);
            if on == List::Active {
                list = on;
            }
            engine.tables.frames.delist(old);
            if new != old {
                engine.renumber(old, new);
            }
        });
        self.tables.frames.found(head, order, space, start, FrameState::Mapped);
        self.tables.frames.enlist(head, list);
        mmu.relocated(range, head);
        self.note_collapse(range);
        self.stats.collapses[order.index()] += 1;
        self.log.note(Decision::Collapse { space, vpn: start, order });
        true
    }

    /// Whether the folios in `range` fill it, are more than one, and all are mapped, on a list and unpinned.
    pub(super) fn can_collapse(&self, range: PageRange) -> bool {
        let inside = self.tables.vmas(range.space).at(range.start).filter(|vma| vma.end >= range.end());
        if !inside.is_some_and(|vma| vma.evictable()) {
            return false;
        }
        if self.tables.pte(range.space, Vpn(range.end().0 - 1)).frame().is_none() {
            return false;
        }
        let mut at = range.start;
        while at < range.end() {
            let Some(head) = self.tables.pte(range.space, at).frame() else { return false };
            let FrameRecord { vpn, state, order, list, .. } = *self.tables.frames.get(head);
            let listed = matches!(list, List::Active | List::Inactive);
            let whole = vpn == at && u64::from(order.pages()) < range.pages;
            if state != FrameState::Mapped
                || !listed
                || !whole
                || self.tables.frames.pinned(self.tables.frames.folio(head))
            {
                return false;
            }
            at = at.plus(u64::from(order.pages()));
        }
        true
    }

    /// Frames side by side for the pages of `range`: those they have, if they lie so already, or free ones.
    fn frames_for(&mut self, range: PageRange, order: Order) -> Option<Frame> {
        let first = self.tables.pte(range.space, range.start).frame()?;
        let aligned = order.align_down(u64::from(first.0)) == u64::from(first.0);
        let in_place = aligned
            && (0..order.pages()).all(|i| {
                self.tables.pte(range.space, range.start.plus(u64::from(i))).frame() == Some(first.plus(i))
            });
        if in_place {
            return Some(first);
        }
        let head = self.pool.take_holes(order)?;
        self.tables.frames.cover(FrameRun::new(head, order.pages()));
        Some(head)
    }

    /// Gives the mapped folio at `head`, which is on no list and used by no job, the frames at `to`, which are holes and
    /// taken. Its own are free holes from then on.
    pub(crate) fn renumber(&mut self, head: Frame, to: Frame) {
        let pages = self.tables.pages_of(head);
        for i in 0..pages.pages as u32 {
            *self.tables.frames.get_mut(to.plus(i)) = *self.tables.frames.get(head.plus(i));
            let vpn = pages.start.plus(u64::from(i));
            let pte = self.tables.pte(pages.space, vpn).in_frame(to.plus(i));
            self.set_pte(pages.space, vpn, pte);
        }
        self.free_frames(FrameRun::new(head, pages.pages as u32), Backing::Hole);
    }
}
