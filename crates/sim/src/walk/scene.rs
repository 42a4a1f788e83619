//! Leading up to a combination: a page is brought into a state, something goes wrong, and then one event after the
//! other meets it, as long as it stays so.
//!
//! A scene looks at the host before each of its events, and says which one leads on. Others come in between and spoil
//! it now and then: then it leads back, or gives up.

mod choose;
mod fire;
mod reach;

use super::events::any_event;
use super::setups::{Walk, order};
use crate::cells::{Event as Meeting, Injected, State};
use crate::rng::Rng;
use crate::world::{Event, Host, Step};
use choose::{beside, feeds, left_behind, rarest};
use quire_core::job::JobKind;
use quire_core::mmu::Prot;
use quire_core::{PageRange, Space, Vpn};
use std::collections::VecDeque;

/// Events after which a scene gives up.
const MOST_EVENTS: u32 = 44;
/// How often one event leads nowhere before that.
const MOST_AGAIN: u32 = 8;
/// Events that meet the page. The last one is one that ends its state, and the scene.
const MOST_FIRED: u32 = 4;

/// What is to be met.
#[derive(Debug)]
pub(super) struct Scene {
    /// What is to happen first.
    event: Meeting,
    goal: State,
    wrong: Injected,
    /// What goes wrong too.
    beside: Vec<Injected>,
    space: Space,
    /// The page, and the aligned run of pages that it lies in.
    vpn: Vpn,
    run: PageRange,
    /// Whether all of the run is to be written, so that it is one folio throughout.
    whole: bool,
    /// Whether it is to be moved out, and no writer has said yet that its copy is good: then a fork puts it back.
    wants_unstored: bool,
    events_left: u32,
    /// Events that have met the page.
    fired: u32,
    /// What comes before anything else.
    queue: VecDeque<Event>,
    over: bool,
    /// What it led on with last, and how often in a row.
    last: Option<Event>,
    again: u32,
}

impl Scene {
    /// A scene that such a walk may have.
    pub(super) fn any(walk: &Walk, host: &Host, rng: &mut Rng) -> Scene {
        let (event, goal, wrong) = rarest(walk, host, rng);
        let arena = walk.setup.arena;
        let mut vpn = Vpn(rng.below(arena.min(16)));
        // What is done in part is done from the start of the run.
        let partial = matches!(wrong, Injected::VerbPartial | Injected::PageGone);
        if (partial || wrong == Injected::JobFailed) && vpn.0.is_multiple_of(4) {
            vpn = vpn.plus(1);
        }
        if let Some(near) = left_behind(host, goal, wrong, rng) {
            vpn = near;
        }
        let start = order(2).align_down(vpn.0);
        let run = PageRange::new(host.at, Vpn(start), (arena - start).min(4));
        let whole = partial || wrong == Injected::JobFailed || rng.chance(40);
        let (events_left, mut queue) = (MOST_EVENTS, VecDeque::new());
        let fresh = whole || matches!(goal, State::FillingZeroes | State::Zombie);
        let state = host.state(host.at, vpn);
        if fresh && state != Some(goal) && !state.is_some_and(|state| feeds(state, goal)) {
            queue.push_back(Event::Unmap(run.start, run.pages));
            queue.push_back(Event::Map(run.start, run.pages, Prot::READ_WRITE));
        }
        let beside = beside(walk, wrong, rng);
        let space = host.at;
        let wants_unstored = is_of_verbs(wrong) && event == Meeting::Fork && goal == State::StandbyWithCopy;
        let (fired, again, last) = (0, 0, None);
        Scene {
            event,
            goal,
            wrong,
            beside,
            space,
            vpn,
            run,
            whole,
            wants_unstored,
            events_left,
            fired,
            queue,
            over: false,
            last,
            again,
        }
    }

    /// What leads on; `None` when it is over.
    pub(super) fn next(&mut self, walk: &Walk, host: &Host, rng: &mut Rng) -> Option<Event> {
        if let Some(event) = self.queue.pop_front() {
            return Some(event);
        }
        if self.over {
            return None;
        }
        self.events_left = self.events_left.saturating_sub(1);
        let next = if self.events_left > 0 { self.lead(walk, host, rng) } else { None };
        if next.is_none() {
            self.over = true;
            self.clear_up(host, rng);
            return self.queue.pop_front();
        }
        self.again = if next == self.last { self.again + 1 } else { 0 };
        self.last = next;
        if self.again > MOST_AGAIN {
            self.events_left = 0;
        }
        next
    }

