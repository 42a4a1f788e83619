//! Trial unmaps: moving folios out only to hear of their next touch, for a host that records what a program accesses.

use crate::addr::{Frame, FrameRun, PageRange, Vpn};
use crate::engine::Engine;
use crate::frame::FrameState;
use crate::mmu::{Done, Mover, Refusal};

/// Most pages moved in one call.
const MOST: u32 = 512;

impl Engine {
    /// Moves out what of `range` is mapped and may leave, to standby: the next touch of each is a fault that rescues it.
    /// Works also where nothing is evicted ([`Engine::set_evicts`]); there what is out stays out, frames intact, until it
    /// is touched. Folios whose frames lie side by side go in one move. Returns the pages moved.
    ///
    /// It counts no eviction, since none was needed, and notes nothing in the log.
    pub fn withdraw<M: Mover>(&mut self, mmu: &mut M, range: PageRange) -> u32 {
        let (mut moved, mut at) = (0, range.start);
        while let Some((vpn, run)) = self.next_in_line(PageRange::between(range.space, at, range.end())) {
            at = vpn.plus(u64::from(run.pages));
            moved += self.withdraw_run(mmu, PageRange::new(range.space, vpn, u64::from(run.pages)), run);
        }
        moved
    }

    /// The first folio that begins in `range` and may be withdrawn, with those behind it whose frames follow its own.
    fn next_in_line(&self, range: PageRange) -> Option<(Vpn, FrameRun)> {
        let mut at = range.start;
        let (vpn, first) = loop {
            let vpn = self.tables.next_used(PageRange::between(range.space, at, range.end()))?;
            if let Some(head) = self.may_withdraw(range, vpn) {
                break (vpn, head);
            }
            at = vpn.plus(1);
        };
        let mut run = self.tables.frames.folio(first);
        while run.pages < MOST {
            let next = vpn.plus(u64::from(run.pages));
            let follows = self.may_withdraw(range, next).filter(|&head| head == first.plus(run.pages));
            let Some(head) = follows else { break };
            run.pages += self.tables.order_of(head).pages();
        }
        Some((vpn, run))
    }

    /// The folio that begins at `vpn`, if it is mapped, no job uses its frames, and nothing keeps it where it is.
    fn may_withdraw(&self, range: PageRange, vpn: Vpn) -> Option<Frame> {
        let frame = self.tables.pte(range.space, vpn).frame().filter(|_| vpn < range.end())?;
        let head = self.tables.frames.head_of(frame);
        let begins = head == frame && self.tables.frames.get(head).state == FrameState::Mapped;
        let free =
            begins && !self.tables.frames.pinned(self.tables.frames.folio(head)) && self.may_leave(head);
        free.then_some(head)
    }

    fn withdraw_run<M: Mover>(&mut self, mmu: &mut M, pages: PageRange, run: FrameRun) -> u32 {
        let mut done = mmu.move_out(pages.space, pages.start, run);
        if done.refusal == Some(Refusal::Busy) {
            // Most likely all of it is shared since a fork: one call makes it the program's own.
            let rest = PageRange::between(pages.space, pages.start.plus(u64::from(done.pages)), pages.end());
            let _ = mmu.unshare(rest);
            let frames = FrameRun::new(run.start.plus(done.pages), run.pages - done.pages);
            let more = mmu.move_out(rest.space, rest.start, frames);
            done = Done { pages: done.pages + more.pages, ..more };
        }
        let (mut moved, mut at) = (0, 0);
        while at < run.pages {
            let head = run.start.plus(at);
            let order = self.tables.order_of(head);
            moved += if at + order.pages() <= done.pages {
                self.moved_out(head);
                order.pages()
            } else {
                self.evict_page_by_page(mmu, head, done.pages.saturating_sub(at))
            };
            at += order.pages();
        }
        moved
    }
}
