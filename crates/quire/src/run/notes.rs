//! What the processes note while they are recorded: gathered, put in order, and written down.
//!
//! Each process leaves its notes in a ring of its own, in order. The notes of all are merged by their times, a little
//! behind the present, since a note may be on its way. A process that forked holds everything behind that moment up until
//! its child has joined, so that a trace tells of the fork before it tells of the child.
//!
//! Where the files can't be written as fast as that, the rings are left as they are, and the programs wait for room in
//! them. `quire` itself never waits for a file here.

use super::log::Log;
use super::trace::Trace;
use crate::failure::memory_file_mend;
use crate::files::say;
use quire_core::{PageRange, Space};
use quire_linux::control::ledger::AccountId;
use quire_linux::control::note::Note;
use quire_linux::control::ring::Ring;
use quire_linux::sys::clock::now_ns;
use quire_sim::trace::{Access, Event};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a note may be on its way, in ns.
const LAG: u64 = 20_000_000;
/// How long a forked child may take to join, in ns of [`Notes::clock`]. One that takes longer is to the trace a program of
/// its own.
const GRACE: u64 = 1_000_000_000;
/// How often the rings are emptied. A program that faults all the time fills one in some 100 ms.
const PERIOD: Duration = Duration::from_millis(5);

/// One process that is recorded.
struct Source {
    account: AccountId,
    pid: u32,
    /// Its number in the trace.
    space: Space,
    /// Whom it was forked from.
    parent: Option<AccountId>,
    ring: Ring,
    /// Its notes with their times, as far as they are not written down yet.
    notes: VecDeque<(u64, Note)>,
    forks: Vec<Fork>,
    /// When it ended.
    ended: Option<u64>,
}

/// A fork, as far as its two sides have told of it.
struct Fork {
    number: u32,
    /// When it was first heard of, by [`Notes::clock`].
    heard: u64,
    /// The child's number, once it has joined.
    child: Option<Space>,
}

impl Source {
    /// What is known of a fork, first heard of at `clock`.
    fn fork(&mut self, number: u32, clock: u64) -> &mut Fork {
        let at = self.forks.iter().position(|fork| fork.number == number).unwrap_or_else(|| {
            self.forks.push(Fork { number, heard: clock, child: None });
            self.forks.len() - 1
        });
        &mut self.forks[at]
    }

    /// Forgets a fork. The number of its child, if that has joined.
    fn end_fork(&mut self, number: u32) -> Option<Space> {
        let at = self.forks.iter().position(|fork| fork.number == number)?;
        self.forks.swap_remove(at).child
    }

    /// The time of the first fork whose child may still join.
    fn waits_since(&self, clock: u64) -> Option<u64> {
        let waits = |number| {
            let mut known = self.forks.iter().filter(|fork| fork.number == number);
            known.any(|fork| fork.child.is_none() && fork.heard + GRACE > clock)
        };
        self.notes.iter().find_map(|&(at, note)| match note {
            Note::Forking { number } if waits(number) => Some(at),
            _ => None,
        })
    }
}

/// The notes of all processes, and where they go.
#[derive(Default)]
pub(crate) struct Notes {
    trace: Option<Trace>,
    log: Option<Log>,
    sources: Vec<Source>,
    /// The next number of a process, and those of processes that have ended, to be used when there are no more.
    next_space: u32,
    used_spaces: VecDeque<Space>,
    /// Time in which children could join and be heard, in ns: none passes while `quire` is stopped, or leaves the rings
    /// alone.
    clock: u64,
    /// When the rings were last emptied, in ns.
    emptied: u64,
}

impl Notes {
    pub(crate) fn new(trace: Option<Trace>, log: Option<Log>) -> Notes {
        Notes { trace, log, ..Notes::default() }
    }

    /// How often to find out what is accessed, in ns; 0: not at all.
    pub(super) fn record_every(&self) -> u64 {
        self.trace.as_ref().map_or(0, Trace::every)
    }

    /// Whether the engine's decisions are wanted.
    pub(super) fn logs(&self) -> bool {
        self.log.is_some()
    }

    /// How long the rings may be left alone; for ever where nobody is recorded.
    pub(super) fn period(&self) -> Duration {
        if self.sources.is_empty() { Duration::MAX } else { PERIOD }
    }

    /// A process joins: its end of a ring, if anything is to be noted.
    pub(super) fn join(
        &mut self,
        account: AccountId,
        pid: u32,
        parent: Option<AccountId>,
    ) -> Option<OwnedFd> {
        if self.trace.is_none() && self.log.is_none() {
            return None;
        }
        let space = self.number()?;
        let (file, ring) = Ring::create()
            .inspect_err(|&error| {
                let mend = memory_file_mend(error);
                say(format_args!("process {pid} goes unrecorded: no memory file for it: {error}; {mend}"));
            })
            .ok()?;
        if self.trace.is_none() {
            // A forked child records if its parent did.
            ring.refuse_accesses();
        }
        let (notes, forks) = (VecDeque::new(), Vec::new());
        self.sources.push(Source { account, pid, space, parent, ring, notes, forks, ended: None });
        Some(file)
    }

