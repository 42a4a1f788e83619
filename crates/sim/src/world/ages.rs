//! The lists of the engine, held to their history, by the frames on them.
//!
//! A queue is what ages together: inactive folios and behind them the active ones; those that were moved out and wait for a
//! writer; those that are stored. An event *touches* the folio that a message is about, the frames that a job has in hand,
//! and those that a verb moved or failed to move. After each event
//!
//! * what it has not touched keeps its order in its queue, and comes to a list only as it ages or as rights, locks or a new
//!   spill file allow it to leave again;
//! * what comes to a list comes to its young end, but for `MADV_COLD`;
//! * what leaves a queue because room is needed is the oldest of it, touched or not;
//! * what was rescued, or shared and mapped for a fault, is not inactive;
//! * what may be moved out is on a list, but for what the host has refused for good and what no store took.

use super::{Event, Host};
use crate::inject::Verb;
use crate::waiters::Message;
use quire_core::frame::List;
use quire_core::mmu::Refusal;
use quire_core::{Decision, Frame, PageRange, PageState, SHARED, Space, Vpn};
use std::collections::{BTreeMap, BTreeSet};

const QUEUES: [&[List]; 3] = [&[List::Inactive, List::Active], &[List::Dirty], &[List::Clean]];

/// The frames on each list of a queue, oldest first, by queue.
type Queues = [Vec<(List, Frame)>; 3];

/// What is known of the lists from one event to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Ages {
    before: Queues,
    /// What each frame held, before an event that gives pages other frames.
    names: BTreeMap<Frame, (Space, Vpn)>,
    touched: BTreeSet<Frame>,
    /// The page whose message was answered.
    message: Option<(Space, Vpn)>,
    /// What the host has refused to move out for good, or no store took: on no list.
    excused: BTreeSet<Frame>,
    /// Spill files that were opened.
    files: u16,
}

impl Host {
    /// From now on the lists are held to their history. The counters have to be counted too.
    pub fn follow_lists(&mut self) {
        self.ages = Some(Box::default());
    }

    /// An event begins: how things are.
    pub(super) fn ages_before(&mut self, event: Event) {
        let Some(mut ages) = self.ages.take() else { return };
        ages.before = self.queues();
        ages.touched = self.in_hand().collect();
        (ages.message, ages.files) = (None, self.files);
        ages.names.clear();
        if matches!(event, Event::Vacate(..) | Event::Collapse(..) | Event::Tend(_)) {
            for frame in (0..self.mmu.frames()).map(Frame) {
                ages.names.extend(self.engine.rmap(frame).first().map(|m| (frame, (m.space, m.vpn))));
            }
        }
        self.ages = Some(ages);
    }

    /// A message is about to be answered.
    pub(super) fn ages_message(&mut self, message: Message) {
        let Some(mut ages) = self.ages.take() else { return };
        ages.message = Some((message.space, message.vpn));
        ages.touched.extend(self.folio_at(message.space, message.vpn));
        self.ages = Some(ages);
    }

    /// No store took what is in these frames: it stays where it is from now on.
    pub(super) fn ages_unstorable(&mut self, frames: impl IntoIterator<Item = Frame>) {
        if let Some(ages) = &mut self.ages {
            ages.excused.extend(frames);
        }
    }

    fn queues(&self) -> Queues {
        let on = |list: List| self.engine.listed(list).map(move |frame| (list, frame));
        QUEUES.map(|queue| queue.iter().flat_map(|&list| on(list)).collect())
    }

    fn in_hand(&self) -> impl Iterator<Item = Frame> {
        self.jobs.iter().flat_map(|job| job.work.frames.iter())
    }

    fn frame_at(&self, space: Space, vpn: Vpn) -> Option<Frame> {
        self.engine.whereabouts(space, vpn).frame
    }

    /// The frames of the folio that a page is part of.
    fn folio_at(&self, space: Space, vpn: Vpn) -> impl Iterator<Item = Frame> + use<> {
        let there = self.engine.whereabouts(space, vpn);
        there.frame.zip(there.order).into_iter().flat_map(|(frame, order)| {
            let head = order.align_down(frame.0.into()) as u32;
            (head..head + order.pages()).map(Frame)
        })
    }

    /// An event has ended.
    pub(super) fn check_ages(&mut self, event: Event) -> Result<(), String> {
        let Some(mut ages) = self.ages.take() else { return Ok(()) };
        self.catch_up()?;
        self.rename(&mut ages);
        self.touch_frames(&mut ages, event);
        let look = Look { before: &ages.before, now: self.queues(), touched: &ages.touched, event };
        let checked = look.check().and_then(|()| self.check_touched(&look));
        self.excuse(&mut ages);
        let all = self.check_on_a_list(&mut ages.excused);
        self.ages = Some(ages);
        checked.and(all).map_err(|why| format!("{event:?}: {why}"))
    }

