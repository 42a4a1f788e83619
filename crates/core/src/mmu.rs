//! What the engine asks of a host: few synchronous verbs on page tables.
//!
//! The engine calls a verb in the middle of a decision, under its one lock. Each verb takes microseconds,
//! cannot fault, and may do part of its work or refuse with a reason: [`Done`] says how far it came.
//! The rules are those of Linux 6.18, measured: pages move whole, a moved page leaves a hole, a destination
//! must be a hole, protections and locks of both sides must be equal.

#[cfg(test)]
pub(crate) mod tests;

use crate::addr::{Frame, FrameRun, PageRange, Space, Vpn};
use crate::folio::Touched;
use crate::job::{Stored, Work};
use crate::reclaim::Urgency;
use crate::store::{Block, Figures, Message, Tend};

/// Access rights of a range of program memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Prot(u8);

impl Prot {
    /// No access.
    pub const NONE: Prot = Prot(0);
    /// Read only.
    pub const READ: Prot = Prot(1);
    /// Read and write: what the pool of frames has.
    pub const READ_WRITE: Prot = Prot(3);

    /// From the bits of `mmap(2)`: 1 read, 2 write, 4 execute; others are dropped.
    pub const fn from_bits(bits: u32) -> Prot {
        Prot((bits & 7) as u8)
    }

    /// The bits of `mmap(2)`.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// Whether pages may be written to.
    pub const fn writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether pages can be moved between such a range and the pool.
    pub const fn movable(self) -> bool {
        self.0 == Prot::READ_WRITE.0
    }
}

/// Why a verb did less than all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// The page is pinned for I/O, or shared after fork and not written since (EBUSY).
    Busy,
    /// Protection or lock of source and destination differ (EINVAL).
    Denied,
    /// The destination page is present (EEXIST).
    Exists,
    /// The source page is a hole (ENOENT).
    Absent,
    /// The destination is not mapped, or not by this host (ENOENT on the range, EFAULT).
    NoRange,
    /// The kernel had no memory for it (ENOMEM).
    NoMemory,
    /// Try again later (EAGAIN that did not go away).
    Again,
}

impl Refusal {
    /// How many reasons there are.
    pub const COUNT: usize = 7;
    /// Every reason, in the order of [`Refusal::index`].
    pub const ALL: [Refusal; Refusal::COUNT] = [
        Refusal::Busy,
        Refusal::Denied,
        Refusal::Exists,
        Refusal::Absent,
        Refusal::NoRange,
        Refusal::NoMemory,
        Refusal::Again,
    ];

    /// A number for tables, below [`Refusal::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How far a verb came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Done {
    /// Pages done, from the start of the range.
    pub pages: u32,
    /// Why the next page was not done; `None` when all were.
    pub refusal: Option<Refusal>,
}

impl Done {
    /// All of `pages` pages were done.
    pub const fn all(pages: u32) -> Done {
        Done { pages, refusal: None }
    }

    /// `pages` pages were done, the next one was refused.
    pub const fn part(pages: u32, refusal: Refusal) -> Done {
        Done { pages, refusal: Some(refusal) }
    }
}

/// Verbs that any thread of a host may call.
pub trait Mmu {
    /// Drops the contents of program pages: they become holes, and so does what was a hole.
    fn discard(&mut self, range: PageRange) -> Result<(), Refusal>;

    /// Sets the access rights of program pages. Holes stay holes.
    fn protect(&mut self, range: PageRange, prot: Prot) -> Result<(), Refusal>;

    /// Locks program pages in memory against the kernel's own swap, or unlocks them. Faults nothing in.
    fn lock(&mut self, range: PageRange, locked: bool) -> Result<(), Refusal>;

    /// Whether a program page is present (its contents are at the program's address).
    fn present(&mut self, space: Space, vpn: Vpn) -> bool;

    /// Which pages of `range`, at most 512, the program has accessed since the last call for them: they are added to
    /// `touched`, by their number within the range, and begin anew as not accessed. False when the host can't tell.
    fn accessed(&mut self, range: PageRange, touched: &mut Touched) -> bool {
        let _ = (range, touched);
        false
    }

    /// Mapped pages are one folio from now on, and have the frames from `to` on, whatever they had before: the engine has
    /// collapsed what they were, or moved them out of the way. Where a mapped page's frame is a number and nothing else, as
    /// on a host that moves pages in and out, there is nothing to do. A host whose frames have the contents of mapped pages
    /// copies what was elsewhere, and maps the new frames.
    fn relocated(&mut self, pages: PageRange, to: Frame) {
        let _ = (pages, to);
    }

