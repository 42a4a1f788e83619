//! Pages that are never moved out: what the kernel reads or writes when a thread dies.
//!
//! A thread that is ending can't wait for the pager: where it touches a hole, the kernel goes on without. Then a robust
//! list is not walked to its end, or the word is not cleared that others wait for. The same holds for the words of
//! futexes with priority inheritance, which the kernel writes where it can't wait for a page.

use crate::sys::futex::{self, Lock};
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use quire_core::addr::PAGE_SIZE;
use std::collections::{BTreeMap, BTreeSet};

/// Objects of the program, by their addresses: the pages they lie on are never moved out.
#[derive(Debug)]
pub struct Unevictable {
    /// How many pieces there are. Without any, nobody takes the lock.
    count: AtomicUsize,
    /// Each object's first byte, and the first of each further page that it reaches into; with the thread, by its id, at
    /// whose end the object is no longer looked at, or 0 where only the program can tell.
    pieces: Lock<BTreeMap<usize, u32>>,
}

impl Unevictable {
    /// There are none.
    pub const fn new() -> Unevictable {
        Unevictable { count: AtomicUsize::new(0), pieces: Lock::new(BTreeMap::new()) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Adds an object of `len` bytes, at most until thread `owner` has ended, if that is not 0.
    pub fn add(&self, addr: usize, len: usize, owner: u32) {
        let mut pieces = self.pieces.lock();
        for piece in pieces_of(addr, len) {
            pieces.insert(piece, owner);
        }
        self.count.store(pieces.len(), Ordering::Release);
    }

    /// Whether all of an object is here already, for the same `owner`.
    pub fn has(&self, addr: usize, len: usize, owner: u32) -> bool {
        let pieces = self.pieces.lock();
        pieces_of(addr, len).all(|piece| pieces.get(&piece) == Some(&owner))
    }

    /// An object is no longer one of them. Others on its pages may be.
    pub fn remove(&self, addr: usize, len: usize) {
        let mut pieces = self.pieces.lock();
        for piece in pieces_of(addr, len) {
            pieces.remove(&piece);
        }
        self.count.store(pieces.len(), Ordering::Release);
    }

    /// Nothing lies in `range`, in bytes: it is not mapped any more.
    pub fn forget(&self, range: Range<usize>) {
        if !self.is_empty() {
            self.retain(|piece, _| !range.contains(&piece));
        }
    }

    /// What lies in `from` lies at `to` from now on.
    pub fn moved(&self, from: Range<usize>, to: usize) {
        if self.is_empty() {
            return;
        }
        let mut pieces = self.pieces.lock();
        let moved: Vec<(usize, u32)> =
            pieces.range(from.clone()).map(|(&piece, &owner)| (piece, owner)).collect();
        for (piece, owner) in moved {
            pieces.remove(&piece);
            pieces.insert(piece - from.start + to, owner);
        }
    }

    /// Before a fork: nobody changes it until [`Unevictable::let_go`].
    pub fn hold(&self) {
        futex::hold(&self.pieces);
    }

    /// Ends that, in the parent; in the child [`Unevictable::forget_holder`] does.
    pub fn let_go(&self) {
        futex::let_go(&self.pieces);
    }

    /// Calls `see` with each piece's address and owner.
    pub fn pieces(&self, mut see: impl FnMut(usize, u32)) {
        for (&piece, &owner) in self.pieces.lock().iter() {
            see(piece, owner);
        }
    }

    /// The threads at whose ends something is removed.
    pub fn owners(&self) -> BTreeSet<u32> {
        self.pieces.lock().values().copied().filter(|&owner| owner != 0).collect()
    }

    /// Removes what these threads own; tells at which addresses that was.
    pub fn remove_owned(&self, ended: &BTreeSet<u32>) -> Vec<usize> {
        let mut gone = Vec::new();
        self.retain(|piece, owner| {
            let goes = ended.contains(&owner);
            if goes {
                gone.push(piece);
            }
            !goes
        });
        gone
    }

    /// The first of `pages` pages at byte address `start` that is unevictable, as a count of pages.
    pub fn first_in(&self, start: usize, pages: usize) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let pieces = self.pieces.lock();
        let (&piece, _) = pieces.range(start..start + pages * PAGE_SIZE).next()?;
        Some((piece - start) / PAGE_SIZE)
    }

    /// In a forked child, the thread that held the lock, if any, is no more.
    pub fn forget_holder(&self) {
        futex::forget_holder(&self.pieces);
    }

    fn retain(&self, mut stays: impl FnMut(usize, u32) -> bool) {
        let mut pieces = self.pieces.lock();
        pieces.retain(|&piece, owner| stays(piece, *owner));
        self.count.store(pieces.len(), Ordering::Release);
    }
}

impl Default for Unevictable {
    fn default() -> Unevictable {
        Unevictable::new()
    }
}

/// An address on each page of an object: its first byte, then the beginnings of pages.
fn pieces_of(addr: usize, len: usize) -> impl Iterator<Item = usize> {
    let further = (addr / PAGE_SIZE + 1) * PAGE_SIZE..addr + len.max(1);
    core::iter::once(addr).chain(further.step_by(PAGE_SIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = PAGE_SIZE;

    #[test]
    fn objects_keep_their_pages_until_the_last_goes() {
        let unevictable = Unevictable::new();
        assert!(unevictable.is_empty() && unevictable.first_in(0, 100).is_none());
        unevictable.add(3 * PAGE + 8, 40, 0);
        unevictable.add(3 * PAGE + 100, 40, 0);
        assert_eq!(unevictable.first_in(PAGE, 8), Some(2));
        assert_eq!(unevictable.first_in(PAGE, 2), None);
        assert_eq!(unevictable.first_in(4 * PAGE, 8), None);
        unevictable.remove(3 * PAGE + 8, 40);
        assert_eq!(unevictable.first_in(PAGE, 8), Some(2));
        unevictable.remove(3 * PAGE + 100, 40);
        assert!(unevictable.is_empty());
    }

    #[test]
    fn an_object_across_an_edge_keeps_both_pages() {
        let unevictable = Unevictable::new();
        unevictable.add(2 * PAGE - 8, 40, 0);
        assert_eq!((unevictable.first_in(PAGE, 1), unevictable.first_in(2 * PAGE, 1)), (Some(0), Some(0)));
        assert!(unevictable.has(2 * PAGE - 8, 40, 0) && !unevictable.has(2 * PAGE - 8, 40, 7));
        // Exactly to the edge is one page.
        unevictable.add(9 * PAGE - 40, 40, 0);
        assert_eq!(unevictable.first_in(9 * PAGE, 1), None);
        unevictable.remove(2 * PAGE - 8, 40);
        assert_eq!(unevictable.first_in(0, 8), None);
    }

    #[test]
    fn marks_go_with_their_memory() {
        let unevictable = Unevictable::new();
        unevictable.add(4 * PAGE, 4, 0);
        unevictable.add(6 * PAGE + 12, 4, 0);
        unevictable.moved(4 * PAGE..6 * PAGE, 14 * PAGE);
        assert_eq!(unevictable.first_in(0, 100), Some(6));
        assert_eq!(unevictable.first_in(7 * PAGE, 100), Some(7));
        unevictable.forget(14 * PAGE..15 * PAGE);
        assert_eq!(unevictable.first_in(7 * PAGE, 100), None);
        unevictable.forget(0..100 * PAGE);
        assert!(unevictable.is_empty());
    }

    #[test]
    fn the_dead_keep_nothing() {
        let unevictable = Unevictable::new();
        unevictable.add(PAGE, 4, 11);
        unevictable.add(2 * PAGE, 4, 12);
        unevictable.add(3 * PAGE, 4, 0);
        assert_eq!(unevictable.owners(), BTreeSet::from([11, 12]));
        assert_eq!(unevictable.remove_owned(&BTreeSet::from([12])), [2 * PAGE]);
        assert!(unevictable.has(PAGE, 4, 11) && unevictable.has(3 * PAGE, 4, 0));
        // The word has a new thread: the old one's end is nothing to it.
        unevictable.add(PAGE, 4, 0);
        assert!(unevictable.remove_owned(&BTreeSet::from([11, 12])).is_empty() && !unevictable.is_empty());
    }
}
