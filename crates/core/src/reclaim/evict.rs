//! Moving one folio out. Only a move evicts: what refuses to be moved stays where it is, and is counted.

use super::Urgency;
use crate::addr::{Frame, FrameRun, PageRange, SHARED};
use crate::engine::Engine;
use crate::folio::SplitWhy;
use crate::frame::{FrameState, List};
use crate::log::Decision;
use crate::mmu::{Mover, Refusal};

impl Engine {
    /// Moves the folio at `head` out to its own frames. Pages that are refused become folios of their own and
    /// stay. Returns the pages moved.
    pub(crate) fn evict<M: Mover>(&mut self, mmu: &mut M, head: Frame) -> u32 {
        let pages = self.tables.pages_of(head);
        let run = self.tables.frames.folio(head);
        if !self.may_leave(head) {
            self.refused(Refusal::Denied);
            self.tables.frames.delist(head);
            return 0;
        }
        if self.tables.frames.pinned(run) {
            if self.tables.frames.get(head).list != List::None {
                self.tables.frames.enlist(head, List::Active);
            }
            return 0;
        }
        if pages.space == SHARED {
            return self.evict_shared(mmu, head);
        }
        let order = self.tables.order_of(head);
        let done = mmu.move_out(pages.space, pages.start, run);
        let moved = if done.refusal.is_none() {
            self.moved_out(head);
            self.stats.evictions[order.index()] += 1;
            run.pages
        } else {
            self.evict_page_by_page(mmu, head, done.pages)
        };
        self.log.note(Decision::Evict { space: pages.space, vpn: pages.start, order, moved });
        moved
    }

    /// Whether a mapped folio may be moved out, as far as is known here.
    pub(super) fn may_leave(&self, head: Frame) -> bool {
        let pages = self.tables.pages_of(head);
        if pages.space == SHARED {
            return !self.tables.is_locked(head);
        }
        self.tables.vmas(pages.space).at(pages.start).is_some_and(|vma| vma.evictable())
    }

    /// A shared folio is in its frames already: it is unmapped wherever it is mapped.
    fn evict_shared<M: Mover>(&mut self, mmu: &mut M, head: Frame) -> u32 {
        let (shared, order) = (self.tables.pages_of(head), self.tables.order_of(head));
        self.unmap_everywhere(mmu, head);
        self.moved_out(head);
        self.stats.evictions[order.index()] += 1;
        let moved = order.pages();
        self.log.note(Decision::Evict { space: shared.space, vpn: shared.start, order, moved });
        self.after_unlinking(mmu, shared);
        moved
    }

    pub(super) fn moved_out(&mut self, head: Frame) {
        let pages = self.tables.order_of(head).pages();
        self.ranks.tick(pages);
        self.tables.frames.get_mut(head).state = FrameState::Standby;
        self.tables.frames.enlist(head, List::Dirty);
    }

    /// The slow way, for a folio of which `done` pages are out and the next one was refused.
    pub(super) fn evict_page_by_page<M: Mover>(&mut self, mmu: &mut M, head: Frame, done: u32) -> u32 {
        let pages = self.tables.order_of(head).pages();
        let mut moved = done;
        if done > 0 {
            self.isolate(head, done, SplitWhy::Refused);
            self.move_out_pieces(head, done);
        }
        let mut at = done;
        while at < pages {
            let frame = head.plus(at);
            self.isolate(frame, 1, SplitWhy::Refused);
            moved += u32::from(self.evict_page(mmu, frame));
            at += 1;
        }
        moved
    }

    /// The pieces that the first `pages` pages of a split folio have become are out.
    fn move_out_pieces(&mut self, head: Frame, pages: u32) {
        let mut at = 0;
        while at < pages {
            let piece = head.plus(at);
            self.moved_out(piece);
            self.stats.evictions[self.tables.order_of(piece).index()] += 1;
            at += self.tables.order_of(piece).pages();
        }
    }

    /// Moves one page out, mending what can be mended. Whether it is out.
    fn evict_page<M: Mover>(&mut self, mmu: &mut M, frame: Frame) -> bool {
        let page = self.tables.pages_of(frame);
        for attempt in 0..3 {
            let Some(refusal) = mmu.move_out(page.space, page.start, FrameRun::new(frame, 1)).refusal else {
                self.moved_out(frame);
                self.stats.evictions[0] += 1;
                return true;
            };
            self.refused(refusal);
            match refusal {
                Refusal::Busy if attempt == 0 => {
                    let _ = mmu.unshare(PageRange::new(page.space, page.start, 1));
                }
                // The frame of a mapped page is a hole, but for the zero page that a reader left there.
                Refusal::Exists => mmu.release(FrameRun::new(frame, 1)),
                Refusal::Again => {}
                Refusal::Absent => {
                    self.found_foreign(page.space, page.start);
                    self.drop_mapped_page(mmu, page.space, page.start);
                    return false;
                }
                Refusal::Denied | Refusal::NoRange => {
                    self.tables.frames.delist(frame);
                    return false;
                }
                Refusal::Busy | Refusal::NoMemory => break,
            }
        }
        self.tables.frames.enlist(frame, List::Active);
        false
    }

    /// Moves out what the program said it will not need soon (`MADV_PAGEOUT`), as far as it is in `range`.
    /// No fault waits for it, so it counts as moved out behind the faults. What others share stays.
    pub fn page_out<M: Mover>(&mut self, mmu: &mut M, range: PageRange) {
        if self.split_edges(mmu, range).is_err() {
            return;
        }
        self.each_folio(range, |engine, head| {
            if engine.tables.frames.get(head).state == FrameState::Mapped && engine.evicts {
                let moved = engine.evict(mmu, head);
                engine.count_evicted(Urgency::Behind, moved);
            }
        });
    }

    pub(super) fn count_evicted(&mut self, urgency: Urgency, pages: u32) {
        match urgency {
            Urgency::Behind | Urgency::StoreOnly => self.stats.evicted_behind += u64::from(pages),
            Urgency::Direct => self.stats.evicted_direct += u64::from(pages),
        }
    }
}
