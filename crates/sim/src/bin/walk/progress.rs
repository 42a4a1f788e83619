//! How far a run is: one line on a terminal.

use quire_sim::walk::SHARD_EVENTS;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Characters of the bar.
const WIDTH: u64 = 30;

/// Events taken, of how many.
#[derive(Debug)]
pub(super) struct Progress {
    begun: Instant,
    all: u64,
    known: u64,
    taken: AtomicU64,
    shown: bool,
}

impl Progress {
    /// A run of so many shards, of which some are known already.
    pub(super) fn new(shards: u64, known: u64) -> Progress {
        Progress {
            begun: Instant::now(),
            all: shards * SHARD_EVENTS,
            known: known * SHARD_EVENTS,
            taken: AtomicU64::new(0),
            shown: io::stderr().is_terminal(),
        }
    }

    /// So many events more.
    pub(super) fn note(&self, events: u64) {
        self.taken.fetch_add(events, Ordering::Relaxed);
    }

    /// Draws the line, if somebody sees it.
    pub(super) fn draw(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r{}\x1b[K", self.line(self.begun.elapsed().as_secs_f64()));
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn line(&self, seconds: f64) -> String {
        let taken = self.taken.load(Ordering::Relaxed);
        let done = (self.known + taken).min(self.all);
        let full = (done * WIDTH / self.all.max(1)) as usize;
        let bar = "#".repeat(full) + &".".repeat(WIDTH as usize - full);
        let rate = taken as f64 / seconds.max(0.001);
        let left = (self.all - done) as f64 / rate.max(1.0) / 60.0;
        let (done, all) = (done as f64 / 1e6, self.all as f64 / 1e6);
        format!("[{bar}] {done:.1} of {all:.1} M events  {:.0} k/s  {left:.0} min left", rate / 1000.0)
    }

    /// What it came to.
    pub(super) fn summary(&self, events: u64) -> String {
        let (seconds, taken) = (self.begun.elapsed().as_secs_f64(), self.taken.load(Ordering::Relaxed));
        let rate = taken as f64 / seconds.max(0.001) / 1000.0;
        format!("{events} events, {taken} of them now, in {seconds:.1} s: {rate:.0} thousand a second\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_the_run_is() {
        let progress = Progress::new(4, 1);
        progress.note(SHARD_EVENTS);
        let line = progress.line(10.0);
        assert!(line.starts_with(&format!("[{}{}] ", "#".repeat(15), ".".repeat(15))), "{line}");
    }
}
