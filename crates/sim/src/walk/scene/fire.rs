//! The events that meet a page in its state.

use super::{MOST_FIRED, Scene};
use crate::cells::{Event as Meeting, Injected, State, possible};
use crate::inject::{Injection, Lasting, Verb};
use crate::rng::Rng;
use crate::walk::Walk;
use crate::walk::events::{any_reason, pick};
use crate::walk::setups::order;
use crate::world::{Event, Host, Put, SPACE};
use quire_core::mmu::{Prot, Refusal};
use quire_core::vma::Vma;
use quire_core::{Frame, PageRange, Urgency, Vpn};

/// Events looked at, of which the one is taken that this walk has had least of.
const CANDIDATES: u32 = 8;

impl Scene {
    /// An event that meets the page now.
    pub(super) fn fire(&mut self, walk: &Walk, host: &Host, rng: &mut Rng) -> Option<Event> {
        let (goal, wrong) = (self.goal, self.wrong);
        let last = self.fired == MOST_FIRED;
        let can = |&event: &Meeting| {
            let fits = possible(event, goal, wrong).is_ok() && self.can_happen(walk, host, event);
            fits && (!last || ends(event, goal))
        };
        let all: Vec<Meeting> = Meeting::ALL.into_iter().filter(can).collect();
        if all.is_empty() {
            return None;
        }
        let tally = host.tally()?;
        let event = if self.fired == 1 && all.contains(&self.event) {
            self.event
        } else {
            let candidates = (0..CANDIDATES).map(|_| pick(rng, &all));
            candidates.min_by_key(|&event| (tally.of(event, goal, wrong), ends(event, goal)))?
        };
        self.prepare(walk, host, event, rng);
        self.queue.pop_front()
    }

    fn can_happen(&self, walk: &Walk, host: &Host, event: Meeting) -> bool {
        match event {
            Meeting::Fork => walk.forks && host.spaces == [SPACE] && !host.engine.shares(),
            Meeting::ForkSpace => walk.family && host.spaces.len() < 4,
            Meeting::Exit => host.spaces.len() > 1,
            Meeting::JobDone | Meeting::JobFailed => self.job(host).is_some(),
            // What is locked is not dropped.
            Meeting::Discard => !self.is_locked(host),
            _ => true,
        }
    }

    /// Puts the event, and what has to come before it, into the queue.
    fn prepare(&mut self, walk: &Walk, host: &Host, event: Meeting, rng: &mut Rng) {
        if self.is_partial(event) {
            self.make_whole(host, event);
        }
        let fills = matches!(event, Meeting::Fault | Meeting::Write);
        if self.verb_counts() && fills && matches!(self.goal, State::Empty | State::Zombie) {
            // Without a job: frames that are zeroed already.
            self.queue.push_back(Event::ZeroAhead(64, order(2)));
            self.queue.push_back(Event::Run(host.jobs.len() as u8));
        }
        if event == Meeting::Fork && self.goal == State::Writing && self.verb_counts() {
            // What can't be stored goes back.
            self.queue.push_back(Event::Full(true));
        }
        if event == Meeting::Budget {
            // With room for one page, reclaim may be content.
            let passed = !self.is_listed() && self.wrong != Injected::Nothing;
            let poor = self.verb_counts() || self.wrong == Injected::NoFrame || passed;
            let room = u32::from(!poor && !self.beside.contains(&Injected::NoFrame));
            let used = host.engine.grant().saturating_sub(host.engine.room());
            if self.is_listed() {
                self.queue.push_back(Event::Deactivate(self.run.start, self.run.pages));
            }
            self.queue.push_back(Event::Grant(used + room));
        }
        let poor = self.wrong == Injected::NoFrame || self.beside.contains(&Injected::NoFrame);
        if event == Meeting::Lock && !poor && host.engine.grant() < walk.setup.grant {
            // Of few frames, few may be locked.
            self.queue.push_back(Event::Grant(walk.setup.grant));
        }
        if self.verb_counts()
            && let Some(verb) = self.verb(host, event, rng)
        {
            self.queue.push_back(self.cut(host, event, verb, rng));
        }
        self.play(walk, host, event, rng);
    }

    /// Whether the verb is to do some pages first.
    fn is_partial(&self, event: Meeting) -> bool {
        let brings = !matches!(event, Meeting::Hint | Meeting::Budget | Meeting::ForkSpace);
        self.wrong == Injected::VerbPartial || self.wrong == Injected::PageGone && brings
    }

