//! The engine's verbs on real page tables.
//!
//! [`LinuxMmu`] does them on the three places of a process, [`Places`]. The program's own threads have no userfaultfd
//! (it is in the pager's descriptor table), so theirs refuses the verbs of [`Mover`].

use crate::control::profile::Phase;
use crate::die;
use crate::fork_events::{ForkEvents, Wait};
use crate::pager::profile::{Lap, Stopwatch};
use crate::pager::record::Recorder;
use crate::places::Places;
use crate::strict;
use crate::sys::Cause;
use crate::sys::bytes::Stretch;
use crate::sys::futex::Lock;
use crate::sys::mmap::{self, Advice};
use crate::sys::pagemap::{Pagemap, present_without_fd};
use crate::sys::uffd::{Faults, Moved, Uffd};
use crate::sys::{Errno, Result as SysResult};
use crate::unevictable::Unevictable;
use core::ops::Range;
use quire_core::addr::{FrameRun, PAGE_SIZE, PageRange, Space, Vpn};
use quire_core::job::{Stored, Work};
use quire_core::mmu::{Done, Mmu, Mover, Prot, Refusal};
use quire_core::{Block, Figures, Message, Store, StoreMemory, Tend, Urgency};

/// The unit of [`Place::Ram`](quire_core::job::Place::Ram), in bytes.
pub const STORE_UNIT: usize = 16;

/// The verbs, for one thread.
#[derive(Clone, Copy, Debug)]
pub struct LinuxMmu<'a> {
    places: &'a Places,
    uffd: Option<&'a Uffd>,
    pagemap: Option<&'a Pagemap>,
    staged: Option<Stretch>,
    recorder: Option<&'a Recorder>,
    unevictable: Option<&'a Unevictable>,
    forks: Option<&'a ForkEvents>,
    stopwatch: Option<&'a Stopwatch>,
    store: Option<&'a Lock<Store>>,
    has_rights: bool,
}

impl<'a> LinuxMmu<'a> {
    /// For the pager's threads, in whose descriptor table `uffd` and `pagemap` are.
    pub const fn for_pager(places: &'a Places, uffd: &'a Uffd, pagemap: &'a Pagemap) -> LinuxMmu<'a> {
        LinuxMmu {
            places,
            uffd: Some(uffd),
            pagemap: Some(pagemap),
            staged: None,
            recorder: None,
            unevictable: None,
            forks: None,
            stopwatch: None,
            store: None,
            has_rights: false,
        }
    }

    /// The same, and says where the contents are that [`Mover::copy_staged`] copies.
    #[must_use]
    pub const fn with_staged(self, staged: Stretch) -> LinuxMmu<'a> {
        LinuxMmu { staged: Some(staged), ..self }
    }

