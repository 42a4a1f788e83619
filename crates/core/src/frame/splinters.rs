//! Free frames in short runs: which runs are too few, and how far the work against that has come.
//! [`crate::shaping`] does it.

#[cfg(test)]
mod tests;

use super::FramePool;
use super::pool::TRIM_RUNS;
use crate::addr::{Frame, FrameRun};
use crate::mmu::Mmu;
use crate::order::{Order, OrderSet};
use alloc::vec::Vec;

/// Orders of which runs should be free, in the order in which they are looked after: 64 KiB, 2 MiB.
const GOALS: [Order; 2] = [Order::fitting(16), Order::MAX];

impl FramePool {
    /// Frames without memory for pages that are mapped already. They are charged like any others: the frames that the pages
    /// had are to be given back at once.
    pub(crate) fn take_holes(&mut self, order: Order) -> Option<Frame> {
        self.open_for(order);
        self.holes.alloc(OrderSet::only(order)).map(|(frame, _)| frame)
    }

    /// The same, but no free run of `whole` or more is broken up.
    pub(crate) fn take_splinter(&mut self, order: Order, whole: Order) -> Option<Frame> {
        let mut splinters = Order::all().filter(|&o| o >= order && o < whole);
        splinters.find(|&o| self.holes.free_at(o) > 0)?;
        self.holes.alloc(OrderSet::only(order)).map(|(frame, _)| frame)
    }

    /// The first order of which too few of the free frames are in runs: less than 3/4 of them. While there are frames that
    /// were never used there are long runs.
    pub(crate) fn fragmented_order(&self) -> Option<Order> {
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

    /// Gives the memory behind free frames in short runs back, up to [`TRIM_RUNS`] of them. How many there were.
    pub(crate) fn release_splinters(&mut self, whole: Order, mmu: &mut impl Mmu) -> usize {
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
    /// Frames from here on have been looked at in this pass.
    pub(crate) below: u32,
    pub(crate) pass: usize,
    /// Free frames of the run that is being vacated, put aside.
    pub(crate) aside: Vec<(Frame, Order)>,
}

impl Compaction {
    pub(crate) fn new() -> Compaction {
        Compaction { below: 0, pass: 0, aside: Vec::new() }
    }

    /// Whether no frame is put aside, as it is between two bites.
    pub(crate) fn is_idle(&self) -> bool {
        self.aside.is_empty()
    }
}
