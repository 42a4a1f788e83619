//! What a program does to its address space: map, unmap, discard, protect, lock, advise, remap. And how the live host
//! forks, whose child gets an engine of its own; [`crate::sharing`] has the fork within one engine.
//!
//! Each verb is atomic for the tables: it leaves every page in one state that `validate` accepts. A folio in
//! the hands of a job is taken from it first (its ticket is void), and a folio that straddles an edge is split.

use crate::addr::{Frame, FrameRun, PageRange, Space, Vpn};
use crate::engine::{Engine, Halt};
use crate::folio::SplitWhy;
use crate::frame::{Backing, FrameState, List};
use crate::mmu::{Mmu, Mover, Prot, Refusal};
use crate::order::Order;
use crate::policy::PolicyKind;
use crate::stats::Stats;
use crate::tables::{LEAF_PAGES, Pte, Source};
use crate::vma::{Hint, Vma};
use alloc::vec::Vec;

impl Engine {
    /// Maps `range`, where nothing is mapped. Its pages are empty. A range of no pages can't be mapped.
    pub fn map_range<M: Mmu>(&mut self, mmu: &mut M, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        if range.is_empty() {
            return Err(Refusal::NoRange);
        }
        if self.tables.vmas(range.space).overlapping(range.start, range.end()).next().is_some() {
            return Err(Refusal::Exists);
        }
        if let Err(refusal) = mmu.protect(range, prot) {
            // A part may have rights already: a touch of it must end in SIGSEGV, not in a fault again and again.
            let _ = mmu.protect(range, Prot::NONE);
            return Err(refusal);
        }
        self.tables.space_mut(range.space).vmas.insert(Vma::new(range.start, range.end(), prot));
        Ok(())
    }

    /// Unmaps whatever is mapped in `range`. Who waits for a page there meets SIGSEGV.
    pub fn unmap<M: Mover>(&mut self, mmu: &mut M, range: PageRange) -> Result<(), Refusal> {
        let locked: bool =
            self.tables.vmas(range.space).overlapping(range.start, range.end()).any(|v| v.locked);
        if locked {
            self.lock(mmu, range, false)?;
        }
        let mut rest = Some(range);
        while let Some(range) = rest {
            rest = self.discard_step(mmu, range)?;
        }
        mmu.protect(range, Prot::NONE)?;
        self.tables.space_mut(range.space).vmas.remove(range.start, range.end());
        self.tables.space_mut(range.space).pages.prune(range);
        mmu.wake(range);
        Ok(())
    }

    /// Drops the contents of pages of `range`, at most those of 2 MiB: they are empty. Returns what is left
    /// to do, so that a host can let others have the lock in between.
    pub fn discard_step<M: Mover>(
        &mut self,
        mmu: &mut M,
        range: PageRange,
    ) -> Result<Option<PageRange>, Refusal> {
        let Some(bite) = self.next_discard(range) else { return Ok(None) };
        let (first, end) = (bite.start, bite.end());
        if self.tables.vmas(range.space).overlapping(first, end).any(|vma| vma.locked) {
            return Err(Refusal::Denied);
        }
        self.split_edges(mmu, bite)?;
        self.take_from_jobs(mmu, bite);
        mmu.discard(bite)?;
        self.drop_pages(mmu, bite);
        mmu.wake(bite);
        let rest = PageRange::between(range.space, end, range.end());
        Ok((!rest.is_empty()).then_some(rest))
    }

    /// Makes every page of `bite` empty. No job uses them, no folio straddles an edge, and the program's
    /// pages are holes already.
    pub(crate) fn drop_pages<M: Mover>(&mut self, mmu: &mut M, bite: PageRange) {
        let mut at = bite.start;
        while let Some(vpn) = self.tables.next_used(PageRange::between(bite.space, at, bite.end())) {
            at = vpn.plus(1);
            let pte = self.tables.pte(bite.space, vpn);
            let Some(frame) = pte.frame() else {
                if pte.slot().is_some() {
                    at = self.give_up_shared(mmu, PageRange::between(bite.space, vpn, bite.end()));
                } else {
                    self.forget_block(bite.space, vpn, mmu);
                }
                continue;
            };
            let pages = self.tables.pages_of(frame);
            at = pages.end();
            let mapped = self.tables.frames.get(frame).state == FrameState::Mapped;
            self.tables.frames.delist(frame);
            for i in 0..pages.pages {
                self.forget_block(bite.space, pages.start.plus(i), mmu);
                self.set_pte(bite.space, pages.start.plus(i), Pte::EMPTY);
            }
            let backing = if mapped { Backing::Hole } else { Backing::Dirty };
            self.free_frames(FrameRun::new(frame, pages.pages as u32), backing);
        }
    }

