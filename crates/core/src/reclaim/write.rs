//! The end of reclaim: contents are in the store, and folios become clean.

#[cfg(test)]
mod tests;

use crate::addr::SHARED;
use crate::engine::{Engine, Halt};
use crate::frame::{Backing, FrameState, List};
use crate::job::{JobKind, Outcome, Packed, Place, Work};
use crate::mmu::{Mmu, Mover};
use crate::store::{Block, Message};
use crate::tables::Source;

impl Engine {
    /// A job has come back: a fill, or a write with what was kept of it. A ticket that is not under way changes nothing
    /// here; what was kept is dropped.
    pub fn finish<M: Mover>(&mut self, mmu: &mut M, work: &Work, outcome: Outcome) -> Result<(), Halt> {
        self.look_at_store(mmu);
        let Some(job) = self.tickets.find(work.ticket) else {
            drop_kept(mmu, work);
            return Ok(());
        };
        match self.tickets.get(job).kind {
            JobKind::Zero | JobKind::Read => self.finish_fill(mmu, job, outcome),
            JobKind::Write => self.finish_write(mmu, job, work, outcome),
            // The store has those.
            JobKind::Spill => Ok(()),
        }
    }

    /// A write job has ended. Its folio is clean now, unless it has changed or nothing could be stored.
    fn finish_write<M: Mover>(
        &mut self,
        mmu: &mut M,
        job: usize,
        work: &Work,
        outcome: Outcome,
    ) -> Result<(), Halt> {
        let head = self.tickets.get(job).frames.start;
        let void = self.tickets.get(job).void;
        if void || outcome != Outcome::Done {
            drop_kept(mmu, work);
        } else {
            self.commit_blocks(mmu, job, work);
        }
        self.end_write(mmu, job);
        if void {
            return Ok(());
        }
        self.tables.frames.get_mut(head).state = FrameState::Standby;
        match outcome {
            Outcome::Done => {
                self.tables.frames.enlist(head, List::Clean);
                self.stats.swap_outs[self.tables.order_of(head).index()] += 1;
                self.split_zeroes(head, &work.packed);
                Ok(())
            }
            Outcome::Refused => self.give_back(mmu, head),
            Outcome::Failed | Outcome::Corrupt => {
                self.tables.frames.enlist(head, List::Dirty);
                Ok(())
            }
        }
    }

    /// A folio that no store takes goes back to the program, and is not tried again.
    fn give_back<M: Mover>(&mut self, mmu: &mut M, head: crate::Frame) -> Result<(), Halt> {
        self.stats.unstorable += 1;
        if self.tables.frames.get(head).space == SHARED {
            self.map_folio(mmu, head, List::None, None).map(|_| ())
        } else {
            self.map(mmu, head, List::None, Source::Frames)
        }
    }

    fn commit_blocks(&mut self, mmu: &mut impl Mmu, job: usize, work: &Work) {
        let pages = self.tables.pages_of(self.tickets.get(job).frames.start);
        for (i, packed) in work.packed.iter().enumerate() {
            let vpn = pages.start.plus(i as u64);
            let pte = self.tables.pte(pages.space, vpn);
            let block = match packed {
                Packed::Same => pte.placed(),
                Packed::Zero => Some(Block::ZERO),
                Packed::Small { .. } | Packed::Raw { .. } => work.kept[i],
            };
            let Some(block) = block else { continue };
            self.stats.pages_same += u64::from(*packed == Packed::Same);
            self.stats.pages_zero += u64::from(*packed == Packed::Zero);
            if pte.block() != Some(block) {
                self.forget_block(pages.space, vpn, mmu);
            }
            let pte = self.tables.pte(pages.space, vpn).with_copy(block);
            self.set_pte(pages.space, vpn, pte);
        }
    }

    /// Ends a write job: frames are let go. Frames of pages that went back to the program meanwhile may hold the zero page
    /// where the writer read a hole.
    fn end_write<M: Mover>(&mut self, mmu: &mut M, job: usize) {
        let run = self.tickets.get(job).frames;
        if self.tickets.get(job).void {
            for frame in run.iter() {
                let head = self.tables.frames.head_of(frame);
                if self.tables.frames.get(head).state == FrameState::Mapped {
                    mmu.release(crate::FrameRun::new(frame, 1));
                }
            }
        }
        self.unpin_frames(run, Backing::Dirty);
        self.tickets.end(job);
    }

    /// Gives up copies in RAM that mapped folios still have in the store, the youngest folios' first: they
    /// are the last to be moved out.
    pub(super) fn forget_some_copies<M: Mover>(&mut self, mmu: &mut M) -> u32 {
        let mut given = 0;
        for list in [List::Active, List::Inactive] {
            let mut at = self.tables.frames.youngest(list);
            for _ in 0..COPY_SCAN {
                let Some(head) = at.filter(|_| given < COPY_SCAN) else { break };
                at = self.tables.frames.older(head);
                let in_ram = |place| matches!(place, Place::Ram { .. });
                given += self.forget_copies(head, mmu, |_, stored| in_ram(stored.place));
            }
        }
        given
    }

    /// Whether a copy in RAM of what is mapped again takes a frame from another page, since nearly all of the grant is in
    /// use. While writers can't keep up it is worth that: what leaves unchanged is not to be stored again.
    pub(crate) fn copies_cost_frames(&self) -> bool {
        let short = self.headroom() <= self.fresh_goal() + self.grant.pages / 32;
        self.store_is_filling() || short && !self.starved()
    }

    /// Copies of what is mapped again are kept in RAM only while less than 3/4 of the store's is used.
    fn store_is_filling(&self) -> bool {
        self.for_store() > self.store.limit / 4 * 3
    }

    /// Whether RAM for the store is nearly used up.
    pub(super) fn store_is_full(&self) -> bool {
        self.for_store() > self.store.limit - self.store.limit / 16
    }

    /// Whether so much RAM is used for the store that what comes should take less of it: where there is no file to take
    /// over, or nothing that it need take. Then no fault should wait for it.
    pub(super) fn store_is_tight(&self) -> bool {
        let is_worth = !self.store.has_file || self.store.fits && !self.starved();
        is_worth && self.for_store() > self.store.limit / 2
    }

    /// Pages that count against the store limit.
    fn for_store(&self) -> u32 {
        self.store.ram_pages + self.grant.overhead
    }
}

/// Folios looked at for copies in one step.
const COPY_SCAN: u32 = 128;

/// Nobody names what was kept of a write job.
fn drop_kept(mmu: &mut impl Mmu, work: &Work) {
    for &block in work.kept.iter().flatten() {
        mmu.tell(Message::Drop(block));
    }
}
