//! What the watchdogs of a process know, in shared memory: for whoever wants to know why it does not go on.
//!
//! The threads that watch each other write it, about once a second while nothing happens. Where both of them wait, it is as
//! old as it says.

use crate::sys::shared::shared_layout;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes kept of the name of a source file: its end.
pub const FILE_BYTES: usize = 32;

/// The shared memory.
#[derive(Debug)]
#[repr(C)]
pub struct Watched {
    looked_at_ns: AtomicU64,
    fault_since_ns: AtomicU64,
    handler_beats: AtomicU64,
    handler_ticks: AtomicU64,
    service_beats: AtomicU64,
    service_ticks: AtomicU64,
    service_busy: AtomicU64,
    aside: AtomicU64,
    disk_waiting: AtomicU64,
    disk_under_way: AtomicU64,
    calls: AtomicU64,
    held_line: AtomicU64,
    held_file: [AtomicU64; FILE_BYTES / 8],
}

shared_layout!(Watched {
    looked_at_ns,
    fault_since_ns,
    handler_beats,
    handler_ticks,
    service_beats,
    service_ticks,
    service_busy,
    aside,
    disk_waiting,
    disk_under_way,
    calls,
    held_line,
    held_file
});

/// The same as plain values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watchdogs {
    /// When somebody looked last, in ns of the monotonic clock; 0: never.
    pub looked_at_ns: u64,
    /// When the fault was read that the handler is at, in ns; 0: it is at none.
    pub fault_since_ns: u64,
    /// Rounds of the handler.
    pub handler_beats: u64,
    /// Seconds for which it has been silent though there was something to do.
    pub handler_ticks: u64,
    /// Rounds of the service thread.
    pub service_beats: u64,
    /// Seconds for which it has been silent in the middle of a round.
    pub service_ticks: u64,
    /// Whether it is in the middle of a round.
    pub service_busy: bool,
    /// Faults that wait for a fork to be over.
    pub aside: u64,
    /// Jobs that wait for a thread that waits for a disk.
    pub disk_waiting: u64,
    /// Reads and writes of files under way.
    pub disk_under_way: u64,
    /// Calls of the program's threads that wait for the service thread, or for its answer.
    pub calls: u64,
    /// Where in Quire the tables were taken that somebody holds: the file's name, its end, and the line.
    pub held_by: Option<([u8; FILE_BYTES], u32)>,
}

/// The end of a file's name, behind zeroes where it is short.
pub fn file_end(name: &str) -> [u8; FILE_BYTES] {
    let mut bytes = [0; FILE_BYTES];
    let end = &name.as_bytes()[name.len().saturating_sub(FILE_BYTES)..];
    bytes[FILE_BYTES - end.len()..].copy_from_slice(end);
    bytes
}

impl Watched {
    /// Shows what is known now.
    pub fn show(&self, now: &Watchdogs) {
        self.fault_since_ns.store(now.fault_since_ns, Relaxed);
        self.handler_beats.store(now.handler_beats, Relaxed);
        self.handler_ticks.store(now.handler_ticks, Relaxed);
        self.service_beats.store(now.service_beats, Relaxed);
        self.service_ticks.store(now.service_ticks, Relaxed);
        self.service_busy.store(u64::from(now.service_busy), Relaxed);
        self.aside.store(now.aside, Relaxed);
        self.disk_waiting.store(now.disk_waiting, Relaxed);
        self.disk_under_way.store(now.disk_under_way, Relaxed);
        self.calls.store(now.calls, Relaxed);
        let (file, line) = now.held_by.unwrap_or_default();
        for (word, bytes) in self.held_file.iter().zip(file.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Relaxed);
        }
        self.held_line.store(u64::from(line), Relaxed);
        self.looked_at_ns.store(now.looked_at_ns, Relaxed);
    }

    /// What was shown last. While it is being written it may be of two moments.
    pub fn read(&self) -> Watchdogs {
        let mut file = [0; FILE_BYTES];
        for (bytes, word) in file.as_chunks_mut().0.iter_mut().zip(&self.held_file) {
            *bytes = word.load(Relaxed).to_le_bytes();
        }
        let line = self.held_line.load(Relaxed) as u32;
        Watchdogs {
            looked_at_ns: self.looked_at_ns.load(Relaxed),
            fault_since_ns: self.fault_since_ns.load(Relaxed),
            handler_beats: self.handler_beats.load(Relaxed),
            handler_ticks: self.handler_ticks.load(Relaxed),
            service_beats: self.service_beats.load(Relaxed),
            service_ticks: self.service_ticks.load(Relaxed),
            service_busy: self.service_busy.load(Relaxed) != 0,
            aside: self.aside.load(Relaxed),
            disk_waiting: self.disk_waiting.load(Relaxed),
            disk_under_way: self.disk_under_way.load(Relaxed),
            calls: self.calls.load(Relaxed),
            held_by: (line != 0).then_some((file, line)),
        }
    }

    /// For the next process in the account.
    pub fn clear(&self) {
        self.show(&Watchdogs::default());
    }
}

