//! Why folios are split, and into what.

use crate::order::Order;

/// Why a folio was split.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SplitWhy {
    /// What the program did to a part of its pages: unmap, discard, protect, lock, hint, write to what was shared.
    Edge,
    /// It lost its alignment when it was remapped.
    Remap,
    /// One page of it was needed again after it was moved out.
    Rescue,
    /// A part of it could not be moved out.
    Refused,
    /// A page of it had vanished.
    Gone,
    /// Few of its pages were touched.
    Sparse,
    /// Many of its pages were all zeroes.
    Zeroes,
}

impl SplitWhy {
    /// How many reasons there are.
    pub const COUNT: usize = 7;
    /// Every reason, in the order of [`SplitWhy::index`].
    pub const ALL: [SplitWhy; SplitWhy::COUNT] = [
        SplitWhy::Edge,
        SplitWhy::Remap,
        SplitWhy::Rescue,
        SplitWhy::Refused,
        SplitWhy::Gone,
        SplitWhy::Sparse,
        SplitWhy::Zeroes,
    ];

    /// A number for tables, below [`SplitWhy::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Into what a sparse folio is split.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SplitMode {
    /// Base pages.
    Base,
    /// Folios of this order.
    Uniform(Order),
    /// The largest pieces that are wholly used or wholly unused.
    Buddy,
}

impl SplitMode {
    /// Whether a piece of this order, of which `used` pages are used, has to be cut once more.
    pub(crate) fn cuts(self, order: Order, used: u32) -> bool {
        match self {
            SplitMode::Base => order > Order::BASE,
            SplitMode::Uniform(to) => order > to,
            SplitMode::Buddy => used > 0 && used < order.pages(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLIO: Order = Order::fitting(16);

    #[test]
    fn a_piece_is_cut_until_it_is_wholly_used_or_unused() {
        let cuts = |mode: SplitMode, used| mode.cuts(FOLIO, used);
        let buddy = [0, 1, 15, 16].map(|used| cuts(SplitMode::Buddy, used));
        assert_eq!(buddy, [false, true, true, false]);
        let uniform = |to| cuts(SplitMode::Uniform(to), 0);
        assert_eq!((uniform(FOLIO), uniform(FOLIO.down()), uniform(FOLIO.up())), (false, true, false));
        assert!(cuts(SplitMode::Base, 0) && !SplitMode::Base.cuts(Order::BASE, 1));
    }
}
