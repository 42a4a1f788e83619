//! VMAs: which virtual pages a program has, with what rights, hints and fault history. Those of one address space are kept
//! sorted; neighbours that do not differ are one.

pub use crate::policy::{Hint, History};

use crate::addr::Vpn;
use crate::mmu::Prot;
use crate::policy::PolicyKind;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// One mapped range and what holds for all of its pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vma {
    /// The first page.
    pub start: Vpn,
    /// The first page past it.
    pub end: Vpn,
    /// Access rights.
    pub prot: Prot,
    /// Whether its pages must stay resident.
    pub locked: bool,
    /// What the program said about it.
    pub hint: Hint,
    /// A policy of its own instead of the engine's.
    pub policy: Option<PolicyKind>,
    /// A value of the host's that keeps VMAs apart where the kernel's differ.
    pub tag: u32,
    /// Its faults.
    pub history: History,
}

impl Vma {
    /// A new one without lock, hint or history.
    pub fn new(start: Vpn, end: Vpn, prot: Prot) -> Vma {
        let (locked, tag, policy) = (false, 0, None);
        Vma { start, end, prot, locked, hint: Hint::Normal, policy, tag, history: History::default() }
    }

    /// Whether the host's verbs can move its pages out.
    pub fn evictable(&self) -> bool {
        self.prot.movable() && !self.locked
    }

    fn continues(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.locked == next.locked
            && self.hint == next.hint
            && self.policy == next.policy
            && self.tag == next.tag
    }
}

/// The VMAs of one address space.
#[derive(Clone, Debug, Default)]
pub struct VmaMap {
    vmas: BTreeMap<u64, Vma>,
}

impl VmaMap {
    /// The VMA that holds `vpn`.
    pub fn at(&self, vpn: Vpn) -> Option<&Vma> {
        self.vmas.range(..=vpn.0).next_back().map(|(_, vma)| vma).filter(|vma| vpn < vma.end)
    }

    /// The same, to note a fault in its history.
    pub(crate) fn at_mut(&mut self, vpn: Vpn) -> Option<&mut Vma> {
        self.vmas.range_mut(..=vpn.0).next_back().map(|(_, vma)| vma).filter(|vma| vpn < vma.end)
    }

    /// The VMAs that overlap `start..end`, in rising order.
    pub fn overlapping(&self, start: Vpn, end: Vpn) -> impl Iterator<Item = &Vma> {
        let first = self.at(start).map_or(start.0, |vma| vma.start.0);
        self.vmas.range(first..end.0.max(first)).map(|(_, vma)| vma)
    }

