//! Children that were made behind our back: by a clone in assembly, or by the fork of a second libc.
//!
//! The kernel tells of them ([`crate::fork_events`]). What they lack is copied to them from wherever it is, and from then on
//! they are no concern of ours: their memory is plain and whole, and outside of the budget. Their own calls on memory find
//! no pager ([`super::arena`]) and go to the kernel.

use super::calls::{TAG_DONT_FORK, TAG_WIPE};
use super::worker::{self, Worker};
use super::{Pager, SPACE, Tables};
use crate::die;
use crate::fork_events::{Children, read};
use crate::say;
use crate::sys::clock::now_ns;
use crate::sys::futex;
use crate::sys::mmap::{self, Advice};
use crate::sys::uffd::{Uffd, UffdMsg};
use crate::sys::{Cause, Errno};
use core::sync::atomic::Ordering;
use quire_core::addr::{PAGE_SIZE, PageRange, Vpn};
use quire_core::job::{JobKind, Outcome, Work};
use quire_core::vma::Vma;
use quire_core::{Halt, PageState, Whereabouts};

/// Pages that are brought to a child at once: 256 KiB.
pub(super) const AT_ONCE: usize = 64;
/// How long a copy to a child is tried for which there is no memory, in ns.
const TIMEOUT_NS: u64 = 10_000_000_000;

impl Pager {
    /// Brings to every child that waits what it lacks. Under the engine's lock, and with nothing half done.
    pub(super) fn make_children_whole(&self, tables: &mut Tables) {
        let Children { mut memories, brought } = self.fork_events.take();
        if memories.is_empty() {
            return;
        }
        let vmas = self.vmas(tables);
        let gets = |vma: &&Vma| vma.tag & (TAG_DONT_FORK | TAG_WIPE) == 0;
        for (vpn, page) in brought {
            if vmas.iter().filter(gets).any(|vma| vma.start <= vpn && vpn < vma.end) {
                give(&mut memories, vpn, page.as_slice());
            }
        }
        let mut bringer = Bringer::new(self);
        for vma in vmas.iter().filter(gets) {
            bringer.bring(tables, PageRange::between(SPACE, vma.start, vma.end), &mut memories);
        }
        self.made_whole.fetch_add(memories.len() as u32, Ordering::Relaxed);
        // Their descriptors are closed here, which makes their arenas plain memory.
    }

    /// Before the contents of `range` are dropped from the tables: a child whose fork came before has what it lacks of them.
    ///
    /// So the kernel's tables come first. A fork from now on copies what is left; one before holds up every copy until its
    /// message was read, which tells it.
    pub(super) fn let_children_see(&self, tables: &mut Tables, range: PageRange) {
        let Some(uffd) = self.descriptors.get().map(|d| &d.uffd).filter(|uffd| uffd.tells_forks()) else {
            return;
        };
        let Some(bite) = tables.engine.next_discard(range) else { return };
        let locked = tables.engine.vmas(SPACE).overlapping(bite.start, bite.end()).any(|vma| vma.locked);
        if locked {
            // It will be refused.
            return;
        }
        let (addr, len) = (bite.start.addr() as usize, bite.pages as usize * PAGE_SIZE);
        // Where it is refused, it will be again.
        let _ = mmap::advise(addr, len, Advice::DontNeedLocked);
        self.complete_forks(tables, uffd);
    }

    /// Before `range` moves: children whose fork came before are made whole; one that is forked before it is granted again
    /// does not get it at all, since half a move could not be told from a whole one.
    pub(super) fn withhold_from_children(&self, tables: &mut Tables, range: PageRange) {
        if let Some(uffd) = self.descriptors.get().map(|d| &d.uffd).filter(|uffd| uffd.tells_forks()) {
            self.advise(range, Advice::DontFork);
            self.complete_forks(tables, uffd);
        }
    }

    /// After it has moved.
    pub(super) fn grant_to_children(&self, range: PageRange) {
        if self.sees_forks() {
            self.advise(range, Advice::DoFork);
        }
    }

