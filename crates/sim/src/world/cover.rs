//! What the events of a walk meet: which state a page is in, and what is wrong at the time.

use super::Host;
use crate::cells::{Event, Injected, State};
use crate::inject::Strike;
use crate::tables::Pte;
use crate::walk::Tally;
use quire_core::mmu::Refusal;
use quire_core::{PageRange, PageState, Space, Vpn};
use std::collections::BTreeSet;

/// An event that met a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    event: Event,
    pub(super) space: Space,
    pub(super) vpn: Vpn,
    pub(super) state: State,
    /// A bit for each [`Injected`].
    injected: u16,
}

impl Met {
    /// Whether a verb was cut that was called for the page. A fork maps pages in the child, at the same addresses.
    pub(super) fn is_struck(&self, strike: &Strike) -> bool {
        let there = strike.range.space == self.space || self.event == Event::ForkSpace;
        there && strike.range.contains(self.vpn)
    }
}

/// What was met so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Cover {
    pub(super) tally: Tally,
    /// During the event at hand.
    met: Vec<Met>,
    /// Pages for which the last job that came back had failed.
    failed: BTreeSet<(Space, Vpn)>,
    /// Pinned pages that were to be moved out, and could not be.
    refused: BTreeSet<(Space, Vpn)>,
    /// Combinations of the event at hand.
    cells: Vec<(Event, State, Injected)>,
}

impl Cover {
    /// The verbs that were cut meanwhile, and then all that was met is counted: each combination once.
    fn settle(&mut self, host: &Host) {
        for met in &self.met {
            let mut injected = met.injected;
            for strike in host.mmu.injector.strikes.iter().filter(|strike| met.is_struck(strike)) {
                injected |= host.struck_by(strike);
            }
            let some = |i: &Injected| injected & bit(*i) != 0 || injected == 0 && *i == Injected::Nothing;
            let all = Injected::ALL.into_iter().filter(some);
            self.cells.extend(all.map(|i| (met.event, met.state, i)));
        }
        self.met.clear();
        self.cells.sort_unstable_by_key(|&(event, state, i)| (event as u8, state as u8, i as u8));
        self.cells.dedup();
        for (event, state, injected) in self.cells.drain(..) {
            self.tally.hit(event, state, injected);
        }
        self.refused.extend(&host.mmu.injector.busy);
    }
}

const fn bit(injected: Injected) -> u16 {
    1 << injected as u16
}

/// Pages looked at for an event that concerns all of a process.
const NEAR: u64 = 24;

impl Host {
    /// From now on what events meet is counted.
    pub fn count_cells(&mut self) {
        self.cover = Some(Box::default());
    }

    /// What was met since.
    pub fn tally(&self) -> Option<&Tally> {
        self.cover.as_deref().map(|cover| &cover.tally)
    }

    /// Whether the last job that came back for a page had failed, as far as that is counted.
    pub fn has_failed(&self, space: Space, vpn: Vpn) -> bool {
        self.cover.as_deref().is_some_and(|cover| cover.failed.contains(&(space, vpn)))
    }

    /// An event meets pages of a process.
    pub(super) fn meets(&mut self, event: Event, range: PageRange) {
        if self.cover.is_some() {
            let pages = (range.start.0..range.end().0).map(|vpn| (range.space, Vpn(vpn)));
            self.meets_each(event, pages);
        }
    }

    /// An event meets all pages of a process; those near the last one that a thread touched are counted.
    pub(super) fn meets_all(&mut self, event: Event, space: Space) {
        self.meets(event, self.near(space));
    }

    /// Pages near the last one that a thread or a message was about.
    pub(super) fn near(&self, space: Space) -> PageRange {
        let start = self.center.0.saturating_sub(NEAR / 2);
        let end = (start + NEAR).min(self.setup.arena);
        PageRange::between(space, Vpn(start.min(end)), Vpn(end))
    }

