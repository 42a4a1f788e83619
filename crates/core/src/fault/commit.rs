//! The end of a fault: contents are in the frames, and the pages go to the program.

use crate::addr::{Frame, FrameRun, PAGE_SIZE, PageRange, SHARED, Space, Vpn};
use crate::engine::{Engine, Halt};
use crate::folio::SplitWhy;
use crate::frame::{Backing, FrameState, List};
use crate::job::{JobKind, Outcome, Place, Stored};
use crate::mmu::{Done, Mmu, Mover, Refusal};
use crate::store::is_incompressible;
use crate::tables::{Pte, Source};
use crate::tickets::index_of;

/// How often a verb that answers "again" or "no memory" is asked once more before another way is tried.
pub(crate) const MOST_TRIES: u32 = 8;

impl Engine {
    /// A fill has ended. Its ticket decides whether what it brought still counts.
    pub(crate) fn finish_fill<M: Mover>(
        &mut self,
        mmu: &mut M,
        job: usize,
        outcome: Outcome,
    ) -> Result<(), Halt> {
        let flight = self.tickets.get(job);
        let (kind, run, void) = (flight.kind, flight.frames, flight.void);
        let (staged, asker, evicted_at) = (flight.staged, flight.asker, flight.evicted_at);
        let backing = match kind {
            _ if staged => Backing::Hole,
            JobKind::Zero if outcome == Outcome::Done => Backing::Zeroed,
            _ => Backing::Dirty,
        };
        self.unpin_frames(run, backing);
        self.tickets.end(job);
        if void {
            return Ok(());
        }
        let halt = match outcome {
            Outcome::Done => {
                let first = self.tables.first_copy(run.start);
                let list = self.list_after_fill(first.map(|_| evicted_at));
                if kind == JobKind::Read {
                    self.restart_cooldown(self.tables.pages_of(run.start));
                }
                if let Some(first) = first {
                    self.weigh_refault(mmu, evicted_at, first, run.pages);
                }
                self.forget_needless_copies(run.start, evicted_at, mmu);
                if self.tables.frames.get(run.start).space == SHARED {
                    let mapped = self.map_folio(mmu, run.start, list, Some(asker));
                    let shared = self.tables.pages_of(run.start);
                    // Faults of any space may have joined.
                    self.tables.wake_all(mmu, shared);
                    if mapped == Ok(true) {
                        self.after_unlinking(mmu, shared);
                    }
                    return mapped.map(|_| ());
                }
                let source = if staged { Source::Staged } else { Source::Frames };
                return self.map(mmu, run.start, list, source);
            }
            Outcome::Failed | Outcome::Refused => Halt::Unreadable,
            Outcome::Corrupt => Halt::Corrupt,
        };
        self.detach_fill(run.start, evicted_at, backing);
        Err(halt)
    }

    /// The pages of a fill that brought nothing are what they were before; its frames are free, or will be when
    /// the job comes back.
    fn detach_fill(&mut self, head: Frame, evicted_at: u32, backing: Backing) {
        let pages = self.tables.pages_of(head);
        for vpn in (0..pages.pages).map(|i| pages.start.plus(i)) {
            let pte = self.tables.pte(pages.space, vpn).without_frame(evicted_at);
            self.set_pte(pages.space, vpn, pte);
        }
        self.free_frames(FrameRun::new(head, pages.pages as u32), backing);
    }

    /// A folio that is needed again soon after it was moved out should not have been: it begins as active.
    /// Soon means: before as many pages were moved out as the active ones are (a refault distance).
    fn list_after_fill(&self, evicted_at: Option<u32>) -> List {
        let active = self.tables.frames.pages_on(List::Active);
        match evicted_at {
            Some(evicted_at) if self.ranks.distance(evicted_at) < active => List::Active,
            _ => List::Inactive,
        }
    }

    /// Brings a folio's contents to the program, marks it mapped, and wakes who waits for it. A page that is
    /// refused one way goes another: no page of the folio is left behind. Not for shared folios.
    pub(crate) fn map<M: Mover>(
        &mut self,
        mmu: &mut M,
        head: Frame,
        list: List,
        source: Source,
    ) -> Result<(), Halt> {
        let pages = self.tables.pages_of(head);
        let run = self.tables.frames.folio(head);
        let evictable = self.tables.vmas(pages.space).at(pages.start).is_some_and(|vma| vma.evictable());
        // What is not in frames wakes as it comes.
        let mut asleep = !matches!(source, Source::Staged | Source::Zeroes);
        let mut at = 0;
        let mut tries = 0;
        while at < run.pages {
            // After a refusal page by page: what cannot go may be one page, or an edge of the kernel's VMAs.
            let most = if tries == 0 { run.pages - at } else { 1 };
            let rest = FrameRun::new(head.plus(at), most);
            let to = pages.start.plus(u64::from(at));
            let copying = source != Source::Frames || !evictable || tries > MOST_TRIES;
            let range = PageRange::new(pages.space, to, u64::from(rest.pages));
            let done = match source {
                Source::Staged => mmu.copy_staged(at, range),
                Source::Zeroes => mmu.copy_zeroes(range),
                Source::Shared(from) => mmu.copy_in(FrameRun::new(from.plus(at), most), pages.space, to),
                Source::Frames if copying => self.copy_in(mmu, rest, range),
                Source::Frames => mmu.move_in(rest, pages.space, to),
            };
            at += done.pages;
            let Some(refusal) = done.refusal else {
                tries = 0;
                continue;
            };
            self.refused(refusal);
            asleep = true;
            match refusal {
                // What is at the program's address is what the program sees: ours is dropped.
                Refusal::Exists => {
                    self.found_foreign(pages.space, to);
                    if source == Source::Frames {
                        mmu.release(FrameRun::new(head.plus(at), 1));
                    }
                    at += 1;
                }
                _ if copying && tries > 2 * MOST_TRIES => return Err(Halt::Unmappable),
                Refusal::Again | Refusal::NoMemory => tries += 1,
                Refusal::Busy | Refusal::Denied | Refusal::Absent | Refusal::NoRange => {
                    tries = if rest.pages == 1 { (tries + 1).max(MOST_TRIES + 1) } else { 1 };
                }
            }
        }
        self.tables.frames.get_mut(head).state = FrameState::Mapped;
        self.tables.frames.enlist(head, if evictable { list } else { List::None });
        self.forget_late(pages);
        if asleep {
            mmu.wake(pages);
        }
        Ok(())
    }

