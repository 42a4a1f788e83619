//! The program's break (`brk`): a part of the arena that is mapped from its start on, as far as the program says.

use super::limit::Pages;
use super::place::show_in_dumps;
use super::{Answer, Caller};
use crate::control::note::Note;
use crate::pager::{Pager, SPACE, Tables, overcommit};
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::mmu::Prot;

/// The part of the arena that is kept for it: addresses, nothing else.
pub(in crate::pager) const HEAP_FRACTION: u64 = 8;
const RIGHTS: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Where it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::pager) struct Heap {
    /// All of its addresses, mapped or not.
    range: PageRange,
    /// The break, in bytes.
    end: usize,
}

/// What a call makes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Nothing is mapped or unmapped: the break, perhaps within its last page.
    Stays(usize),
    /// These pages are mapped.
    Grows(PageRange),
    /// These are unmapped.
    Shrinks(PageRange),
}

impl Heap {
    fn at(range: PageRange) -> Heap {
        Heap { range, end: range.start.addr() as usize }
    }

    /// The break of a process that had it before.
    pub(in crate::pager) fn with_break(range: PageRange, end: usize) -> Heap {
        Heap { range, end }
    }

    fn step(&self, to: usize) -> Step {
        let (start, end) = (self.range.start.addr() as usize, self.range.end().addr() as usize);
        if !(start..=end).contains(&to) {
            return Step::Stays(self.end);
        }
        let page_of = |bytes: usize| Vpn(bytes.div_ceil(PAGE_SIZE) as u64);
        let (old, new) = (page_of(self.end), page_of(to));
        match new.cmp(&old) {
            core::cmp::Ordering::Greater => Step::Grows(PageRange::between(SPACE, old, new)),
            core::cmp::Ordering::Less => Step::Shrinks(PageRange::between(SPACE, new, old)),
            core::cmp::Ordering::Equal => Step::Stays(to),
        }
    }
}

impl Tables {
    /// What a call to set the break makes of it. EOPNOTSUPP: the arena has no room for one.
    pub(super) fn step_of_break(&mut self, pager: &Pager, to: usize) -> Result<Step, i32> {
        if self.heap.is_none() {
            let pages = pager.places.arena(SPACE).pages / HEAP_FRACTION;
            let start = self.room.take(pages).ok_or(libc::EOPNOTSUPP)?;
            self.heap = Some(Heap::at(PageRange::new(SPACE, Vpn(start), pages)));
        }
        let step = self.heap.as_ref().map_or(Step::Stays(0), |heap| heap.step(to));
        if let Step::Stays(end) = step {
            self.set_break(end);
        }
        Ok(step)
    }

    /// The break is there from now on.
    pub(super) fn set_break(&mut self, end: usize) -> usize {
        if let Some(heap) = &mut self.heap {
            heap.end = end;
        }
        end
    }

    /// Where it is.
    fn break_now(&self) -> usize {
        self.heap.map_or(0, |heap| heap.end)
    }

    /// Maps what it grows by. Where that is refused, or something is in the way, the break stays, as the kernel has it.
    pub(super) fn grow_break(&mut self, pager: &Pager, range: PageRange, to: usize) -> usize {
        let (start, end) = (range.start.0, range.end().0);
        let is_mapped = self.engine.vmas(SPACE).overlapping(range.start, range.end()).next().is_some();
        let is_free = !is_mapped && self.room.foreign_in(start, end).is_none();
        if !is_free || overcommit::may_map(&self.engine, range.pages, RIGHTS, 0).is_err() {
            return self.break_now();
        }
        // A part that the program had unmapped may have been given to others.
        self.room.take_all(start, end);
        let has_rights = self.uses_spare_rights(range, Prot::READ_WRITE) || {
            let free = self.end_of_free(range.end());
            self.gets_rights_ahead(range, free, false)
        };
        if self.take_back_rights(range).is_err() {
            return self.break_now();
        }
        let mut mmu = pager.program_mmu().with_rights(has_rights);
        if self.engine.map_range(&mut mmu, range, Prot::READ_WRITE).is_err() {
            return self.break_now();
        }
        pager.note(Note::Map { range, prot: Prot::READ_WRITE });
        if !has_rights {
            show_in_dumps(range, true);
        }
        self.set_break(to)
    }

    /// Up to where nothing is in the way of the break, which is at `start`.
    fn end_of_free(&self, start: Vpn) -> Vpn {
        let end = self.heap.map_or(start, |heap| heap.range.end());
        let mapped = self.engine.vmas(SPACE).overlapping(start, end).next().map(|vma| vma.start);
        let foreign = self.room.foreign_in(start.0, end.0).map(|(first, _)| Vpn(first));
        [Some(end), mapped, foreign].into_iter().flatten().min().map_or(start, |first| first.max(start))
    }
}

impl Caller {
    pub(super) fn set_break(&mut self, to: usize) -> Answer {
        let mut tables = self.pager.tables.lock();
        match tables.step_of_break(self.pager, to)? {
            Step::Stays(end) => Ok(end),
            Step::Grows(range) => {
                if self.stay_within(&tables, Pages::with(range.pages, Prot::READ_WRITE)).is_err() {
                    return Ok(tables.break_now());
                }
                let before = tables.break_now();
                let end = tables.grow_break(self.pager, range, to);
                drop(tables);
                if end == to && self.after_map(range, 0).is_err() {
                    return Ok(self.pager.tables.lock().set_break(before));
                }
                Ok(end)
            }
            Step::Shrinks(range) => {
                drop(tables);
                Ok(self.empty(range)?.set_break(to))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_break_moves_by_bytes_and_maps_by_pages() {
        let mut heap = Heap::at(PageRange::new(SPACE, Vpn(16), 4));
        let at = |page: usize, byte: usize| page * PAGE_SIZE + byte;
        let pages = |from: u64, to: u64| PageRange::between(SPACE, Vpn(from), Vpn(to));
        assert_eq!(heap.step(0), Step::Stays(at(16, 0)));
        assert_eq!(heap.step(at(16, 1)), Step::Grows(pages(16, 17)));
        heap.end = at(16, 1);
        assert_eq!(heap.step(at(17, 0)), Step::Stays(at(17, 0)));
        assert_eq!(heap.step(at(20, 0)), Step::Grows(pages(17, 20)));
        assert_eq!(heap.step(at(20, 1)), Step::Stays(at(16, 1)));
        heap.end = at(19, 5);
        assert_eq!(heap.step(at(17, 0)), Step::Shrinks(pages(17, 20)));
        assert_eq!(heap.step(at(15, 0)), Step::Stays(at(19, 5)));
    }
}