    /// Pages that have other frames now keep their history.
    fn rename(&self, ages: &mut Ages) {
        let names = core::mem::take(&mut ages.names);
        let now = |frame: Frame| match names.get(&frame) {
            Some(&(space, vpn)) => self.frame_at(space, vpn),
            None => Some(frame),
        };
        if !names.is_empty() {
            for queue in &mut ages.before {
                *queue = queue.iter().filter_map(|&(list, frame)| Some((list, now(frame)?))).collect();
            }
            ages.excused = ages.excused.iter().filter_map(|&frame| now(frame)).collect();
        }
    }

    /// What the event has touched, beside what was in hand when it began.
    fn touch_frames(&self, ages: &mut Ages, event: Event) {
        ages.touched.extend(self.in_hand());
        let Some(recount) = &self.recount else { return };
        let moves = recount
            .calls
            .iter()
            .filter(|call| matches!(call.verb, Verb::MoveIn | Verb::MoveOut | Verb::CopyOut));
        ages.touched.extend(moves.filter_map(|call| call.frames).flat_map(|frames| frames.iter()));
        let mut ranges: Vec<PageRange> = self
            .appeared
            .iter()
            .chain(&ages.message)
            .map(|&(space, vpn)| PageRange::new(space, vpn, 1))
            .collect();
        for decision in &recount.decided {
            match *decision {
                Decision::Collapse { space, vpn, order }
                | Decision::Evict { space: space @ SHARED, vpn, order, .. } => {
                    ranges.push(PageRange::new(space, vpn, order.pages().into()));
                }
                _ => {}
            }
        }
        if let Event::Deactivate(start, pages) = event {
            ranges.push(PageRange::new(self.at, start, pages));
        }
        for range in ranges {
            for vpn in (range.start.0..range.end().0).map(Vpn) {
                ages.touched.extend(self.folio_at(range.space, vpn));
            }
        }
    }

    /// What was touched is active, if it is on a list that ages. A page that has appeared where one was to be mapped, or
    /// that has left again, is another one.
    fn check_touched(&self, look: &Look) -> Result<(), String> {
        let Some(recount) = &self.recount else { return Ok(()) };
        let inactive = |space: Space, vpn: Vpn| {
            let other = self.appeared.contains(&(space, vpn)) || self.left.contains(&(space, vpn));
            let place = self.frame_at(space, vpn).map(|frame| (List::Inactive, frame));
            !other && place.is_some_and(|place| look.now[0].contains(&place))
        };
        for decision in &recount.decided {
            if let Decision::Rescue { space, vpn, .. } = *decision
                && inactive(space, vpn)
            {
                return Err(format!("{vpn:?} was rescued, and is inactive"));
            }
        }
        for call in recount.calls.iter().filter(|call| call.verb == Verb::MapShared && call.done.pages > 0) {
            if look.is_of_a_fault() && inactive(call.range.space, call.range.start) {
                return Err(format!("{:?}, shared, was touched, and is inactive", call.range.start));
            }
        }
        Ok(())
    }

    /// Notes what was refused for good. With a new spill file all is tried again.
    fn excuse(&self, ages: &mut Ages) {
        if self.files != ages.files {
            ages.excused.clear();
        }
        let Some(recount) = &self.recount else { return };
        for call in recount.calls.iter().filter(|call| call.verb == Verb::MoveOut) {
            if let (Some(frames), Some(Refusal::Denied | Refusal::NoRange)) = (call.frames, call.done.refusal)
            {
                ages.excused.insert(frames.start.plus(call.done.pages));
            }
        }
    }

    /// Every folio that may be moved out is on a list, or there is an excuse, which holds as long as it is on none.
    fn check_on_a_list(&self, excused: &mut BTreeSet<Frame>) -> Result<(), String> {
        let (mut unlisted, mut locked) = (BTreeSet::new(), BTreeSet::new());
        for (space, vpn) in self.pages() {
            let there = self.engine.whereabouts(space, vpn);
            let (Some(frame), Some(vma)) = (there.frame, self.engine.vmas(space).at(vpn)) else { continue };
            if vma.locked {
                locked.extend(self.folio_at(space, vpn));
            }
            let leaves = match there.state {
                PageState::Mapped { .. } => vma.evictable(),
                PageState::Shared { .. } => true,
                _ => false,
            };
            if leaves && !there.listed {
                unlisted.insert(frame);
            }
        }
        excused.retain(|frame| unlisted.contains(frame) && !locked.contains(frame));
        let mut lost = unlisted.iter().filter(|frame| !excused.contains(frame) && !locked.contains(frame));
        match lost.next() {
            Some(&frame) => {
                let names = self.engine.rmap(frame);
                Err(format!("{frame:?} of {names:?} could be moved out, and is on no list"))
            }
            None => Ok(()),
        }
    }
}

