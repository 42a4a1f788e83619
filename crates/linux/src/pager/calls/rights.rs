//! Rights that the kernel gives and the tables do not.
//!
//! To change rights in the kernel costs more than all else in a call. So what a program unmaps, and what its break or a heap of
//! malloc's is about to grow into, may stay or become readable and writable there, as long as no page is present. A touch
//! is a message then. The handler takes the rights back ([`Tables::take_back_rights`]) and wakes the thread, which meets SIGSEGV, or
//! EFAULT in a system call, from the kernel, as if it had never had them.

use crate::die;
use crate::pager::room::Ranges;
use crate::pager::{Pager, SPACE, Tables};
use crate::strict;
use crate::sys::mmap;
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::mmu::{Mover, Prot};
use quire_core::vma::Vma;

use super::place::show_in_dumps;

/// The most pages with spare rights: 16 MiB. A core dump has them, and a child that nobody announced may touch them.
const MOST: u64 = 4096;
/// The most ranges: to take the rights of all back takes two calls for each, under the engine's lock.
const MOST_RANGES: usize = 32;
/// The most pages that keep or get rights at once: 2 MiB.
const AT_ONCE: u64 = 512;
/// How many times as much as it asks for a range that grows gets at once.
const AHEAD: u64 = 16;
/// How often rights follow the tables after a touch of spare ones: some programs map memory when it is touched, and a message costs
/// more than calls do.
const WARY: u32 = 64;

/// Ranges that are readable, writable and in core dumps for the kernel, without marks or locks, and that have no page. In the
/// tables they have no VMA, or one without rights, lock and tag.
#[derive(Debug, Default)]
pub(in crate::pager) struct Spare {
    ranges: Ranges,
    pages: u64,
    /// The service thread carries out a call, for which rights are what the tables say.
    suspended: bool,
    /// How often rights are to follow the tables yet.
    wary: u32,
}

impl Spare {
    fn insert(&mut self, range: PageRange) {
        let (start, end) = (range.start.0, range.end().0);
        self.pages += range.pages - self.ranges.count_in(start, end);
        self.ranges.insert(start, end);
    }

    fn remove(&mut self, range: PageRange) {
        let (start, end) = (range.start.0, range.end().0);
        self.pages -= self.ranges.count_in(start, end);
        self.ranges.remove(start, end);
    }

    /// The first range that overlaps, whole.
    fn first_in(&self, range: PageRange) -> Option<PageRange> {
        let found = self.ranges.overlapping(range.start.0, range.end().0).next();
        found.map(|(start, end)| PageRange::between(SPACE, Vpn(start), Vpn(end)))
    }
}

impl Tables {
    /// Whether the kernel gives `range` the rights `prot` already, as spare ones: they are spare no longer, and for the tables to
    /// follow.
    pub(super) fn uses_spare_rights(&mut self, range: PageRange, prot: Prot) -> bool {
        let uses = prot == Prot::READ_WRITE && self.spare.ranges.covers(range.start.0, range.end().0);
        if uses {
            self.spare.remove(range);
        }
        uses
    }

    /// Whether `range`, which is about to be unmapped and has no page, may keep its rights.
    pub(super) fn keeps_rights(&mut self, range: PageRange) -> bool {
        let plain = |vma: &Vma| vma.prot == Prot::READ_WRITE && !vma.locked && vma.tag == 0;
        range.pages <= AT_ONCE
            && self.engine.vmas(SPACE).overlapping(range.start, range.end()).all(plain)
            && self.has_room_for_rights(range.pages)
    }

    /// `range` has been unmapped and has kept its rights.
    pub(super) fn spare_rights(&mut self, range: PageRange) {
        self.spare.insert(range);
    }

    /// Makes `range` readable and writable together with what it is about to grow into, which has no page up to `end`: the rights of
    /// `range` are for the tables to follow, the others are spare. Whether it did; if not, the caller goes on without.
    /// `shown`: core dumps have all of it already.
    pub(super) fn gets_rights_ahead(&mut self, range: PageRange, end: Vpn, shown: bool) -> bool {
        if range.pages > AT_ONCE || !self.has_room_for_rights(AT_ONCE) {
            return false;
        }
        let end = end.min(range.end().plus((range.pages * AHEAD).min(AT_ONCE)));
        let ahead = PageRange::between(SPACE, range.end(), end);
        let end = self.spare.first_in(ahead).map_or(end, |spare| spare.start.max(range.end()));
        let ahead = PageRange::between(SPACE, range.end(), end);
        if ahead.is_empty() {
            return false;
        }
        let all = PageRange::between(SPACE, range.start, end);
        if set(all, Prot::READ_WRITE).is_err() {
            // A part may have them.
            if let Err(errno) = set(ahead, Prot::NONE) {
                die!("memory keeps rights that it must not have: error {errno}");
            }
            return false;
        }
        if !shown {
            show_in_dumps(all, true);
        }
        self.spare.remove(range);
        self.spare.insert(ahead);
        true
    }

