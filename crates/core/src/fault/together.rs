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
//! What came back together leaves together, whether all of it was used or not: nothing tells a host without accessed bits.
//! So a run that left at one moment is brought back by halves now and then. If both halves are used, the other one comes
//! back soon after it, and they will leave at about the same time again; if not, they have come apart.

use crate::addr::{Space, Vpn};
use crate::engine::Engine;
use crate::order::Order;

/// The part of the pages that are out within which two neighbours left together: by chance, one pair in 16 does.
const PAIR_SHARE: u32 = 32;
/// The same for more: by chance, one run of 4 in 20 does, and hardly any of 8.
const RUN_SHARE: u32 = 4;
/// One in so many runs that left at one moment comes back by halves.
const HALVED: u32 = 4;

impl Engine {
    /// The largest aligned run round a stored page, up to `most`, whose pages are all stored and were used together.
    pub(crate) fn used_together(&self, space: Space, vpn: Vpn, most: Order) -> Order {
        // Beyond what memory holds, even what is used in turn is gone before its turn.
        let out = self.ranks.out().min(self.frame_limit());
        let (mut run, mut together, mut at_once) = (Order::BASE, Order::BASE, false);
        let Some(mut span) = self.left_at(space, vpn.0..vpn.0 + 1) else { return together };
        while run < most {
            let start = run.up().align_down(vpn.0);
            let inner = run.align_down(vpn.0);
            let other = if inner == start { start + u64::from(run.pages()) } else { start };
            let Some(half) = self.left_at(space, other..other + u64::from(run.pages())) else { break };
            span = (span.0.min(half.0), span.1.max(half.1));
            run = run.up();
            let spread = span.1 - span.0;
            if spread > out / RUN_SHARE {
                break;
            }
            let share = if run.pages() == 2 { PAIR_SHARE } else { RUN_SHARE };
            if spread <= out / share {
                together = run;
                at_once = spread == 0;
            }
        }
        if at_once && is_halved(self.eviction_clock.wrapping_sub(span.0), together) {
            together.down()
        } else {
            together
        }
    }

    /// How long ago the first and the last of these pages left, in pages moved out since; `None` unless all are stored.
    fn left_at(&self, space: Space, pages: core::ops::Range<u64>) -> Option<(u32, u32)> {
        let mut span = (u32::MAX, 0);
        for vpn in pages {
            let distance = self.refault_distance(self.pte(space, Vpn(vpn)).only_stored()?);
            span = (span.0.min(distance), span.1.max(distance));
        }
        Some(span)
    }
}

/// Whether a run of this order that left at this moment is one of those that are tried by halves. Its other half, which
/// left then too, need not be.
fn is_halved(left: u32, order: Order) -> bool {
    // A number that looks random, so that no rhythm of the program falls in with it.
    let mixed = left.wrapping_add((order.pages() << 16) | order.pages());
    mixed.wrapping_mul(0x9e37_79b1) >> 16 & (HALVED - 1) == 0
}
