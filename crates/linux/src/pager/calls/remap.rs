//! `mremap`: memory that grows, shrinks and moves.

use super::{Answer, Caller, TAG_DONT_FORK, errno};
use crate::control::note::Note;
use crate::pager::{SPACE, arena, bytes_of, pages_of};
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::vma::Vma;

impl Caller {
    pub(super) fn remap(
        &mut self,
        old: usize,
        old_len: usize,
        new_len: usize,
        flags: i32,
        new_addr: usize,
    ) -> Answer {
        let (old, new_pages) = (pages_of(old, old_len), new_len.div_ceil(PAGE_SIZE) as u64);
        let fixed = flags & libc::MREMAP_FIXED != 0;
        let keeps = flags & libc::MREMAP_DONTUNMAP != 0;
        if old.is_empty() || new_pages == 0 || keeps && new_pages != old.pages {
            return Err(libc::EINVAL);
        }
        let vma = self.vma_of(old)?;
        if !fixed && !keeps {
            if new_pages <= old.pages {
                return self.shrink(old, new_pages);
            }
            if self.grow_in_place(old, new_pages, &vma)? {
                return Ok(old.start.addr() as usize);
            }
        }
        if flags & libc::MREMAP_MAYMOVE == 0 {
            return Err(if fixed || keeps { libc::EINVAL } else { libc::ENOMEM });
        }
        let target = self.place_for_remap(old, new_pages, fixed.then_some(new_addr))?;
        self.move_to(old, target, new_pages, &vma)?;
        if keeps {
            self.map_again(old, &vma)?;
        } else {
            // What did not move was unmapped, and may be another's already.
            let moved = old.pages.min(new_pages);
            self.pager.tables.lock().room.give(old.start.0, old.start.0 + moved);
        }
        Ok(target.addr() as usize)
    }

    /// The one VMA that a remapped range must lie in.
    fn vma_of(&self, range: PageRange) -> Result<Vma, i32> {
        let tables = self.pager.tables.lock();
        let vma = tables.engine.vmas(SPACE).at(range.start).copied().ok_or(libc::EFAULT)?;
        if range.end() > vma.end { Err(libc::EFAULT) } else { Ok(vma) }
    }

    fn shrink(&mut self, old: PageRange, pages: u64) -> Answer {
        let tail = PageRange::between(SPACE, old.start.plus(pages), old.end());
        if !tail.is_empty() {
            self.unmap(tail.start.addr() as usize, tail.pages as usize * PAGE_SIZE)?;
        }
        Ok(old.start.addr() as usize)
    }

    fn grow_in_place(&mut self, old: PageRange, pages: u64, vma: &Vma) -> Result<bool, i32> {
        let tail = PageRange::new(SPACE, old.end(), pages - old.pages);
        if !self.pager.tables.lock().room.take_at(tail.start.0, tail.end().0) {
            return Ok(false);
        }
        self.map_again(tail, vma)?;
        Ok(true)
    }

    /// Maps empty pages that are to be like `vma`. Their addresses are taken already.
    fn map_again(&mut self, range: PageRange, vma: &Vma) -> Result<(), i32> {
        let mut tables = self.pager.tables.lock();
        tables.engine.map_range(&mut self.pager.mover(), range, vma.prot).map_err(errno)?;
        self.pager.note(Note::Map { range, prot: vma.prot });
        tables.engine.advise(range, vma.hint);
        drop(tables);
        if vma.locked {
            self.lock(range, false)?;
        }
        Ok(())
    }

    fn place_for_remap(&mut self, old: PageRange, pages: u64, at: Option<usize>) -> Result<Vpn, i32> {
        let Some(addr) = at else {
            return self.pager.tables.lock().room.take(pages).map(Vpn).ok_or(libc::ENOMEM);
        };
        let target = pages_of(addr, pages as usize * PAGE_SIZE);
        let overlaps = target.start < old.end() && old.start < target.end();
        let (start, end) = arena();
        if !addr.is_multiple_of(PAGE_SIZE) || overlaps {
            return Err(libc::EINVAL);
        }
        if addr < start || target.end().addr() as usize > end {
            return Err(libc::ENOMEM);
        }
        drop(self.take_over(addr, pages as usize * PAGE_SIZE)?);
        Ok(target.start)
    }

    fn move_to(&mut self, old: PageRange, to: Vpn, pages: u64, vma: &Vma) -> Result<(), i32> {
        let kept = PageRange::new(SPACE, old.start, old.pages.min(pages));
        self.settle_record(kept);
        let mut tables = self.pager.tables.lock();
        self.pager.withhold_from_children(&mut tables, kept);
        let moved = tables.engine.remap(&mut self.pager.mover(), kept, to);
        if vma.tag & TAG_DONT_FORK == 0 {
            self.pager.grant_to_children(kept);
            self.pager.grant_to_children(PageRange::new(SPACE, to, kept.pages));
        }
        if let Err(refusal) = moved {
            tables.room.give(to.0, to.0 + pages);
            return Err(errno(refusal));
        }
        self.pager.kept.moved(bytes_of(kept), to.addr() as usize);
        if let Some(recorder) = self.pager.recorder() {
            recorder.remapped(kept, to, vma.prot);
        }
        drop(tables);
        if pages > old.pages {
            self.map_again(PageRange::new(SPACE, to.plus(old.pages), pages - old.pages), vma)?;
        } else if pages < old.pages {
            let tail = PageRange::between(SPACE, old.start.plus(pages), old.end());
            self.unmap(tail.start.addr() as usize, tail.pages as usize * PAGE_SIZE)?;
        }
        Ok(())
    }
}
