//! The memory of a replay: page tables of several spaces, what is in each frame as far as it matters, and the TLB, as
//! the engine's verbs see and change them. Each verb adds what it costs.

use super::costs::Costs;
use super::table::{Entry, Table, flag, flags_of};
use crate::tlb::Tlb;
use core::ops::Range;
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{Engine, Frame, FrameRun, Order, PAGE_SIZE, PageRange, Space, Vpn};

/// What is in a frame. The frame of a mapped page has its contents too: a page keeps its frame.
#[derive(Clone, Copy, Default, Debug)]
struct Contents {
    /// Names the contents as they were when they were last looked at; 0: zeroes.
    version: u32,
    /// [`flag::DIRTY`] and [`flag::TOUCHED`], of a page that is not mapped.
    flags: u8,
}

/// Pages that were mapped by a copy, whose frames the verb does not name.
#[derive(Clone, Copy, Debug)]
struct Copied {
    range: PageRange,
    /// The page of what is staged that the first one was copied from; `None`: all are zeroes.
    staged: Option<u32>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Memory<T> {
    tables: Vec<Table>,
    contents: Vec<Contents>,
    pub(super) tlb: T,
    /// The largest run of base entries that the TLB asks for.
    most: Order,
    copied: Vec<Copied>,
    /// What a fill has read that goes to no frame, a version a page.
    pub(super) staged: Vec<u32>,
    versions: u32,
    costs: Costs,
    /// What verbs have cost since [`Memory::spent`], in ns.
    spent: u64,
    /// Flushes since [`Memory::flushed`].
    flushes: u64,
    pub(super) zeroed_bytes: u64,
    /// Pages that are present, and those of them that were not touched since they were filled.
    pub(super) present: u64,
    pub(super) untouched: u64,
}

impl<T: Tlb> Memory<T> {
    pub(super) fn new(tlb: T, most: Order, costs: Costs) -> Memory<T> {
        Memory {
            tables: Vec::new(),
            contents: Vec::new(),
            tlb,
            most,
            copied: Vec::new(),
            staged: Vec::new(),
            versions: 0,
            costs,
            spent: 0,
            flushes: 0,
            zeroed_bytes: 0,
            present: 0,
            untouched: 0,
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

    pub(super) fn rights(&mut self, space: Space, vpn: Vpn) -> Prot {
        self.table(space).rights(vpn)
    }

    /// Notes an access in the entry of a page that is present.
    pub(super) fn touch(&mut self, space: Space, vpn: Vpn, write: bool) {
        let entry = self.table(space).slot(vpn);
        let first = !entry.has(flag::TOUCHED);
        entry.flags |= flag::ACCESSED | flag::TOUCHED | if write { flag::DIRTY } else { 0 };
        self.untouched -= u64::from(first);
    }

    /// What verbs have cost since the last call, in ns.
    pub(super) fn spent(&mut self) -> u64 {
        core::mem::take(&mut self.spent)
    }

    /// How often verbs have flushed the TLB since the last call.
    pub(super) fn flushed(&mut self) -> u64 {
        core::mem::take(&mut self.flushes)
    }

    /// Fills frames: with zeroes, or with contents from the store.
    pub(super) fn fill(&mut self, frame: Frame, version: u32) {
        *self.contents_of(frame.0) = Contents { version, flags: 0 };
    }

    /// Names what a frame holds that is mapped nowhere, and whether it is as it was when that was last done.
    pub(super) fn name(&mut self, frame: Frame) -> u32 {
        let next = self.versions.checked_add(1).unwrap_or(1);
        let contents = self.contents_of(frame.0);
        if contents.flags & flag::DIRTY == 0 {
            return contents.version;
        }
        *contents = Contents { version: next, flags: contents.flags & !flag::DIRTY };
        self.versions = next;
        next
    }

    /// Maps what was copied in: the engine knows which frames it is for.
    pub(super) fn settle(&mut self, engine: &Engine) {
        while let Some(Copied { range, staged }) = self.copied.pop() {
            let Some(frame) = engine.whereabouts(range.space, range.start).frame else { continue };
            for i in 0..range.pages as u32 {
                let version = staged.map_or(0, |from| self.staged[(from + i) as usize]);
                self.fill(frame.plus(i), version);
            }
            self.map(FrameRun::new(frame, range.pages as u32), range.space, range.start);
        }
    }

    fn map(&mut self, frames: FrameRun, space: Space, at: Vpn) {
        let rights = flags_of(self.rights(space, at));
        self.contents_of(frames.start.0 + frames.pages - 1);
        let first = frames.start.0 as usize;
        let contents = &self.contents[first..first + frames.pages as usize];
        let untouched = contents.iter().filter(|c| c.flags & flag::TOUCHED == 0).count() as u64;
        self.tables[usize::from(space.0)]
            .map(at, frames.start, frames.pages, |i| rights | contents[i as usize].flags);
        self.present += u64::from(frames.pages);
        self.untouched += untouched;
    }

    /// Leaves holes, and flushes where something was present.
    fn clear(&mut self, range: PageRange) -> u64 {
        let pages = pages_of(range);
        let (mut present, mut untouched) = (0, 0);
        let table = self.table(range.space);
        table.each_present(pages.clone(), |_, entry| {
            present += 1;
            untouched += u64::from(!entry.has(flag::TOUCHED));
        });
        if present > 0 {
            table.clear(pages);
            self.present -= present;
            self.untouched -= untouched;
            self.flush(range);
        }
        present
    }

    fn flush(&mut self, range: PageRange) {
        self.tlb.flush(range);
        self.flushes += 1;
    }

    fn table(&mut self, space: Space) -> &mut Table {
        let number = usize::from(space.0);
        while self.tables.len() <= number {
            self.tables.push(Table::new(self.most));
        }
        &mut self.tables[number]
    }

    fn contents_of(&mut self, frame: u32) -> &mut Contents {
        let number = frame as usize;
        if self.contents.len() <= number {
            self.contents.resize((number + 1).next_multiple_of(512), Contents::default());
        }
        &mut self.contents[number]
    }

    fn spend(&mut self, call: u64, page: u64, pages: u64) {
        self.spent += call + page * pages;
    }
}

fn pages_of(range: PageRange) -> Range<u64> {
    range.start.0..range.end().0
}

impl<T: Tlb> Mmu for Memory<T> {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        let given = self.clear(range);
        self.spend(self.costs.call, self.costs.release_page, given);
        Ok(())
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        let flags = flags_of(prot);
        let mut lost = false;
        let table = self.table(range.space);
        table.each_present(pages_of(range), |_, entry| {
            lost |= entry.flags & (flag::READ | flag::WRITE) & !flags != 0;
        });
        table.set_rights(pages_of(range), prot);
        if lost {
            self.flush(range);
        }
        self.spend(self.costs.call, 0, 0);
        Ok(())
    }

    /// No trace locks anything.
    fn lock(&mut self, _: PageRange, _: bool) -> Result<(), Refusal> {
        self.spend(self.costs.call, 0, 0);
        Ok(())
    }

    fn present(&mut self, space: Space, vpn: Vpn) -> bool {
        self.entry(space, vpn).has(flag::PRESENT)
    }

    /// What the frames hold stays: after a copy it is that of the pages they belong to, and a free frame is filled
    /// before anybody reads it.
    fn release(&mut self, frames: FrameRun) {
        self.spend(self.costs.call, self.costs.release_page, u64::from(frames.pages));
    }

    fn release_all(&mut self, runs: &[FrameRun]) {
        let pages = runs.iter().map(|run| u64::from(run.pages)).sum();
        self.spend(self.costs.call, self.costs.release_page, pages);
    }

    fn release_span(&mut self, _: u32) {
        let pages = (quire_core::swap::SPAN_BYTES / PAGE_SIZE) as u64;
        self.spend(self.costs.call, self.costs.release_page, pages);
    }
}

impl<T: Tlb> Mover for Memory<T> {
    fn move_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        self.map(frames, space, at);
        self.spend(self.costs.move_call, self.costs.move_page, u64::from(frames.pages));
        Done::all(frames.pages)
    }

