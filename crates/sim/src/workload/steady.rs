//! Workloads that do the same all the time: one area, and a rule for where the next access goes.

use super::permutation::Permutation;
use crate::rng::Rng;
use crate::trace::{Access, Event};
use quire_core::mmu::Prot;
use quire_core::{Order, PageRange, Space, Vpn};

/// Where, how much and how a workload works.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    /// Its memory.
    pub area: PageRange,
    /// Events of access.
    pub accesses: u64,
    /// How many of 100 of them write.
    pub write_percent: u32,
    /// Accesses in each of these events: how often a page is used while one is at it.
    pub times: u32,
}

impl Shape {
    /// The first page of an area in an address space: 4 GiB, aligned to 2 MiB as large mappings of Linux are.
    pub const START: Vpn = Vpn(1 << 20);

    /// `pages` pages of `space`, a third of the accesses writing, a page used once at a time.
    pub const fn new(space: Space, pages: u64, accesses: u64) -> Shape {
        let area = PageRange::new(space, Shape::START, pages);
        Shape { area, accesses, write_percent: 33, times: 1 }
    }

    /// An access to the page at `offset` in the area.
    #[inline]
    pub(super) fn access(&self, offset: u64, rng: &mut Rng) -> Event {
        let vpn = self.area.start.plus(offset);
        let write = rng.chance(self.write_percent);
        Event::Access(Access { space: self.area.space, vpn, write, times: self.times })
    }

    /// How it begins: its memory is mapped.
    pub(super) const fn map(&self) -> Event {
        Event::Map { range: self.area, prot: Prot::READ_WRITE }
    }
}

/// A rule for where the next access goes.
pub trait Pattern {
    /// The next page, counted from the start of the area.
    fn page(&mut self, rng: &mut Rng) -> u64;
}

/// Maps an area and accesses it by a pattern.
#[derive(Clone, Debug)]
pub struct Steady<P> {
    shape: Shape,
    pattern: P,
    rng: Rng,
    mapped: bool,
    done: u64,
}

impl<P: Pattern> Steady<P> {
    /// The workload of this shape; the pattern has as many pages as its area.
    pub fn new(shape: Shape, pattern: P, seed: u64) -> Steady<P> {
        Steady { shape, pattern, rng: Rng::new(seed), mapped: false, done: 0 }
    }
}

impl<P: Pattern> Iterator for Steady<P> {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        if !self.mapped {
            self.mapped = true;
            return Some(self.shape.map());
        }
        if self.done == self.shape.accesses {
            return None;
        }
        self.done += 1;
        let page = self.pattern.page(&mut self.rng);
        Some(self.shape.access(page, &mut self.rng))
    }
}

/// One page after the other, again and again.
///
/// Stands for scans, copies and merges: every page is used as much as any other, larger folios have no waste, and least
/// recently used is the worst order to evict in.
#[derive(Clone, Debug)]
pub struct Sequential {
    pages: u64,
    next: u64,
}

impl Sequential {
    /// Over `pages` pages, at least one.
    pub const fn new(pages: u64) -> Sequential {
        Sequential { pages, next: 0 }
    }
}

impl Pattern for Sequential {
    #[inline]
    fn page(&mut self, _: &mut Rng) -> u64 {
        let page = self.next;
        self.next = if page + 1 == self.pages { 0 } else { page + 1 };
        page
    }
}

/// Every so-manieth page; when the end is reached, the same one page further on, until each was met.
///
/// Stands for a walk down the columns of a matrix that is stored by rows: all of the memory is used in the end, but
/// what a larger folio brings is long cold before it is needed.
#[derive(Clone, Debug)]
pub struct Strided {
    pages: u64,
    stride: u64,
    lane: u64,
    next: u64,
}

impl Strided {
    /// Over `pages` pages, at least one, in steps of `stride` pages, at least one and at most `pages`.
    pub fn new(pages: u64, stride: u64) -> Strided {
        assert!(0 < stride && stride <= pages, "steps of {stride} in {pages} pages");
        Strided { pages, stride, lane: 0, next: 0 }
    }
}

impl Pattern for Strided {
    #[inline]
    fn page(&mut self, _: &mut Rng) -> u64 {
        let page = self.next;
        self.next += self.stride;
        if self.next >= self.pages {
            self.lane = if self.lane + 1 == self.stride { 0 } else { self.lane + 1 };
            self.next = self.lane;
        }
        page
    }
}

/// Any page, each as likely as the others.
///
/// Stands for hash joins and large hash tables: the working set is everything, the TLB misses all the time, and what
/// is evicted is as likely to be needed as what stays.
#[derive(Clone, Debug)]
pub struct Uniform {
    pages: u64,
}

impl Uniform {
    /// Over `pages` pages, at least one.
    pub const fn new(pages: u64) -> Uniform {
        Uniform { pages }
    }
}

impl Pattern for Uniform {
    #[inline]
    fn page(&mut self, rng: &mut Rng) -> u64 {
        rng.below(self.pages)
    }
}

/// Few pages in each 2 MiB, always the same ones, in random order.
///
/// Stands for sparse tables, arenas of threads, and heaps full of long-dead objects: 2 MiB folios make it many times
/// as large as it is.
#[derive(Clone, Debug)]
pub struct Sparse {
    blocks: u64,
    touched: u64,
    places: Rng,
}

impl Sparse {
    /// Over `pages` pages, at least 2 MiB of them; `touched` pages, 1..=512, in each whole 2 MiB. `seed` says which.
    pub fn new(pages: u64, touched: u64, seed: u64) -> Sparse {
        let blocks = pages / BLOCK;
        assert!(blocks > 0 && (1..=BLOCK).contains(&touched), "{touched} pages in each 2 MiB of {pages}");
        Sparse { blocks, touched, places: Rng::new(seed) }
    }
}

/// Pages in 2 MiB.
const BLOCK: u64 = Order::MAX.pages() as u64;

impl Pattern for Sparse {
    #[inline]
    fn page(&mut self, rng: &mut Rng) -> u64 {
        let block = rng.below(self.blocks);
        let which = rng.below(self.touched);
        block * BLOCK + Permutation::new(BLOCK, &self.places.part(block)).of(which)
    }
}
