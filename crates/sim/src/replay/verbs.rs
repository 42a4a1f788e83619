//! The engine's verbs on the memory of a replay. None is ever refused. Each adds what it costs.

use super::costs::Costs;
use super::memory::{Copied, Memory, Original, pages_of};
use super::table::{flag, flags_of};
use crate::tlb::Tlb;
use quire_core::job::{Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{
    Block, Figures, Frame, FrameRun, Message, Order, PAGE_SIZE, PageRange, Space, StoreMemory, Tend, Touched,
    Urgency, Vpn,
};
use std::ops::Range;

impl<T: Tlb> Memory<T> {
    /// A copy of contents that are in no frame of the pool. One of a page of more than 4 KiB costs what a folio of that size
    /// does, which is filled in the pool and moved.
    fn copy_in_from(&mut self, original: Original, to: PageRange) -> Done {
        self.copied.push(Copied { range: to, original });
        let costs = self.costs;
        if self.base == Order::BASE {
            self.spend(costs.copy_call, costs.copy_page, to.pages);
        } else {
            let fresh = if matches!(original, Original::Zeroes) { costs.fresh_page } else { 0 };
            self.spend(costs.move_call, costs.move_page + fresh, to.pages);
        }
        Done::all(to.pages as u32)
    }

    /// What a move costs, and what else changes as many entries with one flush.
    fn spend_move(&mut self, pages: u64) {
        self.spend(self.costs.move_call, self.costs.move_page, pages);
    }

    /// How many pages from `at` on are present with `flags`, and whether that is all.
    fn all_have(&mut self, range: PageRange, flags: u8) -> Done {
        for i in 0..range.pages {
            if !self.entry(range.space, range.start.plus(i)).has(flag::PRESENT | flags) {
                return Done::part(i as u32, Refusal::Absent);
            }
        }
        Done::all(range.pages as u32)
    }
}

impl<T: Tlb> Mmu for Memory<T> {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        let given = self.clear(range);
        self.spend(self.costs.call, self.costs.release_page, given);
        Ok(())
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        let flags = flags_of(prot);
        let mut lost = false;
        let table = self.table(range.space);
        table.each_present(pages_of(range), |_, entry| {
            lost |= entry.flags & (flag::READ | flag::WRITE) & !flags != 0;
        });
        table.set_rights(pages_of(range), prot);
        if lost {
            self.flush(range);
        }
        self.spend(self.costs.call, 0, 0);
        Ok(())
    }

    /// No trace locks anything.
    fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> {
        self.spend(self.costs.call, 0, 0);
        Ok(())
    }

    fn present(&mut self, space: Space, vpn: Vpn) -> bool {
        self.entry(space, vpn).has(flag::PRESENT)
    }

    fn accessed(&mut self, range: PageRange, touched: &mut Touched) -> bool {
        self.take_accessed(range, |vpn| touched.add((vpn.0 - range.start.0) as u32));
        self.spend(0, self.costs.access, range.pages);
        true
    }

    /// As a kernel does it: unmapped, copied as far as the frames are others, and mapped again, with one flush.
    fn relocated(&mut self, pages: PageRange, to: Frame) {
        let before = self.moved;
        self.relocate(pages, to);
        self.spend_move(pages.pages);
        self.spend(0, self.costs.copy_page, self.moved - before);
    }

    /// What the frames hold stays: after a copy it is that of the pages they belong to, and a free frame is filled
    /// before anybody reads it.
    fn release(&mut self, frames: FrameRun) {
        self.spend(self.costs.call, self.costs.release_page, u64::from(frames.pages));
    }

    fn release_all(&mut self, runs: &[FrameRun]) {
        let pages = runs.iter().map(|run| u64::from(run.pages)).sum();
        self.spend(self.costs.call, self.costs.release_page, pages);
    }

    fn tell(&mut self, message: Message) {
        self.store.hear(&mut self.store_costs, message);
    }

    fn look(&self, block: Block) -> Option<Stored> {
        self.store.look(block)
    }

    fn figures(&self) -> Figures {
        self.store.figures()
    }

    fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend {
        self.store.tend(&mut self.store_costs, urgency, work)
    }
}

