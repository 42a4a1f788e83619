//! Which orders a fault may be served with. Each policy is a pure function of what is known at the fault.

use crate::order::{Order, OrderSet};
use crate::vma::Hint;

/// What is known when a fault asks for an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FaultContext {
    /// The page was swapped out; otherwise it was never touched or has been discarded.
    pub stored: bool,
    /// What the program said about the VMA.
    pub hint: Hint,
    /// The order that the sequential faults here have ramped to; base for an isolated fault.
    pub ramp: Order,
    /// The largest aligned folio round the page that the VMA has room for.
    pub vma_fit: Order,
    /// Pages that can be had without moving anything out.
    pub room: u32,
    /// Pages of frames that the grant allows in all.
    pub limit: u32,
}

/// What a policy answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Choice {
    /// The order it would like best.
    pub wanted: Order,
    /// The orders it accepts under the pressure there is; [`Order::BASE`] is always among them.
    pub set: OrderSet,
}

/// A policy of orders.
pub trait OrderPolicy {
    /// The orders that a fault may be served with.
    fn choose(&self, context: &FaultContext) -> Choice;
}

/// One preferred size, or else a base page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fixed(pub Order);

impl OrderPolicy for Fixed {
    fn choose(&self, _: &FaultContext) -> Choice {
        Choice { wanted: self.0, set: OrderSet::only(self.0).with(Order::BASE) }
    }
}

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
            Hint::Normal | Hint::Huge => context.ramp,
        };
        let share = (context.room / ROOM_SHARE).min(context.limit / LIMIT_SHARE);
        let fresh = context.limit.saturating_sub(context.room) / USE_SHARE;
        let share = match context.hint {
            Hint::Normal if !context.stored => share.min(fresh.max(LEAST_SHARE)),
            _ => share,
        };
        let allowed = wanted.min(Order::fitting(u64::from(share)));
        Choice { wanted, set: OrderSet::up_to(allowed) }
    }
}

/// Where the ramp starts in a VMA that the program said it reads in order: 64 KiB.
const SEQUENTIAL_START: Order = match Order::new(4) {
    Some(order) => order,
    None => Order::BASE,
};

/// The policies there are, as a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PolicyKind {
    /// [`Fixed`].
    Fixed(Order),
    /// [`Adaptive`], the default.
    Adaptive,
}

impl OrderPolicy for PolicyKind {
    fn choose(&self, context: &FaultContext) -> Choice {
        match *self {
            PolicyKind::Fixed(order) => Fixed(order).choose(context),
            PolicyKind::Adaptive => Adaptive.choose(context),
        }
    }
}

/// Why a fault got a smaller order than its policy wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shortfall {
    /// The VMA ends inside the folio.
    VmaEdge,
    /// A page of the folio is already resident, or stored where the others are empty, or would need another read of the
    /// disk.
    Neighbour,
    /// Few frames are left: the policy held back.
    Pressure,
    /// No free run of frames was long enough.
    NoRun,
}

impl Shortfall {
    /// How many reasons there are.
    pub const COUNT: usize = 4;
    /// Every reason, in the order of [`Shortfall::index`].
    pub const ALL: [Shortfall; Shortfall::COUNT] =
        [Shortfall::VmaEdge, Shortfall::Neighbour, Shortfall::Pressure, Shortfall::NoRun];

    /// A number for tables.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The first reason that explains why `got` is less than `choice.wanted`, if it is. `run`: the largest aligned folio
/// round the page, up to the wanted one, whose pages can come with it.
pub(super) fn shortfall(
    choice: &Choice,
    context: &FaultContext,
    run: Order,
    got: Order,
) -> Option<Shortfall> {
    if got >= choice.wanted {
        None
    } else if context.vma_fit < choice.wanted {
        Some(Shortfall::VmaEdge)
    } else if run < choice.wanted {
        Some(Shortfall::Neighbour)
    } else if choice.set.largest() < Some(choice.wanted) {
        Some(Shortfall::Pressure)
    } else {
        Some(Shortfall::NoRun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: FaultContext = FaultContext {
        stored: false,
        hint: Hint::Normal,
        ramp: Order::BASE,
        vma_fit: Order::MAX,
        room: 1 << 20,
        limit: 1 << 21,
    };

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

    #[test]
    fn fixed_takes_its_size_or_base() {
        let choice = Fixed(Order::MAX).choose(&CONTEXT);
        assert_eq!(choice.set, OrderSet::only(Order::BASE).with(Order::MAX));
        let edge = FaultContext { vma_fit: Order::BASE, ..CONTEXT };
        assert_eq!(shortfall(&choice, &edge, Order::MAX, Order::BASE), Some(Shortfall::VmaEdge));
    }
}
