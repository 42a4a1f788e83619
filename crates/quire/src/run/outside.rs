//! Programs of the tree that run outside the budget: told by themselves, by who starts them, or found in the samples.
//!
//! The first of each cause is told to the user, with what mends it; all are counted.

use super::over::Managed;
use super::sample::{self, Sample};
use crate::files::say;
use quire_linux::control::notice::{Look, Notices, Reader};
use quire_linux::control::outside::Outside;
use quire_linux::image;
use quire_linux::pager::sleep::JOINS_AT;
use quire_linux::sys::child::same_memory;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How old an unconnected process must be to count where nothing says why it does not connect: a new one has yet to join.
const JOIN_TIME: Duration = Duration::from_millis(500);
/// How long a sleeper may be large before it has joined.
const LARGE_TIME: Duration = Duration::from_millis(100);
/// How soon the id of a process that has ended is not given to another.
const REUSED: Duration = Duration::from_secs(2);
/// What the library's file is called, as far as it tells.
const LIBRARY: &str = "libquire_preload";

/// A process, by its id and by when it started.
type Process = (u32, u64);

/// The programs that were found so far.
#[derive(Debug)]
pub(super) struct Outsiders {
    quiet: bool,
    counts: BTreeMap<Outside, u64>,
    said: BTreeSet<Outside>,
    reader: Reader,
    /// Processes that are counted already.
    counted: BTreeSet<Process>,
    /// When one with this id was counted last.
    recent: BTreeMap<u32, Instant>,
    /// Processes with the library in them need not join: they may sleep.
    sleeps: bool,
    /// Those with the library, as far as is known, with their programs.
    with_library: BTreeMap<Process, PathBuf>,
    /// Sleepers that are large and have not joined, with the moment when they were first seen so.
    large: BTreeMap<Process, Instant>,
    /// Unconnected processes that are not, with the moment when they were first seen.
    strangers: BTreeMap<Process, Instant>,
}

impl Outsiders {
    pub(super) fn new(quiet: bool, sleeps: bool) -> Outsiders {
        Outsiders {
            quiet,
            sleeps,
            with_library: BTreeMap::new(),
            counts: BTreeMap::new(),
            said: BTreeSet::new(),
            reader: Reader::default(),
            counted: BTreeSet::new(),
            recent: BTreeMap::new(),
            large: BTreeMap::new(),
            strangers: BTreeMap::new(),
        }
    }

    /// How many there were, by cause.
    pub(super) fn counts(&self) -> &BTreeMap<Outside, u64> {
        &self.counts
    }

    /// The program itself runs outside, as was said before it was started.
    pub(super) fn know(&mut self, pid: u32, cause: Outside) {
        self.said.insert(cause);
        self.count(pid, cause, "");
    }

    /// A process tells that it runs outside, as the program `name`.
    pub(super) fn hear(&mut self, pid: u32, cause: Outside, name: &str) {
        self.count(pid, cause, name);
    }

    /// Reads what processes left behind that call exec.
    pub(super) fn read(&mut self, notices: &Notices) {
        while let Some(look) = notices.look(&mut self.reader) {
            match look {
                Look::Found(notice) => {
                    self.count(notice.pid, notice.cause, &String::from_utf8_lossy(notice.name()));
                }
                Look::Lost(count) => *self.counts.entry(Outside::NotJoined).or_default() += count,
            }
        }
    }

    /// Looks for processes that do not connect.
    pub(super) fn look(&mut self, sample: &Sample, connected: &[u32], now: Instant) {
        let mut still = BTreeMap::new();
        for member in sample.members.iter().filter(|member| !connected.contains(&member.pid)) {
            let process = (member.pid, member.started);
            if self.counted.contains(&process) || self.sleeps && self.has_library(process) {
                continue;
            }
            let since = *self.strangers.get(&process).unwrap_or(&now);
            match cause_of(member.pid, now - since >= JOIN_TIME, connected) {
                Some(cause) => self.count(member.pid, cause, ""),
                None => {
                    still.insert(process, since);
                }
            }
        }
        self.strangers = still;
    }

