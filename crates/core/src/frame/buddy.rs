//! Free frames, as a buddy system over orders 0..=9.
//!
//! The pool is cut into pageblocks of 512 frames, the largest unit. The free units of a pageblock are bits of
//! a [`Heap`]: one is set where a unit is free as a whole and not part of a larger free one. So buddies are
//! never both set, and the bits depend only on which frames are free. Above the pageblocks an [`OrderIndex`]
//! tells which of them has a free unit of an order.
//!
//! All memory is reserved when the buddy is made: reclaim may call every verb here.

mod heap;
mod index;
#[cfg(test)]
mod tests;

use crate::addr::{Frame, FrameRun};
use crate::order::{Order, OrderSet};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use heap::{Heap, PAGEBLOCK, Sets, Walk};
use index::{OrderBits, OrderIndex};

/// Which frames of a pool are free. Prefers the smallest unit that serves, then the lowest address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Buddy {
    capacity: u32,
    free: u32,
    /// Free units by order.
    counts: [u32; Order::COUNT],
    /// By pageblock.
    heaps: Vec<Heap>,
    /// By pageblock.
    sets: Vec<Sets>,
    index: OrderIndex,
}

impl Buddy {
    /// A buddy for frames 0..`capacity_frames`, none of them free yet. Nothing is allocated after this:
    /// a little over two bits a frame, zeroed, so that a lazy allocator backs only what is used.
    pub fn new(capacity_frames: u32) -> Buddy {
        let pageblocks = capacity_frames.div_ceil(PAGEBLOCK) as usize;
        Buddy {
            capacity: capacity_frames,
            free: 0,
            counts: [0; Order::COUNT],
            heaps: vec![[0; _]; pageblocks],
            sets: vec![0; pageblocks],
            index: OrderIndex::new(pageblocks),
        }
    }

    /// Takes a folio of the largest order in `set` that can be served. `None` when no order of the set
    /// fits into any free unit.
    pub fn alloc(&mut self, set: OrderSet) -> Option<(Frame, Order)> {
        let want = set.and(OrderSet::up_to(self.largest()?)).largest()?;
        let unit = smallest_from(self.index.orders(), want)?;
        let pageblock = self.index.lowest(unit)?;
        let node = self.split(pageblock, unit, want);
        self.free -= want.pages();
        Some((frame_at(pageblock, node, want), want))
    }

    /// Gives a folio back and merges it with free buddies, up to the largest order.
    pub fn free(&mut self, frame: Frame, order: Order) {
        debug_assert!(frame.0.is_multiple_of(order.pages()), "free of {frame:?} {order:?}: not aligned");
        debug_assert!(
            frame.0 + order.pages() <= self.capacity,
            "free of {frame:?} {order:?}: beyond the pool"
        );
        debug_assert!(!self.overlaps_free(frame, order), "free of {frame:?} {order:?}: free already");
        let pageblock = (frame.0 / PAGEBLOCK) as usize;
        let mut walk = Walk::new(&mut self.heaps[pageblock], &mut self.sets[pageblock]);
        let mut node = heap::node_of(frame.0 % PAGEBLOCK, order);
        let mut unit = order;
        while unit < Order::MAX && walk.is_set(node ^ 1, unit) {
            walk.clear(node ^ 1, unit);
            self.counts[unit.index()] -= 1;
            node /= 2;
            unit = unit.up();
        }
        walk.set(node, unit);
        self.counts[unit.index()] += 1;
        self.free += order.pages();
        self.index.toggle(pageblock, walk.finish());
    }

    /// Gives back any run of frames, in the largest aligned pieces. The work grows with the pageblocks that
    /// the run meets.
    pub fn free_run(&mut self, run: FrameRun) {
        let FrameRun { mut start, mut pages } = run;
        while pages > 0 {
            let order = Order::alignment_of(start.0.into()).min(Order::fitting(pages.into()));
            self.free(start, order);
            start = start.plus(order.pages());
            pages -= order.pages();
        }
    }

    /// How many frames are free.
    pub const fn free_frames(&self) -> u32 {
        self.free
    }

    /// The frames that this buddy was made for.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The order of the largest free unit.
    pub fn largest(&self) -> Option<Order> {
        Order::new(self.index.orders().checked_ilog2()? as u8)
    }