    pub(super) fn meets_each(&mut self, event: Event, pages: impl IntoIterator<Item = (Space, Vpn)>) {
        let Some(mut cover) = self.cover.take() else { return };
        let always = self.wrong_now();
        for (space, vpn) in pages {
            let Some(state) = self.state_among(&cover.refused, space, vpn) else { continue };
            let pinned = matches!(self.mmu.entry(space, vpn), Some(Pte::Page { pinned: true, .. }));
            let failed = cover.failed.contains(&(space, vpn));
            let mut injected = always;
            injected |= if pinned { bit(Injected::Pinned) } else { 0 };
            injected |= if failed { bit(Injected::JobFailed) } else { 0 };
            cover.met.push(Met { event, space, vpn, state, injected });
        }
        self.cover = Some(cover);
    }

    /// What a call that was cut short counts as.
    fn struck_by(&self, strike: &Strike) -> u16 {
        let here = |&(space, vpn): &(Space, Vpn)| space == strike.range.space && strike.range.contains(vpn);
        let why = match strike.refusal {
            _ if strike.lasting => bit(Injected::RefusedOn),
            Refusal::Exists if self.appeared.iter().any(here) => bit(Injected::PageAppeared),
            Refusal::Absent if self.left.iter().any(here) => bit(Injected::PageGone),
            _ => 0,
        };
        why | match strike.done {
            0 => bit(Injected::VerbRefused),
            done if done < strike.range.pages => bit(Injected::VerbPartial),
            _ => 0,
        }
    }

    /// Forgets what else the event at hand has met.
    pub(super) fn meets_only(&mut self, which: impl Fn(&Met) -> bool) {
        if let Some(cover) = &mut self.cover {
            cover.met.retain(which);
        }
    }

    /// What came of a call of the program. One that the engine has refused for reasons of its own looks at no page. One that
    /// failed since a verb was refused counts for that alone, and for the pages that the verb was called for.
    pub(super) fn meets_call(&mut self, result: Result<(), Refusal>) {
        let Some(cover) = &mut self.cover else { return };
        if result.is_ok() {
            return;
        }
        let strikes = &self.mmu.injector.strikes;
        cover.met.retain(|met| strikes.iter().any(|strike| met.is_struck(strike)));
        cover.met.iter_mut().for_each(|met| met.injected = 0);
    }

    /// What came of a fork. One that finds no frame for the copy of a page that can't be shared ends there.
    pub(super) fn meets_fork(&mut self, parent: Space, forked: bool) {
        if forked || !self.mmu.injector.strikes.is_empty() {
            return self.meets_call(if forked { Ok(()) } else { Err(Refusal::NoMemory) });
        }
        let own = |vpn: &Vpn| self.mmu.maps_frame(parent, *vpn).is_none();
        let busy = |vpn: &Vpn| self.mmu.entry(parent, *vpn).is_some_and(Pte::busy);
        let first = (0..self.setup.arena).map(Vpn).find(|vpn| own(vpn) && busy(vpn));
        self.meets_only(|met| first.is_some_and(|first| met.vpn <= first));
    }

    /// Forgets what the event at hand has met: nothing came of it.
    pub(super) fn meets_nothing(&mut self) {
        if let Some(cover) = &mut self.cover {
            cover.met.clear();
        }
    }

    /// A job comes back for the pages that it is about.
    pub(super) fn meets_job(&mut self, at: usize, failed: bool) {
        self.meets_end(at, failed);
        let Some(cover) = &mut self.cover else { return };
        for &page in &self.jobs[at].pages {
            if failed {
                cover.failed.insert(page)
            } else {
                cover.failed.remove(&page)
            };
        }
    }

    /// The same, and what comes later does not hear of it.
    pub(super) fn meets_end(&mut self, at: usize, failed: bool) {
        if self.cover.is_none() {
            return;
        }
        let (event, pages) =
            (if failed { Event::JobFailed } else { Event::JobDone }, self.jobs[at].pages.clone());
        let (late, ticket) = (self.jobs[at].late, self.jobs[at].work.ticket);
        self.meets_each(event, pages);
        let Some(cover) = &mut self.cover else { return };
        let engine = &self.engine;
        // A job that is void is over for its pages, but for those that are empty since.
        let counts = engine.job(ticket).is_some_and(|(_, counts)| counts);
        cover.met.retain(|met| {
            met.event != event || if counts { met.state.has_job() } else { met.state == State::Zombie }
        });
        for met in cover.met.iter_mut().filter(|met| met.event == event) {
            met.injected &= !bit(Injected::StoreSlow);
            met.injected |= if late { bit(Injected::StoreSlow) } else { 0 };
            met.injected |= if failed { bit(Injected::JobFailed) } else { 0 };
        }
    }

