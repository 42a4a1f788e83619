use super::{Choice, FaultContext, OrderPolicy};
use crate::order::{Order, OrderSet};
use crate::vma::Hint;

/// Small for isolated faults, doubling along sequential ones, small again under pressure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Adaptive;

/// A folio takes at most this part of the pages that can be had at once ...
const ROOM_SHARE: u32 = 4;
/// ... and of all frames there are: many small streams must fit beside each other.
const LIMIT_SHARE: u32 = 32;
/// A folio of fresh memory is at most this part of what is in use, or 64 KiB: what a stream does not come to touch is
/// waste, and a program has many streams.
const USE_SHARE: u32 = 1024;
const LEAST_SHARE: u32 = 16;

impl OrderPolicy for Adaptive {
    fn choose(&self, context: &FaultContext) -> Choice {
        let wanted = match context.hint {
            Hint::Random | Hint::Base => Order::BASE,
            Hint::Huge if !context.stored => Order::MAX,
            Hint::Sequential => context.ramp.max(SEQUENTIAL_START),
            Hint::Normal | Hint::Huge => context.ramp.max(context.together),
        };
        let share = (context.room / ROOM_SHARE).min(context.limit / LIMIT_SHARE);
        let fresh = context.limit.saturating_sub(context.room) / USE_SHARE;
        let share = match context.hint {
            Hint::Normal if !context.stored => share.min(fresh.max(LEAST_SHARE)),
            _ => share,
        };
        let allowed = wanted.min(Order::fitting(u64::from(share)));
        Choice::of(wanted, OrderSet::up_to(allowed))
    }
}

/// Where the ramp starts in a VMA that the program said it reads in order: 64 KiB.
const SEQUENTIAL_START: Order = Order::fitting(16);

#[cfg(test)]
mod tests {
    use super::super::tests::CONTEXT;
    use super::super::{Shortfall, shortfall};
    use super::*;

    #[test]
    fn adaptive_is_small_for_isolated_faults_and_follows_the_ramp() {
        assert_eq!(Adaptive.choose(&CONTEXT).set.largest(), Some(Order::BASE));
        let ramped = FaultContext { ramp: Order::MAX, ..CONTEXT };
        assert_eq!(Adaptive.choose(&ramped).set.largest(), Some(Order::MAX));
    }

    #[test]
    fn adaptive_is_small_again_under_pressure_and_says_so() {
        let pressed = FaultContext { ramp: Order::MAX, room: 9, ..CONTEXT };
        let choice = Adaptive.choose(&pressed);
        assert_eq!(choice.set.largest(), Order::new(1));
        assert_eq!(shortfall(&choice, &pressed, Order::MAX, Order::BASE.up()), Some(Shortfall::Pressure));
    }

    #[test]
    fn hints_count() {
        let huge = FaultContext { hint: Hint::Huge, ..CONTEXT };
        assert_eq!(Adaptive.choose(&huge).wanted, Order::MAX);
        let random = FaultContext { hint: Hint::Random, ramp: Order::MAX, ..CONTEXT };
        assert_eq!(Adaptive.choose(&random).wanted, Order::BASE);
    }
}
