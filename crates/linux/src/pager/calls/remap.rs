//! `mremap`: memory that grows, shrinks and moves.
//!
//! What can fail is done first, on addresses that nobody has yet; the memory moves when nothing more can be refused.

use super::advice::{forget_kernel_marks, pieces};
use super::here::{begin, unmap};
use super::limit::Pages;
use super::place::show_in_dumps;
use super::{Answer, Caller, TAG_DONT_FORK, TAG_WIPE, errno};
use crate::control::note::Note;
use crate::pager::{Pager, SPACE, Tables, bytes_of, is_managed, overcommit, pages_of};
use crate::sys::mmap::moves_several;
use crate::sys::urge::Holding;
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::vma::Vma;

/// What a remap answers, before anything is done, where there are mappings of the kernel's in its target, or where that is
/// outside the arena. They are ended by the calling thread, since that may wait for a file, but not before it is known that
/// nothing else is refused: what the kernel refuses for its arguments leaves the target as it is.
pub const FOREIGN_TARGET: i32 = libc::ENOTEMPTY;
/// With the flags of a remap: those mappings have been ended.
pub const TARGET_ENDED: i32 = 1 << 30;

/// Where memory goes that an mremap moves.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// To managed addresses.
    Arena(Vpn),
    /// Over a mapping outside the arena, by its address.
    Outside(usize),
}

impl Target {
    fn addr(self) -> usize {
        match self {
            Target::Arena(start) => start.addr() as usize,
            Target::Outside(addr) => addr,
        }
    }

    fn plus(self, pages: u64) -> Target {
        match self {
            Target::Arena(start) => Target::Arena(start.plus(pages)),
            Target::Outside(addr) => Target::Outside(addr + pages as usize * PAGE_SIZE),
        }
    }
}

/// Resizes memory on a thread of the program: in place, or to another place while all of it is untouched. `None`: the service
/// thread has to do it.
pub(super) fn here(
    pager: &'static Pager,
    tid: u32,
    old: PageRange,
    pages: u64,
    may_move: bool,
) -> Option<Answer> {
    let mut tables = begin(pager)?;
    if old.is_empty() || pages == 0 {
        return None;
    }
    let Some(vma) = tables.engine.vmas(SPACE).at(old.start).copied() else { return Some(Err(libc::EFAULT)) };
    if pages > old.pages {
        let _holding = Holding::by(tid);
        return grow(pager, &mut tables, old, pages, &vma, may_move);
    }
    drop(tables);
    let addr = old.start.addr() as usize;
    let tail = PageRange::between(SPACE, old.start.plus(pages), old.end());
    if tail.is_empty() { Some(Ok(addr)) } else { unmap(pager, tid, tail).map(|done| done.map(|_| addr)) }
}

fn grow(
    pager: &Pager,
    tables: &mut Tables,
    old: PageRange,
    pages: u64,
    vma: &Vma,
    may_move: bool,
) -> Option<Answer> {
    if vma.end < old.end() {
        return Some(Err(libc::EFAULT));
    }
    // What grows a locked VMA is brought in by faults, and the kernel has to be told of marks.
    if vma.locked || vma.tag & (TAG_DONT_FORK | TAG_WIPE) != 0 {
        return None;
    }
    if let Err(errno) = overcommit::may_grow(&tables.engine, vma, pages - old.pages) {
        return Some(Err(errno));
    }
    let tail = PageRange::new(SPACE, old.end(), pages - old.pages);
    if tables.room.take_at(tail.start.0, tail.end().0) {
        let addr = old.start.addr() as usize;
        return Some(pager.map_taken_like(tables, tail, vma).map(|()| addr));
    }
    if may_move { move_untouched(pager, tables, old, pages, vma) } else { Some(Err(libc::ENOMEM)) }
}

/// Moves memory that has no page, and so nothing that would have to be moved: it is mapped anew, and unmapped where it was.
fn move_untouched(
    pager: &Pager,
    tables: &mut Tables,
    old: PageRange,
    pages: u64,
    vma: &Vma,
) -> Option<Answer> {
    if !tables.engine.discards_alone(old) || tables.engine.next_discard(old).is_some() {
        return None;
    }
    if let Err(errno) = tables.take_back_rights(old) {
        return Some(Err(errno));
    }
    let start = Vpn(tables.room.take(pages)?);
    let new = PageRange::new(SPACE, start, pages);
    if let Err(errno) = pager.map_taken_like(tables, new, vma) {
        return Some(Err(errno));
    }
    if let Err(refusal) = tables.engine.unmap(&mut pager.program_mmu(), old) {
        return Some(Err(errno(refusal)));
    }
    pager.unevictable.moved(bytes_of(old), start.addr() as usize);
    pager.note(Note::Unmap(old));
    show_in_dumps(old, false);
    tables.room.give(old.start.0, old.end().0);
    Some(Ok(start.addr() as usize))
}