    fn move_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        for (i, frame) in frames.iter().enumerate() {
            let entry = self.entry(space, at.plus(i as u64));
            if !entry.has(flag::PRESENT) {
                self.clear(PageRange::new(space, at, i as u64));
                return Done::part(i as u32, Refusal::Absent);
            }
            let version = self.contents_of(entry.frame).version;
            let flags = entry.flags & (flag::DIRTY | flag::TOUCHED);
            *self.contents_of(frame.0) = Contents { version, flags };
        }
        self.clear(PageRange::new(space, at, u64::from(frames.pages)));
        self.spend(self.costs.move_call, self.costs.move_page, u64::from(frames.pages));
        Done::all(frames.pages)
    }

    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        self.map(frames, space, at);
        self.spend(self.costs.copy_call, self.costs.copy_page, u64::from(frames.pages));
        Done::all(frames.pages)
    }

    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
        self.copied.push(Copied { range: to, staged: Some(from) });
        self.spend(self.costs.copy_call, self.costs.copy_page, to.pages);
        Done::all(to.pages as u32)
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        self.copied.push(Copied { range: to, staged: None });
        self.zeroed_bytes += to.pages * PAGE_SIZE as u64;
        self.spend(self.costs.copy_call, self.costs.copy_page, to.pages);
        Done::all(to.pages as u32)
    }

    /// Nothing is shared before there are forks.
    fn unshare(&mut self, range: PageRange) -> Done {
        self.spend(self.costs.call, 0, 0);
        Done::all(range.pages as u32)
    }

    fn remap(&mut self, from: PageRange, to: Vpn) -> Result<(), Refusal> {
        let rights = self.rights(from.space, from.start);
        let mut moved = Vec::new();
        self.table(from.space).each_present(pages_of(from), |vpn, entry| moved.push((vpn, *entry)));
        self.clear(from);
        let target = PageRange::new(from.space, to, from.pages);
        self.protect(from, Prot::NONE)?;
        self.protect(target, rights)?;
        for (vpn, entry) in moved {
            let version = self.contents_of(entry.frame).version;
            let flags = entry.flags & (flag::DIRTY | flag::TOUCHED);
            *self.contents_of(entry.frame) = Contents { version, flags };
            let at = to.plus(vpn.0 - from.start.0);
            self.map(FrameRun::new(Frame(entry.frame), 1), from.space, at);
        }
        self.spend(self.costs.move_call, 0, 0);
        Ok(())
    }

    /// The program goes on when its fault has been answered.
    fn wake(&mut self, _: PageRange) {}
}
