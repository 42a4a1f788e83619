//! What is where: the page tables of all spaces, the frames that pages are in, and who shares what. Every walk looks things up
//! here, and the walks change them; [`Engine::set_pte`](crate::Engine) is the way to write a page entry.

mod page;
mod shared;

pub(crate) use page::{COOLDOWN_PAGES, LEAF_PAGES, PageTable, Pte};
pub(crate) use shared::SharedPages;

use crate::addr::{Frame, PageRange, SHARED, Space, Vpn};
use crate::frame::{FrameState, FrameTable, List};
use crate::mmu::{Mover, Refusal};
use crate::order::Order;
use crate::store::Block;
use crate::trail::Trail;
use crate::vma::VmaMap;
use alloc::vec::Vec;

/// What is at a page, for a host's eyes and for tests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageState {
    /// Nothing yet: it reads as zeroes.
    Empty,
    /// A job brings its contents; `stored` ones, or zeroes.
    Filling {
        /// Whether there is a stored copy.
        stored: bool,
    },
    /// At the program's address.
    Mapped {
        /// Whether a stored copy is kept that may still be good.
        copy: bool,
    },
    /// In frames that several spaces share, read-only.
    Shared {
        /// Whether it is at this program's address; if not, a touch brings it there without a copy.
        mapped: bool,
        /// Whether a stored copy is kept that may still be good.
        copy: bool,
    },
    /// Moved out, frames intact.
    Standby {
        /// Whether the contents are stored too.
        copy: bool,
    },
    /// Moved out, frames intact, a job stores the contents.
    Writing,
    /// Only stored.
    Stored,
}

impl PageState {
    /// Whether it is at the program's address.
    pub const fn is_present(self) -> bool {
        matches!(self, PageState::Mapped { .. } | PageState::Shared { mapped: true, .. })
    }
}

/// Where the contents of a folio are that is to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// In its frames.
    Frames,
    /// Where the host has staged them; the frames are holes.
    Staged,
    /// Nowhere: they are zeroes. The frames are holes.
    Zeroes,
    /// In frames that others share, from this one on. Those of the folio itself are holes.
    Shared(Frame),
}

/// A page that is shared, as one space sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedPage {
    pub(crate) space: Space,
    pub(crate) vpn: Vpn,
    pub(crate) slot: Vpn,
    pub(crate) mapped: bool,
}

/// One address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressSpace {
    pub(crate) vmas: VmaMap,
    pub(crate) pages: PageTable,
}

/// The tables of one host.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) frames: FrameTable,
    pub(crate) spaces: Vec<AddressSpace>,
    /// Numbers of spaces that have ended.
    pub(crate) free_spaces: Vec<Space>,
    /// Who names the slots of shared pages.
    pub(crate) shared: SharedPages,
    /// Page entries that were written.
    pub(crate) trail: Trail<(Space, Vpn)>,
}

impl Tables {
    pub(crate) fn new() -> Tables {
        Tables {
            frames: FrameTable::new(),
            // The first one, and that of the slots.
            spaces: alloc::vec![AddressSpace::default(), AddressSpace::default()],
            free_spaces: Vec::new(),
            shared: SharedPages::new(),
            trail: Trail::new(),
        }
    }

    /// What is at a page.
    pub(crate) fn page_state(&self, space: Space, vpn: Vpn) -> PageState {
        let pte = self.pte(space, vpn);
        match pte.slot() {
            Some((slot, mapped)) => match self.state_of(self.pte(SHARED, slot)) {
                PageState::Shared { copy, .. } => PageState::Shared { mapped, copy },
                state => state,
            },
            None => self.state_of(pte),
        }
    }

    /// What an entry says; of one that names a slot, that it is empty.
    pub(crate) fn state_of(&self, pte: Pte) -> PageState {
        let copy = pte.block().is_some();
        let Some(frame) = pte.frame() else {
            return if copy { PageState::Stored } else { PageState::Empty };
        };
        match self.frames.get(self.frames.head_of(frame)).state {
            FrameState::Filling => PageState::Filling { stored: copy },
            FrameState::Mapped => PageState::Mapped { copy },
            FrameState::Shared => PageState::Shared { mapped: false, copy },
            FrameState::Writing => PageState::Writing,
            // A page entry never names a free frame or a zombie: `validate` holds that.
            FrameState::Standby | FrameState::Free | FrameState::Zombie => PageState::Standby { copy },
        }
    }

    /// The order of the folio that a page is part of, if it has frames.
    pub(crate) fn folio_order(&self, space: Space, vpn: Vpn) -> Option<Order> {
        self.place_of(space, vpn).frame().map(|frame| self.frames.get(frame).order)
    }

    /// Where a page's contents are: its entry, or that of the slot it shares.
    pub(crate) fn place_of(&self, space: Space, vpn: Vpn) -> Pte {
        let pte = self.pte(space, vpn);
        pte.slot().map_or(pte, |(slot, _)| self.pte(SHARED, slot))
    }

