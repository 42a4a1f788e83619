//! Compaction of the pool: mapped folios get other slots, so that long runs of slots become free.
//!
//! A mapped folio's slot is only a number, so to evacuate it costs no copy and no flush. What is in standby or in the
//! hands of a job has contents in its slots and stays; reclaim lets go of it soon.

#[cfg(test)]
mod tests;

use super::pool::TRIM_RUNS;
use super::{Backing, FramePool, FrameRecord, FrameState, NIL};
use crate::addr::{Frame, FrameRun};
use crate::engine::Engine;
use crate::log::Decision;
use crate::mmu::Mmu;
use crate::order::{Order, OrderSet};
use alloc::vec::Vec;

/// Orders of which runs should be free, in the order in which they are looked after: 64 KiB, 2 MiB.
const GOALS: [Order; 2] = [Order::fitting(16), Order::MAX];
/// Slots looked at in one bite.
const BITE: u32 = 2048;
/// Runs of which at most so many sixteenths are in use are vacated, the emptiest first: one after the other in the
/// passes of a round.
const PASSES: [u32; 5] = [2, 4, 8, 12, 15];

impl FramePool {
    /// Slots without memory for pages that are mapped already. They are charged like any others: the slots that the pages
    /// had are to be given back at once.
    pub(crate) fn take_slots(&mut self, order: Order) -> Option<Frame> {
        self.open_for(order);
        self.holes.alloc(OrderSet::only(order)).map(|(frame, _)| frame)
    }

    /// The same, but no free run of `whole` or more is broken up.
    fn take_splinter(&mut self, order: Order, whole: Order) -> Option<Frame> {
        let mut splinters = Order::all().filter(|&o| o >= order && o < whole);
        splinters.find(|&o| self.holes.free_at(o) > 0)?;
        self.holes.alloc(OrderSet::only(order)).map(|(frame, _)| frame)
    }

    /// The first order of which too few of the free slots are in runs: less than 3/4 of them. While there are slots that
    /// were never used there are long runs.
    fn starved(&self) -> Option<Order> {
        if self.opened < self.capacity() {
            return None;
        }
        let free = self.holes.free_frames() + self.spare();
        GOALS.into_iter().find(|&goal| {
            let runs = Order::all().filter(|&o| o >= goal);
            let usable: u32 = runs.map(|o| self.holes.free_at(o) * o.pages()).sum();
            free >= 2 * goal.pages() && u64::from(usable) * 4 < u64::from(free) * 3
        })
    }

    /// Gives the memory behind free slots in short runs back, up to [`TRIM_RUNS`] of them. How many there were.
    fn release_splinters(&mut self, whole: Order, mmu: &mut impl Mmu) -> usize {
        let mut runs = [FrameRun::new(Frame(0), 0); TRIM_RUNS];
        let mut count = 0;
        for buddy in [&mut self.dirty, &mut self.zeroed] {
            while let Some(order) = Order::all().take_while(|&o| o < whole).find(|&o| buddy.free_at(o) > 0) {
                if count == TRIM_RUNS {
                    break;
                }
                let Some((frame, order)) = buddy.alloc(OrderSet::only(order)) else { break };
                runs[count] = FrameRun::new(frame, order.pages());
                count += 1;
            }
        }
        self.release(&runs[..count], mmu);
        count
    }
}

/// How far compaction has come.
#[derive(Clone, Debug)]
pub(crate) struct Compaction {
    /// Slots from here on have been looked at in this pass.
    below: u32,
    pass: usize,
    /// Free slots of the run that is being vacated, put aside.
    aside: Vec<(Frame, Order)>,
}

impl Compaction {
    pub(crate) fn new() -> Compaction {
        Compaction { below: 0, pass: 0, aside: Vec::new() }
    }

    /// Whether no slot is put aside, as it is between two bites.
    pub(crate) fn is_idle(&self) -> bool {
        self.aside.is_empty()
    }
}