/// What the store costs beside jobs.
#[derive(Debug)]
pub(super) struct StoreCosts {
    pub(super) costs: Costs,
    /// In ns, since it was taken.
    pub(super) spent: u64,
}

impl StoreMemory for StoreCosts {
    fn move_stored(&mut self, _: u32, _: u32, len: u16) {
        self.spent += self.costs.copy_page * u64::from(len) / PAGE_SIZE as u64;
    }

    fn release_stored(&mut self, pages: Range<u32>) {
        self.spent += self.costs.call + self.costs.release_page * pages.len() as u64;
    }
}

impl<T: Tlb> Mover for Memory<T> {
    fn move_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        self.map(frames, space, at, false);
        self.spend_move(frames.pages.into());
        Done::all(frames.pages)
    }

    /// The frames are those of the pages: what they hold stays in them.
    fn move_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        debug_assert_eq!(self.entry(space, at).mapping().frame, frames.start);
        let done = self.all_have(PageRange::new(space, at, frames.pages.into()), 0);
        self.clear(PageRange::new(space, at, done.pages.into()));
        if done.refusal.is_none() {
            self.spend_move(frames.pages.into());
        }
        done
    }

    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let range = PageRange::new(space, at, frames.pages.into());
        self.copied.push(Copied { range, original: Original::Frames(frames.start) });
        self.spend(self.costs.copy_call, self.costs.copy_page, range.pages);
        Done::all(frames.pages)
    }

    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
        self.copy_in_from(Original::Staged(from), to)
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        self.zeroed_bytes += self.bytes(to.pages);
        self.copy_in_from(Original::Zeroes, to)
    }

    /// What is shared is in frames of the pool: it is copied by the engine, when it is written.
    fn unshare(&mut self, range: PageRange) -> Done {
        self.spend(self.costs.call, 0, 0);
        Done::all(range.pages as u32)
    }

    fn remap(&mut self, from: PageRange, to: Vpn) -> Result<(), Refusal> {
        let rights = self.table(from.space).rights.at(from.start);
        let mut moved = Vec::new();
        self.table(from.space).each_present(pages_of(from), |vpn, entry| moved.push((vpn, *entry)));
        self.clear(from);
        self.protect(from, Prot::NONE)?;
        self.protect(PageRange::new(from.space, to, from.pages), rights)?;
        for (vpn, entry) in moved {
            let at = to.plus(vpn.0 - from.start.0);
            self.map(FrameRun::new(Frame(entry.frame), 1), from.space, at, entry.has(flag::SHARED));
        }
        self.spend(self.costs.move_call, 0, 0);
        Ok(())
    }

    /// The program goes on when its fault has been answered.
    fn wake(&mut self, _: PageRange) {}

    /// The frames are those of the pages. A fork flushes once, at its end, and pays for each entry of the child.
    fn share(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        debug_assert_eq!(self.entry(space, at).mapping().frame, frames.start);
        let range = PageRange::new(space, at, frames.pages.into());
        let done = self.all_have(range, 0);
        let shared = PageRange { pages: done.pages.into(), ..range };
        self.table(space)
            .change(pages_of(shared), |flags| flags & !(flag::WRITE | flag::DIRTY) | flag::SHARED);
        done
    }

    fn map_shared(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        self.map(frames, space, at, true);
        self.spend(0, self.costs.move_page, frames.pages.into());
        Done::all(frames.pages)
    }

    fn unmap_shared(&mut self, range: PageRange) -> Done {
        let done = self.all_have(range, flag::SHARED);
        self.clear(PageRange { pages: done.pages.into(), ..range });
        self.spend_move(done.pages.into());
        done
    }

    fn copy_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        for (i, to) in (0..).zip(frames.iter()) {
            let from = self.entry(space, at.plus(i)).mapping().frame;
            self.copy(from, to);
        }
        self.spend(self.costs.copy_call, self.costs.copy_page, frames.pages.into());
        Done::all(frames.pages)
    }

    fn fork_space(&mut self, parent: Space, child: Space) -> Result<(), Refusal> {
        self.begin_like(parent, child);
        self.spend(self.costs.call, 0, 0);
        Ok(())
    }

    fn end_space(&mut self, space: Space) {
        let own = self.end(space);
        self.spend(self.costs.call, self.costs.release_page, own);
    }
}