/// The queues before and after an event.
struct Look<'a> {
    before: &'a Queues,
    now: Queues,
    touched: &'a BTreeSet<Frame>,
    event: Event,
}

impl Look<'_> {
    const fn is_of_a_fault(&self) -> bool {
        matches!(self.event, Event::Handle(_) | Event::Serve(_) | Event::Retry(_) | Event::Message(..))
    }

    const fn reclaims(&self) -> bool {
        matches!(self.event, Event::Reclaim(_) | Event::MoveOut(_))
    }

    fn check(&self) -> Result<(), String> {
        for (number, (before, now)) in self.before.iter().zip(&self.now).enumerate() {
            self.check_order(before, now)?;
            self.check_comers(before, now)?;
            let clean = QUEUES[number] == [List::Clean];
            if self.reclaims() || clean && self.is_of_a_fault() {
                self.check_leavers(before, now)?;
            }
        }
        Ok(())
    }

    fn is_touched(&self, frame: Frame) -> bool {
        self.touched.contains(&frame)
    }

    /// What was not touched and stays in a queue keeps its order.
    fn check_order(&self, before: &[(List, Frame)], now: &[(List, Frame)]) -> Result<(), String> {
        let places: BTreeMap<Frame, usize> = before.iter().map(|&(_, frame)| frame).zip(0..).collect();
        let mut last: Option<(usize, Frame)> = None;
        for &(list, frame) in now.iter().filter(|&&(_, frame)| !self.is_touched(frame)) {
            let Some(&place) = places.get(&frame) else { continue };
            if let Some((_, other)) = last.filter(|&(at, _)| at > place) {
                return Err(format!(
                    "{frame:?}, on {list:?}, was older than {other:?}, and nothing has touched it"
                ));
            }
            last = Some((place, frame));
        }
        Ok(())
    }

    /// What comes to a list is younger than what was there, and has a reason.
    fn check_comers(&self, before: &[(List, Frame)], now: &[(List, Frame)]) -> Result<(), String> {
        let before: BTreeMap<Frame, List> = before.iter().map(|&(list, frame)| (frame, list)).collect();
        let mut came: Option<(List, Frame)> = None;
        for &(list, frame) in now {
            let was = before.get(&frame).copied();
            if was != Some(list) {
                came = Some((list, frame));
                if !self.is_touched(frame) && !self.may_come(list, was) {
                    return Err(format!("{frame:?} came to {list:?}, and nothing has touched it"));
                }
            } else if let Some((_, other)) = came.filter(|came| came.0 == list && !self.is_touched(frame))
                && !matches!(self.event, Event::Deactivate(..))
            {
                return Err(format!("{other:?} came to {list:?}, not to its young end: {frame:?} was there"));
            }
        }
        Ok(())
    }

    /// Whether what nothing has touched may come to a list. `was`: the one of the same queue on which it was.
    const fn may_come(&self, list: List, was: Option<List>) -> bool {
        match (list, was) {
            (List::Inactive, Some(List::Active)) => self.reclaims(),
            (List::Inactive, None) => matches!(
                self.event,
                // An unmap unlocks first, also where it is refused then. What is shared is kept by locks alone, and all of a
                // folio is by a lock of any page: until those that are not locked part from it.
                Event::Adopt(..)
                    | Event::Protect(..)
                    | Event::Lock(..)
                    | Event::Unmap(..)
                    | Event::Discard(..)
                    | Event::OpenFile(_)
                    | Event::Full(_)
                    | Event::Fork
                    | Event::ForkSpace
                    | Event::Exit(_)
            ),
            _ => false,
        }
    }

    /// What leaves a queue is older than what stays.
    fn check_leavers(&self, before: &[(List, Frame)], now: &[(List, Frame)]) -> Result<(), String> {
        let now: BTreeSet<Frame> = now.iter().map(|&(_, frame)| frame).collect();
        let mut stays = None;
        for &(list, frame) in before {
            let touched = self.is_touched(frame);
            if now.contains(&frame) {
                stays = stays.or((!touched).then_some(frame));
            } else if let Some(older) = stays.filter(|_| self.reclaims() || !touched) {
                return Err(format!("{frame:?} left {list:?} before {older:?}, which is older"));
            }
        }
        Ok(())
    }
}
