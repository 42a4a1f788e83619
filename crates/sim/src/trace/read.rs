//! Reading a trace.

use super::error::{Error, ErrorKind};
use super::format::{
    HEADER, MAGIC, MORE, NEAR_BITS, NEAR_SHIFT, OTHER, PAGE_SHIFT, Places, TIMES, VERB, VERSION, WRITE,
    unzigzag, verb,
};
use super::input::Input;
use super::{Access, Event, SPACE_PAGES};
use quire_core::mmu::Prot;
use quire_core::{PageRange, Space, Vpn};
use std::io::Read;

/// Whether a file that begins with `head` is a trace, of whatever version.
pub fn is_trace(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// The events of a trace, in their order. After the first error there are no more.
///
/// Takes 64 KiB whatever comes, and panics at nothing. The checksum is at the end: who must not act on a damaged trace
/// reads it to its end first.
#[derive(Debug)]
pub struct Reader<R> {
    input: Input<R>,
    events: u64,
    /// What the next record is relative to.
    space: Space,
    places: Places,
    over: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `from` need not be buffered.
    pub fn new(from: R) -> Result<Reader<R>, Error> {
        let mut reader = Reader {
            input: Input::new(from),
            events: 0,
            space: Space(0),
            places: Places::default(),
            over: false,
        };
        reader.header()?;
        Ok(reader)
    }

    /// Events read so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    fn header(&mut self) -> Result<(), Error> {
        for expected in MAGIC {
            if self.input.byte()? != Some(expected) {
                return Err(self.error(ErrorKind::NoTrace));
            }
        }
        let mut rest = [0; HEADER - MAGIC.len()];
        for byte in &mut rest {
            *byte = self.byte()?;
        }
        match rest {
            [low, high, ..] if u16::from_le_bytes([low, high]) != VERSION => {
                Err(self.error(ErrorKind::Version(u16::from_le_bytes([low, high]))))
            }
            [_, _, shift, _] if shift != PAGE_SHIFT => Err(self.error(ErrorKind::PageShift(shift))),
            [_, _, _, 0] => Ok(()),
            [_, _, _, reserved] => Err(self.error(ErrorKind::Reserved(reserved))),
        }
    }

    /// The next event; `None` after the end mark.
    fn event(&mut self) -> Result<Option<Event>, Error> {
        let event = loop {
            let first = self.byte()?;
            if first & VERB == 0 {
                break Event::Access(self.access(first)?);
            }
            match first >> 1 {
                verb::SPACE => self.space = self.other_space()?,
                verb::END => return self.end().map(|()| None),
                verb => break self.record(verb, first)?,
            }
        };
        if !event.is_valid() {
            return Err(self.error(ErrorKind::Event));
        }
        self.events += 1;
        Ok(Some(event))
    }

    fn access(&mut self, first: u8) -> Result<Access, Error> {
        let near = u64::from(first >> NEAR_SHIFT) & ((1 << NEAR_BITS) - 1);
        let far = if first & MORE == 0 {
            0
        } else {
            match self.number(SPACE_PAGES)? {
                0 => return Err(self.error(ErrorKind::Number)),
                far => far,
            }
        };
        let vpn = self.page(first & OTHER != 0, far << NEAR_BITS | near)?;
        let write = first & WRITE != 0;
        let times = if first & TIMES == 0 { 1 } else { self.number(u64::from(u32::MAX) - 2)? as u32 + 2 };
        Ok(Access { space: self.space, vpn, write, times })
    }

    /// A record other than an access, which is an event.
    fn record(&mut self, verb: u8, first: u8) -> Result<Event, Error> {
        Ok(match verb {
            verb::MAP => Event::Map { range: self.range()?, prot: self.prot()? },
            verb::UNMAP => Event::Unmap(self.range()?),
            verb::DISCARD => Event::Discard(self.range()?),
            verb::PROTECT => Event::Protect { range: self.range()?, prot: self.prot()? },
            verb::FORK => Event::Fork { parent: self.space, child: self.other_space()? },
            verb::EXIT => Event::Exit(self.space),
            verb::TIME => Event::Time { ns: self.number(u64::MAX)? },
            _ => return Err(self.error(ErrorKind::Unknown(first))),
        })
    }

    /// What comes after the end mark.
    fn end(&mut self) -> Result<(), Error> {
        let said = self.number(u64::MAX)?;
        if said != self.events {
            return Err(self.error(ErrorKind::Count { said, read: self.events }));
        }
        let sum = self.input.sum();
        let mut stored = [0; 4];
        for byte in &mut stored {
            *byte = self.byte()?;
        }
        if u32::from_le_bytes(stored) != sum {
            return Err(self.error(ErrorKind::Checksum));
        }
        match self.input.byte()? {
            Some(_) => Err(self.error(ErrorKind::Trailing)),
            None => Ok(()),
        }
    }

    fn range(&mut self) -> Result<PageRange, Error> {
        let distance = self.number(u64::MAX)?;
        let start = self.page(false, distance)?;
        Ok(PageRange::new(self.space, start, self.number(SPACE_PAGES)?))
    }

    /// The page at this distance from the last or the other page. It is the last one then.
    fn page(&mut self, from_other: bool, distance: u64) -> Result<Vpn, Error> {
        let from = if from_other { self.places.other } else { self.places.last };
        let page = from.0.checked_add_signed(unzigzag(distance)).filter(|&page| page < SPACE_PAGES);
        let vpn = Vpn(page.ok_or_else(|| self.error(ErrorKind::Event))?);
        self.places.go(from_other, vpn);
        Ok(vpn)
    }

    fn other_space(&mut self) -> Result<Space, Error> {
        Ok(Space(self.number(u64::from(u16::MAX))? as u16))
    }

    fn prot(&mut self) -> Result<Prot, Error> {
        Ok(Prot::from_bits(self.number(7)? as u32))
    }

    /// A number of at most `most`, in as few bytes as it has.
    #[inline]
    fn number(&mut self, most: u64) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & !MORE);
            // The tenth byte has one bit of a number; a last byte of 0 adds nothing to what was before it.
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            number |= bits << shift;
            if byte & MORE == 0 {
                return if number <= most { Ok(number) } else { Err(self.error(ErrorKind::Number)) };
            }
        }
        Err(self.error(ErrorKind::Number))
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        self.input.byte()?.ok_or_else(|| self.error(ErrorKind::Truncated))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error { at: self.input.at(), kind }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Result<Event, Error>> {
        if self.over {
            return None;
        }
        let event = self.event().transpose();
        self.over = !matches!(event, Some(Ok(_)));
        event
    }
}

impl<R: Read> core::iter::FusedIterator for Reader<R> {}
