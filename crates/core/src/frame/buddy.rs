//! Free frames, as a buddy system over orders 0..=9.
//!
//! A free unit is an aligned folio that is free as a whole and not part of a larger free one. The units of each order
//! are the bits of a [`Tier`]; so buddies are never both in one, and the bits depend only on which frames are free.
//! A bitmap above says which orders have any.
//!
//! All memory is reserved when the buddy is made: reclaim may call every verb here.

#[cfg(test)]
mod tests;
mod tier;

use crate::addr::{Frame, FrameRun};
use crate::order::{Order, OrderSet};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use tier::Tier;

/// A set of orders: bit `o` stands for order `o`.
type OrderBits = u16;

/// Which frames of a pool are free. Prefers the smallest unit that serves, then the lowest address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Buddy {
    capacity: u32,
    free: u32,
    /// The orders that have a free unit.
    orders: OrderBits,
    /// Free units by order.
    counts: [u32; Order::COUNT],
    /// Free units by order: number `n` begins at frame `n << order`.
    tiers: [Tier; Order::COUNT],
    /// The bits of the tiers.
    table: Vec<u64>,
}

impl Buddy {
    /// A buddy for frames 0..`capacity_frames`, none of them free yet. Nothing is allocated after this:
    /// a little over two bits a frame, zeroed, so that a lazy allocator backs only what is used.
    pub fn new(capacity_frames: u32) -> Buddy {
        let pageblocks = capacity_frames.div_ceil(Order::MAX.pages()) as usize;
        let mut end = 0;
        let tiers = core::array::from_fn(|order| {
            let tier = Tier::new(end, pageblocks << (Order::MAX.index() - order));
            end = tier.end();
            tier
        });
        Buddy {
            capacity: capacity_frames,
            free: 0,
            orders: 0,
            counts: [0; Order::COUNT],
            tiers,
            table: vec![0; end],
        }
    }

    /// Takes a folio of the largest order in `set` that can be served. `None` when no order of the set
    /// fits into any free unit.
    pub fn alloc(&mut self, set: OrderSet) -> Option<(Frame, Order)> {
        let want = set.and(OrderSet::up_to(self.largest()?)).largest()?;
        let mut order = smallest_from(self.orders, want)?;
        let mut unit = self.tiers[order.index()].lowest(&self.table)?;
        self.remove(unit, order);
        // Of each unit that is split, the upper half stays free.
        while order > want {
            order = order.down();
            unit *= 2;
            self.insert(unit + 1, order);
        }
        self.free -= want.pages();
        Some((Frame((unit as u32) << want.index()), want))
    }

    /// Takes this one frame. False when it is not free.
    pub fn alloc_at(&mut self, frame: Frame) -> bool {
        let free = |order: &Order| self.tiers[order.index()].contains(&self.table, unit_at(frame, *order));
        if frame.0 >= self.capacity {
            return false;
        }
        let Some(mut order) = Order::all().find(free) else { return false };
        self.remove(unit_at(frame, order), order);
        // Of each unit that is split, the half without it stays free.
        while order > Order::BASE {
            order = order.down();
            self.insert(unit_at(frame, order) ^ 1, order);
        }
        self.free -= 1;
        true
    }

    /// Gives a folio back and merges it with free buddies, up to the largest order.
    pub fn free(&mut self, frame: Frame, order: Order) {
        debug_assert!(frame.0.is_multiple_of(order.pages()), "free of {frame:?} {order:?}: not aligned");
        debug_assert!(
            frame.0 + order.pages() <= self.capacity,
            "free of {frame:?} {order:?}: beyond the pool"
        );
        debug_assert!(!self.overlaps_free(frame, order), "free of {frame:?} {order:?}: free already");
        self.free += order.pages();
        let mut order = order;
        let mut unit = unit_at(frame, order);
        while order < Order::MAX && self.tiers[order.index()].contains(&self.table, unit ^ 1) {
            self.remove(unit ^ 1, order);
            unit /= 2;
            order = order.up();
        }
        self.insert(unit, order);
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
        Order::new(self.orders.checked_ilog2()? as u8)
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
        let (mut free, mut orders) = (0, 0);
        for order in Order::all() {
            let tier = &self.tiers[order.index()];
            if !tier.is_consistent(&self.table) {
                return Err("the levels of a tier disagree");
            }
            let mut count = 0;
            for unit in tier.iter(&self.table) {
                self.validate_unit(unit, order)?;
                count += 1;
            }
            if count != self.counts[order.index()] {
                return Err("the free units are not as counted");
            }
            free += count * order.pages();
            orders |= OrderBits::from(count > 0) << order.index();
        }
        if (free, orders) != (self.free, self.orders) {
            return Err("the free frames or their orders are not as counted");
        }
        Ok(())
    }

    fn validate_unit(&self, unit: usize, order: Order) -> Result<(), &'static str> {
        let frame = Frame((unit as u32) << order.index());
        if frame.0 + order.pages() > self.capacity {
            return Err("a free unit lies beyond the pool");
        }
        let merged = order == Order::MAX
            || !self.tiers[order.index()].contains(&self.table, unit ^ 1) && !self.covered(frame, order.up());
        if merged { Ok(()) } else { Err("a free unit is not merged, or free twice") }
    }

    #[inline]
    fn insert(&mut self, unit: usize, order: Order) {
        self.tiers[order.index()].insert(&mut self.table, unit);
        self.counts[order.index()] += 1;
        self.orders |= 1 << order.index();
    }

    #[inline]
    fn remove(&mut self, unit: usize, order: Order) {
        self.tiers[order.index()].remove(&mut self.table, unit);
        self.counts[order.index()] -= 1;
        self.orders &= !(OrderBits::from(self.counts[order.index()] == 0) << order.index());
    }

    /// Whether `frame` lies in a free unit of at least this order.
    fn covered(&self, frame: Frame, order: Order) -> bool {
        Order::all()
            .skip(order.index())
            .any(|o| self.tiers[o.index()].contains(&self.table, unit_at(frame, o)))
    }

    /// Whether any frame of the folio is free.
    fn overlaps_free(&self, frame: Frame, order: Order) -> bool {
        FrameRun::new(frame, order.pages()).iter().any(|f| self.is_free(f))
    }
}

impl fmt::Debug for Buddy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buddy({} of {} free, by order {:?})", self.free, self.capacity, self.counts)
    }
}

/// The smallest order in `orders` that is at least `order`.
const fn smallest_from(orders: OrderBits, order: Order) -> Option<Order> {
    Order::new((orders >> order.index() << order.index()).trailing_zeros() as u8)
}

/// The number of the unit of this order that `frame` lies in.
const fn unit_at(frame: Frame, order: Order) -> usize {
    (frame.0 >> order.index()) as usize
}
