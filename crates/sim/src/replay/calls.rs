//! What programs do to their address spaces.

use super::figures::Cause;
use super::host::{Host, Stop};
use crate::tlb::Tlb;
use crate::trace::{Event, SPACE_PAGES};
use quire_core::mmu::{Prot, Refusal};
use quire_core::{Order, PageRange, Space, Vpn};

impl<T: Tlb> Host<T> {
    /// Plays an event that is no access.
    pub(super) fn play_call(&mut self, event: Event) -> Result<(), Stop> {
        self.work_behind()?;
        let range = match event {
            Event::Map { range, .. } | Event::Protect { range, .. } => range,
            Event::Unmap(range) | Event::Discard(range) => range,
            Event::Exit(program) => PageRange::new(program, Vpn(0), SPACE_PAGES),
            Event::Fork { parent, .. } => return self.fork(parent),
            Event::Time { ns } => return self.pass(ns),
            Event::Access(access) => return self.access(access),
        };
        let range = PageRange { space: self.space_of(range.space)?, ..range };
        let done = match event {
            Event::Map { prot, .. } => self.map(range, prot),
            Event::Protect { prot, .. } => self.protect(range, prot),
            Event::Discard(_) => self.discard(range),
            _ => self.unmap(range),
        };
        if done.is_err() {
            return Err(Stop::Bug("a call on simulated tables was refused"));
        }
        self.pay(Cause::Call);
        self.note_levels();
        self.ring();
        Ok(())
    }

    /// The page tables of a replay can't share yet: one that went on would show other numbers than the program's.
    fn fork(&mut self, parent: Space) -> Result<(), Stop> {
        Err(Stop::Fork { parent, events: self.events - 1 })
    }

    /// Maps what the trace accesses without having mapped it: the 2 MiB round the page, as far as nothing is mapped
    /// there. A trace may begin in the middle of a program, and text of lackey has no calls at all.
    pub(super) fn imply(&mut self, space: Space, vpn: Vpn) -> Result<(), Stop> {
        if self.engine.vmas(space).at(vpn).is_some() {
            return Ok(());
        }
        let mut start = Vpn(Order::MAX.align_down(vpn.0));
        let mut end = start.plus(u64::from(Order::MAX.pages()));
        for vma in self.engine.vmas(space).overlapping(start, end) {
            if vma.end <= vpn {
                start = vma.end;
            } else {
                end = end.min(vma.start);
            }
        }
        self.implied += 1;
        self.map(PageRange::between(space, start, end), Prot::READ_WRITE)
            .map_err(|_| Stop::Bug("a range without a mapping can't be mapped"))
    }

    fn map(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        self.unmap(range)?;
        self.engine.map_range(&mut self.memory, range, prot)
    }

    fn unmap(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.each_mapped(range, |host, part| host.engine.unmap(&mut host.memory, part))
    }

    fn discard(&mut self, range: PageRange) -> Result<(), Refusal> {
        self.each_mapped(range, |host, part| {
            let mut rest = Some(part);
            while let Some(range) = rest {
                rest = host.engine.discard_step(&mut host.memory, range)?;
            }
            Ok(())
        })
    }

    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal> {
        self.each_mapped(range, |host, part| host.engine.protect(&mut host.memory, part, prot))
    }

    /// Calls `verb` with each part of `range` that is mapped.
    fn each_mapped(
        &mut self,
        range: PageRange,
        mut verb: impl FnMut(&mut Self, PageRange) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let vmas = self.engine.vmas(range.space).overlapping(range.start, range.end());
        let parts: Vec<PageRange> = vmas
            .map(|vma| PageRange::between(range.space, vma.start.max(range.start), vma.end.min(range.end())))
            .collect();
        parts.into_iter().try_for_each(|part| verb(self, part))
    }
}