    /// The same, and tells `recorder` which pages come and go.
    #[must_use]
    pub(crate) const fn recorded_by(self, recorder: Option<&'a Recorder>) -> LinuxMmu<'a> {
        LinuxMmu { recorder, ..self }
    }

    /// The same, and refuses to move out what `unevictable` names.
    #[must_use]
    pub const fn sparing(self, unevictable: &'a Unevictable) -> LinuxMmu<'a> {
        LinuxMmu { unevictable: Some(unevictable), ..self }
    }

    /// The same, and keeps what it brings to the program for the children in `forks` too.
    #[must_use]
    pub const fn told_of(self, forks: &'a ForkEvents) -> LinuxMmu<'a> {
        LinuxMmu { forks: Some(forks), ..self }
    }

    /// The same, and talks to `store`, whose contents are in the places. Without one nothing can be stored.
    #[must_use]
    pub(crate) const fn storing_in(self, store: &'a Lock<Store>) -> LinuxMmu<'a> {
        LinuxMmu { store: Some(store), ..self }
    }

    /// The same, and takes the time of its verbs for a fault.
    #[must_use]
    pub(crate) const fn timed_by(self, stopwatch: &'a Stopwatch) -> LinuxMmu<'a> {
        LinuxMmu { stopwatch: Some(stopwatch), ..self }
    }

    /// The same. With `has`, the kernel's rights stay as they are: they are good, or no page is there and the handler knows.
    #[must_use]
    pub(crate) const fn with_rights(self, has: bool) -> LinuxMmu<'a> {
        LinuxMmu { has_rights: has, ..self }
    }

    /// A verb begins that is of this phase of a fault, until what this gives is dropped.
    fn lap(&self, phase: Phase) -> Option<Lap<'a>> {
        self.stopwatch.map(|stopwatch| stopwatch.lap(phase))
    }

    /// For the program's threads: the verbs of [`Mover`] answer [`Refusal::NoRange`] and do nothing.
    pub const fn for_program(places: &'a Places) -> LinuxMmu<'a> {
        LinuxMmu {
            places,
            uffd: None,
            pagemap: None,
            staged: None,
            recorder: None,
            unevictable: None,
            forks: None,
            stopwatch: None,
            store: None,
            has_rights: false,
        }
    }

    /// Whether the verbs of [`Mover`] work.
    pub const fn is_pager(&self) -> bool {
        self.uffd.is_some()
    }

    /// The places it works on.
    pub const fn places(&self) -> &'a Places {
        self.places
    }

    fn pages(&self, range: PageRange) -> Result<(usize, usize), Refusal> {
        self.places.pages(range.start, range.pages)
    }

    /// Everything that a transfer between frames and pages needs, or why it can't be.
    fn ends(&self, frames: FrameRun, at: Vpn) -> Result<(&'a Uffd, usize, usize), Refusal> {
        let uffd = self.uffd.ok_or(Refusal::NoRange)?;
        let (in_pool, _) = self.places.in_pool(frames).ok_or(Refusal::NoRange)?;
        let (pages, _) = self.places.pages(at, u64::from(frames.pages))?;
        Ok((uffd, in_pool, pages))
    }

    /// How many of `pages` pages at `at` come before the first unevictable one; `None` where none is.
    fn before_unevictable(&self, at: Vpn, pages: u32) -> Option<u32> {
        self.unevictable?.first_in(at.addr() as usize, pages as usize).map(|first| first as u32)
    }

    fn move_out_all(&self, at: Vpn, frames: FrameRun) -> Done {
        match self.ends(frames, at) {
            Ok((uffd, in_pool, pages)) => {
                if let Err(errno) = self.places.open_frames(frames) {
                    return none(frames.pages, refusal(errno));
                }
                if let Some(forks) = self.forks.filter(|_| !uffd.tells_forks()) {
                    forks.withhold(self.places);
                }
                let done = self.transfer(uffd, in_pool, pages, frames.pages);
                if let Some(recorder) = self.recorder {
                    recorder.moved_out(at, FrameRun::new(frames.start, done.pages), self.places.pool());
                }
                done
            }
            Err(why) => none(frames.pages, why),
        }
    }

    /// Moves `pages` pages from address `src` into holes at `dst`.
    ///
    /// Linux 6.18 says EEXIST of a page that it has moved, where it first had to wait because the page was being migrated
    /// (compaction does that to any page at any time): the error of the wait outlives it, the kernel moves the same page
    /// again, and finds it where it has just put it. Such a page is at `dst` and no longer at `src`, and counts as moved.
    /// To take the kernel at its word would lose its contents.
    fn transfer(&self, uffd: &Uffd, dst: usize, src: usize, pages: u32) -> Done {
        let has_moved = |at: usize| self.is_present(dst + at) && !self.is_present(src + at);
        piecewise(pages, Errno::INVAL, |from, len| {
            let (mut bytes, mut wait) = (0, Wait::begin());
            loop {
                let at = from + bytes;
                self.keep_for_children(dst + at, Some(self.places.pool()), src + at, len - bytes);
                let moved = uffd.move_pages(dst + at, src + at, len - bytes);
                bytes += moved.bytes;
                if moved.errno == Some(Errno::AGAIN) && self.waits_for_fork(uffd, &mut wait) {
                    continue;
                }
                if moved.errno != Some(Errno::EXIST) || !has_moved(from + bytes) {
                    return Moved { bytes, errno: moved.errno };
                }
                bytes += PAGE_SIZE;
                if bytes == len {
                    return Moved { bytes, errno: None };
                }
            }
        })
    }

    fn is_present(&self, addr: usize) -> bool {
        match self.pagemap {
            Some(map) => map.present(addr).unwrap_or_else(|_| present_without_fd(addr)),
            None => present_without_fd(addr),
        }
    }

    /// Tells that the first pages of what begins at `at` are at the program's address.
    fn record_mapped(&self, at: Vpn, done: Done) -> Done {
        if let Some(recorder) = self.recorder {
            recorder.mapped(PageRange::new(Space(0), at, u64::from(done.pages)));
        }
        done
    }

    /// After a verb stood still for a fork that is under way: whether to try again.
    fn waits_for_fork(&self, uffd: &Uffd, wait: &mut Wait) -> bool {
        uffd.tells_forks() && self.forks.is_some_and(|forks| wait.goes_on(forks, uffd))
    }

    /// While children wait for their memory: keeps what is about to be brought from `src`, in `place`, to the program at
    /// `dst`. What is moved out of the program they have.
    fn keep_for_children(&self, dst: usize, place: Option<Stretch>, src: usize, len: usize) {
        let (Some(forks), Some(place)) = (self.forks, place) else { return };
        if forks.waiting() == 0 || !self.places.is_managed(dst) {
            return;
        }
        for at in (0..len).step_by(PAGE_SIZE) {
            place.with_page((src + at - place.base()) / PAGE_SIZE, |page| {
                forks.keep(Vpn::of((dst + at) as u64), page);
            });
        }
    }

    /// Copies what is at address `source`, in `place`, into holes of the program. Whether it `wakes` who waits for them.
    fn copy_from(&self, source: usize, place: Option<Stretch>, to: PageRange, wakes: bool) -> Done {
        let (Some(uffd), Ok((at, _))) = (self.uffd, self.pages(to)) else {
            return none(to.pages as u32, Refusal::NoRange);
        };
        let done = piecewise(to.pages as u32, Errno::NOENT, |offset, len| {
            let (mut bytes, mut wait) = (0, Wait::begin());
            loop {
                let (dst, src) = (at + offset + bytes, source + offset + bytes);
                self.keep_for_children(dst, place, src, len - bytes);
                let copied = uffd.copy(dst, src, len - bytes, wakes);
                bytes += copied.bytes;
                if copied.errno != Some(Errno::AGAIN) || !self.waits_for_fork(uffd, &mut wait) {
                    return Moved { bytes, errno: copied.errno };
                }
            }
        });
        let done = self.record_mapped(to.start, done);
        match done.refusal {
            // A copy reads holes of the source as zeroes: ENOENT is about its destination.
            Some(Refusal::Absent) => Done::part(done.pages, Refusal::NoRange),
            _ => done,
        }
    }

    /// Moves one piece of a kernel VMA and registers it in its old place and, if it is `managed`, in its new one.
    ///
    /// The kernel drops the registration of what it moves, and with it that of every neighbour which it joins to the
    /// moved piece: their holes would read as zeroes from now on. While it moves, the piece bears a mark that no
    /// neighbour has (advice that means nothing here), so it is joined to nothing but, side by side, its old place.
    fn remap_piece(&self, uffd: &Uffd, from: usize, to: usize, len: usize, managed: bool) -> SysResult<()> {
        mmap::advise(from, len, Advice::Random)?;
        let moved = mmap::move_pages(from, len, to);
        if moved.is_ok() && managed && strict::charges() {
            // Joined to a neighbour that was touched it would stay charged.
            let _ = mmap::protect(from, len, Prot::NONE.bits());
        }
        for (place, known) in [(from, true), (to, managed)] {
            if moved.is_ok()
                && known
                && let Err(errno) = uffd.register(place, len, Faults::Missing)
            {
                die!(
                    "moved memory at {place:#x}+{len:#x} can't be registered: {errno}",
                    errno = Cause(errno)
                );
            }
        }
        let _ = mmap::advise(from, len, Advice::Normal);
        if moved.is_ok() {
            let _ = mmap::advise(to, len, Advice::Normal);
            // Until it is mapped again, it is like all that is free.
            let _ = mmap::advise(from, len, Advice::DontDump);
        }
        moved
    }

    /// Moves program pages over a mapping outside the arena: they are the kernel's there. The old place stays as it is,
    /// without its contents. Works VMA by VMA of the kernel's, as [`Mover::remap`] does.
    pub(crate) fn move_away(&mut self, from: PageRange, to: usize) -> Result<(), Refusal> {
        let uffd = self.uffd.ok_or(Refusal::NoRange)?;
        let (old, _) = self.pages(from)?;
        self.move_pieces(uffd, old, to, from.pages, false)?;
        if let Some(recorder) = self.recorder {
            recorder.emptied(from);
        }
        Ok(())
    }

    /// The process ends where a later piece is refused after an earlier one has moved, since half a move can't be told.
    fn move_pieces(
        &self,
        uffd: &Uffd,
        old: usize,
        new: usize,
        pages: u64,
        managed: bool,
    ) -> Result<(), Refusal> {
        let count = u32::try_from(pages).map_err(|_| Refusal::NoMemory)?;
        let moved = piecewise(count, Errno::FAULT, |at, len| {
            // Both places are charged until the old one has no rights.
            let len = if managed && strict::charges() { len.min(strict::MOST_MOVED) } else { len };
            match self.remap_piece(uffd, old + at, new + at, len, managed) {
                Ok(()) => Moved { bytes: len, errno: None },
                Err(errno) => Moved { bytes: 0, errno: Some(errno) },
            }
        });
        match (moved.pages, moved.refusal) {
            (_, None) => Ok(()),
            (0, Some(why)) => Err(why),
            (some, Some(why)) => {
                die!("only {some} of {pages} pages at {old:#x} could be moved: {why:?}")
            }
        }
    }
}

impl Mmu for LinuxMmu<'_> {
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        let (addr, len) = self.pages(range)?;
        // Whether locked memory may be discarded is decided where the program's call is understood.
        mmap::advise(addr, len, Advice::DontNeedLocked).map_err(|errno| match errno {
            Errno::NOMEM => Refusal::NoRange,
            other => refusal(other),
        })?;
        if let Some(recorder) = self.recorder {
            recorder.emptied(range);
        }
        Ok(())
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        let (addr, len) = self.pages(range)?;
        if self.has_rights {
            return Ok(());
        }
        mmap::protect(addr, len, prot.bits()).map_err(refusal)
    }

    fn lock(&mut self, range: PageRange, locked: bool) -> Result<(), Refusal> {
        let (addr, len) = self.pages(range)?;
        let verb = if locked { mmap::lock_on_fault } else { mmap::unlock };
        verb(addr, len).map_err(refusal)
    }

    fn present(&mut self, _space: Space, vpn: Vpn) -> bool {
        let _lap = self.lap(Phase::Other);
        self.places.pages(vpn, 1).is_ok_and(|(addr, _)| self.is_present(addr))
    }

    fn release(&mut self, frames: FrameRun) {
        let _lap = self.lap(Phase::Evict);
        let Some((addr, len)) = self.places.in_pool(frames) else { return };
        give_back(addr, len);
    }

    fn release_all(&mut self, runs: &[FrameRun]) {
        let _lap = self.lap(Phase::Evict);
        for some in runs.chunks(mmap::MOST_DROPPED) {
            given_back(mmap::drop_all(some.iter().filter_map(|&run| self.places.in_pool(run))));
        }
    }

    fn tell(&mut self, message: Message) {
        if let Some(store) = self.store {
            store.lock().hear(&mut StoreRam(self.places), message);
        }
    }

    fn look(&self, block: Block) -> Option<Stored> {
        self.store?.lock().look(block)
    }

    fn figures(&self) -> Figures {
        self.store.map(|store| store.lock().figures()).unwrap_or_default()
    }

    fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend {
        let _lap = self.lap(Phase::Evict);
        let tend = |store: &Lock<Store>| store.lock().tend(&mut StoreRam(self.places), urgency, work);
        self.store.map_or(Tend::Idle, tend)
    }
}

/// The memory of a process's own store.
#[derive(Debug)]
pub struct StoreRam<'a>(pub &'a Places);

