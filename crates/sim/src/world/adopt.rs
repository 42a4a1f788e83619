//! Pages that a program had before the engine knew of it.

use super::{Host, Put};
use crate::cells::Event;
use crate::tables::Pte;
use quire_core::{Order, PageRange, PageState, Vpn};

impl Host {
    /// The program has written the empty pages at the start of `range`, and the engine takes them over.
    pub fn adopt(&mut self, range: PageRange, most: Order, put: Put) -> Result<(), String> {
        let inside = self.inside_one_vma(range);
        let empty = self.empty_at_the_start_of(inside);
        // The one behind them is looked at too.
        let looked_at = PageRange::new(range.space, range.start, (empty.pages + 1).min(inside.pages));
        self.meets(Event::Adopt, looked_at);
        self.touches(looked_at);
        let pages: Vec<Vpn> = (empty.start.0..empty.end().0).map(Vpn).collect();
        for &vpn in &pages {
            let value = put.value(&mut self.model);
            // A page of zeroes is one that was read.
            let pte = if value == 0 && vpn.0.is_multiple_of(2) { Pte::Zero } else { Pte::page(value) };
            self.mmu.tables(range.space).put(vpn.0, pte);
            self.model.write(range.space, vpn, value);
        }
        let adopted = self.engine.adopt(&mut self.mmu, range, most);
        self.recount_adopted(adopted);
        if adopted > empty.pages {
            return Err(format!("{adopted} pages are adopted, only {empty:?} are empty"));
        }
        if adopted < empty.pages {
            self.lose(PageRange::between(range.space, empty.start.plus(adopted), empty.end()))?;
        }
        pages[..adopted as usize].iter().try_for_each(|&vpn| self.check_adopted(range, vpn, most))
    }

    fn inside_one_vma(&self, range: PageRange) -> PageRange {
        let vma = self.engine.vmas(range.space).at(range.start);
        let end = vma.map_or(range.start, |vma| vma.end.min(range.end()));
        PageRange::between(range.space, range.start, end)
    }

    fn empty_at_the_start_of(&self, range: PageRange) -> PageRange {
        let empty = |vpn: &u64| self.engine.page_state(range.space, Vpn(*vpn)) == PageState::Empty;
        let pages = (range.start.0..range.end().0).take_while(empty).count();
        PageRange::new(range.space, range.start, pages as u64)
    }

    /// Pages for which no frame was left, and only that is a reason. The program does without them.
    fn lose(&mut self, pages: PageRange) -> Result<(), String> {
        let free = |frame| self.engine.is_hole(frame) && self.engine.rmap(frame).is_empty();
        if let Some(frame) = (0..self.mmu.frames()).map(quire_core::Frame).find(|&frame| free(frame)) {
            return Err(format!("{pages:?} are not adopted, and {frame:?} is free"));
        }
        for vpn in (pages.start.0..pages.end().0).map(Vpn) {
            self.mmu.tables(pages.space).take(vpn.0);
            self.model.write(pages.space, vpn, 0);
        }
        self.meets_only(|met| met.vpn < pages.start);
        Ok(())
    }

    /// It is mapped, in a folio as large as may be, and on a list if it may leave.
    fn check_adopted(&self, range: PageRange, vpn: Vpn, most: Order) -> Result<(), String> {
        let there = self.engine.whereabouts(range.space, vpn);
        let leaves = self.engine.vmas(range.space).at(vpn).is_some_and(|vma| vma.evictable());
        let fits = there.order.is_some_and(|order| order <= most && order.align_down(vpn.0) >= range.start.0);
        if there.state == (PageState::Mapped { copy: false }) && there.listed == leaves && fits {
            Ok(())
        } else {
            Err(format!("{vpn:?} was adopted in folios of up to {most}, and is {there:?}"))
        }
    }
}