    /// After it has moved out of the arena.
    pub(super) fn leave_to_children(&self, range: PageRange) {
        if self.sees_forks() || self.fork_events.withholds() {
            self.advise(range, Advice::DoFork);
        }
    }

    pub(super) fn advise(&self, range: PageRange, advice: Advice) {
        let (addr, len) = (range.start.addr() as usize, range.pages as usize * PAGE_SIZE);
        if let Err(errno) = mmap::advise(addr, len, advice) {
            die!("{advice:?} is refused for memory at {addr:#x}: {errno}", errno = Cause(errno));
        }
    }

    /// Where children do not get the arena: the next one does, but for what the program keeps from it.
    pub(super) fn pass_on_for_fork(&self) {
        let tables = self.tables.lock();
        for part in self.own_parts(&tables) {
            self.advise(part, Advice::DoFork);
        }
        for (start, end) in tables.room.all_foreign() {
            let (addr, pages) = (Vpn(start).addr() as usize, end - start);
            // A device's memory is refused: no child is to have it.
            let _ = mmap::advise(addr, pages as usize * PAGE_SIZE, Advice::DoFork);
        }
        for vma in self.vmas(&tables).iter().filter(|vma| vma.tag & TAG_DONT_FORK != 0) {
            self.advise(PageRange::between(SPACE, vma.start, vma.end), Advice::DontFork);
        }
    }

    /// Makes whole whoever was forked before now.
    fn complete_forks(&self, tables: &mut Tables, uffd: &Uffd) {
        self.fork_events.wait_for_forks(uffd);
        if self.fork_events.waiting() > 0 && tables.frozen_for == 0 {
            self.make_children_whole(tables);
        }
    }

    /// Threads wait at the gate: their children are whole when the engine's lock can be had.
    pub(super) fn let_through(&self, gate: &Uffd) {
        let tables = self.tables_first();
        let mut messages = [UffdMsg::EMPTY; 8];
        let count = read(gate, &mut messages);
        // The children's gates are closed with these descriptors.
        let through = messages[..count].iter_mut().filter_map(UffdMsg::take_child).count() as u32;
        if tables.frozen_for != 0 {
            self.through_frozen.fetch_add(through, Ordering::Relaxed);
        }
        drop(tables);
        self.tell_of_children();
    }

    /// Says once that there are children outside of the budget.
    fn tell_of_children(&self) {
        if self.made_whole.load(Ordering::Relaxed) > 0
            && self.told_of_children.swap(1, Ordering::Relaxed) == 0
        {
            self.tell(format_args!(
                "a child was made behind Quire's back (by a clone in assembly, or by the fork of a second libc): it has all \
                 of its memory, outside the budget"
            ));
        }
    }

    /// At the end of a fork that was announced, whose child makes a pager of its own. If the kernel told of one child, and
    /// of none that came through the gate, it is that one; else all are made whole, as if none had been announced.
    pub(super) fn drop_announced(&self) {
        let _tables = self.tables.lock();
        let through = self.through_frozen.swap(0, Ordering::Relaxed);
        if self.fork_events.waiting() == 1 && through == 0 {
            drop(self.fork_events.take());
        }
    }
}

/// Where what a child lacks is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Frames,
    Store,
}

/// Brings what is not present, run by run.
struct Bringer<'a> {
    pager: &'a Pager,
    worker: Worker,
    work: Work,
}

