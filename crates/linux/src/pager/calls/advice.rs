//! Contents dropped, rights, and what the program says about its memory.

use super::place::close_gap;
use super::{Answer, Caller, errno};
use crate::control::note::Note;
use crate::pager::{Pager, SPACE, Tables, overcommit, pages_of};
use crate::sys::mmap;
use quire_core::addr::{PAGE_SIZE, PageRange};
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::{Hint, Vma};

/// A VMA that a forked child does not get, or gets empty: bits of [`Vma::tag`].
pub(in crate::pager) const TAG_DONT_FORK: u32 = 1;
pub(in crate::pager) const TAG_WIPE: u32 = 2;

/// For each mark: its bit, the advice that sets it, and the one that takes it off.
const MARKS: [(u32, i32, i32); 2] = [
    (TAG_DONT_FORK, libc::MADV_DONTFORK, libc::MADV_DOFORK),
    (TAG_WIPE, libc::MADV_WIPEONFORK, libc::MADV_KEEPONFORK),
];

/// Whether this is advice that is followed, or accepted and without effect. What the kernel does not know it has refused.
fn is_known(advice: i32) -> bool {
    // Beyond that are guards: entries in the page tables that no move gets past. Refused, as by a kernel without them.
    matches!(advice, 0..=4 | 8..=25)
}

/// Whether the kernel refuses this advice for such memory. It has treated what lies before then.
fn refuses(advice: i32, vma: &Vma) -> bool {
    match advice {
        libc::MADV_DONTNEED | libc::MADV_FREE | libc::MADV_COLD | libc::MADV_PAGEOUT => vma.locked,
        libc::MADV_POPULATE_READ => vma.prot.bits() & libc::PROT_READ as u32 == 0,
        libc::MADV_POPULATE_WRITE => !vma.prot.writable(),
        libc::MADV_COLLAPSE => !holds_large_page(vma),
        libc::MADV_REMOVE => true,
        _ => false,
    }
}

/// Whether an aligned page of 2 MiB lies in it.
fn holds_large_page(vma: &Vma) -> bool {
    vma.start.0.next_multiple_of(LARGE) + LARGE <= vma.end.0
}

/// Pages of 2 MiB.
const LARGE: u64 = 512;

impl Caller {
    /// Drops contents in bites of 2 MiB, letting others have the lock in between.
    pub(super) fn discard(&mut self, range: PageRange) -> Result<(), i32> {
        let locked = pieces(&self.pager.tables.lock(), range).iter().any(|vma| vma.locked);
        if locked {
            self.unlock(range)?;
        }
        self.record_writes(range);
        let mut rest = Some(range);
        while let Some(range) = rest {
            let mut tables = self.pager.tables.lock();
            self.pager.let_children_see(&mut tables, range);
            rest = tables.engine.discard_step(&mut self.pager.mover(), range).map_err(errno)?;
            drop(tables);
            self.pager.watchdog.service_beat();
        }
        Ok(())
    }

    /// The same, as the program asks for it: VMA by VMA, up to the first that is locked if those are to be left alone.
    fn give_up(&mut self, range: PageRange, locked_too: bool) -> Result<(), i32> {
        let vmas = pieces(&self.pager.tables.lock(), range);
        for vma in vmas {
            if vma.locked && !locked_too {
                return Err(libc::EINVAL);
            }
            let part = PageRange::between(SPACE, vma.start, vma.end);
            self.discard(part)?;
            let tables = self.pager.tables.lock();
            self.pager.note(Note::Discard(part));
            drop(tables);
            if vma.locked {
                self.lock(part, true)?;
            }
        }
        Ok(())
    }

    /// Records what was written in `range` since it was read: afterwards it could not be told.
    pub(super) fn record_writes(&self, range: PageRange) {
        self.pager.withdraw(range, || self.pager.watchdog.service_beat());
    }