impl StoreMemory for StoreRam<'_> {
    fn move_stored(&mut self, from: u32, to: u32, len: u16) {
        if let Err(errno) = self.0.open_store(to as usize * STORE_UNIT + usize::from(len)) {
            die!("the kernel refuses memory for the store: {errno}", errno = Cause(errno));
        }
        self.0.store().copy(from as usize * STORE_UNIT, to as usize * STORE_UNIT, usize::from(len));
    }

    fn release_stored(&mut self, pages: Range<u32>) {
        let (start, end) = (pages.start as usize * PAGE_SIZE, pages.end as usize * PAGE_SIZE);
        if end <= self.0.store().len() {
            give_back(self.0.store().base() + start, end - start);
        }
    }
}

impl Mover for LinuxMmu<'_> {
    fn move_in(&mut self, frames: FrameRun, _space: Space, at: Vpn) -> Done {
        let _lap = self.lap(Phase::Place);
        match self.ends(frames, at) {
            Ok((uffd, in_pool, pages)) => {
                self.record_mapped(at, self.transfer(uffd, pages, in_pool, frames.pages))
            }
            Err(why) => none(frames.pages, why),
        }
    }

    fn move_out(&mut self, _space: Space, at: Vpn, frames: FrameRun) -> Done {
        let _lap = self.lap(Phase::Evict);
        let Some(before) = self.before_unevictable(at, frames.pages) else {
            return self.move_out_all(at, frames);
        };
        // Denied, as what is locked is: the engine does not try again until it is told.
        let done = self.move_out_all(at, FrameRun::new(frames.start, before));
        done.refusal.map_or(Done::part(before, Refusal::Denied), |_| done)
    }

    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done {
        let _lap = self.lap(Phase::Place);
        match self.places.in_pool(frames) {
            Some((in_pool, _)) => {
                let to = PageRange::new(space, at, u64::from(frames.pages));
                self.copy_from(in_pool, Some(self.places.pool()), to, false)
            }
            None => none(frames.pages, Refusal::NoRange),
        }
    }

    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done {
        let _lap = self.lap(Phase::Place);
        let start = from as usize * PAGE_SIZE;
        match self.staged {
            Some(staged) if start + to.pages as usize * PAGE_SIZE <= staged.len() => {
                self.copy_from(staged.base() + start, self.staged, to, true)
            }
            _ => none(to.pages as u32, Refusal::NoRange),
        }
    }

    fn copy_zeroes(&mut self, to: PageRange) -> Done {
        let _lap = self.lap(Phase::Place);
        static ZEROES: [u8; PAGE_SIZE] = [0; PAGE_SIZE];
        let mut done = 0;
        for page in (0..to.pages).map(|i| PageRange::new(to.space, to.start.plus(i), 1)) {
            if let Some(refusal) = self.copy_from(ZEROES.as_ptr().addr(), None, page, true).refusal {
                return Done::part(done, refusal);
            }
            done += 1;
        }
        Done::all(done)
    }

    fn unshare(&mut self, range: PageRange) -> Done {
        let pages = range.pages as u32;
        let (Ok((addr, _)), Some(map)) = (self.pages(range), self.pagemap) else {
            return none(pages, Refusal::NoRange);
        };
        let mut done = 0;
        let result = map.runs(addr, pages as usize, |first, count, present| {
            if present {
                mmap::advise(addr + first * PAGE_SIZE, count * PAGE_SIZE, Advice::PopulateWrite)?;
            }
            done = (first + count) as u32;
            Ok(())
        });
        match result {
            Ok(()) => Done::all(pages),
            Err(errno) => Done::part(done, refusal(errno)),
        }
    }

    /// Works VMA by VMA of the kernel's, whose bounds it finds by trying.
    fn remap(&mut self, from: PageRange, to: Vpn) -> Result<(), Refusal> {
        let uffd = self.uffd.ok_or(Refusal::NoRange)?;
        let (old, len) = self.pages(from)?;
        let (new, _) = self.places.pages(to, from.pages)?;
        if old.abs_diff(new) < len {
            return Err(Refusal::Denied);
        }
        self.move_pieces(uffd, old, new, from.pages, true)?;
        if let Some(recorder) = self.recorder {
            recorder.moved(from, to);
        }
        match mmap::protect(old, len, Prot::NONE.bits()) {
            Ok(()) => Ok(()),
            // The place is empty, and touching it is a message about a page that nobody has.
            Err(Errno::NOMEM) => Ok(()),
            Err(errno) => Err(refusal(errno)),
        }
    }

    fn wake(&mut self, range: PageRange) {
        let _lap = self.lap(Phase::Wake);
        if let (Some(uffd), Ok((addr, len))) = (self.uffd, self.pages(range))
            && len > 0
            && let Err(errno) = uffd.wake(addr, len)
        {
            die!("threads that wait at {addr:#x} can't be woken: {errno}", errno = Cause(errno));
        }
    }
}

