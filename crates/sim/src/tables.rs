//! The page tables of one address space: VMAs, and the pages that are present in them.
//!
//! VMAs of equal rights that meet become one. The kernel at times keeps such apart (first touched apart, or moved
//! by `mremap`), but no verb of a host shows it.

use quire_core::Frame;
use quire_core::mmu::Prot;
use std::collections::{BTreeMap, BTreeSet};

/// What a VMA allows, and how the kernel treats its pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rights {
    /// Access rights of the program.
    pub prot: Prot,
    /// Locked by `mlock2(MLOCK_ONFAULT)`.
    pub locked: bool,
    /// Registered with the pager: a touch of a hole raises a message and blocks.
    pub registered: bool,
}

impl Rights {
    /// Rights of fresh memory: not locked.
    pub const fn new(prot: Prot, registered: bool) -> Rights {
        Rights { prot, locked: false, registered }
    }

    /// Whether the program may read. On this machine a page that can be written can be read.
    pub const fn readable(self) -> bool {
        self.prot.bits() & 3 != 0
    }

    /// Whether the program may write.
    pub const fn writable(self) -> bool {
        self.prot.bits() & 2 != 0
    }

    /// Whether the kernel moves pages between such a VMA and the pool.
    pub const fn movable(self) -> bool {
        self.prot.movable() && !self.locked
    }
}

/// A run of pages with equal rights.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vma {
    /// The first page's number.
    pub start: u64,
    /// The number of the page past the last.
    pub end: u64,
    /// Its rights.
    pub rights: Rights,
}

/// A present page. A hole has no entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pte {
    /// The kernel's own page of zeroes, put into a hole by a read.
    Zero,
    /// A frame of the pool, mapped read-only: other spaces may have it too. What it holds, the pool says.
    Frame(Frame),
    /// A page of memory.
    Page {
        /// The version of its contents; 0 is all zeroes.
        value: u64,
        /// Shared since a fork, and not written since: the kernel refuses to move it.
        shared: bool,
        /// Pinned for I/O: the kernel refuses to move it.
        pinned: bool,
    },
}

impl Pte {
    /// A page of one's own with these contents.
    pub const fn page(value: u64) -> Pte {
        Pte::Page { value, shared: false, pinned: false }
    }

    /// What a read finds; of a frame of the pool, nobody's version.
    pub const fn value(self) -> u64 {
        match self {
            Pte::Zero => 0,
            Pte::Frame(_) => u64::MAX,
            Pte::Page { value, .. } => value,
        }
    }

    /// Whether the kernel refuses to move the page.
    pub const fn busy(self) -> bool {
        matches!(self, Pte::Frame(_) | Pte::Page { shared: true, .. } | Pte::Page { pinned: true, .. })
    }

    /// Whether it is memory of its own: not the page of zeroes, and not a frame that others may map too.
    pub const fn is_memory(self) -> bool {
        matches!(self, Pte::Page { .. })
    }

    /// The page after a write of `value`: shared ones are copied first, pins stay.
    pub const fn written(self, value: u64) -> Pte {
        match self {
            Pte::Zero | Pte::Frame(_) => Pte::page(value),
            Pte::Page { pinned, .. } => Pte::Page { value, shared: false, pinned },
        }
    }

    /// The page as the parent and the child of a fork have it. A pinned page is copied at once and stays the
    /// parent's own; the child's copy is its own too.
    pub const fn forked(self) -> (Pte, Pte) {
        match self {
            Pte::Zero | Pte::Frame(_) => (self, self),
            Pte::Page { value, pinned: true, .. } => (self, Pte::page(value)),
            Pte::Page { value, .. } => {
                let both = Pte::Page { value, shared: true, pinned: false };
                (both, both)
            }
        }
    }
}

/// The page tables of one address space.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tables {
    vmas: Vec<Vma>,
    pages: BTreeMap<u64, Pte>,
    /// Present pages whose accessed bit is set.
    accessed: BTreeSet<u64>,
    /// Present pages of memory of their own.
    resident: u64,
}

impl Tables {
    /// Maps the pages from `start` up to and without `end`, in place of what was there.
    pub fn map(&mut self, start: u64, end: u64, rights: Rights) {
        if start >= end {
            return;
        }
        self.unmap(start, end);
        let at = self.vmas.partition_point(|v| v.start < start);
        self.vmas.insert(at, Vma { start, end, rights });
        self.merge();
    }

