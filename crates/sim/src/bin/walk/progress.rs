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
    fn the_line_says_how_far_the_run_is_and_how_long_it_takes() {
        let progress = Progress {
            begun: Instant::now(),
            all: 48_000_000,
            known: 0,
            taken: AtomicU64::new(0),
            shown: false,
        };
        progress.note(1_000_000);
        progress.note(11_000_000);
        // 12 of 48 M in a minute: three minutes more.
        let bar = "#".repeat(7) + &".".repeat(23);
        assert_eq!(progress.line(60.0), format!("[{bar}] 12.0 of 48.0 M events  200 k/s  3 min left"));
        // What was known before took no time now.
        let again = Progress { known: 24_000_000, ..progress };
        let bar = "#".repeat(22) + &".".repeat(8);
        assert_eq!(again.line(60.0), format!("[{bar}] 36.0 of 48.0 M events  200 k/s  1 min left"));
    }

    #[test]
    fn a_run_is_known_in_shards() {
        let progress = Progress::new(4, 1);
        assert_eq!((progress.all, progress.known), (4 * SHARD_EVENTS, SHARD_EVENTS));
    }
}
