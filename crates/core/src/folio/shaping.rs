//! What changes folios without a fault: sparse ones are split, dense runs of small ones become one, and slots are
//! vacated so that long runs stay free. All of it behind the faults, in bounded bites: [`Engine::tend`].
//!
//! Time comes in as an *epoch*, a number that a host counts up now and then. In each epoch every page is looked at once
//! at the most. A range that was split, or needed again after it was moved out, is *unsettled*: for a number of epochs
//! it is not collapsed, and each time that happens to what had been collapsed doubles the number.

#[cfg(test)]
mod tests;

use super::sparse::SplitMode;
use super::touched::Touched;
use crate::addr::{PageRange, Space, Vpn};
use crate::engine::Engine;
use crate::frame::{FrameRecord, List};
use crate::mmu::Mover;
use crate::order::Order;
use crate::page::{LEAF_PAGES, SETTLED_PAGES};
use crate::sharing::SHARED;
use alloc::vec::Vec;

/// When folios are split and collapsed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shaping {
    /// Into what sparse folios are split.
    pub split: SplitMode,
    /// A folio is sparse when at most so many eighths of its pages are used.
    pub sparse: u32,
    /// A run of folios is dense when at least so many eighths of its pages are touched in `window` epochs. Well above
    /// `sparse`.
    pub dense: u32,
    /// Epochs in which touches are watched before anything is decided by them.
    pub window: u32,
    /// Epochs for which a range is not collapsed after it was split or needed again.
    pub cool: u32,
    /// The largest folios that small ones become; [`Order::BASE`]: none do.
    pub largest: Order,
}

impl Shaping {
    /// What an engine begins with. What is collapsed is no larger than what a rescue brings back as a whole.
    pub const DEFAULT: Shaping = Shaping {
        split: SplitMode::Buddy,
        sparse: 4,
        dense: 7,
        window: 2,
        cool: 4,
        largest: Order::fitting(16),
    };
}

/// Folios and runs of them that are watched at a time.
const WATCHED: usize = 64;

/// One folio, or a run that may become one, whose touches are being gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Watched {
    space: Space,
    start: Vpn,
    order: Order,
    touched: Touched,
    since: u32,
}

impl Watched {
    fn range(&self) -> PageRange {
        PageRange::new(self.space, self.start, u64::from(self.order.pages()))
    }
}

/// How far the work of this epoch has come.
#[derive(Clone, Debug)]
pub(crate) struct Tending {
    epoch: u32,
    watched: Vec<Watched>,
    /// Watched ones before this are done for this epoch.
    harvested: usize,
    /// Where the walk over all pages goes on; `None` when it is over for this epoch.
    cursor: Option<(Space, Vpn)>,
    compacted: bool,
}

impl Tending {
    pub(crate) fn new() -> Tending {
        let watched = Vec::with_capacity(WATCHED);
        Tending { epoch: 0, watched, harvested: 0, cursor: None, compacted: true }
    }

    fn begin(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.harvested = 0;
        self.cursor = Some(self.cursor.unwrap_or((Space(0), Vpn(0))));
        self.compacted = false;
    }

    /// A space has ended: what its pages did says nothing of those of the next one with its number.
    pub(crate) fn forget(&mut self, space: Space) {
        let stays = |watched: &&Watched| watched.space != space;
        self.harvested = self.watched[..self.harvested].iter().filter(stays).count();
        self.watched.retain(|watched| stays(&watched));
    }

    fn watches(&self, range: PageRange) -> bool {
        self.watched.iter().any(|w| w.range() == range)
    }
}

impl Engine {
    /// Sets when folios are split and collapsed, from now on.
    pub fn set_shaping(&mut self, shaping: Shaping) {
        self.shaping = shaping;
    }

    /// One bounded bite of the work of this `epoch`: at most 512 pages are looked at, or change. Whether there is more
    /// to do in it. Nothing is done where nothing may be moved out.
    pub fn tend<M: Mover>(&mut self, mmu: &mut M, epoch: u32) -> bool {
        if !self.evicts {
            return false;
        }
        if epoch != self.tending.epoch {
            self.tending.begin(epoch);
        }
        if self.tending.harvested < self.tending.watched.len() {
            self.harvest(mmu);
            return true;
        }
        if let Some((space, at)) = self.tending.cursor.filter(|_| self.tending.watched.len() < WATCHED) {
            self.tending.cursor = self.scan(mmu, space, at);
            return true;
        }
        if !self.tending.compacted {
            self.tending.compacted = self.compact(mmu);
            return true;
        }
        false
    }

    /// Gathers the touches of the next one that is watched; after its time, decides.
    fn harvest<M: Mover>(&mut self, mmu: &mut M) {
        let at = self.tending.harvested;
        let mut watched = self.tending.watched[at];
        let told = mmu.accessed(watched.range(), &mut watched.touched);
        if told && self.tending.epoch.wrapping_sub(watched.since) < self.shaping.window {
            self.tending.watched[at] = watched;
            self.tending.harvested += 1;
            return;
        }
        self.tending.watched.swap_remove(at);
        if told {
            self.decide(mmu, &watched);
        }
    }