impl Engine {
    /// One bite of compaction: looks at no more than 2048 slots and vacates no more than 512. Whether it is done: long
    /// runs are free, or a pass has come to its end.
    pub(crate) fn compact(&mut self, mmu: &mut impl Mmu) -> bool {
        let Some(goal) = self.pool.starved() else {
            self.compaction.pass = 0;
            return true;
        };
        if self.pool.release_splinters(goal, mmu) > 0 {
            return false;
        }
        if self.compaction.below == 0 {
            self.compaction.below = self.pool.opened / goal.pages() * goal.pages();
        }
        let (mut looked, mut moved) = (0, 0);
        while looked < BITE && moved < Order::MAX.pages() / 2 && self.compaction.below >= goal.pages() {
            let start = (self.compaction.below - goal.pages()) / goal.pages() * goal.pages();
            self.compaction.below = start;
            let most = goal.pages() * PASSES[self.compaction.pass] / 16;
            let run = FrameRun::new(Frame(start), goal.pages());
            if self.movable_pages(run, goal).is_some_and(|used| used <= most) {
                moved += self.evacuate(mmu, run, goal);
            }
            looked += goal.pages();
        }
        let over = self.compaction.below < goal.pages();
        if over {
            self.compaction.below = 0;
            self.compaction.pass = (self.compaction.pass + 1) % PASSES.len();
        }
        over
    }

    /// Vacates the aligned run of slots of order `goal` at `start`, if all that it holds are smaller mapped folios that no
    /// job uses, and others are free that no longer run has to be broken up for. Pages that have other slots now.
    pub fn vacate(&mut self, mmu: &mut impl Mmu, start: Frame, goal: Order) -> u32 {
        let run = FrameRun::new(start, goal.pages());
        let inside = start.0 < self.pool.opened && run.pages <= self.pool.opened - start.0;
        let aligned = goal.align_down(start.0.into()) == start.0.into();
        let movable = inside && aligned && self.movable_pages(run, goal).is_some();
        if movable { self.evacuate(mmu, run, goal) } else { 0 }
    }

    /// The same, of a run that was looked at.
    fn evacuate(&mut self, mmu: &mut impl Mmu, run: FrameRun, goal: Order) -> u32 {
        let (mut at, mut moved) = (run.start, 0);
        while at.0 < run.start.0 + run.pages {
            // A slot that was put aside is in no buddy, and nobody's.
            let used = at.0 < self.frames.len() && self.frames.get(at).state == FrameState::Mapped;
            if !used {
                at = at.plus(1);
                continue;
            }
            let order = self.frames.get(at).order;
            let Some(to) = self.slots_outside(run, order, goal) else { break };
            self.move_slots(at, to);
            mmu.relocated(self.pages_of(to), to);
            moved += order.pages();
            at = at.plus(order.pages());
        }
        while let Some((frame, order)) = self.compaction.aside.pop() {
            self.pool.give(FrameRun::new(frame, order.pages()), Backing::Hole);
        }
        self.stats.compacted_pages += u64::from(moved);
        if moved > 0 {
            self.log.note(Decision::Compact { frame: run.start, order: goal, pages: moved });
        }
        moved
    }

    /// How many slots of the run are in use, if all of those can be vacated.
    fn movable_pages(&self, run: FrameRun, goal: Order) -> Option<u32> {
        let mut used = 0;
        for frame in run.iter() {
            match self.pool.backing_of(frame) {
                Some(Backing::Hole) => continue,
                Some(Backing::Dirty | Backing::Zeroed) => return None,
                None => used += 1,
            }
            let FrameRecord { order, job, .. } = *self.frames.get(frame);
            let state = self.frames.get(self.frames.head_of(frame)).state;
            if state != FrameState::Mapped || job != 0 || order >= goal {
                return None;
            }
        }
        Some(used)
    }

    /// Free slots for a folio that do not lie in `run`. Those that do are put aside.
    fn slots_outside(&mut self, run: FrameRun, order: Order, goal: Order) -> Option<Frame> {
        loop {
            let frame = self.pool.take_splinter(order, goal)?;
            if frame.0 < run.start.0 || frame.0 >= run.start.0 + run.pages {
                self.frames.cover(FrameRun::new(frame, order.pages()));
                return Some(frame);
            }
            self.compaction.aside.push((frame, order));
        }
    }

    /// Gives the mapped folio at `head` the slots at `to`, and the same place on its list.
    fn move_slots(&mut self, head: Frame, to: Frame) {
        let FrameRecord { list, prev, .. } = *self.frames.get(head);
        self.frames.delist(head);
        self.renumber(head, to);
        if list != super::List::None {
            debug_assert!(prev == NIL || self.frames.get(Frame(prev)).list == list);
            self.frames.link_after(to, prev, list);
        }
    }
}
