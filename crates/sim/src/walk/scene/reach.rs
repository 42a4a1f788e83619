//! How a page comes into a state.

use super::Scene;
use crate::cells::State;
use crate::rng::Rng;
use crate::store::is_raw;
use crate::walk::Walk;
use crate::world::{Event, Host, Put, SPACE, Touch};
use quire_core::mmu::Prot;
use quire_core::{Order, Urgency, Vpn};

const RW: Prot = Prot::READ_WRITE;
/// Jobs under way with which reclaim can still begin one.
const MOST_JOBS: usize = 5;

impl Scene {
    /// The next event on the way from `state` to `goal`.
    pub(super) fn reach(
        &mut self,
        walk: &Walk,
        host: &Host,
        goal: State,
        state: Option<State>,
        rng: &mut Rng,
    ) -> Option<Event> {
        if let Some(event) = self.make_usable(host, goal) {
            return Some(event);
        }
        let Some(state) = state else { return self.reach_from_nowhere(host, goal) };
        Some(match (goal, state) {
            (State::Empty, State::Zombie) => self.run_job(host)?,
            (State::Empty, _) => self.discard(),
            (State::FillingZeroes, State::Empty) => self.fill(walk, host, false),
            (State::FillingZeroes, State::Zombie) => self.run_job(host)?,
            (State::FillingZeroes, _) => self.discard(),
            (State::Zombie, State::FillingZeroes | State::FillingStored | State::Writing) => self.discard(),
            (State::Zombie, State::Empty) => self.fill(walk, host, false),
            (State::Zombie, State::Standby) => self.press(host),
            (State::Zombie, _) => self.discard(),

            (
                State::Mapped | State::Standby,
                State::MappedWithCopy | State::StandbyWithCopy | State::Stored,
            ) => self.discard(),
            (State::Shared, _) if self.space != SPACE => return None,
            (State::Shared, _) if host.spaces.len() > 1 => self.lose_another(host, rng),
            (State::Shared, _) if host.engine.shares() => Event::Unmap(Vpn(0), walk.setup.arena),
            (State::Shared, State::Mapped | State::MappedWithCopy) => Event::Fork,
            (State::Refused, State::Mapped | State::MappedWithCopy) if self.is_pinned(host) => {
                self.page_out()
            }
            (State::Refused, State::Mapped | State::MappedWithCopy) => Event::Pin(self.vpn, true),
            (
                State::Copied,
                State::Mapped | State::MappedWithCopy | State::Standby | State::StandbyWithCopy,
            ) if self.is_movable(host) => Event::Protect(self.run.start, self.run.pages, Prot::READ),
            (State::Mapped | State::Shared | State::Refused | State::Copied, _) => {
                self.map(walk, host, state)?
            }

            (_, State::Mapped | State::MappedWithCopy) if goal == State::SharedMapped => self.fork(host, rng),
            (State::SharedMapped, State::SharedStandby | State::SharedStored | State::SharedWriting) => {
                self.fill(walk, host, false)
            }
            (State::SharedMapped, State::SharedFilling) => self.run_job(host)?,
            (State::SharedMapped, _) => self.map(walk, host, state)?,

            (State::SharedStandby, State::Standby | State::StandbyWithCopy) => self.fork(host, rng),
            (State::SharedWriting, State::Writing) => self.fork(host, rng),
            (State::SharedStored | State::SharedFilling, State::Stored) => self.fork(host, rng),
            (State::SharedFilling, State::SharedStored) => self.fill(walk, host, false),

            (State::FillingStored | State::MappedWithCopy, State::Stored) => self.fill(walk, host, false),
            // With room in the store a copy is kept.
            (State::MappedWithCopy, State::FillingStored) if host.engine.grant() < 10 * walk.setup.grant => {
                Event::Grant(10 * walk.setup.grant)
            }
            (State::MappedWithCopy, State::FillingStored) => self.run_job(host)?,
            (State::MappedWithCopy, State::StandbyWithCopy) => self.fill(walk, host, false),

            // The way out: written, moved out, stored, dropped.
            (_, State::Mapped) if self.blank(host).is_some() => self.write(host, self.blank(host)?),
            (_, State::Mapped | State::MappedWithCopy) => self.page_out(),
            (_, State::Standby | State::SharedStandby | State::StandbyWithCopy | State::SharedMapped) => {
                self.press(host)
            }
            (_, State::Writing | State::SharedWriting) => self.run_job(host)?,
            _ => self.map(walk, host, state)?,
        })
    }