    /// How many free units of exactly this order there are.
    pub const fn free_at(&self, order: Order) -> u32 {
        self.counts[order.index()]
    }

    /// Whether this one frame is free.
    pub fn is_free(&self, frame: Frame) -> bool {
        frame.0 < self.capacity && self.covered(frame, Order::BASE)
    }

    /// Checks every table against the others. Walks the whole pool: for tests and debug builds.
    pub fn validate(&self) -> Result<(), &'static str> {
        let mut counts = [0; Order::COUNT];
        for (pageblock, heap) in self.heaps.iter().enumerate() {
            let mut orders = 0;
            for unit in Order::all() {
                let units = self.validate_units(pageblock, heap, unit)?;
                counts[unit.index()] += units;
                orders |= OrderBits::from(units > 0) << unit.index();
            }
            if heap::orders(self.sets[pageblock]) != orders || self.index.orders_of(pageblock)? != orders {
                return Err("the orders of a pageblock are not those of its units");
            }
        }
        let free: u32 = Order::all().map(|o| counts[o.index()] * o.pages()).sum();
        let orders = Order::all().filter(|o| counts[o.index()] > 0).fold(0, |bits, o| bits | bit(o));
        if (counts, free, orders) != (self.counts, self.free, self.index.orders()) {
            return Err("the free units are not as counted");
        }
        Ok(())
    }

    /// Checks the free units of one order in one pageblock, and counts them.
    fn validate_units(&self, pageblock: usize, heap: &Heap, unit: Order) -> Result<u32, &'static str> {
        let mut units = 0;
        for node in heap::nodes(unit).filter(|&n| heap::is_set(heap, n)) {
            let frame = frame_at(pageblock, node, unit);
            if frame.0 + unit.pages() > self.capacity {
                return Err("a free unit lies beyond the pool");
            }
            if unit < Order::MAX && (heap::is_set(heap, node ^ 1) || self.covered(frame, unit.up())) {
                return Err("a free unit is not merged, or free twice");
            }
            units += 1;
        }
        Ok(units)
    }

    /// Takes the lowest free unit of order `unit` and splits it down to `want`; what is split off stays free.
    /// Returns the node of the lowest part.
    fn split(&mut self, pageblock: usize, unit: Order, want: Order) -> usize {
        let mut walk = Walk::new(&mut self.heaps[pageblock], &mut self.sets[pageblock]);
        let mut node = walk.lowest(unit);
        walk.clear(node, unit);
        self.counts[unit.index()] -= 1;
        let mut part = unit;
        while part > want {
            node *= 2;
            part = part.down();
            walk.set(node + 1, part);
            self.counts[part.index()] += 1;
        }
        self.index.toggle(pageblock, walk.finish());
        node
    }

    /// Whether `frame` lies in a free unit of at least this order.
    fn covered(&self, frame: Frame, order: Order) -> bool {
        let heap = &self.heaps[(frame.0 / PAGEBLOCK) as usize];
        let mut node = heap::node_of(frame.0 % PAGEBLOCK, order);
        while node > 0 && !heap::is_set(heap, node) {
            node /= 2;
        }
        node > 0
    }

    /// Whether any frame of the folio is free.
    fn overlaps_free(&self, frame: Frame, order: Order) -> bool {
        let some = heap::orders(self.sets[(frame.0 / PAGEBLOCK) as usize]) != 0;
        some && FrameRun::new(frame, order.pages()).iter().any(|f| self.is_free(f))
    }
}

impl fmt::Debug for Buddy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buddy({} of {} free, by order {:?})", self.free, self.capacity, self.counts)
    }
}

const fn bit(order: Order) -> OrderBits {
    1 << order.index()
}

/// The smallest order in `orders` that is at least `order`.
const fn smallest_from(orders: OrderBits, order: Order) -> Option<Order> {
    Order::new((orders >> order.index() << order.index()).trailing_zeros() as u8)
}

/// The first frame of a node of this order.
const fn frame_at(pageblock: usize, node: usize, order: Order) -> Frame {
    Frame(pageblock as u32 * PAGEBLOCK + heap::frame_of(node, order))
}