/// Seconds between two moments in ns.
fn seconds(since: u64, until: u64) -> u64 {
    until.saturating_sub(since) / 1_000_000_000
}

impl Watchdogs {
    /// One line that says all of it, as seen at time `now`.
    pub fn line(&self, now: u64) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            if self.looked_at_ns == 0 {
                return f.write_str("nobody has looked yet");
            }
            write!(
                f,
                "looked {} s ago; handler: {} rounds",
                seconds(self.looked_at_ns, now),
                self.handler_beats
            )?;
            match self.fault_since_ns {
                0 => f.write_str(", no fault in hand")?,
                since => write!(f, ", at a fault for {} s", seconds(since, now))?,
            }
            write!(f, ", silent for {} s; service: {} rounds", self.handler_ticks, self.service_beats)?;
            f.write_str(if self.service_busy { ", busy" } else { ", at rest" })?;
            write!(f, ", silent for {} s; {} faults put aside", self.service_ticks, self.aside)?;
            write!(f, "; {} calls wait", self.calls)?;
            write!(f, "; disk: {} under way, {} wait", self.disk_under_way, self.disk_waiting)?;
            match self.held_by {
                None => f.write_str("; tables free"),
                Some((file, line)) => {
                    let begin = file.iter().position(|&byte| byte != 0).unwrap_or(FILE_BYTES);
                    write!(f, "; tables taken at {}:{line}", String::from_utf8_lossy(&file[begin..]))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn known() -> Watchdogs {
        Watchdogs {
            looked_at_ns: 5 * SECOND,
            fault_since_ns: 2 * SECOND,
            handler_beats: 11,
            handler_ticks: 3,
            service_beats: 12,
            service_ticks: 4,
            service_busy: true,
            aside: 13,
            disk_waiting: 14,
            disk_under_way: 15,
            calls: 16,
            held_by: Some((file_end("crates/linux/src/pager/handler.rs"), 77)),
        }
    }

    #[test]
    fn what_is_shown_is_read() {
        let watched = Watched {
            looked_at_ns: AtomicU64::new(0),
            fault_since_ns: AtomicU64::new(0),
            handler_beats: AtomicU64::new(0),
            handler_ticks: AtomicU64::new(0),
            service_beats: AtomicU64::new(0),
            service_ticks: AtomicU64::new(0),
            service_busy: AtomicU64::new(0),
            aside: AtomicU64::new(0),
            disk_waiting: AtomicU64::new(0),
            disk_under_way: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            held_line: AtomicU64::new(0),
            held_file: [const { AtomicU64::new(0) }; FILE_BYTES / 8],
        };
        assert_eq!(watched.read(), Watchdogs::default());
        watched.show(&known());
        assert_eq!(watched.read(), known());
        watched.clear();
        assert_eq!(watched.read(), Watchdogs::default());
    }

    #[test]
    fn the_line_says_all_of_it() {
        assert_eq!(
            known().line(9 * SECOND).to_string(),
            "looked 4 s ago; handler: 11 rounds, at a fault for 7 s, silent for 3 s; service: 12 rounds, busy, silent \
             for 4 s; 13 faults put aside; 16 calls wait; disk: 15 under way, 14 wait; tables taken at \
             rates/linux/src/pager/handler.rs:77"
        );
        let idle = Watchdogs { looked_at_ns: SECOND, ..Watchdogs::default() };
        assert_eq!(
            idle.line(SECOND).to_string(),
            "looked 0 s ago; handler: 0 rounds, no fault in hand, silent for 0 s; service: 0 rounds, at rest, silent for \
             0 s; 0 faults put aside; 0 calls wait; disk: 0 under way, 0 wait; tables free"
        );
        assert_eq!(Watchdogs::default().line(SECOND).to_string(), "nobody has looked yet");
    }

    #[test]
    fn a_short_name_stands_at_the_end() {
        assert_eq!(&file_end("a.rs")[FILE_BYTES - 5..], b"\0a.rs");
    }
}
