//! Sparse folios: those of which few pages are touched, or many are all zeroes. They are split, and what is not used
//! of them is given back.
//!
//! What tells: the accessed bits of a host that has some (`watch`), the zeroes that a writer meets, and which pages of a
//! folio its rescues were for.

#[cfg(test)]
mod tests;

use super::split::SplitWhy;
use super::touched::Touched;
use crate::addr::{Frame, PageRange, Space, Vpn};
use crate::engine::Engine;
use crate::frame::List;
use crate::job::Packed;
use crate::log::Decision;
use crate::mmu::Mover;
use crate::order::Order;
use alloc::vec::Vec;

/// Into what a sparse folio is split.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SplitMode {
    /// Base pages.
    Base,
    /// Folios of this order.
    Uniform(Order),
    /// The largest pieces that are wholly used or wholly unused.
    Buddy,
}

impl SplitMode {
    /// Whether a piece of this order, of which `used` pages are used, has to be cut once more.
    fn cuts(self, order: Order, used: u32) -> bool {
        match self {
            SplitMode::Base => order > Order::BASE,
            SplitMode::Uniform(to) => order > to,
            SplitMode::Buddy => used > 0 && used < order.pages(),
        }
    }
}

/// Folios of which rescues are remembered.
const RESCUED: usize = 32;
/// A folio that is rescued so often, each time for a few of the same pages, is split.
const RESCUES: u8 = 3;

/// What the rescues of one folio were for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rescued {
    space: Space,
    start: Vpn,
    order: Order,
    touched: Touched,
    times: u8,
}

/// The folios rescued lately: a table of fixed size, the oldest of which is forgotten first.
#[derive(Clone, Debug)]
pub(crate) struct Rescues {
    folios: Vec<Rescued>,
    oldest: usize,
}

impl Rescues {
    pub(crate) fn new() -> Rescues {
        Rescues { folios: Vec::with_capacity(RESCUED), oldest: 0 }
    }

    /// Notes that page `number` of a folio was needed again. What all its rescues were for, when they are enough.
    fn note(&mut self, space: Space, start: Vpn, order: Order, number: u32) -> Option<Touched> {
        let known = |f: &&mut Rescued| (f.space, f.start, f.order) == (space, start, order);
        if let Some(folio) = self.folios.iter_mut().find(known) {
            folio.touched.add(number);
            folio.times += 1;
            let enough = folio.times >= RESCUES;
            folio.times %= RESCUES;
            return enough.then(|| core::mem::take(&mut folio.touched));
        }
        let mut folio = Rescued { space, start, order, touched: Touched::default(), times: 1 };
        folio.touched.add(number);
        if self.folios.len() < RESCUED {
            self.folios.push(folio);
        } else {
            self.folios[self.oldest] = folio;
            self.oldest = (self.oldest + 1) % RESCUED;
        }
        None
    }

    /// What decides later, as numbers.
    pub(crate) fn add_to(&self, words: &mut Vec<u32>) {
        for folio in &self.folios {
            let times = u32::from(folio.times);
            words.extend([u32::from(folio.space.0), folio.start.0 as u32, folio.order.index() as u32, times]);
            words.extend((0..folio.order.pages()).filter(|&number| folio.touched.contains(number)));
        }
    }
}

impl Engine {
    /// Splits the folio at `head` by which of its pages are `used`, as the mode says. Its pieces keep its state and its
    /// place on its list.
    fn split_by(&mut self, head: Frame, used: &Touched, why: SplitWhy) {
        let whole = self.order_of(head);
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
            let order = self.order_of(piece);
            if used.count(at, order.pages()) == 0 {
                given += verb(self, piece);
            }
            at += order.pages();
        }
        given
    }

    /// A mapped folio of which only the pages `touched` were touched: the rest is moved out. Pages moved.
    pub(super) fn split_untouched<M: Mover>(&mut self, mmu: &mut M, head: Frame, touched: &Touched) -> u32 {
        let pages = self.pages_of(head);
        self.unsettle(pages);
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
        let order = self.order_of(head);
        if order == Order::BASE {
            return;
        }
        let count = used.count(0, order.pages());
        let pages = self.pages_of(head);
        self.note_use(pages, count);
        if !self.is_sparse(count, order) {
            return;
        }
        self.unsettle(pages);
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
        let (pages, order) = (self.pages_of(head), self.order_of(head));
        if order == Order::BASE {
            return;
        }
        let Some(touched) = self.rescues.note(pages.space, pages.start, order, number) else { return };
        if self.is_sparse(touched.count(0, order.pages()), order) {
            debug_assert!(matches!(self.frames.get(head).list, List::Dirty | List::Clean));
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