    /// Gives the memory of pool frames back to the system: these become holes that read as zeroes.
    fn release(&mut self, frames: FrameRun);

    /// The same for many runs at once, which a host may be able to do faster.
    fn release_all(&mut self, runs: &[FrameRun]) {
        for &run in runs {
            self.release(run);
        }
    }

    /// Tells the store something ([`Store::hear`](crate::Store::hear)). Messages arrive in this order.
    fn tell(&mut self, message: Message);

    /// What the store has as `block`, and where ([`Store::look`](crate::Store::look)); it may be elsewhere by the time that
    /// it is read.
    fn look(&self, block: Block) -> Option<Stored>;

    /// What the store takes and may take ([`Store::figures`](crate::Store::figures)).
    fn figures(&self) -> Figures;

    /// Reclaim is about to hand contents to the store. A host that runs the store itself lets it make room first
    /// ([`Store::tend`](crate::Store::tend)).
    fn tend(&mut self, urgency: Urgency, work: &mut Work) -> Tend {
        let _ = (urgency, work);
        Tend::Idle
    }
}

/// Verbs that only a pager's own threads may call.
///
/// Only [`Mover::copy_staged`], [`Mover::copy_zeroes`] and [`Mover::wake`] wake threads that wait. The engine calls the first
/// two where its tables become true under the same lock, whatever the verb answers.
///
/// A page that is at the destination of a move and no longer at its source counts as moved, not as
/// [`Refusal::Exists`]: Linux 6.18 answers EEXIST after it has moved a page that it was migrating at that moment.
pub trait Mover: Mmu {
    /// Moves pages from the pool into holes of the program; their frames become holes.
    /// `frames.pages` pages go to `at` and on.
    fn move_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done;

    /// Moves program pages into holes of the pool: from then on the program's next touch faults.
    fn move_out(&mut self, space: Space, at: Vpn, frames: FrameRun) -> Done;

    /// Copies pool frames into holes of the program, whatever its protection. The frames keep their contents.
    fn copy_in(&mut self, frames: FrameRun, space: Space, at: Vpn) -> Done;

    /// Copies what the host has staged for the fill that is being finished, from page `from` of it on, into holes of
    /// the program, whatever its protection, and wakes who waits for those that it has filled. No frame of the pool is
    /// touched.
    fn copy_staged(&mut self, from: u32, to: PageRange) -> Done;

    /// Fills holes of the program with pages of zeroes, whatever its protection, and wakes who waits for those. No frame of
    /// the pool is touched.
    fn copy_zeroes(&mut self, to: PageRange) -> Done;

    /// Makes present pages the program's own again after a fork. Never fills a hole.
    fn unshare(&mut self, range: PageRange) -> Done;

    /// Moves program pages, holes and rights to another place that is mapped without access and empty.
    /// The old place becomes empty and without access. Both stay known to the host.
    fn remap(&mut self, from: PageRange, to: Vpn) -> Result<(), Refusal>;

    /// Lets every thread that waits for a fault in the range try again.
    fn wake(&mut self, range: PageRange);

    /// Moves program pages into holes of the pool and leaves them mapped there, read-only, whatever the rights of the
    /// range: several spaces are to share them. A write to one is a fault from then on.
    ///
    /// This verb and those after it are for hosts whose engine has several spaces. By default they refuse.
    fn share(&mut self, _space: Space, _at: Vpn, _frames: FrameRun) -> Done {
        Done::part(0, Refusal::Denied)
    }

    /// Maps frames of the pool read-only into holes of the program. They keep their contents.
    fn map_shared(&mut self, _frames: FrameRun, _space: Space, _at: Vpn) -> Done {
        Done::part(0, Refusal::Denied)
    }

    /// Makes holes of pages that [`Mover::share`] and [`Mover::map_shared`] have mapped. Only what is a hole already is
    /// refused, as [`Refusal::Absent`].
    fn unmap_shared(&mut self, range: PageRange) -> Done {
        Done::all(range.pages as u32)
    }

    /// Copies program pages into frames of the pool, in place of what was there. The program keeps its pages.
    fn copy_out(&mut self, _space: Space, _at: Vpn, _frames: FrameRun) -> Done {
        Done::part(0, Refusal::Denied)
    }

    /// Begins space `child`: its ranges have the rights of the parent's, no locks and no pages. All or nothing.
    fn fork_space(&mut self, _parent: Space, _child: Space) -> Result<(), Refusal> {
        Err(Refusal::Denied)
    }

    /// Ends a space, if there is one: its pages are gone, and so are the threads that wait for them.
    fn end_space(&mut self, _space: Space) {}
}
