//! Managed memory that a program moves out of the arena, by mremap: from then on it is the kernel's.

use super::{Answer, Caller, TAG_DONT_FORK, errno};
use crate::control::note::Note;
use crate::die;
use crate::pager::{SPACE, Tables, bytes_of};
use crate::sys::mmap;
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::mmu::Refusal;
use quire_core::vma::Vma;

/// Pages that are brought in and moved at once: 256 KiB, so that the least of budgets has room for them.
const BITE: u64 = 64;

impl Caller {
    /// Moves `old`, which is in `vma`, over a mapping at `to`, and grows it there to `pages`.
    pub(super) fn move_away(
        &mut self,
        old: PageRange,
        to: usize,
        pages: u64,
        vma: &Vma,
        keeps: bool,
    ) -> Answer {
        let grown = (pages - old.pages) as usize * PAGE_SIZE;
        if grown > 0 {
            let tail = to + old.pages as usize * PAGE_SIZE;
            mmap::map_over(tail, grown, vma.prot.bits())
                .and_then(|()| mmap::no_huge_pages(tail, grown))
                .map_err(|errno| errno.raw_os_error())?;
        }
        // Half a move can't be told. The old place is charged until all has moved.
        crate::strict::may_charge(old.pages as usize * PAGE_SIZE).map_err(|errno| errno.raw_os_error())?;
        self.record_writes(old);
        let mut rest = old;
        while !rest.is_empty() {
            let bite = PageRange::new(SPACE, rest.start, rest.pages.min(BITE));
            let place = to + (bite.start.0 - old.start.0) as usize * PAGE_SIZE;
            match self.move_bite(bite, place, vma) {
                Ok(()) => {}
                Err(refusal) if bite.start == old.start => return Err(errno(refusal)),
                Err(refusal) => die!("memory at {:#x} moved in part only: {refusal:?}", old.start.addr()),
            }
            rest = PageRange::between(SPACE, bite.end(), old.end());
        }
        let mut tables = self.pager.tables.lock();
        self.unmap_moved(&mut tables, old, vma, keeps)?;
        Ok(to)
    }

    fn move_bite(&mut self, bite: PageRange, place: usize, vma: &Vma) -> Result<(), Refusal> {
        loop {
            self.bring_back(bite);
            let mut tables = self.pager.tables.lock();
            self.pager.withhold_from_children(&mut tables, bite);
            let moved =
                tables.engine.hand_over(&mut self.pager.mover(), bite, |mmu| mmu.move_away(bite, place));
            if vma.tag & TAG_DONT_FORK == 0 {
                self.pager.grant_to_children(bite);
                self.pager.leave_to_children(PageRange::new(SPACE, Vpn::of(place as u64), bite.pages));
            }
            // What was brought in may have been moved out again meanwhile.
            if moved != Err(Refusal::Again) {
                return moved;
            }
        }
    }

    fn unmap_moved(&self, tables: &mut Tables, old: PageRange, vma: &Vma, keeps: bool) -> Result<(), i32> {
        let mut mmu = self.pager.mover();
        self.pager.unevictable.forget(bytes_of(old));
        if vma.locked {
            tables.engine.lock(&mut mmu, old, false).map_err(errno)?;
        }
        if keeps {
            self.pager.note(Note::Discard(old));
            return Ok(());
        }
        tables.engine.unmap(&mut mmu, old).map_err(errno)?;
        self.pager.note(Note::Unmap(old));
        self.leave_behind(tables, old, vma, false)
    }
}
