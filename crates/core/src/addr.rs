//! Addresses: spaces, virtual page numbers, frames, and runs of both.

use core::fmt;

/// Bytes in a base page, the unit of every count called "pages".
pub const PAGE_SIZE: usize = 4096;

/// The hidden space: its page numbers are slots of shared pages. It has no VMAs, and no program runs in it.
pub const SHARED: Space = Space(1);

/// An address space. The live host has one per process, a simulator has many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Space(pub u16);

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sx{:x}", self.0)
    }
}

/// A virtual page number: the address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vpn(pub u64);

impl Vpn {
    /// The page that holds byte address `addr`.
    pub const fn of(addr: u64) -> Vpn {
        Vpn(addr / PAGE_SIZE as u64)
    }

    /// The byte address of the page's first byte.
    pub const fn addr(self) -> u64 {
        self.0 * PAGE_SIZE as u64
    }

    /// The page `pages` further on.
    pub const fn plus(self, pages: u64) -> Vpn {
        Vpn(self.0 + pages)
    }
}

impl fmt::Debug for Vpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vx{:x}", self.0)
    }
}

/// A run of virtual pages in one space. May be empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageRange {
    /// The address space.
    pub space: Space,
    /// The first page.
    pub start: Vpn,
    /// How many pages.
    pub pages: u64,
}

impl PageRange {
    /// The run of `pages` pages from `start`.
    pub const fn new(space: Space, start: Vpn, pages: u64) -> PageRange {
        PageRange { space, start, pages }
    }

    /// The run from `start` up to and without `end`.
    pub const fn between(space: Space, start: Vpn, end: Vpn) -> PageRange {
        PageRange { space, start, pages: end.0.saturating_sub(start.0) }
    }

    /// The first page past the run.
    pub const fn end(self) -> Vpn {
        Vpn(self.start.0 + self.pages)
    }

    /// Whether the run has no page.
    pub const fn is_empty(self) -> bool {
        self.pages == 0
    }

    /// Whether `vpn` lies in the run.
    pub const fn contains(self, vpn: Vpn) -> bool {
        vpn.0 >= self.start.0 && vpn.0 < self.start.0 + self.pages
    }
}

impl fmt::Debug for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}+{}", self.space, self.start, self.pages)
    }
}

/// A frame: one base page of the host's pool, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Frame(pub u32);

impl Frame {
    /// The frame `pages` further on.
    pub const fn plus(self, pages: u32) -> Frame {
        Frame(self.0 + pages)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fx{:x}", self.0)
    }
}

/// A run of frames that lie side by side in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRun {
    /// The first frame.
    pub start: Frame,
    /// How many frames.
    pub pages: u32,
}

impl FrameRun {
    /// The run of `pages` frames from `start`.
    pub const fn new(start: Frame, pages: u32) -> FrameRun {
        FrameRun { start, pages }
    }

    /// The frames of the run in rising order.
    pub fn iter(self) -> impl Iterator<Item = Frame> {
        (self.start.0..self.start.0 + self.pages).map(Frame)
    }
}

impl fmt::Debug for FrameRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}+{}", self.start, self.pages)
    }
}
