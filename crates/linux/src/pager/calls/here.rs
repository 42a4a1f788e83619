//! Calls carried out on a thread of the program.
//!
//! It has no userfaultfd, so it neither moves pages nor wakes who waits for one. So it leaves to the service thread whatever
//! may need that: a range of which a page is moved out or being filled, of which a part is locked, marked, or a mapping of the
//! kernel's, and everything while another thread forks, limits have to be kept, or accesses are recorded.

use super::brk::Step;
use super::piece::first_run;
use super::place::{map_new, show_in_dumps};
use super::{Answer, Call, errno, piece};
use crate::control::note::Note;
use crate::limits;
use crate::pager::tables::Held;
use crate::pager::{Pager, SPACE, bytes_of, pages_of};
use crate::sys::sched::{self, SignalsBlocked};
use crate::sys::urge::Holding;
use quire_core::addr::{PAGE_SIZE, PageRange};
use quire_core::mmu::Prot;

/// Carries out a call on a thread of the program.
pub(in crate::pager) fn perform(pager: &'static Pager, call: Call) -> Answer {
    // A handler of the program's that ran now could make a call itself, and find the lock held below it.
    let _blocked = SignalsBlocked::new();
    let tid = sched::gettid();
    if pager.may_hold_the_lock(tid)
        && let Some(answer) = here(pager, call, tid)
    {
        return answer;
    }
    pager.exchange.ask(call, tid)
}

/// Carries a call out without help, on thread `tid`. `None`: the service thread has to do it.
fn here(pager: &'static Pager, call: Call, tid: u32) -> Option<Answer> {
    let plain = |flags: i32| flags & (libc::MAP_POPULATE | libc::MAP_LOCKED) == 0;
    match call {
        call if crate::pager::overcommit::matters(&call) => None,
        Call::Map { len, prot, flags } if plain(flags) => map(pager, tid, None, len, prot, flags),
        Call::MapAt { addr, len, prot, flags } if plain(flags) => {
            map(pager, tid, Some(addr), len, prot, flags)
        }
        Call::Break { to } => set_break(pager, tid, to),
        Call::Protect { addr, len, prot } => protect(pager, tid, pages_of(addr, len), prot),
        Call::Unmap { addr, len } if addr.is_multiple_of(PAGE_SIZE) => unmap(pager, tid, pages_of(addr, len)),
        Call::Advise { addr, len, advice: libc::MADV_DONTNEED | libc::MADV_FREE } => {
            give_up(pager, tid, pages_of(addr, len))
        }
        Call::Remap { old, old_len, new_len, flags, .. } if flags & !libc::MREMAP_MAYMOVE == 0 => {
            let (pages, may_move) = (new_len.div_ceil(PAGE_SIZE) as u64, flags & libc::MREMAP_MAYMOVE != 0);
            super::remap::here(pager, tid, pages_of(old, old_len), pages, may_move)
        }
        Call::Piece { addr, len } => Some(Ok(piece::find(&pager.tables.lock(), addr, len).encode())),
        Call::Keep { addr, len, owner } if pager.unevictable.has(addr, len, owner) => Some(Ok(0)),
        _ => None,
    }
    // There may be charges that the service thread can end.
    .filter(|answer| *answer != Err(libc::ENOMEM) || !crate::strict::charges())
}

