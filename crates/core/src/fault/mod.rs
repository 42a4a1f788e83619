//! The fault walk: a message → its VMA → what is at the page now → the order policy → frames → map, or a job
//! and then map. Read it from [`Engine::fault`] downwards; [`fill`](self) jobs come back through
//! [`Engine::finish`].

mod commit;
mod together;

pub(crate) use commit::MOST_TRIES;
use together::other_half;

use crate::addr::{Frame, FrameRun, PageRange, SHARED, Space, Vpn};
use crate::engine::{Engine, Halt};
use crate::folio::SplitWhy;
use crate::frame::{Backing, FrameRecord, FrameState, List, Use};
use crate::job::{JobKind, MAX_STAGED_PAGES, Place, Reach, Work};
use crate::log::Decision;
use crate::mmu::{Mmu, Mover};
use crate::order::{Order, OrderSet};
use crate::policy::{Choice, FaultContext, OrderPolicy, Shortfall, shortfall};
use crate::store::Message;
use crate::tables::{PageState, Pte, SharedPage, Source};
use crate::tickets::pin_of;
use crate::vma::Vma;

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// Answered: the page is mapped and its waiters are awake.
    Mapped,
    /// The job in the caller's [`Work`] has to be run; [`Engine::finish`] then answers.
    Job,
    /// Another fault's job will answer this one too.
    Joined,
    /// No frame can be had without moving something out. Ask again after [`Engine::reclaim`].
    NoFrame,
    /// Nothing is mapped here: the waiter is awake, and the kernel ends it with SIGSEGV.
    Outside,
    /// The engine can't go on.
    Halt(Halt),
}

/// A late message about the same page so often in a row is a bug, not bad luck.
const MOST_LATE: u32 = 10;

impl Engine {
    /// Answers a fault at a page, in bounded time. A message may come late: what counts is what is at the
    /// page now. A page that others share is mapped read-only; see [`Engine::write_fault`].
    pub fn fault<M: Mover>(&mut self, mmu: &mut M, space: Space, vpn: Vpn, work: &mut Work) -> Fault {
        self.answer(mmu, space, vpn, false, work)
    }

    /// Answers a fault of a write. A page that others share is copied, or is the writer's own if nobody shares it any
    /// longer; any other is treated as by [`Engine::fault`].
    pub fn write_fault<M: Mover>(&mut self, mmu: &mut M, space: Space, vpn: Vpn, work: &mut Work) -> Fault {
        self.answer(mmu, space, vpn, true, work)
    }

    pub(crate) fn answer<M: Mover>(
        &mut self,
        mmu: &mut M,
        space: Space,
        vpn: Vpn,
        write: bool,
        work: &mut Work,
    ) -> Fault {
        self.look_at_store(mmu);
        let Some(vma) = self.tables.vmas(space).at(vpn).copied() else {
            self.stats.outside += 1;
            mmu.wake(PageRange::new(space, vpn, 1));
            return Fault::Outside;
        };
        let pte = self.tables.pte(space, vpn);
        match self.tables.state_of(pte) {
            PageState::Empty => match pte.slot() {
                Some((slot, mapped)) => {
                    let page = SharedPage { space, vpn, slot, mapped };
                    self.shared_fault(mmu, &vma, page, write, work)
                }
                None => self.fill(mmu, space, &vma, vpn, false, work),
            },
            PageState::Stored => self.fill(mmu, space, &vma, vpn, true, work),
            PageState::Filling { .. } => self.join(),
            PageState::Standby { .. } | PageState::Writing => self.rescue(mmu, space, vpn),
            PageState::Mapped { .. } | PageState::Shared { .. } => self.late(mmu, space, &vma, vpn, work),
        }
    }

    pub(crate) fn join(&mut self) -> Fault {
        self.stats.joined += 1;
        Fault::Joined
    }

