//! The simulated kernel: tables of several spaces, one pool of frames, and the verbs on them.
//!
//! The rules are those of Linux 6.18, where moves are `UFFDIO_MOVE`, copies `UFFDIO_COPY`, discards
//! `MADV_DONTNEED_LOCKED` and locks `mlock2(MLOCK_ONFAULT)`. A verb works page by page and stops at the first one
//! that it must refuse; what it has done by then stays done. Several VMAs in a range are no reason to refuse: the
//! kernel minds, but the live host goes on piece by piece.

use crate::inject::{Injection, Injector, Strike, Verb};
use crate::store::StoredBytes;
use crate::tables::{Pte, Rights, Tables};
use crate::waiters::{Message, Waiters};
use quire_core::job::{Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{
    Block, Figures, Frame, FrameRun, Message as Told, PageRange, Space, Store, Tend, Touched, Urgency, Vpn,
};
use std::collections::BTreeMap;

/// What a touch of a program's page comes to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// The page is there, with this version.
    Hit(u64),
    /// The page is a hole, or a frame that a write may not change: a message is raised and the thread waits.
    Fault,
    /// The program may not: it dies of SIGSEGV.
    Segv,
}

/// Simulated page tables of several spaces, with a pool of frames and a compressed store.
///
/// The pool belongs to every space, unlike that of a live process, whose child starts with an empty pool of its own:
/// for that there is [`SimMmu::fork_process`].
#[derive(Clone, Debug)]
pub struct SimMmu {
    spaces: BTreeMap<Space, Tables>,
    pool: Vec<Option<Pte>>,
    /// Frames of the pool with memory behind them.
    pool_resident: u64,
    /// Frames whose memory is a page that a program had: the kernel may read it for somebody still, as it does for
    /// `MSG_ZEROCOPY` and `vmsplice`, which hold a page without pinning it.
    held: Vec<bool>,
    /// A frame that was written though its memory is such a page.
    pub overwritten: Option<Frame>,
    /// The threads that wait on holes.
    pub waiters: Waiters,
    /// Refusals to come.
    pub injector: Injector,
    /// The store that the engine talks to. It has no room until a host sets another.
    pub store: Store,
    /// What is in it: compressed pages in RAM and in spill files.
    pub bytes: StoredBytes,
    /// What is staged for the fill that is being finished, a version for each page.
    pub staged: Vec<u64>,
    /// Mapped pages that were said to have other frames now.
    pub relocated: u64,
    /// Accessed bits are kept from the engine, as the kernel keeps them from a live host.
    pub blind: bool,
}

/// The program's side, and the kernel's.
impl SimMmu {
    /// A pool of `frames` frames, all holes, and no space.
    pub fn new(frames: u32) -> SimMmu {
        SimMmu {
            spaces: BTreeMap::new(),
            pool: vec![None; frames as usize],
            pool_resident: 0,
            held: vec![false; frames as usize],
            overwritten: None,
            waiters: Waiters::default(),
            injector: Injector::default(),
            store: Store::new(0, 2, 0),
            bytes: StoredBytes::default(),
            staged: Vec::new(),
            relocated: 0,
            blind: false,
        }
    }

    /// Maps a range in place of what was there. Registered, its holes fault to the pager; else they read as zeroes.
    pub fn map(&mut self, range: PageRange, prot: Prot, registered: bool) {
        let tables = self.spaces.entry(range.space).or_default();
        tables.map(range.start.0, range.end().0, Rights::new(prot, registered));
    }

    /// Unmaps a range.
    pub fn unmap(&mut self, range: PageRange) {
        if let Some(tables) = self.spaces.get_mut(&range.space) {
            tables.unmap(range.start.0, range.end().0);
        }
    }

    /// Registers a mapped range with the pager, or ends that.
    pub fn register(&mut self, range: PageRange, registered: bool) {
        if let Some(tables) = self.spaces.get_mut(&range.space) {
            tables.change(range.start.0, range.end().0, |r| r.registered = registered);
        }
    }

