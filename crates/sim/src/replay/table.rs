//! Page tables with no more than a replay needs: where a page is, whether it was accessed and written, and how wide the
//! entry of a TLB for it may be. No contents.

use super::ranges::Ranges;
use crate::tlb::Mapping;
use core::ops::Range;
use quire_core::mmu::Prot;
use quire_core::{Frame, Order, Vpn};
use std::collections::BTreeMap;

/// What holds for a page: bits of an [`Entry`].
pub(super) mod flag {
    /// It is there.
    pub(in super::super) const PRESENT: u8 = 1;
    /// The program may read it.
    pub(in super::super) const READ: u8 = 2;
    /// The program may write it.
    pub(in super::super) const WRITE: u8 = 4;
    /// It was accessed since somebody cleared this.
    pub(in super::super) const ACCESSED: u8 = 8;
    /// It was written since somebody cleared this, all of it at one time or another.
    pub(in super::super) const DIRTY: u8 = 16;
    /// All of it was accessed since its contents were filled.
    pub(in super::super) const TOUCHED: u8 = 32;
    /// Several spaces may have its frame: a write is a fault, whatever the rights.
    pub(in super::super) const SHARED: u8 = 64;
}

/// What a page must have so that a read, or a write, changes nothing in its entry.
pub(super) const READS: u8 = flag::PRESENT | flag::READ | flag::ACCESSED | flag::TOUCHED;
pub(super) const WRITES: u8 = READS | flag::WRITE | flag::DIRTY;

/// The entry of one page. One without [`flag::PRESENT`] is all zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Entry {
    pub(super) frame: u32,
    pub(super) flags: u8,
    /// The order as which the page is mapped, and the largest run that lies side by side round it, at least that.
    folio: Order,
    span: Order,
}

impl Entry {
    #[inline]
    pub(super) fn has(self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    #[inline]
    pub(super) fn mapping(self) -> Mapping {
        Mapping { frame: Frame(self.frame), folio: self.folio, span: self.span }
    }
}

/// The flags that follow from rights.
pub(super) fn flags_of(prot: Prot) -> u8 {
    match prot.bits() & 3 {
        0 => 0,
        1 => flag::READ,
        _ => flag::READ | flag::WRITE,
    }
}

/// Pages of a leaf, and leaves of a branch.
const FAN: u64 = 512;
/// Pages under a branch: 1 GiB.
const BRANCH: u64 = FAN * FAN;

type Leaf = [Entry; FAN as usize];
type Branch = [u32; FAN as usize];

/// The page table of one space. Leaf 0 and branch 0 stand for what is not there: they stay empty.
#[derive(Debug)]
pub(super) struct Table {
    leaves: Vec<Leaf>,
    branches: Vec<Branch>,
    roots: BTreeMap<u64, u32>,
    /// The branch that was looked up last, and its number.
    last: (u64, u32),
    /// The rights of pages, those that are present or not.
    pub(super) rights: Ranges<Prot>,
    /// The largest run of base entries that a TLB asks for.
    most: Order,
}

impl Table {
    /// An empty one for a TLB that coalesces up to `most`.
    pub(super) fn new(most: Order) -> Table {
        Table {
            leaves: vec![[Entry::default(); FAN as usize]],
            branches: vec![[0; FAN as usize]],
            roots: BTreeMap::new(),
            last: (u64::MAX, 0),
            rights: Ranges::default(),
            most,
        }
    }

    /// The entry of a page.
    #[inline]
    pub(super) fn get(&mut self, vpn: Vpn) -> Entry {
        let leaf = self.leaf_of(vpn);
        self.leaves[leaf][(vpn.0 % FAN) as usize]
    }

    /// The leaf of a page; 0 where there is none.
    #[inline]
    fn leaf_of(&mut self, vpn: Vpn) -> usize {
        let root = vpn.0 / BRANCH;
        if self.last.0 != root {
            self.last = (root, self.roots.get(&root).copied().unwrap_or(0));
        }
        self.branches[self.last.1 as usize][(vpn.0 / FAN % FAN) as usize] as usize
    }

