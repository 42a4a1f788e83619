//! Folio orders, and sets of them.

use core::fmt;

/// A folio's order: it has `1 << order` base pages, 4 KiB (order 0) to 2 MiB (order 9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Order(u8);

impl Order {
    /// 4 KiB.
    pub const BASE: Order = Order(0);
    /// 2 MiB.
    pub const MAX: Order = Order(9);
    /// How many orders there are.
    pub const COUNT: usize = 10;

    /// The order with this number, if it is in 0..=9.
    pub const fn new(order: u8) -> Option<Order> {
        if order <= Order::MAX.0 { Some(Order(order)) } else { None }
    }

    /// The largest order whose folio has at most `pages` pages; base for 0.
    pub const fn fitting(pages: u64) -> Order {
        if pages == 0 {
            return Order::BASE;
        }
        let log = pages.ilog2() as u8;
        if log > Order::MAX.0 { Order::MAX } else { Order(log) }
    }

    /// The largest order that page or frame number `number` is aligned to.
    pub const fn alignment_of(number: u64) -> Order {
        let zeros = number.trailing_zeros() as u8;
        if zeros > Order::MAX.0 { Order::MAX } else { Order(zeros) }
    }

    /// Every order, from base up.
    pub fn all() -> impl DoubleEndedIterator<Item = Order> {
        (0..=Order::MAX.0).map(Order)
    }

    /// Base pages in a folio of this order.
    pub const fn pages(self) -> u32 {
        1 << self.0
    }

    /// Bytes in a folio of this order.
    pub const fn bytes(self) -> usize {
        crate::addr::PAGE_SIZE << self.0
    }

    /// The number, 0..=9, for tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The next order up, at most [`Order::MAX`].
    pub const fn up(self) -> Order {
        if self.0 >= Order::MAX.0 { Order::MAX } else { Order(self.0 + 1) }
    }

    /// The next order down, at least [`Order::BASE`].
    pub const fn down(self) -> Order {
        Order(self.0.saturating_sub(1))
    }

    /// `number` rounded down to a multiple of this order's pages.
    pub const fn align_down(self, number: u64) -> u64 {
        number >> self.0 << self.0
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "o{}", self.0)
    }
}

/// The size as people write it: `4K` .. `2M`.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.bytes() / 1024;
        if kib < 1024 { write!(f, "{kib}K") } else { write!(f, "{}M", kib / 1024) }
    }
}

/// A set of orders.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OrderSet(u16);

impl OrderSet {
    /// The set with nothing in it.
    pub const EMPTY: OrderSet = OrderSet(0);
    /// Every order.
    pub const ALL: OrderSet = OrderSet((1 << Order::COUNT) - 1);

    /// Just this order.
    pub const fn only(order: Order) -> OrderSet {
        OrderSet(1 << order.0)
    }

    /// Every order up to and with `order`.
    pub const fn up_to(order: Order) -> OrderSet {
        OrderSet((1 << (order.0 + 1)) - 1)
    }

    /// This set with `order` in it.
    pub const fn with(self, order: Order) -> OrderSet {
        OrderSet(self.0 | 1 << order.0)
    }

    /// This set without `order`.
    pub const fn without(self, order: Order) -> OrderSet {
        OrderSet(self.0 & !(1 << order.0))
    }

    /// The orders that are in both sets.
    pub const fn and(self, other: OrderSet) -> OrderSet {
        OrderSet(self.0 & other.0)
    }

    /// Whether `order` is in the set.
    pub const fn contains(self, order: Order) -> bool {
        self.0 & 1 << order.0 != 0
    }

    /// Whether the set has no order.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The largest order in the set.
    pub const fn largest(self) -> Option<Order> {
        if self.0 == 0 { None } else { Some(Order(self.0.ilog2() as u8)) }
    }

    /// The smallest order in the set that is at least `order`.
    pub const fn at_least(self, order: Order) -> Option<Order> {
        let rest = self.0 >> order.0 << order.0;
        if rest == 0 { None } else { Some(Order(rest.trailing_zeros() as u8)) }
    }

    /// The orders of the set, smallest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Order> {
        Order::all().filter(move |&o| self.contains(o))
    }
}

impl fmt::Debug for OrderSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn sizes_print_as_people_write_them() {
        assert_eq!(Order::BASE.to_string(), "4K");
        assert_eq!(Order::new(4).unwrap().to_string(), "64K");
        assert_eq!(Order::MAX.to_string(), "2M");
        assert_eq!(Order::new(10), None);
    }

    #[test]
    fn fitting_and_alignment_stop_at_the_largest_order() {
        assert_eq!(Order::fitting(0), Order::BASE);
        assert_eq!(Order::fitting(3).index(), 1);
        assert_eq!(Order::fitting(1 << 40), Order::MAX);
        assert_eq!(Order::alignment_of(0), Order::MAX);
        assert_eq!(Order::alignment_of(24).index(), 3);
    }

    #[test]
    fn sets_answer_largest_and_at_least() {
        let set = OrderSet::only(Order::BASE).with(Order::new(4).unwrap());
        assert_eq!(set.largest(), Order::new(4));
        assert_eq!(set.at_least(Order::new(1).unwrap()), Order::new(4));
        assert_eq!(set.at_least(Order::MAX), None);
        assert_eq!(OrderSet::EMPTY.largest(), None);
        assert_eq!(OrderSet::up_to(Order::MAX), OrderSet::ALL);
    }
}