    /// Sets the rights of pages that are all mapped.
    pub fn protect<M: Mover>(&mut self, mmu: &mut M, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        self.tables.require_mapped(range)?;
        self.split_edges(mmu, range)?;
        mmu.protect(range, prot)?;
        self.tables.space_mut(range.space).vmas.edit(range.start, range.end(), |vma| vma.prot = prot);
        self.relist(range);
        Ok(())
    }

    /// Whether enough frames would be left if `range` were locked.
    pub fn may_lock(&self, range: PageRange) -> bool {
        let inside = |v: &Vma| v.end.min(range.end()).0.saturating_sub(v.start.max(range.start).0);
        let locked = self.tables.spaces.iter().flat_map(|s| s.vmas.iter()).filter(|v| v.locked);
        let already: u64 = locked.map(|v| v.end.0 - v.start.0).sum();
        let again: u64 = self.tables.vmas(range.space).iter().filter(|v| v.locked).map(inside).sum();
        let elsewhere = already - again;
        !self.evicts || elsewhere + range.pages <= u64::from(self.frame_limit()) * 3 / 4
    }

    /// Locks pages that are all mapped, or unlocks them. Locked pages are never moved out; the host brings in
    /// those that [`Engine::next_absent`] names. At most 3/4 of the frames can be locked.
    pub fn lock<M: Mover>(&mut self, mmu: &mut M, range: PageRange, locked: bool) -> Result<(), Refusal> {
        if locked {
            self.tables.require_mapped(range)?;
            if !self.may_lock(range) {
                return Err(Refusal::NoMemory);
            }
        }
        self.split_edges(mmu, range)?;
        let pieces: Vec<Vma> =
            self.tables.vmas(range.space).overlapping(range.start, range.end()).copied().collect();
        for vma in pieces {
            let (start, end) = (vma.start.max(range.start), vma.end.min(range.end()));
            mmu.lock(PageRange::between(range.space, start, end), locked)?;
        }
        self.tables.space_mut(range.space).vmas.edit(range.start, range.end(), |vma| vma.locked = locked);
        self.relist(range);
        Ok(())
    }

    /// Notes what the program said about pages.
    pub fn advise(&mut self, range: PageRange, hint: Hint) {
        self.tables.space_mut(range.space).vmas.edit(range.start, range.end(), |vma| vma.hint = hint);
    }

    /// Gives pages an order policy of their own from the next fault on, or with `None` the engine's again.
    pub fn set_policy_of(&mut self, range: PageRange, policy: Option<PolicyKind>) {
        self.tables.space_mut(range.space).vmas.edit(range.start, range.end(), |vma| vma.policy = policy);
    }

    /// Marks pages whose kernel VMA the host has changed in a way the engine knows nothing of: no folio
    /// reaches across the edges.
    pub fn tag<M: Mover>(&mut self, mmu: &mut M, range: PageRange, tag: u32) -> Result<(), Refusal> {
        self.split_edges(mmu, range)?;
        self.tables.space_mut(range.space).vmas.edit(range.start, range.end(), |vma| vma.tag = tag);
        Ok(())
    }

    /// The program will not need these pages soon (`MADV_COLD`): they are next to be moved out. Not those that others
    /// share.
    pub fn deactivate(&mut self, range: PageRange) {
        self.each_folio(range, |engine, head| {
            if matches!(engine.tables.frames.get(head).list, List::Active | List::Inactive) {
                engine.tables.frames.enlist_oldest(head, List::Inactive);
            }
        });
    }

    /// The first page of `range` that is not at the program's address, though it is mapped.
    pub fn next_absent(&self, range: PageRange) -> Option<Vpn> {
        (range.start.0..range.end().0)
            .map(Vpn)
            .find(|&vpn| !self.tables.page_state(range.space, vpn).is_present())
    }

    /// The first page of `range` whose contents are elsewhere than at the program's address.
    pub fn next_away(&self, range: PageRange) -> Option<Vpn> {
        let mut at = range.start;
        loop {
            let vpn = self.tables.next_used(PageRange::between(range.space, at, range.end()))?;
            if !self.tables.page_state(range.space, vpn).is_present() {
                return Some(vpn);
            }
            at = vpn.plus(1);
        }
    }

    /// Whether [`Engine::discard_step`] and [`Engine::unmap`] of `range` use no verb of [`Mover`] but [`Mover::wake`], and nobody
    /// waits for that: all of it is mapped, nothing locked or shared, and every page with contents at the program's address.
    /// Then a thread may call them whose host has no such verbs.
    pub fn discards_alone(&self, range: PageRange) -> bool {
        let vmas = self.tables.vmas(range.space);
        let locked = vmas.overlapping(range.start, range.end()).any(|vma| vma.locked);
        vmas.covers(range.start, range.end())
            && !locked
            && self.shares_nothing()
            && self.next_away(range).is_none()
    }

