//! The trace that a run records.

use super::outlet::Outlet;
use crate::failure::Failure;
use crate::files::say;
use quire_linux::sys::clock::now_ns;
use quire_sim::trace::{Event, Writer};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Time that passes is written in steps of at least this, in ns.
const STEP: u64 = 100_000;

/// What happened is in the file after this time, in ns: should `quire` be killed, the rest is lost.
const MOST_UNWRITTEN: u64 = 500_000_000;

/// A trace that is being written.
pub(crate) struct Trace {
    /// None after an error.
    writer: Option<Writer<Outlet>>,
    path: PathBuf,
    every: u64,
    /// Until when time that passed has been written, in ns.
    now: u64,
    /// When all of it was last handed over to the file.
    flushed: u64,
}

impl Trace {
    /// Opens the file, before the program runs. `every`: the time between two looks at what is accessed, in ns.
    pub(crate) fn create(path: &Path, every: u64) -> Result<Trace, Failure> {
        let file = File::create(path).map_err(|error| {
            Failure::own(format!("no trace can be written to {}: {error}; name another file", path.display()))
        })?;
        let now = now_ns();
        Ok(Trace {
            writer: Some(Writer::new(Outlet::new(file))),
            path: path.to_owned(),
            every,
            now,
            flushed: 0,
        })
    }

    /// The time between two looks at what is accessed, in ns.
    pub(super) fn every(&self) -> u64 {
        self.every
    }

    /// Whether all could be written so far. Says so if not.
    pub(super) fn is_sound(&mut self) -> bool {
        if let Some(error) = self.writer.as_ref().and_then(|writer| writer.get_ref().error()) {
            self.check(Err(error));
        }
        self.writer.is_some()
    }

    /// Whether so much waits for the file that nothing should be added.
    pub(super) fn is_full(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.get_ref().is_full())
    }

    /// Writes what happened at time `at`, in ns.
    pub(super) fn write(&mut self, at: u64, event: Event) {
        let result = self.pass(at, STEP).and_then(|()| self.put(event));
        self.check(result);
    }

    /// Hands over to the file what was written, if it is time.
    pub(super) fn flush(&mut self, now: u64) {
        if now - self.flushed > MOST_UNWRITTEN {
            self.flushed = now;
            let result = self.writer.as_mut().map_or(Ok(()), Writer::flush);
            self.check(result);
        }
    }

    /// Ends the trace at time `at`. `leave` is asked whether to wait no longer for the file ([`Outlet::finish`]).
    pub(super) fn finish(mut self, at: u64, leave: &mut dyn FnMut(usize) -> bool) {
        let result = self.pass(at, 1).and_then(|()| match self.writer.take() {
            Some(writer) => writer.finish()?.finish(leave),
            None => Ok(()),
        });
        self.check(result);
    }

    /// Writes that time has passed, if that is `least` ns or more.
    fn pass(&mut self, at: u64, least: u64) -> io::Result<()> {
        let ns = at.saturating_sub(self.now);
        if ns < least {
            return Ok(());
        }
        self.now = at;
        self.put(Event::Time { ns })
    }

    fn put(&mut self, event: Event) -> io::Result<()> {
        match self.writer.as_mut().map_or(Ok(()), |writer| writer.write(event)) {
            // A process left an impossible note. The trace goes on without it.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    /// After the first error it says so, and nothing more is written.
    fn check(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.writer = None;
            // The program's status is its own, so this line is all that tells: also with -q.
            say(format_args!(
                "the trace can't be written to {}: {error}; it ends too early, and the program goes on unrecorded",
                self.path.display()
            ));
        }
    }
}