    /// The next such verb for the page is cut.
    fn cut(&self, host: &Host, event: Meeting, verb: Verb, rng: &mut Rng) -> Event {
        let folio = host.engine.folio_order(self.space, self.vpn).map_or(4, |order| order.pages());
        let after = match self.goal {
            _ if !self.is_partial(event) => 0,
            // The page itself is refused anyhow.
            State::Shared | State::Refused => 1,
            _ => 1 + rng.below(u64::from(folio) - 1) as u32,
        };
        let within = |vpn: u64| (vpn & (u64::from(folio) - 1)) as u32;
        let (refusal, after) = match self.wrong {
            // The page itself, or one beside it.
            Injected::PageAppeared if rng.chance(30) => (Refusal::Exists, rng.below(u64::from(folio)) as u32),
            Injected::PageAppeared => (Refusal::Exists, within(self.vpn.0)),
            // Before it is moved; after it was brought, if others follow it.
            Injected::PageGone if !self.is_partial(event) => {
                // What is shared is refused from its first page on.
                let shared = self.goal == State::Shared;
                (Refusal::Absent, if shared { 0 } else { within(self.vpn.0) })
            }
            Injected::PageGone => (Refusal::Absent, after),
            Injected::RefusedOn => {
                let pages = 1 + rng.below(4);
                let lasting = Lasting { verb, start: self.vpn, pages, refusal: any_reason(rng) };
                let events = if lasting.is_fatal() { 3 } else { 4 + rng.below(12) as u32 };
                return Event::Refuse(lasting, events);
            }
            _ => (any_reason(rng), after),
        };
        Event::Inject(Injection::next(verb, refusal).after(after).about(self.vpn))
    }

    /// A verb does some pages and not others only where there is more than one in a folio.
    fn make_whole(&mut self, host: &Host, event: Meeting) {
        if !matches!(event, Meeting::Hint | Meeting::Budget | Meeting::ForkSpace) {
            return;
        }
        match self.goal {
            State::Refused => {
                let outside: Vec<Vpn> = self.others_out(host).collect();
                self.queue.extend(outside.into_iter().map(|vpn| Event::Message(vpn, false)));
                self.queue.push_back(Event::Collapse(self.run.start, order(2)));
            }
            // The folio's first page is the process's own again.
            State::Shared => {
                let order = host.engine.folio_order(self.space, self.vpn);
                let first = Vpn(order.map_or(self.run.start.0, |order| order.align_down(self.vpn.0)));
                self.queue.push_back(self.write(host, first));
            }
            _ => {}
        }
    }

    fn verb(&self, host: &Host, event: Meeting, rng: &mut Rng) -> Option<Verb> {
        let partial = self.is_partial(event);
        let gone = self.wrong == Injected::PageGone;
        let staged = self.job(host).is_some_and(|number| host.jobs[usize::from(number)].work.staged);
        Some(match event {
            Meeting::Discard => Verb::Discard,
            Meeting::Unmap => pick(rng, &[Verb::Discard, Verb::Protect, Verb::Protect]),
            Meeting::Remap => Verb::Remap,
            Meeting::Protect => Verb::Protect,
            Meeting::Lock => Verb::Lock,
            Meeting::ForkSpace if gone => Verb::Share,
            Meeting::ForkSpace if partial && self.goal == State::SharedMapped => Verb::MapShared,
            Meeting::ForkSpace if partial => pick(rng, &[Verb::Share, Verb::Share, Verb::MapShared]),
            Meeting::ForkSpace => {
                pick(rng, &[Verb::ForkSpace, Verb::ForkSpace, Verb::Share, Verb::MapShared])
            }
            Meeting::Write if self.goal.is_shared() => Verb::CopyIn,
            Meeting::Fault if self.goal.is_shared() => Verb::MapShared,
            Meeting::Fault | Meeting::Write if self.goal == State::Empty && !partial => {
                pick(rng, &[Verb::CopyIn, Verb::MoveIn, Verb::MoveIn])
            }
            Meeting::Hint | Meeting::Budget if self.goal == State::Shared && !partial && !gone => {
                pick(rng, &[Verb::MoveOut, Verb::Unshare])
            }
            Meeting::Hint | Meeting::Budget => Verb::MoveOut,
            Meeting::JobDone if self.goal == State::SharedFilling => Verb::MapShared,
            Meeting::JobDone | Meeting::Fork if staged => Verb::CopyIn,
            Meeting::Fault | Meeting::Write | Meeting::Fork | Meeting::JobDone => Verb::MoveIn,
            _ => return None,
        })
    }