    /// Every VMA.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.vmas.values()
    }

    /// Whether every page of `start..end` is mapped.
    pub fn covers(&self, start: Vpn, end: Vpn) -> bool {
        let mut at = start;
        for vma in self.overlapping(start, end) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= end
    }

    /// Puts a VMA where nothing is mapped.
    pub(crate) fn insert(&mut self, vma: Vma) {
        debug_assert!(self.overlapping(vma.start, vma.end).next().is_none());
        if !self.grow_by(&vma) {
            self.vmas.insert(vma.start.0, vma);
        }
        self.merge_around(vma.start, vma.end);
    }

    /// Makes the VMA before `vma` reach to its end, if they do not differ. Whether it did.
    fn grow_by(&mut self, vma: &Vma) -> bool {
        let Some((_, before)) = self.vmas.range_mut(..vma.start.0).next_back() else { return false };
        let grows = before.continues(vma);
        if grows {
            before.end = vma.end;
            before.history = before.history.or(vma.history);
        }
        grows
    }

    /// Removes every page of `start..end` and returns the pieces that were there.
    pub(crate) fn remove(&mut self, start: Vpn, end: Vpn) -> Vec<Vma> {
        self.split_at(start);
        self.split_at(end);
        let pieces: Vec<Vma> = self.vmas.range(start.0..end.0.max(start.0)).map(|(_, vma)| *vma).collect();
        for vma in &pieces {
            self.vmas.remove(&vma.start.0);
        }
        pieces
    }

    /// Changes what holds for the pages of `start..end`.
    pub(crate) fn edit(&mut self, start: Vpn, end: Vpn, mut change: impl FnMut(&mut Vma)) {
        if self.moves_edge(start, end, &mut change) {
            return;
        }
        self.split_at(start);
        self.split_at(end);
        for (_, vma) in self.vmas.range_mut(start.0..end.0.max(start.0)) {
            change(vma);
        }
        self.merge_around(start, end);
    }

    /// The same where all of it is that a VMA grows into the next, as malloc's heaps do page by page. Whether that is so.
    fn moves_edge(&mut self, start: Vpn, end: Vpn, change: &mut impl FnMut(&mut Vma)) -> bool {
        let Some(&vma) = self.vmas.get(&start.0).filter(|vma| vma.end > end) else { return false };
        let mut changed = Vma { end, ..vma };
        change(&mut changed);
        let moves = self.grow_by(&changed);
        if moves {
            self.vmas.remove(&start.0);
            self.vmas.insert(end.0, Vma { start: end, ..vma });
        }
        moves
    }

    fn split_at(&mut self, vpn: Vpn) {
        let Some(vma) = self.at_mut(vpn) else { return };
        if vma.start == vpn {
            return;
        }
        let mut upper = *vma;
        vma.end = vpn;
        upper.start = vpn;
        self.vmas.insert(vpn.0, upper);
    }

    fn merge_around(&mut self, start: Vpn, end: Vpn) {
        let mut at = self.vmas.range(..start.0).next_back().map_or(start.0, |(&s, _)| s);
        while at <= end.0 {
            let Some((&key, vma)) = self.vmas.range(at..).next() else { return };
            let edge = vma.end.0;
            if !self.vmas.get(&edge).is_some_and(|next| vma.continues(next)) {
                at = edge.max(key + 1);
                continue;
            }
            if let (Some(next), Some(vma)) = (self.vmas.remove(&edge), self.vmas.get_mut(&key)) {
                vma.end = next.end;
                vma.history = vma.history.or(next.history);
            }
            at = key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u64, u64)]) -> VmaMap {
        let mut map = VmaMap::default();
        for &(start, end) in ranges {
            map.insert(Vma::new(Vpn(start), Vpn(end), Prot::READ_WRITE));
        }
        map
    }

    #[test]
    fn neighbours_that_do_not_differ_are_one() {
        let map = map(&[(10, 20), (30, 40), (20, 30)]);
        assert_eq!(map.iter().count(), 1);
        assert!(map.covers(Vpn(10), Vpn(40)));
        assert!(!map.covers(Vpn(10), Vpn(41)));
    }

    #[test]
    fn a_range_that_grows_keeps_its_history_whichever_end_it_grows_at() {
        let mut map = map(&[(20, 30)]);
        let history = |map: &VmaMap| map.at(Vpn(20)).map(|vma| vma.history);
        map.at_mut(Vpn(20)).unwrap().history.note(Vpn(20), Vpn(20), Vpn(20), crate::Order::BASE, true);
        let before = history(&map);
        map.insert(Vma::new(Vpn(10), Vpn(20), Prot::READ_WRITE));
        map.insert(Vma::new(Vpn(30), Vpn(40), Prot::READ_WRITE));
        assert_eq!((map.iter().count(), history(&map)), (1, before));
        assert_ne!(before, Some(History::default()));
    }

    #[test]
    fn an_edit_splits_and_its_undoing_merges() {
        let mut map = map(&[(0, 100)]);
        map.edit(Vpn(10), Vpn(20), |vma| vma.prot = Prot::NONE);
        assert_eq!(map.iter().count(), 3);
        assert_eq!(map.at(Vpn(19)).map(|v| v.prot), Some(Prot::NONE));
        map.edit(Vpn(10), Vpn(20), |vma| vma.prot = Prot::READ_WRITE);
        assert_eq!(map.iter().count(), 1);
    }

    #[test]
    fn an_edge_moves_as_it_would_by_splits_and_merges() {
        let ends =
            |map: &VmaMap| map.iter().map(|vma| (vma.start.0, vma.end.0, vma.prot)).collect::<Vec<_>>();
        let mut map = map(&[(0, 10), (50, 60)]);
        map.insert(Vma::new(Vpn(10), Vpn(50), Prot::NONE));
        map.at_mut(Vpn(20)).unwrap().history.note(Vpn(20), Vpn(20), Vpn(20), crate::Order::BASE, true);
        let history = map.at(Vpn(20)).map(|vma| vma.history);
        map.edit(Vpn(10), Vpn(11), |vma| vma.prot = Prot::READ_WRITE);
        map.edit(Vpn(11), Vpn(20), |vma| vma.prot = Prot::READ_WRITE);
        let expected = [(0, 20, Prot::READ_WRITE), (20, 50, Prot::NONE), (50, 60, Prot::READ_WRITE)];
        assert_eq!(ends(&map), expected);
        assert_eq!(map.at(Vpn(20)).map(|vma| vma.history), history);
        assert_eq!(map.at(Vpn(0)).map(|vma| vma.history), history);
        map.edit(Vpn(20), Vpn(21), |vma| vma.prot = Prot::READ);
        assert_eq!(map.iter().count(), 4);
        map.edit(Vpn(20), Vpn(50), |vma| vma.prot = Prot::READ_WRITE);
        assert_eq!(ends(&map), [(0, 60, Prot::READ_WRITE)]);
    }

    #[test]
    fn removal_leaves_the_rest() {
        let mut map = map(&[(0, 100), (200, 300)]);
        let gone = map.remove(Vpn(50), Vpn(250));
        assert_eq!(gone.len(), 2);
        assert!(map.at(Vpn(49)).is_some() && map.at(Vpn(50)).is_none());
        assert!(map.at(Vpn(249)).is_none() && map.at(Vpn(250)).is_some());
    }
}