    /// The tables of a space, to look at or to spoil on purpose.
    pub fn tables(&mut self, space: Space) -> &mut Tables {
        self.spaces.entry(space).or_default()
    }

    /// The spaces and their tables.
    pub fn spaces(&self) -> impl Iterator<Item = (Space, &Tables)> {
        self.spaces.iter().map(|(&space, tables)| (space, tables))
    }

    /// Reads a program page. A hole that no pager has registered gets the page of zeroes.
    pub fn touch_read(&mut self, space: Space, vpn: Vpn) -> Access {
        let Some(rights) = self.rights(space, vpn).filter(|r| r.readable()) else {
            return Access::Segv;
        };
        match self.entry(space, vpn) {
            Some(pte) => {
                self.tables(space).access(vpn.0);
                Access::Hit(pte.value())
            }
            None if rights.registered => Access::Fault,
            None => {
                self.tables(space).put(vpn.0, Pte::Zero);
                Access::Hit(0)
            }
        }
    }

    /// Writes version `value` to a program page; a page shared since a fork is the writer's own from then on.
    pub fn touch_write(&mut self, space: Space, vpn: Vpn, value: u64) -> Access {
        let Some(rights) = self.rights(space, vpn).filter(|r| r.writable()) else {
            return Access::Segv;
        };
        let tables = self.tables(space);
        match tables.get(vpn.0) {
            Some(Pte::Frame(_)) => return Access::Fault,
            Some(pte) => tables.put(vpn.0, pte.written(value)),
            None if rights.registered => return Access::Fault,
            None => tables.put(vpn.0, Pte::page(value)),
        }
        tables.access(vpn.0);
        Access::Hit(value)
    }

    /// What a touch would come to, without touching.
    pub fn would(&self, space: Space, vpn: Vpn, write: bool) -> Access {
        match self.rights(space, vpn) {
            Some(r) if (write && !r.writable()) || !r.readable() => Access::Segv,
            None => Access::Segv,
            Some(r) => match self.entry(space, vpn) {
                Some(_) if write && self.maps_frame(space, vpn).is_some() => Access::Fault,
                Some(pte) => Access::Hit(pte.value()),
                None if r.registered => Access::Fault,
                None => Access::Hit(0),
            },
        }
    }

    /// Thread `thread` waits for page `vpn`, and its message can be read from [`SimMmu::waiters`].
    pub fn block(&mut self, thread: u8, space: Space, vpn: Vpn, write: bool) {
        self.waiters.block(thread, Message { space, vpn, write });
    }

    /// Pins a present page for I/O, as a write to it would make it the program's own first. Whether it is pinned.
    pub fn pin(&mut self, space: Space, vpn: Vpn) -> bool {
        self.mark_pinned(space, vpn, true)
    }

    /// Ends the pin of a page.
    pub fn unpin(&mut self, space: Space, vpn: Vpn) -> bool {
        self.mark_pinned(space, vpn, false)
    }

    /// `child` becomes a copy of `parent`: present pages are shared, VMAs neither locked nor registered, and what
    /// was a hole reads as zeroes until somebody registers it.
    pub fn fork(&mut self, parent: Space, child: Space) {
        let tables = self.tables(parent).fork();
        self.spaces.insert(child, tables);
    }

    /// The same as another process, with a pool of its own that is empty: what a live host's child sees. The store
    /// is copied as it is.
    pub fn fork_process(&mut self, space: Space) -> SimMmu {
        let tables = self.tables(space).fork();
        SimMmu {
            spaces: BTreeMap::from([(space, tables)]),
            pool: vec![None; self.pool.len()],
            pool_resident: 0,
            held: vec![false; self.pool.len()],
            overwritten: None,
            waiters: Waiters::default(),
            injector: Injector::default(),
            store: self.store.clone(),
            bytes: self.bytes.clone(),
            staged: Vec::new(),
            relocated: 0,
            blind: self.blind,
        }
    }

