//! The memory of a replay: page tables of several spaces, what is in each frame as far as it matters, and the TLB, as
//! the host changes them. What the engine's verbs do is in `verbs.rs`.
//!
//! A *page* is one of the machine here, whose base page may be larger than 4 KiB: then it has *parts* of 4 KiB, which are
//! touched and written one by one.

use super::costs::Costs;
use super::ranges::Ranges;
use super::table::{Entry, Table, flag, flags_of};
use super::verbs::StoreCosts;
use crate::rng::Rng;
use crate::store::packed_len;
use crate::tlb::{Mapping, Model, Tlb};
use crate::trace::SPACE_PAGES;
use core::ops::Range;
use quire_core::mmu::Prot;
use quire_core::{Engine, Frame, FrameRun, Order, PAGE_SIZE, PageRange, Space, Store, Vpn};

/// What is in a frame. That of a mapped page has its contents too: a page keeps its frame.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Contents {
    /// Names the contents as they were when they were last looked at; 0: zeroes.
    version: u32,
    /// The parts that were touched since the frame was filled, a bit each.
    pub(super) touched: u16,
    /// The parts that have ever been written.
    written: u16,
    /// Entries that map the frame.
    pub(super) maps: u16,
    /// Whether it was written since it got its version.
    dirty: bool,
}

/// From where pages were copied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Original {
    /// From what is staged, from this page of it on.
    Staged(u32),
    /// They are zeroes.
    Zeroes,
    /// From frames, from this one on.
    Frames(Frame),
}

/// Pages that were mapped by a copy, whose frames the verb does not name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub(super) range: PageRange,
    pub(super) original: Original,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Memory<T> {
    tables: Vec<Table>,
    contents: Vec<Contents>,
    pub(super) tlb: T,
    /// The base page of the machine, and a bit for each of its parts.
    pub(super) base: Order,
    whole: u16,
    /// Whether accesses are served by translations that the TLB has, so that the table does not learn of them.
    caches: bool,
    /// The largest run of base entries that the TLB asks for.
    most: Order,
    pub(super) copied: Vec<Copied>,
    /// What a fill has read that goes to no frame, a version a page.
    pub(super) staged: Vec<u32>,
    /// The parts that had been written by each version, where pages have several.
    written: Vec<u16>,
    versions: u32,
    /// What things cost for a page of this machine.
    pub(super) costs: Costs,
    /// What verbs have cost since [`Memory::spent`], in ns.
    spent: u64,
    /// The store that the engine talks to, and what it costs.
    pub(super) store: Store,
    pub(super) store_costs: StoreCosts,
    /// Flushes since [`Memory::flushed`].
    flushes: u64,
    pub(super) zeroed_bytes: u64,
    /// Frames that are mapped, and the parts of them, 4 KiB each, that were not touched since they were filled.
    pub(super) present: u64,
    pub(super) untouched: u64,
    /// Pages whose contents were copied to other frames by collapse and compaction.
    pub(super) moved: u64,
}

impl<T: Tlb> Memory<T> {
    /// Nothing is mapped. `costs` are those for 4 KiB.
    pub(super) fn new(tlb: T, model: Model, base: Order, costs: &Costs, store: Store) -> Memory<T> {
        Memory {
            tables: Vec::new(),
            contents: Vec::new(),
            tlb,
            base,
            whole: u16::MAX >> (16 - base.pages()),
            // Entries of larger base pages are not known to be joined by any hardware.
            most: if base == Order::BASE { model.coalesces() } else { Order::BASE },
            caches: model != Model::None,
            copied: Vec::new(),
            staged: Vec::new(),
            written: vec![0],
            versions: 0,
            costs: costs.of_pages(base),
            spent: 0,
            store,
            store_costs: StoreCosts { costs: costs.of_pages(base), spent: 0 },
            flushes: 0,
            zeroed_bytes: 0,
            present: 0,
            untouched: 0,
            moved: 0,
        }
    }

    /// The entry of a page; none in a space that has not been opened.
    #[inline]
    pub(super) fn entry(&mut self, space: Space, vpn: Vpn) -> Entry {
        match self.tables.get_mut(usize::from(space.0)) {
            Some(table) => table.get(vpn),
            None => Entry::default(),
        }
    }

    /// Notes an access to a part of a page that is present. Its entry says touched, and dirty, when no further access
    /// to any part would change anything.
    pub(super) fn touch(&mut self, space: Space, vpn: Vpn, part: u32, write: bool) {
        let whole = self.whole;
        let frame = self.entry(space, vpn).mapping().frame;
        let contents = self.contents_of(frame.0);
        let bit = 1 << part;
        let first = contents.touched & bit == 0;
        contents.touched |= bit;
        if write {
            contents.dirty = true;
            contents.written |= bit;
        }
        let seen = if self.caches { 0 } else { flag::ACCESSED };
        let flags = seen | flags_for(&self.contents[frame.0 as usize], whole);
        self.untouched -= u64::from(first);
        self.table(space).entry_mut(vpn).flags |= if write { flags } else { flags & !flag::DIRTY };
    }