    /// Up to the first gap, as the kernel does it.
    pub(super) fn protect(&mut self, addr: usize, len: usize, prot: i32) -> Answer {
        let range = pages_of(addr, len);
        let run = self.leading_run(range)?;
        let prot = Prot::from_bits(prot as u32);
        if !prot.movable() {
            self.record_writes(run);
        }
        let mut tables = self.pager.tables.lock();
        overcommit::may_protect(&tables.engine, run, prot)?;
        self.may_protect(&tables, run, prot)?;
        tables.engine.protect(&mut self.pager.mover(), run, prot).map_err(errno)?;
        self.pager.note(Note::Protect { range: run, prot });
        if run == range { Ok(0) } else { Err(libc::ENOMEM) }
    }

    /// What is mapped is treated, and gaps are told of at the end; only what fills memory stops at the first of them.
    pub(super) fn advise(&mut self, addr: usize, len: usize, advice: i32) -> Answer {
        let range = pages_of(addr, len);
        if !is_known(advice) {
            return Err(libc::EINVAL);
        }
        let populates = matches!(advice, libc::MADV_POPULATE_READ | libc::MADV_POPULATE_WRITE);
        let (mut rest, mut gap) = (range, false);
        while let Some(run) = self.next_run(rest) {
            gap |= run.start > rest.start;
            if gap && populates {
                break;
            }
            self.advise_run(run, advice)?;
            rest = PageRange::between(SPACE, run.end(), range.end());
        }
        if gap || !rest.is_empty() { Err(libc::ENOMEM) } else { Ok(0) }
    }

    /// VMA by VMA, as the kernel does it.
    fn advise_run(&mut self, run: PageRange, advice: i32) -> Result<(), i32> {
        let tables = self.pager.tables.lock();
        let whole: Vec<Vma> = tables.engine.vmas(SPACE).overlapping(run.start, run.end()).copied().collect();
        drop(tables);
        for vma in whole {
            if refuses(advice, &vma) {
                return Err(libc::EINVAL);
            }
            let part = PageRange::between(SPACE, vma.start.max(run.start), vma.end.min(run.end()));
            self.advise_mapped(part, advice)?;
        }
        Ok(())
    }

    fn advise_mapped(&mut self, range: PageRange, advice: i32) -> Result<(), i32> {
        match advice {
            libc::MADV_DONTNEED | libc::MADV_FREE => self.give_up(range, false)?,
            libc::MADV_DONTNEED_LOCKED => self.give_up(range, true)?,
            libc::MADV_NORMAL => self.hint(range, Hint::Normal),
            libc::MADV_SEQUENTIAL => self.hint(range, Hint::Sequential),
            libc::MADV_RANDOM => self.hint(range, Hint::Random),
            libc::MADV_HUGEPAGE => self.hint(range, Hint::Huge),
            libc::MADV_NOHUGEPAGE => self.hint(range, Hint::Base),
            libc::MADV_COLLAPSE => self.hint_whole(range, Hint::Huge),
            libc::MADV_COLD => self.pager.tables.lock().engine.deactivate(range),
            libc::MADV_PAGEOUT => self.pager.tables.lock().engine.page_out(&mut self.pager.mover(), range),
            libc::MADV_POPULATE_READ | libc::MADV_POPULATE_WRITE => _ = self.bring_in(range),
            libc::MADV_DONTFORK => self.mark(range, TAG_DONT_FORK, 0)?,
            libc::MADV_DOFORK => self.mark(range, 0, TAG_DONT_FORK)?,
            libc::MADV_WIPEONFORK => self.mark(range, TAG_WIPE, 0)?,
            libc::MADV_KEEPONFORK => self.mark(range, 0, TAG_WIPE)?,
            // Nothing is read ahead; pages that were merged could not be moved; the kernel's MADV_DONTDUMP marks what is
            // free in the arena.
            _ => {}
        }
        Ok(())
    }

    fn hint(&self, range: PageRange, hint: Hint) {
        self.pager.tables.lock().engine.advise(range, hint);
    }

