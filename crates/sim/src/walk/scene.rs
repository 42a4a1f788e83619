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
use crate::world::{Event, Host, SPACE, Step};
use quire_core::job::JobKind;
use quire_core::mmu::Prot;
use quire_core::{Order, PageRange, PolicyKind, Space, Vpn};
use std::collections::VecDeque;

/// Events after which a scene gives up.
const PATIENCE: u32 = 44;
/// Combinations looked at for one to be met.
const CANDIDATES: u32 = 160;
/// Pages looked at for one to begin with.
const MOST_LOOKED_AT: u64 = 24;
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
    patience: u32,
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
        if matches!(wrong, Injected::VerbPartial | Injected::JobFailed) && vpn.0.is_multiple_of(4) {
            vpn = vpn.plus(1);
        }
        if let Some(near) = left_behind(host, goal, wrong, rng) {
            vpn = near;
        }
        let start = order(2).align_down(vpn.0);
        let run = PageRange::new(host.at, Vpn(start), (arena - start).min(4));
        let whole = matches!(wrong, Injected::VerbPartial | Injected::JobFailed) || rng.chance(40);
        let (patience, mut queue) = (PATIENCE, VecDeque::new());
        let fresh = whole || matches!(goal, State::FillingZeroes | State::Zombie);
        let state = host.state(host.at, vpn);
        if fresh && state != Some(goal) && !state.is_some_and(|state| feeds(state, goal)) {
            queue.push_back(Event::Unmap(run.start, run.pages));
            queue.push_back(Event::Map(run.start, run.pages, Prot::READ_WRITE));
        }
        let beside = beside(walk, wrong, rng);
        let space = host.at;
        let verbs = matches!(wrong, Injected::VerbRefused | Injected::VerbPartial);
        let wants_unstored = verbs && event == Meeting::Fork && goal == State::StandbyKept;
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
            patience,
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
        self.patience = self.patience.saturating_sub(1);
        let next = if self.patience > 0 { self.lead(walk, host, rng) } else { None };
        if next.is_none() {
            self.over = true;
            self.clear_up(host, rng);
            return self.queue.pop_front();
        }
        self.again = if next == self.last { self.again + 1 } else { 0 };
        self.last = next;
        if self.again > MOST_AGAIN {
            self.patience = 0;
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
            if state != Some(State::MappedKept) {
                return self.reach(walk, host, State::MappedKept, state, rng);
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

/// Of some combinations that such a walk may meet, the one that it has met least.
fn rarest(walk: &Walk, host: &Host, rng: &mut Rng) -> (Meeting, State, Injected) {
    let any = |rng: &mut Rng| loop {
        let (event, goal) = (pick(rng, &Meeting::ALL), pick(rng, &State::ALL));
        let wrong = pick(rng, &Injected::ALL);
        let possible = possible(event, goal, wrong).is_ok() && may_have(walk, goal, wrong);
        let never = event == Meeting::Fork && !walk.forks
            || matches!(event, Meeting::ForkSpace | Meeting::Exit) && !walk.family
            || (goal == State::Shared || event == Meeting::Fork) && host.at != SPACE;
        // What needs no family, others meet too.
        let common = walk.family && !goal.is_shared() && event != Meeting::ForkSpace;
        // Others are slow beside it.
        let beside = wrong == Injected::StoreSlow && rng.chance(50);
        if possible && !never && !beside && !(common && rng.chance(52)) {
            return (event, goal, wrong);
        }
    };
    let hits = |&(event, goal, wrong): &(Meeting, State, Injected)| {
        host.tally().map_or(0, |tally| tally.of(event, goal, wrong))
    };
    if walk.refusals
        && rng.chance(15)
        && let Some(cell) = seldom(walk, host, rng)
    {
        return cell;
    }
    // Few ways lead there: a process forks alone, its child ends, and then it forks within the engine.
    if walk.family && walk.forks && host.at == SPACE && rng.chance(2) {
        return (Meeting::ForkSpace, State::Shared, Injected::VerbPartial);
    }
    let mut best = any(rng);
    for _ in 1..CANDIDATES {
        let other = any(rng);
        if hits(&other) < hits(&best) {
            best = other;
        }
    }
    best
}

/// Verbs that are cut on pages that others share, or in a fork: few ways lead there, and many of them astray.
fn seldom(walk: &Walk, host: &Host, rng: &mut Rng) -> Option<(Meeting, State, Injected)> {
    const CALLS: [Meeting; 8] = [
        Meeting::Fault,
        Meeting::Write,
        Meeting::Discard,
        Meeting::Unmap,
        Meeting::Remap,
        Meeting::Protect,
        Meeting::Lock,
        Meeting::JobDone,
    ];
    let wrong = pick(rng, &[Injected::VerbRefused, Injected::VerbPartial]);
    let (event, goal) = match walk.family {
        true if rng.chance(70) => (pick(rng, &CALLS), pick(rng, &State::ALL[State::ALL.len() - 5..])),
        true => (Meeting::ForkSpace, pick(rng, &State::ALL)),
        false if walk.forks && host.at == SPACE => (Meeting::Fork, pick(rng, &State::ALL)),
        false => return None,
    };
    possible(event, goal, wrong).is_ok().then_some((event, goal, wrong))
}

/// A page that an earlier scene has left in the state, or else in one that leads to it.
fn left_behind(host: &Host, goal: State, wrong: Injected, rng: &mut Rng) -> Option<Vpn> {
    let pages = host.setup().arena.min(MOST_LOOKED_AT);
    let first = rng.below(pages);
    let mut near = None;
    for vpn in (0..pages).map(|i| Vpn((first + i) % pages)) {
        let Some(state) = host.state(host.at, vpn) else { continue };
        let marked = wrong != Injected::JobFailed || host.has_failed(host.at, vpn);
        let folio = host.engine.folio_order(host.at, vpn).is_some_and(|order| order > Order::BASE);
        let fits = marked && (wrong != Injected::VerbPartial || folio && !vpn.0.is_multiple_of(4));
        if fits && state == goal {
            return Some(vpn);
        }
        if fits && near.is_none() && feeds(state, goal) {
            near = Some(vpn);
        }
    }
    near
}

/// Whether a page in `state` is one or two events from `goal`.
const fn feeds(state: State, goal: State) -> bool {
    match goal {
        State::FillingStored | State::SharedStored => matches!(state, State::Stored | State::StandbyKept),
        State::MappedKept => matches!(state, State::StandbyKept | State::FillingStored | State::Stored),
        State::Writing | State::SharedStandby => matches!(state, State::Standby),
        State::StandbyKept => matches!(state, State::Writing | State::MappedKept),
        State::Stored => matches!(state, State::StandbyKept),
        State::SharedWriting => matches!(state, State::Writing | State::SharedStandby),
        State::SharedFilling => matches!(state, State::SharedStored),
        State::SharedMapped => matches!(state, State::SharedStandby | State::Mapped | State::MappedKept),
        State::Zombie => matches!(state, State::FillingZeroes | State::FillingStored | State::Writing),
        _ => false,
    }
}

/// What may go wrong beside something else, so that one event counts for both. A verb that is to be refused has to be
/// called, and without a frame many are not.
fn beside(walk: &Walk, wrong: Injected, rng: &mut Rng) -> Vec<Injected> {
    let mut all = Vec::new();
    let verbs = matches!(wrong, Injected::VerbRefused | Injected::VerbPartial);
    if wrong == Injected::Nothing {
        return all;
    }
    if rng.chance(30) {
        all.push(Injected::StoreSlow);
    }
    if !verbs && walk.refusals && rng.chance(40) {
        all.push(Injected::StoreFull);
    }
    if !verbs && rng.chance(25) {
        all.push(Injected::NoFrame);
    }
    all
}

/// Whether walks of this kind come to such states.
fn may_have(walk: &Walk, goal: State, wrong: Injected) -> bool {
    let refusals = matches!(
        wrong,
        Injected::VerbRefused | Injected::VerbPartial | Injected::Pinned | Injected::StoreFull
    );
    // With base pages alone, hardly any fill of zeroes is a job, and no edge lies inside a folio.
    let filled = matches!(goal, State::FillingZeroes | State::Zombie);
    let cut = wrong == Injected::JobFailed
        && matches!(
            goal,
            State::Empty | State::Stored | State::FillingStored | State::SharedStored | State::SharedFilling
        );
    let base = match walk.setup.policy {
        PolicyKind::Fixed(order) => order == Order::BASE,
        PolicyKind::Linux(_) => false,
        _ => true,
    };
    (walk.family || !goal.is_shared())
        && (walk.forks || goal != State::Shared)
        && (walk.refusals || !refusals && goal != State::Refused)
        && !(base && (filled || cut))
}
