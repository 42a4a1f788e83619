//! Who names a frame, and how many spaces map it.

use crate::addr::{Frame, SHARED, Space, Vpn};
use crate::engine::Engine;
use crate::frame::FrameState;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// One page whose contents are in a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mapping {
    /// The address space.
    pub space: Space,
    /// The page.
    pub vpn: Vpn,
    /// Whether it is at the program's address. If not, a touch of it brings it there without a copy.
    pub mapped: bool,
}

impl Engine {
    /// Whether any page is shared since a fork, or was and has not been written since.
    pub fn shares(&self) -> bool {
        !self.tables.shared.is_empty()
    }

    /// Every page whose contents are in `frame`, in order of space and address. Empty for a frame not in use.
    pub fn rmap(&self, frame: Frame) -> Vec<Mapping> {
        if frame.0 >= self.tables.frames.len() {
            return Vec::new();
        }
        let record = *self.tables.frames.get(frame);
        let state = self.tables.frames.get(self.tables.frames.head_of(frame)).state;
        if matches!(state, FrameState::Free | FrameState::Zombie) {
            return Vec::new();
        }
        if record.space != SHARED {
            let mapped = state == FrameState::Mapped;
            return alloc::vec![Mapping { space: record.space, vpn: record.vpn, mapped }];
        }
        let pages = self.tables.shared.of(record.vpn);
        let mut mappings: Vec<Mapping> = pages.map(|(space, vpn)| self.mapping(space, vpn)).collect();
        mappings.sort();
        mappings
    }

    fn mapping(&self, space: Space, vpn: Vpn) -> Mapping {
        let mapped = self.tables.pte(space, vpn).slot().is_some_and(|(_, mapped)| mapped);
        Mapping { space, vpn, mapped }
    }

    /// How many spaces map any page of the folio that `frame` belongs to.
    pub fn mapcount(&self, frame: Frame) -> u32 {
        if frame.0 >= self.tables.frames.len() {
            return 0;
        }
        let folio = self.tables.frames.folio(self.tables.frames.head_of(frame));
        let mapped = folio.iter().flat_map(|f| self.rmap(f)).filter(|m| m.mapped);
        mapped.map(|m| m.space).collect::<BTreeSet<Space>>().len() as u32
    }
}
