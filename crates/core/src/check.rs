//! The invariants that hold across all tables: checked by walking them whole, or after each verb by looking at what
//! it has changed ([`Audit`]).

mod audit;
mod place;

pub use audit::Audit;

use crate::addr::{Frame, SHARED, Space, Vpn};
use crate::engine::Engine;
use crate::frame::{FrameState, List};
use crate::store::{Block, Store};
use crate::tables::{PageState, Pte};
use crate::tickets::{index_of, pin_of};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

type Check = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

const LISTS: [List; 4] = [List::Active, List::Inactive, List::Dirty, List::Clean];

impl Engine {
    /// Walks every table and compares it with the others. The error says what does not fit.
    /// Costs time in proportion to all that is held: for tests, and for builds that check themselves.
    pub fn validate(&self, store: &Store) -> Check {
        let named = self.check_entries()?;
        store.validate(&self.names())?;
        self.check_frames(&named)?;
        self.check_lists()?;
        self.check_flights()?;
        self.check_pool()?;
        self.check_reserve(store)
    }

    /// How many page entries name each block.
    pub(crate) fn names(&self) -> BTreeMap<Block, u32> {
        let mut names = BTreeMap::new();
        for space in &self.tables.spaces {
            for block in space.pages.iter().filter_map(|(_, pte)| pte.placed()) {
                *names.entry(block).or_insert(0) += 1;
            }
        }
        names
    }

    /// Every page entry names a frame that says the same, inside a VMA.
    fn check_entries(&self) -> Result<BTreeSet<u32>, String> {
        let mut frames = BTreeSet::new();
        let mut out = 0;
        for (number, space) in self.tables.spaces.iter().enumerate() {
            for (vpn, pte) in space.pages.iter() {
                out += u32::from(pte.only_stored().is_some());
                let number = Space(number as u16);
                self.check_entry(number, vpn, pte)?;
                if let Some(frame) = pte.frame() {
                    ensure(frames.insert(frame.0), || format!("{frame:?} is named twice"))?;
                }
            }
        }
        ensure(out == self.ranks.only_stored(), || {
            format!("{out} pages out, counted {}", self.ranks.only_stored())
        })?;
        self.check_slots()?;
        Ok(frames)
    }

    /// Slots are taken when pages name them, each page that names one is in its chain, and nobody else is. Chains of
    /// different slots do not share a link, since together they have as many as there are such pages.
    fn check_slots(&self) -> Check {
        let mut named = BTreeSet::new();
        let mut names = 0;
        for (number, space) in self.tables.spaces.iter().enumerate() {
            for (vpn, pte) in space.pages.iter() {
                let Some((slot, mapped)) = pte.slot() else { continue };
                names += 1;
                named.insert(slot);
                self.check_slot(Space(number as u16), vpn, slot, mapped)?;
            }
        }
        let linked: usize = named.iter().map(|&slot| self.tables.shared.of(slot).count()).sum();
        ensure(linked == names, || format!("{names} pages name slots, {linked} are in chains"))?;
        self.check_slot_counts(names as u32, named.len() as u32)
    }

    /// What page `vpn` says of `slot`, the slot says too.
    fn check_slot(&self, space: Space, vpn: Vpn, slot: Vpn, mapped: bool) -> Check {
        let page = (space, vpn);
        let times = self.tables.shared.of(slot).filter(|&p| p == page).count();
        ensure(times == 1, || format!("{page:?} is {times} times in the chain of slot {slot:?}"))?;
        ensure(self.tables.shared.is_taken(slot), || format!("{page:?} names free slot {slot:?}"))?;
        let state = self.tables.page_state(SHARED, slot);
        ensure(state != PageState::Empty, || format!("{page:?} names empty slot {slot:?}"))?;
        let there = matches!(state, PageState::Shared { .. });
        ensure(there || !mapped, || format!("{page:?} is mapped, its slot {state:?}"))
    }

