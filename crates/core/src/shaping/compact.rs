//! Compaction of the pool: mapped folios get other frames, so that long runs of frames become free.
//!
//! A mapped folio's frame is only a number, so to evacuate it costs no copy and no flush. What is in standby or in the
//! hands of a job has contents in its frames and stays; reclaim lets go of it soon.

#[cfg(test)]
mod tests;

use crate::addr::{Frame, FrameRun};
use crate::engine::Engine;
use crate::frame::{Backing, FrameRecord, FrameState, List, NIL};
use crate::log::Decision;
use crate::mmu::Mmu;
use crate::order::Order;

/// Frames looked at in one bite.
const BITE: u32 = 2048;
/// Runs of which at most so many sixteenths are in use are vacated, the emptiest first: one after the other in the
/// passes of a round.
const PASSES: [u32; 5] = [2, 4, 8, 12, 15];

impl Engine {
    /// One bite of compaction: looks at no more than 2048 frames and vacates no more than 512. Whether it is done: long
    /// runs are free, or a pass has come to its end.
    pub(crate) fn compact(&mut self, mmu: &mut impl Mmu) -> bool {
        let Some(goal) = self.pool.fragmented_order() else {
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

    /// Vacates the aligned run of frames of order `goal` at `start`, if all that it holds are smaller mapped folios that no
    /// job uses, and others are free that no longer run has to be broken up for. Pages that have other frames now.
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
            // A frame that was put aside is in no buddy, and nobody's.
            let used =
                at.0 < self.tables.frames.len() && self.tables.frames.get(at).state == FrameState::Mapped;
            if !used {
                at = at.plus(1);
                continue;
            }
            let order = self.tables.frames.get(at).order;
            let Some(to) = self.frames_outside(run, order, goal) else { break };
            self.move_folio(at, to);
            mmu.relocated(self.tables.pages_of(to), to);
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

    /// How many frames of the run are in use, if all of those can be vacated.
    fn movable_pages(&self, run: FrameRun, goal: Order) -> Option<u32> {
        let mut used = 0;
        for frame in run.iter() {
            match self.pool.backing_of(frame) {
                Some(Backing::Hole) => continue,
                Some(Backing::Dirty | Backing::Zeroed) => return None,
                None => used += 1,
            }
            let FrameRecord { order, job, .. } = *self.tables.frames.get(frame);
            let state = self.tables.frames.get(self.tables.frames.head_of(frame)).state;
            if state != FrameState::Mapped || job != 0 || order >= goal {
                return None;
            }
        }
        Some(used)
    }

    /// Free frames for a folio that do not lie in `run`. Those that do are put aside.
    fn frames_outside(&mut self, run: FrameRun, order: Order, goal: Order) -> Option<Frame> {
        loop {
            let frame = self.pool.take_splinter(order, goal)?;
            if frame.0 < run.start.0 || frame.0 >= run.start.0 + run.pages {
                self.tables.frames.cover(FrameRun::new(frame, order.pages()));
                return Some(frame);
            }
            self.compaction.aside.push((frame, order));
        }
    }

    /// Gives the mapped folio at `head` the frames at `to`, and the same place on its list.
    fn move_folio(&mut self, head: Frame, to: Frame) {
        let FrameRecord { list, prev, .. } = *self.tables.frames.get(head);
        self.tables.frames.delist(head);
        self.renumber(head, to);
        if list != List::None {
            debug_assert!(prev == NIL || self.tables.frames.get(Frame(prev)).list == list);
            self.tables.frames.link_after(to, prev, list);
        }
    }
}