    /// A space has ended: nothing is left of it. Pages that it shared stay refused to moves all the same.
    pub fn exit(&mut self, space: Space) {
        self.spaces.remove(&space);
        self.waiters.forget(space);
    }

    /// Adds a refusal to come.
    pub fn inject(&mut self, injection: Injection) {
        self.injector.push(injection);
    }

    /// What a program page holds, whatever its rights; `None` for a hole. A frame of the pool is shown as a page that is
    /// shared.
    pub fn entry(&self, space: Space, vpn: Vpn) -> Option<Pte> {
        self.spaces.get(&space)?.get(vpn.0).map(|pte| self.seen(pte))
    }

    /// An entry as [`SimMmu::entry`] shows it. A frame that is a hole holds nobody's version.
    pub fn seen(&self, pte: Pte) -> Pte {
        match pte {
            Pte::Frame(frame) => {
                let value = self.frame(frame).map_or(u64::MAX, Pte::value);
                Pte::Page { value, shared: true, pinned: false }
            }
            pte => pte,
        }
    }

    /// The frame of the pool that is mapped read-only at a program page, if one is.
    pub fn maps_frame(&self, space: Space, vpn: Vpn) -> Option<Frame> {
        match self.spaces.get(&space)?.get(vpn.0) {
            Some(Pte::Frame(frame)) => Some(frame),
            _ => None,
        }
    }

    /// The rights of a program page; `None` where nothing is mapped.
    pub fn rights(&self, space: Space, vpn: Vpn) -> Option<Rights> {
        Some(self.spaces.get(&space)?.vma(vpn.0)?.rights)
    }

    fn mark_pinned(&mut self, space: Space, vpn: Vpn, pinned: bool) -> bool {
        let tables = self.tables(space);
        let Some(pte) = tables.get(vpn.0) else {
            return false;
        };
        let own = match pte {
            // A write comes first, and that is a fault.
            Pte::Frame(_) => return false,
            Pte::Page { value, shared, .. } if !pinned => Pte::Page { value, shared, pinned },
            Pte::Zero if !pinned => Pte::Zero,
            pte => Pte::Page { value: pte.value(), shared: false, pinned },
        };
        tables.put(vpn.0, own);
        true
    }
}

/// The pool's side.
impl SimMmu {
    /// How many frames the pool has.
    pub fn frames(&self) -> u32 {
        self.pool.len() as u32
    }

    /// Reads a frame, as a job does. A hole of the pool gets the page of zeroes: until it is released or written
    /// and moved away, a move into that frame answers [`Refusal::Exists`].
    pub fn read_frame(&mut self, frame: Frame) -> u64 {
        match self.pool[frame.0 as usize] {
            Some(pte) => pte.value(),
            None => {
                self.set_frame(frame, Some(Pte::Zero));
                0
            }
        }
    }

    /// Writes a frame, as a job does.
    pub fn write_frame(&mut self, frame: Frame, value: u64) {
        self.note_write(frame);
        let before = self.pool[frame.0 as usize];
        self.set_frame(frame, Some(before.map_or(Pte::page(value), |pte| pte.written(value))));
    }

    /// What a frame holds; `None` for a hole.
    pub fn frame(&self, frame: Frame) -> Option<Pte> {
        self.pool.get(frame.0 as usize).copied().flatten()
    }

    /// Memory in use: present pages of all spaces and of the pool, but not the page of zeroes. Pages shared after
    /// [`SimMmu::fork`] count once for each space, frames of the pool that are mapped once in all.
    pub fn resident(&self) -> u64 {
        self.spaces.values().map(Tables::resident).sum::<u64>() + self.pool_resident
    }

    fn note_write(&mut self, frame: Frame) {
        if self.held[frame.0 as usize] {
            self.overwritten = Some(frame);
        }
    }

