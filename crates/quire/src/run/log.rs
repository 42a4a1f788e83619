//! The log of what the engine decides in each process, as text.

use super::outlet::Outlet;
use crate::failure::Failure;
use crate::files::say;
use quire_linux::control::note::Note;
use quire_linux::sys::clock::now_ns;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A log that is being written: a line for each decision, with seconds since the start and the process.
pub(crate) struct Log {
    /// None after an error.
    writer: Option<BufWriter<Outlet>>,
    path: PathBuf,
    start: u64,
}

impl Log {
    /// Opens the file, before the program runs.
    pub(crate) fn create(path: &Path) -> Result<Log, Failure> {
        let file = File::create(path).map_err(|error| {
            Failure::own(format!("no log can be written to {}: {error}; name another file", path.display()))
        })?;
        Ok(Log { writer: Some(BufWriter::new(Outlet::new(file))), path: path.to_owned(), start: now_ns() })
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

    /// Writes a note that the engine of process `pid` left at time `at`, in ns.
    pub(super) fn write(&mut self, at: u64, pid: u32, note: &Note) {
        let Some(writer) = &mut self.writer else { return };
        let seconds = at.saturating_sub(self.start) as f64 / 1e9;
        let result = match note {
            Note::Decided(decision) => writeln!(writer, "{seconds:11.6} {pid:7} {decision}"),
            Note::Lost(count) => writeln!(writer, "{seconds:11.6} {pid:7} lost      {count} decisions"),
            _ => Ok(()),
        };
        self.check(result);
    }

    /// Hands over to the file what was written so far.
    pub(super) fn flush(&mut self) {
        let result = self.writer.as_mut().map_or(Ok(()), BufWriter::flush);
        self.check(result);
    }

    /// Ends the log. `leave` is asked whether to wait no longer for the file ([`Outlet::finish`]).
    pub(super) fn finish(mut self, leave: &mut dyn FnMut(usize) -> bool) {
        self.flush();
        let result = self.writer.as_ref().map_or(Ok(()), |writer| writer.get_ref().finish(leave));
        self.check(result);
    }

    /// After the first error it says so, and nothing more is written.
    fn check(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.writer = None;
            say(format_args!("the log can't be written to {}: {error}; it ends here", self.path.display()));
        }
    }
}
