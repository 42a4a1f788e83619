//! Space in one spill file.

#[cfg(test)]
mod tests;

use crate::addr::{Frame, FrameRun};
use crate::frame::Buddy;
use crate::order::{Order, OrderSet};

/// Units that the file grows by, which is also the longest run.
const STEP: u32 = Order::MAX.pages();

/// Space in one spill file, in units of 4 KiB.
///
/// Freed runs are kept in a [`Buddy`] whose frames are the file's units. A run starts at a multiple of its
/// length rounded up to a power of two; what the rounding adds is free at once for others. Where no freed run
/// serves, the file grows. Every verb does bounded work, and only [`FileSpace::new`] allocates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileSpace {
    free: Buddy,
    /// Units that have been given to `free`: the rest of the file was never used.
    opened: u32,
    used: u32,
    end: u32,
}

impl FileSpace {
    /// An empty file that may grow to `limit_units` units. Takes a little over two bits a unit, zeroed, so
    /// that a lazy allocator backs only what is used.
    pub fn new(limit_units: u32) -> FileSpace {
        FileSpace { free: Buddy::new(limit_units), opened: 0, used: 0, end: 0 }
    }

    /// Takes a run of `units` units, 1..=512, and returns its first. `None` when there is no room for it.
    pub fn alloc(&mut self, units: u32) -> Option<u32> {
        let order = Order::new(units.checked_next_power_of_two()?.ilog2() as u8)?;
        if units == 0 {
            return None;
        }
        let start = self.alloc_order(order)?;
        self.free.free_run(FrameRun::new(start.plus(units), order.pages() - units));
        self.used += units;
        self.end = self.end.max(start.0 + units);
        Some(start.0)
    }

    /// Gives back a run that was taken, or a part of it.
    pub fn free(&mut self, start: u32, units: u32) {
        self.free.free_run(FrameRun::new(Frame(start), units));
        self.used -= units;
    }

    /// How many units are taken.
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// The units from the file's start to past the last one ever taken. Never falls.
    pub const fn end(&self) -> u32 {
        self.end
    }

    /// The most units that the file may have.
    pub const fn limit(&self) -> u32 {
        self.free.capacity()
    }

    /// Whether all of a run is taken.
    pub(crate) fn is_taken(&self, start: u32, units: u32) -> bool {
        start + units <= self.opened
            && FrameRun::new(Frame(start), units).iter().all(|unit| !self.free.is_free(unit))
    }

    /// Checks every table against the others. For tests and debug builds.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.used + self.free.free_frames() != self.opened || self.end > self.opened {
            return Err("the units of a spill file are not as counted");
        }
        self.free.validate()
    }

    fn alloc_order(&mut self, order: Order) -> Option<Frame> {
        if self.free.largest() < Some(order) {
            self.grow();
        }
        self.free.alloc(OrderSet::only(order)).map(|(start, _)| start)
    }

    fn grow(&mut self) {
        let units = STEP.min(self.limit() - self.opened);
        self.free.free_run(FrameRun::new(Frame(self.opened), units));
        self.opened += units;
    }
}
