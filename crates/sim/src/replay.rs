//! Replay: a stream of events through the engine, on a machine that is modelled.
//!
//! [`replay`] runs one [`Cell`], that is a policy, an amount of memory and a TLB, on the events of a trace, and says what
//! came of it ([`Figures`]). The engine is the real one. The host is lean: page tables without contents
//! (`table.rs`, `memory.rs`), the verbs on them and what they cost (`verbs.rs`), the program's side (`host.rs`, `calls.rs`),
//! jobs (`jobs.rs`), and a thread that reclaims behind the program (`service.rs`). [`Costs`] turn what happens into time.
//! `docs/replay.md` says what the figures mean and what is left out.
//!
//! The host of [`crate::world`] is another one: there every event happens at every moment and contents are checked,
//! here many events happen in a second.

mod calls;
mod costs;
mod figures;
mod fragmentation;
mod host;
mod jobs;
mod memory;
mod paging;
#[cfg(test)]
mod parts;
mod ranges;
mod service;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod verbs;

pub use costs::{CostError, Costs};
pub use figures::{Cause, Figures, Level, Sample, Series};
pub use host::Stop;
pub use paging::{Paging, UnknownPaging};
pub use source::{Events, Source, SourceError};

use crate::tlb::{Model, Tlb, UseTlb};
use crate::trace::{self, Event};
use host::Host;

/// Frames where memory has no limit: 64 GiB.
pub const NO_LIMIT: u32 = 1 << 24;
/// The same where memory begins fragmented, so that every run is looked at: 4 GiB.
pub const NO_LIMIT_FRAGMENTED: u32 = 1 << 20;

/// A second, as on the live host.
pub const EPOCH_NS: u64 = 1_000_000_000;

/// What a trace is replayed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// The order policy, and the base page of the machine.
    pub paging: Paging,
    /// Pages of memory, 4 KiB each, for everything; `None`: [`NO_LIMIT`], and nothing is moved out.
    pub memory: Option<u32>,
    /// In so many percent of all runs of 64 KiB, 0 to 100, one page is somebody else's and can't be moved. These pages are
    /// no part of `memory`.
    pub fragmentation: u8,
    /// The TLB.
    pub tlb: Model,
    /// All of memory is looked at once in so many ns, for folios to split or collapse; 0: never. See [`EPOCH_NS`].
    pub epoch_ns: u64,
    /// Whether there is a disk to spill to.
    pub spill: bool,
    /// What things cost.
    pub costs: Costs,
}

impl Cell {
    /// A machine that is not fragmented, with a disk and the default costs.
    pub fn new(paging: impl Into<Paging>, memory: Option<u32>, tlb: Model) -> Cell {
        Cell {
            paging: paging.into(),
            memory,
            fragmentation: 0,
            tlb,
            epoch_ns: EPOCH_NS,
            spill: true,
            costs: Costs::default(),
        }
    }
}

/// Events after which a caller is told how far a replay is.
const TICK: u32 = 1 << 16;

/// Replays `events` on `cell`. `tick` is called now and then, with the number of events since the last time.
pub fn replay<I>(cell: &Cell, events: I, tick: &mut dyn FnMut(&I, u64)) -> Result<Figures, Stop>
where
    I: Iterator<Item = Result<Event, trace::Error>>,
{
    cell.tlb.give_to(Replay { cell, events, tick })
}

struct Replay<'a, I> {
    cell: &'a Cell,
    events: I,
    tick: &'a mut dyn FnMut(&I, u64),
}

impl<I: Iterator<Item = Result<Event, trace::Error>>> UseTlb for Replay<'_, I> {
    type Output = Result<Figures, Stop>;

    fn with<T: Tlb>(mut self, tlb: T) -> Result<Figures, Stop> {
        let mut host = Host::new(self.cell, tlb)?;
        let mut untold = 0;
        while let Some(event) = self.events.next() {
            host.play(event.map_err(Stop::Trace)?)?;
            untold += 1;
            if untold == TICK {
                (self.tick)(&self.events, u64::from(untold));
                untold = 0;
            }
        }
        (self.tick)(&self.events, u64::from(untold));
        Ok(host.figures())
    }
}
