//! Mapping shared folios read-only, and unmapping them everywhere.

use crate::addr::{Frame, FrameRun, PageRange, Space, Vpn};
use crate::engine::{Engine, Halt};
use crate::fault::MOST_TRIES;
use crate::frame::{Backing, FrameState, List, Use};
use crate::mmu::{Mover, Refusal};
use crate::order::{Order, OrderSet};
use crate::tables::Pte;

impl Engine {
    /// A shared folio's contents are in its frames: it is mapped in `asker`, if that names it. Nobody is woken. Whether
    /// slots of it may be named by nobody now: see [`Engine::after_unlinking`].
    pub(crate) fn map_folio<M: Mover>(
        &mut self,
        mmu: &mut M,
        head: Frame,
        list: List,
        asker: Option<Space>,
    ) -> Result<bool, Halt> {
        self.tables.frames.get_mut(head).state = FrameState::Shared;
        let list = if self.tables.is_locked(head) { List::None } else { list };
        self.tables.frames.enlist(head, list);
        let Some(space) = asker else { return Ok(false) };
        let unlinked = self.map_in(mmu, head, space)?;
        if self.last_late.0 == space {
            self.last_late.2 = 0;
        }
        Ok(unlinked)
    }

    /// Maps in one space all that it names of a folio that is [`FrameState::Shared`]. Whether it names less of it now.
    pub(super) fn map_in<M: Mover>(&mut self, mmu: &mut M, head: Frame, space: Space) -> Result<bool, Halt> {
        let slots = self.tables.pages_of(head);
        let (mut at, mut unlinked) = (0, false);
        while at < slots.pages {
            let slot = slots.start.plus(at);
            let found = self.tables.shared.of(slot).find(|&(s, _)| s == space);
            let Some((_, vpn)) = found else {
                at += 1;
                continue;
            };
            let pages = self.run_of(space, vpn, slot, slots.pages - at, false);
            if pages > 0 {
                unlinked |= self.map_run(mmu, head.plus(at as u32), PageRange::new(space, vpn, pages))?;
            }
            at += pages.max(1);
        }
        Ok(unlinked)
    }

    /// How many pages from `vpn` on name the slots from `slot` on, `most` at the most, and are mapped or not.
    fn run_of(&self, space: Space, vpn: Vpn, slot: Vpn, most: u64, mapped: bool) -> u64 {
        let fits = |i: u64| self.tables.pte(space, vpn.plus(i)) == Pte::shared(slot.plus(i), mapped);
        (0..most).take_while(|&i| fits(i)).count() as u64
    }

    /// Maps a run of shared pages that nobody has mapped there. Whether one of them is the space's own instead.
    fn map_run<M: Mover>(&mut self, mmu: &mut M, frame: Frame, pages: PageRange) -> Result<bool, Halt> {
        let (mut at, mut tries, mut unlinked) = (0, 0, false);
        while at < pages.pages {
            let rest = FrameRun::new(frame.plus(at as u32), (pages.pages - at) as u32);
            let done = mmu.map_shared(rest, pages.space, pages.start.plus(at));
            for i in at..at + u64::from(done.pages) {
                self.set_mapped(pages.space, pages.start.plus(i), true);
            }
            at += u64::from(done.pages);
            let Some(refusal) = done.refusal else { break };
            self.refused(refusal);
            match refusal {
                Refusal::Exists => {
                    self.own_instead(mmu, pages.space, pages.start.plus(at))?;
                    unlinked = true;
                    at += 1;
                }
                _ if tries > 2 * MOST_TRIES => return Err(Halt::Unmappable),
                _ => tries += 1,
            }
        }
        Ok(unlinked)
    }

    /// Somebody put a page where a shared one was to be mapped. It is what the program sees: the space's own from now on,
    /// with a slot to be moved out to. It is in memory, so it is charged whatever the limit.
    fn own_instead<M: Mover>(&mut self, mmu: &mut M, space: Space, vpn: Vpn) -> Result<(), Halt> {
        self.found_foreign(space, vpn);
        let Some((slot, _)) = self.tables.pte(space, vpn).slot() else { return Ok(()) };
        let base = OrderSet::only(Order::BASE);
        let taken = self.take_frames(mmu, base, Use::Contents);
        let taken = taken.or_else(|| self.pool.take(base, Use::Contents, u32::MAX));
        let (frame, _, backing) = taken.ok_or(Halt::Unmappable)?;
        if backing != Backing::Hole {
            mmu.release(FrameRun::new(frame, 1));
        }
        self.unlink(space, vpn, slot);
        self.attach(mmu, space, vpn, frame, Order::BASE);
        self.tables.frames.get_mut(frame).state = FrameState::Mapped;
        let evictable = self.tables.vmas(space).at(vpn).is_some_and(|vma| vma.evictable());
        self.tables.frames.enlist(frame, if evictable { List::Inactive } else { List::None });
        mmu.wake(PageRange::new(space, vpn, 1));
        Ok(())
    }