    /// The entry of a page, to be changed. Makes the leaf.
    pub(super) fn entry_mut(&mut self, vpn: Vpn) -> &mut Entry {
        let root = vpn.0 / BRANCH;
        let branch = *self.roots.entry(root).or_insert_with(|| {
            self.branches.push([0; FAN as usize]);
            self.branches.len() as u32 - 1
        });
        self.last = (root, branch);
        let leaf = &mut self.branches[branch as usize][(vpn.0 / FAN % FAN) as usize];
        if *leaf == 0 {
            self.leaves.push([Entry::default(); FAN as usize]);
            *leaf = self.leaves.len() as u32 - 1;
        }
        &mut self.leaves[*leaf as usize][(vpn.0 % FAN) as usize]
    }

    /// Calls `change` with each page of `pages` that is present. What has no leaf is passed over.
    pub(super) fn each_present(&mut self, pages: Range<u64>, mut change: impl FnMut(Vpn, &mut Entry)) {
        let mut at = pages.start;
        while at < pages.end {
            let Some((&root, &branch)) = self.roots.range(at / BRANCH..).next() else { return };
            if root > at / BRANCH {
                at = root * BRANCH;
                continue;
            }
            let leaf = self.branches[branch as usize][(at / FAN % FAN) as usize];
            let end = pages.end.min((at / FAN + 1) * FAN);
            if leaf != 0 {
                for vpn in at..end {
                    let entry = &mut self.leaves[leaf as usize][(vpn % FAN) as usize];
                    if entry.has(flag::PRESENT) {
                        change(Vpn(vpn), entry);
                    }
                }
            }
            at = end;
        }
    }

    /// Sets the rights of pages, those that are present among them.
    pub(super) fn set_rights(&mut self, pages: Range<u64>, prot: Prot) {
        self.rights.set(pages.clone(), prot);
        let rights = flags_of(prot);
        self.change(pages, |flags| {
            let lost = if flags & flag::SHARED == 0 { 0 } else { flag::WRITE };
            flags & !(flag::READ | flag::WRITE) | rights & !lost
        });
    }

    /// Changes the flags of the pages that are present.
    pub(super) fn change(&mut self, pages: Range<u64>, change: impl Fn(u8) -> u8) {
        self.each_present(pages.clone(), |_, entry| entry.flags = change(entry.flags));
        self.unfold(pages.clone());
        self.coalesce(pages);
    }

    /// Makes pages present whose frames lie side by side from `frame` on: as one folio where they are one.
    /// `flags` says what else holds for each.
    pub(super) fn map(&mut self, start: Vpn, frame: Frame, pages: u32, flags: impl Fn(u32) -> u8) {
        let mut at = 0;
        while at < pages {
            let (vpn, first) = (start.plus(u64::from(at)), frame.plus(at));
            let aligned = Order::alignment_of(vpn.0 | u64::from(first.0));
            let folio = aligned.min(Order::fitting(u64::from(pages - at)));
            for i in at..at + folio.pages() {
                let entry = Entry { frame: frame.0 + i, flags: flag::PRESENT | flags(i), folio, span: folio };
                *self.entry_mut(start.plus(u64::from(i))) = entry;
            }
            at += folio.pages();
        }
        self.coalesce(start.0..start.0 + u64::from(pages));
    }

    /// Leaves holes. What remains of a folio that was mapped whole is mapped in its largest aligned parts.
    pub(super) fn clear(&mut self, pages: Range<u64>) {
        self.unfold(pages.clone());
        self.each_present(pages.clone(), |_, entry| *entry = Entry::default());
        // Only in the groups at both ends is anything left.
        self.coalesce(pages.start..pages.start + 1);
        self.coalesce(pages.end - 1..pages.end);
    }

    /// Maps the folios that straddle an edge of `pages` in parts that do not.
    fn unfold(&mut self, pages: Range<u64>) {
        for edge in [pages.start, pages.end] {
            let folio = self.get(Vpn(edge)).folio;
            let start = folio.align_down(edge);
            if start == edge {
                continue;
            }
            self.each_present(start..start + u64::from(folio.pages()), |vpn, entry| {
                let mut part = folio;
                while part.align_down(vpn.0) < edge && edge < part.align_down(vpn.0) + u64::from(part.pages())
                {
                    part = part.down();
                }
                (entry.folio, entry.span) = (part, part);
            });
            self.coalesce(start..start + u64::from(folio.pages()));
        }
    }