    /// The same for [`Engine::protect`]: no fill under way is cut by an edge of `range`.
    pub fn protects_alone(&self, range: PageRange) -> bool {
        let cuts_fill = |edge: Vpn| {
            let Some(frame) = self.tables.pte(range.space, edge).frame() else { return false };
            let head = self.tables.frames.head_of(frame);
            head != frame && self.tables.frames.get(head).state == FrameState::Filling
        };
        self.shares_nothing() && ![range.start, range.end()].into_iter().any(cuts_fill)
    }

    fn shares_nothing(&self) -> bool {
        self.tables.shared.is_empty()
    }

    /// The pages of `range` that the next [`Engine::discard_step`] empties.
    pub fn next_discard(&self, range: PageRange) -> Option<PageRange> {
        let first = self.tables.next_used(range)?;
        let leaf_end = Vpn((first.0 / LEAF_PAGES + 1) * LEAF_PAGES);
        Some(PageRange::between(range.space, first, leaf_end.min(range.end())))
    }

    /// Lets the host take the contents of `range` away with `take`, after which its pages are empty. Contents that are
    /// not at the program's address have to be brought there first: [`Refusal::Again`].
    pub fn hand_over<M: Mover>(
        &mut self,
        mmu: &mut M,
        range: PageRange,
        take: impl FnOnce(&mut M) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.split_edges(mmu, range)?;
        self.take_from_jobs(mmu, range);
        if self.next_away(range).is_some() {
            return Err(Refusal::Again);
        }
        take(mmu)?;
        self.drop_pages(mmu, range);
        mmu.wake(range);
        Ok(())
    }

    /// Moves pages of one VMA to `to`, where nothing is mapped. Folios that would lose their alignment are
    /// split as far as needed.
    pub fn remap<M: Mover>(&mut self, mmu: &mut M, from: PageRange, to: Vpn) -> Result<(), Refusal> {
        let target = PageRange::new(from.space, to, from.pages);
        if from.is_empty() {
            return Err(Refusal::NoRange);
        }
        let vma = self.tables.vmas(from.space).at(from.start).copied().ok_or(Refusal::NoRange)?;
        if vma.end < from.end() {
            return Err(Refusal::NoRange);
        }
        if self.tables.vmas(from.space).overlapping(to, target.end()).next().is_some() {
            return Err(Refusal::Exists);
        }
        self.split_edges(mmu, from)?;
        self.take_from_jobs(mmu, from);
        let most = Order::alignment_of(to.0.abs_diff(from.start.0));
        self.each_folio(from, |engine, head| engine.split_to(head, most, SplitWhy::Remap));
        mmu.remap(from, to)?;
        self.move_entries(from, to);
        let vmas = &mut self.tables.space_mut(from.space).vmas;
        vmas.remove(from.start, from.end());
        vmas.insert(Vma { start: to, end: target.end(), history: crate::vma::History::default(), ..vma });
        self.tables.space_mut(from.space).pages.prune(from);
        mmu.wake(from);
        Ok(())
    }

    fn move_entries(&mut self, from: PageRange, to: Vpn) {
        let mut at = from.start;
        while let Some(vpn) = self.tables.next_used(PageRange::between(from.space, at, from.end())) {
            at = vpn.plus(1);
            let pte = self.tables.pte(from.space, vpn);
            let new = to.plus(vpn.0 - from.start.0);
            self.set_pte(from.space, vpn, Pte::EMPTY);
            self.set_pte(from.space, new, pte);
            if let Some(frame) = pte.frame() {
                self.tables.frames.get_mut(frame).vpn = new;
            } else if let Some((slot, _)) = pte.slot() {
                self.tables.shared.relocate(slot, from.space, vpn, new);
            }
        }
    }

    /// Makes ready for a fork of the process that the engine, with its one space, is in: no job is under way (else `Ok(false)`:
    /// finish them first), and nothing is in standby. The host sees to the store: no spill is under way ([`Figures::spills`](crate::Figures::spills)), and what is in the
    /// spill file now is never overwritten ([`Store::close_file`](crate::Store::close_file)).
    pub fn fork_prepare<M: Mover>(&mut self, mmu: &mut M) -> Result<bool, Halt> {
        if self.tickets.live() > 0 {
            return Ok(false);
        }
        while let Some(head) = self.tables.frames.oldest(List::Clean) {
            self.drop_clean_folio(head);
        }
        while let Some(head) = self.tables.frames.oldest(List::Dirty) {
            self.tables.frames.delist(head);
            self.map(mmu, head, List::Inactive, Source::Frames)?;
        }
        Ok(true)
    }

