//! Which orders a fault may be served with. Each policy is a pure function of what is known at the fault: the program's hint,
//! and what the VMA has learned of its faults ([`History`]) and of what is used together ([`Odds`]).

mod adaptive;
mod fixed;
mod history;
mod huge_coalesce_base;
mod linux;
mod name;
mod odds;

pub use adaptive::Adaptive;
pub use fixed::Fixed;
pub(crate) use history::GRACE;
pub use history::History;
pub use huge_coalesce_base::HugeCoalesceBase;
pub use linux::Linux;
pub use name::UnknownPolicy;
pub use odds::Odds;
pub(crate) use odds::{MOST_TOGETHER, Trial, Trials};

use crate::addr::Vpn;
use crate::order::{Order, OrderSet};

/// What a program said about a range (`madvise(2)`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Hint {
    /// Nothing.
    #[default]
    Normal,
    /// Pages are used in order.
    Sequential,
    /// Pages are used in no order.
    Random,
    /// Large folios are welcome.
    Huge,
    /// Large folios are not welcome.
    Base,
}

/// What is known when a fault asks for an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FaultContext {
    /// The page was swapped out; otherwise it was never touched or has been discarded.
    pub stored: bool,
    /// What is stored has to be read from a disk.
    pub on_disk: bool,
    /// What the program said about the VMA.
    pub hint: Hint,
    /// How far down from the page all pages are mapped, as far as that is looked at.
    pub reached: Vpn,
    /// The order that the sequential faults here have ramped to; base for an isolated fault.
    pub ramp: Order,
    /// Pages that this sequence has come through without a gap; 0 for an isolated fault.
    pub length: u32,
    /// Pages that fresh memory of the VMA may be filled with on trust.
    pub allowance: u32,
    /// Most pages of the larger folios that the VMA got were found to be unused.
    pub sparse: bool,
    /// The largest run round a stored page whose pages left together; base for an empty page.
    pub left_together: Order,
    /// What of that is likely to be used together.
    pub together: Order,
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
    /// Where it comes to a base page: the order of the aligned runs of pages whose frames are to line up as the pages
    /// do, as far as such frames are free. `None`: any frame will do.
    pub in_line: Option<Order>,
}

impl Choice {
    /// `wanted` best, and whatever is in `set`, or a base page. Any frame will do.
    pub const fn of(wanted: Order, set: OrderSet) -> Choice {
        Choice { wanted, set: set.with(Order::BASE), in_line: None }
    }
}

/// A policy of orders.
pub trait OrderPolicy {
    /// The orders that a fault may be served with.
    fn choose(&self, context: &FaultContext) -> Choice;
}

/// The policies there are, as a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PolicyKind {
    /// [`Fixed`].
    Fixed(Order),
    /// [`Adaptive`], the default.
    Adaptive,
    /// [`Linux`].
    Linux(OrderSet),
    /// [`HugeCoalesceBase`].
    HugeCoalesceBase,
}

impl OrderPolicy for PolicyKind {
    fn choose(&self, context: &FaultContext) -> Choice {
        match *self {
            PolicyKind::Fixed(order) => Fixed(order).choose(context),
            PolicyKind::Adaptive => Adaptive.choose(context),
            PolicyKind::Linux(enabled) => Linux(enabled).choose(context),
            PolicyKind::HugeCoalesceBase => HugeCoalesceBase.choose(context),
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
pub(crate) fn shortfall(
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

    /// An isolated first touch, with memory to spare.
    pub(super) const CONTEXT: FaultContext = FaultContext {
        stored: false,
        on_disk: false,
        hint: Hint::Normal,
        reached: Vpn(0),
        ramp: Order::BASE,
        length: 0,
        allowance: GRACE,
        sparse: false,
        left_together: Order::BASE,
        together: Order::BASE,
        vma_fit: Order::MAX,
        room: 1 << 20,
        limit: 1 << 21,
    };

    pub(super) fn order(number: u8) -> Order {
        Order::new(number).unwrap()
    }
}