    /// Finds anew, for the groups that pages lie in, whether their entries agree so that a TLB finds one.
    fn coalesce(&mut self, pages: Range<u64>) {
        if self.most == Order::BASE || pages.is_empty() {
            return;
        }
        let size = u64::from(self.most.pages());
        let mut at = self.most.align_down(pages.start);
        while at < pages.end {
            let leaf = self.leaf_of(Vpn(at));
            if leaf == 0 {
                at = (at / FAN + 1) * FAN;
                continue;
            }
            // A group lies in one leaf.
            let first = (at % FAN) as usize;
            coalesce_group(&mut self.leaves[leaf][first..first + size as usize], self.most);
            at += size;
        }
    }
}

/// Finds the spans of the entries of one aligned group of `most`.
fn coalesce_group(group: &mut [Entry], most: Order) {
    for at in 0..group.len() {
        let entry = group[at];
        if !entry.has(flag::PRESENT) || entry.folio >= most {
            continue;
        }
        let mut span = entry.folio;
        while span < most && is_run(group, at, span.up()) {
            span = span.up();
        }
        group[at].span = span;
    }
}

/// Whether the aligned entries of `order` round number `at` lie side by side with equal rights.
fn is_run(group: &[Entry], at: usize, order: Order) -> bool {
    const RIGHTS: u8 = flag::PRESENT | flag::READ | flag::WRITE;
    let first = order.align_down(at as u64) as usize;
    let here = group[at];
    let Some(frame) = here.frame.checked_sub((at - first) as u32) else { return false };
    frame.is_multiple_of(order.pages())
        && (group[first..].iter().zip(frame..frame + order.pages()))
            .all(|(entry, frame)| entry.frame == frame && entry.flags & RIGHTS == here.flags & RIGHTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Order = Order::fitting(4);

    fn spans(table: &mut Table, pages: Range<u64>) -> Vec<usize> {
        pages.map(|vpn| table.get(Vpn(vpn)).span.index()).collect()
    }

    #[test]
    fn pages_that_come_one_by_one_coalesce_when_they_lie_side_by_side() {
        let mut table = Table::new(FOUR);
        for i in [0, 1, 3] {
            table.map(Vpn(8 + i), Frame(4 + i as u32), 1, |_| flag::READ);
        }
        assert_eq!(spans(&mut table, 8..12), [1, 1, 0, 0]);
        table.map(Vpn(10), Frame(6), 1, |_| flag::READ);
        assert_eq!(spans(&mut table, 8..12), [2; 4]);
        table.map(Vpn(12), Frame(9), 3, |_| flag::READ);
        assert_eq!(spans(&mut table, 12..15), [0; 3], "frames are not aligned as pages are");
    }

    #[test]
    fn a_folio_is_mapped_whole_until_a_part_goes() {
        let mut table = Table::new(Order::BASE);
        table.map(Vpn(512), Frame(1024), 512, |_| flag::READ);
        assert_eq!(table.get(Vpn(1023)).mapping().folio, Order::MAX);
        table.clear(576..577);
        let orders: Vec<usize> = [512, 575, 577, 578, 580, 640, 768]
            .map(|vpn| table.get(Vpn(vpn)).mapping().folio.index())
            .to_vec();
        assert_eq!(orders, [6, 6, 0, 1, 2, 7, 8]);
        assert!(!table.get(Vpn(576)).has(flag::PRESENT));
    }

    #[test]
    fn rights_hold_from_page_to_page() {
        let mut table = Table::new(FOUR);
        table.set_rights(0..8, Prot::READ_WRITE);
        table.map(Vpn(0), Frame(0), 8, |_| flag::READ | flag::WRITE);
        table.set_rights(4..8, Prot::READ);
        assert_eq!((table.rights.at(Vpn(3)), table.rights.at(Vpn(7))), (Prot::READ_WRITE, Prot::READ));
        assert_eq!(table.rights.at(Vpn(8)), Prot::NONE);
        assert!(table.get(Vpn(3)).has(flag::WRITE) && !table.get(Vpn(4)).has(flag::WRITE));
        assert_eq!(table.get(Vpn(4)).mapping().folio, FOUR, "rights differ within the folio");
    }
}
