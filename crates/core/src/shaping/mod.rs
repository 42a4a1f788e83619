//! What changes folios without a fault: sparse ones are split, dense runs of small ones become one, and frames are
//! vacated so that long runs stay free. All of it behind the faults, in bounded bites: [`Engine::tend`].
//!
//! Time comes in as an *epoch*, a number that a host counts up now and then. In each epoch every page is looked at once
//! at the most. A range that was split, or needed again after it was moved out, has to *cool*: for a number of epochs
//! it is not collapsed, and each time that happens to what had been collapsed doubles the number.

mod collapse;
mod compact;
mod sparse;
mod split;
#[cfg(test)]
mod tests;

use crate::addr::{PageRange, SHARED, Space, Vpn};
use crate::engine::Engine;
use crate::folio::{Cooldown, Shaping, Touched, WATCHED, Watched};
use crate::frame::{FrameRecord, List};
use crate::mmu::Mover;
use crate::order::Order;
use crate::tables::{COOLDOWN_PAGES, LEAF_PAGES};

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
        let Some(head) = self.tables.pte(space, start).frame() else { return };
        if self.tables.order_of(head) != order {
            if used * 8 >= self.shaping.dense * order.pages() && self.is_cool(watched.range()) {
                self.collapse(mmu, space, start, order);
            }
            return;
        }
        self.tables.note_use(watched.range(), used);
        if self.can_be_sparse(space, start) && self.is_sparse(used, order) {
            self.split_untouched(mmu, head, &touched);
        }
    }

    /// Whether the folio that begins at `start` is mapped, unpinned, and can be moved out.
    fn can_be_sparse(&self, space: Space, start: Vpn) -> bool {
        let Some(head) = self.tables.pte(space, start).frame() else { return false };
        let FrameRecord { vpn, list, .. } = *self.tables.frames.get(head);
        let listed = matches!(list, List::Active | List::Inactive);
        vpn == start && listed && !self.tables.frames.pinned(self.tables.frames.folio(head))
    }

    /// Looks at the next 2 MiB that have pages. Where the walk goes on. What is shared is left as it is: its touches are
    /// those of several spaces.
    fn scan<M: Mover>(&mut self, mmu: &mut M, space: Space, at: Vpn) -> Option<(Space, Vpn)> {
        let rest = PageRange::between(space, at, Vpn(u64::MAX));
        let Some(first) = self.tables.next_used(rest).filter(|_| space != SHARED) else {
            let next = Space(space.0 + 1);
            return (usize::from(next.0) < self.tables.spaces.len()).then_some((next, Vpn(0)));
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
        let Some(frame) = self.tables.pte(space, at).frame() else { return at.plus(1) };
        let order = self.tables.order_of(self.tables.frames.head_of(frame));
        let after = Vpn(order.align_down(at.0)).plus(u64::from(order.pages()));
        let fits =
            |target: Order| target.align_down(at.0) == at.0 && at.0 + u64::from(target.pages()) <= end.0;
        let larger = Order::all().rev().filter(|&o| o <= self.shaping.largest && o > order && fits(o));
        for target in larger {
            let range = PageRange::new(space, at, u64::from(target.pages()));
            if self.is_cool(range) && self.can_collapse(range) {
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
    pub(crate) fn restart_cooldown(&mut self, range: PageRange) {
        let epoch = self.tending.epoch as u16;
        self.each_cooldown(range, |cooldown| cooldown.restart(epoch));
    }

    pub(super) fn note_collapse(&mut self, range: PageRange) {
        self.each_cooldown(range, Cooldown::collapsed);
    }

    fn each_cooldown(&mut self, range: PageRange, mut verb: impl FnMut(&mut Cooldown)) {
        let pages = &mut self.tables.spaces[usize::from(range.space.0)].pages;
        let mut at = range.start.0 / COOLDOWN_PAGES * COOLDOWN_PAGES;
        while at < range.end().0 {
            pages.cooldown_mut(Vpn(at)).map(&mut verb);
            at += COOLDOWN_PAGES;
        }
    }

    fn is_cool(&self, range: PageRange) -> bool {
        let pages = &self.tables.spaces[usize::from(range.space.0)].pages;
        let (epoch, cool) = (self.tending.epoch as u16, self.shaping.cool);
        let first = range.start.0 / COOLDOWN_PAGES;
        (first..range.end().0.div_ceil(COOLDOWN_PAGES))
            .all(|n| pages.cooldown(Vpn(n * COOLDOWN_PAGES)).is_some_and(|s| s.is_over(epoch, cool)))
    }
}
