//! Writing a trace.

use super::format::{
    Crc, HEADER, MAGIC, MORE, NEAR_BITS, NEAR_SHIFT, OTHER, PAGE_SHIFT, Places, TIMES, VERB, VERSION, WRITE,
    distance, verb,
};
use super::{Access, Event};
use core::fmt;
use quire_core::mmu::Prot;
use quire_core::{PageRange, Space};
use std::io::{self, Write};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 64 << 10;
/// More than any event takes, with the record that changes the space.
const LONGEST: usize = 64;

/// Writes events as a trace. It is complete only after [`Writer::finish`]; one that was dropped before is told by the
/// reader as cut off.
pub struct Writer<W> {
    to: W,
    buffer: Vec<u8>,
    crc: Crc,
    events: u64,
    /// What the next record is relative to.
    space: Space,
    places: Places,
}

impl<W: Write> Writer<W> {
    /// Begins a trace. Few, large writes go to `to`.
    pub fn new(to: W) -> Writer<W> {
        let mut buffer = Vec::with_capacity(BUFFER);
        buffer.extend(MAGIC);
        buffer.extend(VERSION.to_le_bytes());
        buffer.extend([PAGE_SHIFT, 0]);
        debug_assert_eq!(buffer.len(), HEADER);
        Writer { to, buffer, crc: Crc::new(), events: 0, space: Space(0), places: Places::default() }
    }

    /// Adds an event. One that is not valid ([`Event::is_valid`]) is refused as [`io::ErrorKind::InvalidInput`], and
    /// the trace goes on without it. After any other error the trace is lost.
    pub fn write(&mut self, event: Event) -> io::Result<()> {
        if !event.is_valid() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an event that can't happen"));
        }
        if self.buffer.len() > BUFFER - LONGEST {
            self.drain()?;
        }
        match event {
            Event::Access(access) => self.access(access),
            Event::Map { range, prot } => self.range(verb::MAP, range, Some(prot)),
            Event::Unmap(range) => self.range(verb::UNMAP, range, None),
            Event::Discard(range) => self.range(verb::DISCARD, range, None),
            Event::Protect { range, prot } => self.range(verb::PROTECT, range, Some(prot)),
            Event::Fork { parent, child } => {
                self.enter(parent);
                self.record(verb::FORK, &[u64::from(child.0)]);
            }
            Event::Exit(space) => {
                self.enter(space);
                self.record(verb::EXIT, &[]);
            }
            Event::Time { ns } => self.record(verb::TIME, &[ns]),
        }
        self.events += 1;
        Ok(())
    }

    /// Writes what waits, so that a trace whose writer is killed has it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.to.flush()
    }

    /// Events written so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What is written to.
    pub fn get_ref(&self) -> &W {
        &self.to
    }

    /// Writes the end mark and all that waits, flushes, and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.record(verb::END, &[self.events]);
        self.drain()?;
        self.to.write_all(&self.crc.sum().to_le_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn access(&mut self, access: Access) {
        self.enter(access.space);
        let [from_last, from_other] =
            [self.places.last, self.places.other].map(|from| distance(from, access.vpn));
        // From the other page only where that is shorter. Both choices are read alike.
        let other = bytes_behind_first(from_other) < bytes_behind_first(from_last);
        self.places.go(other, access.vpn);
        let distance = if other { from_other } else { from_last };
        let near = (distance & ((1 << NEAR_BITS) - 1)) as u8;
        let far = distance >> NEAR_BITS;
        let mut first = near << NEAR_SHIFT;
        first |= if other { OTHER } else { 0 };
        first |= if access.write { WRITE } else { 0 };
        first |= if access.times > 1 { TIMES } else { 0 };
        first |= if far > 0 { MORE } else { 0 };
        self.buffer.push(first);
        if far > 0 {
            self.number(far);
        }
        if access.times > 1 {
            self.number(u64::from(access.times) - 2);
        }
    }

    fn range(&mut self, verb: u8, range: PageRange, prot: Option<Prot>) {
        self.enter(range.space);
        let distance = distance(self.places.last, range.start);
        self.places.go(false, range.start);
        self.record(verb, &[distance, range.pages]);
        if let Some(prot) = prot {
            self.number(u64::from(prot.bits()));
        }
    }

    /// Makes the next records be of `space`.
    fn enter(&mut self, space: Space) {
        if self.space != space {
            self.space = space;
            self.record(verb::SPACE, &[u64::from(space.0)]);
        }
    }

    fn record(&mut self, verb: u8, numbers: &[u64]) {
        self.buffer.push(verb << 1 | VERB);
        numbers.iter().for_each(|&n| self.number(n));
    }

    fn number(&mut self, mut number: u64) {
        while number >= u64::from(MORE) {
            self.buffer.push(number as u8 | MORE);
            number >>= 7;
        }
        self.buffer.push(number as u8);
    }

    fn drain(&mut self) -> io::Result<()> {
        self.crc.add(&self.buffer);
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Bytes that an access's distance takes behind its first one.
fn bytes_behind_first(distance: u64) -> u32 {
    (distance >> NEAR_BITS).checked_ilog2().map_or(0, |bits| bits / 7 + 1)
}

impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer after {} events", self.events)
    }
}