    fn play(&mut self, walk: &Walk, host: &Host, event: Meeting, rng: &mut Rng) {
        let PageRange { start, pages, .. } = self.run;
        let event = match event {
            Meeting::Fault => Event::Message(self.vpn, false),
            Meeting::Write => Event::Message(self.vpn, true),
            Meeting::Adopt => {
                // It begins with a page that is empty, or with the page itself.
                let empty = |vpn: &u64| {
                    matches!(host.state(self.space, Vpn(*vpn)), Some(State::Empty | State::Zombie))
                };
                let before = (self.run.start.0..self.vpn.0).rev().take_while(empty);
                let start = before.last().unwrap_or(self.vpn.0);
                let put = pick(rng, &[Put::Small, Put::Zero]);
                Event::Adopt(Vpn(start), self.run.end().0 - start, order(rng.below(4) as u8), put)
            }
            Meeting::Discard => {
                let (start, pages) = self.wide(walk, rng);
                let (vmas, end) = (host.engine.vmas(self.space), start.plus(pages));
                let locked = vmas.overlapping(start, end).any(|vma| vma.locked);
                let (start, pages) =
                    if locked { self.stretch(host, |vma| !vma.locked) } else { (start, pages) };
                Event::Discard(start, pages)
            }
            Meeting::Unmap => {
                let (start, pages) = self.wide(walk, rng);
                Event::Unmap(start, pages)
            }
            Meeting::Remap => return self.play_remap(walk, host, rng),
            Meeting::Protect => {
                let (start, pages) = self.stretch(host, |_| true);
                Event::Protect(start, pages, pick(rng, &[Prot::READ, Prot::READ_WRITE]))
            }
            Meeting::Lock if host.engine.grant() < 12 => Event::Lock(self.vpn, 1, true),
            Meeting::Lock => {
                let (start, pages) = self.stretch(host, |_| true);
                Event::Lock(start, pages, true)
            }
            Meeting::Fork => Event::Fork,
            Meeting::Hint if self.verb_counts() => Event::PageOut(start, pages),
            Meeting::Hint => match rng.below(3) {
                0 => Event::Deactivate(start, pages),
                _ => Event::PageOut(start, pages),
            },
            Meeting::Budget => return self.play_budget(host),
            Meeting::Collapse => {
                // What is in no frame is looked at last; what is, behind others that are mapped.
                let number = if self.vpn.0 % 2 == 1 || self.goal.present() { 1 } else { 2 };
                let order = order(if rng.chance(80) { number } else { 2 });
                Event::Collapse(Vpn(order.align_down(self.vpn.0)), order)
            }
            Meeting::Vacate => {
                let own = self.job(host).map(|number| host.jobs[usize::from(number)].work.frames.start);
                let there = host.engine.whereabouts(self.space, self.vpn).frame;
                let frame = there.or(own).unwrap_or(Frame(0));
                let goal = order(1 + rng.below(3) as u8);
                Event::Vacate(Frame(goal.align_down(frame.0.into()) as u32), goal)
            }
            Meeting::JobDone => return self.play_end(host, Event::Run),
            Meeting::JobFailed => return self.play_end(host, Event::Fail),
            Meeting::ForkSpace => Event::ForkSpace,
            Meeting::Exit if self.wrong == Injected::JobFailed => {
                let mine = host.spaces.iter().position(|&space| space == self.space).unwrap_or(0);
                Event::Exit(mine as u8)
            }
            Meeting::Exit => self.lose_another(host, rng),
            Meeting::VerbPartial | Meeting::VerbRefused => return,
        };
        self.queue.push_back(event);
    }

    /// As much of the run round the page as lies in VMAs that fit.
    fn stretch(&self, host: &Host, fits: impl Fn(&Vma) -> bool) -> (Vpn, u64) {
        let vmas = host.engine.vmas(self.space);
        let good = |vpn: &u64| vmas.at(Vpn(*vpn)).is_some_and(&fits);
        let start = (self.run.start.0..self.vpn.0).rev().take_while(good).last().unwrap_or(self.vpn.0);
        let end = (self.vpn.0 + 1..self.run.end().0).take_while(good).last().unwrap_or(self.vpn.0) + 1;
        (Vpn(start), end - start)
    }