    /// Writes a frame.
    ///
    /// # Panics
    /// When there is no such frame: an engine that names one is broken.
    fn set_frame(&mut self, frame: Frame, pte: Option<Pte>) {
        let frames = self.pool.len();
        let held = self.pool.get_mut(frame.0 as usize);
        let held = held.unwrap_or_else(|| panic!("{frame:?} of a pool of {frames}"));
        self.pool_resident += u64::from(pte.is_some_and(Pte::is_memory));
        self.pool_resident -= u64::from(held.is_some_and(Pte::is_memory));
        *held = pte;
        self.held[frame.0 as usize] &= pte.is_some();
    }
}

/// Calls that do page after page, and may be cut.
impl SimMmu {
    /// Does pages 0, 1, .. of `range` until one is refused or the call is cut. `frames` are their frames, where there are any.
    fn each(
        &mut self,
        verb: Verb,
        range: PageRange,
        frames: Option<FrameRun>,
        mut one: impl FnMut(&mut SimMmu, u32) -> Result<(), Refusal>,
    ) -> Done {
        let cut = self.injector.call(verb, range);
        let mut done = Done::all(range.pages as u32);
        for k in 0..range.pages as u32 {
            let cut = cut.at(u64::from(k)).and_then(|why| self.come_true(verb, range, frames, k, why));
            if let Some(refusal) = cut.or_else(|| one(self, k).err()) {
                done = Done::part(k, refusal);
                break;
            }
        }
        self.injector.strike(cut, range, frames, done)
    }

    /// What a cut says of page `k` of a call becomes true, as far as it can: the call then finds it so, or goes on. What can
    /// be said of any page is answered.
    fn come_true(
        &mut self,
        verb: Verb,
        range: PageRange,
        frames: Option<FrameRun>,
        k: u32,
        refusal: Refusal,
    ) -> Option<Refusal> {
        let (space, vpn) = (range.space, range.start.plus(u64::from(k)));
        match (refusal, verb) {
            (Refusal::Exists, Verb::MoveIn | Verb::CopyIn | Verb::MapShared) => self.appear(space, vpn),
            (Refusal::Exists, Verb::MoveOut | Verb::Share) => {
                // Somebody reads the hole.
                let frame = frames.map(|frames| frames.start.plus(k));
                frame.filter(|&frame| self.frame(frame).is_none()).map(|frame| self.read_frame(frame));
            }
            (Refusal::Absent, Verb::MoveOut | Verb::Share | Verb::CopyOut) => _ = self.leave(space, vpn),
            (Refusal::Absent, Verb::MoveIn | Verb::CopyIn | Verb::MapShared) => {
                if k > 0 && self.leave(space, range.start.plus(u64::from(k) - 1)) {
                    self.injector.strikes.push(Strike { range, done: range.pages, refusal, lasting: false });
                }
            }
            _ => return Some(refusal),
        }
        None
    }

    /// Somebody else's page appears in a hole that the host knows.
    fn appear(&mut self, space: Space, vpn: Vpn) {
        let known = self.rights(space, vpn).is_some_and(|r| r.registered);
        let known = known && self.injector.newborn != Some(space);
        if known && self.entry(space, vpn).is_none() {
            let value = self.injector.appearing;
            self.tables(space).put(vpn.0, Pte::page(value));
            self.injector.truths.push((space, vpn, Some(value)));
        }
    }

    /// A raw system call discards a page. Whether it was there, and not locked.
    fn leave(&mut self, space: Space, vpn: Vpn) -> bool {
        let locked = self.rights(space, vpn).is_none_or(|r| r.locked);
        let born = self.injector.newborn != Some(space);
        let left = born && !locked && self.tables(space).take(vpn.0).is_some();
        if left {
            self.injector.truths.push((space, vpn, None));
        }
        left
    }
}