impl<'a> Bringer<'a> {
    fn new(pager: &'a Pager) -> Bringer<'a> {
        let mut work = Work::new();
        (work.kind, work.staged) = (JobKind::Read, true);
        Bringer { pager, worker: Worker::with_room(pager, AT_ONCE), work }
    }

    fn bring(&mut self, tables: &Tables, range: PageRange, memories: &mut Vec<Uffd>) {
        let mut at = range.start;
        while let Some(first) = tables.engine.next_away(PageRange::between(SPACE, at, range.end())) {
            let rest = PageRange::between(SPACE, first, range.end().min(first.plus(AT_ONCE as u64)));
            at = match source(&tables.engine.whereabouts(SPACE, first)) {
                Some(Source::Frames) => self.bring_frame(tables, first, memories),
                Some(Source::Store) => self.bring_stored(tables, rest, memories),
                None => first.plus(1),
            };
            self.pager.watchdog.handler_beat();
            self.pager.watchdog.service_beat();
        }
    }

    /// Brings the page that is in a frame; says where to go on.
    fn bring_frame(&mut self, tables: &Tables, vpn: Vpn, memories: &mut Vec<Uffd>) -> Vpn {
        if let Some(frame) = tables.engine.whereabouts(SPACE, vpn).frame {
            self.pager.places.pool().with_page(frame.0 as usize, |page| give(memories, vpn, page));
        }
        vpn.plus(1)
    }

    /// Brings the first pages of `range`, as far as they are stored.
    fn bring_stored(&mut self, tables: &Tables, range: PageRange, memories: &mut Vec<Uffd>) -> Vpn {
        self.work.blocks.clear();
        for at in 0..range.pages {
            let page = tables.engine.whereabouts(SPACE, range.start.plus(at));
            if source(&page) != Some(Source::Store) {
                break;
            }
            self.work.blocks.push(page.block);
        }
        self.pager.store.lock().sources(&mut self.work);
        match self.worker.read(self.pager, &self.work) {
            Outcome::Done => {}
            Outcome::Failed | Outcome::Refused => worker::stop(Halt::Unreadable),
            Outcome::Corrupt => worker::stop(Halt::Corrupt),
        }
        let pages = self.work.blocks.len();
        self.worker.room().with(0, pages * PAGE_SIZE, |bytes| give(memories, range.start, bytes));
        range.start.plus(pages as u64)
    }
}

fn source(page: &Whereabouts) -> Option<Source> {
    match page.state {
        PageState::Standby { .. } | PageState::Writing => Some(Source::Frames),
        PageState::Stored | PageState::Filling { stored: true } => Some(Source::Store),
        PageState::Filling { stored: false }
        | PageState::Empty
        | PageState::Mapped { .. }
        | PageState::Shared { .. } => None,
    }
}

/// Puts pages where a child has holes, from page `first` on.
fn give(memories: &mut Vec<Uffd>, first: Vpn, pages: &[u8]) {
    let mut child = 0;
    while child < memories.len() {
        match fill_holes(&memories[child], first.addr() as usize, pages) {
            Ok(()) => child += 1,
            // The child has ended already.
            Err(Errno::SRCH) => drop(memories.swap_remove(child)),
            Err(errno) => {
                say!(
                    "a process that was made behind Quire's back can't get its memory: {errno}. It will wait for ever",
                    errno = Cause(errno)
                );
                // While its descriptor is open, no hole of it reads as zeroes.
                core::mem::forget(memories.swap_remove(child));
            }
        }
    }
}

fn fill_holes(memory: &Uffd, to: usize, pages: &[u8]) -> Result<(), Errno> {
    let (mut at, mut step, mut tried_since) = (0, pages.len(), 0);
    while at < pages.len() {
        let len = step.min(pages.len() - at);
        let copied = memory.copy(to + at, pages.as_ptr().addr() + at, len, false);
        at += copied.bytes;
        if copied.bytes > 0 {
            tried_since = 0;
        }
        match copied.errno {
            None => step = pages.len(),
            // It has that page.
            Some(Errno::EXIST) => at += PAGE_SIZE,
            // A copy does not cross two of the kernel's mappings; and one page that is in none is not the child's to have.
            Some(Errno::NOENT) if len > PAGE_SIZE => step = PAGE_SIZE,
            Some(Errno::NOENT) => at += PAGE_SIZE,
            Some(errno @ (Errno::NOMEM | Errno::AGAIN)) => {
                let now = now_ns();
                if tried_since == 0 {
                    tried_since = now;
                } else if now - tried_since > TIMEOUT_NS {
                    return Err(errno);
                }
                futex::sleep(1_000_000);
            }
            Some(errno) => return Err(errno),
        }
    }
    Ok(())
}
