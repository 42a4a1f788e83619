//! Splitting a folio in the tables: buddy-style, into the largest aligned pieces.

use crate::addr::{Frame, PageRange};
use crate::engine::Engine;
use crate::folio::SplitWhy;
use crate::frame::{FrameRecord, FrameState, List, NIL};
use crate::log::Decision;
use crate::order::Order;

impl Engine {
    /// Makes `pages` pages of a folio, from that in `first` on, folios apart from the rest. The pieces keep the folio's
    /// state, and its place on its list.
    pub(crate) fn isolate(&mut self, first: Frame, pages: u32, why: SplitWhy) {
        let head = self.tables.frames.head_of(first);
        let from = first.0 - head.0;
        let to = from + pages;
        let FrameRecord { order, space, vpn, .. } = *self.tables.frames.get(head);
        if from == 0 && to == order.pages() {
            return;
        }
        self.stats.splits[why.index()] += 1;
        self.log.note(Decision::Split { space, vpn, order, why });
        let (list, prev) = (self.tables.frames.get(head).list, self.tables.frames.get(head).prev);
        let state = self.tables.frames.get(head).state;
        self.tables.frames.delist(head);
        let mut prev = prev;
        for (start, end) in [(0, from), (from, to), (to, order.pages())] {
            let mut at = start;
            while at < end {
                let piece = Order::alignment_of(u64::from(at)).min(Order::fitting(u64::from(end - at)));
                let piece = piece.min(order);
                self.found_piece(head.plus(at), piece, state);
                if list != List::None {
                    self.tables.frames.link_after(head.plus(at), prev, list);
                    prev = head.plus(at).0;
                }
                at += piece.pages();
            }
        }
        if state == FrameState::Shared && list == List::None {
            self.relist_pieces(head, order);
        }
    }

    /// The pieces of a shared folio that a lock had kept off the lists: it need not be a lock of each of them.
    fn relist_pieces(&mut self, head: Frame, whole: Order) {
        let mut at = 0;
        while at < whole.pages() {
            let piece = head.plus(at);
            self.tables.relist_shared(self.tables.frames.get(piece).vpn);
            at += self.tables.order_of(piece).pages();
        }
    }

    fn found_piece(&mut self, head: Frame, order: Order, state: FrameState) {
        for i in 0..order.pages() {
            let record = self.tables.frames.get_mut(head.plus(i));
            (record.order, record.state) = (order, state);
            (record.list, record.prev, record.next) = (List::None, NIL, NIL);
        }
    }

    /// Splits the folio at `head` into folios of at most `order`.
    pub(crate) fn split_to(&mut self, head: Frame, order: Order, why: SplitWhy) {
        let whole = self.tables.frames.get(head).order;
        let mut at = 0;
        while whole > order && at < whole.pages() {
            // Isolating a front piece leaves larger ones behind it: go on with what follows the piece.
            self.isolate(head.plus(at), order.pages(), why);
            at += order.pages();
        }
    }

    /// Splits what straddles either end of `range`, so that each folio is wholly inside it or outside.
    pub(crate) fn split_at_edges(&mut self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        for edge in [range.start, range.end()] {
            let Some(frame) = self.tables.pte(range.space, edge).frame() else { continue };
            let head = self.tables.frames.head_of(frame);
            let within = frame.0 - head.0;
            if within != 0 {
                self.isolate(frame, self.tables.order_of(head).pages() - within, SplitWhy::Edge);
            }
        }
    }
}