impl Mmu for SimMmu {
    /// Locked pages are dropped too; a gap is refused after what lay elsewhere was dropped.
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        let (pages, refusal) = self.injector.limit(Verb::Discard, range);
        let tables = self.tables(range.space);
        tables.clear(range.start.0, range.start.0 + pages);
        let whole = tables.covers(range.start.0, range.start.0 + pages);
        refusal.or((!whole).then_some(Refusal::NoRange)).map_or(Ok(()), Err)
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        let (pages, refusal) = self.injector.limit(Verb::Protect, range);
        self.change(range, pages, refusal, |r| r.prot = prot)
    }

    fn lock(&mut self, range: PageRange, locked: bool) -> Result<(), Refusal> {
        let (pages, refusal) = self.injector.limit(Verb::Lock, range);
        self.change(range, pages, refusal, |r| r.locked = locked)
    }

    fn present(&mut self, space: Space, vpn: Vpn) -> bool {
        self.entry(space, vpn).is_some()
    }

    fn accessed(&mut self, range: PageRange, touched: &mut Touched) -> bool {
        if self.blind {
            return false;
        }
        let accessed = self.tables(range.space).take_accessed(range.start.0, range.end().0);
        accessed.into_iter().for_each(|vpn| touched.add((vpn - range.start.0) as u32));
        true
    }

    fn relocated(&mut self, pages: PageRange, _to: Frame) {
        self.relocated += pages.pages;
    }

    fn release(&mut self, frames: FrameRun) {
        for frame in frames.iter() {
            self.set_frame(frame, None);
        }
    }

    fn tell(&mut self, message: Told) {
        self.store.hear(&mut self.bytes, message);
    }

    fn look(&self, block: Block) -> Option<Stored> {
        self.store.look(block)
    }

    fn figures(&self) -> Figures {
        self.store.figures()
    }

    fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend {
        self.store.tend(&mut self.bytes, urgency, work)
    }
}

impl SimMmu {
    fn change(
        &mut self,
        range: PageRange,
        pages: u64,
        refusal: Option<Refusal>,
        change: impl FnMut(&mut Rights),
    ) -> Result<(), Refusal> {
        let whole = self.tables(range.space).change(range.start.0, range.start.plus(pages).0, change);
        match refusal {
            Some(refusal) => Err(refusal),
            None if whole => Ok(()),
            None => Err(Refusal::NoRange),
        }
    }

    /// Moves one page out of the pool.
    fn move_one_in(&mut self, frame: Frame, space: Space, vpn: Vpn) -> Result<(), Refusal> {
        let rights = self.movable(space, vpn)?;
        if !rights.registered {
            return Err(Refusal::Denied);
        }
        if self.entry(space, vpn).is_some() {
            return answer_for_present(self.frame(frame).is_some());
        }
        let pte = self.frame(frame).ok_or(Refusal::Absent)?;
        self.set_frame(frame, None);
        self.tables(space).put(vpn.0, pte);
        Ok(())
    }

    /// Moves one page into the pool.
    fn move_one_out(&mut self, space: Space, vpn: Vpn, frame: Frame) -> Result<(), Refusal> {
        self.movable(space, vpn)?;
        if self.frame(frame).is_some() {
            return answer_for_present(self.entry(space, vpn).is_some());
        }
        let pte = self.entry(space, vpn).ok_or(Refusal::Absent)?;
        if pte.busy() {
            self.injector.busy.push((space, vpn));
            return Err(Refusal::Busy);
        }
        self.tables(space).take(vpn.0);
        self.set_frame(frame, Some(pte));
        self.held[frame.0 as usize] = true;
        Ok(())
    }

    /// The rights of a page that can be moved.
    fn movable(&self, space: Space, vpn: Vpn) -> Result<Rights, Refusal> {
        let rights = self.rights(space, vpn).ok_or(Refusal::NoRange)?;
        if rights.movable() { Ok(rights) } else { Err(Refusal::Denied) }
    }

    /// Copies one frame. It is read first: a hole of the pool gets the page of zeroes even where the
    /// destination is present.
    fn copy_one_in(&mut self, frame: Frame, space: Space, vpn: Vpn) -> Result<(), Refusal> {
        if !self.rights(space, vpn).is_some_and(|r| r.registered) {
            return Err(Refusal::NoRange);
        }
        let value = self.read_frame(frame);
        self.put_copy(space, vpn, value)
    }

