//! The reclaim walk: watermark → ageing → choose folios → move out → standby → compress and store (a job) →
//! frames back to the pool. Read it from [`Engine::reclaim`] downwards; write jobs come back through [`Engine::finish`].
//! What the store does to have room is its own ([`Store::tend`](crate::Store::tend)).

mod evict;
mod ranks;
mod refault;
#[cfg(test)]
mod tests;
mod withdraw;
mod write;

pub(crate) use ranks::Ranks;

use crate::addr::{Frame, FrameRun};
use crate::engine::Engine;
use crate::frame::{FrameState, List, Use};
use crate::job::{JobKind, Work};
use crate::mmu::{Mmu, Mover};
use crate::order::{Order, OrderSet};
use crate::store::Tend;
use crate::tickets::pin_of;

/// Who asks for reclaim, and so how much of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Urgency {
    /// Nobody waits: reclaim up to the high watermark.
    Behind,
    /// The same, but somebody else moves out ([`Engine::move_out_behind`]): what is out is stored.
    StoreOnly,
    /// A fault waits for a frame: one is enough.
    Direct,
}

/// What a step of reclaim did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reclaim {
    /// Nothing: there is enough room, or with [`Urgency::StoreOnly`] nothing to store.
    Idle,
    /// Something, at once.
    Progress,
    /// The job in the caller's [`Work`] has to be run.
    Job,
    /// Nothing, though there is not enough room: only jobs under way can bring some.
    Waiting,
    /// Nothing, though there is not enough room, and no job is under way: nothing can be moved out.
    Stuck,
}

/// A step ends with the folio that reaches so many pages moved out ...
const STEP_PAGES: u32 = 512;
/// ... or with so many folios: a fault waits as long as a step takes, and each folio costs a flush of TLBs.
const STEP_FOLIOS: u32 = 2;
/// Folios tried in a step that can't be moved out.
const STEP_TRIES: u32 = 512;
/// See [`Engine::least_evictable`].
const LEAST_EVICTABLE_FRACTION: u32 = 32;
const MOST_LEAST_EVICTABLE: u32 = 64;
/// See [`Engine::fresh_goal`].
const MOST_FRESH: u32 = 256;
/// The part of that which is worth giving back at once.
const FRESH_FRACTION: u32 = 4;
/// See [`Engine::most_room`].
const MOST_ROOM: u32 = 1024;

impl Engine {
    /// One bounded step towards enough room.
    pub fn reclaim<M: Mover>(&mut self, mmu: &mut M, urgency: Urgency, work: &mut Work) -> Reclaim {
        self.look_at_store(mmu);
        if self.shrink(mmu, urgency) {
            return Reclaim::Progress;
        }
        if self.room() >= self.goal(urgency) || !self.evicts && urgency != Urgency::Direct {
            return self.repay_overdraft();
        }
        if !self.evicts {
            return self.out_of_means();
        }
        if self.store_is_full() && self.forget_some_copies(mmu) > 0 {
            return Reclaim::Progress;
        }
        match mmu.tend(urgency, work) {
            Tend::Idle => {}
            Tend::Progress => return Reclaim::Progress,
            Tend::Job => return Reclaim::Job,
        }
        if let Some(head) = self.next_to_write() {
            return if self.begin_write(head, work) { Reclaim::Job } else { Reclaim::Waiting };
        }
        if urgency == Urgency::StoreOnly {
            return Reclaim::Idle;
        }
        self.age();
        let wanted = self.goal(urgency).saturating_sub(self.room()).clamp(1, STEP_PAGES);
        if self.evict_oldest(mmu, wanted, urgency) > 0 {
            return Reclaim::Progress;
        }
        self.out_of_means()
    }

    fn out_of_means(&self) -> Reclaim {
        if self.tickets.live() > 0 || self.store.spills { Reclaim::Waiting } else { Reclaim::Stuck }
    }