    /// A hint about the pages as they are now, which for the kernel does not set them apart from their neighbours: only
    /// what covers whole VMAs is recorded.
    fn hint_whole(&self, range: PageRange, hint: Hint) {
        let mut tables = self.pager.tables.lock();
        let whole: Vec<Vma> = (tables.engine.vmas(SPACE).overlapping(range.start, range.end()))
            .filter(|vma| vma.start >= range.start && vma.end <= range.end())
            .copied()
            .collect();
        for vma in whole {
            tables.engine.advise(PageRange::between(SPACE, vma.start, vma.end), hint);
        }
    }

    fn mark(&self, range: PageRange, set: u32, clear: u32) -> Result<(), i32> {
        self.pager.mark(&mut self.pager.tables.lock(), range, set, clear)
    }
}

impl Pager {
    /// Changes the marks of what is mapped in `range`, in the tables and in the kernel, which acts on them in a fork.
    pub(super) fn mark(
        &self,
        tables: &mut Tables,
        range: PageRange,
        set: u32,
        clear: u32,
    ) -> Result<(), i32> {
        for vma in pieces(tables, range) {
            let part = PageRange::between(SPACE, vma.start, vma.end);
            tables.engine.tag(&mut self.mover(), part, vma.tag & !clear | set).map_err(errno)?;
        }
        for (bit, sets, clears) in MARKS {
            if set & bit != 0 {
                advise_kernel(range, sets)?;
            }
            if clear & bit != 0 {
                advise_kernel(range, clears)?;
            }
        }
        Ok(())
    }

    /// The addresses of `range` are about to be another's: the kernel's marks must not stay with them.
    pub(super) fn forget_marks(&self, tables: &Tables, range: PageRange) {
        for vma in pieces(tables, range).iter().filter(|vma| vma.tag != 0) {
            forget_kernel_marks(PageRange::between(SPACE, vma.start, vma.end), vma.tag);
        }
    }

    /// In a forked child, on its only thread: memory that the parent marked is not there (`MADV_DONTFORK`) or
    /// empty (`MADV_WIPEONFORK`). The kernel has done its part; the tables follow.
    pub(in crate::pager) fn follow_fork_advice(&self, tables: &mut Tables) -> Result<(), Refusal> {
        let mut mmu = self.program_mmu();
        for vma in self.vmas(tables) {
            let range = PageRange::between(SPACE, vma.start, vma.end);
            if vma.tag & TAG_DONT_FORK != 0 {
                // The gap would be the kernel's to fill: the arena has to close over it first.
                close_gap(range).map_err(|_| Refusal::NoMemory)?;
                tables.engine.unmap(&mut mmu, range)?;
                self.note(Note::Unmap(range));
                tables.room.give(range.start.0, range.end().0);
            } else if vma.tag & TAG_WIPE != 0 {
                let mut rest = Some(range);
                while let Some(bite) = rest {
                    rest = tables.engine.discard_step(&mut mmu, bite)?;
                }
                self.note(Note::Discard(range));
            }
        }
        Ok(())
    }
}

/// The VMAs of `range`, cut to it.
pub(super) fn pieces(tables: &Tables, range: PageRange) -> Vec<Vma> {
    let cut = |vma: &Vma| Vma { start: vma.start.max(range.start), end: vma.end.min(range.end()), ..*vma };
    tables.engine.vmas(SPACE).overlapping(range.start, range.end()).map(cut).collect()
}

/// Takes the marks in `tag` off the kernel's VMAs.
pub(super) fn forget_kernel_marks(range: PageRange, tag: u32) {
    for (_, _, clears) in MARKS.iter().filter(|(bit, ..)| tag & bit != 0) {
        // Refused only for what is not mapped.
        let _ = advise_kernel(range, *clears);
    }
}

fn advise_kernel(range: PageRange, advice: i32) -> Result<(), i32> {
    if advice == libc::MADV_DOFORK && crate::pager::withholds() {
        // As the rest of the arena; the tables know.
        return Ok(());
    }
    mmap::advise_by_number(range.start.addr() as usize, range.pages as usize * PAGE_SIZE, advice)
        .map_err(|errno| errno.raw_os_error())
}