/// The tables, where no fork, recording or limit makes the call the service thread's.
pub(super) fn begin(pager: &'static Pager) -> Option<Held<'static>> {
    let tables = pager.tables.lock();
    let alone = tables.frozen_for == 0 && pager.recorder().is_none() && !limits::is_limited();
    alone.then_some(tables)
}

fn map(
    pager: &'static Pager,
    tid: u32,
    at: Option<usize>,
    len: usize,
    prot: i32,
    flags: i32,
) -> Option<Answer> {
    let mut tables = begin(pager).filter(|tables| tables.lock_future.is_none())?;
    let _holding = Holding::by(tid);
    Some(map_new(pager, &mut tables, at, len, prot, flags))
}

fn set_break(pager: &'static Pager, tid: u32, to: usize) -> Option<Answer> {
    let mut tables = begin(pager).filter(|tables| tables.lock_future.is_none())?;
    let _holding = Holding::by(tid);
    match tables.step_of_break(pager, to) {
        Err(errno) => Some(Err(errno)),
        Ok(Step::Stays(end)) => Some(Ok(end)),
        Ok(Step::Grows(range)) if crate::pager::overcommit::is_large(range.pages) => None,
        Ok(Step::Grows(range)) => Some(Ok(tables.grow_break(pager, range, to))),
        Ok(Step::Shrinks(range)) => {
            drop(tables);
            let mut tables = discard(pager, tid, range)?;
            // Another thread may have set it meanwhile.
            if tables.step_of_break(pager, to) != Ok(Step::Shrinks(range)) {
                return None;
            }
            if let Err(errno) = take_away(pager, &mut tables, range) {
                return Some(Err(errno));
            }
            Some(Ok(tables.set_break(to)))
        }
    }
}

fn protect(pager: &'static Pager, tid: u32, range: PageRange, prot: i32) -> Option<Answer> {
    let mut tables = begin(pager)?;
    let _holding = Holding::by(tid);
    if range.is_empty() || first_run(&tables, range) != Some(range) || !tables.engine.protects_alone(range) {
        return None;
    }
    let prot = Prot::from_bits(prot as u32);
    if let Err(errno) = crate::pager::overcommit::may_protect(&tables.engine, range, prot) {
        return Some(Err(errno));
    }
    let has_rights = tables.uses_spare_rights(range, prot)
        || prot == Prot::READ_WRITE && {
            let unused = tables.end_of_unused(range.end());
            tables.gets_rights_ahead(range, unused, true)
        };
    if let Err(errno) = tables.take_back_rights(range) {
        return Some(Err(errno));
    }
    let done = tables.engine.protect(&mut pager.program_mmu().with_rights(has_rights), range, prot);
    Some(done.map(|()| 0).map_err(errno))
}

/// MADV_DONTNEED, and MADV_FREE, which may do the same.
fn give_up(pager: &'static Pager, tid: u32, range: PageRange) -> Option<Answer> {
    discard(pager, tid, range)?;
    Some(Ok(0))
}

pub(super) fn unmap(pager: &'static Pager, tid: u32, range: PageRange) -> Option<Answer> {
    let mut tables = discard(pager, tid, range)?;
    let _holding = Holding::by(tid);
    if let Err(errno) = take_away(pager, &mut tables, range) {
        return Some(Err(errno));
    }
    tables.room.give(range.start.0, range.end().0);
    Some(Ok(0))
}

/// Unmaps what [`discard`] has emptied. Its addresses stay taken.
fn take_away(pager: &Pager, tables: &mut Held<'_>, range: PageRange) -> Result<(), i32> {
    tables.take_back_rights(range)?;
    let keeps = tables.keeps_rights(range);
    tables.engine.unmap(&mut pager.program_mmu().with_rights(keeps), range).map_err(errno)?;
    pager.unevictable.forget(bytes_of(range));
    pager.note(Note::Unmap(range));
    if keeps {
        tables.spare_rights(range);
    } else {
        show_in_dumps(range, false);
    }
    Ok(())
}

/// Drops the contents of a range in bites of 2 MiB, letting others have the lock in between; the last one is left locked. `None`:
/// the service thread has to do it, or the rest of it.
fn discard(pager: &'static Pager, tid: u32, range: PageRange) -> Option<Held<'static>> {
    let mut rest = range;
    loop {
        let mut tables = begin(pager)?;
        let _holding = Holding::by(tid);
        // All of it each time: others may have changed it meanwhile.
        if range.is_empty() || first_run(&tables, range) != Some(range) || has_marks(&tables, range) {
            return None;
        }
        let Some(bite) = tables.engine.next_discard(rest) else {
            pager.show(&tables.engine);
            return Some(tables);
        };
        if !tables.engine.discards_alone(bite) {
            return None;
        }
        let left = tables.engine.discard_step(&mut pager.program_mmu(), bite);
        debug_assert!(left == Ok(None), "a bite is one step");
        if left.is_err() {
            return None;
        }
        rest = PageRange::between(SPACE, bite.end(), range.end());
    }
}

/// Whether the kernel has a mark on a part of a range.
fn has_marks(tables: &Held<'_>, range: PageRange) -> bool {
    tables.engine.vmas(SPACE).overlapping(range.start, range.end()).any(|vma| vma.locked || vma.tag != 0)
}

impl Pager {
    /// Whether the calling thread, by its id, may take the engine's lock: it can't fault while it holds it, and it is one
    /// of this process's.
    fn may_hold_the_lock(&self, tid: u32) -> bool {
        let here = 0u8;
        !crate::pager::is_managed((&raw const here).addr(), 1) && self.has_thread(tid)
    }
}