    /// The next event on the way to a page whose last job has failed.
    pub(super) fn mark(
        &mut self,
        walk: &Walk,
        host: &Host,
        state: Option<State>,
        rng: &mut Rng,
    ) -> Option<Event> {
        let job = self.job(host);
        let by_fill = matches!(self.goal, State::Empty | State::FillingZeroes | State::Zombie);
        let by_read = matches!(
            self.goal,
            State::Stored | State::FillingStored | State::SharedStored | State::SharedFilling
        );
        let wanted = if by_fill {
            State::FillingZeroes
        } else if by_read {
            State::FillingStored
        } else {
            State::Writing
        };
        match state {
            // A job that nobody waits for any more fails, and nothing stops.
            Some(State::Zombie) if by_fill => job.map(Event::Fail),
            Some(State::Stored | State::SharedStored) if by_read && job.is_some() => job.map(Event::Fail),
            Some(State::FillingZeroes) if by_fill => Some(self.discard()),
            // A fork takes it from the job, and so does an edge inside the folio.
            Some(State::FillingStored) if by_read && self.goal.is_shared() => Some(self.fork(host, rng)),
            Some(State::FillingStored) if by_read => {
                host.engine.folio_order(self.space, self.vpn).filter(|&order| order > Order::BASE)?;
                let before = (self.vpn.0 - self.run.start.0).max(1);
                Some(Event::Protect(self.run.start, before, RW))
            }
            Some(State::Writing | State::SharedWriting) if wanted == State::Writing => job.map(Event::Fail),
            Some(State::Mapped | State::Stored) if self.keeps() && wanted == State::Writing => {
                self.reach(walk, host, State::MappedWithCopy, state, rng)
            }
            _ => self.reach(walk, host, wanted, state, rng),
        }
    }

    /// Whether the goal is a state of a page that has a stored copy.
    fn keeps(&self) -> bool {
        matches!(self.goal, State::MappedWithCopy | State::StandbyWithCopy)
    }

    /// Maps the page, unlocks it, gives it rights.
    fn make_usable(&self, host: &Host, goal: State) -> Option<Event> {
        let vmas = host.engine.vmas(self.space);
        let Some(vma) = vmas.at(self.vpn) else {
            // All of the gap.
            let arena = host.setup().arena;
            let bare = |vpn: &u64| vmas.at(Vpn(*vpn)).is_none();
            let start = (0..self.vpn.0).rev().take_while(bare).last().unwrap_or(self.vpn.0);
            let end = (self.vpn.0..arena).take_while(bare).last().map_or(arena, |vpn| vpn + 1);
            return Some(Event::Map(Vpn(start), end - start, RW));
        };
        let whole = vmas.covers(self.run.start, self.run.end());
        let (start, pages) = if whole { (self.run.start, self.run.pages) } else { (self.vpn, 1) };
        if vmas.overlapping(self.run.start, self.run.end()).any(|vma| vma.locked) {
            return Some(Event::Unmap(self.run.start, self.run.pages));
        }
        // A verb that was refused half-way may have left the kernel otherwise.
        let kernel = host.mmu.rights(self.space, self.vpn)?;
        if kernel.locked {
            return Some(Event::Lock(start, pages, false));
        }
        let strange = |vpn: u64| host.mmu.rights(self.space, Vpn(vpn)).is_some_and(|r| r.prot != vma.prot);
        if kernel.prot != vma.prot || whole && (start.0..start.0 + pages).any(strange) {
            return Some(Event::Protect(start, pages, RW));
        }
        if self.is_pinned(host) && goal != State::Refused {
            return Some(Event::Pin(self.vpn, false));
        }
        (!vma.prot.movable() && goal != State::Copied).then_some(Event::Protect(start, pages, RW))
    }

    /// From a state that the table does not have: mapped elsewhere only, shared with nobody, or vanished.
    fn reach_from_nowhere(&self, host: &Host, goal: State) -> Option<Event> {
        let there = host.engine.whereabouts(self.space, self.vpn);
        let shared = goal.is_shared() && there.sharers > 1;
        let unmap = Event::Unmap(self.run.start, self.run.pages);
        Some(if shared { Event::Message(self.vpn, false) } else { unmap })
    }

