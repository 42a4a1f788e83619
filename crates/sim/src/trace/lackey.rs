//! The text of Valgrind's lackey as events.
//!
//! `valgrind --tool=lackey --trace-mem=yes --log-file=FILE PROGRAM` writes a line for each instruction and each access:
//!
//! ```text
//! I  0401ab70,3        an instruction at this address, of so many bytes
//!  S 1fff000778,8      a store
//!  L 0402e1a8,8        a load
//!  M 0402e1b0,4        a load and a store of the same bytes
//! ```
//!
//! It has no calls (nothing is mapped or unmapped), no threads apart, and no end mark: a file that was cut off
//! looks like one that ended.

use super::error::Error;
use super::input::Input;
use super::{Access, Event, SPACE_PAGES};
use core::fmt;
use quire_core::{PAGE_SIZE, Space, Vpn};
use std::collections::VecDeque;
use std::io::Read;

/// The longest line that is looked at. Those of accesses have at most 25 bytes.
const LINE: usize = 40;

/// What becomes of the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LackeyOptions {
    /// The address space of the program.
    pub space: Space,
    /// Whether instructions read their page. They do so through a TLB of their own, and from a file; so by default
    /// they do not.
    pub instructions: bool,
    /// Lackey knows no time; each instruction counts as a nanosecond. This many of them pass before an
    /// [`Event::Time`] says so; 0 for no such events.
    pub tick_ns: u64,
}

impl Default for LackeyOptions {
    fn default() -> LackeyOptions {
        LackeyOptions { space: Space(0), instructions: false, tick_ns: 100_000 }
    }
}

/// How many lines of each kind there were.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LackeyCounts {
    /// Instructions.
    pub instructions: u64,
    /// Loads.
    pub loads: u64,
    /// Stores.
    pub stores: u64,
    /// Loads with a store to the same place.
    pub modifies: u64,
    /// All others: what lackey says beside the trace, what the program printed, and lines that are damaged.
    pub ignored: u64,
}

/// The events of a text of lackey, at the granularity of pages: accesses to one page with none to another in between
/// are one event. Its only error is that of the input, and comes last.
///
/// Takes 64 KiB whatever comes, and panics at nothing.
pub struct Lackey<R> {
    input: Input<R>,
    options: LackeyOptions,
    counts: LackeyCounts,
    /// Accesses that may go on.
    run: Option<Access>,
    /// Instructions of which no event has told yet.
    untold: u64,
    /// Events that are complete. A line completes three at most: two runs, and the time that has passed.
    ready: VecDeque<Event>,
    over: bool,
    /// Comes after all that was read before it.
    failed: Option<Error>,
}

/// A line of the trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line {
    kind: Kind,
    addr: u64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Instruction,
    Load,
    Store,
    Modify,
}

impl<R: Read> Lackey<R> {
    /// Reads text from `from`, which need not be buffered.
    pub fn new(from: R, options: LackeyOptions) -> Lackey<R> {
        Lackey {
            input: Input::new(from),
            options,
            counts: LackeyCounts::default(),
            run: None,
            untold: 0,
            ready: VecDeque::with_capacity(4),
            over: false,
            failed: None,
        }
    }

    /// The lines read so far.
    pub fn counts(&self) -> &LackeyCounts {
        &self.counts
    }

    /// Reads one line. Whether there was one.
    fn line(&mut self) -> Result<bool, Error> {
        let mut line = [0; LINE];
        let mut length = 0;
        let mut any = false;
        while let Some(byte) = self.input.byte()? {
            any = true;
            if byte == b'\n' {
                break;
            }
            if let Some(place) = line.get_mut(length) {
                *place = byte;
            }
            length = length.saturating_add(1);
        }
        match line.get(..length).and_then(parse) {
            Some(line) => self.take(line),
            None => self.counts.ignored += u64::from(any),
        }
        Ok(any)
    }

    fn take(&mut self, line: Line) {
        match line.kind {
            Kind::Instruction => {
                self.counts.instructions += 1;
                self.untold += 1;
            }
            Kind::Load => self.counts.loads += 1,
            Kind::Store => self.counts.stores += 1,
            Kind::Modify => self.counts.modifies += 1,
        }
        if line.kind == Kind::Instruction && !self.options.instructions {
            return;
        }
        let write = matches!(line.kind, Kind::Store | Kind::Modify);
        let (first, last) = (Vpn::of(line.addr), Vpn::of(line.addr + line.bytes - 1));
        self.access(first, write);
        if last != first {
            self.access(last, write);
        }
    }

    /// An access, which goes on with the run or ends it.
    fn access(&mut self, vpn: Vpn, write: bool) {
        if let Some(run) = self.run.as_mut().filter(|r| r.vpn == vpn && r.times < u32::MAX) {
            run.times += 1;
            run.write |= write;
            return;
        }
        self.end_run();
        if self.options.tick_ns > 0 && self.untold >= self.options.tick_ns {
            self.tell_time();
        }
        self.run = Some(Access { space: self.options.space, vpn, write, times: 1 });
    }

    fn end_run(&mut self) {
        self.ready.extend(self.run.take().map(Event::Access));
    }

    fn tell_time(&mut self) {
        self.ready.push_back(Event::Time { ns: self.untold });
        self.untold = 0;
    }

    /// The text is over: what waited is complete.
    fn end(&mut self) {
        self.over = true;
        self.end_run();
        if self.options.tick_ns > 0 && self.untold > 0 {
            self.tell_time();
        }
    }
}

impl<R: Read> Iterator for Lackey<R> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Result<Event, Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.over {
                return self.failed.take().map(Err);
            }
            match self.line() {
                Ok(true) => {}
                Ok(false) => self.end(),
                Err(error) => {
                    self.failed = Some(error);
                    self.end();
                }
            }
        }
    }
}

/// Whether a text that begins with `head` is one of lackey: whether a line of it is an access or an instruction.
pub fn is_lackey(head: &[u8]) -> bool {
    head.split(|&byte| byte == b'\n').any(|line| parse(line).is_some())
}

/// The line of an access or an instruction, if it is exactly one. An access has at most a page of bytes, so that it
/// touches two pages at most.
fn parse(line: &[u8]) -> Option<Line> {
    let (kind, rest) = match line {
        [b'I', b' ', b' ', rest @ ..] => (Kind::Instruction, rest),
        [b' ', b'L', b' ', rest @ ..] => (Kind::Load, rest),
        [b' ', b'S', b' ', rest @ ..] => (Kind::Store, rest),
        [b' ', b'M', b' ', rest @ ..] => (Kind::Modify, rest),
        _ => return None,
    };
    let comma = rest.iter().position(|&b| b == b',')?;
    let addr = number(&rest[..comma], 16)?;
    let bytes = number(&rest[comma + 1..], 10)?;
    let last = addr.checked_add(bytes.checked_sub(1)?)?;
    let fits = bytes <= PAGE_SIZE as u64 && Vpn::of(last).0 < SPACE_PAGES;
    fits.then_some(Line { kind, addr, bytes })
}

/// The number that `digits` say, all of them and at least one.
fn number(digits: &[u8], base: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &digit| {
        let digit = char::from(digit).to_digit(base)?;
        number.checked_mul(u64::from(base))?.checked_add(u64::from(digit))
    })
}

impl<R> fmt::Debug for Lackey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lackey").field("counts", &self.counts).field("run", &self.run).finish_non_exhaustive()
    }
}