    /// A message about a page that is mapped: the waiter only has to look again. Where the page is gone all
    /// the same, somebody dropped it without telling us: it is empty.
    pub(crate) fn late<M: Mover>(
        &mut self,
        mmu: &mut M,
        space: Space,
        vma: &Vma,
        vpn: Vpn,
        work: &mut Work,
    ) -> Fault {
        if !mmu.present(space, vpn) {
            self.found_foreign(space, vpn);
            self.drop_mapped_page(mmu, space, vpn);
            return self.fill(mmu, space, vma, vpn, false, work);
        }
        self.stats.late += 1;
        let again =
            if self.last_late.0 == space && self.last_late.1 == vpn { self.last_late.2 + 1 } else { 1 };
        self.last_late = (space, vpn, again);
        if again > MOST_LATE {
            return Fault::Halt(Halt::NoProgress);
        }
        mmu.wake(PageRange::new(space, vpn, 1));
        Fault::Mapped
    }

    /// A fault on a folio that was moved out and is still intact: it goes back, and counts as touched.
    fn rescue<M: Mover>(&mut self, mmu: &mut M, space: Space, vpn: Vpn) -> Fault {
        let Some(frame) = self.tables.pte(space, vpn).frame() else { return Fault::Joined };
        let head = self.begin_rescue(mmu, frame);
        self.tables.frames.delist(head);
        let FrameRecord { vpn, order, .. } = *self.tables.frames.get(head);
        self.log.note(Decision::Rescue { space, vpn, order });
        self.restart_cooldown(self.tables.pages_of(head));
        answered(self.map(mmu, head, List::Active, Source::Frames))
    }

    /// What goes back of the folio of `frame`, as a folio that no writer has in hand. Its first frame.
    pub(crate) fn begin_rescue(&mut self, mmu: &mut impl Mmu, frame: Frame) -> Frame {
        let head = self.tables.frames.head_of(frame);
        self.take_from_writer(head);
        self.reserve_for_reclaim(mmu);
        let head = self.part_to_rescue(head, frame);
        self.stats.rescues[self.tables.order_of(head).index()] += 1;
        head
    }

    /// A large folio is rescued in part: who touches one page of 2 MiB has touched one page. So is one that was needed
    /// for few of its pages before.
    fn part_to_rescue(&mut self, head: Frame, frame: Frame) -> Frame {
        if self.tables.frames.pinned(self.tables.frames.folio(head)) {
            return head;
        }
        let within = frame.0 - head.0;
        if self.tables.order_of(head) <= RESCUE {
            self.split_rescued(head, within);
        } else {
            let from = RESCUE.align_down(u64::from(within)) as u32;
            self.isolate(head.plus(from), RESCUE.pages(), SplitWhy::Rescue);
        }
        self.tables.frames.head_of(frame)
    }

    /// A folio in the hands of a writer is standby again, its frames pinned until the writer is done.
    pub(crate) fn take_from_writer(&mut self, head: Frame) {
        if self.tables.frames.get(head).state == FrameState::Writing {
            self.void_job(head);
            self.tables.frames.get_mut(head).state = FrameState::Standby;
            self.tables.frames.enlist(head, List::Dirty);
        }
    }

    /// Fills an empty or stored page, and as many of its neighbours as the policy wants.
    pub(crate) fn fill<M: Mover>(
        &mut self,
        mmu: &mut M,
        space: Space,
        vma: &Vma,
        vpn: Vpn,
        stored: bool,
        work: &mut Work,
    ) -> Fault {
        let context = self.fault_context(mmu, space, vma, vpn, stored);
        let choice = vma.policy.unwrap_or(self.policy).choose(&context);
        let run = self.uniform_run(mmu, space, vpn, choice.wanted.min(context.vma_fit), stored);
        let set = choice.set.and(OrderSet::up_to(run)).with(Order::BASE);
        let base = set.largest() == Some(Order::BASE);
        let purpose = if stored || base { Use::Contents } else { Use::Zeroes };
        let in_line = choice.in_line.filter(|_| base);
        let Some((head, order, backing)) = in_line
            .and_then(|run| self.take_in_line(mmu, (space, vpn), run, purpose))
            .or_else(|| self.take_frames(mmu, set, purpose))
        else {
            return self.no_frame(space, vpn);
        };
        let why = self.note_shortfall(&choice, &context, run, order);
        self.log.note(Decision::Fault { space, vpn, stored, wanted: choice.wanted, got: order, why });
        let evicted_at = self.tables.pte(space, vpn).evicted_at();
        self.note_refault(mmu, evicted_at);
        let start = Vpn(order.align_down(vpn.0));
        self.tables.note_in_history(space, vpn, context.reached, order, !stored);
        self.attach(mmu, space, start, head, order);
        if stored {
            self.note_halves(space, vpn, order, context.left_together);
            self.stats.swap_ins[order.index()] += 1;
        } else {
            self.stats.zero_fills[order.index()] += 1;
        }
        match backing {
            Backing::Zeroed if !stored => {
                return answered(self.map(mmu, head, List::Inactive, Source::Frames));
            }
            Backing::Hole if !stored && order == Order::BASE => {
                return answered(self.map(mmu, head, List::Inactive, Source::Zeroes));
            }
            _ => {}
        }
        self.begin_fill(head, evicted_at, backing, space, work);
        Fault::Job
    }

