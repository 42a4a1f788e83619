//! Memory that grows old.

use super::steady::Shape;
use crate::rng::Rng;
use crate::trace::{Access, Event};
use core::ops::Range;
use quire_core::mmu::Prot;
use quire_core::{Order, PageRange, Space, Vpn};
use std::collections::VecDeque;

/// What a system does over days.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Days {
    /// The address space that it happens in.
    pub space: Space,
    /// How many days.
    pub days: u64,
    /// Calls in a day: mappings, unmappings, discards.
    pub calls_per_day: u64,
    /// Pages that are mapped at noon. At midnight it is half of them.
    pub pages: u64,
    /// Mappings that are filled at a time, page by page: the more programs run at once, the more of them have pages side
    /// by side that were given out one after the other.
    pub filling: usize,
    /// The largest mappings have less than twice as many pages. A power of two, 2048 at the most: 16 MiB.
    pub largest: u64,
}

impl Days {
    /// The largest mappings of a memory of `pages` pages: less than a 16th of it.
    pub(super) fn largest_for(pages: u64) -> u64 {
        1 << (pages / 32).max(1).ilog2().min(LARGEST_ORDER)
    }

    /// Events of a call, about: every other one maps memory and writes seven eighths of it, all pass time.
    pub(super) fn events_per_call(largest: u64) -> u64 {
        let orders = u64::from(largest.ilog2()) + 1;
        // On average a mapping has three quarters of a page for each order.
        2 + orders * 3 * 7 / (4 * 16)
    }
}

/// Mappings of mixed sizes come and go for days, of 4 KiB and more: as much memory in those between any size and its
/// double as in others, so that small ones are many. More are mapped by day than by night. A fifth of them stay for
/// days, the others die young. Some are given back in part only, or discarded and filled again. Several are being
/// filled at a time, page by page, a quarter of all in part only; so pages that are given out one after the other are given
/// back at different times.
///
/// Stands for a machine that has been up for a while: half of its memory is free at midnight, in pieces between pages
/// that stay. How long the pieces are is a matter of how many mappings are filled at a time, and of how large the largest
/// are beside all memory: with sixteen, and less than a 64th of 64 MiB, a buddy that only waits can serve 3.1 to 7.8 % of
/// it in folios of 64 KiB after three days, over twelve seeds (`tests/compaction.rs`). With eight, and less than a 16th as
/// in [`super::Kind::Ageing`], it is 3.3 to 13.2 %.
#[derive(Clone, Debug)]
pub struct Ageing {
    days: Days,
    rng: Rng,
    /// Calls so far.
    calls: u64,
    mapped_pages: u64,
    /// Pages of the mapping that is to come next.
    asked: u64,
    /// What is mapped, in no order, and whether it is to stay for long.
    live: Vec<(PageRange, bool)>,
    /// Plots that are in use, as bits, and where the search for a free one begins.
    plots: Vec<u64>,
    next_plot: usize,
    /// Events that are due before anything else.
    due: VecDeque<Event>,
    /// Pages that are still to be written, by mapping.
    filling: Vec<Range<u64>>,
}

/// Pages of the largest mapping.
const LARGEST: u64 = 1 << (LARGEST_ORDER + 1);
const LARGEST_ORDER: u32 = 11;
/// Pages of a mapping's plot in the address space: no two mappings meet.
const PLOT: u64 = 2 * LARGEST;
/// How many of 100 mappings stay for long, and how often one is looked for that does not: a mapping that stays goes only
/// where there are so many of them that each of these tries met one.
const STAY_PERCENT: u32 = 20;
const TRIES: u32 = 8;
const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

impl Ageing {
    /// Days like these. Takes up to 30 bytes for each page that is mapped, however many days there are.
    pub fn new(days: Days, seed: u64) -> Ageing {
        assert!(days.calls_per_day > 0 && days.pages < 1 << 32 && days.filling > 0, "{days:?}");
        assert!(days.largest.is_power_of_two() && days.largest <= 1 << LARGEST_ORDER, "{days:?}");
        // One more than can be mapped at a time, so that there is always a free one.
        let plots = days.pages as usize + 1;
        Ageing {
            days,
            rng: Rng::new(seed),
            calls: 0,
            mapped_pages: 0,
            asked: 1,
            live: Vec::new(),
            plots: vec![0; plots.div_ceil(64)],
            next_plot: 0,
            due: VecDeque::with_capacity(2),
            filling: Vec::with_capacity(days.filling + 1),
        }
    }

    /// Pages that are to be mapped now: most at noon, half of them at midnight, and evenly in between.
    fn wanted(&self) -> u64 {
        let in_day = self.calls % self.days.calls_per_day;
        let half = self.days.calls_per_day.div_ceil(2);
        let from_midnight = in_day.min(self.days.calls_per_day - in_day).min(half);
        let share = |pages: u64| u128::from(pages) * u128::from(from_midnight) / u128::from(half);
        self.days.pages / 2 + share(self.days.pages / 2) as u64
    }