impl Pager {
    /// Maps empty pages that are taken with all that holds for `vma` but its lock. If that fails, they are given back.
    fn map_taken_like(&self, tables: &mut Tables, range: PageRange, vma: &Vma) -> Result<(), i32> {
        let mapped = tables.take_back_rights(range).and_then(|_| self.map_like(tables, range, vma));
        if mapped.is_err() {
            tables.room.give(range.start.0, range.end().0);
        }
        mapped
    }

    /// The same, where the addresses stay taken whatever happens.
    fn map_like(&self, tables: &mut Tables, range: PageRange, vma: &Vma) -> Result<(), i32> {
        tables.engine.map_range(&mut self.program_mmu(), range, vma.prot).map_err(errno)?;
        self.note(Note::Map { range, prot: vma.prot });
        show_in_dumps(range, true);
        tables.engine.advise(range, vma.hint);
        tables.engine.set_policy_of(range, vma.policy);
        self.mark(tables, range, vma.tag, 0)
    }
}

impl Caller {
    pub(super) fn remap(
        &mut self,
        old: usize,
        old_len: usize,
        new_len: usize,
        flags: i32,
        new_addr: usize,
    ) -> Answer {
        let (old, pages) = (pages_of(old, old_len), new_len.div_ceil(PAGE_SIZE) as u64);
        let fixed = flags & libc::MREMAP_FIXED != 0;
        let keeps = flags & libc::MREMAP_DONTUNMAP != 0;
        let ended = flags & TARGET_ENDED != 0;
        let may_move = flags & libc::MREMAP_MAYMOVE != 0;
        if old.is_empty() || pages == 0 || keeps && pages != old.pages || (fixed || keeps) && !may_move {
            return Err(libc::EINVAL);
        }
        if !fixed && !keeps && pages <= old.pages {
            return self.shrink(old, pages);
        }
        if fixed && pages == old.pages {
            let target = target_at(old, pages, new_addr)?;
            if self.first_vma(old)?.end < old.end() && !moves_several() {
                return Err(libc::EFAULT);
            }
            if !ended {
                self.expect_own_for_each(old, target)?;
            }
            return self.move_each(old, target, keeps);
        }
        // What does not move is unmapped, whatever it is.
        let vma = self.vma_of(PageRange::new(SPACE, old.start, old.pages.min(pages)))?;
        if pages > old.pages {
            overcommit::may_grow(&self.pager.tables.lock().engine, &vma, pages - old.pages)?;
            let more = Pages::with(pages - old.pages, vma.prot);
            self.stay_within(&self.pager.tables.lock(), more)?;
        }
        if !fixed && !keeps && self.grow_in_place(old, pages, &vma)? {
            return Ok(old.start.addr() as usize);
        }
        if !may_move {
            return Err(libc::ENOMEM);
        }
        let target = match fixed.then(|| target_at(old, pages, new_addr)).transpose()? {
            Some(target) => target,
            // The arena may have no room where the kernel has.
            None => {
                let start = self.pager.tables.lock().room.take(pages).ok_or(libc::EOPNOTSUPP)?;
                return self.move_to(old, Target::Arena(Vpn(start)), pages, &vma, keeps);
            }
        };
        if !ended {
            self.expect_own(target, pages)?;
        }
        self.take_target(target, pages)?;
        if pages < old.pages {
            self.unmap_pages(PageRange::between(SPACE, old.start.plus(pages), old.end()))?;
        }
        self.move_to(PageRange::new(SPACE, old.start, old.pages.min(pages)), target, pages, &vma, keeps)
    }

    /// The one VMA that a remapped range must lie in.
    fn vma_of(&self, range: PageRange) -> Result<Vma, i32> {
        let vma = self.first_vma(range)?;
        if range.end() > vma.end { Err(libc::EFAULT) } else { Ok(vma) }
    }

    fn first_vma(&self, range: PageRange) -> Result<Vma, i32> {
        self.pager.tables.lock().engine.vmas(SPACE).at(range.start).copied().ok_or(libc::EFAULT)
    }

    /// Of several VMAs too, and across gaps, as long as the range begins with one.
    fn shrink(&mut self, old: PageRange, pages: u64) -> Answer {
        self.first_vma(old)?;
        let tail = PageRange::between(SPACE, old.start.plus(pages), old.end());
        if !tail.is_empty() {
            self.unmap_pages(tail)?;
        }
        Ok(old.start.addr() as usize)
    }

    fn unmap_pages(&mut self, range: PageRange) -> Answer {
        self.unmap(range.start.addr() as usize, range.pages as usize * PAGE_SIZE)
    }

    /// Moves every VMA of a range, each to its place in the target. Gaps move nothing, and what is in the target
    /// opposite to them stays.
    fn move_each(&mut self, old: PageRange, target: Target, keeps: bool) -> Answer {
        self.first_vma(old)?;
        let vmas = pieces(&self.pager.tables.lock(), old);
        for vma in vmas {
            let part = PageRange::between(SPACE, vma.start, vma.end);
            let to = target.plus(vma.start.0 - old.start.0);
            self.take_target(to, part.pages)?;
            self.move_to(part, to, part.pages, &vma, keeps)?;
        }
        Ok(target.addr())
    }