    /// Gives memory back while more is charged than allowed, or too little is left for small fills, which take theirs
    /// from the system: what is free, and what is stored as well. Whether there was any.
    fn shrink<M: Mover>(&mut self, mmu: &mut M, urgency: Urgency) -> bool {
        let mut limit = self.frame_limit();
        if urgency != Urgency::Direct && self.lacks_fresh() {
            limit -= self.fresh_goal();
        }
        let spare = self.pool.spare();
        let excess = self.pool.charged().saturating_sub(limit);
        let dropped = self.drop_clean(excess.saturating_sub(spare).min(STEP_PAGES));
        self.pool.trim(limit, mmu) > 0 || dropped > 0
    }

    /// Whether reclaim should begin: room is below the low watermark, or all of it has memory behind it.
    pub fn pressed(&self) -> bool {
        self.over_limit() || self.evicts && (self.room() < self.low_watermark() || self.lacks_fresh())
    }

    fn over_limit(&self) -> bool {
        self.givable() > 0 && self.pool.charged() > self.frame_limit()
    }

    /// Pages whose memory could be given back at once.
    fn givable(&self) -> u32 {
        self.pool.spare() + self.tables.frames.pages_on(List::Clean)
    }

    /// Pages that small fills find for which no memory was taken yet: 1/32 of all frames, 1 MiB at most.
    pub(crate) fn fresh_goal(&self) -> u32 {
        (self.frame_limit() / 32).min(MOST_FRESH)
    }

    /// Whether some of what could be given back should be: not page by page, since each time flushes the TLBs of all
    /// processors. A fault that finds none takes what there is by itself.
    fn lacks_fresh(&self) -> bool {
        let fresh = self.frame_limit().saturating_sub(self.pool.charged());
        fresh < self.fresh_goal() / 2 && self.givable() > self.fresh_goal() / FRESH_FRACTION
    }

    /// Room that faults should always find.
    fn low_watermark(&self) -> u32 {
        self.most_room() / 2
    }

    /// Room that reclaim works up to: what a writer needs to keep ahead of faults, and no more, since what waits there is
    /// missing in frames.
    fn most_room(&self) -> u32 {
        (self.frame_limit() / 8).clamp(1, MOST_ROOM)
    }

    fn goal(&self, urgency: Urgency) -> u32 {
        match urgency {
            Urgency::Behind | Urgency::StoreOnly => self.most_room(),
            Urgency::Direct => 1,
        }
    }

    /// Moves out `pages` pages or a few more, to be stored by [`Urgency::StoreOnly`], if that many are missing to the high
    /// watermark. For a host that can do it better at this moment than where it reclaims; nobody may be waiting.
    /// Returns the pages moved.
    pub fn move_out_behind<M: Mover>(&mut self, mmu: &mut M, pages: u32) -> u32 {
        let mut moved = 0;
        if !self.lacks_room_for(pages) {
            return moved;
        }
        while moved < pages {
            self.age();
            match self.evict_oldest(mmu, pages - moved, Urgency::Behind) {
                0 => break,
                some => moved += some,
            }
        }
        moved
    }

    /// Whether `pages` pages are missing to the high watermark, beside what is out and waits to be stored.
    pub fn lacks_room_for(&self, pages: u32) -> bool {
        self.evicts && self.room() + self.to_be_stored() + pages <= self.goal(Urgency::Behind)
    }

    /// Pages that are out, wait to be stored, and are in no job's hands.
    pub fn to_be_stored(&self) -> u32 {
        self.tables.frames.pages_on(List::Dirty)
    }

    /// Whether room is so short that whoever can should make some.
    pub fn starved(&self) -> bool {
        self.evicts && self.room() < self.low_watermark() / 2
    }

    /// With enough room, nothing above the grant is needed any longer.
    fn repay_overdraft(&mut self) -> Reclaim {
        let needless = self.grant.overdraft.min(self.frame_limit().saturating_sub(self.pool.charged()));
        self.grant.overdraft -= needless;
        // With a lower limit there may be something to do again.
        if needless > 0 { Reclaim::Progress } else { Reclaim::Idle }
    }

    /// The oldest folio that was moved out and is not stored.
    fn next_to_write(&self) -> Option<Frame> {
        let mut at = self.tables.frames.oldest(List::Dirty);
        while let Some(head) = at {
            if !self.tables.frames.pinned(self.tables.frames.folio(head)) {
                return Some(head);
            }
            at = self.tables.frames.younger(head);
        }
        None
    }