    fn check_slot_counts(&self, names: u32, named: u32) -> Check {
        let (linked, taken) = (self.tables.shared.linked(), self.tables.shared.taken());
        ensure(linked == names, || format!("{names} pages name slots, counted {linked}"))?;
        ensure(taken == named, || format!("{taken} slots are taken, {named} named"))
    }

    /// One entry that is not empty: it lies in a VMA, and its frame says the same.
    fn check_entry(&self, space: Space, vpn: Vpn, pte: Pte) -> Check {
        let inside = space == SHARED || self.tables.vmas(space).at(vpn).is_some();
        ensure(inside, || format!("{vpn:?} has contents outside every VMA"))?;
        ensure(space != SHARED || pte.slot().is_none(), || format!("slot {vpn:?} names a slot"))?;
        let Some(frame) = pte.frame() else { return Ok(()) };
        let record = self.tables.frames.get(frame);
        ensure(record.vpn == vpn && record.space == space, || {
            format!("{vpn:?} names {frame:?}: {record:?}")
        })?;
        let head = self.tables.frames.head_of(frame);
        let first = self.tables.frames.get(head);
        ensure(first.order == record.order, || format!("{frame:?} and its head {head:?} differ in order"))?;
        let aligned = first.order.align_down(first.vpn.0) == first.vpn.0;
        ensure(aligned, || format!("folio {head:?} is not aligned at {:?}", first.vpn))?;
        let state = !matches!(first.state, FrameState::Free | FrameState::Zombie);
        ensure(state, || format!("{vpn:?} names {frame:?}, which is {:?}", first.state))?;
        self.check_place(head)?;
        let other = if space == SHARED { FrameState::Mapped } else { FrameState::Shared };
        ensure(first.state != other, || format!("{space:?} {vpn:?} names {frame:?}, {:?}", first.state))?;
        ensure(self.lies_in_like_vmas(head), || format!("folio {head:?} at {:?} reaches out", first.vpn))
    }

    /// Whether the VMAs that a folio lies in are alike for the host's verbs. They may differ in hints.
    fn lies_in_like_vmas(&self, head: Frame) -> bool {
        let pages = self.tables.pages_of(head);
        if pages.space == SHARED {
            return true;
        }
        let vmas = self.tables.vmas(pages.space);
        let Some(first) = vmas.at(pages.start) else { return false };
        first.end >= pages.end()
            || vmas.covers(pages.start, pages.end())
                && vmas
                    .overlapping(pages.start, pages.end())
                    .all(|v| (v.prot, v.locked, v.tag) == (first.prot, first.locked, first.tag))
    }

    /// Each frame is free in one way at the most, and each that a job uses says so.
    fn check_pool(&self) -> Check {
        self.pool.validate().map_err(String::from)?;
        ensure(self.compaction.is_idle(), || "frames that were put aside have not come back".into())?;
        for (job, flight) in self.tickets.numbered() {
            let astray = flight.frames.iter().find(|&frame| self.tables.frames.get(frame).job != pin_of(job));
            let lost = |frame: Option<Frame>| {
                format!("{frame:?} is used by {:?}, and does not say so", flight.ticket)
            };
            ensure(astray.is_none(), || lost(astray))?;
        }
        Ok(())
    }

    /// Every frame is free in one pool, or named by a page, or a zombie of a job.
    fn check_frames(&self, named: &BTreeSet<u32>) -> Check {
        let mut in_use = 0;
        for number in 0..self.tables.frames.len().min(self.pool.capacity()) {
            in_use += u32::from(self.check_frame(Frame(number), u32::from(named.contains(&number)))?);
        }
        ensure(in_use == self.pool.in_use(), || format!("{in_use} frames in use, counted otherwise"))
    }

    /// One frame, which `names` page entries name. Whether it is in use.
    fn check_frame(&self, frame: Frame, names: u32) -> Result<bool, String> {
        let record = self.tables.frames.get(frame);
        let free = self.pool.backing_of(frame).is_some();
        let zombie = record.state == FrameState::Zombie;
        let known = u32::from(free) + names + u32::from(zombie);
        ensure(known == 1, || {
            format!("{frame:?} is free: {free}, zombie: {zombie}, named {names} times; {record:?}")
        })?;
        ensure(!zombie || record.job != 0, || format!("{frame:?} is a zombie of no job"))?;
        self.check_unlisted(frame)?;
        Ok(!free)
    }