    pub(crate) fn no_frame(&mut self, space: Space, vpn: Vpn) -> Fault {
        self.stats.no_frame += 1;
        self.log.note(Decision::NoFrame { space, vpn });
        Fault::NoFrame
    }

    /// Counts why a fault got less than its policy wanted, if it did, and says so.
    pub(crate) fn note_shortfall(
        &mut self,
        choice: &Choice,
        context: &FaultContext,
        run: Order,
        got: Order,
    ) -> Option<Shortfall> {
        let why = shortfall(choice, context, run, got);
        if let Some(reason) = why {
            self.stats.shortfalls[reason.index()] += 1;
        }
        why
    }

    pub(crate) fn fault_context(
        &self,
        mmu: &impl Mmu,
        space: Space,
        vma: &Vma,
        vpn: Vpn,
        stored: bool,
    ) -> FaultContext {
        let vma_fit = Order::all().take_while(|o| fits(vma, vpn, *o)).last().unwrap_or(Order::BASE);
        let left_together = if stored { self.left_together(space, vpn, vma_fit) } else { Order::BASE };
        let reached = self.reached(space, vpn);
        FaultContext {
            stored,
            on_disk: self
                .tables
                .place_of(space, vpn)
                .placed()
                .and_then(|block| mmu.look(block))
                .is_some_and(|stored| matches!(stored.place, Place::File { .. })),
            hint: vma.hint,
            reached,
            ramp: vma.history.ramp(vpn, reached),
            length: vma.history.length(vpn, reached),
            allowance: vma.history.allowance(vpn, reached),
            sparse: vma.history.is_sparse(),
            left_together,
            together: self.worth_together(&vma.history.odds, vpn, left_together),
            vma_fit,
            room: self.room(),
            limit: self.frame_limit(),
        }
    }

    /// The largest aligned folio round `vpn`, up to `most`, of which every page can come with it: all are empty, or all
    /// are stored, and no further read of a disk is needed for the others.
    pub(crate) fn uniform_run(
        &self,
        mmu: &impl Mmu,
        space: Space,
        vpn: Vpn,
        most: Order,
        stored: bool,
    ) -> Order {
        let mut run = Order::BASE;
        if most == run {
            return run;
        }
        let Some(mut reach) = self.reach_of(mmu, vpn.0..vpn.0 + 1, space, stored) else { return run };
        let in_ram = reach.is_empty();
        while run < most {
            let next = run.up();
            let other = other_half(next, vpn).0;
            let Some(half) = self.reach_of(mmu, other..other + u64::from(run.pages()), space, stored) else {
                break;
            };
            reach.join(&half);
            if !reach.is_one_read() || in_ram && !reach.is_empty() {
                break;
            }
            run = next;
        }
        run
    }

    /// What has to be read of a file for pages of which all are empty, or all `stored`; `None` if they are not.
    fn reach_of(
        &self,
        mmu: &impl Mmu,
        pages: core::ops::Range<u64>,
        space: Space,
        stored: bool,
    ) -> Option<Reach> {
        let mut reach = Reach::default();
        for pte in pages.map(|v| self.tables.pte(space, Vpn(v))) {
            if pte.is_taken() || pte.block().is_some() != stored {
                return None;
            }
            if let Some(stored) = pte.placed().and_then(|block| mmu.look(block)) {
                reach.add(&stored);
            }
        }
        Some(reach)
    }

