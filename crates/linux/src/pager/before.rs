//! What a process that wakes has: the mappings in its arena, and the pages that are present in them.

use super::calls::{Heap, TAG_DONT_FORK, TAG_WIPE};
use super::sleep::Slept;
use super::{Pager, SPACE, Tables, pages_of};
use crate::own_maps::{self, Mapping, Marks};
use crate::places::Places;
use crate::sys::bytes::Stretch;
use crate::sys::mmap;
use crate::sys::uffd::Uffd;
use crate::sys::{Errno, Result};
use core::ops::Range;
use quire_core::Order;
use quire_core::addr::{PAGE_SIZE, PageRange};
use quire_core::mmu::Prot;
use quire_core::vma::Hint;

/// Pages that are taken over become folios of at most this many bytes, unless they are one of the kernel's large ones.
const MOST_ADOPTED: u64 = 64 << 10;

/// What was there before the pager was.
#[derive(Debug)]
pub(super) struct Before {
    arena: Stretch,
    heap: Option<(Range<usize>, usize)>,
    /// In rising order.
    mappings: Vec<Mapping>,
}

impl Before {
    /// Looks, while no call is under way.
    pub(super) fn look(slept: &Slept) -> Result<Before> {
        let mappings = own_maps::overlapping(&slept.arena, slept.marked)?;
        // One that reaches in from outside would have to be cut.
        let is_inside = |mapping: &Mapping| {
            slept.arena.start <= mapping.range.start && mapping.range.end <= slept.arena.end
        };
        if !mappings.iter().all(is_inside) {
            return Err(Errno::BUSY);
        }
        let arena = Stretch::new(slept.arena.start, slept.arena.len());
        Ok(Before { arena, heap: slept.heap.clone(), mappings })
    }

    fn foreign(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(|mapping| !is_own(mapping))
    }

    /// Reserves all the rest.
    pub(super) fn places(&self, frames: u32, store: u32) -> Result<Places> {
        let mapped: Vec<Range<usize>> = self.mappings.iter().map(|mapping| mapping.range.clone()).collect();
        Places::reserve_around(self.arena, &mapped, frames, store)
    }

    /// Lets faults in all of the arena arrive, but for what is not managed in it.
    pub(super) fn register(&self, places: &Places, uffd: &Uffd) -> Result<()> {
        let end = self.arena.base() + self.arena.len();
        let mut at = self.arena.base();
        let foreign = self.foreign().map(|mapping| mapping.range.clone()).chain(core::iter::once(end..end));
        for other in foreign {
            if other.start > at {
                // It takes large pages apart, of which those that are there stay.
                mmap::no_huge_pages(at, other.start - at)?;
                places.register_part(uffd, at, other.start - at)?;
            }
            at = other.end;
        }
        places.register_pool(uffd)
    }

    /// Writes the tables. From here on what is there is managed.
    pub(super) fn take_over(&self, pager: &Pager) {
        let mut tables = pager.tables.lock();
        if let Some((range, at)) = &self.heap {
            let pages = pages_of(range.start, range.len());
            tables.room.take_all(pages.start.0, pages.end().0);
            tables.heap = Some(Heap::with_break(pages, *at));
        }
        for mapping in &self.mappings {
            let range = pages_of(mapping.range.start, mapping.range.len());
            if is_own(mapping) {
                tables.room.take_all(range.start.0, range.end().0);
                take_over_one(pager, &mut tables, range, mapping);
            } else {
                tables.room.mark_foreign(range.start.0, range.end().0);
            }
        }
    }
}

fn is_own(mapping: &Mapping) -> bool {
    mapping.anonymous && !mapping.marks.foreign
}

fn take_over_one(pager: &Pager, tables: &mut Tables, range: PageRange, mapping: &Mapping) {
    let marks = mapping.marks;
    // It has these rights, so that the kernel has nothing to refuse.
    if let Err(refusal) =
        tables.engine.map_range(&mut pager.program_mmu(), range, Prot::from_bits(mapping.prot))
    {
        crate::die!("memory at {:#x} can't be taken over: {refusal:?}", mapping.range.start);
    }
    tables.engine.advise(range, hint(marks));
    let tag = (u32::from(marks.dont_fork) * TAG_DONT_FORK) | (u32::from(marks.wipe) * TAG_WIPE);
    if tag != 0 && tables.engine.tag(&mut pager.mover(), range, tag).is_err() {
        crate::die!("marks on memory at {:#x} can't be kept", mapping.range.start);
    }
    adopt(pager, tables, range, mapping);
    if marks.locked {
        // Where too much is locked for the budget, the kernel's own lock stays: no page of it can be moved out.
        let _ = tables.engine.lock(&mut pager.mover(), range, true);
    }
}

/// One of them, as the tables have it.
fn hint(marks: Marks) -> Hint {
    let hints = [
        (marks.huge, Hint::Huge),
        (marks.no_huge, Hint::Base),
        (marks.sequential, Hint::Sequential),
        (marks.random, Hint::Random),
    ];
    hints.into_iter().find_map(|(set, hint)| set.then_some(hint)).unwrap_or_default()
}

/// Takes over the pages that are present.
fn adopt(pager: &Pager, tables: &mut Tables, range: PageRange, mapping: &Mapping) {
    let Some(descriptors) = pager.descriptors.get() else { return };
    let (addr, pages) = (mapping.range.start, mapping.range.len() / PAGE_SIZE);
    let small = Order::fitting(MOST_ADOPTED / PAGE_SIZE as u64);
    let mut take = |first: usize, count: usize, huge: bool| {
        let run = PageRange::new(SPACE, range.start.plus(first as u64), count as u64);
        tables.engine.adopt(&mut pager.mover(), run, if huge { Order::MAX } else { small });
    };
    let scanned = descriptors.pagemap.present_runs(addr, pages, &mut take).or_else(|_| {
        // Before Linux 6.7.
        descriptors.pagemap.runs(addr, pages, |first, count, present| {
            if present {
                take(first, count, false);
            }
            Ok(())
        })
    });
    if let Err(errno) = scanned {
        crate::die!("pagemap can't be read: {errno}", errno = crate::sys::Cause(errno));
    }
}
