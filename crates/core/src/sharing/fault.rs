//! Faults on shared pages: a read maps the one copy, a write parts from it.

use crate::addr::{Frame, FrameRun, PageRange, SHARED, Space, Vpn};
use crate::engine::{Engine, Halt};
use crate::fault::{Fault, answered};
use crate::frame::{Backing, FrameState, List, Use};
use crate::job::{MAX_STAGED_PAGES, Work};
use crate::log::Decision;
use crate::mmu::{Mmu, Mover};
use crate::order::{Order, OrderSet};
use crate::policy::OrderPolicy;
use crate::store::Message;
use crate::tables::{PageState, SharedPage, Source};
use crate::vma::Vma;

/// The largest order that a write to a shared page copies, since a verb copies at most 64 KiB.
const MOST_COPIED: Order = Order::fitting(4 * MAX_STAGED_PAGES as u64);
const _: () = assert!(MOST_COPIED.bytes() == 64 << 10);

impl Engine {
    /// Answers a fault on a shared page.
    pub(crate) fn shared_fault<M: Mover>(
        &mut self,
        mmu: &mut M,
        vma: &Vma,
        page: SharedPage,
        write: bool,
        work: &mut Work,
    ) -> Fault {
        let SharedPage { space, vpn, slot, mapped } = page;
        if mapped && !mmu.present(space, vpn) {
            // Somebody dropped it without telling us: it is empty.
            self.found_foreign(space, vpn);
            self.give_up_shared(mmu, PageRange::new(space, vpn, 1));
            return self.fill(mmu, space, vma, vpn, false, work);
        }
        let state = self.tables.page_state(SHARED, slot);
        if let PageState::Filling { .. } = state {
            return self.join();
        }
        // Whatever rights we know of: the kernel may have let the write get so far after a change that was refused half-way.
        if write {
            return self.part(mmu, vma, page, state, work);
        }
        match state {
            _ if mapped => self.late(mmu, space, vma, vpn, work),
            PageState::Stored => self.bring_in(mmu, vma, page, work),
            PageState::Standby { .. } | PageState::Writing => self.rescue_shared(mmu, page),
            _ => self.map_here(mmu, page),
        }
    }

    /// The page is in frames that are mapped somewhere else already.
    fn map_here<M: Mover>(&mut self, mmu: &mut M, page: SharedPage) -> Fault {
        let Some(frame) = self.tables.pte(SHARED, page.slot).frame() else { return Fault::Joined };
        let head = self.tables.frames.head_of(frame);
        self.stats.shared_maps += 1;
        if self.tables.frames.get(head).list == List::Inactive {
            self.tables.frames.enlist(head, List::Active);
        }
        let mapped = self.map_in(mmu, head, page.space);
        self.answer_shared(mmu, head, page.space, mapped)
    }

    /// What of a shared folio could be mapped is mapped: who waits for it in one space goes on. `mapped` says whether slots
    /// of it may be named by nobody now.
    fn answer_shared<M: Mover>(
        &mut self,
        mmu: &mut M,
        head: Frame,
        space: Space,
        mapped: Result<bool, Halt>,
    ) -> Fault {
        self.wake_in(mmu, head, space);
        if mapped == Ok(true) {
            self.after_unlinking(mmu, self.tables.pages_of(head));
        }
        answered(mapped.map(|_| ()))
    }

    fn rescue_shared<M: Mover>(&mut self, mmu: &mut M, page: SharedPage) -> Fault {
        let Some(frame) = self.tables.pte(SHARED, page.slot).frame() else { return Fault::Joined };
        let head = self.begin_rescue(mmu, frame);
        let order = self.tables.order_of(head);
        self.log.note(Decision::Rescue { space: page.space, vpn: page.vpn, order });
        let mapped = self.map_folio(mmu, head, List::Active, Some(page.space));
        self.answer_shared(mmu, head, page.space, mapped)
    }

    /// A job brings in one copy for all who share the page, and as many of its neighbours as the policy wants.
    fn bring_in(&mut self, mmu: &mut impl Mmu, vma: &Vma, page: SharedPage, work: &mut Work) -> Fault {
        let context = self.fault_context(mmu, page.space, vma, page.vpn, true);
        let choice = vma.policy.unwrap_or(self.policy).choose(&context);
        let run = self.shared_run(mmu, page, choice.wanted.min(context.vma_fit));
        let set = choice.set.and(OrderSet::up_to(run)).with(Order::BASE);
        let Some((head, order, backing)) = self.take_frames(mmu, set, Use::Contents) else {
            return self.no_frame(page.space, page.vpn);
        };
        let why = self.note_shortfall(&choice, &context, run, order);
        let SharedPage { space, vpn, .. } = page;
        self.log.note(Decision::Fault { space, vpn, stored: true, wanted: choice.wanted, got: order, why });
        let evicted_at = self.tables.pte(SHARED, page.slot).evicted_at();
        self.note_refault(mmu, evicted_at);
        self.attach(mmu, SHARED, Vpn(order.align_down(page.slot.0)), head, order);
        self.tables.note_in_history(page.space, page.vpn, context.reached, order, false);
        self.stats.swap_ins[order.index()] += 1;
        self.begin_fill(head, evicted_at, backing, page.space, work);
        Fault::Job
    }

