//! How often what left memory together was used together, found out by trials.
//!
//! Nothing tells a host without accessed bits whether all of a run is used that came back together. So it is tried: where a
//! fault brings half of such a run, the other half stays stored, and is needed soon or not. Each VMA keeps the odds of that for
//! each order ([`Odds`]); `fault/together.rs` asks them, and begins the trials.

use crate::addr::{PageRange, Space, Vpn};
use crate::order::Order;

/// The largest run that comes back for having been used together: 64 KiB.
pub(crate) const MOST_TOGETHER: Order = Order::fitting(16);
/// Halves that stayed behind and are watched for.
const TRIALS: usize = 64;
/// Odds go this part of the way with each trial.
const STEP: u8 = 8;

/// How often both halves of a run that left together were needed, by the order of the run; in 256ths, the last trials count
/// most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Odds([u8; MOST_TOGETHER.index() + 1]);

impl Default for Odds {
    /// What left together is used together until tried.
    fn default() -> Odds {
        Odds([u8::MAX; MOST_TOGETHER.index() + 1])
    }
}

impl Odds {
    pub(crate) fn note(&mut self, order: Order, used: bool) {
        let Some(odds) = self.0.get_mut(order.index()) else { return };
        *odds = if used { *odds + (u8::MAX - *odds).div_ceil(STEP) } else { *odds - odds.div_ceil(STEP) };
    }

    /// The largest order up to `most` up to which runs are used more often than not.
    pub(crate) fn worth(&self, most: Order) -> Order {
        Order::all()
            .take_while(|&o| o <= most.min(MOST_TOGETHER) && self.0[o.index()] > u8::MAX / 2)
            .last()
            .unwrap_or(Order::BASE)
    }
}

/// A half of a run that stayed behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trial {
    pub(crate) half: PageRange,
    /// The order of the run.
    pub(crate) order: Order,
}

/// The halves that are watched for.
#[derive(Clone, Debug)]
pub(crate) struct Trials {
    ring: [Option<Trial>; TRIALS],
    next: usize,
}

impl Trials {
    pub(crate) const fn new() -> Trials {
        Trials { ring: [None; TRIALS], next: 0 }
    }

    /// The trial that a fault at a page decides.
    pub(crate) fn take(&mut self, space: Space, vpn: Vpn) -> Option<Trial> {
        let holds = |t: &Trial| t.half.space == space && t.half.contains(vpn);
        self.ring.iter_mut().find(|trial| trial.as_ref().is_some_and(holds)).and_then(Option::take)
    }

    /// Begins one. The oldest one ends for it, undecided until now.
    pub(crate) fn begin(&mut self, trial: Trial) -> Option<Trial> {
        let before = self.ring[self.next].replace(trial);
        self.next = (self.next + 1) % TRIALS;
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_follow_what_was_tried() {
        let (mut odds, pair) = (Odds::default(), Order::fitting(2));
        assert_eq!(odds.worth(Order::MAX), MOST_TOGETHER);
        let mut lost = 0;
        while odds.worth(MOST_TOGETHER) == MOST_TOGETHER {
            odds.note(pair, false);
            lost += 1;
        }
        assert_eq!(
            (lost, odds.worth(MOST_TOGETHER)),
            (6, Order::BASE),
            "what half of is not used is not worth it as a whole"
        );
        odds.note(pair, true);
        assert_eq!(odds.worth(Order::fitting(8)), Order::fitting(8));
        (0..100).for_each(|_| odds.note(pair, false));
        assert_eq!(odds.0[1], 0);
        (0..100).for_each(|_| odds.note(pair, true));
        assert_eq!(odds.0[1], u8::MAX);
        odds.note(MOST_TOGETHER.up(), false);
        assert_eq!(odds, Odds::default(), "a larger one is nobody's");
    }
}
