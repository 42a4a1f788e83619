//! Who has which addresses of the arena.
//!
//! Addresses are given to others after the last step that touches them, in the tables and in the kernel, never before:
//! another thread is given them at once.

use super::limit::Pages;
use super::{Answer, Caller, errno};
use crate::control::note::Note;
use crate::limits;
use crate::pager::tables::Held;
use crate::pager::{Pager, SPACE, Tables, bytes_of, overcommit, pages_of};
use crate::strict;
use crate::sys::mmap::{self, Advice};
use crate::sys::uffd::Faults;
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::mmu::Prot;

/// Whether core dumps have a range. Not what is free in the arena: the kernel makes one VMA of it, and a file as large.
pub(super) fn show_in_dumps(range: PageRange, shown: bool) {
    let advice = if shown { Advice::DoDump } else { Advice::DontDump };
    // Refused only for want of memory, and then a dump has more or less than it should.
    let _ = mmap::advise(range.start.addr() as usize, range.pages as usize * PAGE_SIZE, advice);
}

/// Maps new memory, at `at` or wherever there is room. EOPNOTSUPP: the arena has none, the kernel may have.
pub(super) fn map_new(
    pager: &Pager,
    tables: &mut Tables,
    at: Option<usize>,
    len: usize,
    prot: i32,
    flags: i32,
) -> Answer {
    let pages = len.div_ceil(PAGE_SIZE) as u64;
    if pages == 0 {
        return Err(libc::EINVAL);
    }
    overcommit::may_map(&tables.engine, pages, prot, flags)?;
    let start = match at.map(|addr| pages_of(addr, len)) {
        None => tables.room.take(pages).ok_or(libc::EOPNOTSUPP)?,
        Some(range) if tables.room.take_at(range.start.0, range.end().0) => range.start.0,
        Some(_) => return Err(libc::EEXIST),
    };
    let range = PageRange::new(SPACE, Vpn(start), pages);
    map_taken(pager, tables, range, prot, flags)
}

/// Maps addresses that are taken and empty; they are given back if that fails.
fn map_taken(pager: &Pager, tables: &mut Tables, range: PageRange, prot: i32, flags: i32) -> Answer {
    let prot = Prot::from_bits(prot as u32);
    let has_rights = tables.uses_spare_rights(range, prot);
    let mapped = tables.take_back_rights(range).and_then(|_| {
        let mut mmu = pager.program_mmu().with_rights(has_rights);
        tables.engine.map_range(&mut mmu, range, prot).map_err(errno)
    });
    if let Err(errno) = mapped {
        tables.room.give(range.start.0, range.end().0);
        return Err(errno);
    }
    if let Some(tag) = overcommit::tag_of(&tables.engine, range.pages, flags) {
        tables.engine.tag(&mut pager.mover(), range, tag).map_err(errno)?;
    }
    pager.note(Note::Map { range, prot });
    if !has_rights {
        show_in_dumps(range, true);
    }
    Ok(range.start.addr() as usize)
}

/// Makes a range part of the arena again: mapped, without access, empty. What was there is replaced, never unmapped, so
/// that the kernel puts nothing of its own there.
pub(super) fn close_gap(range: PageRange) -> crate::sys::Result<()> {
    let (addr, len) = (range.start.addr() as usize, range.pages as usize * PAGE_SIZE);
    mmap::reserve_at(addr, len)?;
    mmap::advise(addr, len, Advice::DontDump)?;
    mmap::no_huge_pages(addr, len)
}

impl Caller {
    pub(super) fn map(&mut self, at: Option<usize>, len: usize, prot: i32, flags: i32) -> Answer {
        let mut tables = self.pager.tables.lock();
        self.may_map(&tables, len, prot)?;
        let addr = map_new(self.pager, &mut tables, at, len, prot, flags)?;
        drop(tables);
        self.after_map(pages_of(addr, len), flags)?;
        Ok(addr)
    }

    fn may_map(&self, tables: &Tables, len: usize, prot: i32) -> Result<(), i32> {
        let pages = len.div_ceil(PAGE_SIZE) as u64;
        self.stay_within(tables, Pages::with(pages, Prot::from_bits(prot as u32)))
    }

    /// `MAP_POPULATE`, `MAP_LOCKED` and `mlockall(MCL_FUTURE)`.
    pub(super) fn after_map(&mut self, range: PageRange, flags: i32) -> Result<(), i32> {
        let future = self.pager.tables.lock().lock_future;
        if flags & libc::MAP_LOCKED != 0 || future.is_some() {
            let on_fault = future == Some(true) && flags & libc::MAP_LOCKED == 0;
            if let Err(errno) = self.lock(range, on_fault) {
                // The program is told of no address: nobody would ever unmap it.
                self.unmap(range.start.addr() as usize, range.pages as usize * PAGE_SIZE)?;
                return Err(errno);
            }
        } else if flags & libc::MAP_POPULATE != 0 {
            let _ = self.bring_in(range);
        }
        Ok(())
    }

