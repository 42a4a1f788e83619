//! A growing table whose entries never move: growth allocates one more leaf and copies nothing.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

const LEAF: usize = 256;

/// A table that grows by leaves of 256 entries.
#[derive(Clone, Debug)]
pub(crate) struct Chunked<T> {
    leaves: Vec<Box<[T]>>,
}

impl<T: Clone + Default> Chunked<T> {
    pub(crate) const fn new() -> Chunked<T> {
        Chunked { leaves: Vec::new() }
    }

    /// How many entries there are, used or not.
    pub(crate) fn len(&self) -> usize {
        self.leaves.len() * LEAF
    }

    /// Makes entries 0..`len` exist.
    pub(crate) fn grow_to(&mut self, len: usize) {
        while self.len() < len {
            self.leaves.push(alloc::vec![T::default(); LEAF].into_boxed_slice());
        }
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.leaves[at / LEAF][at % LEAF]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.leaves[at / LEAF][at % LEAF]
    }
}
