//! A growing table whose entries never move: growth allocates one more leaf and copies nothing.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// A table that grows by leaves of `LEAF` entries.
#[derive(Clone, Debug)]
pub(crate) struct Chunked<T, const LEAF: usize = 256> {
    /// All but the last that is used are full, and all behind that are empty.
    leaves: Vec<Vec<T>>,
    len: usize,
}

impl<T: Clone + Default, const LEAF: usize> Chunked<T, LEAF> {
    pub(crate) const fn new() -> Chunked<T, LEAF> {
        Chunked { leaves: Vec::new(), len: 0 }
    }

    /// How many entries there are, used or not.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many entries there can be without an allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.leaves.len() * LEAF
    }

    /// Makes entries 0..`len` exist, and the rest of their last leaf.
    pub(crate) fn grow_to(&mut self, len: usize) {
        while self.len < len {
            self.leaves.push(alloc::vec![T::default(); LEAF]);
            self.len += LEAF;
        }
    }

    /// Allocates what entries 0..`len` need. Nothing is written to memory that none of them uses yet.
    pub(crate) fn reserve_to(&mut self, len: usize) {
        while self.capacity() < len {
            self.leaves.push(Vec::with_capacity(LEAF));
        }
    }

    /// Adds an entry, and says which it is. It allocates beyond what is reserved.
    pub(crate) fn push(&mut self, entry: T) -> usize {
        let at = self.len;
        self.reserve_to(at + 1);
        self.leaves[at / LEAF].push(entry);
        self.len += 1;
        at
    }
}

impl<T, const LEAF: usize> Index<usize> for Chunked<T, LEAF> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.leaves[at / LEAF][at % LEAF]
    }
}

impl<T, const LEAF: usize> IndexMut<usize> for Chunked<T, LEAF> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.leaves[at / LEAF][at % LEAF]
    }
}