    /// Up to where the pages from `start` on could get rights ahead: of the memory without rights that `start` lies in, what has
    /// no page.
    pub(super) fn end_of_unused(&self, start: Vpn) -> Vpn {
        let Some(vma) = self.engine.vmas(SPACE).at(start).filter(|vma| is_reserve(vma)) else { return start };
        let reach = PageRange::between(SPACE, start, vma.end.min(start.plus(AT_ONCE)));
        self.engine.next_discard(reach).map_or(reach.end(), |used| used.start)
    }

    /// Takes spare rights in `range` back, of each of the ranges that it meets as a whole: so the kernel is not left with more VMAs
    /// than it would have had. Whether there were any.
    pub(in crate::pager) fn take_back_rights(&mut self, range: PageRange) -> Result<bool, i32> {
        let mut took = false;
        while let Some(spare) = self.spare.first_in(range) {
            set(spare, Prot::NONE)?;
            self.spare.remove(spare);
            self.hide_gaps(spare);
            took = true;
        }
        Ok(took)
    }

    /// Until [`Tables::resume_spare_rights`] the kernel gives rights as the tables say.
    pub(super) fn suspend_spare_rights(&mut self) -> Result<(), i32> {
        self.spare.suspended = true;
        self.take_back_all_rights()
    }

    pub(super) fn resume_spare_rights(&mut self) {
        self.spare.suspended = false;
    }

    fn take_back_all_rights(&mut self) -> Result<(), i32> {
        self.take_back_rights(PageRange::between(SPACE, Vpn(0), Vpn(u64::MAX))).map(|_| ())
    }

    fn has_room_for_rights(&mut self, pages: u64) -> bool {
        let spare = &self.spare;
        // Where the kernel charges rights, free addresses have none.
        if spare.suspended || strict::charges() {
            return false;
        }
        if spare.wary > 0 {
            self.spare.wary -= 1;
            return false;
        }
        let full = spare.pages + pages > MOST || spare.ranges.len() >= MOST_RANGES;
        !full || self.take_back_all_rights().is_ok()
    }

    /// Of what is free core dumps have nothing.
    fn hide_gaps(&self, range: PageRange) {
        let mut at = range.start;
        for vma in self.engine.vmas(SPACE).overlapping(range.start, range.end()) {
            hide(at, vma.start);
            at = at.max(vma.end);
        }
        hide(at, range.end());
    }
}

fn hide(start: Vpn, end: Vpn) {
    if start < end {
        show_in_dumps(PageRange::between(SPACE, start, end), false);
    }
}

/// Whether memory is without rights, as what is reserved for later is.
fn is_reserve(vma: &Vma) -> bool {
    vma.prot == Prot::NONE && !vma.locked && vma.tag == 0
}

fn set(range: PageRange, prot: Prot) -> Result<(), i32> {
    mmap::protect(range.start.addr() as usize, range.pages as usize * PAGE_SIZE, prot.bits())
        .map_err(|errno| errno.raw_os_error())
}

impl Pager {
    /// A page was touched. If the kernel has rights for it that the tables don't have, it has no more, and who touched it meets
    /// what a program meets there.
    pub(in crate::pager) fn ends_touch_of_spare(&self, tables: &mut Tables, vpn: Vpn) -> bool {
        let page = PageRange::new(SPACE, vpn, 1);
        match tables.take_back_rights(page) {
            Ok(false) => false,
            Ok(true) => {
                tables.spare.wary = WARY;
                self.mover().wake(page);
                true
            }
            Err(errno) => die!("memory keeps rights that it must not have: error {errno}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(start: u64, end: u64) -> PageRange {
        PageRange::between(SPACE, Vpn(start), Vpn(end))
    }

    #[test]
    fn each_page_counts_once_and_a_range_is_found_whole() {
        let mut spare = Spare::default();
        spare.insert(pages(10, 20));
        spare.insert(pages(15, 30));
        spare.insert(pages(40, 50));
        assert_eq!((spare.pages, spare.ranges.len()), (30, 2));
        assert_eq!(spare.first_in(pages(29, 45)), Some(pages(10, 30)));
        assert_eq!(spare.first_in(pages(30, 40)), None);
        spare.remove(pages(0, 12));
        spare.remove(pages(44, 45));
        assert_eq!((spare.pages, spare.ranges.len()), (27, 3));
        assert_eq!(spare.first_in(pages(11, 13)), Some(pages(12, 30)));
    }

    #[test]
    fn reserves_are_plain_memory_without_rights() {
        let vma = Vma::new(Vpn(1), Vpn(2), Prot::NONE);
        assert!(is_reserve(&vma));
        assert!(!is_reserve(&Vma { locked: true, ..vma }));
        assert!(!is_reserve(&Vma { tag: 1, ..vma }));
        assert!(!is_reserve(&Vma { prot: Prot::READ, ..vma }));
    }
}
