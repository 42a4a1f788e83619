//! Which folios are on which list.
//!
//! | state | list |
//! |---|---|
//! | filling, writing, zombie, free | none |
//! | mapped, in a VMA whose rights or lock keep it | none |
//! | mapped, else | active or inactive; none only if the host has refused to move it out for good, or no store took it |
//! | shared, locked by whoever names it | none |
//! | shared, else | active or inactive; none only if no store took it |
//! | standby, with a stored copy of each page | clean, or dirty where that may be an old one |
//! | standby, else | dirty |
//!
//! Links are those of a folio's first frame. What was refused or not stored is the host's to know: the simulated one keeps
//! count of it, and holds the engine to the word "only".

use super::{Check, ensure};
use crate::addr::Frame;
use crate::addr::SHARED;
use crate::engine::Engine;
use crate::frame::{FrameState, List, NIL};
use alloc::format;

impl Engine {
    /// The folio at `head`, which is in use, is on a list where it belongs.
    pub(super) fn check_place(&self, head: Frame) -> Check {
        let record = self.tables.frames.get(head);
        let ages = matches!(record.list, List::Active | List::Inactive);
        let waits = matches!(record.list, List::Dirty | List::Clean);
        let fits = match record.state {
            FrameState::Mapped => !waits && (!ages || self.leaves(head)),
            FrameState::Shared => !waits && (!ages || !self.tables.is_locked(head)),
            FrameState::Standby => waits,
            FrameState::Filling | FrameState::Writing | FrameState::Zombie | FrameState::Free => {
                record.list == List::None
            }
        };
        ensure(fits, || format!("{head:?} does not belong on list {:?}: {record:?}", record.list))
    }

    fn leaves(&self, head: Frame) -> bool {
        let pages = self.tables.pages_of(head);
        pages.space != SHARED
            && self.tables.vmas(pages.space).at(pages.start).is_some_and(|vma| vma.evictable())
    }

    /// A frame that is no folio's first is on no list.
    pub(super) fn check_unlisted(&self, frame: Frame) -> Check {
        let record = self.tables.frames.get(frame);
        let head = self.tables.frames.head_of(frame) == frame && record.state != FrameState::Free;
        let bare = (record.list, record.prev, record.next) == (List::None, NIL, NIL);
        ensure(head || bare, || format!("{frame:?} is on a list: {record:?}"))
    }
}