    fn decide<M: Mover>(&mut self, mmu: &mut M, watched: &Watched) {
        let Watched { space, start, order, touched, .. } = *watched;
        let used = touched.count(0, order.pages());
        let Some(head) = self.pte(space, start).frame() else { return };
        if self.order_of(head) != order {
            if used * 8 >= self.shaping.dense * order.pages() && self.is_settled(watched.range()) {
                self.collapse(mmu, space, start, order);
            }
            return;
        }
        self.note_use(watched.range(), used);
        if self.can_be_sparse(space, start) && self.is_sparse(used, order) {
            self.split_untouched(mmu, head, &touched);
        }
    }

    /// Whether the folio that begins at `start` is mapped, unpinned, and can be moved out.
    fn can_be_sparse(&self, space: Space, start: Vpn) -> bool {
        let Some(head) = self.pte(space, start).frame() else { return false };
        let FrameRecord { vpn, list, .. } = *self.frames.get(head);
        let listed = matches!(list, List::Active | List::Inactive);
        vpn == start && listed && !self.frames.pinned(self.frames.folio(head))
    }

    /// Looks at the next 2 MiB that have pages. Where the walk goes on. What is shared is left as it is: its touches are
    /// those of several spaces.
    fn scan<M: Mover>(&mut self, mmu: &mut M, space: Space, at: Vpn) -> Option<(Space, Vpn)> {
        let rest = PageRange::between(space, at, Vpn(u64::MAX));
        let Some(first) = self.next_used(rest).filter(|_| space != SHARED) else {
            let next = Space(space.0 + 1);
            return (usize::from(next.0) < self.spaces.len()).then_some((next, Vpn(0)));
        };
        let leaf = first.0 / LEAF_PAGES * LEAF_PAGES;
        let mut at = Vpn(leaf);
        while at.0 < leaf + LEAF_PAGES {
            at = self.scan_folio(mmu, space, at, Vpn(leaf + LEAF_PAGES));
        }
        Some((space, at))
    }

    /// Looks at what begins at `at`: a folio to watch, or a run of them that could become one. What follows it.
    fn scan_folio<M: Mover>(&mut self, mmu: &mut M, space: Space, at: Vpn, end: Vpn) -> Vpn {
        let Some(frame) = self.pte(space, at).frame() else { return at.plus(1) };
        let order = self.order_of(self.frames.head_of(frame));
        let after = Vpn(order.align_down(at.0)).plus(u64::from(order.pages()));
        let fits =
            |target: Order| target.align_down(at.0) == at.0 && at.0 + u64::from(target.pages()) <= end.0;
        let larger = Order::all().rev().filter(|&o| o <= self.shaping.largest && o > order && fits(o));
        for target in larger {
            let range = PageRange::new(space, at, u64::from(target.pages()));
            if self.is_settled(range) && self.can_collapse(range) {
                if !self.watch(mmu, range, target) {
                    self.collapse(mmu, space, at, target);
                }
                return range.end();
            }
        }
        let start = Vpn(order.align_down(at.0));
        if order > Order::BASE && self.can_be_sparse(space, start) {
            self.watch(mmu, PageRange::new(space, start, u64::from(order.pages())), order);
        }
        after
    }

    /// Begins to watch a folio or a run, if there is room. False when the host can't tell what is touched.
    fn watch<M: Mover>(&mut self, mmu: &mut M, range: PageRange, order: Order) -> bool {
        if self.tending.watches(range) || self.tending.watched.len() == WATCHED {
            return true;
        }
        // What was touched before is forgotten: the window begins now.
        if !mmu.accessed(range, &mut Touched::default()) {
            return false;
        }
        let (touched, since) = (Touched::default(), self.tending.epoch);
        self.tending.watched.push(Watched { space: range.space, start: range.start, order, touched, since });
        self.tending.harvested = self.tending.watched.len();
        true
    }

    /// A range was split, or needed again after it was moved out.
    pub(crate) fn unsettle(&mut self, range: PageRange) {
        let epoch = self.tending.epoch as u16;
        self.each_settling(range, |settling| settling.unsettle(epoch));
    }

    pub(super) fn note_collapse(&mut self, range: PageRange) {
        self.each_settling(range, super::settling::Settling::collapsed);
    }

    fn each_settling(&mut self, range: PageRange, mut verb: impl FnMut(&mut super::settling::Settling)) {
        let pages = &mut self.spaces[usize::from(range.space.0)].pages;
        let mut at = range.start.0 / SETTLED_PAGES * SETTLED_PAGES;
        while at < range.end().0 {
            pages.settling_mut(Vpn(at)).map(&mut verb);
            at += SETTLED_PAGES;
        }
    }

    fn is_settled(&self, range: PageRange) -> bool {
        let pages = &self.spaces[usize::from(range.space.0)].pages;
        let (epoch, cool) = (self.tending.epoch as u16, self.shaping.cool);
        let first = range.start.0 / SETTLED_PAGES;
        (first..range.end().0.div_ceil(SETTLED_PAGES))
            .all(|n| pages.settling(Vpn(n * SETTLED_PAGES)).is_some_and(|s| s.is_settled(epoch, cool)))
    }
}