    /// Who sleeps and has not joined. What stays large there did not come by the calls that the library sees, and can't be managed.
    /// The copies of others are not among them.
    pub(super) fn sleepers(&mut self, sample: &Sample, connected: &[u32], now: Instant) -> Vec<Managed> {
        let mut found = Vec::new();
        let before = std::mem::take(&mut self.large);
        for member in sample.members.iter().filter(|member| !connected.contains(&member.pid)) {
            let process = (member.pid, member.started);
            let is_told = !self.sleeps || self.counted.contains(&process) || member.copies_one_of(sample);
            if !is_told && self.has_library(process) {
                let mut bytes = member.anonymous;
                if bytes > JOINS_AT as u64 {
                    let since = before.get(&process).copied().unwrap_or(now);
                    self.large.insert(process, since);
                    if now.duration_since(since) >= LARGE_TIME {
                        bytes = JOINS_AT as u64;
                    }
                }
                found.push(Managed { pid: member.pid, forked: false, bytes });
            }
        }
        found
    }

    /// Whether an unconnected process may connect yet: it sleeps, or nothing says why it does not, and it is not overdue.
    pub(super) fn may_join(&mut self, process: Process, overdue: bool, connected: &[u32]) -> bool {
        !self.counted.contains(&process)
            && (self.sleeps && self.has_library(process) || cause_of(process.0, overdue, connected).is_none())
    }

    /// Whether a process has the library in it. It is looked at again when it runs another program.
    pub(super) fn has_library(&mut self, process: Process) -> bool {
        let (pid, _) = process;
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if self.with_library.get(&process) == Some(&program) {
            return true;
        }
        let has_library =
            fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains(LIBRARY));
        if has_library {
            self.with_library.insert(process, program);
        }
        has_library
    }

    /// Counts a process, once, and tells of the first of each cause.
    fn count(&mut self, pid: u32, cause: Outside, name: &str) {
        if cause.is_told_only() {
            return self.tell(pid, cause, name);
        }
        if self.is_counted(pid, Instant::now()) {
            return;
        }
        *self.counts.entry(cause).or_default() += 1;
        self.tell(pid, cause, name);
    }

    /// Whether a process was counted already; it is now. One that has ended is told by its id, as long as that is not given to
    /// another.
    fn is_counted(&mut self, pid: u32, now: Instant) -> bool {
        let last = self.recent.insert(pid, now);
        match sample::started(pid) {
            Some(started) => !self.counted.insert((pid, started)),
            None => last.is_some_and(|last| now - last < REUSED),
        }
    }

    fn tell(&mut self, pid: u32, cause: Outside, name: &str) {
        // Who has the library in it and can't reach us has said so itself.
        let speaks = !matches!(cause, Outside::Excluded | Outside::NotJoined);
        if speaks && self.said.insert(cause) && !self.quiet {
            say(format_args!("warning: {}", line(pid, cause, name)));
        }
    }
}

/// The line about a process.
fn line(pid: u32, cause: Outside, name: &str) -> String {
    let base = name.rsplit('/').next().unwrap_or_default();
    let name = if base.is_empty() { sample::name(pid) } else { base.into() };
    let what = if cause.is_told_only() { "" } else { " runs outside the budget" };
    format!("{name} (process {pid}){what}: {}; {}", cause.cause(), cause.mend())
}

/// Why a process that is not connected runs outside; `None`: perhaps it does not.
fn cause_of(pid: u32, overdue: bool, connected: &[u32]) -> Option<Outside> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return overdue.then_some(Outside::NotJoined);
    };
    if maps.contains(LIBRARY) {
        // It is joining; or it lives in the memory of one that has, as after vfork.
        let borrows = || connected.iter().any(|other| same_memory(pid, *other) == Some(true));
        return (overdue && !borrows()).then_some(Outside::NotJoined);
    }
    if let Some(cause) = cause_by_file(pid) {
        return Some(cause);
    }
    // A loader maps what is preloaded before libc.
    let is_loaded = maps.contains("/libc.so.") || maps.contains("/libc-");
    (overdue || is_loaded).then(|| if names_us(pid) { Outside::NotLoaded } else { Outside::NoPreload })
}