    /// Puts a copy into a hole that the host knows.
    fn put_copy(&mut self, space: Space, vpn: Vpn, value: u64) -> Result<(), Refusal> {
        if !self.rights(space, vpn).is_some_and(|r| r.registered) {
            return Err(Refusal::NoRange);
        }
        if self.entry(space, vpn).is_some() {
            return Err(Refusal::Exists);
        }
        self.tables(space).put(vpn.0, Pte::page(value));
        Ok(())
    }

    /// Who waits for the first pages of a range, which have come, goes on.
    fn wake_copied(&mut self, to: PageRange, done: Done) -> Done {
        self.wake(PageRange::new(to.space, to.start, u64::from(done.pages)));
        done
    }

    /// Makes one page the program's own; a hole stays one.
    fn unshare_one(&mut self, space: Space, vpn: Vpn) -> Result<(), Refusal> {
        let rights = self.rights(space, vpn).ok_or(Refusal::NoRange)?;
        let Some(pte) = self.entry(space, vpn) else {
            return Ok(());
        };
        if !rights.writable() {
            return Err(Refusal::Denied);
        }
        if self.maps_frame(space, vpn).is_none() {
            self.tables(space).put(vpn.0, pte.written(pte.value()));
        }
        Ok(())
    }

    /// Moves one page into the pool and leaves it mapped from there.
    fn share_one(&mut self, space: Space, vpn: Vpn, frame: Frame) -> Result<(), Refusal> {
        let pte = self.entry(space, vpn).ok_or(Refusal::Absent)?;
        if self.frame(frame).is_some() {
            return Err(Refusal::Exists);
        }
        if pte.busy() {
            return Err(Refusal::Busy);
        }
        self.set_frame(frame, Some(pte));
        self.held[frame.0 as usize] = true;
        self.tables(space).put(vpn.0, Pte::Frame(frame));
        Ok(())
    }

    fn map_one_shared(&mut self, frame: Frame, space: Space, vpn: Vpn) -> Result<(), Refusal> {
        if !self.rights(space, vpn).is_some_and(|r| r.registered) {
            return Err(Refusal::NoRange);
        }
        if self.entry(space, vpn).is_some() {
            return Err(Refusal::Exists);
        }
        self.frame(frame).ok_or(Refusal::Absent)?;
        self.tables(space).put(vpn.0, Pte::Frame(frame));
        Ok(())
    }

    fn copy_one_out(&mut self, space: Space, vpn: Vpn, frame: Frame) -> Result<(), Refusal> {
        let pte = self.entry(space, vpn).ok_or(Refusal::Absent)?;
        self.note_write(frame);
        self.set_frame(frame, Some(Pte::page(pte.value())));
        Ok(())
    }
}