    /// Whether the target has mappings of the kernel's, or may have, which the calling thread has to end first.
    fn expect_own(&self, target: Target, pages: u64) -> Result<(), i32> {
        match target {
            Target::Arena(start)
                if self.pager.tables.lock().room.foreign_in(start.0, start.plus(pages).0).is_none() =>
            {
                Ok(())
            }
            Target::Arena(_) | Target::Outside(_) => Err(FOREIGN_TARGET),
        }
    }

    /// The same for the places opposite to the VMAs of a range.
    fn expect_own_for_each(&self, old: PageRange, target: Target) -> Result<(), i32> {
        self.first_vma(old)?;
        let vmas = pieces(&self.pager.tables.lock(), old);
        vmas.iter().try_for_each(|vma| {
            self.expect_own(target.plus(vma.start.0 - old.start.0), vma.end.0 - vma.start.0)
        })
    }

    /// Makes a place free for what moves there, and takes its addresses.
    fn take_target(&mut self, target: Target, pages: u64) -> Result<(), i32> {
        match target {
            Target::Arena(start) => {
                drop(self.take_over(start.addr() as usize, pages as usize * PAGE_SIZE)?);
            }
            // The calling thread has put a mapping there that is written over.
            Target::Outside(_) => {}
        }
        Ok(())
    }

    fn grow_in_place(&mut self, old: PageRange, pages: u64, vma: &Vma) -> Result<bool, i32> {
        let tail = PageRange::new(SPACE, old.end(), pages - old.pages);
        if !self.pager.tables.lock().room.take_at(tail.start.0, tail.end().0) {
            return Ok(false);
        }
        self.map_tail(tail, vma)?;
        Ok(true)
    }

    /// Maps empty pages that grow `vma`. Their addresses are taken; if that fails, they are given back.
    fn map_tail(&mut self, tail: PageRange, vma: &Vma) -> Result<(), i32> {
        self.pager.map_taken_like(&mut self.pager.tables.lock(), tail, vma)?;
        if vma.locked
            && let Err(errno) = self.lock(tail, false)
        {
            self.unmap_pages(tail)?;
            return Err(errno);
        }
        Ok(())
    }

    /// Moves `old`, which is in `vma`, to a place that is taken and free, and grows it there to `pages`.
    fn move_to(&mut self, old: PageRange, to: Target, pages: u64, vma: &Vma, keeps: bool) -> Answer {
        let start = match to {
            Target::Outside(addr) => return self.move_away(old, addr, pages, vma, keeps),
            Target::Arena(start) => start,
        };
        let tail = PageRange::between(SPACE, start.plus(old.pages), start.plus(pages));
        if !tail.is_empty()
            && let Err(errno) = self.map_tail(tail, vma)
        {
            self.pager.tables.lock().room.give(start.0, tail.start.0);
            return Err(errno);
        }
        self.record_writes(old);
        let mut tables = self.pager.tables.lock();
        self.pager.withhold_from_children(&mut tables, old);
        let moved = tables.engine.remap(&mut self.pager.mover(), old, start);
        if vma.tag & TAG_DONT_FORK == 0 {
            self.pager.grant_to_children(old);
            self.pager.grant_to_children(PageRange::new(SPACE, start, old.pages));
        }
        if let Err(refusal) = moved {
            tables.room.give(start.0, tail.start.0);
            drop(tables);
            if !tail.is_empty() {
                self.unmap_pages(tail)?;
            }
            return Err(errno(refusal));
        }
        self.pager.unevictable.moved(bytes_of(old), start.addr() as usize);
        if let Some(recorder) = self.pager.recorder() {
            recorder.remapped(old, start, vma.prot);
        }
        self.leave_behind(&mut tables, old, vma, keeps)?;
        Ok(start.addr() as usize)
    }

    /// What is at the old place of memory that has moved: with `keeps` empty pages like it, else nothing.
    pub(super) fn leave_behind(
        &self,
        tables: &mut Tables,
        old: PageRange,
        vma: &Vma,
        keeps: bool,
    ) -> Result<(), i32> {
        if keeps {
            return self.pager.map_like(tables, old, vma);
        }
        forget_kernel_marks(old, vma.tag);
        tables.room.give(old.start.0, old.end().0);
        Ok(())
    }
}

/// The place that a program names for memory it moves.
fn target_at(old: PageRange, pages: u64, addr: usize) -> Result<Target, i32> {
    let target = pages_of(addr, pages as usize * PAGE_SIZE);
    let overlaps = target.start < old.end() && old.start < target.end();
    if !addr.is_multiple_of(PAGE_SIZE) || overlaps {
        return Err(libc::EINVAL);
    }
    let (start, end) = crate::pager::arena();
    let len = target.pages as usize * PAGE_SIZE;
    if !is_managed(addr, len) {
        return Ok(Target::Outside(addr));
    }
    // Half in the arena and half not, it could not be moved in one piece.
    if addr >= start && addr + len <= end { Ok(Target::Arena(target.start)) } else { Err(libc::ENOMEM) }
}