    /// Hands a standby folio to a writer. Until the job is back, a fault still rescues it. False where as many jobs are
    /// under way as there are records for.
    fn begin_write(&mut self, head: Frame, work: &mut Work) -> bool {
        let run = self.tables.frames.folio(head);
        let Some(job) = self.tickets.begin_reserved(JobKind::Write, run) else { return false };
        self.tables.frames.delist(head);
        self.tables.frames.get_mut(head).state = FrameState::Writing;
        work.begin(self.tickets.get(job).ticket, JobKind::Write, run);
        work.tight = self.store_is_tight();
        let pages = self.tables.pages_of(head);
        for (i, frame) in run.iter().enumerate() {
            self.tables.frames.get_mut(frame).job = pin_of(job);
            work.blocks.push(self.tables.pte(pages.space, pages.start.plus(i as u64)).placed());
        }
        true
    }

    /// Keeps the inactive list at a third of what is mapped: the oldest active folios go there.
    fn age(&mut self) {
        let mut moved = 0;
        while moved < STEP_PAGES {
            let (active, inactive) =
                (self.tables.frames.pages_on(List::Active), self.tables.frames.pages_on(List::Inactive));
            if inactive >= (active + inactive) / 3 {
                break;
            }
            let Some(head) = self.tables.frames.oldest(List::Active) else { break };
            moved += self.tables.order_of(head).pages();
            self.tables.frames.enlist(head, List::Inactive);
        }
    }

    /// Mapped pages that may be moved out.
    pub fn evictable(&self) -> u32 {
        self.tables.frames.pages_on(List::Active) + self.tables.frames.pages_on(List::Inactive)
    }

    /// So few of the mapped pages that may be moved out stay: they are what the program works with. Where no store takes the
    /// rest, they would leave and come back with each access, and the program would hardly get on.
    pub fn least_evictable(&self) -> u32 {
        (self.frame_limit() / LEAST_EVICTABLE_FRACTION).min(MOST_LEAST_EVICTABLE)
    }

    fn evict_oldest<M: Mover>(&mut self, mmu: &mut M, wanted: u32, urgency: Urgency) -> u32 {
        let (mut moved, mut folios) = (0, 0);
        for _ in 0..STEP_TRIES {
            if self.evictable() <= self.least_evictable() {
                break;
            }
            let Some(head) =
                self.tables.frames.oldest(List::Inactive).or_else(|| self.tables.frames.oldest(List::Active))
            else {
                break;
            };
            let pages = self.evict(mmu, head);
            moved += pages;
            folios += u32::from(pages > 0);
            if moved >= wanted || folios == STEP_FOLIOS {
                break;
            }
        }
        self.count_evicted(urgency, moved);
        moved
    }

    /// Zeroes frames ahead of need: a job of at most `order`, while fewer than `target` pages are ready and
    /// the grant has memory to spare.
    pub fn zero_ahead(&mut self, mmu: &mut impl Mmu, target: u32, order: Order, work: &mut Work) -> bool {
        let spare = self.frame_limit().saturating_sub(self.pool.in_use());
        if self.pool.zeroed() >= target.min(spare / 2) {
            return false;
        }
        let limit = self.frame_limit().saturating_sub(self.fresh_goal());
        self.pool.refresh(order.pages(), limit, mmu);
        let Some((frame, order, _)) = self.pool.take(OrderSet::up_to(order), Use::Zeroing, limit) else {
            return false;
        };
        let run = FrameRun::new(frame, order.pages());
        self.tables.frames.cover(run);
        let job = self.tickets.begin(JobKind::Zero, run);
        // Nobody's folio: it is void from the start, and its frames come back as zeroed.
        self.tickets.get_mut(job).void = true;
        work.begin(self.tickets.get(job).ticket, JobKind::Zero, run);
        work.fresh = true;
        for frame in run.iter() {
            let record = self.tables.frames.get_mut(frame);
            (record.state, record.job) = (FrameState::Zombie, pin_of(job));
        }
        true
    }
}