    /// The largest aligned run of slots round that of `page`, up to `most`, that are stored and stand for the page's
    /// neighbours; none of them needs a further read of a disk.
    fn shared_run(&self, mmu: &impl Mmu, page: SharedPage, most: Order) -> Order {
        let stored = self.uniform_run(mmu, SHARED, page.slot, most, true);
        let neighbours = |order: &Order| {
            let start = order.align_down(page.slot.0);
            let before = page.slot.0 - start;
            page.vpn.0 >= before
                && (0..u64::from(order.pages())).all(|i| {
                    let there = self.tables.pte(page.space, Vpn(page.vpn.0 - before + i)).slot();
                    there.is_some_and(|(slot, _)| slot.0 == start + i)
                })
        };
        Order::all().rev().filter(|order| *order <= stored).find(neighbours).unwrap_or(Order::BASE)
    }

    /// A write: the page is the writer's own from then on.
    fn part<M: Mover>(
        &mut self,
        mmu: &mut M,
        vma: &Vma,
        page: SharedPage,
        state: PageState,
        work: &mut Work,
    ) -> Fault {
        let SharedPage { space, vpn, slot, .. } = page;
        if self.tables.shared.is_sole(slot) {
            self.stats.cow_reuses += 1;
            self.take_back(mmu, space, vpn, slot);
            return self.answer(mmu, space, vpn, true, work);
        }
        if state != PageState::Stored {
            return self.copy(mmu, vma, page, work);
        }
        let stored = self.tables.pte(SHARED, slot);
        let Some(block) = stored.only_stored() else {
            return self.bring_in(mmu, vma, page, work);
        };
        mmu.tell(Message::Share(block));
        self.unlink(space, vpn, slot);
        self.set_pte(space, vpn, stored);
        self.answer(mmu, space, vpn, true, work)
    }

    /// Copies what is in frames that others share too, as many pages as the policy wants.
    fn copy<M: Mover>(&mut self, mmu: &mut M, vma: &Vma, page: SharedPage, work: &mut Work) -> Fault {
        let SharedPage { space, vpn, slot, .. } = page;
        let Some(source) = self.tables.pte(SHARED, slot).frame() else { return Fault::Joined };
        let context = self.fault_context(mmu, space, vma, vpn, false);
        let choice = vma.policy.unwrap_or(self.policy).choose(&context);
        let run = self.run_to_copy(mmu, page, choice.wanted.min(context.vma_fit).min(MOST_COPIED));
        let wanted = if choice.wanted > MOST_COPIED { choice.set.with(MOST_COPIED) } else { choice.set };
        let set = wanted.and(OrderSet::up_to(run)).with(Order::BASE);
        let Some((head, order, backing)) = self.take_frames_beside(mmu, source, set) else {
            let head = self.tables.frames.head_of(source);
            if self.tables.frames.get(head).list == List::Clean {
                // There is room for one of the two, and this one can come from the store.
                self.drop_clean_folio(head);
                return self.answer(mmu, space, vpn, true, work);
            }
            return self.no_frame(page.space, page.vpn);
        };
        let start = Vpn(order.align_down(vpn.0));
        let pages = PageRange::new(space, start, u64::from(order.pages()));
        let before = vpn.0 - start.0;
        let slots = PageRange::new(SHARED, Vpn(slot.0 - before), pages.pages);
        if backing != Backing::Hole {
            mmu.release(FrameRun::new(head, order.pages()));
        }
        self.tables.note_in_history(space, vpn, context.reached, order, false);
        self.unmap_here(mmu, pages);
        for i in 0..pages.pages {
            self.unlink(space, start.plus(i), slots.start.plus(i));
        }
        self.attach(mmu, space, start, head, order);
        self.stats.cow_copies[order.index()] += 1;
        self.log.note(Decision::Copy { space, vpn: start, order });
        let mapped = self.map(mmu, head, List::Inactive, Source::Shared(Frame(source.0 - before as u32)));
        self.after_unlinking(mmu, slots);
        answered(mapped)
    }

    /// The largest aligned run of pages round `page`, up to `most`, that all are shared with others in one folio, as
    /// this one is. None of them has vanished.
    fn run_to_copy<M: Mover>(&self, mmu: &mut M, page: SharedPage, most: Order) -> Order {
        let Some(frame) = self.tables.pte(SHARED, page.slot).frame() else { return Order::BASE };
        let folio = self.tables.pages_of(self.tables.frames.head_of(frame));
        let mut fits = |order: &Order| {
            let before = page.vpn.0 - order.align_down(page.vpn.0);
            let first = page.slot.0.wrapping_sub(before);
            first >= folio.start.0
                && first < page.slot.0 + 1
                && first + u64::from(order.pages()) <= folio.end().0
                && (0..u64::from(order.pages())).all(|i| {
                    let vpn = Vpn(page.vpn.0 - before + i);
                    self.tables.pte(page.space, vpn).slot().is_some_and(|(slot, mapped)| {
                        let others = slot.0 == first + i && !self.tables.shared.is_sole(slot);
                        others && (!mapped || mmu.present(page.space, vpn))
                    })
                })
        };
        Order::all().rev().filter(|order| *order <= most).find(|order| fits(order)).unwrap_or(Order::BASE)
    }

    /// Frames for a copy of what is in `source`, which are not to be given up for it.
    fn take_frames_beside(
        &mut self,
        mmu: &mut impl Mmu,
        source: Frame,
        set: OrderSet,
    ) -> Option<(Frame, Order, Backing)> {
        let head = self.tables.frames.head_of(source);
        let record = *self.tables.frames.get(head);
        debug_assert!(record.state != FrameState::Filling);
        self.tables.frames.delist(head);
        let taken = self.take_frames(mmu, set, Use::Contents);
        self.tables.frames.enlist(head, record.list);
        taken
    }
}