    /// The same for as many pages as follow each other, up to those of `pages`; asks once. Returns how many there were.
    pub(super) fn map_once<M: Mover>(
        &mut self,
        mmu: &mut M,
        frame: Frame,
        pages: PageRange,
        slot: Vpn,
    ) -> u64 {
        let run = self.run_of(pages.space, pages.start, slot, pages.pages, false).max(1);
        let done = mmu.map_shared(FrameRun::new(frame, run as u32), pages.space, pages.start);
        for i in 0..u64::from(done.pages) {
            self.set_mapped(pages.space, pages.start.plus(i), true);
        }
        if let Some(refusal) = done.refusal {
            self.refused(refusal);
        }
        run
    }

    pub(super) fn set_mapped(&mut self, space: Space, vpn: Vpn, mapped: bool) {
        if let Some((slot, _)) = self.tables.pte(space, vpn).slot() {
            self.set_pte(space, vpn, Pte::shared(slot, mapped));
        }
    }

    /// Makes a shared folio's pages holes in every space. A page that somebody dropped without telling us is empty there,
    /// so that slots of the folio may be named by nobody afterwards: see [`Engine::after_unlinking`].
    pub(crate) fn unmap_everywhere<M: Mover>(&mut self, mmu: &mut M, head: Frame) {
        let slots = self.tables.pages_of(head);
        for at in 0..slots.pages {
            let slot = slots.start.plus(at);
            let mut cursor = None;
            while let Some((id, space, vpn)) = self.tables.shared.after(slot, cursor) {
                let pages = self.run_of(space, vpn, slot, slots.pages - at, true);
                self.unmap_run(mmu, PageRange::new(space, vpn, pages));
                // A page that was dropped is in the chain no more, and those after it have taken its place.
                let stays = self.tables.pte(space, vpn).slot().is_some();
                cursor = if stays { Some(id) } else { cursor };
            }
        }
    }

    /// Makes holes of shared pages that are mapped. One that is a hole already is empty.
    fn unmap_run<M: Mover>(&mut self, mmu: &mut M, pages: PageRange) {
        let mut at = 0;
        while at < pages.pages {
            let rest = PageRange::between(pages.space, pages.start.plus(at), pages.end());
            let done = mmu.unmap_shared(rest);
            for vpn in (0..u64::from(done.pages)).map(|i| rest.start.plus(i)) {
                self.set_mapped(pages.space, vpn, false);
            }
            at += u64::from(done.pages);
            if done.refusal.is_some() {
                let vpn = pages.start.plus(at);
                self.found_foreign(pages.space, vpn);
                if let Some((slot, _)) = self.tables.pte(pages.space, vpn).slot() {
                    self.unlink(pages.space, vpn, slot);
                }
                at += 1;
            }
        }
    }

    /// Makes holes of shared pages of a space that are present, as far as they are mapped: of each run of them at once.
    pub(super) fn unmap_here<M: Mover>(&mut self, mmu: &mut M, pages: PageRange) {
        let mut at = 0;
        while at < pages.pages {
            let start = pages.start.plus(at);
            let mapped =
                |i: &u64| self.tables.pte(pages.space, start.plus(*i)).slot().is_some_and(|(_, m)| m);
            let run = (0..pages.pages - at).take_while(mapped).count() as u64;
            if run > 0 {
                self.unmap_run(mmu, PageRange::new(pages.space, start, run));
            }
            at += run + 1;
        }
    }

    /// Wakes who waits for a page of a shared folio in one space.
    pub(super) fn wake_in<M: Mover>(&self, mmu: &mut M, head: Frame, space: Space) {
        let slots = self.tables.pages_of(head);
        let pages = (0..slots.pages).flat_map(|i| self.tables.shared.of(slots.start.plus(i)));
        pages.filter(|page| page.0 == space).for_each(|(_, vpn)| mmu.wake(PageRange::new(space, vpn, 1)));
    }
}