    /// Frames for a fault, in one call for the largest order there is. When none of the wanted size is free, dirty ones
    /// are made holes, and folios whose contents are stored give up theirs: that moves and waits for nothing.
    pub(crate) fn take_frames(
        &mut self,
        mmu: &mut impl Mmu,
        set: OrderSet,
        purpose: Use,
    ) -> Option<(Frame, Order, Backing)> {
        let wanted = set.largest()?;
        let limit = self.refresh(mmu, wanted.pages());
        let got = self.pool.take(set, purpose, limit);
        match got {
            Some((_, order, _)) if order == wanted => return got,
            Some((frame, order, backing)) => self.pool.give(FrameRun::new(frame, order.pages()), backing),
            None => {}
        }
        self.drop_clean(wanted.pages().max(self.fresh_goal() / CLEAN_FRACTION));
        let limit = self.refresh(mmu, wanted.pages());
        self.pool.take(set, purpose, limit)
    }

    /// Makes holes of dirty frames where the limit does not allow `pages` pages more. Returns how much may be charged: the
    /// limit, or as much as was, so that who is above it can have one page for another.
    fn refresh(&mut self, mmu: &mut impl Mmu, pages: u32) -> u32 {
        let (limit, charged) = (self.frame_limit(), self.pool.charged());
        self.pool.refresh(pages, limit, mmu);
        limit.max(charged)
    }

    /// A frame for one page that lies to the frames of its neighbours, in the aligned run of pages of order `run`, as the
    /// page lies to them. Where there are none yet, one in a free run, so that the neighbours' can follow.
    fn take_in_line(
        &mut self,
        mmu: &mut impl Mmu,
        (space, vpn): (Space, Vpn),
        run: Order,
        purpose: Use,
    ) -> Option<(Frame, Order, Backing)> {
        let limit = self.refresh(mmu, run.pages());
        let start = Vpn(run.align_down(vpn.0));
        let offset = (vpn.0 - start.0) as u32;
        let first = (0..run.pages()).find_map(|i| {
            let frame = self.tables.pte(space, start.plus(u64::from(i))).frame()?;
            frame.0.checked_sub(i).filter(|first| first.is_multiple_of(run.pages()))
        });
        let Some(first) = first else { return self.pool.take_within(run, offset, purpose, limit) };
        let frame = Frame(first + offset);
        if self.pool.backing_of(frame) == Some(Backing::Dirty) {
            // The neighbours will ask for theirs.
            self.pool.refresh_run(FrameRun::new(Frame(first), run.pages()), mmu);
        }
        self.pool.take_at(frame, limit).map(|backing| (frame, Order::BASE, backing))
    }

    /// Gives up the frames of the oldest clean standby folios, `pages` pages or a little more.
    pub(crate) fn drop_clean(&mut self, pages: u32) -> u32 {
        let mut dropped = 0;
        while dropped < pages {
            let Some(head) = self.tables.frames.oldest(List::Clean) else { break };
            dropped += self.drop_clean_folio(head);
        }
        dropped
    }

    /// Its pages are from now on only stored; those that are all zeroes, empty.
    pub(crate) fn drop_clean_folio(&mut self, head: Frame) -> u32 {
        let pages = self.tables.pages_of(head);
        self.tables.frames.delist(head);
        // What still waits in standby left after it.
        let behind = self.tables.frames.pages_on(List::Clean) + self.tables.frames.pages_on(List::Dirty);
        let evicted_at = self.ranks.now().wrapping_sub(behind);
        for i in 0..pages.pages {
            let vpn = pages.start.plus(i);
            let pte = self.tables.pte(pages.space, vpn);
            let only_stored = pte.without_frame(evicted_at);
            self.set_pte(pages.space, vpn, only_stored);
            if only_stored == Pte::EMPTY && pages.space == SHARED {
                self.dissolve(vpn);
            }
        }
        self.free_frames(FrameRun::new(head, pages.pages as u32), Backing::Dirty);
        pages.pages as u32
    }

