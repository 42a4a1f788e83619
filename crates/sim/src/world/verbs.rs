//! The verbs of a program on its address space, done to the engine and to the model.

use super::Host;
use crate::cells::Event;
use crate::unprivileged::Unprivileged;
use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PageRange, PageState, Vpn};

/// Whether the program's own thread does this where it can; for the rest, the pager does it.
fn by_program(range: PageRange) -> bool {
    !range.start.0.is_multiple_of(2)
}

impl Host {
    /// Maps pages, where nothing is mapped.
    pub fn map(&mut self, range: PageRange, prot: Prot) {
        self.touches(range);
        let _ = self.engine.map_range(&mut self.mmu, range, prot);
    }

    /// Unmaps pages.
    pub fn unmap(&mut self, range: PageRange) {
        self.meets(Event::Unmap, range);
        self.touches(range);
        let result = if by_program(range) && self.engine.discards_alone(range) {
            self.engine.unmap(&mut Unprivileged(&mut self.mmu), range)
        } else {
            self.engine.unmap(&mut self.mmu, range)
        };
        self.meets_call(result);
        self.after_discard(range, result);
    }

    /// Discards pages, all of them at once.
    pub fn discard(&mut self, range: PageRange) {
        self.meets(Event::Discard, range);
        self.touches(range);
        let mut rest = Some(range);
        let mut result = Ok(());
        while let Some(range) = rest.take() {
            let step = if by_program(range) && self.engine.discards_alone(range) {
                self.engine.discard_step(&mut Unprivileged(&mut self.mmu), range)
            } else {
                self.engine.discard_step(&mut self.mmu, range)
            };
            match step {
                Ok(left) => rest = left,
                Err(refusal) => result = Err(refusal),
            }
        }
        self.meets_call(result);
        self.after_discard(range, result);
    }

    /// A discard that was refused half-way has dropped what now is a hole.
    fn after_discard(&mut self, range: PageRange, result: Result<(), Refusal>) {
        if result.is_ok() {
            self.model.discard(range);
            return;
        }
        for vpn in (range.start.0..range.end().0).map(Vpn) {
            let gone = match self.engine.page_state(range.space, vpn) {
                PageState::Empty => true,
                state => state.is_present() && self.mmu.entry(range.space, vpn).is_none(),
            };
            if gone {
                self.model.write(range.space, vpn, 0);
            }
        }
    }

    /// What a raw system call discards: present pages go, and the engine does not know.
    pub fn discard_behind(&mut self, range: PageRange) {
        self.touches(range);
        for vpn in (range.start.0..range.end().0).map(Vpn) {
            let locked = self.mmu.rights(range.space, vpn).is_none_or(|r| r.locked);
            if !locked && self.mmu.tables(range.space).take(vpn.0).is_some() {
                self.model.write(range.space, vpn, 0);
            }
        }
    }

    /// Changes rights. Only pages that are all mapped can be.
    pub fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), String> {
        self.meets(Event::Protect, range);
        self.touches_edges(range);
        let mapped = self.engine.vmas(range.space).covers(range.start, range.end());
        let result = if by_program(range) && self.engine.protects_alone(range) {
            self.engine.protect(&mut Unprivileged(&mut self.mmu), range, prot)
        } else {
            self.engine.protect(&mut self.mmu, range, prot)
        };
        self.meets_call(result);
        self.checks.gaps += 1;
        match result {
            Err(Refusal::NoRange) if mapped => Err("protect found a gap".into()),
            Ok(()) if !mapped => Err("protect found no gap".into()),
            _ => Ok(()),
        }
    }

    /// Locks pages or unlocks them.
    pub fn lock(&mut self, range: PageRange, locked: bool) {
        self.meets(Event::Lock, range);
        self.touches_edges(range);
        let result = self.engine.lock(&mut self.mmu, range, locked);
        self.meets_call(result);
    }

    /// Moves pages.
    pub fn remap(&mut self, from: PageRange, to: Vpn) {
        self.meets(Event::Remap, from);
        self.touches(from);
        self.touches(PageRange::new(from.space, to, from.pages));
        let result = self.engine.remap(&mut self.mmu, from, to);
        self.meets_call(result);
        if result.is_ok() {
            self.model.remap(from, to);
        }
    }

    /// Zeroes frames ahead of need.
    pub fn zero_ahead(&mut self, target: u32, order: Order) {
        let mut work = self.spare.pop().unwrap_or_default();
        let begun = self.engine.zero_ahead(&mut self.mmu, target, order, &mut work);
        if begun {
            self.recount_ahead(work.ticket);
        }
        self.begin_if(begun, work);
    }
}