impl Mover for SimMmu {
    fn move_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let range = PageRange::new(space, at, u64::from(frames.pages));
        let one = |m: &mut SimMmu, k: u32| m.move_one_in(frames.start.plus(k), space, at.plus(u64::from(k)));
        self.each(Verb::MoveIn, range, Some(frames), one)
    }

    fn move_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        let range = PageRange::new(space, at, u64::from(frames.pages));
        let one = |m: &mut SimMmu, k: u32| m.move_one_out(space, at.plus(u64::from(k)), frames.start.plus(k));
        self.each(Verb::MoveOut, range, Some(frames), one)
    }

    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let range = PageRange::new(space, at, u64::from(frames.pages));
        let one = |m: &mut SimMmu, k: u32| m.copy_one_in(frames.start.plus(k), space, at.plus(u64::from(k)));
        self.each(Verb::CopyIn, range, Some(frames), one)
    }

    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
        let done = self.each(Verb::CopyIn, to, None, |m, k| {
            // What was not staged would be whatever the buffer held before.
            let value = m.staged.get((from + k) as usize).copied().unwrap_or(u64::MAX);
            m.put_copy(to.space, to.start.plus(u64::from(k)), value)
        });
        self.wake_copied(to, done)
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        let done =
            self.each(Verb::CopyIn, to, None, |m, k| m.put_copy(to.space, to.start.plus(u64::from(k)), 0));
        self.wake_copied(to, done)
    }

    /// Works on runs of present pages: where one page is refused (the program may not write it), the pages of its
    /// run before it are done but not counted. Holes count.
    fn unshare(&mut self, range: PageRange) -> Done {
        let strikes = self.injector.strikes.len();
        let one = |m: &mut SimMmu, k: u32| m.unshare_one(range.space, range.start.plus(u64::from(k)));
        let mut done = self.each(Verb::Unshare, range, None, one);
        let natural = done.refusal.is_some() && self.injector.strikes.len() == strikes;
        while natural
            && done.pages > 0
            && self.present(range.space, range.start.plus(u64::from(done.pages) - 1))
        {
            done.pages -= 1;
        }
        done
    }

    /// Both places keep their registration; the lock goes with the pages.
    fn remap(&mut self, from: PageRange, to: Vpn) -> Result<(), Refusal> {
        self.injector.whole(Verb::Remap, from)?;
        let tables = self.tables(from.space);
        if from.start.0.abs_diff(to.0) < from.pages {
            return Err(Refusal::Denied);
        }
        if !tables.covers(from.start.0, from.end().0) || !tables.covers(to.0, to.0 + from.pages) {
            return Err(Refusal::NoRange);
        }
        tables.remap(from.start.0, from.end().0, to.0);
        Ok(())
    }

    fn wake(&mut self, range: PageRange) {
        if self.waiters.is_empty() {
            return;
        }
        let woken = self.waiters.wake(range);
        // Each finds what is in the tables now.
        let waits_again = |m: &&Message| self.would(m.space, m.vpn, m.write) == Access::Fault;
        let vain: Vec<Message> = woken.iter().filter(waits_again).copied().collect();
        self.waiters.in_vain.extend(vain);
    }

    fn share(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        let range = PageRange::new(space, at, u64::from(frames.pages));
        let one = |m: &mut SimMmu, k: u32| m.share_one(space, at.plus(u64::from(k)), frames.start.plus(k));
        self.each(Verb::Share, range, Some(frames), one)
    }

    fn map_shared(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let range = PageRange::new(space, at, u64::from(frames.pages));
        let one =
            |m: &mut SimMmu, k: u32| m.map_one_shared(frames.start.plus(k), space, at.plus(u64::from(k)));
        self.each(Verb::MapShared, range, Some(frames), one)
    }

    fn unmap_shared(&mut self, range: PageRange) -> Done {
        for (done, vpn) in (range.start.0..range.end().0).enumerate() {
            if self.maps_frame(range.space, Vpn(vpn)).is_none() {
                return Done::part(done as u32, Refusal::Absent);
            }
            self.tables(range.space).take(vpn);
        }
        Done::all(range.pages as u32)
    }

    fn copy_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done {
        let range = PageRange::new(space, at, u64::from(frames.pages));
        let one = |m: &mut SimMmu, k: u32| m.copy_one_out(space, at.plus(u64::from(k)), frames.start.plus(k));
        self.each(Verb::CopyOut, range, Some(frames), one)
    }

    fn fork_space(&mut self, parent: Space, child: Space) -> Result<(), Refusal> {
        self.injector.whole(Verb::ForkSpace, PageRange::new(parent, Vpn(0), u64::MAX))?;
        let tables = self.tables(parent).fork_empty();
        self.spaces.insert(child, tables);
        self.injector.newborn = Some(child);
        Ok(())
    }

    fn end_space(&mut self, space: Space) {
        self.exit(space);
    }
}

/// What a move answers whose destination is present: see [`Mover`].
fn answer_for_present(source_is_present: bool) -> Result<(), Refusal> {
    if source_is_present { Err(Refusal::Exists) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
