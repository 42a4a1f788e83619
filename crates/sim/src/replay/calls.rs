//! What programs do to their address spaces.
//!
//! A trace counts in pages of 4 KiB. Where the machine's pages are larger, a range is rounded outwards: a page belongs to
//! a mapping if any part of it does, has the rights of all its parts together, and is given up when its last part is.

use super::figures::Cause;
use super::host::{Host, Stop};
use super::ranges::Ranges;
use crate::tlb::Tlb;
use crate::trace::Event;
use core::ops::Range;
use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PageRange, Space, Vpn};

/// Pages of the machine that a range of a program meets.
#[derive(Clone, Copy, Debug)]
struct Met {
    /// Those in which nothing else is mapped.
    whole: PageRange,
    /// Those, at either end, in which something else is.
    edges: [Option<Vpn>; 2],
}

impl<T: Tlb> Host<T> {
    /// Plays an event that is no access.
    pub(super) fn play_call(&mut self, event: Event) -> Result<(), Stop> {
        self.work_behind()?;
        match event {
            Event::Map { range, prot } => self.map(range, prot),
            Event::Protect { range, prot } => self.protect(range, prot),
            Event::Discard(range) => self.discard(range),
            Event::Unmap(range) => self.unmap(range),
            Event::Exit(program) => self.exit(program),
            Event::Fork { parent, child } => self.fork(parent, child),
            Event::Time { ns } => return self.pass(ns),
            Event::Access(access) => return self.access(access),
        }?;
        self.pay(Cause::Call);
        self.note_levels();
        self.ring();
        Ok(())
    }

    /// Maps what the trace accesses without having mapped it: the 2 MiB round the page, as far as nothing is mapped
    /// there. A trace may begin in the middle of a program, and text of lackey has no calls at all. Returns the rights of
    /// the page.
    pub(super) fn imply(&mut self, program: Space, vpn: Vpn) -> Result<Prot, Stop> {
        let ranges = self.ranges_of(program);
        if let Some(prot) = ranges.at(vpn) {
            return Ok(prot);
        }
        let start = Order::MAX.align_down(vpn.0);
        let (mut from, mut to) = (start, start + u64::from(Order::MAX.pages()));
        for (run, _) in ranges.runs(from..to).filter(|(_, prot)| prot.is_some()) {
            if run.end <= vpn.0 {
                from = run.end;
            } else {
                to = to.min(run.start);
            }
        }
        self.implied += 1;
        self.map(PageRange::between(program, Vpn(from), Vpn(to)), Prot::READ_WRITE)?;
        Ok(Prot::READ_WRITE)
    }

    fn map(&mut self, range: PageRange, prot: Prot) -> Result<(), Stop> {
        let met = self.meet(range)?;
        self.ranges_of(range.space).set(range.start.0..range.end().0, Some(prot));
        if !met.whole.is_empty() {
            self.give_up(met.whole)?;
            self.engine.map_range(&mut self.memory, met.whole, prot)?;
        }
        self.mend_edges(range.space, met)
    }

    fn unmap(&mut self, range: PageRange) -> Result<(), Stop> {
        let met = self.meet(range)?;
        self.ranges_of(range.space).set(range.start.0..range.end().0, None);
        self.give_up(met.whole)?;
        self.mend_edges(range.space, met)
    }

