//! Who waits, and who was woken: nobody waits for what will not come, and whoever is woken finds what lets it go on.
//!
//! A woken thread is judged by what is in the tables at that instant, not by what is there when it runs. It may find nothing
//! where the pager means it to fault again:
//!
//! * a call of the program, a fork or an exit has taken the page, or has taken its fill from the job that was to bring it;
//! * the page left in the middle of the verb that had brought it, by a call that the pager does not know of;
//! * several spaces share the page, and it was mapped for another one, or to be read.

use super::{Event, Host};
use crate::waiters::Message;
use quire_core::job::{JobKind, Ticket, Work};
use quire_core::{PageState, Space, Vpn};

impl Host {
    /// Pages that appeared or left in the middle of a verb: the program has them so.
    pub(super) fn learn(&mut self) {
        for (space, vpn, value) in core::mem::take(&mut self.mmu.injector.truths) {
            let pages = if value.is_some() { &mut self.appeared } else { &mut self.left };
            pages.push((space, vpn));
            self.model.write(space, vpn, value.unwrap_or(0));
        }
    }

    /// Whoever was woken in an event has found what lets it go on, or was meant to fault again.
    pub(super) fn judge_wakes(&mut self, event: Option<Event>) -> Result<(), String> {
        if self.mmu.waiters.in_vain.is_empty() {
            return Ok(());
        }
        let taken = event.is_some_and(takes_pages);
        for message in core::mem::take(&mut self.mmu.waiters.in_vain) {
            let Message { space, vpn, .. } = message;
            let filling = self.fill_under_way(space, vpn);
            let shared = matches!(self.engine.page_state(space, vpn), PageState::Shared { .. });
            let legal = !filling && (taken || shared || self.left.contains(&(space, vpn)));
            if !legal && self.spaces.contains(&space) {
                let state = self.engine.page_state(space, vpn);
                return Err(format!("who waited for {vpn:?} was woken to a hole; it is {state:?} now"));
            }
        }
        Ok(())
    }

    /// Those who wait for what a job brings, if that counts.
    pub(super) fn waits_for(&self, work: &Work) -> Vec<(u8, Message)> {
        let fills = matches!(work.kind, JobKind::Read | JobKind::Zero);
        if !fills || self.mmu.waiters.is_empty() {
            return Vec::new();
        }
        let brought = |m: &Message| self.ticket_of_fill(m.space, m.vpn) == Some(work.ticket);
        self.mmu.waiters.waiting().filter(|(_, m)| brought(m)).collect()
    }

    /// Nobody of these waits any longer: what they waited for has come.
    pub(super) fn check_woken(&self, waited: &[(u8, Message)]) -> Result<(), String> {
        let still = waited.iter().find(|w| self.mmu.waiters.waiting().any(|other| other == **w));
        match still {
            Some((thread, m)) => {
                Err(format!("thread {thread} waits for {:?}, whose fill has come back", m.vpn))
            }
            None => Ok(()),
        }
    }

    /// Who waits has a message that was not answered yet, or a fill under way that will bring its page.
    pub(super) fn check_waiters(&self) -> Result<(), String> {
        if self.mmu.waiters.is_empty() {
            return Ok(());
        }
        let unread: Vec<u8> = self.mmu.waiters.unread().map(|(thread, _)| thread).collect();
        for (thread, message) in self.mmu.waiters.waiting() {
            let known = unread.contains(&thread)
                || self.held.contains(&message)
                || self.parked.contains(&message)
                || self.fill_under_way(message.space, message.vpn);
            if !known {
                let state = self.engine.page_state(message.space, message.vpn);
                return Err(format!("thread {thread} waits for {:?}, which is {state:?}", message.vpn));
            }
        }
        Ok(())
    }

    /// All that was under way has ended, and nobody waits.
    pub(super) fn check_nobody_waits(&self) -> Result<(), String> {
        match self.mmu.waiters.waiting().next() {
            Some((thread, m)) => {
                Err(format!("nothing is under way, and thread {thread} waits for {:?}", m.vpn))
            }
            None => Ok(()),
        }
    }

    /// Whether a job is under way that will bring what is at a page: a fill that counts, with the page's frame among its own.
    pub(super) fn fill_under_way(&self, space: Space, vpn: Vpn) -> bool {
        let Some(ticket) = self.ticket_of_fill(space, vpn) else { return false };
        let frame = self.engine.whereabouts(space, vpn).frame;
        let job = self.jobs.iter().find(|job| job.work.ticket == ticket);
        job.is_some_and(|job| job.work.frames.iter().any(|f| Some(f) == frame))
    }

    /// The ticket of the fill that is to bring a page, if it counts.
    fn ticket_of_fill(&self, space: Space, vpn: Vpn) -> Option<Ticket> {
        let there = self.engine.whereabouts(space, vpn);
        let ticket = there.job.filter(|_| matches!(there.state, PageState::Filling { .. }))?;
        let (kind, counts) = self.engine.job(ticket)?;
        (counts && matches!(kind, JobKind::Read | JobKind::Zero)).then_some(ticket)
    }
}

/// Whether an event takes pages from who waits for them, or their fills from the jobs.
const fn takes_pages(event: Event) -> bool {
    matches!(
        event,
        Event::Unmap(..)
            | Event::Discard(..)
            | Event::Protect(..)
            | Event::Lock(..)
            | Event::Remap(..)
            | Event::PageOut(..)
            | Event::Fork
            | Event::ForkSpace
            | Event::Exit(_)
    )
}