    /// A process has ended: what its pages are called, others will be.
    pub(super) fn forget_failures(&mut self, space: Space) {
        if let Some(cover) = &mut self.cover {
            cover.failed.retain(|&(s, _)| s != space);
        }
    }

    /// A page is pinned or let go: it was not refused since.
    pub(super) fn forget_refusal(&mut self, space: Space, vpn: Vpn) {
        if let Some(cover) = &mut self.cover {
            cover.refused.remove(&(space, vpn));
        }
    }

    /// Counts what the event at hand has met.
    pub(super) fn settle_cells(&mut self) {
        if let Some(mut cover) = self.cover.take() {
            cover.settle(self);
            self.cover = Some(cover);
        }
    }

    /// What is wrong for every page.
    fn wrong_now(&self) -> u16 {
        let mut bits = 0;
        bits |= if self.full.is_some() { bit(Injected::StoreFull) } else { 0 };
        bits |= if self.jobs.iter().any(|job| self.is_held(job)) { bit(Injected::StoreSlow) } else { 0 };
        bits | if self.engine.room() == 0 { bit(Injected::NoFrame) } else { 0 }
    }

    /// The state of a page, if it is one of the table's: not where nothing is mapped, nor where a page vanished behind the
    /// engine's back, nor of a page that shares a slot with nobody, or is mapped elsewhere only.
    pub fn state(&self, space: Space, vpn: Vpn) -> Option<State> {
        match &self.cover {
            Some(cover) => self.state_among(&cover.refused, space, vpn),
            None => self.state_among(&BTreeSet::new(), space, vpn),
        }
    }

    fn state_among(&self, refused: &BTreeSet<(Space, Vpn)>, space: Space, vpn: Vpn) -> Option<State> {
        let vma = *self.engine.vmas(space).at(vpn)?;
        let there = self.engine.whereabouts(space, vpn);
        let entry = self.mmu.entry(space, vpn);
        if there.state.is_present() && entry.is_none() || there.sharers == 1 {
            return None;
        }
        let shared = there.sharers > 1;
        Some(match there.state {
            PageState::Empty if self.is_zombie(space, vpn) => State::Zombie,
            PageState::Empty => State::Empty,
            PageState::Filling { .. } if shared => State::SharedFilling,
            PageState::Filling { stored: false } => State::FillingZeroes,
            PageState::Filling { stored: true } => State::FillingStored,
            PageState::Shared { mapped: true, .. } => State::SharedMapped,
            PageState::Shared { mapped: false, .. } => return None,
            PageState::Mapped { copy } => match entry {
                Some(Pte::Page { pinned: true, .. }) if refused.contains(&(space, vpn)) => State::Refused,
                Some(Pte::Page { shared: true, .. }) => State::Shared,
                _ if !vma.prot.movable() => State::Copied,
                _ if copy => State::MappedWithCopy,
                _ => State::Mapped,
            },
            PageState::Standby { .. } if shared => State::SharedStandby,
            PageState::Standby { copy: true } => State::StandbyWithCopy,
            PageState::Standby { copy: false } => State::Standby,
            PageState::Writing if shared => State::SharedWriting,
            PageState::Writing => State::Writing,
            PageState::Stored if shared => State::SharedStored,
            PageState::Stored => State::Stored,
        })
    }

    /// Whether a job is under way that began for a page and is void by now.
    fn is_zombie(&self, space: Space, vpn: Vpn) -> bool {
        let void = |ticket| self.engine.job(ticket).is_some_and(|(_, counts)| !counts);
        self.jobs.iter().any(|job| job.pages.contains(&(space, vpn)) && void(job.work.ticket))
    }
}
