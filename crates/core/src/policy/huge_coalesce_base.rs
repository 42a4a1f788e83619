//! The seed's proposal ("Flexible orders for anonymous folios", LSFMM 2023), in its three steps.
//!
//! 1. *Huge*: where the VMA has room for 2 MiB round the fault, all of it is empty and memory is not short, all of it.
//! 2. *Coalesce*: else a base page, in a frame that lines up with those of its neighbours as the pages do, so that a TLB
//!    which joins pages can join them, and a collapse finds them in place. The proposal names order 3 for AMD and order 4
//!    for Arm; runs of order 4 serve both.
//! 3. *Base*: where no such frame is free, a base page in any.
//!
//! Memory is short when less than the high watermark would be left: reclaim would have to work for the sake of a size
//! that nobody asked for. What was swapped out comes back by the second step, since there is nothing left to gain from
//! zeroing at once; what the program then uses densely is for a collapse to find.

use super::{Choice, FaultContext, Hint, OrderPolicy};
use crate::order::{Order, OrderSet};

/// See the text of the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HugeCoalesceBase;

/// The order of the runs in which base pages line up: 64 KiB.
const COALESCED: Order = Order::fitting(16);
/// This part of all frames is to be left: the high watermark of reclaim.
const LEFT_FRACTION: u32 = 8;

impl OrderPolicy for HugeCoalesceBase {
    fn choose(&self, context: &FaultContext) -> Choice {
        let huge = !context.stored && !matches!(context.hint, Hint::Base | Hint::Random);
        let left = context.room.saturating_sub(Order::MAX.pages());
        let short = left < context.limit / LEFT_FRACTION;
        let wanted = if huge { Order::MAX } else { Order::BASE };
        let accepted = if short { Order::BASE } else { wanted };
        Choice { in_line: Some(COALESCED), ..Choice::of(wanted, OrderSet::only(accepted)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::CONTEXT;
    use super::super::{Shortfall, shortfall};
    use super::*;

    fn largest(context: FaultContext) -> Option<Order> {
        HugeCoalesceBase.choose(&context).set.largest()
    }

    #[test]
    fn huge_comes_first_and_nothing_lies_between_it_and_base() {
        let choice = HugeCoalesceBase.choose(&CONTEXT);
        assert_eq!(choice.set, OrderSet::only(Order::MAX).with(Order::BASE));
        assert_eq!(choice.in_line, Some(COALESCED));
        for hint in [Hint::Base, Hint::Random] {
            assert_eq!(largest(FaultContext { hint, ..CONTEXT }), Some(Order::BASE));
        }
        assert_eq!(largest(FaultContext { stored: true, ..CONTEXT }), Some(Order::BASE));
    }

    #[test]
    fn when_memory_is_short_it_takes_base_pages_and_says_why() {
        let limit = CONTEXT.limit;
        let enough = FaultContext { room: limit / LEFT_FRACTION + Order::MAX.pages(), ..CONTEXT };
        assert_eq!(largest(enough), Some(Order::MAX));
        let short = FaultContext { room: enough.room - 1, ..CONTEXT };
        let choice = HugeCoalesceBase.choose(&short);
        assert_eq!(shortfall(&choice, &short, Order::MAX, Order::BASE), Some(Shortfall::Pressure));
    }
}