    fn is_locked(&self, host: &Host) -> bool {
        host.engine.vmas(self.space).at(self.vpn).is_some_and(|vma| vma.locked)
    }

    /// Whether reclaim comes to the page by a list.
    const fn is_listed(&self) -> bool {
        matches!(
            self.goal,
            State::Mapped
                | State::MappedWithCopy
                | State::Standby
                | State::StandbyWithCopy
                | State::Shared
                | State::Refused
                | State::SharedMapped
                | State::SharedStandby
        )
    }

    /// The run, and pages round it: what earlier scenes have left behind is met too. (Dropping begins with the first page
    /// that has anything.)
    fn wide(&self, walk: &Walk, rng: &mut Rng) -> (Vpn, u64) {
        let start = self.run.start.0.saturating_sub(rng.below(9));
        let end = (self.run.end().0 + rng.below(9)).min(walk.setup.arena);
        (Vpn(start), end - start)
    }

    /// The pages go where nothing is mapped.
    fn play_remap(&mut self, walk: &Walk, host: &Host, rng: &mut Rng) {
        let vmas = host.engine.vmas(self.space);
        let own = vmas.at(self.vpn).map(|vma| vma.start);
        let (start, pages) = self.stretch(host, |vma| Some(vma.start) == own);
        // As many pages as the VMA and the place have.
        let most = vmas.at(start).map_or(pages, |vma| vma.end.0 - start.0).clamp(pages, 12);
        let runs = (walk.setup.arena / 4).max(1);
        let first = rng.below(runs);
        let places = (0..runs).map(|i| Vpn((first + i) % runs * 4));
        let bare = |to: Vpn, pages: u64| {
            to.0 + pages <= walk.setup.arena && vmas.overlapping(to, to.plus(pages)).next().is_none()
        };
        let found = places.clone().find(|&to| bare(to, most)).map(|to| (to, most));
        let (to, pages) = found
            .or_else(|| places.clone().find(|&to| bare(to, pages)).map(|to| (to, pages)))
            .unwrap_or_else(|| {
                let to = Vpn((start.0 + 4) % (walk.setup.arena - 3) / 4 * 4);
                self.queue.push_front(Event::Unmap(to, pages));
                (to, pages)
            });
        self.queue.push_back(Event::Remap(start, pages, to));
    }

    /// Reclaim, until it has come to the page or has looked at all that it could.
    fn play_budget(&mut self, host: &Host) {
        let steps = if self.is_listed() { 2 } else { 6 };
        let steps = if self.verb_counts() { 1 } else { steps };
        (0..steps).for_each(|_| self.queue.push_back(Event::Reclaim(Urgency::Behind)));
        if self.verb_counts() {
            for _ in 0..5 {
                self.queue.push_back(Event::Run(host.jobs.len() as u8));
                self.queue.push_back(Event::Reclaim(Urgency::Behind));
            }
        }
    }

    /// The job comes back; where the store is slow, after other events in which it did nothing.
    fn play_end(&mut self, host: &Host, end: fn(u8) -> Event) {
        let Some(number) = self.job(host) else { return };
        let job = &host.jobs[usize::from(number)];
        let slow = self.wrong == Injected::StoreSlow || self.beside.contains(&Injected::StoreSlow);
        if slow && (!job.late || host.is_held(job)) {
            self.queue.push_back(Event::Hold(number, 3));
            (0..3).for_each(|_| self.queue.push_back(Event::Deactivate(self.run.start, self.run.pages)));
        }
        self.queue.push_back(end(number));
    }
}

/// Whether the page is hardly in its state afterwards.
const fn ends(event: Meeting, state: State) -> bool {
    match event {
        Meeting::Discard | Meeting::Unmap | Meeting::Remap | Meeting::JobDone | Meeting::JobFailed => true,
        Meeting::Fault | Meeting::Write => !state.present(),
        Meeting::Adopt => matches!(state, State::Empty | State::Zombie),
        Meeting::Exit | Meeting::Fork | Meeting::ForkSpace => true,
        _ => false,
    }
}
