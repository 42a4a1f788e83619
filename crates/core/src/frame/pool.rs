//! The pool of frames: which are free, and what memory is behind the free ones.
//!
//! A frame is a number; memory is behind it only when it was used. Free frames are kept apart by
//! that: `holes` have none, `dirty` ones have some with old contents, `zeroed` ones are ready for a fault.
//!
//! A dirty frame is never handed out. Its memory was a page of the program's, which the kernel may still be reading for
//! somebody: what `MSG_ZEROCOPY`, `vmsplice` and their like send they hold without pinning it. So that memory is not
//! written again, but goes back to the system: the frame is a hole then, and what comes into it fresh memory.

#[cfg(test)]
mod tests;

use super::Buddy;
use crate::addr::{Frame, FrameRun};
use crate::mmu::Mmu;
use crate::order::{Order, OrderSet};

/// What is behind a free run of frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Backing {
    Hole,
    Dirty,
    Zeroed,
}

/// What a run of frames is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Use {
    /// Pages that read as zeroes: frames that are zeroed already come first.
    Zeroes,
    /// Contents from elsewhere, or one page of zeroes, which is copied: zeroed frames come last.
    Contents,
    /// Zeroing ahead of need: frames that are not zeroed.
    Zeroing,
    /// Pages that are at the program's address already: contents would be in the way when they are moved there.
    Adopted,
}

impl Use {
    fn preference(self) -> &'static [Backing] {
        match self {
            Use::Zeroes => &[Backing::Zeroed, Backing::Hole],
            Use::Contents => &[Backing::Hole, Backing::Zeroed],
            Use::Zeroing | Use::Adopted => &[Backing::Hole],
        }
    }
}

/// The free frames.
#[derive(Clone, Debug)]
pub(crate) struct FramePool {
    pub(super) holes: Buddy,
    pub(super) dirty: Buddy,
    pub(super) zeroed: Buddy,
    capacity: u32,
    /// Frames from here on have never been free: they join the holes as they are needed.
    pub(crate) opened: u32,
}

/// Runs of frames whose memory is given back in one call.
pub(super) const TRIM_RUNS: usize = 128;

/// Frames that join the holes at once: 128 MiB. A small process's tables stay small.
const OPENING: u32 = 1 << 15;

impl FramePool {
    /// `capacity` frames, all of them holes.
    pub(crate) fn new(capacity: u32) -> FramePool {
        let (holes, dirty, zeroed) = (Buddy::new(capacity), Buddy::new(capacity), Buddy::new(capacity));
        let mut pool = FramePool { holes, dirty, zeroed, capacity, opened: 0 };
        pool.open();
        pool
    }

    /// Where no run of holes of this order is left, more frames join them, if there are any.
    pub(super) fn open_for(&mut self, order: Order) {
        if self.opened < self.capacity && self.holes.largest() < Some(order) {
            self.open();
        }
    }

    fn open(&mut self) {
        let pages = OPENING.min(self.capacity - self.opened);
        self.holes.free_run(FrameRun::new(Frame(self.opened), pages));
        self.opened += pages;
    }

    fn buddy(&mut self, backing: Backing) -> &mut Buddy {
        match backing {
            Backing::Hole => &mut self.holes,
            Backing::Dirty => &mut self.dirty,
            Backing::Zeroed => &mut self.zeroed,
        }
    }

    /// Frames in all.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Frames that are handed out.
    pub(crate) fn in_use(&self) -> u32 {
        self.opened - self.holes.free_frames() - self.spare()
    }

    /// Free frames with memory behind them.
    pub(crate) fn spare(&self) -> u32 {
        self.dirty.free_frames() + self.zeroed.free_frames()
    }

    /// Free frames that are zeroed.
    pub(crate) fn zeroed(&self) -> u32 {
        self.zeroed.free_frames()
    }

    /// Frames with memory behind them, or that may come to have some.
    pub(crate) fn charged(&self) -> u32 {
        self.in_use() + self.spare()
    }

    /// The largest run whose order is in `set` and that is not dirty; among equals what suits `purpose` best.
    /// Holes are used only as far as `limit` charged pages allow.
    pub(crate) fn take(
        &mut self,
        set: OrderSet,
        purpose: Use,
        limit: u32,
    ) -> Option<(Frame, Order, Backing)> {
        let fresh = limit.saturating_sub(self.charged());
        let mut best: Option<(Order, Backing)> = None;
        for &backing in purpose.preference() {
            let Some(order) = self.best_in(set, backing, fresh) else { continue };
            if best.is_none_or(|(o, _)| order > o) {
                best = Some((order, backing));
            }
        }
        let (order, backing) = best?;
        let (frame, order) = self.buddy(backing).alloc(OrderSet::only(order))?;
        Some((frame, order, backing))
    }

    /// One frame, if it is free and not dirty. A hole only as far as `limit` charged pages allow.
    pub(crate) fn take_at(&mut self, frame: Frame, limit: u32) -> Option<Backing> {
        let backing = self.backing_of(frame).filter(|&backing| backing != Backing::Dirty)?;
        let allowed = backing != Backing::Hole || self.charged() < limit;
        (allowed && self.buddy(backing).alloc_at(frame)).then_some(backing)
    }

