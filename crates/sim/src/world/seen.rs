//! Which pages an event has looked at that chooses them itself: only those count as met by it.

use super::Host;
use crate::cells::{self, State};
use quire_core::job::JobKind;
use quire_core::{Frame, Order, PageRange, PageState, Reclaim, Space, Vpn, Whereabouts};

/// Jobs under way with which reclaim may wait for nothing but the record of another one.
const MANY_JOBS: usize = 8;

impl Host {
    /// Reclaim begins: the pages that it may come to, and where they are.
    pub(super) fn meets_reclaim(&mut self) -> Vec<((Space, Vpn), Whereabouts)> {
        if self.cover.is_none() {
            return Vec::new();
        }
        let near = self.near(self.at);
        self.meets(cells::Event::Budget, near);
        let pages = (near.start.0..near.end().0).map(|vpn| (near.space, Vpn(vpn)));
        pages.map(|(space, vpn)| ((space, vpn), self.engine.whereabouts(space, vpn))).collect()
    }

    /// Whether reclaim has looked for anything that it could do, and found nothing.
    pub(super) fn has_looked_at_all(&self, step: Reclaim) -> bool {
        step == Reclaim::Stuck || step == Reclaim::Waiting && self.jobs.len() < MANY_JOBS
    }

    /// Reclaim has come to the pages that it has changed, or for which a move was refused. Where it looked at all, it has also
    /// passed over those that are on no list.
    pub(super) fn meets_reclaimed(&mut self, before: Vec<((Space, Vpn), Whereabouts)>, all: bool) {
        if self.cover.is_none() {
            return;
        }
        let mut seen: Vec<(Space, Vpn)> = before
            .into_iter()
            .filter(|&((space, vpn), there)| self.engine.whereabouts(space, vpn) != there)
            .map(|(page, _)| page)
            .collect();
        seen.extend(&self.mmu.injector.busy);
        let strikes = self.mmu.injector.strikes.clone();
        self.meets_only(|met| {
            let struck = strikes.iter().any(|strike| met.is_struck(strike));
            struck || all && passed_over(met.state) || seen.contains(&(met.space, met.vpn))
        });
    }

    /// The pages at which a collapse looks: the last one, then from the first on to the one that stands in the way.
    pub(super) fn seen_by_collapse(&self, range: PageRange) -> Vec<(Space, Vpn)> {
        let page = |vpn: u64| (range.space, Vpn(vpn));
        let vma = self.engine.vmas(range.space).at(range.start);
        if !vma.is_some_and(|vma| vma.end >= range.end() && vma.evictable()) {
            return vec![page(range.start.0)];
        }
        let last = range.end().0 - 1;
        let state = |vpn: u64| self.engine.page_state(range.space, Vpn(vpn));
        if matches!(state(last), PageState::Empty | PageState::Stored | PageState::Shared { .. }) {
            return vec![page(last)];
        }
        let mapped = |vpn: &u64| matches!(state(*vpn), PageState::Mapped { .. });
        let first = (range.start.0..last).take_while(mapped).count() as u64 + range.start.0;
        // With the rest of its folio.
        let folio = self.engine.folio_order(range.space, Vpn(first)).unwrap_or(Order::BASE);
        let end = (folio.align_down(first) + u64::from(folio.pages())).min(range.end().0);
        (range.start.0..end).map(page).collect()
    }

    /// The pages in a run of frames at which its vacating looks: from the first on to the one that stands in the way. A job
    /// that is void is met for the pages that it began for.
    pub(super) fn seen_by_vacate(&self, start: Frame, order: Order) -> Vec<(Space, Vpn)> {
        let mut seen = Vec::new();
        for frame in (start.0..start.0 + order.pages()).map(Frame) {
            let named = self.engine.rmap(frame);
            seen.extend(named.iter().map(|m| (m.space, m.vpn)));
            let movable = |&(space, vpn): &(Space, Vpn)| {
                let there = self.engine.whereabouts(space, vpn);
                let small = there.order.is_some_and(|folio| folio < order);
                matches!(there.state, PageState::Mapped { .. }) && there.job.is_none() && small
            };
            let stops = match named.first() {
                Some(first) => !movable(&(first.space, first.vpn)),
                None => self.mmu.frame(frame).is_some(),
            };
            let zombies = self.jobs.iter().filter(|job| self.has_void(job.work.kind, job.work.ticket));
            let mut users = zombies.filter(|job| job.work.frames.iter().any(|f| f == frame));
            if let Some(job) = users.next() {
                seen.extend(job.pages.iter().filter(|&&(s, vpn)| self.state(s, vpn) == Some(State::Zombie)));
                return seen;
            }
            if stops {
                // With the rest of its folio.
                let folio = (frame.0 + 1..start.0 + order.pages()).map(|f| self.engine.rmap(Frame(f)));
                let same = named.first().and_then(|m| self.engine.folio_order(m.space, m.vpn));
                let left = same.map_or(0, |o| o.pages() - 1 - (frame.0 & (o.pages() - 1)));
                seen.extend(folio.take(left as usize).flatten().map(|m| (m.space, m.vpn)));
                return seen;
            }
        }
        seen
    }

    fn has_void(&self, kind: JobKind, ticket: quire_core::job::Ticket) -> bool {
        kind != JobKind::Spill && self.engine.job(ticket).is_some_and(|(_, counts)| !counts)
    }
}

/// Whether reclaim has nothing to do with pages in a state, and no list leads it there.
const fn passed_over(state: State) -> bool {
    matches!(
        state,
        State::Empty
            | State::FillingZeroes
            | State::FillingStored
            | State::Writing
            | State::Stored
            | State::Copied
            | State::Zombie
            | State::SharedFilling
            | State::SharedWriting
            | State::SharedStored
    )
}
