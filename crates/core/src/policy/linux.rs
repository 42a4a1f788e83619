//! What Linux does with its sizes, as of `alloc_anon_folio` and `alloc_swap_folio` in `mm/memory.c` of Linux 6.12 and
//! later.
//!
//! A fault on empty memory takes the largest enabled size whose aligned folio lies inside the VMA and is wholly empty,
//! and where no run of frames is free, each smaller enabled size in turn, down to a base page. There is no more to it:
//! neither how faults went before nor how much memory is left changes the chain. (A size counts as enabled by `always`
//! in `/sys/kernel/mm/transparent_hugepage/hugepages-*/enabled`, with `defrag` as it is by default: no size above base
//! waits for reclaim.)
//!
//! A page that was swapped out goes down the same chain where its swap device is synchronous, as zram is, if the whole
//! folio lies there; from any other device it comes back as a base page. Here the store in RAM is what zram is there,
//! and a spill file is another device. (The kernel also asks that the swap slots of the folio lie side by side; stored
//! pages have no such slots here, so more folios come back whole.)

use super::{Choice, FaultContext, Hint, OrderPolicy};
use crate::order::{Order, OrderSet};

/// The chain of the kernel, over a set of enabled orders.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Linux(pub OrderSet);

impl Linux {
    /// The smallest order that the kernel can enable for anonymous memory: 16 KiB.
    pub const LEAST: Order = Order::BASE.up().up();
}

impl OrderPolicy for Linux {
    fn choose(&self, context: &FaultContext) -> Choice {
        let none = context.hint == Hint::Base || context.stored && context.on_disk;
        let enabled = if none { OrderSet::EMPTY } else { self.0 };
        Choice::of(enabled.largest().unwrap_or(Order::BASE), enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CONTEXT, order};
    use super::*;

    const ENABLED: OrderSet = OrderSet::EMPTY.with(Linux::LEAST).with(Order::MAX);

    #[test]
    fn the_chain_is_what_is_enabled_and_base_whatever_went_before() {
        let with_base = ENABLED.with(Order::BASE);
        for (ramp, room) in [(0, 1 << 20), (7, 3), (0, 0)] {
            let context = FaultContext { ramp: order(ramp), room, ..CONTEXT };
            assert_eq!(Linux(ENABLED).choose(&context), Choice::of(Order::MAX, with_base));
        }
        let base = FaultContext { hint: Hint::Base, ..CONTEXT };
        assert_eq!(Linux(ENABLED).choose(&base).set, OrderSet::only(Order::BASE));
    }

    #[test]
    fn only_what_is_stored_in_ram_comes_back_larger_than_base() {
        let in_ram = FaultContext { stored: true, ..CONTEXT };
        assert_eq!(Linux(ENABLED).choose(&in_ram).wanted, Order::MAX);
        let on_disk = FaultContext { on_disk: true, ..in_ram };
        assert_eq!(Linux(ENABLED).choose(&on_disk), Choice::of(Order::BASE, OrderSet::EMPTY));
    }
}