    fn discard(&mut self, range: PageRange) -> Result<(), Stop> {
        let met = self.meet(range)?;
        self.each_mapped(met.whole, |host, part| {
            let mut rest = Some(part);
            while let Some(range) = rest {
                rest = host.engine.discard_step(&mut host.memory, range)?;
            }
            Ok(())
        })
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Stop> {
        let met = self.meet(range)?;
        let ranges = self.ranges_of(range.space);
        let runs: Vec<Range<u64>> = ranges
            .runs(range.start.0..range.end().0)
            .filter_map(|(run, mapped)| mapped.is_some().then_some(run))
            .collect();
        runs.into_iter().for_each(|run| ranges.set(run, Some(prot)));
        self.each_mapped(met.whole, |host, part| host.engine.protect(&mut host.memory, part, prot))?;
        self.mend_edges(range.space, met)
    }

    fn exit(&mut self, program: Space) -> Result<(), Stop> {
        *self.ranges_of(program) = Ranges::default();
        if let Some(space) = self.end_program(program) {
            self.engine.exit(&mut self.memory, space);
        }
        Ok(())
    }

    /// The child shares all that the parent has. The translations of the parent, which may write no longer, are flushed.
    fn fork(&mut self, parent: Space, child: Space) -> Result<(), Stop> {
        if parent == child {
            return Ok(());
        }
        self.exit(child)?;
        let space = self.space_of(parent)?;
        let forked = self.engine.fork(&mut self.memory, space)?;
        self.memory.flush_space(space);
        self.set_space(child, forked);
        *self.ranges_of(child) = self.ranges_of(parent).clone();
        Ok(())
    }

    /// Unmaps whatever is mapped in `range`, which is one of pages of the machine.
    fn give_up(&mut self, range: PageRange) -> Result<(), Stop> {
        self.each_mapped(range, |host, part| host.engine.unmap(&mut host.memory, part))
    }

    /// Which pages of the machine a range meets, as long as what is mapped has not changed.
    fn meet(&mut self, range: PageRange) -> Result<Met, Stop> {
        let space = self.space_of(range.space)?;
        let order = self.memory.base;
        let pages = PageRange::between(
            space,
            self.page_of(range.start),
            self.page_of(range.end().plus(u64::from(order.pages()) - 1)),
        );
        let mut met = Met { whole: pages, edges: [None; 2] };
        if order == Order::BASE || pages.is_empty() {
            return Ok(met);
        }
        let last = Vpn(pages.end().0 - 1);
        if self.has_others(range, pages.start) {
            met.edges[0] = Some(pages.start);
            met.whole = PageRange::between(space, pages.start.plus(1), pages.end());
        }
        if last != pages.start && self.has_others(range, last) {
            met.edges[1] = Some(last);
            met.whole = PageRange::between(space, met.whole.start, last);
        }
        Ok(met)
    }

    /// Whether anything is mapped in a page of the machine that is not in `range`.
    fn has_others(&mut self, range: PageRange, page: Vpn) -> bool {
        let parts = self.parts_of(page);
        let outside = [parts.start..parts.end.min(range.start.0), parts.start.max(range.end().0)..parts.end];
        let ranges = self.ranges_of(range.space);
        outside.into_iter().any(|part| ranges.runs(part).any(|(_, mapped)| mapped.is_some()))
    }

    /// Gives the pages at the ends the rights of all that is mapped in them.
    fn mend_edges(&mut self, program: Space, met: Met) -> Result<(), Stop> {
        for page in met.edges.into_iter().flatten() {
            let parts = self.parts_of(page);
            let rights = self.ranges_of(program).runs(parts).filter_map(|(_, mapped)| mapped);
            let prot = Prot::from_bits(rights.fold(0, |bits, prot| bits | prot.bits()));
            let range = PageRange::new(met.whole.space, page, 1);
            if self.engine.vmas(range.space).at(page).is_some_and(|vma| vma.prot != prot) {
                self.engine.protect(&mut self.memory, range, prot)?;
            }
        }
        Ok(())
    }

    /// Calls `verb` with each part of `range` that is mapped.
    fn each_mapped(
        &mut self,
        range: PageRange,
        mut verb: impl FnMut(&mut Self, PageRange) -> Result<(), Refusal>,
    ) -> Result<(), Stop> {
        let vmas = self.engine.vmas(range.space).overlapping(range.start, range.end());
        let parts: Vec<PageRange> = vmas
            .map(|vma| PageRange::between(range.space, vma.start.max(range.start), vma.end.min(range.end())))
            .collect();
        parts.into_iter().try_for_each(|part| verb(self, part).map_err(Stop::from))
    }
}