    /// These pages were mapped: late messages about one of them count anew.
    pub(crate) fn forget_late(&mut self, pages: PageRange) {
        if self.last_late.0 == pages.space && pages.contains(self.last_late.1) {
            self.last_late.2 = 0;
        }
    }

    /// The way in for pages whose rights forbid a move: copies, and the frames become holes as after a move.
    fn copy_in<M: Mover>(&mut self, mmu: &mut M, frames: FrameRun, to: PageRange) -> Done {
        let done = mmu.copy_in(frames, to.space, to.start);
        if done.pages > 0 {
            mmu.release(FrameRun::new(frames.start, done.pages));
        }
        done
    }

    /// A job lets go of its frames. Those given up meanwhile are free now.
    pub(crate) fn unpin_frames(&mut self, run: FrameRun, backing: Backing) {
        for frame in run.iter() {
            self.tables.frames.get_mut(frame).job = 0;
        }
        for frame in run.iter() {
            if self.tables.frames.get(frame).state == FrameState::Zombie {
                self.free_frames(FrameRun::new(frame, 1), backing);
            }
        }
    }

    /// A fill that must not happen any more: its pages are what they were before, and whoever waits for them
    /// tries again. The frames are free when the job comes back.
    pub(crate) fn revert_fill<M: Mover>(&mut self, mmu: &mut M, head: Frame) {
        let pages = self.tables.pages_of(head);
        let evicted_at = self.tickets.get(index_of(self.tables.frames.get(head).job)).evicted_at;
        self.void_job(head);
        // All of its frames are the job's until it comes back, which knows what is behind them.
        self.detach_fill(head, evicted_at, Backing::Dirty);
        self.tables.wake_all(mmu, pages);
    }

    /// A mapped page whose contents are gone from the program: it is empty, and so is its frame.
    pub(crate) fn drop_mapped_page<M: Mover>(&mut self, mmu: &mut M, space: Space, vpn: Vpn) {
        let Some(frame) = self.tables.pte(space, vpn).frame() else { return };
        self.isolate(frame, 1, SplitWhy::Gone);
        self.tables.frames.delist(frame);
        self.forget_block(space, vpn, mmu);
        self.set_pte(space, vpn, Pte::EMPTY);
        self.free_frames(FrameRun::new(frame, 1), Backing::Hole);
    }

    /// A page that came from a file, but so soon that it would have been in RAM if something older had gone to the file
    /// instead, is to go to RAM next time: its copy in the file is given up.
    pub(crate) fn belongs_in_ram(&self, evicted_at: u32) -> bool {
        self.ranks.rank(evicted_at) < self.store.blocks_in_ram
    }

    /// Gives up stored copies that a folio that was just filled need not have: those in RAM while memory is short, where
    /// frames are worth more, or that take as much as they save; and those in a file if there is room in RAM, or if they
    /// are needed more often than what is there. Other copies in a file cost nothing.
    fn forget_needless_copies(&mut self, head: Frame, evicted_at: u32, mmu: &mut impl Mmu) {
        let (short, fits) = (self.copies_cost_frames(), self.store.fits);
        self.forget_copies(head, mmu, |engine, stored| match stored {
            Stored { place: Place::Ram { .. }, len, .. } => short || usize::from(len) == PAGE_SIZE,
            Stored { len, .. } if fits => !is_incompressible(1, len.into()),
            _ => short && engine.belongs_in_ram(evicted_at),
        });
    }

    /// Gives up those stored copies of a folio's pages that are `needless`. How many there were.
    pub(crate) fn forget_copies(
        &mut self,
        head: Frame,
        mmu: &mut impl Mmu,
        needless: impl Fn(&Engine, Stored) -> bool,
    ) -> u32 {
        let pages = self.tables.pages_of(head);
        let mut given = 0;
        for i in 0..pages.pages {
            let vpn = pages.start.plus(i);
            let block = self.tables.pte(pages.space, vpn).placed();
            let stored = block.and_then(|block| mmu.look(block));
            if stored.is_some_and(|stored| needless(self, stored)) {
                self.forget_block(pages.space, vpn, mmu);
                given += 1;
            }
        }
        given
    }
}