    /// To the program's address, not shared with another process.
    fn map(&self, walk: &Walk, host: &Host, state: State) -> Option<Event> {
        Some(match state {
            State::FillingZeroes | State::FillingStored => self.run_job(host)?,
            State::Shared => self.write(host, self.vpn),
            State::Refused => Event::Pin(self.vpn, false),
            State::Copied => Event::Protect(self.run.start, self.run.pages, RW),
            _ if state.is_shared() => self.discard(),
            _ => self.fill(walk, host, true),
        })
    }

    /// A message about the page, and room for its fill.
    fn fill(&self, walk: &Walk, host: &Host, write: bool) -> Event {
        if host.engine.room() < 4 {
            let most = walk.setup.grant * 2;
            return if host.engine.grant() < most { Event::Grant(most) } else { Event::Overdraw(4) };
        }
        Event::Message(self.vpn, write)
    }

    /// A thread that does not wait writes; if all do, one of them is answered first.
    pub(super) fn write(&self, host: &Host, vpn: Vpn) -> Event {
        let waiters = &host.mmu.waiters;
        let free = (0..host.setup().threads).find(|&thread| !waiters.waits(thread));
        if let Some(thread) = free {
            return Event::Touch(thread, Touch { vpn, put: Some(Put::Small) });
        }
        if waiters.unread().next().is_some() {
            return Event::Handle(0);
        }
        match host.held.is_empty() {
            false => Event::Serve(0),
            true if host.jobs.is_empty() => Event::Retry(0),
            true => Event::Run(self.events_left as u8),
        }
    }

    /// A mapped page that would be stored nowhere: zeroes, or what does not compress. The page itself, or for a scene of a whole folio
    /// any of the run.
    fn blank(&self, host: &Host) -> Option<Vpn> {
        let blank = |&vpn: &Vpn| {
            let mapped = host.state(self.space, vpn) == Some(State::Mapped);
            let contents = host.model.expected(self.space, vpn);
            mapped && (self.whole || vpn == self.vpn) && (contents == 0 || is_raw(contents))
        };
        (self.run.start.0..self.run.end().0).map(Vpn).find(blank)
    }

    pub(super) fn discard(&self) -> Event {
        Event::Discard(self.run.start, self.run.pages)
    }

    fn page_out(&self) -> Event {
        Event::PageOut(self.run.start, self.run.pages)
    }

    /// One step of reclaim under a grant of nothing.
    fn press(&self, host: &Host) -> Event {
        if host.jobs.len() > MOST_JOBS {
            return Event::Run(self.events_left as u8);
        }
        if host.engine.grant() > 0 { Event::Grant(0) } else { Event::Reclaim(Urgency::Behind) }
    }

    fn run_job(&self, host: &Host) -> Option<Event> {
        self.job(host).map(Event::Run)
    }

    /// Forks, if there are not too many processes.
    fn fork(&self, host: &Host, rng: &mut Rng) -> Event {
        if host.spaces.len() < 4 { Event::ForkSpace } else { self.lose_another(host, rng) }
    }

    /// Another process exits.
    pub(super) fn lose_another(&self, host: &Host, rng: &mut Rng) -> Event {
        let mine = host.spaces.iter().position(|&space| space == self.space).unwrap_or(0);
        let other = rng.below(host.spaces.len() as u64 - 1) as usize;
        Event::Exit(if other >= mine { other + 1 } else { other } as u8)
    }

    fn is_movable(&self, host: &Host) -> bool {
        host.engine.vmas(self.space).at(self.vpn).is_some_and(|vma| vma.prot.movable())
    }

    /// Pages of the run that are not at the program's address, but for the page itself.
    pub(super) fn others_out(&self, host: &Host) -> impl Iterator<Item = Vpn> {
        let out = |&vpn: &Vpn| {
            let there = host.state(self.space, vpn);
            vpn != self.vpn && matches!(there, Some(State::Standby | State::StandbyWithCopy | State::Writing))
        };
        (self.run.start.0..self.run.end().0).map(Vpn).filter(out)
    }
}
