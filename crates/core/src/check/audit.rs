//! The same invariants, checked where something has changed: in time that does not grow with what is held.

use super::{Check, LISTS, check_reserved, ensure};
use crate::addr::{Frame, SHARED, Space, Vpn};
use crate::engine::Engine;
use crate::frame::{FrameRecord, FrameState, List};
use crate::store::Store;
use crate::tables::{PageTable, Pte};
use crate::trail;
use alloc::format;
use alloc::vec::Vec;

/// How many name each of a kind of things, by number.
#[derive(Clone, Debug, Default)]
struct Names {
    by_number: Vec<u32>,
    /// Things that have a name.
    named: u32,
    /// Names in all.
    names: u32,
}

impl Names {
    fn of(&self, number: u32) -> u32 {
        self.by_number.get(number as usize).copied().unwrap_or(0)
    }

    fn add(&mut self, number: u32) {
        if self.by_number.len() <= number as usize {
            self.by_number.resize(number as usize + 1, 0);
        }
        let names = &mut self.by_number[number as usize];
        self.named += u32::from(*names == 0);
        *names += 1;
        self.names += 1;
    }

    fn remove(&mut self, number: u32) {
        let names = &mut self.by_number[number as usize];
        *names -= 1;
        self.named -= u32::from(*names == 0);
        self.names -= 1;
    }
}

/// The tables of an engine as they were when they were looked at last, and what can be counted in them. A check looks
/// at the entries and the records that were written since, and at the counts.
///
/// The engine keeps the trail of what it writes in builds with debug assertions only: [`Audit::possible`].
#[derive(Clone, Debug)]
pub struct Audit {
    entries: Vec<PageTable>,
    records: Vec<FrameRecord>,
    frames: Names,
    blocks: Names,
    slots: Names,
    zombies: u32,
    /// Pages that are only stored.
    out: u32,
    /// Pages and folios on each list.
    lists: [(u32, u32); List::COUNT],
    /// The pages of this check.
    pages: Vec<(Space, Vpn)>,
    /// Frames whose records were written.
    written: Vec<Frame>,
}

impl Audit {
    /// Whether this build can: without a trail a check would see nothing.
    pub const fn possible() -> bool {
        trail::KEPT
    }

    /// Begins: from now on the engine keeps a trail. All that it holds counts as just written.
    pub fn new(engine: &mut Engine) -> Audit {
        let mut audit = Audit {
            entries: Vec::new(),
            records: Vec::new(),
            frames: Names::default(),
            blocks: Names::default(),
            slots: Names::default(),
            zombies: 0,
            out: 0,
            lists: [(0, 0); List::COUNT],
            pages: Vec::new(),
            written: Vec::new(),
        };
        engine.tables.trail.take(&mut Vec::new());
        engine.tables.frames.trail.take(&mut Vec::new());
        for (number, space) in engine.tables.spaces.iter().enumerate() {
            audit.pages.extend(space.pages.iter().map(|(vpn, _)| (Space(number as u16), vpn)));
        }
        audit.written.extend((0..engine.tables.frames.len()).map(Frame));
        audit.catch_up(engine);
        audit
    }

    /// The pages that the last check looked at: those whose entries were written, that of any space which shares one, and
    /// those of folios whose records were.
    pub fn pages(&self) -> &[(Space, Vpn)] {
        &self.pages
    }

    /// Checks what was written since the last check, and the entries of the pages `also`. The error says what does not
    /// fit; no check after it means anything.
    pub fn check(
        &mut self,
        engine: &mut Engine,
        store: &Store,
        also: impl IntoIterator<Item = (Space, Vpn)>,
    ) -> Check {
        self.pages.clear();
        self.written.clear();
        engine.tables.trail.take(&mut self.pages);
        engine.tables.frames.trail.take(&mut self.written);
        self.pages.extend(also);
        self.catch_up(engine);
        self.check_pages(engine, store)?;
        self.check_records(engine)?;
        self.check_counts(engine, store)
    }

    /// Whether the tables are what the trails have told: nothing was written that left no trail. Walks them all.
    pub fn compare(&self, engine: &Engine) -> Check {
        for (number, space) in engine.tables.spaces.iter().enumerate() {
            let mirror = self.entries.get(number).into_iter().flat_map(PageTable::iter);
            ensure(space.pages.iter().eq(mirror), || format!("entries of space {number} left no trail"))?;
        }
        let known = |number: u32| self.records.get(number as usize).copied().unwrap_or_default();
        let strange =
            (0..engine.tables.frames.len()).find(|&n| known(n) != *engine.tables.frames.get(Frame(n)));
        ensure(strange.is_none(), || format!("a write of frame {strange:?} left no trail"))
    }
}

impl Audit {
    /// Takes over what was written.
    fn catch_up(&mut self, engine: &Engine) {
        self.written.sort_unstable();
        self.written.dedup();
        self.entries.resize_with(engine.tables.spaces.len(), PageTable::default);
        self.records.resize(engine.tables.frames.len() as usize, FrameRecord::default());
        for at in 0..self.written.len() {
            self.note_record(engine, self.written[at]);
        }
        self.add_sharers(engine);
        self.pages.sort_unstable();
        self.pages.dedup();
        for at in 0..self.pages.len() {
            let (space, vpn) = self.pages[at];
            self.note_entry(space, vpn, engine.tables.pte(space, vpn));
        }
    }

