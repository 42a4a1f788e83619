//! Leading up to a combination: a page is brought into a state, something goes wrong, and then one event after the
//! other meets it, as long as it stays so.
//!
//! A scene looks at the host before each of its events, and says which one leads on. Others come in between and spoil
//! it now and then: then it leads back, or gives up.

mod fire;
mod reach;

use super::events::{any_event, pick};
use super::setups::{Walk, order};
use crate::cells::{Event as Meeting, Injected, State, possible};
use crate::rng::Rng;
use crate::world::{Event, Host};
use quire_core::{PageRange, Space, Vpn};
use std::collections::VecDeque;

/// Events after which a scene gives up.
const PATIENCE: u32 = 36;
/// Events that meet the page, after which it is enough.
const MOST_FIRED: u32 = 6;

/// What is to be met.
#[derive(Debug)]
pub(super) struct Scene {
    goal: State,
    wrong: Injected,
    space: Space,
    /// The page, and the aligned run of pages that it lies in.
    vpn: Vpn,
    run: PageRange,
    patience: u32,
    /// Events that have met the page.
    fired: u32,
    /// What comes before anything else.
    queue: VecDeque<Event>,
    over: bool,
}

impl Scene {
    /// A scene that such a walk may have.
    pub(super) fn any(walk: &Walk, host: &Host, rng: &mut Rng) -> Scene {
        let (goal, wrong) = loop {
            let goal = pick(rng, &State::ALL);
            let wrong = pick(rng, &Injected::ALL);
            let makes_sense = Meeting::ALL.iter().any(|&event| possible(event, goal, wrong).is_ok());
            if makes_sense && may_have(walk, goal, wrong) {
                break (goal, wrong);
            }
        };
        let arena = walk.setup.arena;
        let vpn = Vpn(rng.below(arena.min(16)));
        let start = order(2).align_down(vpn.0);
        let run = PageRange::new(host.at, Vpn(start), (arena - start).min(4));
        let queue = VecDeque::new();
        Scene { goal, wrong, space: host.at, vpn, run, patience: PATIENCE, fired: 0, queue, over: false }
    }

    /// What leads on; `None` when it is over.
    pub(super) fn next(&mut self, walk: &Walk, host: &Host, rng: &mut Rng) -> Option<Event> {
        if let Some(event) = self.queue.pop_front() {
            return Some(event);
        }
        if self.over {
            return None;
        }
        self.patience = self.patience.saturating_sub(1);
        let next = if self.patience > 0 { self.lead(walk, host, rng) } else { None };
        if next.is_none() {
            self.over = true;
            self.clear_up(host, rng);
            return self.queue.pop_front();
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
        let held = || host.jobs.iter().any(|job| host.is_held(job));
        match self.wrong {
            Injected::Nothing if host.is_full() => Some(Event::Full(false)),
            Injected::Nothing | Injected::Pinned if host.engine.room() == 0 && host.engine.grant() < walk.setup.grant => {
                Some(Event::Grant(walk.setup.grant))
            }
            Injected::StoreFull if !host.is_full() => Some(Event::Full(true)),
            Injected::StoreSlow if !held() => Some(self.hold(walk, host, rng)),
            Injected::NoFrame if host.engine.room() > 0 => Some(Event::Grant(0)),
            Injected::Pinned if !self.is_pinned(host) => Some(Event::Pin(self.vpn, true)),
            _ => None,
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
        if host.engine.grant() < host.setup().grant {
            self.queue.push_back(Event::Grant(host.setup().grant));
        }
        if host.at == self.space && self.is_pinned(host) && rng.chance(70) {
            self.queue.push_back(Event::Pin(self.vpn, false));
        }
    }
}

/// Whether walks of this kind come to such states.
fn may_have(walk: &Walk, goal: State, wrong: Injected) -> bool {
    let refusals = !matches!(wrong, Injected::VerbRefused | Injected::VerbPartial | Injected::Pinned | Injected::StoreFull)
        && goal != State::Refused;
    (walk.family || !goal.is_shared())
        && (walk.forks || goal != State::Shared)
        && (walk.refusals || refusals)
}