    /// The table was walked for a page, and the TLB has an entry now: the accessed bits of all that it covers are set.
    #[cold]
    pub(super) fn walked(&mut self, space: Space, vpn: Vpn, mapping: Mapping) {
        let order = self.tlb.covers(mapping);
        let start = order.align_down(vpn.0);
        self.table(space).each_present(start..start + u64::from(order.pages()), |_, entry| {
            entry.flags |= flag::ACCESSED;
        });
    }

    /// Takes the accessed bits of pages, and says of which they were set. The TLB is not flushed, as Linux does not on x86:
    /// what it has it goes on to serve, without setting bits.
    pub(super) fn take_accessed(&mut self, range: PageRange, mut accessed: impl FnMut(Vpn)) {
        self.table(range.space).each_present(pages_of(range), |vpn, entry| {
            if entry.has(flag::ACCESSED) {
                entry.flags &= !flag::ACCESSED;
                accessed(vpn);
            }
        });
    }

    /// Maps pages, all present and shared by nobody, to the frames from `to` on, with all that they hold.
    pub(super) fn relocate(&mut self, range: PageRange, to: Frame) {
        let mut accessed = Vec::new();
        self.take_accessed(range, |vpn| accessed.push(vpn));
        let entries: Vec<Entry> =
            (0..range.pages).map(|i| self.entry(range.space, range.start.plus(i))).collect();
        self.clear(range);
        for (entry, new) in entries.iter().zip(to.0..).filter(|(entry, new)| entry.frame != *new) {
            // The frame that they leave is mapped no longer.
            *self.contents_of(new) = *self.contents_of(entry.frame);
            self.moved += 1;
        }
        self.map(FrameRun::new(to, range.pages as u32), range.space, range.start, false);
        for vpn in accessed {
            self.table(range.space).entry_mut(vpn).flags |= flag::ACCESSED;
        }
    }

    /// What verbs have cost since the last call, in ns.
    pub(super) fn spent(&mut self) -> u64 {
        core::mem::take(&mut self.spent) + core::mem::take(&mut self.store_costs.spent)
    }

    /// How often verbs have flushed the TLB since the last call.
    pub(super) fn flushed(&mut self) -> u64 {
        core::mem::take(&mut self.flushes)
    }

    /// Adds what a verb costs.
    pub(super) fn spend(&mut self, call: u64, page: u64, pages: u64) {
        self.spent += call + page * pages;
    }

    /// Bytes of `pages` pages.
    pub(super) fn bytes(&self, pages: u64) -> u64 {
        pages * PAGE_SIZE as u64 * u64::from(self.base.pages())
    }

    /// Fills a frame: with zeroes, or with contents from the store.
    pub(super) fn fill(&mut self, frame: Frame, version: u32) {
        let written = if self.whole == 1 { u16::from(version != 0) } else { self.written[version as usize] };
        let contents = self.contents_of(frame.0);
        *contents = Contents { version, touched: 0, written, maps: contents.maps, dirty: false };
    }

    /// Fills a frame with what another one holds.
    pub(super) fn copy(&mut self, from: Frame, to: Frame) {
        let Contents { version, written, dirty, .. } = *self.contents_of(from.0);
        let contents = self.contents_of(to.0);
        *contents = Contents { version, touched: 0, written, maps: contents.maps, dirty };
    }

    /// Names what a frame holds that is mapped nowhere, and whether it is as it was when that was last done.
    pub(super) fn name(&mut self, frame: Frame) -> u32 {
        let next = self.versions.checked_add(1).unwrap_or(1);
        let contents = self.contents_of(frame.0);
        if !contents.dirty {
            return contents.version;
        }
        contents.dirty = false;
        contents.version = next;
        let written = contents.written;
        self.versions = next;
        if self.whole != 1 {
            self.written.push(written);
        }
        next
    }

    /// Bytes of a page in the store, of 4096 for the whole. What 4 KiB compress to is drawn anew whenever they are written:
    /// from 512 to 2048 bytes, and one in eight does not compress. Parts that were never written take nothing.
    pub(super) fn packed_len(&self, version: u32) -> u16 {
        let mut rng = Rng::new(u64::from(version));
        if self.whole == 1 {
            return packed_len(rng.any());
        }
        let written = self.written[version as usize];
        let parts = (0..self.base.pages()).map(|part| (written >> part & 1, packed_len(rng.any())));
        let bytes: u32 = parts.map(|(written, len)| u32::from(written) * u32::from(len)).sum();
        bytes.div_ceil(self.base.pages()).max(1) as u16
    }

