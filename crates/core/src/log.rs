//! The event log: what the engine decided lately, and why.
//!
//! A ring of fixed size that a host sets up ([`Engine::set_log`](crate::Engine)) and reads. Off to begin with: a
//! decision then costs one comparison more. What is noted never decides anything.

use crate::addr::{Frame, Space, Vpn};
use crate::folio::SplitWhy;
use crate::mmu::Refusal;
use crate::order::Order;
use crate::policy::Shortfall;
use alloc::vec::Vec;
use core::fmt;

/// One decision.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// A fault was given a folio.
    Fault {
        /// The folio's space.
        space: Space,
        /// The page that was touched.
        vpn: Vpn,
        /// Whether its contents are stored.
        stored: bool,
        /// The order that the policy wanted.
        wanted: Order,
        /// The order that it got.
        got: Order,
        /// Why it is less, if it is.
        why: Option<Shortfall>,
    },
    /// A fault found no frame at all.
    NoFrame {
        /// The space.
        space: Space,
        /// The page that was touched.
        vpn: Vpn,
    },
    /// A folio that was moved out went back.
    Rescue {
        /// The space.
        space: Space,
        /// The folio's first page; of a shared one, the page that was touched.
        vpn: Vpn,
        /// Its order.
        order: Order,
    },
    /// A write was given a folio of its own in place of what others share.
    Copy {
        /// The space.
        space: Space,
        /// The folio's first page.
        vpn: Vpn,
        /// Its order.
        order: Order,
    },
    /// A folio was moved out, whole or in part.
    Evict {
        /// The space.
        space: Space,
        /// The folio's first page.
        vpn: Vpn,
        /// Its order.
        order: Order,
        /// Pages that left.
        moved: u32,
    },
    /// A verb of the host refused.
    Refused(Refusal),
    /// A folio was split.
    Split {
        /// The space.
        space: Space,
        /// The folio's first page.
        vpn: Vpn,
        /// Its order before.
        order: Order,
        /// Why.
        why: SplitWhy,
    },
    /// Small folios became one.
    Collapse {
        /// The space.
        space: Space,
        /// The new folio's first page.
        vpn: Vpn,
        /// Its order.
        order: Order,
    },
    /// Small folios could not become one: no free run of frames is long enough.
    NoRun {
        /// The space.
        space: Space,
        /// The first page of what was to be a folio.
        vpn: Vpn,
        /// Its order.
        order: Order,
    },
    /// A folio was found sparse, and split for it.
    Sparse {
        /// The space.
        space: Space,
        /// The folio's first page.
        vpn: Vpn,
        /// Its order before.
        order: Order,
        /// Pages of it that were given back.
        given: u32,
    },
    /// A page had vanished or appeared behind the engine's back.
    Foreign {
        /// The space.
        space: Space,
        /// The page.
        vpn: Vpn,
    },
    /// A run of frames was vacated.
    Compact {
        /// The first frame of the run.
        frame: Frame,
        /// The order of the run.
        order: Order,
        /// Pages that have other frames now.
        pages: u32,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Decision::Fault { space, vpn, stored, wanted, got, why } => {
                let from = if stored { "stored" } else { "empty" };
                write!(f, "fault     {space:?} {vpn:?} {from}, wanted {wanted}, got {got}")?;
                why.map_or(Ok(()), |why| write!(f, ": {why:?}"))
            }
            Decision::NoFrame { space, vpn } => write!(f, "no frame  {space:?} {vpn:?}"),
            Decision::Rescue { space, vpn, order } => write!(f, "rescue    {space:?} {vpn:?} {order}"),
            Decision::Copy { space, vpn, order } => write!(f, "copy      {space:?} {vpn:?} {order}"),
            Decision::Evict { space, vpn, order, moved } => {
                write!(f, "evict     {space:?} {vpn:?} {order}, {moved} pages out")
            }
            Decision::Refused(refusal) => write!(f, "refused   {refusal:?}"),
            Decision::Split { space, vpn, order, why } => {
                write!(f, "split     {space:?} {vpn:?} {order}: {why:?}")
            }
            Decision::Collapse { space, vpn, order } => write!(f, "collapse  {space:?} {vpn:?} {order}"),
            Decision::NoRun { space, vpn, order } => write!(f, "no run    {space:?} {vpn:?} {order}"),
            Decision::Sparse { space, vpn, order, given } => {
                write!(f, "sparse    {space:?} {vpn:?} {order}, {given} pages given back")
            }
            Decision::Foreign { space, vpn } => write!(f, "foreign   {space:?} {vpn:?}"),
            Decision::Compact { frame, order, pages } => {
                write!(f, "compact   {frame:?} {order}, {pages} pages elsewhere")
            }
        }
    }
}

/// The last decisions. Its memory is taken when its size is set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    ring: Vec<Decision>,
    size: usize,
    /// Decisions noted since the size was set.
    noted: u64,
}

impl Log {
    /// An empty one with room for the last `size` decisions.
    pub(crate) fn new(size: usize) -> Log {
        Log { ring: Vec::with_capacity(size), size, noted: 0 }
    }

    /// Those decisions it still has whose number is `from` or greater, oldest first.
    pub(crate) fn from(&self, from: u64) -> impl Iterator<Item = (u64, &Decision)> {
        let Log { ring, noted, .. } = self;
        let first = from.max(noted - ring.len() as u64);
        (first..*noted).map(|number| (number, &ring[(number % self.size as u64) as usize]))
    }

    pub(crate) fn note(&mut self, decision: Decision) {
        if self.size == 0 {
            return;
        }
        if self.ring.len() < self.size {
            self.ring.push(decision);
        } else {
            self.ring[(self.noted % self.size as u64) as usize] = decision;
        }
        self.noted += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Engine, PolicyKind};

    fn engine() -> Engine {
        Engine::new(Config { frames: 4, grant: 4, policy: PolicyKind::Adaptive })
    }

    #[test]
    fn nothing_is_kept_unless_asked_for() {
        let mut engine = engine();
        engine.refused(Refusal::Busy);
        assert_eq!(engine.log().count(), 0);
        assert_eq!(engine.stats().refusals[Refusal::Busy.index()], 1);
    }

    #[test]
    fn the_last_ones_are_kept_in_their_order() {
        let mut engine = engine();
        engine.set_log(3);
        for refusal in [Refusal::Busy, Refusal::Denied, Refusal::Exists, Refusal::Absent, Refusal::Again] {
            engine.refused(refusal);
        }
        let kept: Vec<_> = engine.log().map(|(number, decision)| (number, *decision)).collect();
        let expected = [(2, Refusal::Exists), (3, Refusal::Absent), (4, Refusal::Again)];
        assert_eq!(kept, expected.map(|(number, refusal)| (number, Decision::Refused(refusal))));
        assert_eq!(engine.log_from(4).map(|(number, _)| number).collect::<Vec<_>>(), [4]);
        assert_eq!(engine.log_from(5).count(), 0);
    }
}
