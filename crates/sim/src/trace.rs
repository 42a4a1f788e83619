//! Traces: what programs did to their memory, page by page, as a stream of [`Event`]s.
//!
//! * [`Writer`] and [`Reader`] keep a trace in a compact form of its own, described in `docs/trace.md`: about a byte
//!   an event where accesses are near each other.
//! * [`Lackey`] reads what `valgrind --tool=lackey --trace-mem=yes` prints.
//!
//! All of them stream: memory does not grow with a trace, and no input makes a reader panic. `crates/sim` uses std,
//! so they read from [`std::io::Read`] and write to [`std::io::Write`].

mod error;
mod format;
mod input;
mod lackey;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use error::{Error, ErrorKind};
pub use lackey::{Lackey, LackeyCounts, LackeyOptions, is_lackey};
pub use read::{Reader, is_trace};
pub use write::Writer;

use quire_core::mmu::Prot;
use quire_core::{PageRange, Space, Vpn};

/// Pages that an address space can have in a trace: those of addresses of 57 bits. Page numbers are below it.
pub const SPACE_PAGES: u64 = 1 << 45;

/// One or more accesses to one page, with none to another page of the trace in between.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// The address space.
    pub space: Space,
    /// The page.
    pub vpn: Vpn,
    /// Whether any of them wrote.
    pub write: bool,
    /// How many accesses, at least 1.
    pub times: u32,
}

impl Access {
    /// One access that reads.
    pub const fn read(space: Space, vpn: Vpn) -> Access {
        Access { space, vpn, write: false, times: 1 }
    }

    /// One access that writes.
    pub const fn write(space: Space, vpn: Vpn) -> Access {
        Access { space, vpn, write: true, times: 1 }
    }
}

/// Something that a program does to its memory, or that happens to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// Pages are accessed.
    Access(Access),
    /// Anonymous memory is mapped, in place of whatever was there.
    Map {
        /// The pages.
        range: PageRange,
        /// Their rights.
        prot: Prot,
    },
    /// Pages are unmapped. Some of them may not be mapped.
    Unmap(PageRange),
    /// Contents are given up (`MADV_DONTNEED`): the pages read as zeroes from now on.
    Discard(PageRange),
    /// Rights change.
    Protect {
        /// The pages.
        range: PageRange,
        /// Their rights from now on.
        prot: Prot,
    },
    /// A process begins as a copy of another one.
    Fork {
        /// The one that forks.
        parent: Space,
        /// The new one.
        child: Space,
    },
    /// A process ends, and its address space with it.
    Exit(Space),
    /// Time passes: this much since the last such event or the beginning.
    Time {
        /// Nanoseconds.
        ns: u64,
    },
}

impl Event {
    /// Whether a trace may hold it: ranges have a page and lie within [`SPACE_PAGES`], accesses happen, and no process
    /// is its own child. Whether it makes sense after the events before it is another matter, which nobody checks:
    /// a trace may begin in the middle of a program.
    pub const fn is_valid(&self) -> bool {
        match *self {
            Event::Access(access) => access.vpn.0 < SPACE_PAGES && access.times > 0,
            Event::Map { range, .. }
            | Event::Unmap(range)
            | Event::Discard(range)
            | Event::Protect { range, .. } => {
                range.start.0 < SPACE_PAGES && range.pages > 0 && range.pages <= SPACE_PAGES - range.start.0
            }
            Event::Fork { parent, child } => parent.0 != child.0,
            Event::Exit(_) | Event::Time { .. } => true,
        }
    }
}
