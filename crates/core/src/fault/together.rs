//! Which stored neighbours of a page were used together with it.
//!
//! Pages leave memory in the order in which they were last needed, and a stored page knows when it left. Neighbours that
//! left at about the same time were needed at about the same time, and will be again. Neighbours that left at times that
//! have nothing to do with each other are neighbours by address only: to bring them back would push out pages that are
//! needed as much.
//!
//! How close is close? If `out` pages are out, a neighbour that has nothing to do with the page left within `out / n` of
//! it by chance in 2 of `n` cases; several neighbours all do so much more seldom. So a pair has to lie closer together
//! than a larger run.
//!
//! What came back together leaves together, whether all of it was used or not. So a VMA gets runs of the orders of which all
//! is mostly used ([`Odds`]), and now and then half of one, so that the odds stay true.

use crate::addr::{PageRange, Space, Vpn};
use crate::engine::Engine;
use crate::order::Order;
use crate::policy::{MOST_TOGETHER, Odds, Trial};

/// The part of the pages that are out within which two neighbours left together: by chance, one pair in 16 does.
const PAIR_FRACTION: u32 = 32;
/// The same for more: by chance, one run of 4 in 20 does, and hardly any of 8.
const RUN_FRACTION: u32 = 4;
/// One in so many runs comes back by halves.
const TRIED: u32 = 8;

impl Engine {
    /// The largest aligned run round a stored page, up to `most`, whose pages are all stored and left together.
    pub(crate) fn left_together(&self, space: Space, vpn: Vpn, most: Order) -> Order {
        // Beyond what memory holds, even what is used in turn is gone before its turn.
        let out = self.ranks.only_stored().min(self.frame_limit());
        let (mut run, mut together) = (Order::BASE, Order::BASE);
        let Some(mut span) = self.left_at(space, vpn.0..vpn.0 + 1) else { return together };
        while run < most.min(MOST_TOGETHER) {
            let other = other_half(run.up(), vpn);
            let Some(half) = self.left_at(space, other.0..other.0 + u64::from(run.pages())) else { break };
            span = (span.0.min(half.0), span.1.max(half.1));
            run = run.up();
            let spread = span.1 - span.0;
            if spread > out / RUN_FRACTION {
                break;
            }
            let share = if run.pages() == 2 { PAIR_FRACTION } else { RUN_FRACTION };
            if spread <= out / share {
                together = run;
            }
        }
        together
    }

    /// What of a run that left together comes back: as much as is mostly used, now and then half of that.
    pub(crate) fn worth_together(&self, odds: &Odds, vpn: Vpn, left: Order) -> Order {
        let worth = odds.worth(left);
        if worth > Order::BASE && is_tried(self.ranks.now(), vpn, worth) { worth.down() } else { worth }
    }

    /// Notes that a fault at a stored page brings a folio of `order`, where a run of order `left` had left together. Its
    /// half may be what another fault left behind, and the other half may now stay behind.
    pub(crate) fn note_halves(&mut self, space: Space, vpn: Vpn, order: Order, left: Order) {
        if let Some(trial) = self.trials.take(space, vpn) {
            self.decide_trial(&trial, true);
        }
        if order < left {
            let pages = u64::from(order.pages());
            let half = PageRange::new(space, other_half(order.up(), vpn), pages);
            if let Some(before) = self.trials.begin(Trial { half, order: order.up() }) {
                self.decide_trial(&before, false);
            }
        }
    }

    fn decide_trial(&mut self, trial: &Trial, used: bool) {
        let space = trial.half.space;
        // Its space may have ended meanwhile.
        let vmas = self.tables.spaces.get_mut(usize::from(space.0)).map(|s| &mut s.vmas);
        if let Some(vma) = vmas.and_then(|vmas| vmas.at_mut(trial.half.start)) {
            vma.history.odds.note(trial.order, used);
        }
    }

    /// How long ago the first and the last of these pages left, in pages moved out since; `None` unless all are stored.
    fn left_at(&self, space: Space, pages: core::ops::Range<u64>) -> Option<(u32, u32)> {
        let mut span = (u32::MAX, 0);
        for vpn in pages {
            let distance = self.ranks.distance(self.tables.pte(space, Vpn(vpn)).evicted_at()?);
            span = (span.0.min(distance), span.1.max(distance));
        }
        Some(span)
    }
}

/// The first page of that half of the aligned run round a page which the page is not in.
pub(super) fn other_half(run: Order, vpn: Vpn) -> Vpn {
    let (start, inner) = (run.align_down(vpn.0), run.down().align_down(vpn.0));
    Vpn(if inner == start { start + u64::from(run.down().pages()) } else { start })
}

/// Whether a run of this order comes back by halves, at this moment and place.
fn is_tried(clock: u32, vpn: Vpn, order: Order) -> bool {
    // A number that looks random, so that no rhythm of the program falls in with it.
    let place = order.align_down(vpn.0) as u32;
    let mixed = (clock ^ place.rotate_left(16)).wrapping_mul(0x9e37_79b1);
    (mixed >> 16).is_multiple_of(TRIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_in_eight_is_tried() {
        let tried = (0..8000).filter(|&i| is_tried(i / 16, Vpn(u64::from(i) * 16), MOST_TOGETHER)).count();
        assert!((900..1100).contains(&tried), "{tried}");
    }

    #[test]
    fn a_half_is_beside_the_page() {
        let half = |order, vpn| other_half(Order::new(order).unwrap(), Vpn(vpn)).0;
        assert_eq!([half(1, 6), half(1, 7), half(2, 6), half(2, 5), half(4, 17)], [7, 6, 4, 6, 24]);
    }
}