/// Nothing of `pages` pages was done, which is all where there are none.
fn none(pages: u32, why: Refusal) -> Done {
    if pages == 0 { Done::all(0) } else { Done::part(0, why) }
}

fn give_back(addr: usize, len: usize) {
    if len > 0 {
        given_back(mmap::advise(addr, len, Advice::DontNeedLocked));
    }
}

/// What is not given back would be taken for fresh memory: old contents would be a program's zeroes, and a page that the
/// kernel still sends for the program would be written.
fn given_back(result: SysResult<()>) {
    match result {
        // Not mapped, as in a forked child that has no pool yet: nothing is there.
        Ok(()) | Err(Errno::NOMEM) => {}
        Err(errno) => die!("memory can't be given back to the kernel: {errno}", errno = Cause(errno)),
    }
}

/// Does `pages` pages by `verb(offset, length)`, both in bytes.
///
/// One verb must stay within one VMA of the kernel's, and says `across` otherwise. The kernel doesn't join
/// neighbours that are alike but were first touched apart, so what the engine sees as one range can be two:
/// where the whole is refused, its halves are tried, down to the page that is meant.
fn piecewise(pages: u32, across: Errno, mut verb: impl FnMut(usize, usize) -> Moved) -> Done {
    let mut done = 0;
    let mut step = pages;
    while done < pages {
        let count = step.min(pages - done);
        let moved = verb(done as usize * PAGE_SIZE, count as usize * PAGE_SIZE);
        done += (moved.bytes / PAGE_SIZE) as u32;
        match moved.errno {
            None => step = step.saturating_mul(2),
            Some(errno) if errno == across && moved.bytes == 0 && count > 1 => step = count / 2,
            Some(errno) => return Done::part(done, refusal(errno)),
        }
    }
    Done::all(pages)
}

/// What an error number means; see the table of UFFDIO_MOVE's answers in [`quire_core::mmu`].
fn refusal(errno: Errno) -> Refusal {
    match errno {
        Errno::BUSY => Refusal::Busy,
        Errno::EXIST => Refusal::Exists,
        Errno::NOENT => Refusal::Absent,
        Errno::NOMEM => Refusal::NoMemory,
        Errno::AGAIN | Errno::INTR => Refusal::Again,
        Errno::FAULT | Errno::SRCH | Errno::BADF => Refusal::NoRange,
        _ => Refusal::Denied,
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wakes;