    fn note_record(&mut self, engine: &Engine, frame: Frame) {
        let now = *engine.tables.frames.get(frame);
        let before = core::mem::replace(&mut self.records[frame.0 as usize], now);
        for (record, sign) in [(before, u32::MAX), (now, 1)] {
            let (pages, folios) = &mut self.lists[record.list as usize];
            *pages = pages.wrapping_add(record.order.pages().wrapping_mul(sign));
            *folios = folios.wrapping_add(sign);
            let zombie = u32::from(record.state == FrameState::Zombie);
            self.zombies = self.zombies.wrapping_add(zombie.wrapping_mul(sign));
        }
        let links = FrameRecord { prev: before.prev, next: before.next, list: before.list, ..now };
        if links != before && !matches!(now.state, FrameState::Free | FrameState::Zombie) {
            let head = engine.tables.frames.head_of(frame) == frame;
            let pages = if head { u64::from(now.order.pages()) } else { 1 };
            self.pages.extend((0..pages).map(|i| (now.space, now.vpn.plus(i))));
        }
    }

    /// The pages that share a slot whose entry or folio was written.
    fn add_sharers(&mut self, engine: &Engine) {
        for at in 0..self.pages.len() {
            let (space, slot) = self.pages[at];
            if space == SHARED && engine.tables.shared.is_taken(slot) {
                self.pages.extend(engine.tables.shared.of(slot));
            }
        }
    }

    fn note_entry(&mut self, space: Space, vpn: Vpn, now: Pte) {
        let table = &mut self.entries[usize::from(space.0)];
        let before = table.get(vpn);
        if before == now {
            return;
        }
        table.set(vpn, now);
        let numbers = |pte: Pte| {
            let slot = pte.slot().map(|(slot, _)| slot.0 as u32);
            [pte.frame().map(|frame| frame.0), pte.placed().map(|block| block.number), slot]
        };
        let kinds = [&mut self.frames, &mut self.blocks, &mut self.slots];
        for ((kind, left), came) in kinds.into_iter().zip(numbers(before)).zip(numbers(now)) {
            if left != came {
                left.into_iter().for_each(|number| kind.remove(number));
                came.into_iter().for_each(|number| kind.add(number));
            }
        }
        self.out -= u32::from(before.only_stored().is_some());
        self.out += u32::from(now.only_stored().is_some());
    }

    fn check_pages(&self, engine: &Engine, store: &Store) -> Check {
        for &(space, vpn) in &self.pages {
            let pte = engine.tables.pte(space, vpn);
            if pte == Pte::EMPTY {
                let orphan = space == SHARED && self.slots.of(vpn.0 as u32) > 0;
                ensure(!orphan, || format!("slot {vpn:?} is named and empty"))?;
                continue;
            }
            engine.check_entry(space, vpn, pte)?;
            if let Some(frame) = pte.frame() {
                let names = self.frames.of(frame.0);
                ensure(names == 1, || format!("{frame:?} is named {names} times"))?;
            }
            if let Some(block) = pte.placed() {
                store.check_names(block, self.blocks.of(block.number))?;
            }
            if let Some((slot, mapped)) = pte.slot() {
                engine.check_slot(space, vpn, slot, mapped)?;
            }
        }
        Ok(())
    }

    fn check_records(&self, engine: &Engine) -> Check {
        for &frame in self.written.iter().filter(|frame| frame.0 < engine.pool.capacity()) {
            engine.check_frame(frame, self.frames.of(frame.0))?;
            engine.check_pin(frame)?;
            let list = engine.tables.frames.get(frame).list;
            if list != List::None {
                engine.check_listed(frame)?;
                let frames = &engine.tables.frames;
                let before = match frames.older(frame) {
                    Some(older) => frames.younger(older),
                    None => frames.oldest(list),
                };
                let after = match frames.younger(frame) {
                    Some(younger) => frames.older(younger),
                    None => frames.youngest(list),
                };
                let linked = before == Some(frame) && after == Some(frame);
                ensure(linked, || format!("{frame:?} is badly linked"))?;
            }
        }
        Ok(())
    }

    fn check_counts(&self, engine: &Engine, store: &Store) -> Check {
        for list in LISTS {
            engine.check_list_counts(list, self.lists[list as usize])?;
        }
        let (in_use, counted) = (self.frames.named + self.zombies, engine.pool.in_use());
        ensure(in_use == counted, || format!("{in_use} frames in use, counted {counted}"))?;
        let (out, counted) = (self.out, engine.ranks.only_stored());
        ensure(out == counted, || format!("{out} pages out, counted {counted}"))?;
        engine.check_slot_counts(self.slots.names, self.slots.named)?;
        store.check_named(self.blocks.named)?;
        check_reserved(store, engine.pages_to_store())
    }
}

impl Engine {
    /// Pages of the folios that reclaim may come to store, but for those that jobs pin.
    fn pages_to_store(&self) -> u32 {
        let stored = [List::Active, List::Inactive, List::Dirty];
        let mut pages: u32 = stored.iter().map(|&list| self.tables.frames.pages_on(list)).sum();
        let mut last = None;
        for frame in self.tickets.iter().flat_map(|flight| flight.frames.iter()) {
            let head = self.tables.frames.head_of(frame);
            let pinned = self.tables.frames.get(frame).job != 0 && last != Some(head);
            if pinned && stored.contains(&self.tables.frames.get(head).list) {
                pages -= self.tables.frames.folio(head).pages;
            }
            last = Some(head);
        }
        pages
    }
}