    /// What a forked child makes of its copy of the tables: its pool is new and empty, and it moves nothing
    /// out, since its pages are shared with its parent.
    /// Locks are not inherited, and it counts anew.
    pub fn fork_child(&mut self) {
        self.tickets.forget();
        self.pool.forget_memory();
        self.stats = Stats::default();
        self.evicts = false;
        for number in 0..self.tables.spaces.len() as u16 {
            let all = PageRange::new(Space(number), Vpn(0), u64::MAX);
            self.tables.space_mut(all.space).vmas.edit(all.start, all.end(), |vma| vma.locked = false);
            self.relist(all);
        }
    }

    /// Folios that no store took until now are tried again: it has come to have more room.
    pub fn try_unstorable(&mut self) {
        for space in 0..self.tables.spaces.len() {
            let space = Space(space as u16);
            let vmas = self.tables.vmas(space).iter();
            let ranges: Vec<_> = vmas.map(|vma| PageRange::between(space, vma.start, vma.end)).collect();
            ranges.into_iter().for_each(|range| self.relist(range));
        }
    }

    /// Takes every folio in `range` from the jobs that use it: fills are as if they had not begun, writers
    /// bring nothing.
    pub(crate) fn take_from_jobs<M: Mover>(&mut self, mmu: &mut M, range: PageRange) {
        let mut at = range.start;
        while let Some(vpn) = self.tables.next_used(PageRange::between(range.space, at, range.end())) {
            at = vpn.plus(1);
            let Some(frame) = self.tables.pte(range.space, vpn).frame() else { continue };
            let head = self.tables.frames.head_of(frame);
            at = self.tables.pages_of(head).end();
            match self.tables.frames.get(head).state {
                FrameState::Filling => self.revert_fill(mmu, head),
                _ => self.take_from_writer(head),
            }
        }
    }

    /// Splits what straddles an edge of `range`.
    pub(crate) fn split_edges<M: Mover>(&mut self, mmu: &mut M, range: PageRange) -> Result<(), Refusal> {
        for edge in [range.start, range.end()] {
            let Some(frame) = self.tables.pte(range.space, edge).frame() else { continue };
            if self.tables.frames.head_of(frame) != frame {
                self.take_from_jobs(mmu, PageRange::new(range.space, edge, 1));
            }
        }
        self.split_at_edges(range);
        Ok(())
    }

    /// Puts the mapped folios of `range` where they belong after rights or locks have changed, or a host no longer
    /// refuses to move them out.
    pub fn relist(&mut self, range: PageRange) {
        self.each_folio(range, |engine, head| {
            let record = *engine.tables.frames.get(head);
            if record.state != FrameState::Mapped {
                return;
            }
            let evictable =
                engine.tables.vmas(record.space).at(record.vpn).is_some_and(|vma| vma.evictable());
            match (evictable, record.list) {
                (true, List::None) => engine.tables.frames.enlist(head, List::Inactive),
                (false, List::Active | List::Inactive) => engine.tables.frames.delist(head),
                _ => {}
            }
        });
        if !self.tables.shared.is_empty() {
            self.relist_all_shared(range);
        }
    }

    fn relist_all_shared(&mut self, range: PageRange) {
        let mut at = range.start;
        while let Some(vpn) = self.tables.next_used(PageRange::between(range.space, at, range.end())) {
            at = vpn.plus(1);
            if let Some((slot, _)) = self.tables.pte(range.space, vpn).slot() {
                self.tables.relist_shared(slot);
            }
        }
    }

    /// Calls `verb` with the first frame of each folio that begins in `range`.
    pub(crate) fn each_folio(&mut self, range: PageRange, mut verb: impl FnMut(&mut Engine, Frame)) {
        let mut at = range.start;
        while let Some(vpn) = self.tables.next_used(PageRange::between(range.space, at, range.end())) {
            at = vpn.plus(1);
            let Some(frame) = self.tables.pte(range.space, vpn).frame() else { continue };
            let head = self.tables.frames.head_of(frame);
            at = self.tables.pages_of(head).end();
            verb(self, head);
        }
    }

    /// Forgets pages and what is mapped there, and leaves all contents where they are: the range is somebody else's from
    /// now on. [`Refusal::Busy`] while [`Engine::next_away`] names one.
    pub fn disown<M: Mover>(&mut self, mmu: &mut M, range: PageRange) -> Result<(), Refusal> {
        self.split_edges(mmu, range)?;
        self.take_from_jobs(mmu, range);
        if self.next_away(range).is_some() {
            return Err(Refusal::Busy);
        }
        self.drop_pages(mmu, range);
        let space = self.tables.space_mut(range.space);
        space.vmas.remove(range.start, range.end());
        space.pages.prune(range);
        Ok(())
    }
}
