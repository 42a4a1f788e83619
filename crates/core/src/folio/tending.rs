//! When folios are split and collapsed, and how far the work of an epoch has come.

use super::split::SplitMode;
use super::touched::Touched;
use crate::addr::{PageRange, Space, Vpn};
use crate::order::Order;
use alloc::vec::Vec;

/// When folios are split and collapsed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shaping {
    /// Into what sparse folios are split.
    pub split: SplitMode,
    /// A folio is sparse when at most so many eighths of its pages are used.
    pub sparse: u32,
    /// A run of folios is dense when at least so many eighths of its pages are touched in `window` epochs. Well above
    /// `sparse`.
    pub dense: u32,
    /// Epochs in which touches are watched before anything is decided by them.
    pub window: u32,
    /// Epochs for which a range is not collapsed after it was split or needed again.
    pub cool: u32,
    /// The largest folios that small ones become; [`Order::BASE`]: none do.
    pub largest: Order,
}

impl Shaping {
    /// What an engine begins with. What is collapsed is no larger than what a rescue brings back as a whole.
    pub const DEFAULT: Shaping = Shaping {
        split: SplitMode::Buddy,
        sparse: 4,
        dense: 7,
        window: 2,
        cool: 4,
        largest: Order::fitting(16),
    };
}

/// Folios and runs of them that are watched at a time.
pub(crate) const WATCHED: usize = 64;

/// One folio, or a run that may become one, whose touches are being gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Watched {
    pub(crate) space: Space,
    pub(crate) start: Vpn,
    pub(crate) order: Order,
    pub(crate) touched: Touched,
    pub(crate) since: u32,
}

impl Watched {
    pub(crate) fn range(&self) -> PageRange {
        PageRange::new(self.space, self.start, u64::from(self.order.pages()))
    }
}

/// How far the work of this epoch has come.
#[derive(Clone, Debug)]
pub(crate) struct Tending {
    pub(crate) epoch: u32,
    pub(crate) watched: Vec<Watched>,
    /// Watched ones before this are done for this epoch.
    pub(crate) harvested: usize,
    /// Where the walk over all pages goes on; `None` when it is over for this epoch.
    pub(crate) cursor: Option<(Space, Vpn)>,
    pub(crate) compacted: bool,
}

impl Tending {
    pub(crate) fn new() -> Tending {
        let watched = Vec::with_capacity(WATCHED);
        Tending { epoch: 0, watched, harvested: 0, cursor: None, compacted: true }
    }

    pub(crate) fn begin(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.harvested = 0;
        self.cursor = Some(self.cursor.unwrap_or((Space(0), Vpn(0))));
        self.compacted = false;
    }

    /// A space has ended: what its pages did says nothing of those of the next one with its number.
    pub(crate) fn forget(&mut self, space: Space) {
        let stays = |watched: &&Watched| watched.space != space;
        self.harvested = self.watched[..self.harvested].iter().filter(stays).count();
        self.watched.retain(|watched| stays(&watched));
    }

    pub(crate) fn watches(&self, range: PageRange) -> bool {
        self.watched.iter().any(|w| w.range() == range)
    }
}
