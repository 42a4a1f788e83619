//! Jobs under way, by ticket.

use crate::addr::{Frame, FrameRun, Space};
use crate::job::{JobKind, Ticket};
use alloc::vec::Vec;

/// What a job uses while it is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) ticket: Ticket,
    pub(crate) kind: JobKind,
    /// Frames pinned.
    pub(crate) frames: FrameRun,
    /// The folio has changed: what the job brings back is dropped.
    pub(crate) void: bool,
    /// Read: what it brings does not come in the frames, which are holes.
    pub(crate) staged: bool,
    /// Read: when the page that is needed was moved out, by the clock of evictions.
    pub(crate) evicted_at: u32,
    /// Read: the space whose fault began it.
    pub(crate) asker: Space,
    live: bool,
}

impl Flight {
    /// The record of no job.
    fn unused() -> Flight {
        Flight {
            ticket: Ticket(0),
            kind: JobKind::Zero,
            frames: FrameRun::new(Frame(0), 0),
            void: false,
            staged: false,
            evicted_at: 0,
            asker: Space(0),
            live: false,
        }
    }
}

/// Jobs that reclaim can have under way at once. Their records are made beforehand, since reclaim allocates nothing.
const RECLAIM_JOBS: usize = 8;

/// The jobs under way. Records are used again; tickets are not.
#[derive(Clone, Debug)]
pub(crate) struct Tickets {
    flights: Vec<Flight>,
    next: u64,
    live: u32,
}

impl Tickets {
    pub(crate) fn new() -> Tickets {
        let mut tickets = Tickets { flights: Vec::new(), next: 1, live: 0 };
        tickets.reserve(RECLAIM_JOBS);
        tickets
    }

    /// Makes records for `more` jobs beside those that are under way.
    fn reserve(&mut self, more: usize) {
        while self.flights.len() < self.live as usize + more {
            self.flights.push(Flight::unused());
        }
    }

    /// How many jobs are under way.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Begins a job, and leaves records for those of reclaim. Returns the index of its flight.
    pub(crate) fn begin(&mut self, kind: JobKind, frames: FrameRun) -> usize {
        self.reserve(RECLAIM_JOBS + 1);
        self.begin_reserved(kind, frames).unwrap_or(0)
    }

    /// Begins a job of reclaim, which allocates nothing. `None` when there are as many under way as can be.
    pub(crate) fn begin_reserved(&mut self, kind: JobKind, frames: FrameRun) -> Option<usize> {
        let index = self.flights.iter().position(|f| !f.live)?;
        let flight = &mut self.flights[index];
        flight.ticket = Ticket(self.next);
        (flight.kind, flight.frames) = (kind, frames);
        (flight.void, flight.live) = (false, true);
        (flight.staged, flight.evicted_at, flight.asker) = (false, 0, Space(0));
        self.next += 1;
        self.live += 1;
        Some(index)
    }

    /// The index of the flight of a job that is under way.
    pub(crate) fn find(&self, ticket: Ticket) -> Option<usize> {
        self.flights.iter().position(|f| f.live && f.ticket == ticket)
    }

    pub(crate) fn end(&mut self, index: usize) {
        self.flights[index].live = false;
        self.live -= 1;
    }

    pub(crate) fn get(&self, index: usize) -> &Flight {
        &self.flights[index]
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut Flight {
        &mut self.flights[index]
    }

    /// Every job under way.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().filter(|f| f.live)
    }

    /// The same, with their indices.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Flight)> {
        self.flights.iter().enumerate().filter(|(_, flight)| flight.live)
    }

    /// In a forked child nothing is under way.
    pub(crate) fn forget(&mut self) {
        for flight in &mut self.flights {
            flight.live = false;
        }
        self.live = 0;
    }
}

/// The number that a pinned frame's record carries for a job in `index`.
pub(crate) fn pin_of(index: usize) -> u16 {
    index as u16 + 1
}

/// The index of the flight of the job that pins a frame.
pub(crate) fn index_of(pin: u16) -> usize {
    usize::from(pin) - 1
}