    /// Writes a page entry. The one before.
    pub(crate) fn replace(&mut self, space: Space, vpn: Vpn, pte: Pte) -> Pte {
        let pages = &mut self.space_mut(space).pages;
        let before = pages.get(vpn);
        pages.set(vpn, pte);
        self.trail.note((space, vpn));
        before
    }

    pub(crate) fn pte(&self, space: Space, vpn: Vpn) -> Pte {
        self.space(space).pages.get(vpn)
    }

    pub(crate) fn pages_of(&self, head: Frame) -> PageRange {
        let record = self.frames.get(head);
        PageRange::new(record.space, record.vpn, u64::from(record.order.pages()))
    }

    /// The VMAs of a space.
    pub(crate) fn vmas(&self, space: Space) -> &VmaMap {
        &self.space(space).vmas
    }

    /// Pages that are mapped and can be moved out.
    pub(crate) fn mapped_pages(&self) -> u32 {
        self.frames.pages_on(List::Active) + self.frames.pages_on(List::Inactive)
    }

    /// Folios on the lists that age: what reclaim has to look through.
    pub(crate) fn lru_folios(&self) -> u32 {
        self.frames.folios_on(List::Active) + self.frames.folios_on(List::Inactive)
    }

    /// The order of the folio at `head`.
    pub(crate) fn order_of(&self, head: Frame) -> Order {
        self.frames.get(head).order
    }

    /// The stored copy of a folio's first page.
    pub(crate) fn first_copy(&self, head: Frame) -> Option<Block> {
        let pages = self.pages_of(head);
        self.pte(pages.space, pages.start).placed()
    }

    pub(crate) fn require_mapped(&self, range: PageRange) -> Result<(), Refusal> {
        let covered = self.vmas(range.space).covers(range.start, range.end());
        if covered { Ok(()) } else { Err(Refusal::NoRange) }
    }

    pub(crate) fn next_used(&self, range: PageRange) -> Option<Vpn> {
        self.space(range.space).pages.next_used(range)
    }

    fn space(&self, space: Space) -> &AddressSpace {
        &self.spaces[usize::from(space.0)]
    }

    pub(crate) fn space_mut(&mut self, space: Space) -> &mut AddressSpace {
        &mut self.spaces[usize::from(space.0)]
    }

    /// Whether a space has locked any page of a shared folio.
    pub(crate) fn is_locked(&self, head: Frame) -> bool {
        if !self.spaces.iter().any(|space| space.vmas.iter().any(|vma| vma.locked)) {
            return false;
        }
        let slots = self.pages_of(head);
        let mut pages = (0..slots.pages).flat_map(|i| self.shared.of(slots.start.plus(i)));
        pages.any(|(space, vpn)| self.vmas(space).at(vpn).is_some_and(|vma| vma.locked))
    }

    /// Puts a shared folio where it belongs after a lock has changed, or somebody who had locked it is gone.
    pub(crate) fn relist_shared(&mut self, slot: Vpn) {
        let Some(frame) = self.pte(SHARED, slot).frame() else { return };
        let head = self.frames.head_of(frame);
        let record = *self.frames.get(head);
        if record.state != FrameState::Shared {
            return;
        }
        match (self.is_locked(head), record.list) {
            (false, List::None) => self.frames.enlist(head, List::Inactive),
            (true, List::Active | List::Inactive) => self.frames.delist(head),
            _ => {}
        }
    }

    /// Wakes who waits for a page, in whichever space.
    pub(crate) fn wake_all<M: Mover>(&self, mmu: &mut M, pages: PageRange) {
        if pages.space != SHARED {
            return mmu.wake(pages);
        }
        for slot in (0..pages.pages).map(|i| pages.start.plus(i)) {
            for (space, vpn) in self.shared.of(slot) {
                mmu.wake(PageRange::new(space, vpn, 1));
            }
        }
    }

    pub(crate) fn is_stored(&self, head: Frame) -> bool {
        let pages = self.pages_of(head);
        (0..pages.pages).all(|i| self.pte(pages.space, pages.start.plus(i)).block().is_some())
    }

    /// Notes that a fault at `vpn` was served with a folio of `order`, of fresh memory or of contents. All pages from
    /// `reached` up to it are mapped.
    pub(crate) fn note_in_history(
        &mut self,
        space: Space,
        vpn: Vpn,
        reached: Vpn,
        order: Order,
        fresh: bool,
    ) {
        if let Some(vma) = self.space_mut(space).vmas.at_mut(vpn) {
            vma.history.note(vpn, reached, Vpn(order.align_down(vpn.0)), order, fresh);
        }
    }

    /// Notes that so many pages of a folio larger than a page are used. What is shared tells nothing of one VMA.
    pub(crate) fn note_use(&mut self, pages: PageRange, used: u32) {
        if let Some(vma) = self.space_mut(pages.space).vmas.at_mut(pages.start) {
            vma.history.learn(used, pages.pages as u32 - used);
        }
    }
}
