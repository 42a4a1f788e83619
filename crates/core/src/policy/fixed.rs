use super::{Choice, FaultContext, OrderPolicy};
use crate::order::{Order, OrderSet};

/// One preferred size, or else a base page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fixed(pub Order);

impl OrderPolicy for Fixed {
    fn choose(&self, _: &FaultContext) -> Choice {
        Choice::of(self.0, OrderSet::only(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CONTEXT, order};
    use super::super::{Shortfall, shortfall};
    use super::*;

    #[test]
    fn it_takes_its_size_or_base() {
        let choice = Fixed(Order::MAX).choose(&CONTEXT);
        assert_eq!(choice.set, OrderSet::only(Order::BASE).with(Order::MAX));
        let edge = FaultContext { vma_fit: order(0), ..CONTEXT };
        assert_eq!(shortfall(&choice, &edge, Order::MAX, Order::BASE), Some(Shortfall::VmaEdge));
    }
}