fn cause_by_file(pid: u32) -> Option<Outside> {
    let exe = format!("/proc/{pid}/exe");
    let program = fs::read_link(&exe).ok()?;
    // It may have another name, or none, but is the same file there.
    let is_loader = image::is_loader(program.as_os_str().as_bytes());
    image::outside(&CString::new(exe).ok()?).filter(|cause| !(is_loader && *cause == Outside::Static))
}

/// Whether the environment that a process was started with brings the library into it.
fn names_us(pid: u32) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| {
        entry.starts_with(b"LD_PRELOAD=")
            && entry.windows(LIBRARY.len()).any(|part| part == LIBRARY.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_without_the_library_is_found_with_its_cause() {
        let mut child = Command::new("sleep").arg("20").stdin(Stdio::null()).spawn().unwrap();
        let mut outsiders = Outsiders::new(true, false);
        let start = Instant::now();
        while outsiders.counts().is_empty() && start.elapsed() < Duration::from_secs(10) {
            outsiders.look(&sample::sample([child.id()]), &[], start);
            std::thread::sleep(Duration::from_millis(10));
        }
        // Once is enough, whoever tells of it.
        outsiders.hear(child.id(), Outside::Excluded, "sleep");
        outsiders.look(&sample::sample([child.id()]), &[], start + JOIN_TIME);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(outsiders.counts(), &BTreeMap::from([(Outside::NoPreload, 1)]));
    }

    /// A program that sleeps, with something to preload that is not there.
    fn sleeper(preload: &str) -> std::process::Child {
        let mut command = Command::new("sleep");
        command.arg("20").env("LD_PRELOAD", preload).stdin(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// The only cause that a look at a process finds; it is looked at until it sleeps.
    fn cause_of_overdue(child: &mut std::process::Child) -> Option<Outside> {
        let start = Instant::now();
        // Its environment shows a moment after its name.
        let is_there = |pid: u32| {
            sample::name(pid) == "sleep"
                && fs::read(format!("/proc/{pid}/environ")).is_ok_and(|all| !all.is_empty())
        };
        while !is_there(child.id()) && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let cause = cause_of(child.id(), true, &[]);
        child.kill().unwrap();
        child.wait().unwrap();
        cause
    }

    #[test]
    fn a_library_that_was_not_loaded_is_not_one_that_nobody_named() {
        let mut named = sleeper("/nowhere/libquire_preload.so");
        assert_eq!(cause_of_overdue(&mut named), Some(Outside::NotLoaded));
        let mut other = sleeper("/nowhere/libother.so");
        assert_eq!(cause_of_overdue(&mut other), Some(Outside::NoPreload));
    }

    #[test]
    fn who_has_gone_or_is_new_is_counted_only_in_the_end() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(cause_of(pid, false, &[]), None);
        assert_eq!(cause_of(pid, true, &[]), Some(Outside::NotJoined));
    }

    #[test]
    fn the_id_of_a_process_that_has_gone_is_its_own_for_a_while() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let (mut outsiders, now) = (Outsiders::new(true, false), Instant::now());
        assert!(!outsiders.is_counted(pid, now));
        let last = now + REUSED - Duration::from_millis(1);
        assert!(outsiders.is_counted(pid, last));
        assert!(!outsiders.is_counted(pid, last + REUSED));
    }

    #[test]
    fn a_connected_process_is_none() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let look = |connected: &[u32]| {
            let mut outsiders = Outsiders::new(true, false);
            let (sample, now) = (sample::sample([child.id()]), Instant::now());
            outsiders.look(&sample, connected, now);
            outsiders.look(&sample, connected, now + REUSED);
            outsiders.counts().is_empty()
        };
        let (connected, not) = (look(&[child.id()]), look(&[]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(connected && !not);
    }

    #[test]
    fn a_line_names_program_cause_and_mend() {
        let line = line(12, Outside::Static, "/bin/busybox");
        assert!(line.starts_with("busybox (process 12) runs outside the budget: it is static"), "{line}");
        assert!(line.ends_with("leave memory for it beside -m"), "{line}");
    }
}