    /// A process has ended. What it noted is in its ring.
    pub(super) fn leave(&mut self, account: AccountId) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.account == account) {
            source.ended = Some(now_ns());
        }
    }

    /// Empties the rings, and writes down what is old enough, as long as the files take it.
    pub(super) fn drain(&mut self) {
        self.end_what_failed();
        if self.sources.is_empty() || self.is_full() {
            return;
        }
        let now = now_ns();
        self.clock += now.saturating_sub(self.emptied).min(LAG);
        self.emptied = now;
        self.gather();
        let held = self.sources.iter().filter_map(|source| source.waits_since(self.clock)).min();
        self.write_until(now.saturating_sub(LAG).min(held.unwrap_or(u64::MAX)));
        if let Some(trace) = &mut self.trace {
            trace.flush(now);
        }
    }

    /// Writes down all there is, and ends the trace and the log. `leave` is asked again and again, with the bytes that a
    /// file has not taken yet, whether to wait no longer for it.
    pub(super) fn finish(&mut self, leave: &mut dyn FnMut(usize) -> bool) {
        self.gather();
        let now = now_ns();
        for source in &mut self.sources {
            source.ended.get_or_insert(now);
            source.ring.close();
        }
        self.write_until(u64::MAX);
        if let Some(trace) = self.trace.take() {
            trace.finish(now, leave);
        }
        if let Some(log) = self.log.take() {
            log.finish(leave);
        }
    }

    /// Whether a file has more to write than it should be given.
    fn is_full(&self) -> bool {
        self.trace.as_ref().is_some_and(Trace::is_full) || self.log.as_ref().is_some_and(Log::is_full)
    }

    fn number(&mut self) -> Option<Space> {
        match u16::try_from(self.next_space) {
            Ok(number) => {
                self.next_space += 1;
                Some(Space(number))
            }
            Err(_) => self.used_spaces.pop_front(),
        }
    }

    fn gather(&mut self) {
        let mut forked = Vec::new();
        for source in &mut self.sources {
            let mut forking = Vec::new();
            let Source { ring, notes, parent, space, .. } = source;
            ring.take(|[at, first, second]| match Note::decode([first, second]) {
                Some(Note::Forked { number }) => forked.push((*parent, number, *space)),
                Some(note) => {
                    if let Note::Forking { number } = note {
                        forking.push(number);
                    }
                    notes.push_back((at, note));
                }
                // Only a process that has lost its mind writes such; the rest of what it says may still be true.
                None => {}
            });
            for number in forking {
                source.fork(number, self.clock);
            }
        }
        for (parent, number, child) in forked {
            if let Some(source) = self.sources.iter_mut().find(|source| Some(source.account) == parent) {
                source.fork(number, self.clock).child = Some(child);
            }
        }
    }

    /// Writes down what was noted before `horizon`, in the order of time.
    fn write_until(&mut self, horizon: u64) {
        let mut due: Vec<(u64, usize, Note)> = Vec::new();
        for (index, source) in self.sources.iter_mut().enumerate() {
            while let Some((at, note)) = source.notes.pop_front_if(|&mut (at, _)| at < horizon) {
                due.push((at, index, note));
            }
        }
        // Stable: the notes of one process stay in their order.
        due.sort_by_key(|&(at, ..)| at);
        for (at, index, note) in due {
            self.write(at, index, note);
        }
        self.write_exits(horizon);
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    fn write(&mut self, at: u64, index: usize, note: Note) {
        let source = &mut self.sources[index];
        let space = source.space;
        let of = |range| PageRange { space, ..range };
        let event = match note {
            Note::Access { vpn, write } => Event::Access(Access { space, vpn, write, times: 1 }),
            Note::Written(range) => return self.write_pages(at, of(range)),
            Note::Map { range, prot } => Event::Map { range: of(range), prot },
            Note::Unmap(range) => Event::Unmap(of(range)),
            Note::Discard(range) => Event::Discard(of(range)),
            Note::Protect { range, prot } => Event::Protect { range: of(range), prot },
            Note::Forking { number } => match source.end_fork(number) {
                Some(child) => Event::Fork { parent: space, child },
                None => return,
            },
            Note::Forked { .. } => return,
            Note::Decided(_) | Note::Lost(_) => {
                if let Some(log) = &mut self.log {
                    log.write(at, source.pid, &note);
                }
                return;
            }
        };
        if let Some(trace) = &mut self.trace {
            trace.write(at, event);
        }
    }

    /// Writes that each page of `range` was written.
    fn write_pages(&mut self, at: u64, range: PageRange) {
        let Some(trace) = &mut self.trace else { return };
        for page in 0..range.pages {
            trace.write(at, Event::Access(Access::write(range.space, range.start.plus(page))));
        }
    }

    fn write_exits(&mut self, horizon: u64) {
        let gone =
            |source: &mut Source| source.notes.is_empty() && source.ended.is_some_and(|at| at < horizon);
        for source in self.sources.extract_if(.., gone) {
            if let (Some(trace), Some(at)) = (&mut self.trace, source.ended) {
                trace.write(at, Event::Exit(source.space));
            }
            self.used_spaces.push_back(source.space);
        }
    }

    /// What can't be written any longer is not asked for any longer.
    fn end_what_failed(&mut self) {
        if self.trace.take_if(|trace| !trace.is_sound()).is_some() {
            self.sources.iter().for_each(|source| source.ring.refuse_accesses());
        }
        self.log.take_if(|log| !log.is_sound());
        if self.trace.is_none() && self.log.is_none() {
            self.sources.iter().for_each(|source| source.ring.close());
            self.sources.clear();
        }
    }
}

#[cfg(test)]
mod tests;
