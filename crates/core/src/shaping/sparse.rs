//! Sparse folios: those of which few pages are touched, or many are all zeroes. They are split, and what is not used
//! of them is given back.
//!
//! What tells: the accessed bits of a host that has some (`watch`), the zeroes that a writer meets, and which pages of a
//! folio its rescues were for.

use crate::addr::{Frame, PageRange};
use crate::engine::Engine;
use crate::folio::{SplitWhy, Touched};
use crate::frame::List;
use crate::job::Packed;
use crate::log::Decision;
use crate::mmu::Mover;
use crate::order::Order;

impl Engine {
    /// Splits the folio at `head` by which of its pages are `used`, as the mode says. Its pieces keep its state and its
    /// place on its list.
    fn split_by(&mut self, head: Frame, used: &Touched, why: SplitWhy) {
        let whole = self.tables.order_of(head);
        let mut at = 0;
        while at < whole.pages() {
            let mut piece = whole.min(Order::alignment_of(u64::from(at)));
            while self.shaping.split.cuts(piece, used.count(at, piece.pages())) {
                piece = piece.down();
            }
            self.isolate(head.plus(at), piece.pages(), why);
            at += piece.pages();
        }
    }

    /// Calls `verb` with each piece that a folio of `pages` pages was split into and of which nothing is used.
    fn each_unused(
        &mut self,
        head: Frame,
        pages: u32,
        used: &Touched,
        mut verb: impl FnMut(&mut Engine, Frame) -> u32,
    ) -> u32 {
        let (mut at, mut given) = (0, 0);
        while at < pages {
            let piece = head.plus(at);
            let order = self.tables.order_of(piece);
            if used.count(at, order.pages()) == 0 {
                given += verb(self, piece);
            }
            at += order.pages();
        }
        given
    }

    /// A mapped folio of which only the pages `touched` were touched: the rest is moved out. Pages moved.
    pub(super) fn split_untouched<M: Mover>(&mut self, mmu: &mut M, head: Frame, touched: &Touched) -> u32 {
        let pages = self.tables.pages_of(head);
        self.restart_cooldown(pages);
        self.split_by(head, touched, SplitWhy::Sparse);
        let out =
            self.each_unused(head, pages.pages as u32, touched, |engine, piece| engine.evict(mmu, piece));
        self.stats.sparse_folios += 1;
        self.stats.sparse_pages += u64::from(out);
        self.stats.evicted_behind += u64::from(out);
        self.note_sparse(pages, out);
        out
    }

    /// A clean folio, just written, of which many pages were found to be all zeroes: these are given up at once. No
    /// rescue brings them back.
    pub(crate) fn split_zeroes(&mut self, head: Frame, packed: &[Packed]) {
        let mut used = Touched::default();
        (0..).zip(packed).filter(|(_, p)| **p != Packed::Zero).for_each(|(number, _)| used.add(number));
        let order = self.tables.order_of(head);
        if order == Order::BASE {
            return;
        }
        let count = used.count(0, order.pages());
        let pages = self.tables.pages_of(head);
        self.tables.note_use(pages, count);
        if !self.is_sparse(count, order) {
            return;
        }
        self.restart_cooldown(pages);
        self.split_by(head, &used, SplitWhy::Zeroes);
        let given =
            self.each_unused(head, order.pages(), &used, |engine, piece| engine.drop_clean_folio(piece));
        self.stats.sparse_folios += 1;
        self.stats.sparse_pages += u64::from(given);
        self.note_sparse(pages, given);
    }

    /// Which part of a standby folio that nothing pins goes back when page `number` of it is needed: all of it, unless
    /// it was needed for few of its pages again and again.
    pub(crate) fn split_rescued(&mut self, head: Frame, number: u32) {
        let (pages, order) = (self.tables.pages_of(head), self.tables.order_of(head));
        if order == Order::BASE {
            return;
        }
        let Some(touched) = self.rescues.note(pages.space, pages.start, order, number) else { return };
        if self.is_sparse(touched.count(0, order.pages()), order) {
            debug_assert!(matches!(self.tables.frames.get(head).list, List::Dirty | List::Clean));
            self.split_by(head, &touched, SplitWhy::Sparse);
            self.stats.sparse_folios += 1;
            self.note_sparse(pages, 0);
        }
    }

    fn note_sparse(&mut self, pages: PageRange, given: u32) {
        let PageRange { space, start: vpn, .. } = pages;
        self.log.note(Decision::Sparse { space, vpn, order: Order::fitting(pages.pages), given });
    }

    pub(super) fn is_sparse(&self, used: u32, order: Order) -> bool {
        used * 8 <= self.shaping.sparse * order.pages()
    }
}
