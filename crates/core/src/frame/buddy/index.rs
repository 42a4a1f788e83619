//! Which pageblocks have a free unit of which order.
//!
//! Two levels of bitmaps for each order: one bit a pageblock, and above it one bit for each 64 pageblocks
//! (a group). A search reads one bit per 2^21 frames until it hits, then one word. The words of all orders of
//! a group lie together, since a split or a merge changes several orders of one pageblock.

use crate::order::Order;
use alloc::vec;
use alloc::vec::Vec;

/// A set of orders: bit `o` stands for order `o`.
pub(super) type OrderBits = u16;

/// A word for each order.
type Words = [u64; Order::COUNT];

/// For each order, the pageblocks that have a free unit of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct OrderIndex {
    /// The orders that any pageblock has.
    orders: OrderBits,
    /// One bit a pageblock.
    groups: Vec<Words>,
    /// One bit a group: set where its word has any bit.
    summary: Vec<Words>,
}

impl OrderIndex {
    /// The index of so many pageblocks, with no free unit anywhere.
    pub(super) fn new(pageblocks: usize) -> OrderIndex {
        let groups = pageblocks.div_ceil(64);
        OrderIndex {
            orders: 0,
            groups: vec![[0; Order::COUNT]; groups],
            summary: vec![[0; Order::COUNT]; groups.div_ceil(64)],
        }
    }

    /// The orders that any pageblock has.
    pub(super) const fn orders(&self) -> OrderBits {
        self.orders
    }

    /// The lowest pageblock with a free unit of `order`.
    #[inline]
    pub(super) fn lowest(&self, order: Order) -> Option<usize> {
        let word = self.summary.iter().position(|words| words[order.index()] != 0)?;
        let group = word * 64 + self.summary[word][order.index()].trailing_zeros() as usize;
        Some(group * 64 + self.groups[group][order.index()].trailing_zeros() as usize)
    }

    /// Turns the bits of a pageblock over, for each order in `changed`.
    #[inline]
    pub(super) fn toggle(&mut self, pageblock: usize, changed: OrderBits) {
        let group = pageblock / 64;
        let words = &mut self.groups[group];
        let mut groups_changed = 0;
        let mut rest = changed;
        while rest != 0 {
            let order = lowest_of(rest);
            let before = words[order];
            let after = before ^ 1 << (pageblock % 64);
            words[order] = after;
            groups_changed |= OrderBits::from(before == 0 || after == 0) << order;
            rest &= rest - 1;
        }
        if groups_changed != 0 {
            self.toggle_group(group, groups_changed);
        }
    }

    fn toggle_group(&mut self, group: usize, changed: OrderBits) {
        let words = &mut self.summary[group / 64];
        let mut doubtful = 0;
        let mut rest = changed;
        while rest != 0 {
            let order = lowest_of(rest);
            words[order] ^= 1 << (group % 64);
            doubtful |= OrderBits::from(words[order] == 0) << order;
            rest &= rest - 1;
        }
        self.orders |= changed;
        if self.summary.len() == 1 {
            self.orders &= !doubtful;
        } else {
            self.drop_empty(doubtful);
        }
    }

    /// Takes those of the orders out of the whole's set that no group has.
    #[cold]
    fn drop_empty(&mut self, orders: OrderBits) {
        for order in Order::all().map(Order::index) {
            if orders >> order & 1 != 0 && self.summary.iter().all(|words| words[order] == 0) {
                self.orders &= !(1 << order);
            }
        }
    }

    /// The orders that a pageblock has, for checks. Fails where the two levels disagree.
    pub(super) fn orders_of(&self, pageblock: usize) -> Result<OrderBits, &'static str> {
        let group = pageblock / 64;
        let mut orders = 0;
        for order in Order::all().map(Order::index) {
            let word = self.groups[group][order];
            let summary = self.summary[group / 64][order] >> (group % 64) & 1 != 0;
            if summary != (word != 0) {
                return Err("a group and its summary disagree");
            }
            orders |= ((word >> (pageblock % 64) & 1) as OrderBits) << order;
        }
        Ok(orders)
    }
}

/// The smallest order of a set that is not empty. (Within bounds by its type, so that indexing is cheap.)
const fn lowest_of(orders: OrderBits) -> usize {
    let order = orders.trailing_zeros() as usize;
    if order < Order::COUNT { order } else { 0 }
}
