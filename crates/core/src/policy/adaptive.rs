//! Small for isolated faults, doubling along sequential ones, small again under pressure.
//!
//! *What was swapped out* comes back along the ramp of its stream, or with the neighbours that it was used together with
//! (`fault/together.rs`), whichever is more.
//!
//! *Fresh memory* is wasted where it is not touched, so each folio has to be paid for by what is known to be used: by its
//! stream, which pays for an eighth of what it has come through without a gap, or by the allowance of the VMA
//! (`policy/history.rs`), which is 64 KiB and a sixteenth of what is known to be used there, less what must be taken to be unused.
//! Of what was given on trust, a quarter is taken to be unused until folios were looked at. So where nothing of it is used
//! and nobody looks, a quarter of what the program uses is wasted and 256 KiB for each VMA, beside an eighth of the streams
//! that just go on.
//!
//! * A stream ramps as far as the larger of the two reaches; what the VMA pays is at most 64 KiB.
//! * An isolated fault gets a page. While at least a quarter of all memory is free, the VMA pays for up to 64 KiB, but
//!   never more than half of what it has beyond the first 64 KiB, since streams have better prospects.
//! * Where most of what folios brought was found to be unused, it gets a page.
//!
//! *Under pressure* folios shrink: each takes at most a quarter of the pages that can be had at once, and 1/32 of all
//! frames, so that many small streams fit beside each other.

use super::{Choice, FaultContext, GRACE, Hint, OrderPolicy};
use crate::order::{Order, OrderSet};

/// See the text of the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Adaptive;

/// A folio takes at most this part of the pages that can be had at once ...
const ROOM_FRACTION: u32 = 4;
/// ... and of all frames there are.
const LIMIT_FRACTION: u32 = 32;
/// A stream pays for this part of what it has come through.
const LENGTH_FRACTION: u32 = 8;
/// A VMA pays for as much at the most: 64 KiB.
const MODEST: u32 = 16;
/// Memory is plentiful while this part of it is free: twice what reclaim works up to.
const PLENTY_FRACTION: u32 = 4;

impl OrderPolicy for Adaptive {
    fn choose(&self, context: &FaultContext) -> Choice {
        let wanted = match context.hint {
            Hint::Random | Hint::Base => Order::BASE,
            Hint::Huge if !context.stored => Order::MAX,
            Hint::Sequential => context.ramp.max(SEQUENTIAL_START),
            Hint::Normal if !context.stored => fresh(context),
            Hint::Normal | Hint::Huge => context.ramp.max(context.together),
        };
        let share = (context.room / ROOM_FRACTION).min(context.limit / LIMIT_FRACTION);
        let allowed = wanted.min(Order::fitting(u64::from(share)));
        Choice::of(wanted, OrderSet::up_to(allowed))
    }
}

/// The order for fresh memory about which the program said nothing.
fn fresh(context: &FaultContext) -> Order {
    if context.sparse {
        return Order::BASE;
    }
    let plentiful = context.room >= context.limit / PLENTY_FRACTION;
    let earned = context.allowance.saturating_sub(GRACE) / 2;
    // The page that faults needs nobody to pay for it.
    let start = if plentiful { (earned + 1).min(MODEST) } else { 1 };
    let most = (context.length / LENGTH_FRACTION).max(context.allowance.min(MODEST - 1)) + 1;
    context.ramp.min(Order::fitting(u64::from(most))).max(Order::fitting(u64::from(start)))
}

/// Where the ramp starts in a VMA that the program said it reads in order: 64 KiB.
const SEQUENTIAL_START: Order = Order::fitting(16);

#[cfg(test)]
mod tests {
    use super::super::tests::CONTEXT;
    use super::super::{Shortfall, shortfall};
    use super::*;

    fn largest(context: FaultContext) -> Option<Order> {
        Adaptive.choose(&context).set.largest()
    }

    #[test]
    fn adaptive_is_small_for_isolated_faults_and_follows_what_a_stream_has_come_through() {
        assert_eq!(largest(CONTEXT), Some(Order::BASE));
        let ramped = FaultContext { ramp: Order::MAX, ..CONTEXT };
        assert_eq!(largest(ramped), Some(SEQUENTIAL_START), "the VMA pays");
        assert_eq!(largest(FaultContext { allowance: 3, ..ramped }), Order::new(2));
        assert_eq!(largest(FaultContext { allowance: 0, ..ramped }), Some(Order::BASE));
        assert_eq!(largest(FaultContext { length: 512, ..ramped }), Order::new(6));
        assert_eq!(largest(FaultContext { length: 4096, ..ramped }), Some(Order::MAX));
        assert_eq!(largest(FaultContext { stored: true, ..ramped }), Some(Order::MAX));
    }

    #[test]
    fn trust_is_given_where_it_was_earned_and_memory_is_plentiful() {
        let trusted = FaultContext { allowance: GRACE + 100, ..CONTEXT };
        assert_eq!(largest(trusted), Order::new(4));
        assert_eq!(largest(FaultContext { allowance: GRACE + 6 + 6, ..CONTEXT }), Order::new(2));
        assert_eq!(
            largest(FaultContext { allowance: GRACE + 6, ..CONTEXT }),
            Order::new(2),
            "and the page itself"
        );
        assert_eq!(largest(FaultContext { room: CONTEXT.limit / 4 - 1, ..trusted }), Some(Order::BASE));
        let sparse = FaultContext { sparse: true, ramp: Order::MAX, length: 4096, ..trusted };
        assert_eq!(largest(sparse), Some(Order::BASE));
    }

    #[test]
    fn what_was_used_together_comes_back_together() {
        let stored = FaultContext { stored: true, together: SEQUENTIAL_START, ..CONTEXT };
        assert_eq!(largest(stored), Some(SEQUENTIAL_START));
        assert_eq!(largest(FaultContext { room: 8, ..stored }), Order::new(1));
        assert_eq!(largest(FaultContext { hint: Hint::Random, ..stored }), Some(Order::BASE));
    }

    #[test]
    fn adaptive_is_small_again_under_pressure_and_says_so() {
        let pressed = FaultContext { ramp: Order::MAX, length: 1 << 20, room: 9, ..CONTEXT };
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