    /// Unmaps the pages from `start` up to and without `end`.
    pub fn unmap(&mut self, start: u64, end: u64) {
        self.split(start);
        self.split(end);
        self.vmas.retain(|v| v.start < start || v.start >= end);
        self.clear(start, end);
    }

    /// The VMA that holds page `vpn`.
    pub fn vma(&self, vpn: u64) -> Option<&Vma> {
        let at = self.vmas.partition_point(|v| v.end <= vpn);
        self.vmas.get(at).filter(|v| v.start <= vpn)
    }

    /// Every VMA, in rising order.
    pub fn vmas(&self) -> &[Vma] {
        &self.vmas
    }

    /// Changes the rights of the mapped pages from `start` on, up to `end` or the first gap. Whether it came to `end`.
    pub fn change(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Rights)) -> bool {
        self.split(start);
        self.split(end);
        let mut at = start;
        for vma in self.vmas.iter_mut().filter(|v| v.start >= start && v.end <= end) {
            if vma.start != at {
                break;
            }
            change(&mut vma.rights);
            at = vma.end;
        }
        self.merge();
        at >= end
    }

    /// Whether all pages from `start` up to and without `end` are mapped.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        while at < end {
            let Some(vma) = self.vma(at) else {
                return false;
            };
            at = vma.end;
        }
        true
    }

    /// Moves pages, holes and rights to `to` and on, in place of what was there. The old place stays mapped, empty
    /// and without access.
    pub fn remap(&mut self, start: u64, end: u64, to: u64) {
        self.split(start);
        self.split(end);
        let moved: Vec<Vma> =
            self.vmas.iter().filter(|v| v.start >= start && v.end <= end).copied().collect();
        let pages: Vec<(u64, Pte)> = self.take_all(start, end).collect();
        let accessed: Vec<u64> = self.accessed.extract_if(start..end, |_| true).collect();
        for vma in moved {
            self.map(vma.start - start + to, vma.end - start + to, vma.rights);
            self.map(vma.start, vma.end, Rights { prot: Prot::NONE, locked: false, ..vma.rights });
        }
        pages.into_iter().for_each(|(vpn, pte)| self.put(vpn - start + to, pte));
        self.accessed.extend(accessed.into_iter().map(|vpn| vpn - start + to));
    }

    /// The entry of page `vpn`; `None` for a hole.
    pub fn get(&self, vpn: u64) -> Option<Pte> {
        self.pages.get(&vpn).copied()
    }

    /// Makes page `vpn` present.
    pub fn put(&mut self, vpn: u64, pte: Pte) {
        let before = self.pages.insert(vpn, pte);
        self.resident += u64::from(pte.is_memory());
        self.resident -= u64::from(before.is_some_and(Pte::is_memory));
    }

    /// Leaves a hole at page `vpn`, and returns what was there.
    pub fn take(&mut self, vpn: u64) -> Option<Pte> {
        self.accessed.remove(&vpn);
        let before = self.pages.remove(&vpn);
        self.resident -= u64::from(before.is_some_and(Pte::is_memory));
        before
    }

    /// How many pages have memory of their own.
    pub const fn resident(&self) -> u64 {
        self.resident
    }

    fn take_all(&mut self, start: u64, end: u64) -> impl Iterator<Item = (u64, Pte)> + '_ {
        let resident = &mut self.resident;
        let count = move |(vpn, pte): (u64, Pte)| {
            *resident -= u64::from(pte.is_memory());
            (vpn, pte)
        };
        self.pages.extract_if(start..end, |_, _| true).map(count)
    }

    /// The program accesses present page `vpn`.
    pub fn access(&mut self, vpn: u64) {
        self.accessed.insert(vpn);
    }

    /// The accessed pages from `start` up to and without `end`; their bits are cleared.
    pub fn take_accessed(&mut self, start: u64, end: u64) -> Vec<u64> {
        self.accessed.extract_if(start..end, |_| true).collect()
    }

    /// Leaves holes from `start` up to and without `end`.
    pub fn clear(&mut self, start: u64, end: u64) {
        if start < end {
            self.take_all(start, end).for_each(drop);
            self.accessed.extract_if(start..end, |_| true).for_each(drop);
        }
    }

    /// The present pages, in rising order.
    pub fn pages(&self) -> impl Iterator<Item = (u64, Pte)> + '_ {
        self.pages.iter().map(|(&vpn, &pte)| (vpn, pte))
    }

    /// What a child gets at fork: the same pages, shared, and the same VMAs, neither locked nor registered.
    pub fn fork(&mut self) -> Tables {
        let mut child = self.clone();
        for (vpn, pte) in &mut self.pages {
            let (ours, theirs) = pte.forked();
            *pte = ours;
            child.pages.insert(*vpn, theirs);
        }
        for vma in &mut child.vmas {
            vma.rights.locked = false;
            vma.rights.registered = false;
        }
        child.merge();
        child
    }

    /// What a child gets whose pager is its parent's: the same VMAs, not locked, and no pages.
    pub fn fork_empty(&self) -> Tables {
        let mut child = Tables { vmas: self.vmas.clone(), ..Tables::default() };
        for vma in &mut child.vmas {
            vma.rights.locked = false;
        }
        child.merge();
        child
    }

    fn split(&mut self, vpn: u64) {
        let at = self.vmas.partition_point(|v| v.end <= vpn);
        let Some(&vma) = self.vmas.get(at).filter(|v| v.start < vpn) else {
            return;
        };
        self.vmas[at].end = vpn;
        self.vmas.insert(at + 1, Vma { start: vpn, ..vma });
    }

    fn merge(&mut self) {
        self.vmas.dedup_by(|next, vma| {
            let one = vma.end == next.start && vma.rights == next.rights;
            if one {
                vma.end = next.end;
            }
            one
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARENA: Rights = Rights::new(Prot::NONE, true);

    fn carved() -> Tables {
        let mut t = Tables::default();
        t.map(0, 16, ARENA);
        assert!(t.change(4, 8, |r| r.prot = Prot::READ_WRITE));
        t
    }

    #[test]
    fn equal_neighbours_are_one_vma() {
        let mut t = carved();
        assert_eq!(t.vmas().len(), 3);
        assert!(t.change(8, 10, |r| r.prot = Prot::READ_WRITE));
        assert_eq!(t.vma(9).map(|v| (v.start, v.end)), Some((4, 10)));
        assert!(t.change(4, 10, |r| r.prot = Prot::NONE));
        assert_eq!(t.vmas().len(), 1);
    }

    #[test]
    fn a_change_stops_at_a_gap() {
        let mut t = carved();
        t.unmap(6, 7);
        assert!(!t.change(4, 8, |r| r.locked = true));
        assert!(t.vma(5).is_some_and(|v| v.rights.locked));
        assert!(t.vma(7).is_some_and(|v| !v.rights.locked));
        assert!(t.vma(6).is_none());
    }

    #[test]
    fn unmapping_drops_pages_and_mapping_starts_empty() {
        let mut t = carved();
        t.put(5, Pte::page(7));
        t.put(7, Pte::page(8));
        assert_eq!(t.resident(), 2);
        t.map(5, 6, ARENA);
        assert_eq!((t.get(5), t.resident()), (None, 1));
        assert!(t.vma(5).is_some_and(|v| v.rights == ARENA));
    }

    #[test]
    fn accessed_bits_go_with_their_pages() {
        let mut t = carved();
        for vpn in 4..8 {
            t.put(vpn, Pte::page(vpn));
            t.access(vpn);
        }
        t.take(4);
        t.clear(5, 6);
        t.remap(6, 7, 12);
        assert_eq!(t.take_accessed(0, 16), [7, 12]);
        assert!(t.take_accessed(0, 16).is_empty());
    }

    #[test]
    fn fork_shares_all_but_zero_and_pinned_pages() {
        let mut t = carved();
        t.put(4, Pte::page(7));
        t.put(5, Pte::Zero);
        t.put(6, Pte::Page { value: 9, shared: false, pinned: true });
        let child = t.fork();
        assert!(t.get(4).unwrap().busy() && child.get(4).unwrap().busy());
        assert_eq!((t.get(5), child.get(5)), (Some(Pte::Zero), Some(Pte::Zero)));
        assert!(t.get(6).unwrap().busy() && !child.get(6).unwrap().busy());
        assert!(child.vmas().iter().all(|v| !v.rights.registered));
        assert_eq!(t.get(4).unwrap().written(8), Pte::page(8));
    }
}