    /// Writes the tables of a new folio: its page entries, its frames' records.
    pub(crate) fn attach(&mut self, mmu: &mut impl Mmu, space: Space, start: Vpn, head: Frame, order: Order) {
        self.tables.frames.cover(FrameRun::new(head, order.pages()));
        self.tables.frames.found(head, order, space, start, FrameState::Filling);
        for i in 0..order.pages() {
            let vpn = start.plus(u64::from(i));
            let pte = self.tables.pte(space, vpn);
            self.set_pte(space, vpn, pte.in_frame(head.plus(i)));
        }
        self.reserve_for_reclaim(mmu);
    }

    /// The store is to make ready for every page that has a frame: from here to the next fault reclaim stores each of them
    /// once at the most, and nobody allocates.
    pub(crate) fn reserve_for_reclaim(&mut self, mmu: &mut impl Mmu) {
        mmu.tell(Message::Reserve(self.pool.in_use()));
    }

    /// How far down from a page all pages are mapped, as far as that is looked at.
    fn reached(&self, space: Space, vpn: Vpn) -> Vpn {
        let mapped = |at: &u64| self.tables.page_state(space, Vpn(*at)).is_present();
        let below = (vpn.0.saturating_sub(MOST_BETWEEN)..vpn.0).rev().take_while(mapped).last();
        below.map_or(vpn, Vpn)
    }

    /// Turns a new folio into a job for a fault of `asker`: zero its frames, or read its blocks into them, where the page that
    /// is needed was moved out at `evicted_at`.
    pub(crate) fn begin_fill(
        &mut self,
        head: Frame,
        evicted_at: Option<u32>,
        backing: Backing,
        asker: Space,
        work: &mut Work,
    ) {
        let (run, stored) = (self.tables.frames.folio(head), evicted_at.is_some());
        let kind = if stored { JobKind::Read } else { JobKind::Zero };
        let job = self.tickets.begin(kind, run);
        work.begin(self.tickets.get(job).ticket, kind, run);
        work.fresh = backing == Backing::Hole;
        let pages = self.tables.pages_of(head);
        // What is shared stays in its frames.
        work.staged = stored && work.fresh && self.tables.order_of(head) <= STAGED && pages.space != SHARED;
        let flight = self.tickets.get_mut(job);
        (flight.staged, flight.asker) = (work.staged, asker);
        flight.evicted_at = evicted_at.unwrap_or_default();
        for (i, frame) in run.iter().enumerate() {
            self.tables.frames.get_mut(frame).job = pin_of(job);
            if !stored {
                continue;
            }
            work.blocks.push(self.tables.pte(pages.space, pages.start.plus(i as u64)).placed());
        }
    }
}

/// Mapped pages between a stream and a fault that are looked at.
const MOST_BETWEEN: u64 = 32;

/// A fault that finds nothing else takes this part of [`Engine::fresh_goal`] from what is in standby and stored, so that
/// the faults after it need no call of their own for that.
const CLEAN_FRACTION: u32 = 4;

/// The order that one touch of a larger standby folio brings back: 64 KiB.
const RESCUE: Order = Order::fitting(16);

/// The largest order that comes back from the store without its frames: 16 KiB. Its contents are copied to the
/// program, which takes memory from the system and none from the pool. A move costs a flush of all processors' TLBs
/// however little it moves, a copy costs none.
const STAGED: Order = Order::fitting(MAX_STAGED_PAGES as u64);

pub(crate) fn answered(mapped: Result<(), Halt>) -> Fault {
    match mapped {
        Ok(()) => Fault::Mapped,
        Err(halt) => Fault::Halt(halt),
    }
}

/// Whether the aligned folio of `order` round `vpn` lies inside the VMA.
fn fits(vma: &Vma, vpn: Vpn, order: Order) -> bool {
    let start = order.align_down(vpn.0);
    start >= vma.start.0 && start + u64::from(order.pages()) <= vma.end.0
}