    /// Maps what was copied in: the engine knows which frames it is for.
    pub(super) fn settle(&mut self, engine: &Engine) {
        while let Some(Copied { range, original }) = self.copied.pop() {
            let Some(frame) = engine.whereabouts(range.space, range.start).frame else { continue };
            for i in 0..range.pages as u32 {
                match original {
                    Original::Staged(from) => self.fill(frame.plus(i), self.staged[(from + i) as usize]),
                    Original::Zeroes => self.fill(frame.plus(i), 0),
                    Original::Frames(from) if from == frame => {}
                    Original::Frames(from) => self.copy(from.plus(i), frame.plus(i)),
                }
            }
            self.map(FrameRun::new(frame, range.pages as u32), range.space, range.start, false);
        }
    }

    /// Maps frames; `shared` ones read-only, whatever the rights.
    pub(super) fn map(&mut self, frames: FrameRun, space: Space, at: Vpn, shared: bool) {
        let (whole, rights) = (self.whole, flags_of(self.table(space).rights.at(at)));
        let (rights, kept) = match shared {
            true => (rights & !flag::WRITE | flag::SHARED, !flag::DIRTY),
            false => (rights, u8::MAX),
        };
        self.contents_of(frames.start.0 + frames.pages - 1);
        let first = frames.start.0 as usize;
        let contents = &mut self.contents[first..first + frames.pages as usize];
        for frame in contents.iter_mut() {
            frame.maps += 1;
            if frame.maps == 1 {
                self.present += 1;
                self.untouched += untouched(frame, whole);
            }
        }
        let contents = &self.contents[first..first + frames.pages as usize];
        self.tables[usize::from(space.0)]
            .map(at, frames.start, frames.pages, |i| rights | flags_for(&contents[i as usize], whole) & kept);
    }

    /// Leaves holes, and flushes where something was present. How many pages there were that nobody shares.
    pub(super) fn clear(&mut self, range: PageRange) -> u64 {
        let pages = pages_of(range);
        let (mut own, mut shared) = (0, 0);
        self.table(range.space);
        let (table, contents) = (&mut self.tables[usize::from(range.space.0)], &mut self.contents);
        table.each_present(pages.clone(), |_, entry| {
            let frame = &mut contents[entry.frame as usize];
            frame.maps -= 1;
            if frame.maps == 0 {
                self.present -= 1;
                self.untouched -= untouched(frame, self.whole);
            }
            *(if entry.has(flag::SHARED) { &mut shared } else { &mut own }) += 1;
        });
        if own + shared > 0 {
            table.clear(pages);
            self.flush(range);
        }
        own
    }

    pub(super) fn flush(&mut self, range: PageRange) {
        self.tlb.flush(range);
        self.flushes += 1;
    }

    /// Flushes all of a space.
    pub(super) fn flush_space(&mut self, space: Space) {
        self.flush(whole_space(space));
    }

    pub(super) fn table(&mut self, space: Space) -> &mut Table {
        let number = usize::from(space.0);
        while self.tables.len() <= number {
            self.tables.push(Table::new(self.most));
        }
        &mut self.tables[number]
    }

    pub(super) fn contents_of(&mut self, frame: u32) -> &mut Contents {
        let number = frame as usize;
        if self.contents.len() <= number {
            self.contents.resize((number + 1).next_multiple_of(512), Contents::default());
        }
        &mut self.contents[number]
    }

    /// Begins a space with the rights of another one and nothing mapped.
    pub(super) fn begin_like(&mut self, parent: Space, child: Space) {
        let rights = self.table(parent).rights.clone();
        self.begin(child, rights);
    }

    /// Ends a space. How many pages it had for itself.
    pub(super) fn end(&mut self, space: Space) -> u64 {
        let own = self.clear(whole_space(space));
        self.begin(space, Ranges::default());
        own
    }

    fn begin(&mut self, space: Space, rights: Ranges<Prot>) {
        *self.table(space) = Table::new(self.most);
        self.table(space).rights = rights;
    }
}

/// All that a trace can have in a space, whatever the base page.
fn whole_space(space: Space) -> PageRange {
    PageRange::new(space, Vpn(0), SPACE_PAGES)
}

pub(super) fn pages_of(range: PageRange) -> Range<u64> {
    range.start.0..range.end().0
}

/// Parts of a frame that were not touched since it was filled.
fn untouched(contents: &Contents, whole: u16) -> u64 {
    u64::from((whole & !contents.touched).count_ones())
}

/// What an entry says of the contents of its frame: that nothing would change by an access, or by a write.
fn flags_for(contents: &Contents, whole: u16) -> u8 {
    let touched = if contents.touched == whole { flag::TOUCHED } else { 0 };
    let dirty = if contents.dirty && contents.written == whole { flag::DIRTY } else { 0 };
    touched | dirty
}