    fn lead(&mut self, walk: &Walk, host: &Host, rng: &mut Rng) -> Option<Event> {
        if host.at != self.space {
            let number = host.spaces.iter().position(|&space| space == self.space)?;
            return Some(Event::Process(number as u8));
        }
        let state = host.state(self.space, self.vpn);
        if self.wrong == Injected::JobFailed && !host.has_failed(self.space, self.vpn) {
            return self.mark(walk, host, state, rng);
        }
        if self.wants_unstored && self.fired == 0 {
            if state != Some(State::MappedWithCopy) {
                return self.reach(walk, host, State::MappedWithCopy, state, rng);
            }
            self.wants_unstored = false;
            return Some(Event::PageOut(self.run.start, self.run.pages));
        }
        if state != Some(self.goal) {
            return if self.fired > 0 { None } else { self.reach(walk, host, self.goal, state, rng) };
        }
        if let Some(event) = self.go_wrong(walk, host, rng) {
            return Some(event);
        }
        if self.fired >= MOST_FIRED {
            return None;
        }
        self.fired += 1;
        self.fire(walk, host, rng)
    }

    /// What goes wrong beside the page: the event that brings it about, until it is so.
    fn go_wrong(&self, walk: &Walk, host: &Host, rng: &mut Rng) -> Option<Event> {
        let goes = |what| self.wrong == what || self.beside.contains(&what);
        let held = || host.jobs.iter().any(|job| host.is_held(job));
        let poor = host.engine.room() == 0 && host.engine.grant() < walk.setup.grant;
        if self.wrong == Injected::Nothing && host.is_full() {
            Some(Event::Full(false))
        } else if poor && !goes(Injected::NoFrame) && self.wrong != Injected::JobFailed {
            Some(Event::Grant(walk.setup.grant))
        } else if goes(Injected::Pinned) && !self.is_pinned(host) {
            Some(Event::Pin(self.vpn, true))
        } else if goes(Injected::StoreFull) && !host.is_full() {
            // A writer that has its places already is not concerned.
            Some(self.unplaced(host).map_or(Event::Full(true), Event::Step))
        } else if goes(Injected::StoreSlow) && !held() {
            Some(self.hold(walk, host, rng))
        } else if goes(Injected::NoFrame) && self.event == Meeting::Lock && host.engine.grant() == 0 {
            // Of no frames, none may be locked.
            Some(Event::Grant(walk.setup.grant))
        } else if goes(Injected::NoFrame) && host.engine.room() > 0 {
            let locks = self.event == Meeting::Lock;
            let less = host.engine.grant().saturating_sub(host.engine.room()).max(1);
            Some(Event::Grant(if locks && less < host.engine.grant() { less } else { 0 }))
        } else {
            None
        }
    }

    /// A job is held back: another one than the page's own, if there is one.
    fn hold(&self, walk: &Walk, host: &Host, rng: &mut Rng) -> Event {
        let own = self.job(host);
        let other = (0..host.jobs.len() as u8).rev().find(|&number| Some(number) != own);
        match other.or(own) {
            Some(number) => Event::Hold(number, 30),
            None if rng.chance(50) => Event::ZeroAhead(64, order(rng.below(3) as u8)),
            None => any_event(walk, rng),
        }
    }

    /// The number of the page's own job, if that is a writer without places.
    fn unplaced(&self, host: &Host) -> Option<u8> {
        let job = |number: &u8| &host.jobs[usize::from(*number)];
        self.job(host).filter(|number| {
            let early = matches!(job(number).step, Step::Begun | Step::Packed);
            job(number).work.kind == JobKind::Write && early && !host.is_held(job(number))
        })
    }

    /// Whether what goes wrong is a verb's matter.
    pub(super) const fn verb_counts(&self) -> bool {
        is_of_verbs(self.wrong)
    }

    fn is_pinned(&self, host: &Host) -> bool {
        let entry = host.mmu.entry(self.space, self.vpn);
        matches!(entry, Some(crate::tables::Pte::Page { pinned: true, .. }))
    }

    /// The number of the job that the page began last.
    fn job(&self, host: &Host) -> Option<u8> {
        let page = (self.space, self.vpn);
        host.jobs.iter().rposition(|job| job.pages.contains(&page)).map(|at| at as u8)
    }

    /// What went wrong for the scene does so no longer.
    fn clear_up(&mut self, host: &Host, rng: &mut Rng) {
        if host.is_full() {
            self.queue.push_back(Event::Full(false));
        }
        if host.engine.grant() != host.setup().grant {
            self.queue.push_back(Event::Grant(host.setup().grant));
        }
        // Room for the next fork.
        if host.spaces.len() > 2 && rng.chance(60) {
            self.queue.push_back(self.lose_another(host, rng));
        }
        let locked = host.engine.vmas(self.space).at(self.vpn).is_some_and(|vma| vma.locked);
        if host.at == self.space && locked && rng.chance(50) {
            self.queue.push_back(Event::Lock(self.run.start, self.run.pages, false));
        }
        if host.at == self.space && self.is_pinned(host) && rng.chance(70) {
            self.queue.push_back(Event::Pin(self.vpn, false));
        }
    }
}

/// Whether it goes wrong in the middle of a verb.
const fn is_of_verbs(wrong: Injected) -> bool {
    matches!(
        wrong,
        Injected::VerbRefused
            | Injected::VerbPartial
            | Injected::PageAppeared
            | Injected::PageGone
            | Injected::RefusedOn
    )
}