    fn call(&mut self) {
        self.calls += 1;
        let ns = DAY_NS / self.days.calls_per_day;
        self.due.push_back(Event::Time { ns: ns / 2 + self.rng.below(ns.max(1)) });
        if self.mapped_pages + self.asked <= self.wanted() {
            self.map(self.asked);
            self.asked = self.ask();
        } else if !self.live.is_empty() {
            self.give_back();
        }
    }

    /// The size of the next mapping, of an order half as often as of the one below. Others are given back until there
    /// is room for it, so that large ones are not the ones that never come.
    fn ask(&mut self) -> u64 {
        let order = loop {
            let order = self.rng.any().trailing_zeros();
            if order <= self.days.largest.ilog2() {
                break order;
            }
        };
        (1 << order) + self.rng.below(1 << order)
    }

    fn map(&mut self, pages: u64) {
        let plot = self.free_plot();
        let room = PLOT - pages;
        // Linux aligns mappings of 2 MiB and more, if they are a multiple of it; others lie anywhere.
        let into = self.rng.below(room);
        let into = if pages.is_multiple_of(u64::from(Order::MAX.pages())) {
            Order::MAX.align_down(into)
        } else {
            into
        };
        let range = PageRange::new(self.days.space, Shape::START.plus(plot * PLOT + into), pages);
        let stays = self.rng.chance(STAY_PERCENT);
        self.live.push((range, stays));
        self.mapped_pages += pages;
        self.due.push_back(Event::Map { range, prot: Prot::READ_WRITE });
        self.write(range);
    }

    /// Begins to write a range: all of it, or the first part.
    fn write(&mut self, range: PageRange) {
        let pages = if self.rng.chance(25) { 1 + self.rng.below(range.pages) } else { range.pages };
        self.filling.push(range.start.0..range.start.0 + pages);
    }

    /// Writes a page of one of the mappings that are being filled; there is one.
    fn fill(&mut self) -> Option<Event> {
        let at = self.rng.below(self.filling.len() as u64) as usize;
        let page = self.filling[at].next();
        if self.filling[at].is_empty() {
            self.filling.swap_remove(at);
        }
        page.map(|page| Event::Access(Access::write(self.days.space, Vpn(page))))
    }

    /// Unmaps a mapping, or a part of it; or discards and writes it again.
    fn give_back(&mut self) {
        let at = self.victim();
        let (range, _) = self.live[at];
        match self.rng.below(10) {
            0 => {
                self.due.push_back(Event::Discard(range));
                self.write(range);
            }
            1 | 2 if range.pages > 1 => {
                let keep = 1 + self.rng.below(range.pages - 1);
                self.unmap(at, keep);
            }
            _ => self.unmap(at, 0),
        }
    }

    /// Which mapping is to go: any of those that don't stay, if one of them is soon found; there is one at all.
    fn victim(&mut self) -> usize {
        let mut at = 0;
        for _ in 0..TRIES {
            at = self.rng.below(self.live.len() as u64) as usize;
            if !self.live[at].1 {
                break;
            }
        }
        at
    }

    /// Unmaps a mapping, all but its first `keep` pages.
    fn unmap(&mut self, at: usize, keep: u64) {
        let (range, _) = self.live[at];
        let gone = PageRange::between(range.space, range.start.plus(keep), range.end());
        self.mapped_pages -= gone.pages;
        self.filling
            .iter_mut()
            .filter(|f| range.contains(Vpn(f.start)))
            .for_each(|f| f.end = f.end.min(gone.start.0));
        if keep > 0 {
            self.live[at].0.pages = keep;
        } else {
            self.live.swap_remove(at);
            let plot = plot_of(range.start);
            self.plots[plot / 64] &= !(1 << (plot % 64));
        }
        self.due.push_back(Event::Unmap(gone));
    }

    /// Takes a plot that is free; there is one.
    fn free_plot(&mut self) -> u64 {
        while self.plots[self.next_plot / 64] >> (self.next_plot % 64) & 1 == 1 {
            self.next_plot = (self.next_plot + 1) % (64 * self.plots.len());
        }
        self.plots[self.next_plot / 64] |= 1 << (self.next_plot % 64);
        self.next_plot as u64
    }
}

fn plot_of(vpn: Vpn) -> usize {
    ((vpn.0 - Shape::START.0) / PLOT) as usize
}

impl Iterator for Ageing {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.due.pop_front() {
                return Some(event);
            }
            let over = self.calls == self.days.days * self.days.calls_per_day;
            if self.filling.len() < self.days.filling && !over {
                self.call();
            } else if self.filling.is_empty() {
                return None;
            } else if let Some(event) = self.fill() {
                return Some(event);
            }
        }
    }
}