    pub(super) fn map_fixed(&mut self, addr: usize, len: usize, prot: i32, flags: i32) -> Answer {
        let range = pages_of(addr, len);
        overcommit::may_map(&self.pager.tables.lock().engine, range.pages, prot, flags)?;
        if limits::is_limited() {
            let tables = self.pager.tables.lock();
            // Above a limit the kernel refuses even what takes nothing.
            let more = (range.pages - self.replaced(&tables, range)).max(1);
            self.stay_within(&tables, Pages::with(more, Prot::from_bits(prot as u32)))?;
        }
        let mut tables = self.take_over(addr, len)?;
        map_taken(self.pager, &mut tables, range, prot, flags)?;
        drop(tables);
        self.after_map(range, flags)?;
        Ok(addr)
    }

    /// Before the kernel puts a mapping over a range.
    pub(super) fn claim(&mut self, addr: usize, len: usize) -> Answer {
        let range = sound(addr, len)?;
        let mut tables = self.empty(range)?;
        tables.room.mark_foreign(range.start.0, range.end().0);
        Ok(0)
    }

    pub(super) fn claim_free(&mut self, addr: usize, len: usize) -> Answer {
        let range = sound(addr, len)?;
        let mut tables = self.pager.tables.lock();
        if !tables.room.take_at(range.start.0, range.end().0) {
            return Err(libc::EEXIST);
        }
        tables.room.mark_foreign(range.start.0, range.end().0);
        Ok(0)
    }

    pub(super) fn unmap(&mut self, addr: usize, len: usize) -> Answer {
        let range = sound(addr, len)?;
        let mut tables = self.clear(range)?;
        tables.room.give(range.start.0, range.end().0);
        Ok(0)
    }

    /// Unmaps whatever is there and takes the addresses, so that no other thread is given them.
    pub(super) fn take_over(&mut self, addr: usize, len: usize) -> Result<Held<'static>, i32> {
        let range = sound(addr, len)?;
        let mut tables = self.clear(range)?;
        tables.room.take_all(range.start.0, range.end().0);
        Ok(tables)
    }

    /// Unmaps whatever is there, managed or not. What was taken stays taken; the lock is held.
    fn clear(&mut self, range: PageRange) -> Result<Held<'static>, i32> {
        let mut tables = self.empty(range)?;
        while let Some((start, end)) = tables.room.foreign_in(range.start.0, range.end().0) {
            self.take_back_foreign(start, end)?;
            tables.room.unmark_foreign(start, end);
        }
        Ok(tables)
    }

    /// Unmaps what is managed in `range`, and leaves its addresses taken; the lock is held.
    pub(super) fn empty(&mut self, range: PageRange) -> Result<Held<'static>, i32> {
        let mut rest = range;
        while let Some(run) = self.next_run(rest) {
            self.discard(run)?;
            rest = PageRange::between(SPACE, run.end(), range.end());
        }
        let mut tables = self.pager.tables.lock();
        while let Some(run) = super::piece::first_run(&tables, range) {
            self.pager.forget_marks(&tables, run);
            tables.engine.unmap(&mut self.pager.mover(), run).map_err(errno)?;
            self.pager.unevictable.forget(bytes_of(run));
            self.pager.note(Note::Unmap(run));
            show_in_dumps(run, false);
        }
        Ok(tables)
    }

    /// What is free is charged no longer: the kernel ends a charge only with the mapping ([`crate::strict`]). Whether there
    /// was any.
    pub(in crate::pager) fn end_charges(&mut self) -> bool {
        let mut any = false;
        while strict::charges() {
            let mut tables = self.pager.tables.lock();
            if tables.frozen_for != 0 {
                return any;
            }
            let Some((start, end)) = tables.room.take_charged() else { return any };
            drop(tables);
            // Where that is refused nobody is given these addresses again.
            if self.take_back_foreign(start, end).is_ok() {
                self.pager.tables.lock().room.give_uncharged(start, end);
                any = true;
            }
        }
        any
    }

    /// Puts the arena back where a program had laid a mapping of the kernel's over it.
    fn take_back_foreign(&self, start: u64, end: u64) -> Result<(), i32> {
        let (addr, len) = (Vpn(start).addr() as usize, (end - start) as usize * PAGE_SIZE);
        let Some(descriptors) = self.pager.descriptors.get() else { return Err(libc::ENOMEM) };
        let range = PageRange::between(SPACE, Vpn(start), Vpn(end));
        close_gap(range)
            .and_then(|()| descriptors.uffd.register(addr, len, Faults::Missing))
            .map_err(|errno| errno.raw_os_error())?;
        if self.pager.fork_events.withholds() {
            self.pager.advise(range, Advice::DontFork);
        }
        Ok(())
    }
}

/// The pages of a range that the kernel would look at.
fn sound(addr: usize, len: usize) -> Result<PageRange, i32> {
    let range = pages_of(addr, len);
    if addr.is_multiple_of(PAGE_SIZE) && !range.is_empty() { Ok(range) } else { Err(libc::EINVAL) }
}