    /// Frame number `offset` of a free run of order `run`; the others stay free.
    pub(crate) fn take_within(
        &mut self,
        run: Order,
        offset: u32,
        purpose: Use,
        limit: u32,
    ) -> Option<(Frame, Order, Backing)> {
        let (first, _, backing) = self.take(OrderSet::only(run), purpose, limit)?;
        self.give(FrameRun::new(first, offset), backing);
        let next = first.plus(offset + 1);
        self.give(FrameRun::new(next, run.pages() - offset - 1), backing);
        Some((first.plus(offset), Order::BASE, backing))
    }

    fn best_in(&mut self, set: OrderSet, backing: Backing, fresh: u32) -> Option<Order> {
        if backing == Backing::Hole {
            self.open_for(Order::MAX);
        }
        let mut largest = self.buddy(backing).largest()?;
        if backing == Backing::Hole {
            if fresh == 0 {
                return None;
            }
            largest = largest.min(Order::fitting(u64::from(fresh)));
        }
        set.and(OrderSet::up_to(largest)).largest()
    }

    /// Takes back frames.
    pub(crate) fn give(&mut self, run: FrameRun, backing: Backing) {
        self.buddy(backing).free_run(run);
    }

    /// Gives memory behind free frames back to the system until at most `limit` pages are charged, or the
    /// free ones have none, or 2 MiB or [`TRIM_RUNS`] runs have been given back.
    pub(crate) fn trim(&mut self, limit: u32, mmu: &mut impl Mmu) -> u32 {
        let mut runs = [FrameRun::new(Frame(0), 0); TRIM_RUNS];
        let mut count = 0;
        let mut given = 0;
        while count < TRIM_RUNS && self.charged() - given > limit && given < Order::MAX.pages() {
            let excess = u64::from(self.charged() - given - limit);
            let set = OrderSet::up_to(Order::fitting(excess));
            let backing = if self.dirty.free_frames() > 0 { Backing::Dirty } else { Backing::Zeroed };
            let Some((frame, order)) = self.buddy(backing).alloc(set) else { break };
            runs[count] = FrameRun::new(frame, order.pages());
            count += 1;
            given += order.pages();
        }
        self.release(&runs[..count], mmu);
        given
    }

    /// Makes holes of dirty frames until `limit` allows `pages` charged pages more, or none are left: many in one call, so
    /// that it costs each who takes them little.
    pub(crate) fn refresh(&mut self, pages: u32, limit: u32, mmu: &mut impl Mmu) {
        while self.dirty.free_frames() > 0 && self.charged() + pages > limit {
            let some = self.dirty.free_frames().min(pages.max(TRIM_RUNS as u32));
            self.trim(self.charged() - some, mmu);
        }
    }

    /// Makes holes of the dirty frames of a run of at most [`TRIM_RUNS`].
    pub(crate) fn refresh_run(&mut self, run: FrameRun, mmu: &mut impl Mmu) {
        let mut runs = [FrameRun::new(Frame(0), 0); TRIM_RUNS];
        let mut count = 0;
        for frame in run.iter().take(TRIM_RUNS) {
            if self.dirty.alloc_at(frame) {
                runs[count] = FrameRun::new(frame, 1);
                count += 1;
            }
        }
        self.release(&runs[..count], mmu);
    }

    /// Gives back the memory behind runs that are in no buddy: they are holes.
    pub(super) fn release(&mut self, runs: &[FrameRun], mmu: &mut impl Mmu) {
        if !runs.is_empty() {
            mmu.release_all(runs);
        }
        for &run in runs {
            self.holes.free_run(run);
        }
    }

    /// In a forked child no frame has memory: every free one is a hole.
    pub(crate) fn forget_memory(&mut self) {
        for backing in [Backing::Dirty, Backing::Zeroed] {
            while let Some((frame, order)) = self.buddy(backing).alloc(OrderSet::ALL) {
                self.holes.free(frame, order);
            }
        }
    }

    /// Checks the free frames: none is free in two ways. Walks the whole pool.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let buddies = [&self.holes, &self.dirty, &self.zeroed];
        buddies.into_iter().try_for_each(Buddy::validate)?;
        let ways = |frame| buddies.iter().filter(|buddy| buddy.is_free(frame)).count();
        let twice = (0..self.opened).map(Frame).any(|frame| ways(frame) > 1);
        if twice { Err("a frame is free in two ways") } else { Ok(()) }
    }

    /// Whether a frame is free, and of what backing.
    pub(crate) fn backing_of(&self, frame: Frame) -> Option<Backing> {
        if frame.0 >= self.opened {
            return Some(Backing::Hole);
        }
        let buddies =
            [(&self.holes, Backing::Hole), (&self.dirty, Backing::Dirty), (&self.zeroed, Backing::Zeroed)];
        buddies.into_iter().find(|(buddy, _)| buddy.is_free(frame)).map(|(_, backing)| backing)
    }
}
