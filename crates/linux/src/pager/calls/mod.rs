//! What a program asks of its address space, carried out in the engine's tables and in the kernel's.
//!
//! New memory is mapped on the program's own thread; everything else is handed to the service thread, since it
//! may have to take a folio from a job and wake who waits for it.

mod keep;
mod lock;
mod look;
mod remap;

use super::tables::Held;
use super::worker::Worker;
use super::{Pager, SPACE, Tables, bytes_of, own_pid, pages_of};
use crate::control::note::Note;
use crate::sys::mmap;
use crate::sys::sched::{self, SignalsBlocked};
use core::sync::atomic::Ordering;
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::job::Work;
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::{Hint, Vma};

/// A call that touches managed memory. Addresses and lengths are in bytes; those of existing memory are multiples
/// of a page and lie in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// New memory wherever there is room. `flags` as mmap's. Answers its address.
    Map {
        /// Bytes.
        len: usize,
        /// As mmap's.
        prot: i32,
        /// As mmap's.
        flags: i32,
    },
    /// New memory exactly there, in place of whatever is there.
    MapFixed {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// As mmap's.
        prot: i32,
        /// As mmap's.
        flags: i32,
    },
    /// This range, unmapped just before, now holds a mapping of the kernel's: nobody is given it until `Unmap`.
    MapForeign {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// As munmap.
    Unmap {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// As mprotect.
    Protect {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// As mprotect's.
        prot: i32,
    },
    /// As madvise.
    Advise {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// As madvise's.
        advice: i32,
    },
    /// As mlock; with `on_fault` as mlock2 with `MLOCK_ONFAULT`.
    Lock {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// Pages are locked when they come.
        on_fault: bool,
    },
    /// As munlock.
    Unlock {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// As mlockall, for managed memory.
    LockAll {
        /// As mlockall's.
        flags: i32,
    },
    /// As munlockall, for managed memory.
    UnlockAll,
    /// As mremap.
    Remap {
        /// Where it is.
        old: usize,
        /// Bytes now.
        old_len: usize,
        /// Bytes wanted.
        new_len: usize,
        /// As mremap's.
        flags: i32,
        /// With `MREMAP_FIXED`: where it is to be.
        new_addr: usize,
    },
    /// How many bytes from `addr` on, `len` at most, are mapped without a gap.
    MappedFrom {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// An object that the kernel touches when a thread dies, or where it can't wait: its pages stay present.
    Keep {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
        /// The thread, by its id, whose end is the last time; 0 for an object that the program ends itself.
        owner: u32,
    },
    /// Such an object is no more.
    LetGo {
        /// Where.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// Bring the tables to rest for a fork. Not for programs: see [`super::fork_prepare`].
    Freeze,
}

/// Kernel advice that Linux's own headers have and the `libc` crate may not.
const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;

/// Carries out a call on a thread of the program.
pub(super) fn perform(pager: &'static Pager, call: Call) -> Result<usize, i32> {
    // A handler of the program's that ran now could make a call itself, and find the lock held below it.
    let _blocked = SignalsBlocked::new();
    if let Call::Map { len, prot, flags } = call
        && flags & (libc::MAP_POPULATE | libc::MAP_LOCKED) == 0
        && pager.may_hold_the_lock()
        && let Some(answer) = map_here(pager, len, prot)
    {
        return answer;
    }
    if let Call::MappedFrom { addr, len } = call
        && pager.may_hold_the_lock()
    {
        return Ok(look::mapped_from(pager, addr, len));
    }
    if let Call::Keep { addr, len, owner } = call
        && pager.may_hold_the_lock()
        && pager.kept.holds(addr, len, owner)
    {
        return Ok(0);
    }
    pager.exchange.ask(call, sched::gettid())
}

/// Maps new memory without help. `None`: the service thread has to do it.
fn map_here(pager: &Pager, len: usize, prot: i32) -> Option<Result<usize, i32>> {
    let mut tables = pager.tables.lock();
    if tables.frozen_for != 0 || tables.lock_future.is_some() || pager.is_behind() {
        return None;
    }
    Some(map_new(pager, &mut tables, len, prot))
}

fn map_new(pager: &Pager, tables: &mut Tables, len: usize, prot: i32) -> Result<usize, i32> {
    let pages = len.div_ceil(PAGE_SIZE) as u64;
    if pages == 0 {
        return Err(libc::EINVAL);
    }
    let start = tables.room.take(pages).ok_or(libc::ENOMEM)?;
    let range = PageRange::new(SPACE, Vpn(start), pages);
    let mut mmu = pager.program_mmu();
    let prot = Prot::from_bits(prot as u32);
    match tables.engine.map_range(&mut mmu, range, prot) {
        Ok(()) => {
            pager.note(Note::Map { range, prot });
            Ok(range.start.addr() as usize)
        }
        Err(refusal) => {
            tables.room.give(start, start + pages);
            Err(errno(refusal))
        }
    }
}

impl Pager {
    /// The program did this. Under the engine's lock.
    fn note(&self, note: Note) {
        if let Some(recorder) = self.recorder() {
            recorder.note(note);
        }
    }

    /// Whether the calling thread may take the engine's lock: it can't fault while it holds it, and it is one
    /// of this process's.
    fn may_hold_the_lock(&self) -> bool {
        let here = 0u8;
        !super::is_managed((&raw const here).addr(), 1) && self.pid.load(Ordering::Relaxed) == own_pid()
    }

    /// In a forked child, on its only thread: memory that the parent marked is not there (`MADV_DONTFORK`) or
    /// empty (`MADV_WIPEONFORK`). The kernel has done its part; the tables follow.
    pub(super) fn follow_fork_advice(&self, tables: &mut Tables) -> Result<(), Refusal> {
        let mut mmu = self.program_mmu();
        for vma in self.vmas(tables) {
            let range = PageRange::between(SPACE, vma.start, vma.end);
            if vma.tag & TAG_DONT_FORK != 0 {
                // The gap would be the kernel's to fill: the arena has to close over it first.
                close_gap(range).map_err(|_| Refusal::NoMemory)?;
                tables.engine.unmap(&mut mmu, range)?;
                self.note(Note::Unmap(range));
                tables.room.give(range.start.0, range.end().0);
            } else if vma.tag & TAG_WIPE != 0 {
                let mut rest = Some(range);
                while let Some(bite) = rest {
                    rest = tables.engine.discard_step(&mut mmu, bite)?;
                }
                self.note(Note::Discard(range));
            }
        }
        Ok(())
    }
}

/// Makes a range part of the arena again: mapped, without access, empty.
fn close_gap(range: PageRange) -> crate::sys::Result<()> {
    let (addr, len) = (range.start.addr() as usize, range.pages as usize * PAGE_SIZE);
    mmap::replace(addr, len)?;
    mmap::protect(addr, len, 0)?;
    mmap::no_huge_pages(addr, len)
}

/// A VMA that a forked child does not get, or gets empty: bits of [`Vma::tag`].
pub(super) const TAG_DONT_FORK: u32 = 1;
pub(super) const TAG_WIPE: u32 = 2;

/// What the service thread needs to carry out calls.
pub(super) struct Caller {
    pager: &'static Pager,
    worker: Worker,
    pub(super) work: Box<Work>,
}

type Answer = Result<usize, i32>;

impl Caller {
    pub(super) fn new(pager: &'static Pager) -> Caller {
        Caller { pager, worker: Worker::new(pager), work: Box::new(Work::new()) }
    }

    /// Runs the job in `work`.
    pub(super) fn run_job(&mut self, pager: &Pager) {
        self.worker.run(pager, &mut self.work);
    }

    pub(super) fn execute(&mut self, call: Call) -> Answer {
        self.pager.await_notes(|| self.pager.watch.service_beat());
        match call {
            Call::Map { len, prot, flags } => self.map(len, prot, flags),
            Call::MapFixed { addr, len, prot, flags } => self.map_fixed(addr, len, prot, flags),
            Call::MapForeign { addr, len } => self.map_foreign(addr, len),
            Call::Unmap { addr, len } => self.unmap(addr, len),
            Call::Protect { addr, len, prot } => self.protect(addr, len, prot),
            Call::Advise { addr, len, advice } => self.advise(addr, len, advice),
            Call::Lock { addr, len, on_fault } => self.lock(pages_of(addr, len), on_fault),
            Call::Unlock { addr, len } => self.unlock(pages_of(addr, len)),
            Call::LockAll { flags } => self.lock_all(flags),
            Call::UnlockAll => self.unlock_all(),
            Call::Remap { old, old_len, new_len, flags, new_addr } => {
                self.remap(old, old_len, new_len, flags, new_addr)
            }
            Call::MappedFrom { addr, len } => Ok(look::mapped_from(self.pager, addr, len)),
            Call::Keep { addr, len, owner } => self.keep(addr, len, owner),
            Call::LetGo { addr, len } => self.let_go(addr, len),
            Call::Freeze => Err(libc::EINVAL),
        }
    }

    fn map(&mut self, len: usize, prot: i32, flags: i32) -> Answer {
        let addr = map_new(self.pager, &mut self.pager.tables.lock(), len, prot)?;
        self.after_map(pages_of(addr, len), flags)?;
        Ok(addr)
    }

    /// `MAP_POPULATE`, `MAP_LOCKED` and `mlockall(MCL_FUTURE)`.
    fn after_map(&mut self, range: PageRange, flags: i32) -> Result<(), i32> {
        let future = self.pager.tables.lock().lock_future;
        if flags & libc::MAP_LOCKED != 0 || future.is_some() {
            self.lock(range, future == Some(true) && flags & libc::MAP_LOCKED == 0)?;
        } else if flags & libc::MAP_POPULATE != 0 {
            self.bring_in(range);
        }
        Ok(())
    }

    fn map_fixed(&mut self, addr: usize, len: usize, prot: i32, flags: i32) -> Answer {
        let range = pages_of(addr, len);
        let mut tables = self.take_over(addr, len)?;
        let prot = Prot::from_bits(prot as u32);
        if let Err(refusal) = tables.engine.map_range(&mut self.pager.mover(), range, prot) {
            tables.room.give(range.start.0, range.end().0);
            return Err(errno(refusal));
        }
        self.pager.note(Note::Map { range, prot });
        drop(tables);
        self.after_map(range, flags)?;
        Ok(addr)
    }

    fn map_foreign(&mut self, addr: usize, len: usize) -> Answer {
        let range = pages_of(addr, len);
        self.pager.tables.lock().room.mark_foreign(range.start.0, range.end().0);
        Ok(0)
    }

    fn unmap(&mut self, addr: usize, len: usize) -> Answer {
        drop(self.clear(addr, len)?);
        Ok(0)
    }

    /// Unmaps whatever is there and takes the addresses at once, so that no other thread is given them meanwhile.
    fn take_over(&mut self, addr: usize, len: usize) -> Result<Held<'static>, i32> {
        let range = pages_of(addr, len);
        let mut tables = self.clear(addr, len)?;
        if tables.room.take_at(range.start.0, range.end().0) { Ok(tables) } else { Err(libc::ENOMEM) }
    }

    /// Unmaps, and gives the addresses back; the lock is still held.
    fn clear(&mut self, addr: usize, len: usize) -> Result<Held<'static>, i32> {
        let range = pages_of(addr, len);
        if !addr.is_multiple_of(PAGE_SIZE) || range.is_empty() {
            return Err(libc::EINVAL);
        }
        self.discard(range, true)?;
        let mut tables = self.pager.tables.lock();
        while let Some((start, end)) = tables.room.foreign_in(range.start.0, range.end().0) {
            self.take_back_foreign(start, end)?;
            tables.room.give(start, end);
        }
        tables.engine.unmap(&mut self.pager.mover(), range).map_err(errno)?;
        self.pager.kept.forget(bytes_of(range));
        self.pager.note(Note::Unmap(range));
        tables.room.give(range.start.0, range.end().0);
        Ok(tables)
    }

    /// Puts the arena back where a program had laid a mapping of the kernel's over it.
    fn take_back_foreign(&self, start: u64, end: u64) -> Result<(), i32> {
        let (addr, len) = (Vpn(start).addr() as usize, (end - start) as usize * PAGE_SIZE);
        let Some(descriptors) = self.pager.descriptors.get() else { return Err(libc::ENOMEM) };
        close_gap(PageRange::between(SPACE, Vpn(start), Vpn(end)))
            .and_then(|()| descriptors.uffd.register(addr, len, crate::sys::uffd::Watch::Missing))
            .map_err(|errno| errno.raw_os_error())
    }

    /// Drops contents in bites of 2 MiB, letting others have the lock in between.
    fn discard(&mut self, range: PageRange, locked_too: bool) -> Result<(), i32> {
        if locked_too {
            let locked = |vma: &&Vma| vma.locked;
            let any =
                |t: &Tables| t.engine.vmas(SPACE).overlapping(range.start, range.end()).any(|v| locked(&v));
            if any(&self.pager.tables.lock()) {
                self.unlock(range)?;
            }
        }
        self.settle_record(range);
        let mut rest = Some(range);
        while let Some(range) = rest {
            let mut tables = self.pager.tables.lock();
            self.pager.let_children_see(&mut tables, range);
            rest = tables.engine.discard_step(&mut self.pager.mover(), range).map_err(errno)?;
            drop(tables);
            self.pager.watch.service_beat();
        }
        Ok(())
    }

    /// The same, as the program asks for it.
    fn give_up(&mut self, range: PageRange, locked_too: bool) -> Result<(), i32> {
        self.discard(range, locked_too)?;
        let _tables = self.pager.tables.lock();
        self.pager.note(Note::Discard(range));
        Ok(())
    }

    /// What was written in `range` since it was read is noted now: afterwards it could not be told.
    fn settle_record(&self, range: PageRange) {
        self.pager.withdraw(range, || self.pager.watch.service_beat());
    }

    fn protect(&mut self, addr: usize, len: usize, prot: i32) -> Answer {
        let range = pages_of(addr, len);
        let prot = Prot::from_bits(prot as u32);
        if !prot.movable() {
            self.settle_record(range);
        }
        let mut tables = self.pager.tables.lock();
        tables.engine.protect(&mut self.pager.mover(), range, prot).map_err(errno)?;
        self.pager.note(Note::Protect { range, prot });
        Ok(0)
    }

    fn advise(&mut self, addr: usize, len: usize, advice: i32) -> Answer {
        let range = pages_of(addr, len);
        if !self.pager.tables.lock().engine.vmas(SPACE).covers(range.start, range.end()) {
            return Err(libc::ENOMEM);
        }
        match advice {
            libc::MADV_DONTNEED | libc::MADV_FREE => self.give_up(range, false)?,
            libc::MADV_DONTNEED_LOCKED => self.discard_locked(range)?,
            libc::MADV_NORMAL => self.hint(range, Hint::Normal),
            libc::MADV_SEQUENTIAL => self.hint(range, Hint::Sequential),
            libc::MADV_RANDOM => self.hint(range, Hint::Random),
            libc::MADV_HUGEPAGE | libc::MADV_COLLAPSE => self.hint(range, Hint::Huge),
            libc::MADV_NOHUGEPAGE => self.hint(range, Hint::Base),
            libc::MADV_COLD => self.pager.tables.lock().engine.cool(range),
            libc::MADV_PAGEOUT => self.pager.tables.lock().engine.page_out(&mut self.pager.mover(), range),
            libc::MADV_POPULATE_READ | libc::MADV_POPULATE_WRITE => self.bring_in(range),
            // Nothing is read ahead, and pages that were merged could not be moved.
            libc::MADV_WILLNEED | libc::MADV_MERGEABLE | libc::MADV_UNMERGEABLE => {}
            libc::MADV_DONTFORK => self.tag(range, advice, TAG_DONT_FORK, 0)?,
            libc::MADV_DOFORK => self.tag(range, advice, 0, TAG_DONT_FORK)?,
            libc::MADV_WIPEONFORK => self.tag(range, advice, TAG_WIPE, 0)?,
            libc::MADV_KEEPONFORK => self.tag(range, advice, 0, TAG_WIPE)?,
            // The mark that keeps remapped memory apart from its neighbours is the kernel's own of this name.
            libc::MADV_DONTDUMP | libc::MADV_DODUMP => {}
            // A guard is an entry in the page tables that no move gets past: as on a kernel without guards.
            MADV_GUARD_INSTALL | MADV_GUARD_REMOVE => return Err(libc::EINVAL),
            _ => return Err(libc::EINVAL),
        }
        Ok(0)
    }

    fn hint(&self, range: PageRange, hint: Hint) {
        self.pager.tables.lock().engine.advise(range, hint);
    }

    fn discard_locked(&mut self, range: PageRange) -> Result<(), i32> {
        let locked = self.pager.tables.lock().engine.vmas(SPACE).at(range.start).is_some_and(|v| v.locked);
        self.give_up(range, true)?;
        if locked {
            self.lock(range, true)?;
        }
        Ok(())
    }

    /// Advice that the kernel has to know too.
    fn tag(&self, range: PageRange, advice: i32, set: u32, clear: u32) -> Result<(), i32> {
        let mut tables = self.pager.tables.lock();
        let pieces: Vec<Vma> =
            tables.engine.vmas(SPACE).overlapping(range.start, range.end()).copied().collect();
        for vma in pieces {
            let (start, end) = (vma.start.max(range.start), vma.end.min(range.end()));
            let part = PageRange::between(SPACE, start, end);
            tables.engine.tag(&mut self.pager.mover(), part, vma.tag & !clear | set).map_err(errno)?;
        }
        mmap::advise_by_number(range.start.addr() as usize, range.pages as usize * PAGE_SIZE, advice)
            .map_err(|errno| errno.raw_os_error())
    }
}

/// What a program is told about a refusal.
fn errno(refusal: Refusal) -> i32 {
    match refusal {
        Refusal::NoRange | Refusal::NoMemory => libc::ENOMEM,
        Refusal::Denied | Refusal::Absent => libc::EINVAL,
        Refusal::Exists => libc::EEXIST,
        Refusal::Busy | Refusal::Again => libc::EAGAIN,
    }
}
