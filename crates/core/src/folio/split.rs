//! Splitting a folio in the tables: buddy-style, into the largest aligned pieces.

use crate::addr::{Frame, PageRange};
use crate::engine::Engine;
use crate::frame::{FrameRecord, FrameState, List, NIL};
use crate::log::Decision;
use crate::order::Order;

/// Why a folio was split.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SplitWhy {
    /// What the program did to a part of its pages: unmap, discard, protect, lock, hint, write to what was shared.
    Edge,
    /// It lost its alignment when it was remapped.
    Remap,
    /// One page of it was needed again after it was moved out.
    Rescue,
    /// A part of it could not be moved out.
    Refused,
    /// A page of it had vanished.
    Gone,
    /// Few of its pages were touched.
    Sparse,
    /// Many of its pages were all zeroes.
    Zeroes,
}

impl SplitWhy {
    /// How many reasons there are.
    pub const COUNT: usize = 7;
    /// Every reason, in the order of [`SplitWhy::index`].
    pub const ALL: [SplitWhy; SplitWhy::COUNT] = [
        SplitWhy::Edge,
        SplitWhy::Remap,
        SplitWhy::Rescue,
        SplitWhy::Refused,
        SplitWhy::Gone,
        SplitWhy::Sparse,
        SplitWhy::Zeroes,
    ];

    /// A number for tables, below [`SplitWhy::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Engine {
    /// Makes `pages` pages of a folio, from that in `first` on, folios apart from the rest. The pieces keep the folio's
    /// state, and its place on its list.
    pub(crate) fn isolate(&mut self, first: Frame, pages: u32, why: SplitWhy) {
        let head = self.frames.head_of(first);
        let from = first.0 - head.0;
        let to = from + pages;
        let FrameRecord { order, space, vpn, .. } = *self.frames.get(head);
        if from == 0 && to == order.pages() {
            return;
        }
        self.stats.splits[why.index()] += 1;
        self.log.note(Decision::Split { space, vpn, order, why });
        let (list, prev) = (self.frames.get(head).list, self.frames.get(head).prev);
        let state = self.frames.get(head).state;
        self.frames.delist(head);
        let mut prev = prev;
        for (start, end) in [(0, from), (from, to), (to, order.pages())] {
            let mut at = start;
            while at < end {
                let piece = Order::alignment_of(u64::from(at)).min(Order::fitting(u64::from(end - at)));
                let piece = piece.min(order);
                self.found_piece(head.plus(at), piece, state);
                if list != List::None {
                    self.frames.link_after(head.plus(at), prev, list);
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
            self.relist_shared(self.frames.get(piece).vpn);
            at += self.order_of(piece).pages();
        }
    }

    fn found_piece(&mut self, head: Frame, order: Order, state: FrameState) {
        for i in 0..order.pages() {
            let record = self.frames.get_mut(head.plus(i));
            (record.order, record.state) = (order, state);
            (record.list, record.prev, record.next) = (List::None, NIL, NIL);
        }
    }

    /// Splits the folio at `head` into folios of at most `order`.
    pub(crate) fn split_to(&mut self, head: Frame, order: Order, why: SplitWhy) {
        let whole = self.frames.get(head).order;
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
            let Some(frame) = self.pte(range.space, edge).frame() else { continue };
            let head = self.frames.head_of(frame);
            let within = frame.0 - head.0;
            if within != 0 {
                self.isolate(frame, self.order_of(head).pages() - within, SplitWhy::Edge);
            }
        }
    }
}
