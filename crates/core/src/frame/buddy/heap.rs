//! The free units of one pageblock.

use super::index::OrderBits;
use crate::order::Order;
use core::ops::Range;

/// Frames in a pageblock: those of the largest unit.
pub(super) const PAGEBLOCK: u32 = Order::MAX.pages();
/// Words for the nodes: two bits a frame.
const NODE_WORDS: usize = 2 * PAGEBLOCK as usize / 64;
/// Orders from this one up have all their nodes in the first word.
const FIRST_WORD: usize = 4;

/// An implicit binary heap of one bit a node: node 1 is the whole pageblock, node `n` has the halves `2n` and
/// `2n + 1`, nodes 512..1024 are single frames.
///
/// A plain short array, so that a table of them starts as zero memory that was never touched.
pub(super) type Heap = [u64; NODE_WORDS];

/// What a heap has, at a glance: bits 0..16 tell which of its words are not zero (the first is not tracked),
/// bits 16..26 of which orders a node is set.
pub(super) type Sets = u32;

/// The heap nodes of an order.
pub(super) const fn nodes(order: Order) -> Range<usize> {
    let first = (PAGEBLOCK >> order.index()) as usize;
    first..2 * first
}

/// The heap node of an aligned folio whose first frame is number `frame` of its pageblock.
pub(super) const fn node_of(frame: u32, order: Order) -> usize {
    ((PAGEBLOCK | frame) >> order.index()) as usize
}

/// The first frame of a node, by its number in the pageblock.
pub(super) const fn frame_of(node: usize, order: Order) -> u32 {
    ((node as u32) << order.index()) % PAGEBLOCK
}

pub(super) const fn is_set(heap: &Heap, node: usize) -> bool {
    heap[node / 64 % NODE_WORDS] >> (node % 64) & 1 != 0
}

/// The orders of which any node is set.
pub(super) const fn orders(sets: Sets) -> OrderBits {
    (sets >> 16) as OrderBits
}

/// A heap taken up for a split or a merge. What every step needs, the first word and the sets, is held here
/// by value: written back step by step it would chain the steps through memory.
pub(super) struct Walk<'a> {
    heap: &'a mut Heap,
    sets_home: &'a mut Sets,
    first_word: u64,
    sets: Sets,
}

impl<'a> Walk<'a> {
    #[inline]
    pub(super) const fn new(heap: &'a mut Heap, sets: &'a mut Sets) -> Walk<'a> {
        Walk { first_word: heap[0], sets: *sets, heap, sets_home: sets }
    }

    /// Ends the walk. Returns the orders whose set of nodes has become empty or is so no longer.
    #[inline]
    pub(super) const fn finish(self) -> OrderBits {
        let changed = orders(*self.sets_home ^ self.sets);
        self.heap[0] = self.first_word;
        *self.sets_home = self.sets;
        changed
    }

    #[inline]
    pub(super) const fn is_set(&self, node: usize, order: Order) -> bool {
        if order.index() >= FIRST_WORD { self.first_word >> node & 1 != 0 } else { is_set(self.heap, node) }
    }

    /// Sets a node of this order.
    #[inline]
    pub(super) const fn set(&mut self, node: usize, order: Order) {
        self.sets |= 1 << (16 + order.index());
        if order.index() >= FIRST_WORD {
            self.first_word |= 1 << node;
        } else {
            let word = node / 64 % NODE_WORDS;
            self.heap[word] |= 1 << (node % 64);
            self.sets |= 1 << word;
        }
    }

    /// Clears a node of this order.
    #[inline]
    pub(super) const fn clear(&mut self, node: usize, order: Order) {
        if order.index() >= FIRST_WORD {
            self.first_word &= !(1 << node);
        } else {
            let word = node / 64 % NODE_WORDS;
            self.heap[word] &= !(1 << (node % 64));
            self.sets &= !(((self.heap[word] == 0) as Sets) << word);
        }
        let none = self.members(order) == 0;
        self.sets &= !((none as Sets) << (16 + order.index()));
    }

    /// The lowest set node of this order, of which there must be one.
    #[inline]
    pub(super) const fn lowest(&self, order: Order) -> usize {
        let first = self.members(order).trailing_zeros() as usize;
        if order.index() >= FIRST_WORD {
            return first;
        }
        first * 64 + self.heap[first % NODE_WORDS].trailing_zeros() as usize
    }

    /// The set nodes of this order in the first word; for a lower order the words that have set nodes of it.
    /// (Words lie in the heap as the nodes six orders up do, so the same masks serve.)
    const fn members(&self, order: Order) -> u64 {
        if order.index() >= FIRST_WORD {
            self.first_word & mask(order.index())
        } else {
            self.sets as u64 & mask(order.index() + 6)
        }
    }
}

/// The bits of a first word for the nodes of order `index`.
const fn mask(index: usize) -> u64 {
    let first = PAGEBLOCK as usize >> index;
    ((1 << first) - 1) << first
}