    /// Each list has the folios of its states, linked both ways, and the pages and folios it counts.
    fn check_lists(&self) -> Check {
        for list in LISTS {
            let (mut pages, mut folios) = (0, 0);
            let mut at = self.tables.frames.oldest(list);
            let mut before = None;
            while let Some(head) = at {
                let record = self.tables.frames.get(head);
                ensure(record.list == list, || format!("{head:?} is on {list:?} and says {record:?}"))?;
                ensure(self.tables.frames.older(head) == before, || format!("{head:?} is badly linked"))?;
                self.check_listed(head)?;
                pages += record.order.pages();
                folios += 1;
                before = Some(head);
                at = self.tables.frames.younger(head);
            }
            self.check_list_counts(list, (pages, folios))?;
        }
        Ok(())
    }

    fn check_list_counts(&self, list: List, found: (u32, u32)) -> Check {
        let counted = (self.tables.frames.pages_on(list), self.tables.frames.folios_on(list));
        ensure(found == counted, || format!("{list:?} has {found:?} pages, folios and counts {counted:?}"))
    }

    /// A folio is on a list of its state.
    fn check_listed(&self, head: Frame) -> Check {
        let record = self.tables.frames.get(head);
        let mapped = matches!(record.list, List::Active | List::Inactive);
        let fits = match record.state {
            FrameState::Mapped | FrameState::Shared => mapped,
            FrameState::Standby => !mapped,
            _ => false,
        };
        ensure(fits, || format!("{head:?} is on {:?}: {record:?}", record.list))?;
        let stored = record.list != List::Clean || self.tables.is_stored(head);
        ensure(stored, || format!("{head:?} is not stored"))
    }

    /// What reclaim can store before the next fault has its block already. (A page that a void job still holds does not
    /// count: it is not stored again before that has given up its own.)
    fn check_reserve(&self, store: &Store) -> Check {
        let mut pages = 0;
        for list in [List::Active, List::Inactive, List::Dirty] {
            let mut at = self.tables.frames.oldest(list);
            while let Some(head) = at {
                let run = self.tables.frames.folio(head);
                pages += if self.tables.frames.pinned(run) { 0 } else { run.pages };
                at = self.tables.frames.younger(head);
            }
        }
        check_reserved(store, pages)
    }

    /// Jobs pin their frames and no others, and a folio is being filled or written by a job that is not void.
    fn check_flights(&self) -> Check {
        (0..self.tables.frames.len().min(self.pool.capacity())).try_for_each(|n| self.check_pin(Frame(n)))
    }

    fn check_pin(&self, frame: Frame) -> Check {
        let record = self.tables.frames.get(frame);
        let head = self.tables.frames.get(self.tables.frames.head_of(frame)).state;
        let busy = matches!(head, FrameState::Filling | FrameState::Writing);
        if record.job == 0 {
            return ensure(!busy || self.pool.backing_of(frame).is_some(), || {
                format!("{frame:?} is {head:?} without a job")
            });
        }
        let flight = self.tickets.get(index_of(record.job));
        let inside = flight.frames.iter().any(|f| f == frame);
        ensure(inside, || format!("{frame:?} is pinned by {:?}, which does not use it", flight.ticket))?;
        ensure(busy != flight.void, || format!("{frame:?} is {head:?}, its job void: {}", flight.void))?;
        debug_assert_eq!(pin_of(index_of(record.job)), record.job);
        Ok(())
    }
}

/// What `pages` pages more need in the store's tables is there.
fn check_reserved(store: &Store, pages: u32) -> Check {
    let reserved = store.reserved();
    ensure(reserved >= pages, || format!("{pages} pages may have to be stored, {reserved} blocks are free"))
}
